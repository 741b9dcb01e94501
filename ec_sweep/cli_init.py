"""The command ``ecsweep init``."""

from pathlib import Path
from typing import Annotated

import typer

from ec_sweep import hints
from ec_sweep.options import HERE, Home, place


def write_files(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH",
            help="NAME.yaml: a sweep. NAME.py: models. [default: sweeps/my-sweep.yaml]",
        ),
    ] = None,
    home: Home = HERE,
) -> None:
    """Write a commented sweep, or file of models, to begin with.

    It can be used as it stands. What is there already is left as it is.
    """
    from ec_sweep import starting

    place(home)
    written = starting.write(starting.DEFAULT if path is None else path)
    typer.echo(f"Wrote   {written}")
    if written.suffix == ".py":
        next_ = hints.command("study", "SWEEP", "--models", str(written))
        typer.echo(f"Next    {next_}   (SWEEP: a sweep whose model is dilated-cnn)")
        return
    study = written.stem if starting.found_by_name(written) else str(written)
    typer.echo(f"Next    {hints.command('study', study)}")
