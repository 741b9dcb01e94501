"""The commands without their clothes: wires the parts together, prints nothing."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from ec_sweep import checkpoints, describing, gone, hints
from ec_sweep.attempts import Limits
from ec_sweep.display import Display
from ec_sweep.errors import EcsweepError
from ec_sweep.executors import Executor, InlineExecutor
from ec_sweep.experiments import open_tracker, tracked_studies
from ec_sweep.ledger import Ledger
from ec_sweep.ledger_store import known_attempts, open_ledger
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.locations import Location
from ec_sweep.locks import StudyLock, study_lock
from ec_sweep.machine import usable_cores, visible_gpus
from ec_sweep.membership import Wanted
from ec_sweep.mlflow_store import ui_address
from ec_sweep.paths import Home
from ec_sweep.plan import cells_to_run
from ec_sweep.planning import Place, Resolved, StudyStatus, plan_document, status, sweep_files
from ec_sweep.publishing import Publisher
from ec_sweep.ray_executor import RayExecutor
from ec_sweep.recording import Recorder, remove_logs
from ec_sweep.sampling import open_proposer
from ec_sweep.sharing import Asked, layout
from ec_sweep.spec import Cell
from ec_sweep.study import Driver
from ec_sweep.tracking import Tracker


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

    asked: Asked = field(default_factory=Asked)
    executor: str = "local"
    retry_failed: bool = False
    limits: Limits = field(default_factory=Limits)
    silence: float = 1800
    """Seconds after which a worker that says nothing is taken for hung."""
    cluster: Wanted = field(default_factory=Wanted)
    """What is asked of a Ray cluster, where trials run on one."""
    artifacts: str | None = None
    """The place that all machines of a cluster reach, by its address."""
    wait: Callable[[str], None] | None = None
    """Told what a study waits for that another driver runs; ``None``: it does not wait."""


ShowProgress = Callable[[int, int, Callable[[Cell], str]], AbstractContextManager[Display]]
"""Makes the display for so many cells, of which so many are done."""


def run_study(
    place: Place,
    resolved: Resolved,
    options: Options,
    show: ShowProgress,
    interrupts: Interrupts,
) -> StudyStatus | None:
    """Run what is not done of a study; returns the state of every cell.

    ``None`` where that cannot be told, because a database is away.

    Raises:
        EcsweepError: another driver runs it, or its state cannot be used.
        StudyStoppedError: one error came back in several cells.
    """
    home, name = place.home, resolved.name
    deterministic = any(cell.hyperparameters.deterministic for cell in resolved.examples)
    if options.executor == "inline" and deterministic:
        raise EcsweepError(
            "cells with deterministic: true need worker processes. Use --executor local."
        )
    lock = study_lock(home, name, place.storage, options.wait, interrupts)
    with interrupts.caught(), lock as held:
        ledger = open_ledger(home, place.storage, name)
        attempts = ledger.attempts()
        if lost := gone.of_study(place, name, len(attempts), ledger):
            raise EcsweepError(lost)
        resolved = resolved.after(attempts)
        todo = cells_to_run(resolved.cells, attempts, options.retry_failed)
        remove_logs(home, name)
        executor = _executor(home, resolved, options, todo, interrupts, ledger)
        try:
            if todo or resolved.to_draw:
                executor.start()  # imports TensorFlow while the driver prepares
            tracker = open_tracker(home, name)
            session = _Session(place, resolved, ledger, tracker, held)
            try:
                session.drive(executor, options, show, interrupts)
            finally:
                after = session.close()
        finally:
            executor.close()
    return after


@dataclass(frozen=True)
class _Session:
    """A study while this process drives it."""

    place: Place
    resolved: Resolved
    ledger: Ledger
    tracker: Tracker
    held: StudyLock

    def drive(
        self,
        executor: Executor,
        options: Options,
        show: ShowProgress,
        interrupts: Interrupts,
    ) -> None:
        """Repair what earlier drivers left, and run what is not done."""
        home, resolved, tracker = self.place.home, self.resolved, self.tracker
        location = _location(options, resolved.name, self.ledger)
        executor.settle()
        parent = tracker.open_parent(resolved.sweep.title)
        plan_name = tracker.store_plan(parent, plan_document(resolved))
        for dataset in resolved.datasets.values():
            tracker.store_card(parent, dataset.card)
        Recorder(home, resolved.name, self.ledger, tracker, location).repair()
        describing.begin(tracker, parent, status(self.place, resolved, self.ledger))
        attempts = self.ledger.attempts()
        proposer = open_proposer(
            resolved.cells, resolved.sampled, resolved.sweep.pruner, attempts,
            tracker, resolved.datasets, plan_name,
        )  # fmt: skip
        todo = cells_to_run(proposer.cells, attempts, options.retry_failed)
        total = len(proposer.cells) + resolved.to_draw
        done = len(proposer.cells) - len(todo)
        plan = resolved.plan
        with show(total, done, plan.label) as display:
            executor.note = display.note
            driver = Driver(
                home, plan, self.ledger, tracker, executor, display, proposer,
                options.limits, self.held.check, location,
            )  # fmt: skip
            driver.run(todo, parent, interrupts)

    def close(self) -> StudyStatus | None:
        """End the study's own run; returns the state of every cell.

        ``None`` where a database is away, or the study is another driver's by now.
        """
        try:
            if not self.held.check():
                return None
            after = status(self.place, self.resolved, self.ledger)
            unfinished = "FAILED" if after.count("failed") else "KILLED"
            self.tracker.close_parent("FINISHED" if after.done else unfinished)
        except EcsweepError:  # what ended the study says why
            return None
        with contextlib.suppress(EcsweepError):  # a database is away: the next start describes it
            self._describe(after)
        return after

    def _describe(self, after: StudyStatus) -> None:
        """Have the study's page in MLflow's UI show what came of it."""
        sweep, scale = self.resolved.sweep, self.resolved.request.scale
        made = publisher(self.place, scale, (), only=[sweep.study])
        table = made.table(sweep.study) if sweep.study in made.reports else None
        if parent := self.tracker.parent_id():
            self.tracker.page.describe(parent, describing.text(after, table), sweep.title)


def publisher(
    place: Place,
    scale: str,
    formats: Sequence[str],
    out: Path | None = None,
    only: Sequence[str] | None = None,
) -> Publisher:
    """Return what writes the reports of the studies that have been run at a scale, or of some."""
    gone.check_tracking(place.home)
    trackers = tracked_studies(place.home, scale, only)
    known = [name for name in sweep_files() if name in trackers]
    order = [*known, *(name for name in trackers if name not in known)]
    folder = out or place.home.reports(scale)
    found = {name: trackers[name] for name in order}
    return Publisher(found, scale, formats, folder, ui_address(place.home))


def attempts_at(place: Place, resolved: Resolved, cell: str | None) -> int:
    """Count the attempts at one cell of a study, or at all."""
    attempts = known_attempts(place.home, place.storage, resolved.name)
    asked = {str(own.id) for own in resolved.after(attempts).cells}
    if cell is not None and cell not in asked | attempts.keys():
        raise EcsweepError(
            f"{resolved.name} has no cell {cell}. See: {hints.on('status', resolved.name)}"
        )
    return sum(len(attempts.get(name, ())) for name in ([cell] if cell else asked))


def forget(place: Place, resolved: Resolved, cell: str | None) -> int:
    """Forget the attempts at one cell or at all; returns how many there were."""
    place.home.prepare()
    with study_lock(place.home, resolved.name, place.storage):
        ledger = open_ledger(place.home, place.storage, resolved.name)
        tracker = open_tracker(place.home, resolved.name)
        recorder = Recorder(place.home, resolved.name, ledger, tracker)
        recorder.repair()  # attempts of a driver that died end first
        known = {str(own.id) for own in resolved.after(ledger.attempts()).cells}
        cells = {cell} if cell else known
        for name in cells:  # first: a cell that is forgotten does not go on from anywhere
            checkpoints.remove(place.home.checkpoint(resolved.name, name))
        gone = ledger.forget(cells)
        there = {run.run_id for run in tracker.runs()}  # MLflow may have lost some for good
        tracker.forget([attempt.run_id for attempt in gone if attempt.run_id in there])
    return len(gone)


def _location(options: Options, study: str, ledger: Ledger) -> Location | None:
    if not options.artifacts:
        return None
    url = options.artifacts
    if "://" not in url:  # nodes begin elsewhere than this process
        url = str(Path(url).expanduser().absolute())
    return Location(url, f"{study}-{ledger.key}")


def _executor(
    home: Home,
    resolved: Resolved,
    options: Options,
    todo: Sequence[Cell],
    interrupts: Interrupts,
    ledger: Ledger,
) -> Executor:
    cores = usable_cores()
    exclusive = resolved.sweep.timing == "exclusive"
    first = any(cell.hyperparameters.deterministic for cell in (todo or resolved.examples)[:1])
    if options.executor == "inline":
        return InlineExecutor(options.asked.threads or cores, interrupts)
    if options.executor == "ray":
        wanted = replace(options.cluster, exclusive=exclusive)
        location = _location(options, resolved.name, ledger)
        return RayExecutor(
            wanted, f"{resolved.name}-{ledger.key}", location,
            interrupts=interrupts, silence=options.silence,
        )  # fmt: skip
    frame = layout(
        options.asked,
        cores,
        visible_gpus(),
        len(todo) + resolved.to_draw,
        exclusive=exclusive,
    )
    return LocalExecutor(
        frame,
        home.work,
        resolved.name,
        deterministic=first,
        silence=options.silence,
    )
