"""The driver: hands out the cells of a study and records what comes back.

One driver per study, so there is nothing to race for. Every step of recording
can be repeated, so a driver that dies at any point is repaired by the next, and
one whose databases are away for a while tries again.
"""

import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ec_sweep import checkpoints, own_models
from ec_sweep.attempts import AttemptFolder, Event, Limits, Result, Task
from ec_sweep.display import Display
from ec_sweep.errors import EcsweepError, StudyStoppedError
from ec_sweep.executors import Executor, Message
from ec_sweep.ledger import LOST_AT_MOST, Attempt, Ledger, lost_in_a_row
from ec_sweep.locations import Location
from ec_sweep.models import kind
from ec_sweep.outages import Outage, UnavailableError
from ec_sweep.own_building import NotAModelError
from ec_sweep.paths import Home
from ec_sweep.plan import Plan
from ec_sweep.recording import Recorder
from ec_sweep.sampling import Proposer
from ec_sweep.spec import Cell, Data
from ec_sweep.tracking import Tracker

_UNLIMITED = Limits()
SAME_ERROR_AT_MOST = 3
"""Cells that may fail with one and the same error before the study stops."""
_POLL = 0.2  # seconds between looks at Ctrl-C
_CHECK_LOCK = 30.0  # seconds between looks at the study's lock
_LOOK_AHEAD = 100  # waiting cells among which one is looked for that suits a worker


@dataclass(frozen=True)
class _Running:
    """An attempt that a worker is at, or whose end waits to be recorded."""

    cell: Cell
    attempt: Attempt


