"""Where training stands, kept on disk so that another attempt at the cell goes on from there.

A checkpoint is one ``.npz`` file: arrays (weights, optimizer, metrics) and a JSON
document (history and position). Nothing in it is pickled, and its checksums show
a damaged file.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep.attempts import Event
from ec_sweep.paths import open_atomically

Array = npt.NDArray[Any]

_FORMAT = 1


class UnreadableError(Exception):
    """A checkpoint that is damaged, or not one of this cell's model."""


@dataclass
class Position:
    """How far training has come, beside what the arrays hold."""

    epochs: list[Event] = field(default_factory=list)
    """The epochs that have ended, with their metrics."""
    compiled: list[int] = field(default_factory=list)
    """The epochs, from 1, that traced and compiled: the first of an attempt, on a new network."""
    batch: int = 0
    """Batches done of the epoch under way."""
    seconds: float = 0.0
    """Training time of the epoch under way so far."""
    fit_seconds: float = 0.0
    """Training and validation time so far."""
    trained: dict[str, float] = field(default_factory=dict)
    """Training metrics of the epoch under way, where only its validation is left."""


@dataclass(frozen=True)
class Checkpoint:
    """A position and the arrays that go with it, in groups such as ``model`` and ``optimizer``."""

    position: Position
    arrays: Mapping[str, Sequence[Array]]

    def write(self, path: Path) -> None:
        """Write the file aside and rename it: a crash leaves the checkpoint before."""
        document = {"format": _FORMAT, **asdict(self.position)}
        named: dict[str, Any] = {
            f"{group}.{number}": array
            for group, arrays in self.arrays.items()
            for number, array in enumerate(arrays)
        }
        with open_atomically(path) as file:
            np.savez(file, document=np.array(json.dumps(document)), **named)


def read(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file, ``None`` when there is none.

    Raises:
        UnreadableError: the file is damaged, or of another version.
    """
    groups: dict[str, list[Array]] = {}
    try:
        with np.load(path, allow_pickle=False) as found:
            document = json.loads(str(found["document"]))
            if document.pop("format") != _FORMAT:
                raise UnreadableError("it is of another version of ecsweep")
            for name in found.files:
                if name != "document":
                    groups.setdefault(name.partition(".")[0], []).append(found[name])
        document["epochs"] = [Event(**epoch) for epoch in document["epochs"]]
        return Checkpoint(Position(**document), groups)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever the readers make of damaged bytes
        reason = str(error) or type(error).__name__
        raise UnreadableError(reason.splitlines()[0]) from error


def remove(path: Path) -> None:
    """Delete a checkpoint that is of no more use, and the folders that it leaves empty."""
    if not path.parent.exists():
        return
    path.unlink(missing_ok=True)
    for unfinished in path.parent.glob(f".{path.name}.*"):  # of a worker killed while writing
        unfinished.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: other cells' checkpoints are there
        path.parent.rmdir()
        path.parent.parent.rmdir()
