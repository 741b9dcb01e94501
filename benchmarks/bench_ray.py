"""Measure what ecsweep on Ray adds to a trial, beside plain Ray and Ray Tune.

    python benchmarks/bench_ray.py [--cells 10000] [--tasks 1000] [--tune 200] [--slots 2]
        [--sleep 0.02] [--quick]

Every trial sleeps for --sleep seconds and reports one metric; at most --slots run at once, on one
Ray cluster of one node that is started for this on the loopback interface, with a token. Each
contestant is driven by a process of its own, one after the other: tasks, a pool of actors, Ray
Tune, and a study of ecsweep. That study is the real `app.run_study` on the real Ray executor: the
driver's loop and display, actor calls and the stream of events, agents with their worker processes
and pipes, the placing of the dataset, SQLite's ledger and MLflow's store. Only `ec_sweep.trial` is
replaced, inside the workers: it sleeps, so there is no TensorFlow, nothing is trained, and no
predictions or model are left to be recorded. The others record less: plain Ray nothing, Ray Tune
its own files, and MLflow's store too where the row says so.

Times count from the end of the first trial to the end of the last, so that nobody's start is in
them. Prints Markdown for docs/benchmarks.md.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import psutil

from ec_sweep import machine, worker, worker_process
from ec_sweep.agents import Agent, Post
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.sharing import UNMEASURED

SLEEP = "BENCH_RAY_SLEEP"
"""The variable that tells the processes of the cluster how long a trial sleeps."""
STORE = 200_000_000
"""Bytes of the cluster's object store: the demo's dataset needs a few millions."""
METRIC = "val_accuracy"


def main() -> None:
    """Measure, and print tables; or be the driver of one contestant."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=10_000, help="of ecsweep's study")
    parser.add_argument("--tasks", type=int, default=1000, help="of plain Ray, each way")
    parser.add_argument("--tune", type=int, default=200, help="trials of Ray Tune, each way")
    parser.add_argument("--slots", type=int, default=2, help="trials at once")
    parser.add_argument("--sleep", type=float, default=0.02, help="seconds that a trial takes")
    parser.add_argument("--quick", action="store_true", help="few of each: does it run at all?")
    for hidden in ("--contestant", "--address", "--root"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.cells, options.tasks, options.tune = 100, 100, 10
    if options.contestant:
        clock = CONTESTANTS[options.contestant][1](options)
        (Path(options.root) / "clock.json").write_text(json.dumps(vars(clock)))
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder).resolve(), options)


def compare(root: Path, options: argparse.Namespace) -> None:
    """Start a cluster, run every contestant on it, and print what was measured."""
    os.environ[SLEEP] = str(options.sleep)
    os.environ.update(  # as `ec_sweep.cluster.connect` sets them, before Ray looks
        RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(16),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_BACKEND_LOG_LEVEL="error",
        RAY_AIR_NEW_OUTPUT="0",
    )  # fmt: skip
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    for name in [own for own in os.environ if own.startswith(("ECSWEEP", "MLFLOW", "RAY_ADDRESS"))]:
        del os.environ[name]
    import ray

    # What `connect` does, but for as many CPUs and as much memory as the slots need.
    context = ray.init(
        "local", include_dashboard=False, num_cpus=options.slots, num_gpus=0, log_to_driver=False,
        _memory=options.slots * UNMEASURED, object_store_memory=STORE, _temp_dir=str(root / "ray"),
    )  # fmt: skip
    found: dict[str, Clock | str] = {}
    try:
        for name in CONTESTANTS:
            print(f"{name} ...", file=sys.stderr)
            found[name] = run(name, root, context.address_info["gcs_address"], options)
    finally:
        ray.shutdown()
    print(f"## What ecsweep on Ray costs a trial ({date.today()})\n")
    print(
        f"Trials that sleep {1000 * options.sleep:g} ms and report one metric, {options.slots} at "
        f"once: {1000 * options.sleep / options.slots:g} ms a trial at best.\n"
    )
    print(tables(found, options.sleep / options.slots))
    versions = libraries.versions("ray", "tensorboardX", "mlflow", "optuna", "sqlalchemy")
    print(f"\n{machine.description()}; {versions}")


