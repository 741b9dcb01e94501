"""Database addresses: what they name, how they are shown, and whether they can be used.

The home folder's own databases are `paths`' business; this is about servers.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from ec_sweep.errors import EcsweepError

if TYPE_CHECKING:
    import sqlalchemy

_SECRET = re.compile(r"password|passwd|pwd|secret|token", re.IGNORECASE)
"""Names of options in an address that hold what nobody else may see."""
_SCHEMA_LOCK = 0x6563_7377_6565_7001
"""The advisory lock under which one process at a time makes tables in a database."""
_SHORTEST = 4  # characters of a secret that is looked for in other people's words


def parse(address: str) -> "sqlalchemy.URL":
    """Return a database's address in its parts; one that cannot be read is an error."""
    import sqlalchemy

    if _ambiguous(address):
        raise EcsweepError(
            f"{masked(address)}: a password's special characters must be percent-encoded "
            "(@ is %40, / is %2F, : is %3A, % is %25). Or leave it out and set PGPASSWORD."
        )
    try:
        return sqlalchemy.make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise EcsweepError(
            f"a database's address must be an SQLAlchemy URL such as postgresql+psycopg://"
            f"user@host/database or sqlite:////folder/studies.db. Received: {masked(address)}"
        ) from error


def is_server(address: str) -> bool:
    """Say whether an address names a database server: no file, nor MLflow's own kinds."""
    scheme = address.partition("://")[0].partition("+")[0]
    return scheme in ("postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")


def is_sql(address: str) -> bool:
    """Say whether an address names a database, on a server or in a file."""
    return address.startswith("sqlite") or is_server(address)


def is_postgresql(address: str) -> bool:
    """Say whether an address names a PostgreSQL database."""
    return address.startswith("postgresql")


def has_password(address: str) -> bool:
    """Say whether there is a password in an address."""
    return bool(_secrets(address))


def masked(address: str) -> str:
    """Return an address as it may be printed: without its password."""
    import sqlalchemy

    if _ambiguous(address):
        return _last_net(address)
    try:
        url = sqlalchemy.make_url(address)
        url = url.difference_update_query([name for name in url.query if _SECRET.search(name)])
        address = url.render_as_string(hide_password=True)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        pass
    return _last_net(address)


def without_secrets(text: str) -> str:
    """Return a message without the passwords of this process' database addresses."""
    words = [word.partition("=")[2] if word.startswith("-") else word for word in sys.argv[1:]]
    words += [sys.argv[place + 1] for place, word in enumerate(sys.argv[:-1]) if word[:2] == "--"]
    words += [os.environ.get(name, "") for name in ("ECSWEEP_STORAGE", "MLFLOW_TRACKING_URI")]
    for address in {word for word in words if ":/" in word}:
        visible = masked(address)
        text = text.replace(address, visible)
        for secret in sorted(_secrets(address), key=len, reverse=True):
            if len(secret) >= _SHORTEST and secret not in visible:
                text = text.replace(secret, "***")
    return _last_net(text)


def check_apart(storage: str | None, ledger_file: str, tracking: str) -> None:
    """Raise an error where ledger and MLflow are to share one database.

    Both keep the version of their tables under the same name.
    """
    ledger = parse(storage or f"sqlite:///{ledger_file}")
    if not is_sql(tracking):
        return
    if _identity(ledger) == _identity(parse(tracking)):
        raise EcsweepError(
            f"{masked(tracking)} cannot hold both the ledger and MLflow's data. Give --storage "
            "(ECSWEEP_STORAGE) and MLFLOW_TRACKING_URI two databases."
        )


def tables(address: str, foreign: str, owner: str) -> frozenset[str]:
    """Return the names of the tables in a server's database.

    Raises:
        EcsweepError: it cannot be reached, or holds the table ``foreign``, its ``owner``'s.
    """
    import sqlalchemy

    with connection(address) as connected:
        found = frozenset(sqlalchemy.inspect(connected).get_table_names())
    if foreign in found:
        raise EcsweepError(
            f"{masked(address)} holds {owner} already. Ledger (--storage, ECSWEEP_STORAGE) and "
            "MLflow (MLFLOW_TRACKING_URI) need two databases."
        )
    return found


