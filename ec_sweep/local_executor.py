"""Long-lived worker processes on this machine. One that dies becomes a result like any other."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from ec_sweep.attempts import AttemptFolder, Order, Result, Task, now
from ec_sweep.errors import EcsweepError
from ec_sweep.executors import Message, preferred
from ec_sweep.failures import speaks_of_memory, timed_out
from ec_sweep.machine import MEMORY_PER_WORKER, memory_of, oom_kills, visible_gpus
from ec_sweep.models import MODELS, Kind, kind
from ec_sweep.worker import Beat, CannotStart, serve

_GRACE = 60.0
"""Seconds that a worker has to stop a trial when asked to: it writes a checkpoint first."""
_EXIT = 5.0
"""Seconds that a worker which has closed its pipe has to be gone."""
_LAST_WORDS = 4000
"""Characters of a lost worker's log that are kept."""


@dataclass
class _Worker:
    """A worker process as the driver sees it."""

    process: SpawnProcess
    connection: Connection
    deterministic: bool
    log: Path
    task: Task | None = None
    heard: float = 0.0
    """When it last said something, by the monotonic clock."""
    began: float | None = None
    """When it first said something of its task: it may have to start first."""
    oom_kills: int = 0
    """Processes that the system had killed for memory when the task was submitted."""
    log_start: int = 0
    """Bytes of the log that speak of earlier trials."""
    kind: Kind = None
    """Of its last task: it has compiled that network."""

    def give(self, task: Task) -> None:
        """Send a task; a worker that died idle is found at the next poll."""
        self.task = task
        self.kind = kind(task.model, task.hyperparameters)
        self.heard, self.began = time.monotonic(), None
        self.oom_kills = oom_kills()
        with contextlib.suppress(FileNotFoundError):  # it has not started yet
            self.log_start = self.log.stat().st_size
        self.order(task)

    def order(self, message: Task | Order) -> None:
        """Send a message; a dead worker is found at the next poll."""
        with contextlib.suppress(OSError):
            self.connection.send(message)


class LocalExecutor:
    """Long-lived worker processes on this machine, each serving one trial at a time."""

    def __init__(
        self,
        slots: int,
        threads: int,
        logs: Path,
        name: str,
        *,
        deterministic: bool = False,
        silence: float = 1800,
    ) -> None:
        """Take a worker that says nothing for ``silence`` seconds of a trial for hung."""
        self.slots = slots
        self._threads = threads
        self._silence = silence
        self._logs = logs
        self._name = name
        self._deterministic = deterministic
        self._gpus = visible_gpus()
        self._workers: list[_Worker | None] = [None] * slots
        self._stopping = False

    def start(self) -> None:
        """See `Executor`."""
        for slot in range(self.slots):
            self._workers[slot] = self._spawn(slot, self._deterministic)

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`."""
        workers = list(filter(None, self._workers))
        idle = [worker.kind for worker in workers if not worker.task]
        return preferred(kinds, idle, [worker.kind for worker in workers if worker.task])

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        deterministic = task.hyperparameters.deterministic
        slot = self._slot(deterministic, kind(task.model, task.hyperparameters))
        worker = self._workers[slot]
        if worker is None or not self._suits(slot, deterministic):
            if worker:
                self._end(worker)
            worker = self._workers[slot] = self._spawn(slot, deterministic)
        worker.give(task)

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`."""
        busy = {worker.connection: worker for worker in self._workers if worker and worker.task}
        ready = wait(list(busy), timeout)
        said: list[Message] = []
        for connection, worker in busy.items():
            said += self._receive(worker) if connection in ready else self._overdue(worker)
        return said

    def release(self) -> None:
        """See `Executor`."""
        for slot, worker in enumerate(self._workers):
            if worker and not worker.task:
                self._end(worker)
                self._workers[slot] = None

    def prune(self, run_id: str) -> None:
        """See `Executor`."""
        for worker in filter(None, self._workers):
            if worker.task and worker.task.run_id == run_id:
                worker.order("prune")

    def stop(self) -> None:
        """See `Executor`; a worker that does not answer in time is killed by a timer."""
        self._stopping = True
        busy = [worker for worker in self._workers if worker and worker.task]
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
        for worker in filter(None, self._workers):
            self._end(worker)
        self._workers = [None] * self.slots

    def _slot(self, deterministic: bool, wanted: Kind) -> int:
        """Return the free slot that suits a task best: one whose worker has compiled its network.

        Determinism is a switch of the whole process: it needs a worker born with it.
        """

        def rank(slot: int) -> tuple[bool, bool]:
            worker = self._workers[slot]
            return self._suits(slot, deterministic), bool(worker and worker.kind == wanted)

        idle = [slot for slot, worker in enumerate(self._workers) if not (worker and worker.task)]
        return max(idle, key=rank)

    def _suits(self, slot: int, deterministic: bool) -> bool:
        worker = self._workers[slot]
        return (
            worker is not None
            and worker.deterministic == deterministic
            and worker.process.is_alive()
        )

    def _spawn(self, slot: int, deterministic: bool) -> _Worker:
        ours, theirs = multiprocessing.Pipe()
        log = self._logs / f"{self._name}-worker-{slot}.log"
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        process = multiprocessing.get_context("spawn").Process(
            target=serve,
            args=(theirs, os.getpid(), log, self._threads, deterministic, gpu),
            name=f"ecsweep-worker-{slot}",
            daemon=True,
        )
        # Ctrl-C and SIGTERM reach the whole group: they are the driver's to handle, and a worker
        # is born deaf to them. It dies with the driver, or by SIGKILL.
        resource_tracker.ensure_running()  # which would let the signals through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            process.start()
        except OSError as error:
            raise EcsweepError(f"a worker cannot be started ({error.strerror}).") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Worker(process, ours, deterministic, log)

    def _receive(self, worker: _Worker) -> Iterator[Message]:
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
                    worker.task = None
                    self._recycle(worker, leaving=content.failure == "lost")
                if not isinstance(content, Beat):
                    yield Message(task.run_id, content)
        except (EOFError, OSError):
            worker.process.join(_EXIT)
            yield self._bury(worker, task, self._lost(worker))

    def _overdue(self, worker: _Worker) -> Iterator[Message]:
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

    def _bury(self, worker: _Worker, task: Task, result: Result) -> Message:
        """End a worker that is of no more use; what it has left counts before ``result``."""
        self._end(worker)
        worker.task = None
        self._workers[self._workers.index(worker)] = None
        return Message(task.run_id, AttemptFolder(task.folder).result() or result)

    def _recycle(self, worker: _Worker, leaving: bool) -> None:
        """End a worker that is about to go, or that has grown.

        Libraries do not give all memory back between trials.
        """
        if leaving or memory_of(worker.process.pid or 0) > MEMORY_PER_WORKER:
            self._workers[self._workers.index(worker)] = None
            self._end(worker)

    def _lost(self, worker: _Worker) -> Result:
        if self._stopping:
            return Result("interrupted", now())
        code, last_words = worker.process.exitcode, ""
        cause = _cause_of_death(code)
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

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join(_EXIT)  # one that a device holds up in the kernel never runs again
        worker.connection.close()
        worker.log.unlink(missing_ok=True)


def _cause_of_death(code: int | None) -> str:
    if code is None:
        return "cut off from its driver"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):  # a signal without a name
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
