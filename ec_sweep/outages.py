"""Databases that are away for a while, told from broken ones: what is to be written waits."""

import functools
import time
from collections.abc import Iterator
from typing import Any

from ec_sweep import hints
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.paths import no_room


class UnavailableError(EcsweepError):
    """A database or server cannot be reached at the moment; trying again later may do."""


_ASK_LATER = frozenset({408, 429})  # HTTP, beside all from 500 on
_BROKEN = ("malformed", "not a database", "readonly database", "disk I/O error", "unable to open")
"""What SQLite says of a file that waiting does not mend."""


_SHORTEST_WAIT, _LONGEST_WAIT = 1.0, 5.0  # seconds until a database that is away is tried again

_DELETED = "must be in the 'active' state"  # as MLflow says of a run in its bin


class Outage:
    """Whether a database is away, and when to try again."""

    def __init__(self) -> None:
        self.reason = ""
        self._retry_at = self._delay = 0.0

    @property
    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return bool(self.reason) and time.monotonic() < self._retry_at

    def begin(self, reason: str) -> None:
        """Wait, longer each time."""
        self._delay = min(2 * self._delay, _LONGEST_WAIT) or _SHORTEST_WAIT
        self._retry_at = time.monotonic() + self._delay
        self.reason = reason

    def end(self) -> None:
        """All that waited is written."""
        self.reason, self._delay = "", 0.0


class Reaching:
    """Passes calls on to a database's client; failures to reach it become `UnavailableError`."""

    def __init__(self, client: object, what: str, *, remote: bool = False) -> None:
        """Name the database ``what`` in errors, as in "MLflow cannot be reached".

        A ``remote`` one is behind an HTTP server, whose own errors say nothing of what was asked.
        """
        self._client, self._what, self._remote = client, what, remote

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return found(*arguments, **named)
            except Exception as error:
                _translate(error, self._what, self._remote)
                raise

        return call


def _translate(error: Exception, what: str, remote: bool) -> None:
    """Raise what an error means, where it does not mean a mistake in the program."""
    if no_room(error):  # no waiting for room: the user has to make it
        return
    doctor = hints.command("doctor")
    for cause in _causes(error):
        if _is_away(cause, remote):
            # What wraps a cause says the same in many words; a pool of connections says nothing.
            root = [said for said in map(first_line, _causes(cause)) if said != "()"][-1]
            raise UnavailableError(f"{what} cannot be reached ({root}).") from error
        if getattr(cause, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" or _DELETED in str(cause):
            raise EcsweepError(f"{what}: {first_line(cause)} See: {doctor}") from error
        if _from_sqlite(cause) and any(mark in str(cause) for mark in _BROKEN):
            raise EcsweepError(
                f"{what}: its database cannot be used ({first_line(cause)}). See: {doctor}"
            ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_away(error: BaseException, remote: bool) -> bool:
    import requests
    from sqlalchemy import exc

    if isinstance(error, requests.exceptions.RequestException):
        return error.response is None or _asks_to_wait(error.response.status_code)
    if _from_sqlite(error):
        return "locked" in str(error)
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError):
        return True
    status = getattr(error, "get_http_status_code", None)  # of an MlflowException
    return remote and status is not None and _asks_to_wait(status())


def _asks_to_wait(status: int) -> bool:
    return status in _ASK_LATER or status >= 500


def _from_sqlite(error: BaseException) -> bool:
    import sqlite3

    return isinstance(getattr(error, "orig", error), sqlite3.Error)