class Clock:
    """When trials ended, in a driver, and what it had used by then."""

    def __init__(
        self, started: float | None = None, ticks: list[tuple[float, float, float]] | None = None
    ) -> None:
        """Start; or be the clock of another process."""
        self.started = started or time.perf_counter()
        self.ticks = ticks or []
        """Seconds, the driver's CPU seconds and its MiB at each end of a trial."""

    def tick(self) -> None:
        """Note that a trial has ended, and is recorded where it is recorded at all."""
        memory = psutil.Process().memory_info().rss / 2**20  # not kept: Ray Tune pickles clocks
        self.ticks.append((time.perf_counter(), time.process_time(), memory))

    def a_trial(self, column: int) -> float:
        """Return the milliseconds of a trial, from the first end to the last: 0 time, 1 CPU."""
        first, last = self.ticks[0][column], self.ticks[-1][column]
        return 1000 * (last - first) / (len(self.ticks) - 1)

    @property
    def tenths(self) -> list[float]:
        """The milliseconds of a trial, by tenths of the trials; none of very few."""
        marks = np.linspace(0, len(self.ticks) - 1, 11).astype(int)
        if len(set(marks)) < len(marks):
            return []
        return [
            1000 * (self.ticks[end][0] - self.ticks[start][0]) / (end - start)
            for start, end in itertools.pairwise(marks)
        ]


def run(name: str, root: Path, address: str, options: argparse.Namespace) -> Clock | str:
    """Run one contestant in a process of its own; returns its clock, or why it is left out."""
    if name.startswith("Ray Tune"):
        try:
            importlib.import_module("ray.tune")
        except ImportError as error:
            return f"left out, it cannot be imported: {error} (pip install 'ray[tune]')"
    folder = root / CONTESTANTS[name][0]
    folder.mkdir()
    asked = vars(options) | {"contestant": name, "address": address, "root": folder}
    own = [f"--{option}={value}" for option, value in asked.items() if option != "quick"]
    command = [sys.executable, __file__, *own]
    with (folder / "log").open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, cwd=folder)
    if ended.returncode:
        raise SystemExit(f"{name} failed:\n{(folder / 'log').read_text()[-3000:]}")
    return Clock(**json.loads((folder / "clock.json").read_text()))


def sleep_and_score(*_: object) -> float:
    """Be a trial of plain Ray: sleep, and report one metric."""
    time.sleep(float(os.environ[SLEEP]))
    return 0.5


class Sleeper:
    """An actor of plain Ray."""

    trial = sleep_and_score


def plain_tasks(options: argparse.Namespace) -> Clock:
    """Run tasks of plain Ray, all handed to Ray at once."""
    import ray

    ray.init(options.address, log_to_driver=False)
    clock = Clock()
    task = ray.remote(num_cpus=1)(sleep_and_score)
    for answer in [task.remote() for _ in range(options.tasks)]:
        ray.get(answer)
        clock.tick()
    return clock


def plain_actors(options: argparse.Namespace) -> Clock:
    """Run the same by as many actors as there are slots."""
    import ray
    from ray.util import ActorPool

    ray.init(options.address, log_to_driver=False)
    clock = Clock()
    actors = [ray.remote(num_cpus=1)(Sleeper).remote() for _ in range(options.slots)]
    calls = ActorPool(actors).map_unordered(
        lambda actor, _: actor.trial.remote(), range(options.tasks)
    )
    for _ in calls:
        clock.tick()
    return clock


