"""A worker process: trains the cells it is sent until its driver is gone."""

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from ec_sweep.attempts import AttemptFolder, Event, Order, Result, Task
from ec_sweep.sharing import Seat

_BEAT = 5.0
"""Seconds from one sign of life to the next."""


_NOT_NEEDED = ("matplotlib", "pandas", "sklearn")
"""What Keras imports where it is installed, to draw, take data frames and be an estimator: more
than a second of a worker's start, for nothing that it does."""


@dataclass(frozen=True)
class Beat:
    """A worker's sign of life, as it begins a trial and from between two batches."""


@dataclass(frozen=True)
class CannotStart:
    """A worker's only message when its libraries do not load."""

    reason: str


def serve(
    connection: Connection,
    driver: int,
    log: Path,
    seat: Seat,
    deterministic: bool,
) -> None:
    """Be a worker: train what arrives until the driver is gone."""
    _redirect_output(log)
    faulthandler.enable()
    _die_with(driver)
    _take(seat)
    orders = _Orders(connection)
    try:
        with _hidden(_NOT_NEEDED):
            from ec_sweep import trial
        trial.configure(seat.threads, deterministic, seat.memory)
    except Exception as error:  # a broken installation: no cell's fault, so no trial's result
        traceback.print_exc()
        connection.send(CannotStart(f"{type(error).__name__}: {error}".splitlines()[0]))
        return
    while (task := orders.tasks.get()) is not None:
        orders.say(Beat())  # from here on its time counts, that of building the network too
        with AttemptFolder(task.folder).lock() as held:
            if not held:
                raise RuntimeError(f"another worker holds {task.folder}")
            result = trial.run(task, orders.say, orders)
        if orders.terminated and result.outcome == "interrupted":
            result = replace(result, failure="lost", message="its worker was ended by SIGTERM")
        orders.say(result)


class _Orders:
    """What the driver, or the system by SIGTERM, asks of the trial under way.

    Threads listen, so that an order arrives while the trial computes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._order: Order | None = None
        self._beat = time.monotonic()
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        """What to train; ``None`` ends the worker."""
        self.terminated = False
        for listen in (self._listen, self._listen_to_system):
            threading.Thread(target=listen, daemon=True).start()

    def __call__(self) -> Order | None:
        """Return the order for the trial under way, and tell the driver that it lives."""
        if time.monotonic() - self._beat > _BEAT:
            self.say(Beat())
        return "stop" if self.terminated else self._order

    def say(self, content: Event | Result | Beat) -> None:
        """Tell the driver something; without a driver there is nothing to live for."""
        self._beat = time.monotonic()
        try:
            self._connection.send(content)
        except OSError:  # no failure of the trial
            os._exit(1)

    def _listen(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(1)
            if isinstance(message, Task):
                self._order = None
                self.tasks.put(message)
            elif self._order != "stop":
                self._order = message

    def _listen_to_system(self) -> None:
        """Take SIGTERM as the order to stop: the trial leaves a checkpoint first."""
        signal.sigwait({signal.SIGTERM})  # blocked from birth, so that it waits here
        self.terminated = True
        self.tasks.put(None)


@contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """Let imports within the block find none of these packages; later ones find them again."""
    absent = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type] # None is Python's own mark for absent
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def _take(seat: Seat) -> None:
    """Set what the backend reads from the environment when it is imported."""
    wanted = seat.environment()
    if "XLA_CLIENT_MEM_FRACTION" in os.environ:  # JAX refuses both
        wanted.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)
    for name, value in wanted.items():
        if name.startswith("CUDA"):
            os.environ[name] = value
        else:  # what the user has set holds
            os.environ.setdefault(name, value)


def _redirect_output(log: Path) -> None:
    """Keep what the worker and its native libraries print out of the terminal."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, sys.stdout.fileno())
    os.dup2(handle, sys.stderr.fileno())
    os.close(handle)


def _die_with(driver: int) -> None:
    """Make the kernel kill this process when the driver dies, even deep in native code.

    Elsewhere than on Linux the listening thread does it, as soon as Python runs.
    """
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != driver:  # it died before we asked
        os._exit(1)
