"""The commands without their clothes: wires the parts together, prints nothing."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ec_sweep import datasets, report, spec, tables
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.executors import (
    Executor,
    InlineExecutor,
    LocalExecutor,
    default_workers,
    usable_cores,
)
from ec_sweep.ledger import DONE, Attempt, Ledger, State, open_ledger, state_of
from ec_sweep.paths import Home, packed
from ec_sweep.spec import Cell, Request, Sweep
from ec_sweep.study import Display, Driver, Plan, cells_to_run, shown, study_lock
from ec_sweep.tracking import open_tracker, tracking_uri


@dataclass(frozen=True)
class Place:
    """Where a command's state is."""

    home: Home
    storage: str | None = None
    """SQLAlchemy URL that replaces the home folder's ledger."""


@dataclass(frozen=True)
class CellStatus:
    """A cell and what has become of it."""

    cell: Cell
    attempts: Sequence[Attempt] = ()

    @property
    def state(self) -> State:
        """The state of the last attempt."""
        return state_of(self.attempts)

    def to_json(self) -> dict[str, Any]:
        """Return the cell as ``plan --json`` and ``status --json`` print it."""
        last = self.attempts[-1] if self.attempts else None
        return {
            "cell": self.cell.id,
            "params": self.cell.params,
            "seed": self.cell.seed,
            "state": self.state,
            "attempts": len(self.attempts),
            "run_id": last.run_id if last else None,
            "failure": last.failure if last else None,
        }


@dataclass(frozen=True)
class Resolved:
    """A study as it is asked for: its file, the request, and its cells."""

    sweep: Sweep
    where: str
    request: Request
    followed: bool
    """Whether seeds or overrides come from what was last asked for."""
    cells: list[Cell]
    datasets: dict[str, Dataset]
    """Those that are built, by name."""

    @property
    def name(self) -> str:
        """``name@scale``, as MLflow and Optuna know it."""
        return f"{self.sweep.study}@{self.request.scale}"

    @property
    def plan(self) -> Plan:
        """What a driver is to do."""
        values = {
            name: list(dict.fromkeys(_value(cell, name) for cell in self.cells))
            for name in self.sweep.axes
        }
        varied = {name: found for name, found in values.items() if len(found) > 1}
        return Plan(self.name, self.cells, self.datasets, varied or values)

    @property
    def command(self) -> str:
        """The options, beside the study's name, that ask for the same again."""
        parts = []
        if self.request.seeds:
            parts.append(f"--seeds {self.request.seeds}")
        parts += [f"--set {name}={shown(value)}" for name, value in self.request.overrides]
        return " ".join(parts)


@dataclass(frozen=True)
class StudyStatus:
    """Every cell of a study with its state."""

    resolved: Resolved
    cells: list[CellStatus]

    @property
    def done(self) -> bool:
        """Whether nothing is left to run and nothing failed."""
        return all(cell.state in DONE for cell in self.cells)

    def count(self, *states: State) -> int:
        """Count the cells in these states."""
        return sum(cell.state in states for cell in self.cells)

    def seconds_left(self, workers: int) -> float | None:
        """Estimate the time to run what is left from earlier cells, ``None`` without any."""
        times = [
            attempt.seconds
            for cell in self.cells
            for attempt in cell.attempts
            if attempt.state == "complete" and attempt.seconds is not None
        ]
        if not times:
            return None
        left = self.count("waiting", "interrupted", "running")
        return sum(times) / len(times) * left / workers

    def to_json(self) -> dict[str, Any]:
        """Return what ``plan --json`` and ``status --json`` print."""
        return {
            "study": self.resolved.sweep.study,
            "scale": self.resolved.request.scale,
            "cells": [cell.to_json() for cell in self.cells],
        }


