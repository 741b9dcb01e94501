"""Reading the home's own databases with SQLite alone.

Optuna and MLflow take seconds to import, and read every row of thousands of
trials as an object. Nothing is ever written this way, and only databases whose
schema is the one known here are read; others are left to their libraries.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from ec_sweep.errors import EcsweepError
from ec_sweep.outages import UnavailableError
from ec_sweep.paths import check_sqlite

OPTUNA_SCHEMA = "v3.2.0.a"
MLFLOW_SCHEMA = "dc11669786a5"


@contextmanager
def reading(path: Path, schema: str) -> Iterator[sqlite3.Connection | None]:
    """Yield one state of a database to read, ``None`` unless it is there and of this schema.

    Raises:
        EcsweepError: SQLite cannot be used there, or the database cannot be read.
    """
    check_sqlite(path)
    if not path.exists():
        yield None
        return
    # Writable, though nothing is written: a reader that may not write cannot tidy the log away.
    uri = f"file:{quote(str(path))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN")
            yield database if _schema_of(database) == schema else None
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise UnavailableError(f"{path} cannot be read ({error}).") from error
        raise EcsweepError(f"{path}: cannot be read ({error}).") from error


def _schema_of(database: sqlite3.Connection) -> str | None:
    """Return the version that the library's migrations keep in the database."""
    table = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if not database.execute(table).fetchone():
        return None
    rows = database.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(rows[0][0]) if len(rows) == 1 else None
