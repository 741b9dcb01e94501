"""One attempt at a cell: the task, its events and result, and the folder that keeps them.

The worker writes the folder, the driver reads it when recording. A folder whose
lock is held belongs to a living worker.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.own_building import OwnFile
from ec_sweep.paths import write_atomically
from ec_sweep.saving import About, Keep

Outcome = Literal["complete", "interrupted", "failed", "not_available", "pruned"]
"""How an attempt ended; the last attempt's outcome is its cell's state."""


@dataclass(frozen=True)
class Task:
    """What a worker needs to know to train one cell."""

    run_id: str
    folder: Path
    model: str
    hyperparameters: Hyperparameters
    seed: int
    dataset: Path
    sizes: dict[str, int]
    """Sequences used of each part."""
    classes: int
    cell: str = ""
    """The cell's ID."""
    checkpoint: Path | None = None
    """The file that keeps where training stands; ``None``: an attempt begins at the beginning."""
    checkpoint_every: float = 300
    """Seconds of training from one checkpoint to the next."""
    timeout: float | None = None
    """Seconds that this attempt may take."""
    about: About | None = None
    """What the trained model is to say of itself; ``None``: it is not saved."""
    own: OwnFile | None = None
    """The user's file that the model stands in; ``None``: it comes with ecsweep."""
    to_beat: float = -math.inf
    """Validation accuracy of the best cell of its dataset that is complete, as far as known."""


@dataclass(frozen=True)
class Limits:
    """What trials may take and leave, and how much of one a crash may cost."""

    checkpoint_every: float = 300
    """Seconds of training from one checkpoint to the next."""
    timeout: float | None = None
    """Seconds that a trial may take."""
    save_models: Keep = "none"


Order = Literal["stop", "prune"]
"""What a driver asks of a trial under way."""


@dataclass(frozen=True)
class Event:
    """Something that happened while a cell trains: an epoch, a checkpoint, or what it runs on."""

    timestamp: int
    """Milliseconds since 1970; kept when an event is delivered again."""
    epoch: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    checkpoint: int = 0
    """Training steps that are safe in the checkpoint just written."""


@dataclass(frozen=True)
class Result:
    """How an attempt ended, and its final metrics."""

    outcome: Outcome
    timestamp: int
    metrics: dict[str, float] = field(default_factory=dict)
    value: float | None = None
    """What the study compares: validation accuracy after the last epoch."""
    failure: str | None = None
    """``error``, ``diverged``, ``oom``, ``timeout`` or ``lost``."""
    message: str = ""
    traceback: str = ""


def now() -> int:
    """Return milliseconds since 1970, MLflow's clock."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class AttemptFolder:
    """``events.jsonl``, ``predictions.npz``, ``model``, ``result.json`` and the attempt's lock."""

    path: Path

    @property
    def predictions(self) -> Path:
        """Test ids, labels and probabilities."""
        return self.path / "predictions.npz"

    @property
    def model(self) -> Path:
        """The folder of the trained model (`ec_sweep.saving`)."""
        return self.path / "model"

    def create(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def append(self, event: Event) -> None:
        """Keep an event; a crash tears its line at worst."""
        with (self.path / "events.jsonl").open("a") as file:
            file.write(json.dumps(asdict(event)) + "\n")

    def events(self) -> list[Event]:
        """Return the events kept, without lines that a crash or a full disk has torn."""
        try:
            lines = (self.path / "events.jsonl").read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):
                found.append(Event(**json.loads(line)))
        return found

    def write_result(self, result: Result) -> None:
        """Keep the result: the attempt is over from here on."""
        write_atomically(self.path / "result.json", json.dumps(asdict(result), indent=1))

    def result(self) -> Result | None:
        """Return the result, ``None`` when the attempt never ended or it cannot be read."""
        try:
            return Result(**json.loads((self.path / "result.json").read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[bool]:
        """Hold the lock that says a worker lives here; yields False when another holds it.

        The system frees it when its process dies.
        """
        if not self.path.exists():
            yield True
            return
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def remove(self) -> None:
        """Delete the folder once everything in it is recorded."""
        shutil.rmtree(self.path, ignore_errors=True)
