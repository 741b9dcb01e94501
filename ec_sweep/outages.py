"""Databases that are away for a while, told from broken ones: what is to be written waits."""

import functools
import time
from collections.abc import Iterator
from typing import Any

from ec_sweep.errors import EcsweepError
from ec_sweep.paths import no_room


class UnavailableError(EcsweepError):
    """A database or server cannot be reached at the moment; trying again later may do."""


_TOO_BUSY = frozenset({429, 502, 503, 504})  # HTTP
_BROKEN = ("malformed", "not a database", "readonly database", "disk I/O error", "unable to open")
"""What SQLite says of a file that waiting does not mend."""


_SHORTEST_WAIT, _LONGEST_WAIT = 1.0, 15.0  # seconds until a database that is away is tried again

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

    def __init__(self, client: object, what: str) -> None:
        """Name the database ``what`` in errors, as in "MLflow cannot be reached"."""
        self._client, self._what = client, what

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return found(*arguments, **named)
            except Exception as error:
                _translate(error, self._what)
                raise

        return call


def _translate(error: Exception, what: str) -> None:
    """Raise what an error means, where it does not mean a mistake in the program."""
    if no_room(error):  # no waiting for room: the user has to make it
        return
    for cause in _causes(error):
        if _is_away(cause):
            raise UnavailableError(f"{what} cannot be reached ({_line(cause)}).") from error
        if getattr(cause, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" or _DELETED in str(cause):
            raise EcsweepError(f"{what}: {_line(cause)} See: ecsweep doctor") from error
        if _from_sqlite(cause) and any(mark in str(cause) for mark in _BROKEN):
            raise EcsweepError(
                f"{what}: its database cannot be used ({_line(cause)}). See: ecsweep doctor"
            ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_away(error: BaseException) -> bool:
    import requests
    from sqlalchemy import exc

    if isinstance(error, requests.exceptions.HTTPError):
        return error.response is not None and error.response.status_code in _TOO_BUSY
    if isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
        return True
    if _from_sqlite(error):
        return "locked" in str(error)
    if isinstance(error, exc.OperationalError | exc.InterfaceError | exc.TimeoutError):
        return True
    status = getattr(error, "get_http_status_code", None)  # of an MlflowException
    return status is not None and status() in _TOO_BUSY and not _mentions_sqlite(error)


def _from_sqlite(error: BaseException) -> bool:
    import sqlite3

    return isinstance(getattr(error, "orig", error), sqlite3.Error)


def _mentions_sqlite(error: BaseException) -> bool:
    """Say whether an error stands for one of SQLite, which is judged for itself."""
    return any(_from_sqlite(cause) for cause in _causes(error))


def _line(error: BaseException) -> str:
    text = str(getattr(error, "orig", None) or error)
    return text.splitlines()[0][:300] if text else type(error).__name__
