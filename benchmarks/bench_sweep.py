"""Compare whole sweeps: ecsweep, KerasTuner, and Optuna + Keras + MLflow, on the same cells.

    pip install keras-tuner
    python benchmarks/bench_sweep.py [--rounds 3] [--peer-cells N] [--paper-size [--from FILE]]
        [--quick] [--out DIR]

Runs the grid of sweeps/cnn-filters.yaml at demo scale in turns by four contestants, each a process
of its own that may use all cores, its start included:

- ecsweep: the command `ecsweep study cnn-filters --scale demo` in a new home folder: it makes its
  databases, builds the dataset, tests and times each cell, keeps predictions and the best model
  and writes the table.
- KerasTuner: GridSearch by its defaults, on tokens; it keeps the weights of each best epoch.
- Optuna + MLflow, plain: GridSampler, sequences one-hot in float32, `fit`; no model is kept.
- Optuna + MLflow, fair: the same on tokens with one-hot in the model, and with XLA.

All train the same network on the same arrays, validate after each epoch and test at the end. The
peers do not stop early: the study's rule cannot take effect in three epochs. In each round ecsweep
also trains a long trial on each core at once: the seconds of a step there are the packed step time,
against which the sweep's time is held. Round by round the contestants begin in another order.

--paper-size: length 1,000, 3,200 training sequences and 2 epochs, that is 200 steps a cell, with 2
filter sizes x 2 learning rates; from the embedded sample, or from FILE. --peer-cells N: the peers
train only N of the cells, all learning rates of filter sizes at even distances; what a process
does once is then counted as if it had trained all. --quick: 2 cells, one round, to see that it
works.

KerasTuner is a tool of this script alone, not of ecsweep, so no extra of ecsweep brings it. Prints
Markdown for docs/benchmarks.md; the last line names the folder of logs, databases and
`rounds.json`, all that was measured.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import recorded_times
import yaml
from bench_engine import command, environment
from recorded_times import PARTS

from ec_sweep import machine, planning
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.spec import Request

PEERS = Path(__file__).parent / "peers"
ECSWEEP = "ecsweep"
CONTESTANTS: dict[str, list[str]] = {
    ECSWEEP: [],
    "KerasTuner": ["kerastuner_grid.py"],
    "Optuna + MLflow, plain": ["optuna_mlflow.py"],
    "Optuna + MLflow, fair": ["optuna_mlflow.py", "--fair"],
}
PACKED = "packed"
DEMO = Path(__file__).parents[1] / "sweeps" / "cnn-filters.yaml"
PAPER_SIZE = {
    "study": "paper-size", "dataset": "enzyme",
    "fixed": {"model": "cnn", "filters": 128, "pool_size": 2, "hidden": [512, 512],
              "batch_size": 32, "epochs": 2, "length": 1000, "train_size": 3200},
    "grid": {"filter_size": [3, 8], "learning_rate": [0.001, 0.0001]},
}  # fmt: skip
TARGET_OF_STEPS = 1.3
"""Wall time a cell is to be at most so many times that of its packed steps."""

Found = dict[str, Any]
"""What was measured of a contestant in a round."""


@dataclass(frozen=True)
class Setting:
    """What is compared, and where."""

    folder: Path
    sweep: Path
    scale: str
    overrides: list[str]
    """Of the sweep, for the command line."""
    grid: dict[str, list[Any]]
    peer_grid: dict[str, list[Any]]
    hyperparameters: Any
    sizes: dict[str, int]
    classes: int
    built: Path | None
    """The home folder of a dataset that is built beforehand: the paper scale has no other."""
    packed_epochs: int

    @property
    def cells(self) -> int:
        """How many cells the whole grid has."""
        return len(self.grid["filter_size"]) * len(self.grid["learning_rate"])

    @property
    def peer_cells(self) -> int:
        """How many of them the peers train."""
        return len(self.peer_grid["filter_size"]) * len(self.peer_grid["learning_rate"])

    @property
    def steps(self) -> int:
        """Training steps of a cell."""
        batches = -(-self.sizes["train"] // self.hyperparameters.batch_size)
        return int(batches * self.hyperparameters.epochs)


def main() -> None:
    """Measure all rounds, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-cells", type=int, help="of the grid; default: all")
    parser.add_argument("--paper-size", action="store_true", help="length 1,000, 200 steps a cell")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="proteins")
    parser.add_argument("--quick", action="store_true", help="2 cells, one round")
    parser.add_argument("--out", type=Path, help="default: a new temporary folder")
    options = parser.parse_args()
    if options.source and not options.paper_size:
        parser.error("--from goes with --paper-size")
    importlib.metadata.version("keras-tuner")  # better missed now than after an hour
    folder = options.out or Path(tempfile.mkdtemp(prefix="bench-sweep-"))
    folder.mkdir(parents=True, exist_ok=True)
    setting = prepare(folder.resolve(), options)
    warm_up()
    rounds: list[dict[str, Found]] = []
    names = [*CONTESTANTS, PACKED]
    for number in range(1 if options.quick else options.rounds):
        first = number % len(names)
        rounds.append({})
        for name in names[first:] + names[:first]:
            rounds[-1][name] = run(name, setting, folder.resolve() / f"{number + 1}-{slug(name)}")
            wall = rounds[-1][name]["wall"]
            print(f"round {number + 1}: {name} {wall:.1f} s", file=sys.stderr, flush=True)
        (folder / "rounds.json").write_text(json.dumps(rounds, indent=1))
    print(report(setting, rounds))
    print(f"\nFiles: {folder.resolve()}")


