"""Measure seconds per epoch at the paper's size, alone and packed on one GPU, and whole tables.

    python benchmarks/bench_gpu.py [--quick] [--parts epochs,table3,table2] [--minutes M]
        [--models cnn,lstm] [--packs 1,2,4,8,16] [--workers 8] [--table-epochs 30]

Needs no TensorFlow: without it, JAX computes (or what KERAS_BACKEND names). Trials run by ecsweep's
own local executor and workers, each with its share of the card's memory; there is no driver, so
neither Optuna nor MLflow is imported. Data are random residues and labels of the paper's shapes,
which times do not depend on; accuracies mean nothing.

epochs   Each model at batch 32 and length 1,000, in as many workers as a pack says. Some of an
         epoch's steps are timed and scaled to all: 777 of dataset 1, 9,922 of dataset 2. Packed,
         the seconds are those of one process over the number of processes: what an epoch costs.
table3, table2   All cells of the paper's table on dataset 1 in full, validation and test included,
         without early stopping: an upper bound.

What has no time left after --minutes is left out and said so. Prints Markdown.
"""

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if not importlib.util.find_spec("tensorflow"):
    os.environ.setdefault("KERAS_BACKEND", "jax")

import libraries
import synthetic

from ec_sweep import local_executor, machine, published, spec
from ec_sweep.attempts import Event, Result, Task
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS
from ec_sweep.sharing import Layout

PAPER_SIZES = {"train": 24_839, "valid": 8_578, "test": 8_578}
"""Sequences of dataset 1."""
PAPER_STEPS = {"enzyme": 777, "ec37": 9_922}
"""Of an epoch at batch 32."""
PAPER_TABLES = {"enzyme": (5, 7), "ec37": (6, 7)}
"""Tables that print seconds per epoch, of each dataset."""
CLASSES = 2
NETWORKS = [name for name, model in MODELS.items() if model.is_network]
SWEEPS = {"table3": "cnn-filters", "table2": "rnn-units"}
EPOCHS = 4
"""Of each trial of the part ``epochs``; the first one compiles and is not counted."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured."""

    length: int
    filters: int
    units: int
    hidden: tuple[int, ...]
    steps: dict[bool, int]
    """Of a timed epoch, by whether the model is recurrent."""
    table: dict[str, int]
    """Sequences that the tables' cells use."""
    limit: float
    """Seconds after which a trial of the part ``epochs`` is cut; its epochs until then count."""


FULL = Size(1000, 128, 50, (512, 512), {False: 777, True: 60}, PAPER_SIZES, 150)
QUICK = Size(24, 8, 4, (8, 8), {False: 4, True: 4}, dict.fromkeys(PAPER_SIZES, 64), 60)


