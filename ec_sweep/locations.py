"""A place that every machine of a cluster reaches: checkpoints, and what finished attempts left.

Any file system of fsspec's (``s3://``, ``gs://``, ``file://`` or a folder that is shared). Workers
write there and drivers read there, so a trial that loses its machine goes on from its checkpoint,
and one that finished while its driver was away is recorded by the next.

    <location>/<study>-<key>/checkpoints/<cell>.npz
    <location>/<study>-<key>/attempts/<run>/…        result.json is written last

The key is that of the study's ledger: homes that share a place keep out of each other's way.
"""

import functools
import shutil
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.outages import UnavailableError

RESULT = "result.json"
_MARK = ".driver-"


@dataclass(frozen=True)
class Location:
    """The part of a place that belongs to one study, ``name@scale-key``."""

    url: str
    study: str

    @functools.cached_property
    def _files(self) -> tuple[Any, str]:
        """The file system, and the study's folder in it.

        Raises:
            EcsweepError: fsspec, or what it needs for such an address, is not installed.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise EcsweepError(
                "--artifacts needs fsspec. Install it with: pip install 'ecsweep[ray]'"
            ) from error
        try:
            system, root = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise EcsweepError(f"--artifacts {self.url} cannot be used ({error}).") from error
        return system, f"{root.rstrip('/')}/{self.study}"

    def check(self) -> str:
        """Leave a mark by which an agent sees that its place is this one; returns its name.

        Raises:
            EcsweepError: nothing can be written there.
        """
        mark = f"{_MARK}{uuid.uuid4().hex}"
        try:
            with self._reached() as (system, root):
                system.makedirs(root, exist_ok=True)
                system.pipe_file(f"{root}/{mark}", b"ecsweep")
            for name in self._names(""):
                if name.startswith(_MARK) and name != mark:  # of a driver that was killed
                    self._remove(name)
        except UnavailableError as error:
            raise EcsweepError(
                f"{error} Name a folder that this machine and every node of the cluster may "
                "write to."
            ) from error
        return mark

    def check_mounted(self) -> None:
        """Raise an error when a shared folder is away, and not only what was looked for in it.

        Raises:
            UnavailableError: the study's folder, which `check` has made, is not there.
        """
        with self._reached() as (system, root):
            if "file" in system.protocol:  # object stores have no folders
                system.info(root)

    def sees(self, mark: str) -> bool:
        """Say whether a mark is there."""
        with self._reached() as (system, root):
            system.invalidate_cache()
            return _is_there(system, f"{root}/{mark}")

    def remove_mark(self, mark: str) -> None:
        """Delete a mark."""
        self._remove(mark)

    def push_checkpoint(self, cell: str, path: Path) -> None:
        """Keep a cell's checkpoint; at every instant it is the old one or the new one."""
        self._put(path, f"checkpoints/{cell}.npz")

    def pull_checkpoint(self, cell: str, path: Path) -> None:
        """Bring a cell's checkpoint to a file, if there is one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._reached() as (system, root):
            source = f"{root}/checkpoints/{cell}.npz"
            system.invalidate_cache()
            if _is_there(system, source):
                system.get_file(source, str(path))
                return
        self.check_mounted()

    def remove_checkpoint(self, cell: str) -> None:
        """Delete a cell's checkpoint, if there is one."""
        self._remove(f"checkpoints/{cell}.npz")

    def push_attempt(self, run_id: str, folder: Path) -> None:
        """Keep what a finished attempt has left; it counts once its result is there."""
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in sorted(files, key=lambda path: path.name == RESULT):
            self._put(path, f"attempts/{run_id}/{path.relative_to(folder)}")

    def pull_attempt(self, run_id: str, folder: Path) -> bool:
        """Bring what a finished attempt has left into its folder; returns whether it is there."""
        with self._reached() as (system, root):
            source = f"{root}/attempts/{run_id}"
            system.invalidate_cache()
            if not _is_there(system, f"{source}/{RESULT}"):
                return False
            names = [name.removeprefix(source).lstrip("/") for name in system.find(source)]
            for name in sorted(names, key=lambda name: name == RESULT):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                aside = target.with_name(f".{target.name}.part")
                system.get_file(f"{source}/{name}", str(aside))
                aside.replace(target)
        return True

    def remove_attempt(self, run_id: str) -> None:
        """Delete what an attempt has left, if anything."""
        self._remove(f"attempts/{run_id}")

    def tidy(self, living: Container[str], unfinished: Container[str]) -> None:
        """Delete what no attempt that lives and no unfinished cell needs: crashes leave it."""
        for name in self._names("attempts"):
            if name not in living:
                self.remove_attempt(name)
        for name in self._names("checkpoints"):
            if name.removesuffix(".npz") not in unfinished:
                self._remove(f"checkpoints/{name}")

    def _names(self, folder: str) -> list[str]:
        with self._reached() as (system, root):
            system.invalidate_cache()
            try:
                found = system.ls(f"{root}/{folder}", detail=False)
            except FileNotFoundError:
                return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def _put(self, path: Path, name: str) -> None:
        """Write a file aside and rename it: object stores write whole objects in any case."""
        with self._reached() as (system, root):
            target = f"{root}/{name}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            if "file" not in system.protocol:
                system.put_file(str(path), target)
                return
            aside = f"{target}.{uuid.uuid4().hex}.part"
            shutil.copyfile(path, aside)
            Path(aside).replace(target)

    def _remove(self, name: str) -> None:
        with self._reached() as (system, root):
            try:
                system.rm(f"{root}/{name}", recursive=True)
            except FileNotFoundError:
                return

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Give the file system and the study's folder in it.

        Raises:
            UnavailableError: the file system failed within the block.
        """
        files = self._files
        try:
            yield files
        except Exception as error:  # each file system has errors of its own
            raise UnavailableError(
                f"--artifacts {self.url} cannot be reached or written to ({first_line(error)})."
            ) from error


def _is_there(system: Any, path: str) -> bool:
    """Say whether a file is there; that it cannot be looked at is an error, unlike `exists`."""
    try:
        system.info(path)
    except FileNotFoundError:
        return False
    return True
