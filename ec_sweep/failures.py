"""What goes wrong in a trial, as data."""

import traceback

from ec_sweep.attempts import Result, now
from ec_sweep.paths import DISK_FULL


class Stopped(Exception):  # noqa: N818 - an order that was followed, not an error
    """The driver asked for the trial to stop."""


class Diverged(Exception):  # noqa: N818 - a verdict on the cell
    """The loss is no longer a finite number."""


def cannot_write(error: OSError) -> Result:
    """Return the result of a trial that has no room for its results: it can go on another time."""
    return Result("interrupted", now(), message=f"cannot write results: {error.strerror or error}")


def classify(error: Exception) -> Result:
    """Return the result of a trial that ended in an error."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return cannot_write(error)  # the machine's trouble, not the cell's
    text = f"{type(error).__name__}: {error}".splitlines()[0][:500]
    out_of_memory = isinstance(error, MemoryError) or any(
        mark in f"{type(error).__name__} {error}"
        for mark in ("ResourceExhausted", "RESOURCE_EXHAUSTED")
    )
    if isinstance(error, Diverged):
        return Result("not_available", now(), failure="diverged", message=str(error))
    trace = "".join(traceback.format_exception(error))
    if out_of_memory:
        return Result("not_available", now(), failure="oom", message=text, traceback=trace)
    return Result("failed", now(), failure="error", message=text, traceback=trace)
