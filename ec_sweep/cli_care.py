"""Commands that look after studies: cancel."""

from typing import Annotated

import typer

from ec_sweep.errors import ExitCode
from ec_sweep.options import HERE, Home, Scale, Storage, StudyName, check_range, place, request


def cancel_study(
    study: StudyName,
    scale: Scale = "demo",
    timeout: Annotated[
        int, typer.Option(metavar="SECONDS", help="How long to wait for it to stop.")
    ] = 120,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Stop a running study cleanly, from another terminal of its machine.

    Like Ctrl-C there: running trials end, nothing that is finished is lost, and `ecsweep study`
    goes on later. Given twice, it ends running trials at once. Exit code 0 when the study has
    stopped or nothing runs it, 1 when it is still stopping, 2 when it runs on another machine.
    """
    from ec_sweep import cancelling, output, planning, spec

    check_range("--timeout", timeout, 86_400)
    where = place(home, storage)
    short = spec.load(planning.find_sweep(study)).study
    name = f"{short}@{scale}"
    end = cancelling.cancel(where, name, timeout, typer.echo)
    if end is None:
        typer.echo(f"Nothing runs {name}.")
        return
    options = "" if scale == "demo" else f" --scale {scale}"
    if not end.stopped:
        typer.echo(
            f"{name} is still being run by {end.holder} after {timeout} s. Wait, or end its "
            f"running trials at once: ecsweep cancel {study}{options}"
        )
        raise typer.Exit(ExitCode.INCOMPLETE)
    found = planning.status(where, planning.resolve(where, study, request(scale)))
    typer.echo(f"{name} has stopped: {output.counts(found)}.")
    if not found.done:
        typer.echo(f"Go on with: ecsweep study {study}{options}")
