"""Where trials run: inline (debugging) or in long-lived local worker processes.

An executor takes tasks and gives back messages; it knows nothing of studies,
Optuna or MLflow. A worker that dies becomes a result like any other.
"""

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple, Protocol

from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now

MEMORY_PER_WORKER = 2_500_000_000
"""Bytes that a worker is reckoned to need: TensorFlow, and the single CNN at paper scale."""
_GRACE = 15.0
"""Seconds that a worker has to stop a trial when asked to."""


class Message(NamedTuple):
    """What a trial says: an event while it runs, its result at the end."""

    run_id: str
    content: Event | Result


class Executor(Protocol):
    """The contract that all executors share."""

    slots: int
    """Trials that run side by side."""

    def start(self) -> None:
        """Begin to get ready; returns at once."""
        ...

    def submit(self, task: Task) -> None:
        """Run a task on a free slot; never called without one."""
        ...

    def poll(self, timeout: float) -> list[Message]:
        """Return what arrived, after at most ``timeout`` seconds if nothing did."""
        ...

    def stop(self) -> None:
        """Ask every running trial to stop; its result arrives as a message."""
        ...

    def close(self) -> None:
        """End everything, at once."""
        ...


class InlineExecutor:
    """Runs trials in this process, one at a time."""

    slots = 1

    def __init__(self, threads: int, interrupts: Callable[[], int]) -> None:
        self._threads = threads
        self._interrupts = interrupts
        self._task: Task | None = None

    def start(self) -> None:
        """See `Executor`."""
        from ec_sweep import trial

        trial.configure(self._threads, deterministic=False)

    def submit(self, task: Task) -> None:
        """See `Executor`; the trial runs at the next poll."""
        self._task = task

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`; blocks for the whole trial."""
        from ec_sweep import trial

        if self._task is None:
            time.sleep(timeout)
            return []
        task, self._task = self._task, None
        said: list[Event | Result] = []
        with AttemptFolder(task.folder).lock():
            result = trial.run(task, said.append, lambda: bool(self._interrupts()))
        said.append(result)
        return [Message(task.run_id, content) for content in said]

    def stop(self) -> None:
        """See `Executor`; the trial itself looks at the interrupts."""

    def close(self) -> None:
        """See `Executor`."""


@dataclass
class _Worker:
    """A worker process as the driver sees it."""

    process: SpawnProcess
    connection: Connection
    deterministic: bool
    log: Path
    task: Task | None = None


class LocalExecutor:
    """Long-lived worker processes on this machine, each serving one trial at a time."""

    def __init__(self, slots: int, threads: int, logs: Path, name: str) -> None:
        self.slots = slots
        self._threads = threads
        self._logs = logs
        self._name = name
        self._gpus = visible_gpus()
        self._workers: list[_Worker | None] = [None] * slots
        self._stopping = False

    def start(self) -> None:
        """See `Executor`."""
        for slot in range(self.slots):
            self._workers[slot] = self._spawn(slot, deterministic=False)

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        deterministic = task.hyperparameters.deterministic
        idle = [slot for slot, worker in enumerate(self._workers) if not (worker and worker.task)]
        # Determinism is a switch of the whole process: it needs a worker born with it.
        slot = next((s for s in idle if self._suits(s, deterministic)), idle[0])
        worker = self._workers[slot]
        if worker is None or not self._suits(slot, deterministic):
            if worker:
                self._end(worker)
            worker = self._workers[slot] = self._spawn(slot, deterministic)
        worker.task = task
        with contextlib.suppress(OSError):  # a worker that died idle: the next poll finds it
            worker.connection.send(task)

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`."""
        busy = {worker.connection: worker for worker in self._workers if worker and worker.task}
        ready = wait(list(busy), timeout)
        return [message for worker in map(busy.get, ready) for message in self._receive(worker)]  # type: ignore[arg-type]

    def stop(self) -> None:
        """See `Executor`; a worker that does not answer in time is killed by a timer."""
        self._stopping = True
        busy = [worker for worker in self._workers if worker and worker.task]
        for worker in busy:
            with contextlib.suppress(OSError):
                worker.connection.send(None)

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
            if worker.task is None:
                worker.log.unlink(missing_ok=True)
        self._workers = [None] * self.slots

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
            target=_serve,
            args=(theirs, os.getpid(), log, self._threads, deterministic, gpu),
            name=f"ecsweep-worker-{slot}",
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, deterministic, log)

    def _receive(self, worker: _Worker) -> Iterator[Message]:
        """Yield what a worker has said; if it died, the result of the trial that it left."""
        task = worker.task
        assert task is not None
        try:
            while worker.task and worker.connection.poll():
                content = worker.connection.recv()
                if isinstance(content, Result):
                    worker.task = None
                yield Message(task.run_id, content)
        except (EOFError, OSError):
            worker.process.join()
            worker.task = None
            self._workers[self._workers.index(worker)] = None
            written = AttemptFolder(task.folder).result()  # perhaps just before it died
            yield Message(task.run_id, written or self._lost(worker))

    def _lost(self, worker: _Worker) -> Result:
        if self._stopping:
            return Result("interrupted", now())
        code = worker.process.exitcode or 0
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return Result(
            "interrupted",
            now(),
            failure="lost",
            message=f"its worker was {cause}; see {worker.log}",
        )

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.connection.close()


def _serve(
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
    _die_with(driver)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    stopped = threading.Event()
    threading.Thread(target=_listen, args=(connection, tasks, stopped), daemon=True).start()
    from ec_sweep import trial

    trial.configure(threads, deterministic)
    while True:
        task = tasks.get()
        with AttemptFolder(task.folder).lock() as held:
            if not held:
                raise RuntimeError(f"another worker holds {task.folder}")
            result = trial.run(task, connection.send, stopped.is_set)
        connection.send(result)


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


def visible_gpus() -> list[str]:
    """Return the names under which CUDA knows the GPUs of this machine; the driver has no CUDA."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)
    return listed.stdout.split() if listed.returncode == 0 else []


def usable_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """Return how many workers this machine can hold: one a GPU, else one a core.

    On CPUs several single-threaded workers beat one with many threads.
    """
    import psutil

    in_memory = int(psutil.virtual_memory().available // MEMORY_PER_WORKER)
    return max(1, min(len(visible_gpus()) or usable_cores(), in_memory))
