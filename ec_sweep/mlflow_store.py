"""Opening MLflow's data: the home folder's database, or what ``MLFLOW_TRACKING_URI`` names."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from ec_sweep import databases, schemas
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.outages import Reaching
from ec_sweep.paths import Home, check_sqlite, make_database, no_room

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCAL_UI = "http://127.0.0.1:5000"
"""Where ``ecsweep ui`` serves MLflow unless told otherwise."""
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
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Whatever project the current folder belongs to is not what a saved model needs.
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    # The driver itself waits and tries again, where MLflow would not answer for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints tracebacks
    import sqlalchemy
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri(home)
    on_server = databases.is_server(uri)
    if on_server:  # its own refusal of a server that does not answer takes two minutes
        refuse_foreign(uri)
    try:
        if not is_local(home) and not is_remote(uri):
            schemas.check_server(uri, schemas.MLFLOW)
        if is_local(home):
            make_database(home.mlflow_db, lambda url: MlflowClient(url).search_experiments())
            # MLflow leaves SQLite's slow default on; the mode is kept in the file.
            with contextlib.closing(sqlite3.connect(home.mlflow_db)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        with databases.making_tables(uri) if on_server else contextlib.nullcontext():
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)  # a wrong address or database shows here
    except (MlflowException, sqlite3.Error, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        if no_room(error):
            raise
        if on_server:
            raise EcsweepError(databases.problem(uri, error)) from error
        reason = first_line(error)
        raise EcsweepError(
            f"{databases.masked(uri)}: MLflow's data cannot be opened ({reason})."
        ) from error
    return client


def reaching(client: "MlflowClient") -> Reaching:
    """Return a client whose failures to reach MLflow's data are told as such."""
    return Reaching(client, "MLflow", remote=is_remote(client.tracking_uri))


def exists(home: Home) -> bool:
    """Say whether there is any data of MLflow's; looking for it makes none."""
    if is_local(home):
        return home.mlflow_db.exists()
    uri = tracking_uri(home)
    return not databases.is_server(uri) or refuse_foreign(uri)


def refuse_foreign(uri: str) -> bool:
    """Raise an error where a server's database is the ledger's; returns whether MLflow's is there.

    The two keep the version of their tables under the same name.
    """
    return "experiments" in databases.tables(uri, "trial_user_attributes", "a ledger")


def keeps_artifacts_here(home: Home) -> bool:
    """Say whether artifacts are files that this process writes, not an MLflow server."""
    return databases.is_sql(tracking_uri(home))


def is_local(home: Home) -> bool:
    """Say whether MLflow's data is the home folder's own."""
    return tracking_uri(home) == f"sqlite:///{home.mlflow_db}"


def is_remote(uri: str) -> bool:
    """Say whether an address of MLflow's data is that of an MLflow server."""
    return uri.startswith(("http:", "https:"))


def ui_address(home: Home) -> str:
    """Return where a browser finds the runs: at their server, or where ``ecsweep ui`` listens."""
    uri = tracking_uri(home)
    if not is_remote(uri):
        return LOCAL_UI
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # a password is nobody else's
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield everything that a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
