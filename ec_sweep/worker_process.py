"""A worker process as its driver sees it: started, given trials, ended."""

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType

from ec_sweep.attempts import Order, Task, now
from ec_sweep.errors import EcsweepError
from ec_sweep.machine import mps_runs, oom_kills
from ec_sweep.models import Kind, kind
from ec_sweep.sharing import Seat
from ec_sweep.worker import serve

EXIT = 5.0
"""Seconds that a worker which has closed its pipe has to be gone."""


@dataclass
class Worker:
    """A worker process as the driver sees it."""

    process: SpawnProcess
    connection: Connection
    deterministic: bool
    log: Path
    slot: int
    seat: Seat
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
    trials: int = 0
    """Trials that it was given."""
    begun: int = 0
    """When the task was given, in milliseconds since 1970."""
    beside: int = 1
    """The most trials that there have been at once since then, its own included."""
    on_card: int = 1
    """The most of those on its card."""
    since: tuple[float, float] | None = None
    """From when on its epochs are measured; ``None`` before it trains."""

    def give(self, task: Task) -> None:
        """Send a task; a worker that died idle is found at the next poll."""
        self.task = task
        self.kind = kind(task.model, task.hyperparameters)
        self.heard, self.began = time.monotonic(), None
        self.trials += 1
        self.begun, self.beside, self.on_card, self.since = now(), 1, 1, None
        self.oom_kills = oom_kills()
        with contextlib.suppress(FileNotFoundError):  # it has not started yet
            self.log_start = self.log.stat().st_size
        self.order(task)

    def order(self, message: Task | Order) -> None:
        """Send a message; a dead worker is found at the next poll."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def end(self) -> None:
        """End it at once; its log goes with it."""
        self.process.kill()
        self.process.join(EXIT)  # one that a device holds up in the kernel never runs again
        self.connection.close()
        self.log.unlink(missing_ok=True)

    def surroundings(self) -> dict[str, str]:
        """Say what a trial shared: provenance."""
        found = {
            "worker_threads": str(self.seat.threads),
            "trials_at_once": str(self.beside),
        }
        if self.seat.gpu is None:
            return found
        memory = self.seat.fraction
        return found | {
            "gpu": self.seat.gpu,
            "gpu_share": str(self.on_card),
            "gpu_memory": "as needed" if memory is None else f"{memory:.1%} of the card",
            "cuda_mps": str(mps_runs()).lower(),
        }


def born(slot: int, seat: Seat, deterministic: bool, log: Path) -> Worker:
    """Start a worker process.

    Raises:
        EcsweepError: the system starts no more processes.
    """
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve,
        args=(theirs, os.getpid(), log, seat, deterministic),
        name=f"ecsweep-worker-{slot}",
        daemon=True,
    )
    # Ctrl-C and SIGTERM reach the whole group: they are the driver's to handle, and a worker
    # is born deaf to them. It dies with the driver, or by SIGKILL.
    resource_tracker.ensure_running()  # which would let the signals through again
    with _signals_blocked(), _without_main():
        try:
            process.start()
        except OSError as error:
            raise EcsweepError(f"a worker cannot be started ({error.strerror}).") from error
    theirs.close()
    return Worker(process, ours, deterministic, log, slot, seat)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Have a process that is started in the block deaf to Ctrl-C and SIGTERM."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Have a process that is started in the block not run the user's script again.

    Python would import it there, for functions that the script may have sent; a worker takes none
    of them, and a script without ``if __name__ == "__main__"`` would begin its study once more.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def cause_of_death(code: int | None) -> str:
    """Return in words how a process ended."""
    if code is None:
        return "cut off from its driver"
    if code >= 0:
        return f"ended with code {code}"
    with contextlib.suppress(ValueError):  # a signal without a name
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