def prepare(folder: Path, options: argparse.Namespace) -> Setting:
    """Write the sweep and the arrays of the peers."""
    sweep, scale, home = DEMO, "demo", folder / "prepared"
    home.mkdir()
    if options.paper_size:
        sweep = folder / "paper-size.yaml"
        sweep.write_text(yaml.safe_dump(PAPER_SIZE))
    if options.source:
        scale = "paper"
        arguments = command("data", "build", "enzyme", "--from", str(options.source.resolve()))
        subprocess.run(arguments, cwd=home, env=environment(home), check=True)
    grid = yaml.safe_load(sweep.read_text())["grid"]
    overrides = []
    if options.quick:
        grid = {"filter_size": grid["filter_size"][-1:], "learning_rate": [0.001, 0.0001]}
        for name, values in grid.items():
            overrides += ["--set", f"{name}={values}"]
    asked = Request(scale=scale, overrides=tuple(grid.items()))
    Home(home).prepare()
    resolved = planning.resolve(Place(Home(home)), str(sweep), asked, build=True)
    cell = resolved.cells[0]
    dataset = resolved.datasets[cell.data]
    sizes = dataset.sizes(cell.hyperparameters.train_size)
    arrays = folder / "arrays"
    arrays.mkdir()
    for part, size in sizes.items():
        tokens = dataset.array(part, "tokens")[:size, : cell.hyperparameters.length]
        np.save(arrays / f"{part}_tokens.npy", tokens)
        np.save(arrays / f"{part}_labels.npy", dataset.array(part, "labels")[:size])
    return Setting(
        folder=folder, sweep=sweep, scale=scale, overrides=overrides, grid=grid,
        peer_grid=chosen(grid, options.peer_cells), hyperparameters=cell.hyperparameters,
        sizes=sizes, classes=len(dataset.card["classes"]), built=home if options.source else None,
        packed_epochs=4 if options.quick or options.paper_size else 12,
    )  # fmt: skip


def chosen(grid: dict[str, list[Any]], cells: int | None) -> dict[str, list[Any]]:
    """Return the part of a grid with so many cells: filter sizes at even distances."""
    sizes, rates = grid["filter_size"], grid["learning_rate"]
    if cells is None or cells >= len(sizes) * len(rates):
        return grid
    count = cells // len(rates)
    if not count or cells % len(rates):
        raise SystemExit(f"--peer-cells must be a multiple of {len(rates)}. Received: {cells}")
    return {**grid, "filter_size": evenly(sizes, count)}


