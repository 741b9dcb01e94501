"""What crashes and hands leave in the files of a home folder."""

import functools
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from ec_sweep import datasets, hints, schemas, sources
from ec_sweep.errors import EcsweepError
from ec_sweep.findings import Finding
from ec_sweep.locks import holder_of
from ec_sweep.paths import Home, check_local, check_sqlite
from ec_sweep.schemas import Library
from ec_sweep.splits import PARTS

_TEMPORARY = re.compile(r"\..+\.(\d+)-[a-z0-9_]{8}")
"""Names that `write_atomically` gives to files that are not complete yet."""
_WORKER_LOG = re.compile(r"(.+@.+)-worker-\d+\.log")
_UI_LOG = re.compile(r"ui-(\d+)\.log")
_HOLDER = ".holder.json"


def database(home: Home, path: Path, library: Library) -> Iterator[Finding]:
    """Look at one of the SQLite databases as a file: readable, whole, of this version."""
    yield from _half_made(home, path)
    if not path.exists():
        return
    where = str(path)
    restore = "Put a backup in its place, or move it away"
    try:
        check_sqlite(path)
        with closing(sqlite3.connect(f"file:{quote(where)}?mode=rw", uri=True)) as connection:
            said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except (EcsweepError, sqlite3.DatabaseError) as error:
        yield Finding("database-unreadable", None, where, str(error), f"{restore}.")
        return
    if said != "ok":
        recover = f"sqlite3 {path} .recover | sqlite3 {path}.recovered"
        problem = f"SQLite finds it damaged: {said.splitlines()[-1]}"
        yield Finding("database-damaged", None, where, problem, f"{restore}; or try: {recover}")
        return
    revision = schemas.revision_of(path)
    age = schemas.age(library, revision)
    if age == "newer":
        problem, _, cure = schemas.newer(library, revision).partition(". ")
        yield Finding("schema-newer", None, where, problem, cure)
    elif age == "older":
        yield Finding(
            "schema-older",
            None,
            where,
            f"was written by an older {library.name} (schema {revision})",
            "back it up beside itself, migrate a copy, and put that in its place",
            lambda: _migrate(home, path, library),
        )


def _migrate(home: Home, path: Path, library: Library) -> None:
    driven = [lock.stem for lock in home.work.glob("*@*.lock") if holder_of(home, lock.stem, None)]
    if driven:
        raise EcsweepError(f"{driven[0]} is being run")
    home.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    schemas.migrate(path, library, home.work)


def _half_made(home: Home, path: Path) -> Iterator[Finding]:
    """Look for databases that were being made or migrated when their process died."""
    from filelock import FileLock, Timeout

    lock = FileLock(home.work / f"{path.name}.lock")

    def remove(file: Path) -> None:
        try:
            with lock.acquire(timeout=0):
                file.unlink(missing_ok=True)
        except Timeout as error:
            raise EcsweepError("it is being made at this moment") from error

    for kind in ("new", "migrating"):
        for file in sorted(path.parent.glob(f".{path.name}.{kind}*")):
            yield Finding(
                "database-half-made",
                None,
                str(file),
                "was being made when its process died",
                "remove it",
                functools.partial(remove, file),
            )


def files(home: Home, deep: bool) -> Iterator[Finding]:
    """Look at the home folder's files, but for databases and attempts."""
    try:
        check_local(home.root)
    except EcsweepError as error:
        yield Finding("network-file-system", None, str(home.root), str(error), "Move the home.")
    if home.work.exists() and home.work.stat().st_mode & 0o077:
        yield Finding(
            "permissions",
            None,
            str(home.work),
            f"others may read it (mode {home.work.stat().st_mode & 0o777:o})",
            "make it private (mode 700)",
            lambda: home.work.chmod(0o700),
        )
    yield from _left_by_processes(home)
    yield from _temporary(home)
    yield from _datasets(home, deep)


def _left_by_processes(home: Home) -> Iterator[Finding]:
    """Look for logs and notes of drivers, workers and UIs that are gone."""
    for file in sorted(home.work.glob("*")) if home.work.exists() else ():
        worker, ui = _WORKER_LOG.fullmatch(file.name), _UI_LOG.fullmatch(file.name)
        if worker:
            kind, living = "log", bool(holder_of(home, worker[1], None))
        elif ui:
            kind, living = "log", _answers(int(ui[1]))
        elif file.name.endswith(_HOLDER):
            study = file.name.removesuffix(_HOLDER)
            kind, living = "holder", bool(holder_of(home, study, None))
        else:
            continue
        if not living:
            yield _removal(kind, file, "was left by a process that is gone")


def _temporary(home: Home) -> Iterator[Finding]:
    """Look for files that were being written when their process died."""
    import psutil

    for top in (home.work, home.data, home.root / "reports"):
        for folder, _, names in os.walk(top):
            for name in sorted(names):
                file = Path(folder) / name
                temporary = _TEMPORARY.fullmatch(name)
                if temporary and not psutil.pid_exists(int(temporary[1])):
                    yield _removal(
                        "temporary-file", file, "was being written when its process died"
                    )


def _datasets(home: Home, deep: bool) -> Iterator[Finding]:
    """Look for datasets and sources that are half made or damaged."""
    for aside in sorted(home.data.glob(f"*/{sources.ASIDE}*")):
        yield from _left_aside("dataset-half-built", "built", aside, aside.parent / ".lock")
    for aside in sorted(home.sources.glob(f"*/{sources.ASIDE}*")):
        lock = sources.lock_of(aside.parent)
        yield from _left_aside("source-half-imported", "imported", aside, lock)
    for card in sorted(home.sources.glob(f"*/{sources.CARD}")):
        try:
            source = sources.read(card.parent)
            source.row_groups()
            source.records([])
        except EcsweepError as error:
            again = "Import its files again, under the same name."
            yield Finding("source-damaged", None, str(card.parent), str(error), again)
    for folder in sorted(
        path for name in datasets.names(home) for path in (home.data / name).glob("*")
    ):
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        name = folder.parent.name
        build = hints.command("data", "build", name, "--from", "FILE.tsv.gz")
        again = (
            f"Remove the folder and build it again: {build} (the demo's is built by the next study)"
        )
        try:
            dataset = datasets.read(folder)
            for part in PARTS:
                for kind in ("tokens", "labels", "ids"):
                    dataset.array(part, kind)
        except EcsweepError as error:
            problem = str(error).partition(": ")[2] or str(error)
            yield Finding("dataset-damaged", None, str(folder), problem, again)
            continue
        if deep and (wrong := datasets.verify(dataset)):
            yield Finding("dataset-changed", None, str(folder), wrong, again)


def _left_aside(kind: str, made: str, aside: Path, lock: Path) -> Iterator[Finding]:
    """Report what is made aside, unless it is being made: then the lock is held."""
    if not _is_held(lock):
        problem = f"was being {made} when its process died"
        yield _removal(kind, aside, problem, functools.partial(_remove_build, aside, lock))


def _remove_build(aside: Path, lock: Path) -> None:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            shutil.rmtree(aside)
    except Timeout as error:
        raise EcsweepError("it is being made at this moment") from error


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_held(lock: Path) -> bool:
    """Say whether a process holds a lock file; none is made."""
    from filelock import FileLock, Timeout

    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _removal(
    kind: str, path: Path, problem: str, remove: Callable[[], object] | None = None
) -> Finding:
    return Finding(
        kind,
        None,
        str(path),
        problem,
        "remove it",
        remove or (lambda: path.unlink(missing_ok=True)),
    )
