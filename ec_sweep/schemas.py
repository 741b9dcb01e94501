"""The versions of the databases' schemas: which library wrote them, and bringing old ones up.

MLflow migrates an old database by itself, in place and without a backup; Optuna adds tables to
it before it refuses. So the version is looked at before either of them opens a database.
"""

import functools
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from ec_sweep import hints
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.paths import no_room

Age = Literal["older", "newer"]


@dataclass(frozen=True)
class Library:
    """A library that keeps its data in a database of its own."""

    name: str
    package: str
    migrations: str
    """Where its migrations lie within the package."""
    command: str
    """What migrates a database on a server."""


OPTUNA = Library(
    "Optuna", "optuna", "storages/_rdb/alembic/versions", "optuna storage upgrade --storage '{}'"
)
MLFLOW = Library("MLflow", "mlflow", "store/db_migrations/versions", "mlflow db upgrade '{}'")

_REVISION = re.compile(r"^(down_)?revision(?:\s*:[^=\n]+)?\s*=\s*(.+)$", re.MULTILINE)


@functools.cache
def revisions(library: Library) -> tuple[str, frozenset[str]]:
    """Return the schema version of the installed library, and all that it can migrate from.

    They are read from the text of its migrations: loading them takes a second or two.
    """
    found = find_spec(library.package)
    if found is None or found.origin is None:
        cure = f"Install it with: pip install {library.package}"
        raise EcsweepError(f"{library.name} is not installed. {cure}")
    own: set[str] = set()
    before: set[str] = set()
    for file in (Path(found.origin).parent / library.migrations).glob("*.py"):
        for down, value in _REVISION.findall(file.read_text()):
            (before if down else own).update(re.findall(r"[\"']([^\"']+)[\"']", value))
    (head,) = own - before
    return head, frozenset(own)


def age(library: Library, revision: str | None) -> Age | None:
    """Say how a schema stands to the installed library, ``None`` where it fits or is not made."""
    head, known = revisions(library)
    if revision is None or revision == head:
        return None
    return "older" if revision in known else "newer"


def revision_of(path: Path) -> str | None:
    """Return the schema version of an SQLite database, ``None`` where there is none."""
    if not path.exists():
        return None
    try:
        uri = f"file:{quote(str(path))}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return str(row[0]) if row else None


def check_file(path: Path, library: Library) -> None:
    """Raise an error when an SQLite database needs another version of its library."""
    try:
        revision = revision_of(path)
    except sqlite3.OperationalError as error:
        raise EcsweepError(f"{path}: cannot be opened ({error}).") from error
    found = age(library, revision)
    if found == "older":
        raise EcsweepError(
            f"{path} {_by('an older', library, revision)}. Bring it up to date, after a backup, "
            f"with: {hints.command('doctor', '--fix')}"
        )
    if found == "newer":
        raise EcsweepError(f"{path} {newer(library, revision)}")


def check_server(url: str, library: Library) -> None:
    """Raise an error when a database that is not a file of the home needs another version."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("alembic_version"):
                return
            query = sqlalchemy.text("SELECT version_num FROM alembic_version")
            revision = connection.execute(query).scalar()
    finally:
        engine.dispose()
    found = age(library, revision)
    if found is None:
        return
    shown = engine.url.render_as_string(hide_password=True)
    if found == "newer":
        raise EcsweepError(f"{shown} {newer(library, revision)}")
    raise EcsweepError(
        f"{shown} {_by('an older', library, revision)}. Back it up, then run, with its password: "
        f"{library.command.format(shown)}"
    )


def newer(library: Library, revision: str | None) -> str:
    """Say that a database was written by a library newer than the installed one, and the cure."""
    return (
        f"{_by('a newer', library, revision)}. Install it with: "
        f"pip install --upgrade {library.package}"
    )


def _by(which: str, library: Library, revision: str | None) -> str:
    head, _ = revisions(library)
    return (
        f"was written by {which} {library.name} than the installed {version(library.package)} "
        f"(schema {revision}, not {head})"
    )


def migrate(path: Path, library: Library, work: Path) -> Path:
    """Bring an SQLite database up to date; returns the backup that is kept beside it.

    A copy is migrated, checked, and put in place by a rename: at every instant
    the database is the old one or the new one, whole.

    Raises:
        EcsweepError: another process uses the database, or the migration failed.
    """
    from filelock import FileLock

    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    backup = path.with_name(f"{path.name}.{library.package}-{revision_of(path)}-{date}.backup")
    copy = path.with_name(f".{path.name}.migrating")
    with FileLock(work / f"{path.name}.lock"):
        for leftover in path.parent.glob(f"{copy.name}*"):
            leftover.unlink()
        try:
            with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as connection:
                # Without other connections only: a log that is left would be played into the copy.
                connection.execute("PRAGMA journal_mode=DELETE")
                # The lock stays beyond the transaction, within which no backup can be made.
                connection.execute("PRAGMA locking_mode=EXCLUSIVE")
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("COMMIT")
                _copy(connection, copy)
                os.replace(copy, backup)
                _copy(connection, copy)
                _try_upgrade(copy, library)
                os.replace(copy, path)
        except sqlite3.OperationalError as error:
            if no_room(error):
                raise
            raise EcsweepError(
                f"{path} is in use ({error}). End what uses it (ecsweep ui?), then try again."
            ) from error
    return backup


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    """Copy an open database into a private file."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(path)) as target:
        connection.backup(target)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _try_upgrade(copy: Path, library: Library) -> None:
    try:
        _upgrade(copy, library)
        _check(copy, library)
    except Exception as error:  # whatever goes wrong in migrations that are not ours
        raise EcsweepError(
            f"{library.name}'s migration of a copy failed ({first_line(error)}); the "
            "database is as it was."
        ) from error


def _upgrade(path: Path, library: Library) -> None:
    """Run the library's own migrations."""
    import logging

    logging.getLogger("alembic").setLevel(logging.WARNING)
    url = f"sqlite:///{path}"
    if library is OPTUNA:
        import optuna

        storage = optuna.storages.RDBStorage(
            url, skip_compatibility_check=True, skip_table_creation=True
        )
        storage.upgrade()
        storage.remove_session()
        storage.engine.dispose()
        return
    import sqlalchemy
    from mlflow.store.db.utils import _upgrade_db

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    engine = sqlalchemy.create_engine(url)
    try:
        _upgrade_db(engine)  # type: ignore[no-untyped-call] # MLflow's own
    finally:
        engine.dispose()


def _check(path: Path, library: Library) -> None:
    """Raise an error unless a migrated copy is whole and at the installed version."""
    head, _ = revisions(library)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        sound = connection.execute("PRAGMA quick_check").fetchone()[0]
    if sound != "ok" or revision_of(path) != head:
        raise EcsweepError(
            f"the migration of a copy of {path.name} did not come out right "
            f"({sound}, schema {revision_of(path)}); the database itself is as it was."
        )
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