def tune(options: argparse.Namespace, reuse: bool, mlflow: bool = False) -> Clock:
    """Run the same by Ray Tune as a grid, with its own loggers and perhaps MLflow's.

    Where each trial starts a process of its own it takes seconds: then only a fifth of them run.
    """
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    ray.init(options.address, log_to_driver=False)
    points = options.tune if reuse else max(10, options.tune // 5)
    clock = Clock()

    class Ticks(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:  # noqa: ARG002
            clock.tick()

    def trainable(_: Any) -> None:
        tune.report({METRIC: sleep_and_score()})

    uri = f"sqlite:///{options.root}/mlflow.db"
    log = [MLflowLoggerCallback(tracking_uri=uri, experiment_name="load")] if mlflow else []
    tuner = tune.Tuner(
        trainable,
        param_space={"point": tune.grid_search(list(range(points)))},
        tune_config=tune.TuneConfig(
            metric=METRIC, mode="max", max_concurrent_trials=options.slots, reuse_actors=reuse
        ),
        # In this order: a trial has ended when MLflow has it.
        run_config=tune.RunConfig(
            name="load", storage_path=options.root, verbose=0, callbacks=[*log, Ticks()]
        ),
    )
    found = tuner.fit()
    assert found.num_errors == 0, found.errors
    assert len(clock.ticks) == points, len(clock.ticks)
    return clock


def ecsweep(options: argparse.Namespace) -> Clock:
    """Run a study of as many cells of a trial that only sleeps."""
    from ec_sweep import agent_handle, app, planning
    from ec_sweep.membership import Wanted
    from ec_sweep.paths import Home
    from ec_sweep.progress import progress
    from ec_sweep.spec import Request

    # The one of the module, which the nodes can import, and not of this script.
    agent_handle.Agent = importlib.import_module("bench_ray").SleepingAgent
    home = Home(Path(options.root))
    sweep = home.root / "load.yaml"
    values = [float(f"{value:.8g}") for value in np.geomspace(1e-3, 1e3, options.cells)]
    sweep.write_text(
        "study: load\ndataset: enzyme\nfixed: {model: composition, train_size: 64}\n"
        f"grid: {{inverse_regularization: {values}}}\n"
    )
    home.prepare()
    place = planning.Place(home)
    resolved = planning.resolve(place, str(sweep), Request(), build=True)
    clock = Clock()

    @contextlib.contextmanager
    def show(total: int, done: int, label: Callable[[Any], str]) -> Iterator[Any]:
        with progress(total, done, label) as display:
            ended = display.ended

            def ticked(cell: Any, result: Any) -> None:
                ended(cell, result)
                clock.tick()

            display.ended = ticked
            yield display

    settings = app.Options(executor="ray", cluster=Wanted(options.address))
    after = app.run_study(place, resolved, settings, show, app.Interrupts())
    assert after is not None
    assert after.done
    assert len(clock.ticks) == after.count("complete") == options.cells, len(clock.ticks)
    return clock


class SleepingAgent(Agent):
    """The real agent, whose workers sleep."""

    def __init__(self, post: Post) -> None:
        worker_process.serve = serve_asleep
        super().__init__(post)


def serve_asleep(*arguments: Any) -> None:
    """Be a real worker, to which another module is `ec_sweep.trial`; Keras is never imported."""
    stand_in: Any = types.ModuleType("ec_sweep.trial")
    stand_in.configure = lambda *_: None
    stand_in.run = sleep_instead
    sys.modules["ec_sweep.trial"] = stand_in
    worker.serve(*arguments)


def sleep_instead(task: Task, emit: Callable[[Event], None], _: Any) -> Result:
    """Be a trial of one epoch that leaves what `ec_sweep.trial.run` leaves.

    It reports two metrics: the display needs one of the test, as every real trial has it.
    """
    folder = AttemptFolder(task.folder)
    event = Event(now(), 1, {METRIC: sleep_and_score()})
    folder.append(event)
    emit(event)
    result = Result("complete", now(), {"test_accuracy": 0.5}, value=event.metrics[METRIC])
    folder.write_result(result)
    return result


CONTESTANTS: dict[str, tuple[str, Callable[[argparse.Namespace], Clock]]] = {
    "Ray, tasks": ("tasks", plain_tasks),
    "Ray, a pool of actors": ("actors", plain_actors),
    "Ray Tune": ("tune", lambda options: tune(options, reuse=False)),
    "Ray Tune, `reuse_actors`": ("reuse", lambda options: tune(options, reuse=True)),
    "Ray Tune, `reuse_actors`, MLflow": ("logged", lambda options: tune(options, True, True)),
    "ecsweep": ("study", ecsweep),
}
"""The folder of each, and its driver."""


def tables(found: dict[str, Clock | str], best: float) -> str:
    """Return as Markdown what was measured; a trial takes ``best`` seconds where nothing costs."""
    lines = [
        "| | trials | first ended after, s | a trial, ms | overhead, ms | trials a second | "
        "driver's CPU a trial, ms | driver's MiB after a tenth, nine, at most |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, clock in found.items():
        if isinstance(clock, str):
            lines.append(f"| {name} | {clock} | | | | | | |")
            continue
        wall, memory = clock.a_trial(0), [tick[2] for tick in clock.ticks]
        part = len(memory) // 10
        lines.append(
            f"| {name} | {len(memory):,} | {clock.ticks[0][0] - clock.started:.1f} | {wall:.1f} | "
            f"{wall - 1000 * best:.1f} | {1000 / wall:.1f} | {clock.a_trial(1):.1f} | "
            f"{memory[part]:.0f}, {memory[-part - 1]:.0f}, {max(memory):.0f} |"
        )
    lines += ["", "| ms a trial, by tenths | " + " | ".join(map(str, range(1, 11))) + " |"]
    lines.append("|---" * 11 + "|")
    for name, clock in found.items():
        if isinstance(clock, Clock) and clock.tenths:
            lines.append(f"| {name} | " + " | ".join(f"{ms:.1f}" for ms in clock.tenths) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