class Driver:
    """Runs a plan on an executor and records it in ledger and tracker."""

    def __init__(
        self,
        home: Home,
        plan: Plan,
        ledger: Ledger,
        tracker: Tracker,
        executor: Executor,
        display: Display,
        proposer: Proposer,
        limits: Limits = _UNLIMITED,
        still_held: Callable[[], bool] = lambda: True,
        location: Location | None = None,
    ) -> None:
        """Drive while ``still_held`` says that the study's lock is, which may be on a server."""
        self._home = home
        self._plan = plan
        self._recorder = Recorder(home, plan.study, ledger, tracker, location)
        self._ledger = ledger
        self._tracker = tracker
        self._executor = executor
        self._display = display
        self._proposer = proposer
        self._all_known = False
        self._limits = limits
        self._still_held = still_held
        self._held_until = time.monotonic() + _CHECK_LOCK
        self._running: dict[str, _Running] = {}
        self._said: deque[Message] = deque()
        self._outage = Outage()
        self._waiting: deque[Cell] = deque()
        self._alone: deque[Cell] = deque()
        self._history: dict[str, list[Attempt]] = {}
        self._errors: defaultdict[str, set[str]] = defaultdict(set)
        self._best: dict[Data, float] = {}
        self._asked = 0

    def run(self, cells: Sequence[Cell], parent: str, interrupts: Callable[[], int]) -> None:
        """Run cells until all are recorded, or until interrupted.

        ``interrupts`` counts the user's Ctrl-C: the first stops cleanly, the
        second at once; both leave the study to go on from. While a database is
        away, trials go on and what they say waits.

        Raises:
            EcsweepError: workers cannot start, or results cannot be written.
            StudyStoppedError: the same error came back in several cells.
        """
        self._history = self._ledger.attempts()
        for cell in cells:
            last = self._history.get(str(cell.id), [])[-1:]
            packed_too_tight = last and last[0].state == "interrupted" and last[0].failure == "oom"
            (self._alone if packed_too_tight else self._waiting).append(cell)
        try:
            self._loop(parent, interrupts)
        except Exception:  # whatever ends the study: no worker and no attempt is left running
            self._end_at_once()
            raise

    def _loop(self, parent: str, interrupts: Callable[[], int]) -> None:
        while self._running or (self._more and not self._asked):
            self._check_home()
            if interrupts() > self._asked:
                self._asked = interrupts()
                self._interrupt()
                continue
            self._write(parent)
            if self._asked and self._outage.reason and not self._training:
                self._leave_to_the_next()
            if self._running or self._more:  # a cluster may have no node just now
                self._listen()

    def _listen(self) -> None:
        """Take in what trials say; it is recorded afterwards, when the next ones are under way."""
        for message in self._executor.poll(_POLL):
            self._said.append(message)
            content = message.content
            if isinstance(content, Result) and content.outcome == "complete":
                data = self._running[message.run_id].cell.data
                self._best[data] = max(content.value or 0.0, self._best.get(data, -math.inf))

    @property
    def _more(self) -> bool:
        """Whether there may be cells that have not been begun."""
        return bool(self._waiting or self._alone or not self._all_known)

    @property
    def _training(self) -> int:
        """The number of trials that workers are at: those that have not said how they ended."""
        ended = {said.run_id for said in self._said if isinstance(said.content, Result)}
        return len(self._running.keys() - ended)

    @property
    def _all_well(self) -> bool:
        """Whether nothing that has been said, or is the matter, can change what comes next."""
        ends = [said.content for said in self._said if isinstance(said.content, Result)]
        well = all(end.outcome == "complete" for end in ends)
        return well and not self._outage.reason and not self._asked

    def _write(self, parent: str) -> None:
        """Record what trials have said and start new ones; what cannot be written now waits."""
        if self._outage.waits:
            return
        try:
            self._check_lock()
            if self._all_well:
                self._hand_out_waiting(parent)  # before recording, for which no worker is to wait
            self._record()
            if self._outage.reason:  # what was being written when it began may be there or not
                self._recorder.repair(self._running)
                self._history = {
                    cell: [own for own in attempts if own.run_id not in self._running]
                    for cell, attempts in self._ledger.attempts().items()
                }
                self._display.note("Everything that waited is recorded.")
                self._outage.end()
            if not self._asked:
                self._hand_out(parent)
        except UnavailableError as error:
            if not self._outage.reason:
                self._display.note(f"{error} Trials go on; what they measure waits.")
            self._outage.begin(str(error))

    def _record(self) -> None:
        """Record what trials have said, in order; it is forgotten only when it is written."""
        while self._said:
            run_id, first = self._said[0]
            if isinstance(first, Result):
                self._conclude(run_id, first)
                self._said.popleft()
                continue
            events, last = [], False
            for message in self._said:  # as many as go into one write
                if message.run_id != run_id:
                    break
                if last := isinstance(message.content, Result):
                    break
                events.append(message.content)
            self._observe(run_id, events, last)
            for _ in events:
                self._said.popleft()

    def _hand_out(self, parent: str) -> None:
        self._hand_out_waiting(parent)
        while self._training < self._executor.slots and self._draw():
            self._hand_out_waiting(parent)
        if self._alone and not self._running and self._executor.slots:
            self._executor.release()  # what idle workers hold in memory is missing to this cell
            self._issue(self._alone[0], parent, 1)
            self._alone.popleft()

    def _hand_out_waiting(self, parent: str) -> None:
        while self._waiting and self._training < self._executor.slots:
            ahead = itertools.islice(self._waiting, _LOOK_AHEAD)
            place = self._executor.prefer([kind(c.model, c.hyperparameters) for c in ahead])
            self._issue(self._waiting[place], parent, self._executor.company)
            del self._waiting[place]

    def _draw(self) -> bool:
        """Let a newly drawn cell wait, if there is one."""
        drawn = None if self._all_known else self._proposer.propose()
        self._all_known = drawn is None
        self._waiting.extend([drawn] if drawn else [])
        return drawn is not None

    def _issue(self, cell: Cell, parent: str, concurrency: int) -> None:
        """Start an attempt: MLflow run, then Optuna trial, then the worker."""
        history = self._history.get(str(cell.id), [])
        checkpoint = self._home.checkpoint(self._plan.study, str(cell.id))
        if not (history and history[-1].goes_on):  # another home may have ended or forgotten it
            checkpoints.remove(checkpoint)
        number = 1 + len(history)
        label = self._plan.label(cell)
        tags, point = self._proposer.tags(cell), self._proposer.point(cell)
        run_id = self._tracker.start(cell, number, parent, label, concurrency, tags)
        attempt = self._ledger.start(cell, number, run_id, concurrency, self._plan.axes, point)
        folder = AttemptFolder(self._home.attempt(run_id))
        folder.create()
        self._running[run_id] = _Running(cell, attempt)
        dataset = self._plan.datasets[cell.data]
        self._executor.submit(
            Task(
                run_id=run_id,
                folder=folder.path,
                model=cell.model,
                hyperparameters=cell.hyperparameters,
                seed=cell.seed,
                dataset=dataset.folder,
                sizes=dataset.sizes(cell.hyperparameters.train_size),
                classes=len(dataset.card["classes"]),
                cell=str(cell.id),
                checkpoint=checkpoint,
                checkpoint_every=self._limits.checkpoint_every,
                timeout=self._limits.timeout,
                about=self._plan.about(cell, self._limits.save_models),
                own=own_models.file_of(cell.model),
                to_beat=self._best.get(cell.data, -math.inf),
            )
        )
        self._display.started(cell)

    def _observe(self, run_id: str, events: Sequence[Event], last: bool) -> None:
        self._tracker.log(run_id, events, last)
        running = self._running[run_id]
        for event in events:
            if event.epoch:
                self._display.epoch(running.cell, event.epoch, event.metrics)
                if self._proposer.observe(running.cell, event.epoch, event.metrics):
                    self._executor.prune(run_id)
            if "node" in event.environment:
                self._display.placed(running.cell, event.environment["node"])
            if event.checkpoint:
                attempt = replace(running.attempt, reached=event.checkpoint)
                running = self._running[run_id] = replace(running, attempt=attempt)
            if "resumed" in event.environment:
                self._display.note(f"{running.cell.id} goes on {event.environment['resumed']}")

    def _conclude(self, run_id: str, result: Result) -> None:
        """Record an attempt, and decide whether its cell is tried again."""
        running = self._running[run_id]
        cell, history = running.cell, self._history.setdefault(running.attempt.cell, [])
        ended = replace(running.attempt, state=result.outcome, failure=result.failure)
        if result.failure == "lost" and self._asked:
            # The signal to stop reached the worker as well.
            result = replace(result, failure=None, message="")
        elif result.failure == "lost" and lost_in_a_row([*history, ended]) >= LOST_AT_MOST:
            result = replace(result, outcome="not_available")
        result = self._recorder.record(running.attempt, result)
        del self._running[run_id]
        history.append(replace(ended, state=result.outcome, failure=result.failure))
        self._proposer.ended(cell, result)
        self._display.ended(cell, result)
        if result.outcome == "interrupted" and result.failure:  # lost, or packed too tight
            alone = (
                result.failure == "oom" or running.attempt.concurrency == 1 < self._executor.company
            )
            (self._alone if alone else self._waiting).appendleft(cell)
        elif result.outcome == "interrupted" and result.message:
            raise EcsweepError(f"{result.message}. Make room; the same command then goes on.")
        elif result.failure == "error":
            self._count_error(cell, result)

    def _count_error(self, cell: Cell, result: Result) -> None:
        kind, _, said = result.message.partition(": ")
        if kind == NotAModelError.__name__:  # no cell of it can be trained
            raise EcsweepError(said)
        frames = [line for line in result.traceback.splitlines() if line.startswith("  File ")]
        cells = self._errors[f"{kind.partition(':')[0]} {frames[-1:]}"]
        cells.add(str(cell.id))
        if len(cells) >= SAME_ERROR_AT_MOST:
            raise StudyStoppedError(
                f"the same error in {len(cells)} cells stopped the study:\n{result.traceback}"
            )

    def _check_home(self) -> None:
        """Raise an error when the home folder is gone: SQLite would go on writing to nowhere."""
        if not self._home.work.is_dir():
            self._running.clear()  # there is nothing left to record them in
            raise EcsweepError(
                f"the home folder {self._home.root} was removed while the study ran. Bring it "
                "back; the same command then goes on from what it holds."
            )

    def _check_lock(self, now: bool = False) -> None:
        """Raise an error when the study is no longer this driver's to write."""
        if time.monotonic() < self._held_until and not self._outage.reason and not now:
            return
        try:
            held = self._still_held()
        except EcsweepError:
            self._running.clear()  # another driver records them
            raise
        if not held:
            raise UnavailableError("the ledger's server does not answer.")
        self._held_until = time.monotonic() + _CHECK_LOCK

    def _interrupt(self) -> None:
        if self._asked == 1:
            self._display.note("Stopping: waiting for the running trials (Ctrl-C again: at once).")
            self._executor.stop()
        else:
            self._end_at_once()

    def _end_at_once(self) -> None:
        """Kill the workers, and record what their attempts have come to."""
        self._executor.close()
        try:
            if self._running:
                self._check_lock(now=True)
            for run_id, running in list(self._running.items()):
                result = self._recorder.record_remains(running.attempt)
                del self._running[run_id]
                self._display.ended(running.cell, result)
        except UnavailableError as error:
            self._outage.begin(str(error))
            self._leave_to_the_next()

    def _leave_to_the_next(self) -> None:
        """Leave what cannot be recorded in the work folders, where the next driver finds it."""
        self._display.note(f"{self._outage.reason} The next start records what is missing.")
        self._running.clear()