def evenly(values: Sequence[Any], count: int) -> list[Any]:
    """Return so many of some values, at even distances around their middle."""
    return [values[(2 * number + 1) * len(values) // (2 * count)] for number in range(count)]


def warm_up() -> None:
    """Read the libraries from the disk, which the first contestant would else do for the others."""
    subprocess.run([sys.executable, "-c", "import keras_tuner, mlflow, optuna, tensorflow"],
                   check=True, stderr=subprocess.DEVNULL)  # fmt: skip


def run(name: str, setting: Setting, folder: Path) -> Found:
    """Run a contestant in a new folder."""
    folder.mkdir()
    if setting.built and name in (ECSWEEP, PACKED):
        shutil.copytree(setting.built / "data", folder / "data")
    if name == ECSWEEP:
        return run_ecsweep(setting, folder)
    if name == PACKED:
        return run_packed(setting, folder)
    return run_peer(name, setting, folder)


def run_ecsweep(setting: Setting, folder: Path) -> Found:
    """Run the study by the command that users run."""
    study = "cnn-filters" if setting.sweep == DEMO else str(setting.sweep)
    arguments = command("study", study, "--scale", setting.scale, *setting.overrides)
    began, ended, cpu = timed(arguments, folder)
    runs = recorded_times.read(folder / "mlruns" / "mlflow.db")
    split = recorded_times.split(runs, began, ended)
    accuracies = {
        key(run.params["filter_size"], run.params["learning_rate"]): run.final["test_accuracy"]
        for run in runs
    }
    if len(accuracies) != setting.cells:
        raise SystemExit(f"not all cells are complete: see {folder / 'log'}")
    seconds = {part: seconds / setting.cells for part, seconds in split.items()}
    return {
        "wall": ended - began, "cell": (ended - began) / setting.cells,
        "cpu": cpu / setting.cells, "split": seconds, "accuracies": accuracies,
        "workers": runs[0].concurrency,
    }  # fmt: skip


def run_packed(setting: Setting, folder: Path) -> Found:
    """Train one long trial on each core at once; returns the seconds of a step there."""
    workers = machine.usable_cores()
    sizes = sorted(setting.grid["filter_size"])
    sweep = {
        **yaml.safe_load(setting.sweep.read_text()),
        "study": "packed",
        # Of several networks, so that each worker gets one.
        "grid": {"filter_size": [sizes[len(sizes) // 2] + n for n in range(workers)],
                 "learning_rate": [0.001]},
    }  # fmt: skip
    (folder / "packed.yaml").write_text(yaml.safe_dump(sweep))
    arguments = command(
        "study", "packed.yaml", "--scale", setting.scale, "--workers", str(workers),
        "--save-models", "none", "--set", f"epochs={setting.packed_epochs}",
        "--set", "early_stopping=none",
    )  # fmt: skip
    began, ended, cpu = timed(arguments, folder)
    runs = recorded_times.read(folder / "mlruns" / "mlflow.db")
    epoch = statistics.mean(run.final["epoch_seconds_median"] for run in runs)
    batches = setting.steps / setting.hyperparameters.epochs
    return {"wall": ended - began, "cpu": cpu, "step": epoch / batches, "workers": workers}


def run_peer(name: str, setting: Setting, folder: Path) -> Found:
    """Run a peer's script."""
    script, *flags = CONTESTANTS[name]
    hp = setting.hyperparameters
    job = {
        "filter_sizes": setting.peer_grid["filter_size"],
        "learning_rates": setting.peer_grid["learning_rate"],
        "batch_size": hp.batch_size, "epochs": hp.epochs, "length": hp.length,
        "classes": setting.classes, "arrays": str(setting.folder / "arrays"),
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(job))
    began, ended, cpu = timed([sys.executable, str(PEERS / script), "job.json", *flags], folder)
    found = json.loads((folder / "times.json").read_text())
    trained = found["cells"]
    if len(trained) != setting.peer_cells:
        raise SystemExit(f"{len(trained)} cells instead of {setting.peer_cells}: see {folder}")
    split = {part: statistics.mean(cell.get(part, 0.0) for cell in trained) for part in PARTS}
    # Once a process, shared by all cells that it would have trained.
    split["start"] = (found["ready"] - began) / setting.cells
    split["idle"] = (ended - found["ended"]) / setting.cells
    within = sum(split[part] for part in ("compile", "steps", "evaluation", "recording"))
    split["recording"] += (found["ended"] - found["ready"]) / len(trained) - within
    accuracies = {
        key(cell["filter_size"], cell["learning_rate"]): cell["test_accuracy"] for cell in trained
    }
    return {
        "wall": ended - began, "cell": sum(split.values()), "cpu": cpu / len(trained),
        "split": split, "accuracies": accuracies,
    }  # fmt: skip


def timed(arguments: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Run a process; returns begin and end since 1970, and CPU seconds with its children's."""
    kept = {**environment(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    began = time.time()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=folder, env=kept, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{arguments} failed:\n{(folder / 'log').read_text()[-2000:]}")
    return began, time.time(), used.ru_utime + used.ru_stime


def report(setting: Setting, rounds: Sequence[dict[str, Found]]) -> str:
    """Return all tables as Markdown."""
    hp, workers = setting.hyperparameters, rounds[0][ECSWEEP]["workers"]
    part = "" if setting.peer_grid == setting.grid else (
        f" The peers trained {setting.peer_cells} of them: filter sizes "
        f"{setting.peer_grid['filter_size']}."
    )  # fmt: skip
    head = (
        f"{setting.cells} cells ({len(setting.grid['filter_size'])} filter sizes x "
        f"{len(setting.grid['learning_rate'])} learning rates), length {hp.length}, "
        f"{setting.sizes['train']:,} training sequences ({setting.sizes['valid']:,} for "
        f"validation, {setting.sizes['test']:,} for the test), {hp.epochs} epochs, batch "
        f"{hp.batch_size}, {setting.steps} steps; {len(rounds)} rounds, ecsweep with {workers} "
        f"workers.{part}"
    )
    return "\n\n".join(
        [head, walls(setting, rounds), splits(rounds), targets(setting, rounds),
         accuracies(rounds), about()]
    )  # fmt: skip


def walls(setting: Setting, rounds: Sequence[dict[str, Found]]) -> str:
    """Return the table of wall times."""
    own = statistics.median(found[ECSWEEP]["cell"] for found in rounds)
    rows = ["| contestant | cells | wall time, s | a cell, s | CPU a cell, s | x ecsweep |",
            "|---|---|---|---|---|---|"]  # fmt: skip
    for name in CONTESTANTS:
        cell = statistics.median(found[name]["cell"] for found in rounds)
        cells = setting.cells if name == ECSWEEP else setting.peer_cells
        shown = [spread(rounds, name, what) for what in ("wall", "cell", "cpu")]
        rows.append(f"| {name} | {cells} | {' | '.join(shown)} | {cell / own:.2f} |")
    return "\n".join(rows)


def splits(rounds: Sequence[dict[str, Found]]) -> str:
    """Return the table of what the time of a cell goes to."""
    rows = [f"| seconds a cell | {' | '.join(PARTS)} |", "|---" * (1 + len(PARTS)) + "|"]
    for name in CONTESTANTS:
        medians = [statistics.median(r[name]["split"][part] for r in rounds) for part in PARTS]
        rows.append(f"| {name} | {' | '.join(f'{seconds:.2f}' for seconds in medians)} |")
    return "\n".join(
        [*rows, "", "start: imports, and with ecsweep its databases and the dataset; compile: "
         "building, tracing and compiling; recording: all that is none of the others; idle: with "
         "ecsweep a worker without a cell at the end, with the others the end of the process. "
         "ecsweep's workers run side by side: their seconds are divided by their number."]
    )  # fmt: skip


def targets(setting: Setting, rounds: Sequence[dict[str, Found]]) -> str:
    """Return how the targets are met, round by round and then by their median."""
    cell = [found[ECSWEEP]["cell"] for found in rounds]
    step = [found[PACKED]["step"] / found[PACKED]["workers"] for found in rounds]
    waste = [one / (each * setting.steps) for one, each in zip(cell, step, strict=True)]
    faster = [found["KerasTuner"]["cell"] / found[ECSWEEP]["cell"] for found in rounds]
    floor = statistics.median(step) * setting.steps
    return "\n".join(
        ["| target | measured |", "|---|---|",
         f"| packed step: {rounds[0][PACKED]['workers']} trials side by side, ms a step together "
         f"| {spread_of([1000 * each for each in step], 1)} |",
         f"| wall time a cell ≤ {TARGET_OF_STEPS} x its {setting.steps} packed steps "
         f"({floor:.2f} s) | {spread_of(waste)} x |",
         f"| KerasTuner's time a cell ≥ 2 x, aim 3 x | {spread_of(faster)} x |"]
    )  # fmt: skip


def accuracies(rounds: Sequence[dict[str, Found]]) -> str:
    """Return the table of test accuracies, each the median over the rounds."""
    cells = list(rounds[0]["KerasTuner"]["accuracies"])
    cells.sort(key=lambda cell: [float(part) for part in cell.split("/")])

    def of(name: str, cell: str) -> float:
        return float(statistics.median(found[name]["accuracies"][cell] for found in rounds))

    rows = [f"| test accuracy | {' | '.join(CONTESTANTS)} |", "|---" * (1 + len(CONTESTANTS)) + "|"]
    for cell in cells:
        found = " | ".join(f"{of(name, cell):.3f}" for name in CONTESTANTS)
        rows.append(f"| filter size {cell.replace('/', ', learning rate ')} | {found} |")
    means = [statistics.mean(of(name, cell) for cell in cells) for name in CONTESTANTS]
    return "\n".join([*rows, f"| mean | {' | '.join(f'{mean:.3f}' for mean in means)} |"])


def spread(rounds: Sequence[dict[str, Found]], name: str, what: str) -> str:
    """Return the median of a contestant's figure, and its range."""
    return spread_of([found[name][what] for found in rounds])


def spread_of(values: Sequence[float], digits: int = 2) -> str:
    """Return median and range."""
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def key(filter_size: Any, rate: Any) -> str:
    """Name a cell."""
    return f"{int(filter_size)}/{float(rate):g}"


def slug(name: str) -> str:
    """Return a contestant's name as that of a folder."""
    return name.lower().replace(" + ", "-").replace(", ", "-")


def about() -> str:
    """Return date, machine and versions."""
    names = ("tensorflow", "keras", "keras-tuner", "optuna", "mlflow", "numpy")
    today = datetime.date.today().isoformat()
    return f"{today}; {machine.description()}; {libraries.versions(*names)}"


if __name__ == "__main__":
    main()