class Pool:
    """Some of ecsweep's own workers on the card, and what they say of their trials."""

    def __init__(self, slots: int, root: Path) -> None:
        # What one worker has compiled, all others and later pools find.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
        logs = root / f"logs-{slots}"
        logs.mkdir(parents=True, exist_ok=True)
        threads, gpus = max(1, machine.usable_cores() // slots), tuple(machine.visible_gpus()[:1])
        frame = Layout(slots, threads, gpus, on_card=slots, fixed=True)
        self._executor = local_executor.LocalExecutor(frame, logs, "bench-gpu")
        self._executor.start()

    def run(self, tasks: list[Task], until: float) -> tuple[dict[str, list[Event]], list[Result]]:
        """Run tasks, the next one as a worker is free; returns events by run, and results.

        Stops at ``until``, by `time.monotonic`: what ran then is told of as interrupted.
        """
        waiting, running = list(tasks), set[str]()
        events: dict[str, list[Event]] = {task.run_id: [] for task in tasks}
        results: list[Result] = []
        while waiting or running:
            if time.monotonic() > until:
                waiting, until = [], math.inf
                self._executor.stop()
            while waiting and len(running) < self._executor.slots:
                task = waiting.pop(0)
                self._executor.submit(task)
                running.add(task.run_id)
            for run_id, content in self._executor.poll(1.0):
                if isinstance(content, Result):
                    running.discard(run_id)
                    results.append(content)
                elif content.epoch:
                    events[run_id].append(content)
        return events, results

    def close(self) -> None:
        """End the workers."""
        self._executor.close()


def epochs(options: argparse.Namespace, size: Size, root: Path, until: float) -> None:
    """Print the seconds per epoch of each model, alone and packed."""
    device = rates_and_floors(options, size)
    print(f"\n### Seconds per epoch\n\nRates: {device['words']}. "
          f"{size.steps[False]} steps of a CNN's epoch are timed, {size.steps[True]} of others', "
          f"and scaled.\n")  # fmt: skip
    print("| model | processes | dataset 1, s an epoch: median (least to most) | dataset 2, s "
          "| paper: 1, 2 | times the paper's speed: 1, 2 | over floor "
          "| first epoch adds, s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for slots in map(int, options.packs.split(",")):
        pool = Pool(slots, root)
        for model in options.models.split(","):
            start = f"| {model} | {slots} "
            if time.monotonic() > until - 30:
                print(f"{start}| no time left | | | | | |", flush=True)
                continue
            row = packed(pool, slots, model, size, root, until, device["floors"][model])
            print(start + row, flush=True)
        pool.close()


def packed(
    pool: Pool, slots: int, model: str, size: Size, root: Path, until: float, floor: float
) -> str:
    """Train a model in all workers at once; returns the rest of its row."""
    steps = size.steps["lstm" in model or "gru" in model]
    sizes = {"train": 32 * steps, "valid": 32, "test": 32}
    hp = dataclasses.replace(hyperparameters(size), epochs=EPOCHS)
    tasks = [
        dataclasses.replace(
            synthetic.task(f"{model}-{slots}-{n}", model, hp, data(root, size), sizes, CLASSES),
            timeout=size.limit,
        )
        for n in range(slots)
    ]
    events, results = pool.run(tasks, until)
    counted, first = together(events)
    if not counted:
        reasons = {result.message.splitlines()[0] if result.message else result.outcome
                   for result in results}  # fmt: skip
        return f"| none: {'; '.join(sorted(reasons))[:200]} | | | | | |"
    scale = PAPER_STEPS["enzyme"] / steps / slots
    ours = [scale * seconds for seconds in counted]
    median = statistics.median(ours)
    second = median * PAPER_STEPS["ec37"] / PAPER_STEPS["enzyme"]
    paper = [published_seconds(model, dataset) for dataset in PAPER_STEPS]
    faster = [f"{theirs / mine:.1f}" if theirs else "-"
              for theirs, mine in zip(paper, (median, second), strict=True)]  # fmt: skip
    return (
        f"| {median:.2f} ({min(ours):.2f} to {max(ours):.2f}) | {second:.1f} "
        f"| {', '.join(f'{seconds:g}' if seconds else '-' for seconds in paper)} "
        f"| {', '.join(faster)} | {median / (floor * PAPER_STEPS['enzyme']):.1f} | {first:.1f} |"
    )


def together(events: dict[str, list[Event]]) -> tuple[list[float], float]:
    """Return the seconds of the epochs in which all trained, and what first epochs took longer.

    An epoch counts that began when all had trained their first one, and ended while all were
    at it; where there is none such (some were cut), all but first epochs.
    """
    found = [some for some in events.values() if len(some) > 1]
    if not found:
        return [], 0
    later = [event for some in found for event in some[1:]]
    begin = max(some[0].timestamp for some in found)
    end = min(some[-1].timestamp for some in found)
    inside = [
        event for event in later
        if begin - 50 <= event.timestamp - 1000 * _seconds(event) and event.timestamp <= end + 50
    ]  # fmt: skip
    first = statistics.median(_seconds(some[0]) for some in found)
    counted = [_seconds(event) for event in inside or later]
    return counted, first - statistics.median(counted)


def _seconds(event: Event) -> float:
    return event.metrics["epoch_seconds"]


def published_seconds(model: str, dataset: str) -> float | None:
    """Return the paper's seconds per epoch of a model, where it prints them."""
    for table in PAPER_TABLES[dataset]:
        for cell in published.cells(table):
            same = cell.params.get("model") == model
            if same and {**cell.implied, **cell.params}["dataset"] == dataset:
                return cell.metrics.get("epoch_seconds_median")
    return None


def table(name: str, options: argparse.Namespace, size: Size, root: Path, until: float) -> None:
    """Train all cells of a table on dataset 1 and print how long that took."""
    sweep = spec.load(Path(__file__).parents[1] / "sweeps" / f"{SWEEPS[name]}.yaml")
    cells = spec.cells(sweep, spec.Request("paper"))[:: 5 if size is QUICK else 1]
    smaller: dict[str, Any] = (
        {}
        if size is FULL
        else {"length": size.length, "filters": size.filters, "hidden": size.hidden}
    )
    tasks = [
        synthetic.task(
            f"{name}-{number}", cell.model,
            dataclasses.replace(cell.hyperparameters, epochs=options.table_epochs,
                                early_stopping="none", **smaller),
            data(root, size), size.table, CLASSES,
        )
        for number, cell in enumerate(cells)
    ]  # fmt: skip
    start = time.monotonic()
    pool = Pool(options.workers, root)
    events, results = pool.run(tasks, until)
    seconds = time.monotonic() - start
    pool.close()
    done = sum(result.outcome == "complete" for result in results)
    steady = [_seconds(event) for some in events.values() for event in some[1:]]
    rest = len(cells) * (30 - options.table_epochs) * statistics.fmean(steady) / options.workers \
        if steady else math.nan  # fmt: skip
    whole = seconds + rest if done == len(cells) else math.nan
    failed = sorted({result.message[:100] for result in results if result.failure})
    print(
        f"| {name} | {options.workers} | {done} of {len(cells)} | {options.table_epochs} "
        f"| {seconds:.0f} | {3600 * done / seconds:.0f} | {_median(steady)} "
        f"| {whole:.0f} ({3600 * len(cells) / whole:.0f} cells an hour) |"
        + (f" failed: {'; '.join(failed)}" if failed else ""),
        flush=True,
    )


def _median(times: list[float]) -> str:
    if not times:
        return "-"
    return f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def hyperparameters(size: Size) -> Hyperparameters:
    """Return the paper's, but for what a quick check makes smaller."""
    return Hyperparameters(
        length=size.length, filters=size.filters, units=size.units, hidden=size.hidden,
        early_stopping="none",
    )  # fmt: skip


def data(root: Path, size: Size) -> Path:
    """Return the dataset's folder; trials use what they need of it."""
    folder = root / "data"
    if not folder.exists():
        enough = {part: max(n, 32 * max(size.steps.values())) for part, n in size.table.items()}
        synthetic.write(folder, enough, size.length, CLASSES)
    return folder


def rates_and_floors(options: argparse.Namespace, size: Size) -> dict[str, Any]:
    """Measure the device's rates in a process that gives the card back; floors in s a step."""
    own = [sys.executable, __file__, "--rates", "--models", options.models]
    done = subprocess.run(
        [*own, *(["--quick"] if size is QUICK else [])],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rates_here(models: Iterable[str], size: Size) -> None:
    """Print the device's rates and each model's floor as JSON."""
    import floors

    works = {model: floors.of_model(model, hyperparameters(size), CLASSES) for model in models}
    rates, words = floors.device_rates(quick=size is QUICK)
    print(json.dumps({
        "words": words,
        "floors": {model: floors.seconds(work, rates) for model, work in works.items()},
    }))  # fmt: skip


def device() -> str:
    """Return the card, its driver, and whether its processes share it by MPS."""
    if not shutil.which("nvidia-smi"):
        return "no GPU: figures are this processor's"
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    mps = "runs" if machine.mps_runs() else "does not run"
    return f"{'; '.join(said.splitlines())}; CUDA MPS {mps}"


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", default="epochs,table3,table2")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--packs", default="1,2,4,8,16")
    parser.add_argument("--workers", type=int, default=8, help="that train a table's cells")
    parser.add_argument("--table-epochs", type=int, default=30, help="fewer are scaled to 30")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--rates", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    if options.rates:
        rates_here(options.models.split(","), size)
        return
    until = time.monotonic() + 60 * options.minutes
    versions = libraries.versions("keras", "jax", "tensorflow", "torch", "numpy")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    print(f"## On a GPU ({date.today()})\n")
    print(f"{device()}; {machine.description()}; backend {backend}, {versions}.")
    if options.quick:
        print("\nTiny sizes: figures mean nothing.")
    parts = options.parts.split(",")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if "epochs" in parts:
            epochs(options, size, root, until)
        if set(parts) & set(SWEEPS):
            print("\n### Whole tables\n\n| table | workers | cells | epochs each "
                  "| s, start included | cells an hour | epoch in a worker, s "
                  "| s at 30 epochs |")  # fmt: skip
            print("|---|---|---|---|---|---|---|---|")
        for name in filter(SWEEPS.__contains__, parts):
            table(name, options, size, root, until)


if __name__ == "__main__":
    main()
