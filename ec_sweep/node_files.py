"""What ecsweep keeps on a node of a cluster while agents run there: a dataset, attempts under way.

Everything lies in one folder of the user's below the system's temporary one. A dataset is placed
once for all agents of a node; whoever leaves last removes it, and the next to come removes what
agents that were killed have left.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ec_sweep.errors import EcsweepError
from ec_sweep.paths import open_atomically

Fetch = Callable[[Any], Any]
"""From the address of an array in the cluster to the array."""


class NodeFiles:
    """The files of one agent on its node."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        """Take a folder named ``name`` for its own attempts; the user alone may look into it."""
        self._root = root or Path(tempfile.gettempdir()) / f"ecsweep-{os.getuid()}"
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._root.stat().st_uid != os.getuid():
            raise EcsweepError(f"{self._root} belongs to another user. Remove it, or set TMPDIR.")
        self._held: dict[str, int] = {}
        with self._alone():
            self._sweep()
            self._own = self._hold(f"agent-{name}")

    def attempt(self, run_id: str) -> Path:
        """Return the folder of an attempt under way."""
        return self._own / run_id

    def checkpoint(self, cell: str) -> Path:
        """Return the file that keeps where the training of a cell stands."""
        return self._own / "checkpoints" / f"{cell}.npz"

    @property
    def logs(self) -> Path:
        """The folder of the logs of workers."""
        return self._own

    def dataset(self, fingerprint: str, arrays: Mapping[str, Any], fetch: Fetch) -> Path:
        """Return the folder of a dataset on this node; the first to ask brings it."""
        name = f"data-{fingerprint}"
        with self._alone():
            folder = self._root / name if name in self._held else self._hold(name)
            for file_name, address in arrays.items():
                if not (folder / file_name).exists():
                    with open_atomically(folder / file_name) as file:
                        np.save(file, fetch(address))
        return folder

    def leave(self) -> None:
        """Remove this agent's folder, and datasets that no other agent uses."""
        with self._alone():
            for handle in self._held.values():
                os.close(handle)
            self._held.clear()
            self._sweep()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other agents of the node from coming and leaving within the block."""
        with (self._root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _hold(self, name: str) -> Path:
        """Make a folder, and keep others from removing it while this process lives."""
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        handle = os.open(self._root / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_SH)
        self._held[name] = handle
        return folder

    def _sweep(self) -> None:
        """Remove the folders that no living agent holds."""
        for folder in self._root.iterdir():  # what a worker wrote after its agent had left
            if folder.is_dir() and not folder.with_name(f"{folder.name}.lock").exists():
                shutil.rmtree(folder, ignore_errors=True)
        for lock in self._root.glob("*.lock"):
            if lock.name == ".lock":
                continue
            handle = os.open(lock, os.O_RDWR)
            try:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink(missing_ok=True)
            finally:
                os.close(handle)
