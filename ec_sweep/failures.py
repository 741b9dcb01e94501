"""What goes wrong in a trial, as data."""

import re
import traceback

from ec_sweep.attempts import Result, now
from ec_sweep.paths import DISK_FULL

# As TensorFlow, XLA, C++ and CUDA say it: the first two by raising, the others by aborting.
_OUT_OF_MEMORY = (
    "ResourceExhausted", "RESOURCE_EXHAUSTED", "std::bad_alloc", "CUDA_ERROR_OUT_OF_MEMORY",
)  # fmt: skip


_MARKUP = re.compile(r"\{\{.*?\}\}|\[Op:\w*\](?: name:.*)?|/job:\S*?/device:|^\(\d+\) ")
"""What TensorFlow puts around its words: names of its own functions and places."""
_WRAPPING = (
    "Graph execution error", "Detected at node", "defined at ", "node {{", "File \"", "[[", "Hint:",
    "<stack trace", "Stack trace", "0 successful", "0 derived",
)  # fmt: skip
"""How TensorFlow's lines begin that say where, and not what."""


class Stopped(Exception):  # noqa: N818 - an order that was followed, not an error
    """The driver asked for the trial to stop."""


class Pruned(Exception):  # noqa: N818 - an order that was followed, not an error
    """The driver asked for the trial to end: others do better."""


class TimedOut(Exception):  # noqa: N818 - a verdict on the cell
    """The trial has taken longer than it may."""


class Diverged(Exception):  # noqa: N818 - a verdict on the cell
    """The loss is no longer a finite number."""


def cannot_write(reason: str) -> Result:
    """Return the result of a trial that has no room for its results: it can go on another time."""
    return Result("interrupted", now(), message=f"cannot write results: {reason}")


def speaks_of_memory(text: str) -> bool:
    """Say whether an error's text, or a process' last words, mean that memory ran out."""
    return any(mark in text for mark in _OUT_OF_MEMORY)


def timed_out(message: str) -> Result:
    """Return the result of a trial that has taken longer than it may."""
    return Result("failed", now(), failure="timeout", message=message)


def _said(text: str) -> str:
    """Return what an error says; of TensorFlow's pages, the last line that says what happened."""
    if "{{" not in text and "Graph execution error" not in text:
        return text
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if not line.startswith(_WRAPPING)]
    plain = [" ".join(_MARKUP.sub("", line).split()) for line in lines]
    return next((line for line in reversed(plain) if line), text)


def classify(error: Exception) -> Result:
    """Return the result of a trial that ended in an error."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return cannot_write(error.strerror or str(error))  # the machine's trouble, not the cell's
    if isinstance(error, TimedOut):
        return timed_out(str(error))
    text = f"{type(error).__name__}: {_said(str(error))}".splitlines()[0][:500]
    out_of_memory = isinstance(error, MemoryError) or speaks_of_memory(
        f"{type(error).__name__} {error}"
    )
    if isinstance(error, Diverged):
        return Result("not_available", now(), failure="diverged", message=str(error))
    trace = "".join(traceback.format_exception(error))
    if out_of_memory:
        return Result("not_available", now(), failure="oom", message=text, traceback=trace)
    return Result("failed", now(), failure="error", message=text, traceback=trace)
