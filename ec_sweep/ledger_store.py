"""Opening Optuna's data: the home folder's database, or what ``--storage`` names."""

import logging
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ec_sweep import databases, hints, schemas
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.ledger import Attempt, Ledger, read_attempts
from ec_sweep.paths import Home, check_sqlite, make_database, no_room

if TYPE_CHECKING:
    import optuna


def open_ledger(home: Home, storage: str | None, study: str) -> Ledger:
    """Open the ledger of a study, making it and its database if need be.

    ``storage`` is an SQLAlchemy URL that replaces the home folder's ``studies.db``.
    """
    import optuna

    path = sqlite_path(home, storage)
    if path:
        check_sqlite(path)
        schemas.check_file(path, schemas.OPTUNA)
    if storage is None:
        make_database(home.studies_db, optuna.storages.RDBStorage)
        rdb = _storage(home, storage)
    elif databases.is_server(storage):
        with databases.making_tables(storage):
            _tables(storage)
            rdb = _storage(home, storage)
    else:
        rdb = _storage(home, storage)
    optuna.create_study(study_name=study, storage=rdb, direction="maximize", load_if_exists=True)
    return Ledger(rdb, study, None if storage else home.studies_db)


def find_ledger(home: Home, storage: str | None, study: str) -> Ledger | None:
    """Open the ledger of a study for reading, ``None`` when there is none yet."""
    path = sqlite_path(home, storage)
    if path:
        check_sqlite(path)
        schemas.check_file(path, schemas.OPTUNA)
        if not path.exists():
            return None
    elif storage and "studies" not in _tables(storage):
        return None
    try:
        return Ledger(_storage(home, storage), study)
    except KeyError:  # no such study
        return None


def open_to_read(home: Home, storage: str | None) -> "optuna.storages.RDBStorage":
    """Open the ledger's database such that the database itself refuses every write.

    Raises:
        EcsweepError: there is no ledger yet, or it cannot be used, or not be kept from writing.
    """
    path = sqlite_path(home, storage)
    if path:
        check_sqlite(path)
        schemas.check_file(path, schemas.OPTUNA)
    elif not databases.is_postgresql(storage or ""):
        raise EcsweepError(
            f"{databases.masked(storage or '')}: only SQLite and PostgreSQL are known to refuse "
            "what a reader would write."
        )
    if (path and not path.exists()) or (storage and not path and "studies" not in _tables(storage)):
        first = hints.command("study", "STUDY")
        raise EcsweepError(f"there is no ledger here yet. Run a study first: {first}")
    return _storage(home, storage, reads=True)


def known_studies(home: Home, storage: str | None) -> list[str]:
    """Return the names of the studies, ``name@scale``, that have a ledger."""
    path = sqlite_path(home, storage)
    if (path and not path.exists()) or (storage and not path and "studies" not in _tables(storage)):
        return []
    return [study.study_name for study in _storage(home, storage).get_all_studies()]


def known_attempts(home: Home, storage: str | None, study: str) -> dict[str, list[Attempt]]:
    """Return the attempts at each cell of a study, oldest first.

    The home folder's own database is read directly: Optuna takes a second to
    import, and more for thousands of trials.
    """
    found = read_attempts(home.studies_db, study) if storage is None else None
    if found is not None:
        return found
    ledger = find_ledger(home, storage, study)
    return ledger.attempts() if ledger else {}


def sqlite_path(home: Home, storage: str | None) -> Path | None:
    """Return the file that holds the ledger, ``None`` when it is on a server."""
    if storage is None:
        return home.studies_db
    url = databases.parse(storage)
    on_disk = url.get_backend_name() == "sqlite" and url.database
    return Path(str(url.database)) if on_disk else None


def _tables(storage: str) -> frozenset[str]:
    """Return the tables of the ledger's server; one that holds MLflow's data is refused."""
    return databases.tables(storage, "experiment_tags", "MLflow's data")


class _Reading(sqlite3.Connection):
    """A connection that refuses to write, and yet may tidy SQLite's log away when it ends."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.execute("PRAGMA query_only = ON")


def _storage(
    home: Home, storage: str | None, *, reads: bool = False
) -> "optuna.storages.RDBStorage":
    import optuna
    import sqlalchemy

    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = storage or f"sqlite:///{home.studies_db}"
    sqlite = url.startswith("sqlite")
    connect: dict[str, Any] = {"timeout": 60} if sqlite else {**databases.connect_options(url)}
    if reads and sqlite:
        connect["factory"] = _Reading
    elif reads:
        own = databases.parse(url).query.get("options", "")
        connect["options"] = f"{own} -c default_transaction_read_only=on"
    engine = {
        "connect_args": connect,
        "pool_pre_ping": not sqlite,  # a server may have been restarted since the last use
    }
    try:
        if not sqlite:
            schemas.check_server(url, schemas.OPTUNA)
        rdb = optuna.storages.RDBStorage(url, engine_kwargs=engine, skip_table_creation=reads)
        if sqlite and not reads:
            with rdb.engine.connect() as connection:
                connection.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        if no_room(error):
            raise
        if databases.is_server(url):
            raise EcsweepError(databases.problem(url, error)) from error
        reason = first_line(error)
        raise EcsweepError(
            f"{databases.masked(url)}: the ledger cannot be opened ({reason})."
        ) from error
    return rdb
