"""A study's advisory lock on the ledger's server, which lives as long as its connection."""

import contextlib
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from ec_sweep import databases
from ec_sweep.errors import EcsweepError
from ec_sweep.holders import NAMELESS, Holder

if TYPE_CHECKING:
    import sqlalchemy

COMES_BACK = 60
"""Seconds in which a driver elsewhere may renew a connection that it has lost."""
# Who drives what. Rows of drivers that died stay; a row counts with its connection's lock.
_TABLE = """
    CREATE TABLE IF NOT EXISTS ecsweep_drivers (
        study text PRIMARY KEY, token text NOT NULL, backend integer NOT NULL, host text NOT NULL,
        pid integer NOT NULL, since text NOT NULL, started text NOT NULL, doubted timestamptz
    )"""
_ROW = """
    SELECT host, pid, since, started, token, EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = d.backend
            AND (classid::bigint << 32 | objid::bigint) = :key AND objsubid = 1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS held FROM ecsweep_drivers d WHERE study = :study"""
_ENTER = """
    INSERT INTO ecsweep_drivers VALUES
        (:study, :token, pg_backend_pid(), :host, :pid, :since, :started, NULL)
    ON CONFLICT (study) DO UPDATE SET token = :token, backend = pg_backend_pid(), host = :host,
        pid = :pid, since = :since, started = :started, doubted = NULL"""
_DOUBT = """
    UPDATE ecsweep_drivers SET doubted = coalesce(doubted, now())
    WHERE study = :study AND token = :token
    RETURNING now() - doubted > make_interval(secs => :patience)"""
_LEAVE = "DELETE FROM ecsweep_drivers WHERE study = :study AND token = :token"
# A server that drops idle sessions, or learns late of a machine without power, keeps it wrongly.
_SESSION = """
    SELECT set_config(name, CASE name WHEN 'idle_session_timeout' THEN '0' ELSE '20' END, false)
    FROM pg_settings
    WHERE name IN ('idle_session_timeout', 'tcp_keepalives_idle', 'tcp_keepalives_interval')"""


class ServerLock:
    """The advisory lock on the ledger's server, and the row that names its holder."""

    def __init__(self, address: str, study: str) -> None:
        self._address, self._study = address, study
        digest = sha256(f"ecsweep study {study}".encode()).digest()
        self._key = int.from_bytes(digest[:8], signed=True)
        self._token = uuid4().hex
        self._me: Holder | None = None
        self._connection: sqlalchemy.Connection | None = None
        self._open = ExitStack()

    def take(self, me: Holder) -> Holder | None:
        """Take the lock; returns who holds it where that cannot be."""
        with ExitStack() as stack:
            connection = stack.enter_context(databases.connection(self._address))
            self._run(connection, _SESSION)
            with databases.making_tables(self._address):
                self._run(connection, _TABLE)
            if holder := self._in_the_way(connection, me):
                return holder
            if not self._try(connection):
                return self.holder() or NAMELESS
            self._run(connection, _ENTER, token=self._token, **_columns(me))
            self._me, self._connection, self._open = me, connection, stack.pop_all()
        return None

    def holder(self) -> Holder | None:
        """Return who holds the lock at this moment."""
        with databases.connection(self._address) as connection:
            if not self._run(connection, "SELECT to_regclass('ecsweep_drivers')").scalar():
                return None
            row = self._row(connection)
        return row.holder if row and row.held else None

    def check(self) -> bool:
        """See `locks.StudyLock.check`."""
        import sqlalchemy

        try:
            if self._connection is None:
                return self._renew()
            self._run(self._connection, "SELECT 1")
            return True
        except sqlalchemy.exc.SQLAlchemyError:
            self.close()
        try:
            return self._renew()
        except sqlalchemy.exc.SQLAlchemyError:
            return False

    def release(self) -> None:
        """Free the lock."""
        import sqlalchemy

        if self._connection:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                self._run(self._connection, _LEAVE, token=self._token)
        self.close()

    def close(self) -> None:
        """Let go of the connection, and with it of the lock."""
        import sqlalchemy

        self._connection = None
        with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError, EcsweepError):
            self._open.pop_all().close()

    def _renew(self) -> bool:
        """Take the lock on a new connection, unless another driver had it in between."""
        assert self._me is not None
        with ExitStack() as stack:
            connection = stack.enter_context(databases.engine(self._address).connect())
            self._run(connection, _SESSION)
            row = self._row(connection)
            if row is None or row.token != self._token:
                by = row.holder if row else "another process"
                raise EcsweepError(
                    f"while the ledger's database was away, {self._study} was taken over by {by}. "
                    "This driver ends; what it had recorded is kept."
                )
            if not self._try(connection):
                return False  # the server has not noticed yet that the old connection is gone
            self._run(connection, _ENTER, token=self._token, **_columns(self._me))
            self._connection, self._open = connection, stack.pop_all()
        return True

    def _in_the_way(self, connection: "sqlalchemy.Connection", me: Holder) -> Holder | None:
        """Return the driver that holds the study, or that may come back to it."""
        row = self._row(connection)
        if row is None or (not row.held and row.holder.here and row.holder.pid == me.pid):
            return None
        if row.held:
            return row.holder
        if row.holder.here:  # alive, it has lost its connection only
            return row.holder if row.holder.alive else None
        over = self._run(connection, _DOUBT, token=row.token, patience=COMES_BACK).scalar()
        return replace(row.holder, silent=True) if over is False else None

    def _row(self, connection: "sqlalchemy.Connection") -> "_Row | None":
        found = self._run(connection, _ROW).mappings().one_or_none()
        if found is None:
            return None
        holder = Holder(found["host"], found["pid"], found["since"], found["started"])
        return _Row(holder, found["token"], found["held"])

    def _try(self, connection: "sqlalchemy.Connection") -> bool:
        return bool(self._run(connection, "SELECT pg_try_advisory_lock(:key)").scalar())

    def _run(
        self, connection: "sqlalchemy.Connection", statement: str, **values: object
    ) -> "sqlalchemy.CursorResult[Any]":
        import sqlalchemy

        known = {"key": self._key, "study": self._study, **values}
        text = sqlalchemy.text(statement)
        return connection.execute(text, {name: known[name] for name in text.compile().params})


class _Row(NamedTuple):
    """What the database knows of a study's driver."""

    holder: Holder
    token: str
    held: bool
    """Whether its connection still holds the lock."""


def _columns(holder: Holder) -> dict[str, object]:
    return {name: getattr(holder, name) for name in ("host", "pid", "since", "started")}
