"""Where trials run: the contract of executors, and the one that needs no processes.

An executor takes tasks and gives back messages; it knows nothing of studies,
Optuna or MLflow. Worker processes are in `ec_sweep.local_executor`.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.models import Kind, kind


class Message(NamedTuple):
    """What a trial says: an event while it runs, its result at the end."""

    run_id: str
    content: Event | Result


class Executor(Protocol):
    """The contract that all executors share."""

    note: Callable[[str], None]
    """Told in a line what is decided about workers; who shows a study sets it."""

    @property
    def slots(self) -> int:
        """Trials that may run side by side now."""
        ...

    @property
    def company(self) -> int:
        """Trials that one begun now may share the machine with, its own included."""
        ...

    def start(self) -> None:
        """Begin to get ready; returns at once."""
        ...

    def settle(self) -> None:
        """Wait until no trial of an earlier driver of the study can run any more.

        Where an attempt's lock tells that, there is nothing to wait for.
        """
        ...

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """Return which task of these kinds a free slot takes with the least to prepare."""
        ...

    def submit(self, task: Task) -> None:
        """Run a task on a free slot; never called without one."""
        ...

    def poll(self, timeout: float) -> list[Message]:
        """Return what arrived, after at most ``timeout`` seconds if nothing did."""
        ...

    def release(self) -> None:
        """Give back what idle workers hold; the next trial then has the machine to itself."""
        ...

    def prune(self, run_id: str) -> None:
        """Ask a trial to end because others do better; its result arrives as a message."""
        ...

    def stop(self) -> None:
        """Ask every running trial to stop; its result arrives as a message."""
        ...

    def close(self) -> None:
        """End everything, at once."""
        ...


def preferred(kinds: Sequence[Kind], idle: Sequence[Kind], busy: Sequence[Kind]) -> int:
    """Return which of the waiting tasks to take next; there are some.

    One of a kind that an idle worker has at hand, else one whose kind no worker
    has, so that few networks are compiled twice; else the first.
    """
    for place, wanted in enumerate(kinds):
        if wanted is not None and wanted in idle:
            return place
    for place, wanted in enumerate(kinds):
        if wanted is None or wanted not in busy:
            return place
    return 0


class InlineExecutor:
    """Runs trials in this process, one at a time."""

    slots = company = 1

    def __init__(self, threads: int, interrupts: Callable[[], int]) -> None:
        self.note: Callable[[str], None] = lambda _: None
        self._threads = threads
        self._interrupts = interrupts
        self._task: Task | None = None
        self._kind: Kind = None
        self._to_say = ""

    def start(self) -> None:
        """See `Executor`."""
        from ec_sweep import trial

        try:
            trial.configure(self._threads, deterministic=False)
        except RuntimeError as error:  # TensorFlow's, in a process that has computed with it
            self._to_say = f"Trials take the threads that this process has ({error})."

    def settle(self) -> None:
        """See `Executor`; an attempt's lock tells."""

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`."""
        return preferred(kinds, [self._kind], [])

    def submit(self, task: Task) -> None:
        """See `Executor`; the trial runs at the next poll."""
        self._task = task
        self._kind = kind(task.model, task.hyperparameters)

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`; blocks for the whole trial."""
        from ec_sweep import trial

        if self._to_say:
            self.note(self._to_say)
            self._to_say = ""
        if self._task is None:
            time.sleep(timeout)
            return []
        task, self._task = self._task, None
        said: list[Event | Result] = []
        with AttemptFolder(task.folder).lock():
            result = trial.run(task, said.append, lambda: "stop" if self._interrupts() else None)
        said.append(result)
        return [Message(task.run_id, content) for content in said]

    def release(self) -> None:
        """See `Executor`; there are none."""

    def prune(self, run_id: str) -> None:
        """See `Executor`; the trial has ended before its driver learns of its epochs."""

    def stop(self) -> None:
        """See `Executor`; the trial itself looks at the interrupts."""

    def close(self) -> None:
        """See `Executor`."""
