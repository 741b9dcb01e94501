"""Opening MLflow's data: the home folder's database, or what ``MLFLOW_TRACKING_URI`` names."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ec_sweep import schemas
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home, check_sqlite, make_database, no_room

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAGE = 1000  # a request: MLflow's default stops silently there


def tracking_uri(home: Home) -> str:
    """Return where MLflow's data is: ``MLFLOW_TRACKING_URI``, else the home folder's database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home.mlflow_db}"


def connect(home: Home) -> "MlflowClient":
    """Return a client of MLflow's data; the home folder's database is made if need be."""
    if is_local(home):
        check_sqlite(home.mlflow_db)
        schemas.check_file(home.mlflow_db, schemas.MLFLOW)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        if not is_local(home) and not tracking_uri(home).startswith(("http:", "https:")):
            schemas.check_server(tracking_uri(home), schemas.MLFLOW)
        if is_local(home):
            make_database(home.mlflow_db, lambda url: MlflowClient(url).search_experiments())
            # MLflow leaves SQLite's slow default on; the mode is kept in the file.
            with contextlib.closing(sqlite3.connect(home.mlflow_db)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        client = MlflowClient(tracking_uri(home))
        client.search_experiments(max_results=1)  # a wrong address or database shows here
    except (MlflowException, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        if no_room(error):
            raise
        reason = str(error).splitlines()[0]
        raise EcsweepError(
            f"{tracking_uri(home)}: MLflow's data cannot be opened ({reason})."
        ) from error
    return client


def is_local(home: Home) -> bool:
    """Say whether MLflow's data is the home folder's own."""
    return tracking_uri(home) == f"sqlite:///{home.mlflow_db}"


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield everything that a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
