"""The command ``ecsweep init``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ec_sweep import hints
from ec_sweep.options import HERE, Home


def write_files(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="NAME.yaml: a sweep. NAME.py: models. [default: sweeps/my-sweep.yaml]",
        ),
    ] = None,
    home: Home = HERE,  # noqa: ARG001 - all commands take --home
) -> None:
    """Write a commented sweep, or file of models, to begin with.

    It can be used as it stands. What is there already is left as it is.
    """
    from ec_sweep import starting

    written = starting.write(starting.DEFAULT if path is None else path)
    typer.echo(f"Wrote   {written}")
    if written.suffix == ".py":
        models = shlex.quote(str(written))
        typer.echo(f"Next    ecsweep study SWEEP --models {models}   (SWEEP: model: dilated-cnn)")
        return
    study = written.stem if starting.found_by_name(written) else str(written)
    typer.echo(f"Next    {hints.command('study', study)}")
