"""Every path that ecsweep reads or writes, and how files are written."""

import contextlib
import errno
import hashlib
import os
import sqlite3
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from ec_sweep.errors import EcsweepError

_BLOCK = 1 << 20  # bytes
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise where a file of arrays is missing or damaged."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System errors that say there is no room to write."""

# SQLite's locks and ours are advisory file locks, which these file systems do not keep reliably.
_NETWORK_FILE_SYSTEMS = {
    "afs", "beegfs", "ceph", "cifs", "fuse.sshfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "smb2", "smb3", "smbfs",
}  # fmt: skip


@dataclass(frozen=True)
class Home:
    """The folder under which all state lives (``--home``, ``ECSWEEP_HOME``)."""

    root: Path

    @property
    def mlflow_db(self) -> Path:
        """MLflow's database: what the attempts measured."""
        return self.root / "mlruns" / "mlflow.db"

    @property
    def studies_db(self) -> Path:
        """Optuna's database: which attempts run, are done or failed."""
        return self.root / "mlruns" / "studies.db"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts."""
        return self.root / "mlruns" / "artifacts"

    @property
    def work(self) -> Path:
        """Attempts under way, study locks and worker logs."""
        return self.root / "mlruns" / "work"

    @property
    def data(self) -> Path:
        """Built datasets, ``<name>/<fingerprint>/``."""
        return self.root / "data"

    @property
    def sources(self) -> Path:
        """Imported files, ``<source>/``."""
        return self.data / "sources"

    @property
    def sweeps(self) -> Path:
        """Sweeps that were given in Python, a file each."""
        return self.root / "mlruns" / "sweeps"

    @property
    def downloads(self) -> Path:
        """What ``data fetch`` gets, unless ``--out`` says otherwise."""
        return self.data / "downloads"

    def reports(self, scale: str) -> Path:
        """Where the tables of one scale are written unless ``--out`` says otherwise."""
        return self.root / "reports" / scale

    def attempt(self, run_id: str) -> Path:
        """Return the work folder of one attempt at a cell, named by its MLflow run."""
        return self.work / run_id

    def checkpoint(self, study: str, cell: str) -> Path:
        """Return the file from which the next attempt at a cell of ``study`` goes on."""
        return self.checkpoints(study) / f"{cell}.npz"

    def study_lock(self, study: str) -> Path:
        """Return the file whose lock is held by the driver of ``study`` (``name@scale``)."""
        return self.work / f"{study}.lock"

    def checkpoints(self, study: str) -> Path:
        """Return the folder of what the unfinished cells of ``study`` go on from."""
        return self.work / "checkpoints" / study

    def prepare(self) -> None:
        """Create the folders, or say in one line why that cannot be."""
        if set("?#%") & set(str(self.root)):
            raise EcsweepError(
                f"the home folder {self.root} must not have ?, # or % in its path, which database "
                "addresses cannot hold. Choose another with --home or ECSWEEP_HOME."
            )
        check_local(self.root)
        try:
            self.make_work()
            for folder in (self.work, self.artifacts, self.data, self.root / "reports"):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder) as probe:
                    probe.write(b"ecsweep")
        except OSError as error:
            raise EcsweepError(
                f"the home folder {self.root} cannot be written to "
                f"({error.strerror or error}). Choose another with --home or ECSWEEP_HOME."
            ) from error

    def make_work(self) -> None:
        """Create the work folder, which is its owner's alone."""
        self.work.parent.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(mode=0o700, exist_ok=True)
        if stat.S_IMODE(self.work.stat().st_mode) != 0o700:  # made by an older version
            self.work.chmod(0o700)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path``, ``""`` where it is not known."""
    import psutil

    path = path.resolve()
    mounts = [
        (len(Path(disk.mountpoint).parts), order, disk.fstype)  # a later mount hides an earlier one
        for order, disk in enumerate(psutil.disk_partitions(all=True))
        if path.is_relative_to(disk.mountpoint)
    ]
    return max(mounts)[2] if mounts else ""


def packed(name: str) -> Path:
    """Return a folder that comes with ecsweep: ``sweeps`` or ``data``.

    In an installed wheel it lies inside the package, in a checkout at the top.
    """
    package = Path(__file__).parent
    inside = package / "packed" / name
    return inside if inside.exists() else package.parent / name


@contextmanager
def open_atomically(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file to write: at every instant it is the old one or the new one, never a part.

    A private one is its owner's alone.
    """
    import psutil

    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob(f".{path.name}.*"):
        writer = other.name.rpartition(".")[2].partition("-")[0]
        if writer.isdigit() and not psutil.pid_exists(int(writer)):  # killed while writing
            other.unlink(missing_ok=True)
    handle, name = _beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o600 if private else 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:  # Ctrl-C too: nothing half-written stays, and the error goes on
        with contextlib.suppress(FileNotFoundError):  # it has just got its name
            os.unlink(name)
        raise


def _beside(path: Path) -> tuple[int, str]:
    """Make a file of this process beside another one; returns its handle and name."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # who removes what is empty came between
            path.parent.mkdir(parents=True, exist_ok=True)
            return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{os.getpid()}-")


def write_atomically(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write a small file like `open_atomically`."""
    with open_atomically(path, private=private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def file_digest(path: Path, over: Callable[[], bool] = lambda: False) -> str:
    """Return the sha256 of a file, in hex; of less of it once it is ``over``."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while (block := file.read(_BLOCK)) and not over():
            digest.update(block)
    return digest.hexdigest()


def no_room(error: BaseException | None) -> str | None:
    """Return one line if an error, or what caused it, is that nothing can be written any more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return f"{error.filename or 'the home folder'}: {error.strerror}"
        if "database or disk is full" in str(error):
            return "a database of the home folder: database or disk is full"
        error = error.__cause__ or error.__context__
    return None


def make_database(path: Path, make: Callable[[str], object]) -> None:
    """Make an SQLite database aside, by its URL, and put it in place when it is complete.

    Schemas are made in many steps; one cut off in between could never be opened.
    """
    from filelock import FileLock

    with FileLock(path.parent / "work" / f"{path.name}.lock"):
        if path.exists():
            return
        aside = path.with_name(f".{path.name}.new")
        for leftover in path.parent.glob(f"{aside.name}*"):
            leftover.unlink()
        make(f"sqlite:///{aside}")
        os.replace(aside, path)


def check_local(path: Path) -> None:
    """Raise an error when ``path`` is on a network file system."""
    kind = file_system(path)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise EcsweepError(
            f"{path} is on a network file system ({kind}), where SQLite and file locks are "
            "unsafe. Choose a local folder with --home or ECSWEEP_HOME."
        )


def check_sqlite(path: Path) -> None:
    """Raise an error when SQLite cannot be used at ``path``.

    That is on a network file system, or where a file stands that is no database.
    """
    check_local(path)
    if not path.exists():
        return
    # SQLite itself has to look: closing a file that this process opened otherwise would take the
    # locks from all its connections, and another process would delete the log that they write.
    try:
        uri = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        hint = ""
        if "readonly" in str(error):
            hint = " To look takes leave to write as well: copy the home folder, or ask its owner."
        raise EcsweepError(f"{path}: cannot be opened ({error}).{hint}") from error
    except sqlite3.DatabaseError as error:
        raise EcsweepError(
            f"{path}: not an SQLite database ({error}). Move it away, or choose another home "
            "with --home."
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
