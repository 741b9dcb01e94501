"""Measure what the engine adds to a cell, and how it bears thousands of them.

    python benchmarks/bench_engine.py [--quick] [--cells 5000] [--workers 2] [--raw 150]

Runs a study of so many `composition` cells, which train in milliseconds, by the real
`ecsweep study` in a home folder of its own, between two rounds of what records as much on SQLite
without an engine: Optuna's `optimize` alone, `optimize` with MLflow's calls in the objective, and
the single raw calls of both in the settings that ecsweep gives them. Trials are timed in a process
of their own. Then times the commands that read such a home. Prints Markdown for docs/benchmarks.md.
"""

import argparse
import contextlib
import itertools
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import psutil

from ec_sweep import machine, planning
from ec_sweep.attempts import AttemptFolder, Task, now
from ec_sweep.experiments import open_tracker
from ec_sweep.ledger_store import open_ledger
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.report import METRICS
from ec_sweep.spec import Request

EPOCH = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds")
FINAL = [name for name in METRICS if name not in EPOCH][:19]
TAGS = 9
"""Of a run when it is created, and what it is on: as many as ecsweep's."""
ENVIRONMENT = 14
LENGTHS = list(range(20, 120, 10))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--raw", type=int, default=150, help="runs by the raw calls, each round")
    parser.add_argument("--quick", action="store_true", help="40 cells: does it run at all?")
    parser.add_argument("--home", type=Path, help="default: a temporary folder")
    parser.add_argument("--time-trials", type=Path, metavar="HOME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time_trials:
        time_trials(options.time_trials)
        return
    if options.quick:
        options.cells, options.raw = 40, 5
    with contextlib.ExitStack() as stack:
        root = options.home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        measure(root.resolve(), options.cells, options.workers, options.raw)


def measure(root: Path, cells: int, workers: int, raw_runs: int) -> None:
    """Run everything under ``root``."""
    for folder in ("before", "study/sweeps", "after"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    home = root / "study"
    sweep = home / "sweeps" / "load.yaml"
    values = [float(f"{value:.6g}") for value in np.geomspace(1e-3, 1e3, cells // len(LENGTHS))]
    sweep.write_text(
        "study: load\ndataset: enzyme\nfixed: {model: composition, train_size: 64}\n"
        f"grid: {{inverse_regularization: {values}, length: {LENGTHS}}}\n"
    )
    Home(home).prepare()
    resolve(home)
    trial = time_of_a_trial(home)
    before = raw_calls(root / "before", raw_runs), loops(root / "before", raw_runs)
    wall, cpu, memory = run_study(home, workers)
    after = raw_calls(root / "after", raw_runs), loops(root / "after", raw_runs)
    raw = {name: (before[0][name] + after[0][name]) / 2 for name in before[0]}
    without = {name: (before[1][name], after[1][name]) for name in before[1]}
    print(f"## What the engine costs a cell ({date.today()})\n")
    print(table(cells, workers, trial, raw, without, recorded(home), memory, wall, cpu))
    for command in (
        "status load", "status load --json", "plan load", "report load",
        "report load --format csv", "study load",
    ):  # fmt: skip
        start = time.perf_counter()
        ecsweep(home, *command.split())
        print(f"| `ecsweep {command}`, afterwards | {time.perf_counter() - start:.1f} s |")
    versions = libraries.versions("mlflow", "optuna", "sqlalchemy", "scikit-learn", "tensorflow")
    print(f"\n{machine.description()}; {versions}, SQLite {sqlite3.sqlite_version}")


def ecsweep(home: Path, *arguments: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command(*arguments), cwd=home, env=environment(home), check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip


def command(*arguments: str) -> list[str]:
    """Return the command line of ecsweep."""
    return [sys.executable, "-m", "ec_sweep.cli", *arguments]


def environment(home: Path) -> dict[str, str]:
    """Return an environment that has this home and no other settings."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ECSWEEP", "MLFLOW"))}
    return {**kept, "ECSWEEP_HOME": str(home)}


def raw_calls(folder: Path, runs: int) -> dict[str, float]:
    """Return the milliseconds of each call that one run needs at least: means over runs."""
    import optuna
    from mlflow.entities import Metric, Param, RunTag

    home = Home(folder)
    home.prepare()
    ledger, tracker = open_ledger(home, None, "raw@demo"), open_tracker(home, "raw@demo")
    storage, study = ledger._storage, ledger._study_id
    client, experiment = tracker._client, tracker._experiment_id
    artifact = folder / "predictions.npz"
    np.savez_compressed(artifact, probabilities=np.zeros((200, 2), np.float32))
    running = optuna.create_trial(
        state=optuna.trial.TrialState.RUNNING,
        params={"inverse_regularization": 1.0, "length": 20},
        distributions={
            "inverse_regularization": optuna.distributions.FloatDistribution(1e-3, 1e3),
            "length": optuna.distributions.IntDistribution(20, 110),
        },
        user_attrs={"cell": "0" * 12, "attempt": 1, "run_id": "0" * 32, "concurrency": 2},
    )
    seconds: defaultdict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        found = call()
        seconds[name] += time.perf_counter() - start
        return found

    tags = {f"tag{number}": "0" * 12 for number in range(TAGS)}
    params = [Param(f"param{number}", "1") for number in range(8)]
    on = [RunTag(f"environment{number}", "0" * 12) for number in range(ENVIRONMENT)]
    for _ in range(runs):
        run = timed(
            "create_run",
            lambda: client.create_run(experiment, start_time=now(), tags=tags, run_name="raw"),
        ).info.run_id
        trial = timed("create_new_trial", lambda: storage.create_new_trial(study, running))
        timed("log_batch, params", lambda run=run: client.log_batch(run, params=params))
        metrics = [Metric(name, 0.5, now(), 1) for name in (*EPOCH, *FINAL)]
        timed("log_batch, metrics", lambda run=run, m=metrics: client.log_batch(run, m, tags=on))
        timed("log_artifact", lambda run=run: client.log_artifact(run, str(artifact)))
        timed("set_terminated", lambda run=run: client.set_terminated(run))
        complete = optuna.trial.TrialState.COMPLETE
        timed("tell", lambda t=trial, c=complete: storage.set_trial_state_values(t, c, [0.5]))
    return {name: 1000 * total / runs for name, total in seconds.items()}


def loops(folder: Path, trials: int) -> dict[str, float]:
    """Return the milliseconds of a trial that trains nothing, in loops as scripts write them.

    Random sampling, which costs Optuna least; both libraries in their own settings.
    """
    import mlflow
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    artifact = folder / "predictions.npz"
    params = {f"param{number}": 1 for number in range(8)}
    tags = {f"tag{number}": "0" * 12 for number in range(TAGS + ENVIRONMENT)}

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("inverse_regularization", 1e-3, 1e3)
        trial.suggest_int("length", 20, 110)
        trial.set_user_attr("cell", "0" * 12)
        return 0.5

    def logged(trial: optuna.Trial) -> float:
        with mlflow.start_run(run_name="raw", tags=tags):
            mlflow.log_params(params)
            mlflow.log_metrics(dict.fromkeys(EPOCH, 0.5), step=1)
            mlflow.log_metrics(dict.fromkeys(FINAL, 0.5))
            mlflow.log_artifact(str(artifact))
        return objective(trial)

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(
        experiment_id=mlflow.create_experiment("raw", (folder / "artifacts").as_uri())
    )
    found = {}
    for name, function in (("Optuna's `optimize`", objective), ("with MLflow's calls", logged)):
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/optuna.db", sampler=optuna.samplers.RandomSampler(0)
        )
        study.optimize(function, n_trials=2)  # the first calls prepare
        start = time.perf_counter()
        study.optimize(function, n_trials=trials)
        found[name] = 1000 * (time.perf_counter() - start) / trials
    mlflow.set_tracking_uri(before)
    return found


def time_trials(home: Path, trials: int = 30) -> None:
    """Print the mean milliseconds of a trial, as a worker with one thread runs it."""
    from ec_sweep import trial

    trial.configure(1, deterministic=False)
    folder = AttemptFolder(home / f"trial-{os.getpid()}")
    times = []
    cells = resolve(home)
    for cell in cells.cells[:: max(1, len(cells.cells) // trials)]:
        dataset = cells.datasets[cell.data]
        task = Task(
            run_id="0", folder=folder.path, model=cell.model, hyperparameters=cell.hyperparameters,
            seed=cell.seed, dataset=dataset.folder,
            sizes=dataset.sizes(cell.hyperparameters.train_size),
            classes=len(dataset.card["classes"]),
        )  # fmt: skip
        folder.create()
        start = time.perf_counter()
        result = trial.run(task, lambda _: None, lambda: False)
        times.append(time.perf_counter() - start)
        assert result.outcome == "complete", result
        folder.remove()
    print(1000 * statistics.mean(times[5:]))  # the first ones import and warm up


def time_of_a_trial(home: Path) -> float:
    """Return the milliseconds of a trial in each of two processes that do nothing else."""
    own = [sys.executable, __file__, "--time-trials", str(home)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    workers = [subprocess.Popen(own, **quiet) for _ in range(2)]
    return statistics.mean(float(worker.communicate()[0]) for worker in workers)


def resolve(home: Path) -> planning.Resolved:
    """Return the study's cells, on a dataset that is built if need be."""
    sweep = str(home / "sweeps" / "load.yaml")
    return planning.resolve(Place(Home(home)), sweep, Request(), build=True)


def run_study(home: Path, workers: int) -> tuple[float, float, list[float]]:
    """Run the study; returns seconds, the driver's CPU seconds, and its MiB from end to end."""
    start = time.perf_counter()
    arguments = command("study", "load", "--workers", str(workers))
    memory: list[float] = []
    cpu = 0.0
    with (home / "study.log").open("w") as log:
        process = psutil.Popen(arguments, cwd=home, env=environment(home), stdout=log, stderr=log)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                memory.append(process.memory_info().rss / 2**20)
                cpu = sum(process.cpu_times()[:2])
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit((home / "study.log").read_text()[-2000:])
    return time.perf_counter() - start, cpu, memory


def recorded(home: Path) -> list[float]:
    """Return the milliseconds a cell of each tenth of the study, by Optuna's own times.

    Read from the raw tables, so that this measures the product without the product.
    """
    query = "SELECT datetime_start, datetime_complete FROM trials WHERE state = 'COMPLETE'"
    with contextlib.closing(sqlite3.connect(home / "mlruns" / "studies.db")) as database:
        rows = database.execute(query).fetchall()
    times = [[datetime.fromisoformat(text).timestamp() for text in row] for row in rows]
    ends, part = sorted(end for _, end in times), len(times) // 10
    marks = [min(start for start, _ in times), *ends[part - 1 :: part]]
    return [1000 * (later - mark) / part for mark, later in itertools.pairwise(marks)]


def table(
    cells: int, workers: int, trial: float, raw: dict[str, float],
    without: dict[str, tuple[float, float]],
    tenths: list[float], memory: list[float], wall: float, cpu: float,
) -> str:  # fmt: skip
    """Return the measurements of the study as Markdown."""
    calls, driven, part = sum(raw.values()), statistics.mean(tenths), len(memory) // 10
    overhead = driven - trial / workers
    each = ", ".join(f"{name} {ms:.1f}" for name, ms in raw.items())
    rows = {
        f"{cells:,} cells, {workers} workers": f"{wall:.0f} s, start and table included",
        "a cell, from the first start to the last end": f"{driven:.1f} ms "
        f"(by tenths: {', '.join(f'{ms:.0f}' for ms in tenths)})",
        "a trial alone, beside another one": f"{trial:.1f} ms",
        "the raw calls of one run": f"{calls:.1f} ms ({each})",
        "overhead a cell: time less trial / workers": f"{overhead:.1f} ms, "
        f"**{overhead / calls:.2f} x** the raw calls",
        **{
            f"a trial of nothing: {name}": f"{statistics.mean(times):.1f} ms "
            f"({times[0]:.1f} before, {times[1]:.1f} after): the overhead is "
            f"**{overhead / statistics.mean(times):.2f} x** that"
            for name, times in without.items()
        },
        "the driver computes, a cell": f"{1000 * cpu / cells:.1f} ms",
        "the driver's memory": f"{max(memory):.0f} MiB at most; {memory[part]:.0f} after a tenth "
        f"of the time, {memory[-part - 1]:.0f} after nine",
    }
    return "\n".join(
        ["| what | measured |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    )


if __name__ == "__main__":
    main()
