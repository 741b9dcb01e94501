"""What commands say beside their results."""

import sys
from typing import TYPE_CHECKING

import typer

from ec_sweep.errors import ExitCode, printable

if TYPE_CHECKING:
    from ec_sweep.planning import Resolved


def complain(message: str, keep: str = "") -> ExitCode:
    """Say in a line on stderr what is wrong, without secrets; returns the exit code for it."""
    from ec_sweep.databases import without_secrets

    print(f"ecsweep: {without_secrets(printable(message, keep))}", file=sys.stderr)
    return ExitCode.USAGE


def say_lost(text: str | None) -> None:
    """Warn on stderr, if there is anything to say, that a database is gone."""
    if text:
        typer.echo(f"Warning: {printable(text)}", err=True)


def say_request(resolved: "Resolved") -> None:
    """Say where seeds and overrides come from, and which they replace."""
    from ec_sweep.planning import options_of

    before = resolved.before
    if before == resolved.request:
        typer.echo(f"As last asked for: {options_of(before)} (the file's own: --defaults)")
    elif before:
        typer.echo(f"Instead of what was last asked for: {options_of(before)}")
