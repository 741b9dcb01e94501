"""One driver per study: a lock that the system frees when its process dies.

A file lock in the home folder; where the ledger is on PostgreSQL, also an
advisory lock there, because drivers with other home folders share the ledger.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from ec_sweep import databases, hints
from ec_sweep.errors import EcsweepError
from ec_sweep.holders import NAMELESS, Holder, process_start
from ec_sweep.paths import Home, write_atomically
from ec_sweep.server_lock import ServerLock

_LOOK = 1.0  # seconds between looks at a lock that is waited for
_UNNAMED = 1.0  # seconds that the holder of a lock may take to say who it is


class StudyLock:
    """A study's lock while it is held."""

    def __init__(self, home: Home, study: str, storage: str | None) -> None:
        self._file = _FileLock(home.study_lock(study))
        self._server = None
        if storage and databases.is_postgresql(storage):
            self._server = ServerLock(storage, study)

    def take(self) -> Holder | None:
        """Take the lock; returns who holds it where that cannot be."""
        me = Holder(
            socket.gethostname(),
            os.getpid(),
            datetime.now(UTC).isoformat(timespec="seconds"),
            process_start(os.getpid()) or "",
        )
        holder = self._file.take()
        if holder is None and self._server:
            try:
                holder = self._server.take(me)
            except BaseException:  # Ctrl-C too: half a lock is none, and the error goes on
                self._file.release()
                raise
            if holder:
                self._file.release()
        if holder is None:
            self._file.name(me)
        return holder

    def check(self) -> bool:
        """Say whether the lock is held for certain, renewing a connection that was lost.

        False: the database server does not answer; nothing may be written before it does.

        Raises:
            EcsweepError: the lock is lost to another driver, or its file was removed.
        """
        self._file.check()
        return self._server is None or self._server.check()

    def release(self) -> None:
        """Free the lock."""
        if self._server:
            self._server.release()
        self._file.release()


@contextmanager
def study_lock(
    home: Home,
    study: str,
    storage: str | None,
    wait: Callable[[str], None] | None = None,
    interrupts: Callable[[], int] = lambda: 0,
) -> Iterator[StudyLock]:
    """Be the only driver of a study; the system frees the lock when this process dies.

    With ``wait``, which is told what is waited for, wait until it is free, or
    until there are ``interrupts``.

    Raises:
        EcsweepError: another driver holds it, with its host, process and start.
        KeyboardInterrupt: the waiting was interrupted.
    """
    lock, said = StudyLock(home, study, storage), ""
    while holder := lock.take():
        if wait is None:
            raise EcsweepError(
                f"{study} is being run by {holder}. Wait for it (--wait), or stop it there with "
                f"Ctrl-C or: {hints.on('cancel', study)}"
            )
        if said != str(holder):
            said = str(holder)
            wait(f"Waiting for {study}, which is being run by {said} (Ctrl-C ends the waiting).")
        time.sleep(_LOOK)
        if interrupts():
            raise KeyboardInterrupt
    try:
        yield lock
    finally:
        lock.release()


def holder_of(home: Home, study: str, storage: str | None) -> Holder | None:
    """Return who drives a study at this moment, ``None`` when nobody does."""
    file = _FileLock(home.study_lock(study))
    if holder := file.holder():
        return holder
    if storage and databases.is_postgresql(storage):
        return ServerLock(storage, study).holder()
    return None


class _FileLock:
    """The lock in the home folder, and the file beside it that names its holder."""

    def __init__(self, path: Path) -> None:
        from filelock import FileLock

        self._path = path
        self._note = path.with_suffix(".holder.json")
        self._lock = FileLock(path, mode=0o600)
        self._identity: tuple[int, int] | None = None

    def take(self) -> Holder | None:
        """Acquire the lock; returns who has it where that cannot be."""
        end = time.monotonic() + _UNNAMED
        while not self._acquire():
            # A note may be left of a driver that was killed, here or elsewhere; whoever has the
            # lock then is about to name itself, or only looks whether the lock is free.
            holder = self._read()
            if holder and holder.alive:
                return holder
            if time.monotonic() > end:
                return holder if holder and not holder.here else NAMELESS
            time.sleep(0.05)
        self._identity = _inode(self._path)
        return None

    def name(self, me: Holder) -> None:
        write_atomically(self._note, json.dumps(asdict(me)), private=True)

    def holder(self) -> Holder | None:
        if not self._path.exists():
            return None
        holder = self.take()
        if holder is None:
            self._lock.release()
        return holder

    def check(self) -> None:
        if _inode(self._path) != self._identity:
            raise EcsweepError(
                f"{self._path} was removed while its study was run, so that another driver could "
                "run it too. Start the study again; what was recorded is kept."
            )

    def release(self) -> None:
        if _inode(self._path) == self._identity:  # else it is another driver's
            self._note.unlink(missing_ok=True)
        self._lock.release()

    def _acquire(self) -> bool:
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def _read(self) -> Holder | None:
        try:
            return Holder(**json.loads(self._note.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