@contextmanager
def connection(address: str) -> Iterator["sqlalchemy.Connection"]:
    """Connect to a server's database; every statement stands for itself.

    Raises:
        EcsweepError: there is no such server or database, no driver for it, or a statement of the
            block is refused.
    """
    import sqlalchemy

    try:
        with engine(address).connect() as connected:
            yield connected
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise EcsweepError(problem(address, error)) from error


def engine(address: str) -> "sqlalchemy.Engine":
    """Return what makes a server's connections, none of which is kept for another use."""
    import sqlalchemy

    return sqlalchemy.create_engine(
        parse(address),
        poolclass=sqlalchemy.NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args=connect_options(address),
    )


def connect_options(address: str) -> dict[str, str | int]:
    """Return how to connect to a server so that one that is gone is noticed within a minute."""
    if not is_postgresql(address):
        return {}
    return {
        "connect_timeout": 10,
        "keepalives_idle": 20,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 50_000,
        "application_name": "ecsweep",
    }


@contextmanager
def making_tables(address: str) -> Iterator[None]:
    """Be the only process that makes tables in a database: two at once would trip."""
    import sqlalchemy

    if not is_postgresql(address):
        yield
        return
    with connection(address) as connected:
        lock = sqlalchemy.select(sqlalchemy.func.pg_advisory_lock(_SCHEMA_LOCK))
        connected.execute(lock)  # freed with the connection
        yield


def problem(address: str, error: Exception) -> str:
    """Return one line that says why a database cannot be used, and what to do."""
    import sqlalchemy

    if isinstance(error, sqlalchemy.exc.NoSuchModuleError):
        return (
            f"{masked(address)}: no such kind of database is known. "
            "For PostgreSQL the address begins with postgresql+psycopg://."
        )
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ImportError):
        cause = cause.__cause__
    missing = cause or error
    if isinstance(missing, ImportError):
        driver = missing.name or "database driver"
        cure = f"pip install {driver}"
        if is_postgresql(address):
            cure = "pip install 'ecsweep[postgresql]'"
            if not address.startswith("postgresql+psycopg://"):
                cure += ", and begin the address with postgresql+psycopg://"
        what = f"{masked(address)}: its driver cannot be loaded ({missing})"
        return f"{what}. Install it with: {cure}"
    said = " ".join(str(getattr(error, "orig", None) or error).split())
    return f"{masked(address)}: the database cannot be used ({said})."


def _ambiguous(address: str) -> bool:
    """Say whether it is open where in an address the password ends."""
    front = address.partition("?")[0]
    return front.count("@") > 1 and not front.startswith(("sqlite", "file"))


def _identity(url: "sqlalchemy.URL") -> tuple[object, ...]:
    """Return what tells a database from others, as far as its address says."""
    kind = url.get_backend_name()
    if kind == "sqlite":
        return kind, os.path.realpath(str(url.database))
    host = url.host or url.query.get("host") or os.environ.get("PGHOST")
    local = {None: "localhost", "127.0.0.1": "localhost", "::1": "localhost"}
    port = url.port or url.query.get("port") or {"postgresql": 5432, "mysql": 3306}.get(kind)
    place = host if isinstance(host, str) else None
    return kind, local.get(place, place), str(port), url.database or url.username


def _secrets(address: str) -> set[str]:
    """Return the secrets in an address, as they stand there and as they are meant."""
    found = set()
    front, _, query = address.partition("?")
    user, _, _ = front.rpartition("@")
    _, _, password = user.partition(":/")[2].partition(":")
    if password and not front.startswith(("sqlite", "file")):
        found |= {password, unquote(password)}
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if _SECRET.search(name):
            found |= {value, unquote_plus(value)}
    found |= {spelling(secret) for secret in list(found) for spelling in (quote, quote_plus)}
    # What reads an address wrongly complains of a part of the password.
    found |= {part for secret in list(found) for part in re.split("[@/:?&#%]", secret)}
    return found - {""}


def _last_net(text: str) -> str:
    """Hide what looks like a password in an address, whoever wrote it."""
    text = re.sub(r"(:/+[^\s:/@]*):\S*@", r"\1:***@", text)
    return re.sub(rf"((?:{_SECRET.pattern})=)[^&\s'\")]+", r"\1***", text, flags=re.IGNORECASE)
