"""What commands say beside their results."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ec_sweep import columns
from ec_sweep.errors import ExitCode, heed_interrupts, printable

if TYPE_CHECKING:
    from ec_sweep.planning import Resolved


def complain(message: str, keep: str = "") -> ExitCode:
    """Say in a line on stderr what is wrong, without secrets; returns the exit code for it."""
    from ec_sweep.databases import without_secrets

    line = f"ecsweep: {without_secrets(printable(message, keep))}"
    width = os.get_terminal_size(2).columns if sys.stderr.isatty() and not keep else None
    print(columns.filled(line, width), file=sys.stderr)
    return ExitCode.USAGE


_MUST = {"int_parsing": "a whole number", "float_parsing": "a number"}
"""What an option must be that the parser refuses, by its reason."""


def of_usage(error: typer.TyperException) -> str:
    """Return in our words what the parser of the command line refuses."""
    from pydantic import ValidationError

    said, cause = " ".join(error.format_message().split()), error.__cause__
    parameter = getattr(error, "param", None)
    if parameter is None or not isinstance(cause, ValidationError):
        return said + _as_hyperparameter(getattr(error, "option_name", ""))
    refused = cause.errors()[0]
    listed = refused["msg"].partition(" is not one of ")[2].replace("'", "").rstrip(".")
    must = _MUST.get(refused["type"]) or (f"one of {listed}" if listed else None)
    if must is None:
        return said
    option = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar
    return f"{option} must be {must}. Received: {refused['input']!r:.80}."


def _as_hyperparameter(option: str) -> str:
    """Return how a hyperparameter is given that was taken for an option."""
    from ec_sweep import hyperparameters

    name = option.lstrip("-").replace("-", "_")
    known = name in hyperparameters.NAMES
    return f" {name} is a hyperparameter: --set {name}=VALUE" if known else ""


def say_lost(text: str | None) -> None:
    """Warn on stderr, if there is anything to say, that a database is gone."""
    if text:
        typer.echo(f"Warning: {printable(text)}", err=True)


def say_request(resolved: "Resolved") -> None:
    """Say where seeds and overrides come from, and which they replace."""
    for line in of_request(resolved):
        typer.echo(line)


def of_request(resolved: "Resolved") -> Iterator[str]:
    """Yield where seeds and overrides come from, and which they replace."""
    from ec_sweep.planning import options_of

    before = resolved.before
    if before == resolved.request:
        yield f"As last asked for: {options_of(before)} (the file's own: --defaults)"
    elif before:
        yield f"Instead of what was last asked for: {options_of(before)}"


def say_data(resolved: "Resolved") -> None:
    """Say which of the built datasets the cells are trained on: of several the newest is."""
    for line in of_data(resolved):
        typer.echo(line)


def of_data(resolved: "Resolved") -> Iterator[str]:
    """Yield which of the built datasets the cells are trained on: of several the newest is."""
    for (name, split), dataset in resolved.datasets.items():
        origin = dataset.card["source"]
        if origin.endswith("(source)"):
            files = [file["file"] for file in dataset.card["files"]]
            more = f" and {len(files) - 3} more" if len(files) > 3 else ""
            origin += f": {', '.join(files[:3])}{more}"
        line = f"Data: {name}, {split} split, {dataset.fingerprint[:12]}, from {origin}"
        yield printable(line)


@contextmanager
def interruptible(left: str) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end a command with a line that says what is left of its work."""
    heed_interrupts()
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. {printable(left)}".rstrip(), err=True)
        raise
