"""A worker process: trains the cells it is sent until its driver is gone."""

import ctypes
import faulthandler
import os
import queue
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from ec_sweep.attempts import AttemptFolder, Event, Result, Task


@dataclass(frozen=True)
class CannotStart:
    """A worker's only message when its libraries do not load."""

    reason: str


def serve(
    connection: Connection,
    driver: int,
    log: Path,
    threads: int,
    deterministic: bool,
    gpu: str | None,
) -> None:
    """Be a worker: train what arrives until the driver is gone."""
    _redirect_output(log)
    faulthandler.enable()
    _die_with(driver)
    if gpu is not None:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    stopped = threading.Event()
    threading.Thread(target=_listen, args=(connection, tasks, stopped), daemon=True).start()
    try:
        from ec_sweep import trial

        trial.configure(threads, deterministic)
    except Exception as error:  # a broken installation: no cell's fault, so no trial's result
        traceback.print_exc()
        connection.send(CannotStart(f"{type(error).__name__}: {error}".splitlines()[0]))
        return

    def say(content: Event | Result) -> None:
        try:
            connection.send(content)
        except OSError:  # the driver is gone: no failure of the trial
            os._exit(1)

    while True:
        task = tasks.get()
        with AttemptFolder(task.folder).lock() as held:
            if not held:
                raise RuntimeError(f"another worker holds {task.folder}")
            result = trial.run(task, say, stopped.is_set)
        say(result)


def _listen(
    connection: Connection, tasks: "queue.SimpleQueue[Task]", stopped: threading.Event
) -> None:
    """Pass on tasks; ``None`` stops the trial under way; end with the driver."""
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        if message is None:
            stopped.set()
        else:
            tasks.put(message)


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
