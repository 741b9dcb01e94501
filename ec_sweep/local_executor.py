"""Long-lived worker processes on this machine. One that dies becomes a result like any other."""

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.errors import EcsweepError
from ec_sweep.executors import Message, preferred
from ec_sweep.failures import speaks_of_memory, timed_out
from ec_sweep.machine import available_memory, cards, memory_of, oom_kills
from ec_sweep.models import MODELS, Kind, kind
from ec_sweep.sharing import Layout, Sharing
from ec_sweep.worker import Beat, CannotStart
from ec_sweep.worker_process import EXIT, Worker, born, cause_of_death

_GRACE = 60.0
"""Seconds that a worker has to stop a trial when asked to: it writes a checkpoint first."""
_LAST_WORDS = 4000
"""Characters of a lost worker's log that are kept."""
_REVIEW = 1.0
"""Seconds from one look at the workers' memory to the next."""


class LocalExecutor:
    """Long-lived worker processes on this machine, each serving one trial at a time."""

    def __init__(
        self,
        frame: Layout,
        logs: Path,
        name: str,
        *,
        deterministic: bool = False,
        silence: float = 1800,
    ) -> None:
        """Take a worker that says nothing for ``silence`` seconds of a trial for hung."""
        self.note: Callable[[str], None] = lambda _: None
        self._sharing = Sharing(frame, available_memory, cards)
        self._silence = silence
        self._logs = logs
        self._name = name
        self._deterministic = deterministic
        self._workers: list[Worker | None] = [None] * frame.most
        self._alone = self._stopping = False
        self._reviewed = time.monotonic()

    @property
    def slots(self) -> int:
        """See `Executor`."""
        return self._sharing.slots

    @property
    def company(self) -> int:
        """See `Executor`."""
        return self._sharing.company

    @property
    def _living(self) -> list[Worker]:
        return [worker for worker in self._workers if worker]

    def start(self) -> None:
        """See `Executor`."""
        for slot in range(self.slots):
            self._workers[slot] = self._spawn(slot, self._deterministic)

    def settle(self) -> None:
        """See `Executor`; an attempt's lock tells."""

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`."""
        idle = [worker.kind for worker in self._living if not worker.task]
        return preferred(kinds, idle, [worker.kind for worker in self._living if worker.task])

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        deterministic = task.hyperparameters.deterministic
        slot = self._slot(deterministic, kind(task.model, task.hyperparameters))
        worker = self._workers[slot]
        # Determinism is a switch of the whole process: it needs a worker born with it.
        if worker is None or not self._suits(slot, deterministic):
            if worker:
                worker.end()
            worker = self._workers[slot] = self._spawn(slot, deterministic)
        self._alone = False
        worker.give(task)
        self._count_company()

    def _count_company(self) -> None:
        busy = [worker for worker in self._living if worker.task]
        on_card = Counter(self._sharing.card(worker.slot) for worker in busy)
        for worker in busy:
            worker.beside = max(worker.beside, len(busy))
            worker.on_card = max(worker.on_card, on_card[self._sharing.card(worker.slot)])

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`."""
        busy = {worker.connection: worker for worker in self._living if worker.task}
        ready = wait(list(busy), timeout)
        said: list[Message] = []
        for connection, worker in busy.items():
            said += self._receive(worker) if connection in ready else self._overdue(worker)
        self._review()
        return said

    def _review(self) -> None:
        """Look how many workers memory holds, end idle ones beyond that, and say what is new."""
        if time.monotonic() - self._reviewed >= _REVIEW:
            self._reviewed = time.monotonic()
            living = self._living
            self._sharing.review([memory_of(worker.process.pid or 0) for worker in living])
            idle = [worker for worker in living if not worker.task]
            for worker in idle[: max(0, len(living) - self.slots)]:
                self._dismiss(worker)
        while self._sharing.said:
            self.note(self._sharing.said.pop(0))

    def release(self) -> None:
        """See `Executor`."""
        for worker in self._living:
            if not worker.task:
                self._dismiss(worker)
        self._alone = not self._living  # the next one gets what the machine has

    def prune(self, run_id: str) -> None:
        """See `Executor`."""
        for worker in self._living:
            if worker.task and worker.task.run_id == run_id:
                worker.order("prune")

    def stop(self) -> None:
        """See `Executor`; a worker that does not answer in time is killed by a timer."""
        self._stopping = True
        busy = [worker for worker in self._living if worker.task]
        for worker in busy:
            worker.order("stop")

        def kill_busy() -> None:
            for worker in busy:
                if worker.task:
                    worker.process.kill()

        timer = threading.Timer(_GRACE, kill_busy)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """See `Executor`."""
        for worker in self._living:
            worker.end()
        self._workers = [None] * len(self._workers)

    def _slot(self, deterministic: bool, wanted: Kind) -> int:
        """Return the free slot that suits a task best: one whose worker has compiled its network.

        Cards are filled evenly, and a worker that is there is better than a new one. Determinism
        is a switch of the whole process: it needs a worker born with it.
        """
        busy = Counter(self._sharing.card(own.slot) for own in self._living if own.task)

        def rank(slot: int) -> tuple[int, bool, bool, bool]:
            worker, suits = self._workers[slot], self._suits(slot, deterministic)
            compiled = bool(worker and worker.kind == wanted)
            return -busy[self._sharing.card(slot)], suits, compiled, worker is not None

        idle = [slot for slot, worker in enumerate(self._workers) if not (worker and worker.task)]
        return max(idle, key=rank)

    def _suits(self, slot: int, deterministic: bool) -> bool:
        worker = self._workers[slot]
        return (
            worker is not None
            and worker.deterministic == deterministic
            and worker.process.is_alive()
        )

    def _spawn(self, slot: int, deterministic: bool) -> Worker:
        log = self._logs / f"{self._name}-worker-{slot}.log"
        return born(slot, self._sharing.seat(slot, alone=self._alone), deterministic, log)

    def _receive(self, worker: Worker) -> Iterator[Message]:
        """Yield what a worker has said; if it died, the result of the trial that it left."""
        task = worker.task
        assert task is not None
        try:
            while worker.task and worker.connection.poll():
                content = worker.connection.recv()
                worker.heard = time.monotonic()
                worker.began = worker.began or worker.heard
                if isinstance(content, CannotStart):
                    raise EcsweepError(f"a worker cannot start: {content.reason}.")
                if isinstance(content, Result):
                    yield Message(task.run_id, Event(now(), environment=worker.surroundings()))
                    self._learn_from_end(worker, content)
                    worker.task = None
                    self._recycle(worker, leaving=content.failure == "lost")
                else:
                    self._learn(worker, task, content)
                if not isinstance(content, Beat):
                    yield Message(task.run_id, content)
        except (EOFError, OSError):
            worker.process.join(EXIT)
            if worker.began is None and worker.trials > 1 and not self._stopping:
                self._dismiss(worker)  # it died idle: this trial had not begun
                self.submit(task)
            else:
                yield self._bury(worker, task, self._lost(worker))

    def _learn(self, worker: Worker, task: Task, content: Event | Beat) -> None:
        """Take what a trial under way says of memory and speed."""
        slot = worker.slot
        if isinstance(content, Event) and content.epoch and content.timestamp >= worker.begun:
            self._sharing.measured(memory_of(worker.process.pid or 0), fresh=worker.trials == 1)
            if worker.since:
                self._sharing.epoch(slot, task, content, worker.since)
                worker.since = self._sharing.mark(slot)
                return
        elif task.hyperparameters.epochs > 1:  # the first epoch compiles, and tells nothing
            return
        if worker.since is None:
            worker.since = self._sharing.mark(slot)
            self._sharing.trains(slot, 1)

    def _learn_from_end(self, worker: Worker, result: Result) -> None:
        """Take what the end of a trial says of memory."""
        if worker.since:
            self._sharing.trains(worker.slot, -1)
        if result.failure == "oom" and worker.on_card > 1:
            self._sharing.out_of_memory()
        peak = result.metrics.get("peak_memory_mb", 0.0) * 2**20
        self._sharing.measured(int(peak), fresh=worker.trials == 1)

    def _overdue(self, worker: Worker) -> Iterator[Message]:
        """Yield the result of a trial that has hung or takes too long; its worker is killed."""
        task, time_ = worker.task, time.monotonic()
        assert task is not None
        spent = time_ - (worker.began or time_)
        # An estimator is fitted in one call, and has no batches to speak between.
        silent = MODELS[task.model].is_network and time_ - worker.heard > self._silence
        if task.timeout is not None and spent > task.timeout + _GRACE:
            yield self._bury(worker, task, timed_out(f"it took longer than {task.timeout:g} s"))
        elif silent:
            message = f"its worker was silent for {self._silence:g} s"
            lost = Result("interrupted", now(), failure="lost", message=message)
            yield self._bury(worker, task, lost)

    def _bury(self, worker: Worker, task: Task, result: Result) -> Message:
        """End a worker that is of no more use; what it has left counts before ``result``."""
        self._dismiss(worker)
        worker.task = None
        result = AttemptFolder(task.folder).result() or result
        self._learn_from_end(worker, result)
        return Message(task.run_id, result)

    def _recycle(self, worker: Worker, leaving: bool) -> None:
        """End a worker that is about to go, has grown, or may take too much of its card.

        Libraries do not give all memory back between trials.
        """
        grown = self._sharing.grown(memory_of(worker.process.pid or 0))
        if leaving or grown or self._sharing.too_wide(worker.seat):
            self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        """End a worker; its slot is free for a new one."""
        self._workers[worker.slot] = None
        worker.end()

    def _lost(self, worker: Worker) -> Result:
        if self._stopping:
            return Result("interrupted", now())
        code, last_words = worker.process.exitcode, ""
        cause = cause_of_death(code)
        with contextlib.suppress(OSError):  # the log says what a library said at the end
            said = worker.log.read_bytes()[worker.log_start :]
            last_words = said.decode(errors="replace")[-_LAST_WORDS:]
        # The kernel kills without a word; libraries say why before they abort.
        by_kernel = code == -signal.SIGKILL and oom_kills() > worker.oom_kills
        if by_kernel or speaks_of_memory(last_words):
            message = f"its worker was {cause}, out of memory"
            return Result("not_available", now(), {}, None, "oom", message, last_words)
        return Result(
            "interrupted",
            now(),
            failure="lost",
            message=f"its worker was {cause}",
            traceback=last_words,
        )