@dataclass
class Interrupts:
    """Counts Ctrl-C and SIGTERM instead of dying of them."""

    count: int = field(default=0, init=False)

    def __call__(self) -> int:
        """Return how often the user has asked to stop."""
        return self.count

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Count the signals that arrive within the block."""

        def handle(*_: object) -> None:
            self.count += 1

        caught = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, handle) for number in caught}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(frozen=True)
class Options:
    """How a study is run, beside what it is."""

    workers: int | None = None
    executor: str = "local"
    retry_failed: bool = False


ShowProgress = Callable[[int, int, int, Callable[[Cell], str]], AbstractContextManager[Display]]
"""Makes the display for so many cells, of which so many are done, on so many slots."""


def sweep_files() -> dict[str, Path]:
    """Return the sweep files of ``./sweeps``, then the packed ones, by name."""
    found: dict[str, Path] = {}
    for folder in (Path("sweeps"), packed("sweeps")):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def find_sweep(study: str) -> Path:
    """Return the file of a study given by name or by path."""
    if study.endswith((".yaml", ".yml")) or os.sep in study:
        return Path(study)
    files = sweep_files()
    if study not in files:
        raise EcsweepError(
            f"no study is named {study!r}.{nearest(study, files)} "
            f"Known: {', '.join(sorted(files)) or 'none'}. A path to a YAML file is taken too."
        )
    return files[study]


def resolve(
    place: Place, study: str, request: Request, *, follow: bool = True, build: bool = False
) -> Resolved:
    """Return a study's cells.

    Where the request names neither seeds nor overrides and ``follow`` is true,
    those that were last asked for hold. With ``build``, the demo dataset is
    built if need be; otherwise cells on a dataset that is not built have no id.
    """
    path = find_sweep(study)
    sweep = spec.load(path)
    followed = False
    if follow and request.seeds is None and not request.overrides:
        tracker = open_tracker(place.home, f"{sweep.study}@{request.scale}", create=False)
        last = tracker.plan() if tracker else None
        if last:
            overrides = tuple((name, value) for name, value in last["request"]["set"].items())
            request = Request(request.scale, last["request"]["seeds"], overrides)
            followed = bool(request.seeds or overrides)
    cells = spec.cells(sweep, request, str(path))
    built = {}
    for name in dict.fromkeys(cell.dataset for cell in cells):
        dataset = datasets.for_scale(place.home, name, request.scale)
        if dataset is None and build:
            if request.scale != "demo":
                raise EcsweepError(
                    f"{request.scale} scale needs the dataset {name} built from your proteins. "
                    f"Build it with: ecsweep data build {name} --from FILE.tsv.gz"
                )
            dataset = datasets.build_embedded(place.home, name)
        if dataset is not None:
            built[name] = dataset
    for cell in cells:
        if cell.dataset in built:
            hp = cell.hyperparameters
            problem = built[cell.dataset].check(hp.length, hp.train_size)
            if problem:
                raise EcsweepError(f"{path}: impossible cell: {problem}.")
    cells = [cell.on({name: ds.fingerprint for name, ds in built.items()}) for cell in cells]
    return Resolved(sweep, str(path), request, followed, cells, built)


def status(place: Place, resolved: Resolved, ledger: Ledger | None = None) -> StudyStatus:
    """Return the state of every cell; nothing is written."""
    if ledger is None:
        ledger = open_ledger(place.home, place.storage, resolved.name, create=False)
    attempts = ledger.attempts() if ledger else {}
    cells = [CellStatus(cell, attempts.get(str(cell.id), ())) for cell in resolved.cells]
    return StudyStatus(resolved, cells)


def run_study(
    place: Place,
    resolved: Resolved,
    options: Options,
    show: ShowProgress,
    interrupts: Interrupts,
) -> StudyStatus:
    """Run what is not done of a study; returns the state of every cell.

    Raises:
        EcsweepError: another driver runs it, or its state cannot be used.
        StudyStoppedError: one error came back in several cells.
    """
    home, plan = place.home, resolved.plan
    with study_lock(home, plan.study), interrupts.caught():
        ledger = open_ledger(home, place.storage, plan.study, create=True)
        assert ledger is not None
        todo = cells_to_run(plan.cells, ledger.attempts(), options.retry_failed)
        executor = _executor(home, resolved, options, len(todo), interrupts)
        try:
            if todo:
                executor.start()  # imports TensorFlow while the driver prepares
            tracker = open_tracker(home, plan.study, create=True)
            assert tracker is not None
            parent = tracker.open_parent(resolved.sweep.title)
            tracker.store_plan(parent, _plan_document(resolved))
            for dataset in resolved.datasets.values():
                tracker.store_card(parent, dataset.card)
            left = len(plan.cells) - len(todo)
            with show(len(plan.cells), left, executor.slots, plan.label) as display:
                driver = Driver(home, plan, ledger, tracker, executor, display)
                driver.repair()
                todo = cells_to_run(plan.cells, ledger.attempts(), options.retry_failed)
                driver.run(todo, parent, interrupts)
        finally:
            executor.close()
        after = status(place, resolved, ledger)
        tracker.close_parent(parent, _parent_status(after))
    return after


def write_report(
    place: Place, name: str, formats: Sequence[str], out: Path | None
) -> tuple[report.Report, list[Path]]:
    """Write the tables of a study, ``name@scale``; returns the report and the files."""
    found = report.build(open_tracker(place.home, name, create=False), name)
    folder = out or place.home.reports(found.scale)
    return found, tables.write(found, formats, folder)


def reported_studies(place: Place, scale: str) -> list[str]:
    """Return the studies that have been run at this scale, of those whose files are known."""
    names = [spec.load(path).study for path in sweep_files().values()]
    return [
        name
        for name in names
        if (tracker := open_tracker(place.home, f"{name}@{scale}", create=False)) and tracker.plan()
    ]


def forget(place: Place, resolved: Resolved, cell: str | None) -> int:
    """Forget the attempts at one cell or at all; returns how many there were."""
    known = {str(status.id) for status in resolved.cells}
    if cell is not None and cell not in known:
        raise EcsweepError(
            f"{resolved.name} has no cell {cell}. See: ecsweep status {resolved.sweep.study}"
        )
    place.home.prepare()
    with study_lock(place.home, resolved.name):
        ledger = open_ledger(place.home, place.storage, resolved.name, create=False)
        tracker = open_tracker(place.home, resolved.name, create=False)
        gone = ledger.forget({cell} if cell else known) if ledger else []
        if tracker:
            tracker.forget([attempt.run_id for attempt in gone])
    return len(gone)


def built_datasets(home: Home) -> list[Dataset]:
    """Return every built dataset, by name and then oldest first."""
    return [dataset for name in datasets.RECIPES for dataset in datasets.find(home, name)]


def find_dataset(home: Home, name: str) -> Dataset:
    """Return a dataset by name (the newest) or by the start of its fingerprint."""
    built = built_datasets(home)
    matching = [d for d in built if d.name == name or d.fingerprint.startswith(name)]
    if not matching:
        if name in datasets.RECIPES:
            raise EcsweepError(
                f"the dataset {name} is not built. "
                f"Build it with: ecsweep data build {name} --from FILE.tsv.gz"
            )
        datasets.check_name(name)
    return matching[-1]


def serve_ui(home: Home, port: int, announce: Callable[[str], None]) -> int:
    """Run the MLflow UI on 127.0.0.1 until it ends or Ctrl-C; returns its exit code."""
    uri = tracking_uri(home)
    if uri.startswith(("http://", "https://")):
        raise EcsweepError("MLFLOW_TRACKING_URI is a server: open its address in a browser.")
    if uri == f"sqlite:///{home.mlflow_db}":
        if not home.mlflow_db.exists():
            raise EcsweepError(f"{home.mlflow_db} does not exist yet. Run a study first.")
        open_tracker(home, "any", create=False)  # says so if the file is no database
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EcsweepError(
                f"port {port} on 127.0.0.1 is not free ({error.strerror}). "
                "Choose another with --port."
            ) from error
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_TRACKING_URI": uri}
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", uri,
        "--default-artifact-root", home.artifacts.resolve().as_uri(),
    ]  # fmt: skip
    announce(f"http://127.0.0.1:{port}")
    with subprocess.Popen(command, env=environment) as server:
        try:
            return server.wait()
        except KeyboardInterrupt:
            server.terminate()
            server.wait()
            return 0


def _executor(
    home: Home, resolved: Resolved, options: Options, todo: int, interrupts: Interrupts
) -> Executor:
    cores = usable_cores()
    if options.executor == "inline":
        return InlineExecutor(cores, interrupts)
    slots = options.workers or default_workers()
    if resolved.sweep.timing == "exclusive":
        slots = 1
    slots = max(1, min(slots, todo))
    return LocalExecutor(slots, max(1, cores // slots), home.work, resolved.name)


def _plan_document(resolved: Resolved) -> dict[str, Any]:
    """Return what the parent run stores: all that status and report need of the request."""
    request = resolved.request
    return {
        "study": resolved.sweep.study,
        "scale": request.scale,
        "title": resolved.sweep.title,
        "table": resolved.sweep.table,
        "timing": resolved.sweep.timing,
        "axes": list(resolved.plan.axes),
        "source": _source(resolved),
        "request": {"seeds": request.seeds, "set": dict(request.overrides)},
        "cells": [
            {
                "cell": cell.id,
                "params": cell.params,
                "seed": cell.seed,
                "dataset": cell.fingerprint,
            }
            for cell in resolved.cells
        ],
    }


def _source(resolved: Resolved) -> str:
    """Say on what data, and how much of it, the cells are trained."""
    parts = []
    for name, dataset in resolved.datasets.items():
        some = [cell.hyperparameters for cell in resolved.cells if cell.dataset == name]
        sizes = sorted({tuple(dataset.sizes(hp.train_size).values()) for hp in some})
        counts = " or ".join(
            f"{train:,} training, {valid:,} validation and {test:,} test sequences"
            for train, valid, test in sizes
        )
        lengths = " or ".join(map(str, sorted({hp.length for hp in some})))
        parts.append(
            f"dataset {name} from {dataset.card['source']}, {counts}, length {lengths}, "
            f"{dataset.card['split']} split"
        )
    return f"{resolved.request.scale.capitalize()} scale: {'; '.join(parts)}"


def _parent_status(after: StudyStatus) -> str:
    if after.done:
        return "FINISHED"
    return "FAILED" if after.count("failed") else "KILLED"


def _value(cell: Cell, name: str) -> Any:
    own: Mapping[str, Any] = {"model": cell.model, "dataset": cell.dataset, "split": cell.split}
    return own[name] if name in own else getattr(cell.hyperparameters, name)
