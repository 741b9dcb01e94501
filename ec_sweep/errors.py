"""Errors that a user can mend, and the exit codes that commands end with."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum


class ExitCode(IntEnum):
    """What ``ecsweep`` tells the shell."""

    OK = 0
    INCOMPLETE = 1  # some cell failed or was interrupted
    USAGE = 2  # bad usage, sweep file, data or home folder
    INTERRUPTED = 130  # Ctrl-C; the state is kept


class EcsweepError(Exception):
    """Bad input: the message is one line that says what came, what is allowed, and what to do."""


class StudyStoppedError(Exception):
    """A study stopped early because the same programming error kept coming back."""


def heed_interrupts() -> None:
    """Have Ctrl-C and SIGTERM interrupt the command, even where a script's "&" has them ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait for the end of a block: native imports lose them, or crash.

    Signals reach the main thread alone: in another there is nothing to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def first_line(error: BaseException) -> str:
    """Return the first line that an error of others says, or its kind where it says nothing."""
    said = str(getattr(error, "orig", None) or error)  # SQLAlchemy wraps the database's own
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[0].strip()[:300] if lines else type(error).__name__


def plural(noun: str, count: float) -> str:
    """Return a noun as it follows a number: ``1 cell``, ``2 cells``, ``0 classes``."""
    return noun if count == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"


def printable(text: str, keep: str = "") -> str:
    """Return a text of others with escapes for what could rule a terminal or break a line."""
    return "".join(
        a if a.isprintable() or a in keep else a.encode("unicode_escape", "surrogatepass").decode()
        for a in text
    )


def quoted(text: str) -> str:
    """Return a text of others in quotes, each escape in it once."""
    return f"'{printable(text)}'"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` when an allowed name resembles ``name``, else ``""``."""
    import difflib

    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
