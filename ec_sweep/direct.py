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

from ec_sweep.paths import check_sqlite

OPTUNA_SCHEMA = "v3.2.0.a"
MLFLOW_SCHEMA = "dc11669786a5"


@contextmanager
def reading(path: Path, schema: str) -> Iterator[sqlite3.Connection | None]:
    """Yield one state of a database to read, ``None`` unless it is there and of this schema.

    Raises:
        EcsweepError: SQLite cannot be used there.
    """
    check_sqlite(path)
    if not path.exists():
        yield None
        return
    # Writable, though nothing is written: a reader that may not write cannot tidy the log away.
    uri = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        try:
            found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError:  # no such table, or no way to read it
            found = []
        yield connection if found == [(schema,)] else None
