"""The commands that look after studies and the home folder."""

from typing import TYPE_CHECKING, Annotated

import typer

from ec_sweep import hints
from ec_sweep.errors import ExitCode
from ec_sweep.options import (
    HERE,
    Home,
    Json,
    Scale,
    Storage,
    StudyName,
    place,
    request,
    seconds,
)

if TYPE_CHECKING:
    from ec_sweep.doctor import Examination


def cancel_study(
    study: StudyName,
    scale: Scale = "demo",
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait for it to stop: 90s, 2m, 1h.")
    ] = "2m",
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Stop a running study cleanly, from another terminal.

    It has to be a terminal of the same machine. Like Ctrl-C in its own: running trials end, nothing
    that is finished is lost, and `ecsweep study` goes on later. Given twice, it ends running trials
    at once. Exit code 0 when the study has stopped or nothing runs it, 1 when it is still stopping,
    2 when it runs on another machine.
    """
    from ec_sweep import cancelling, describing, output, planning

    patience = seconds("--timeout", timeout)
    where = place(home, storage, reads=True)
    name = f"{planning.name_of(where.home, study)}@{scale}"
    end = cancelling.cancel(where, name, patience, _nothing if as_json else typer.echo)
    if end is None or not end.stopped:
        if as_json:
            output.print_json({"study": name, "ran": end is not None, "stopped": False})
        elif end is None:
            typer.echo(f"Nothing runs {name}.")
        else:
            typer.echo(
                f"{name} is still being run by {end.holder} after {timeout}. Wait, or end its "
                f"running trials at once: {hints.command('cancel', study, scale=scale)}"
            )
        raise typer.Exit(ExitCode.OK if end is None else ExitCode.INCOMPLETE)
    found = planning.status(where, planning.resolve(where, study, request(scale)))
    if as_json:
        output.print_json({"study": name, "ran": True, "stopped": True})
        return
    typer.echo(f"{name} has stopped: {describing.counts(found)}.")
    if not found.done:
        typer.echo(f"Go on with: {hints.command('study', study, scale=scale)}")


def _nothing(_: str) -> None:
    """Say nothing: a document is to come."""


def see_doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair what is found.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte of datasets and predictions, too.")
    ] = False,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Find what crashes and edits by hand left behind, and repair it.

    It looks at the home folder, also for what older versions made. Without --fix nothing is
    changed. Studies that are being run are left alone. No finished result is ever removed; a cell
    is trained again only where no number of it is left.
    """
    from ec_sweep import doctor, output

    found = doctor.examine(place(home, storage, reads=True), fix, deep)
    if as_json:
        findings = [finding.to_json() for finding in found.findings]
        left = found.left_alone
        output.print_json({"home": str(found.home), "findings": findings, "left_alone": left})
    else:
        _print(found)
    raise typer.Exit(ExitCode.OK if found.healthy else ExitCode.INCOMPLETE)


def _print(found: "Examination") -> None:
    for finding in found.findings:
        study = f"{finding.study}: " if finding.study else ""
        typer.echo(f"{finding.kind}  {study}{finding.where}: {finding.problem}")
        if finding.fixed:
            typer.echo(f"    repaired ({finding.remedy})")
        elif finding.repair:
            typer.echo(f"    {'not repaired' if found.fix else 'with --fix'}: {finding.remedy}")
        else:
            typer.echo(f"    by hand: {finding.remedy}")
    for study in found.left_alone:
        typer.echo(f"{study} is being run: left alone.")
    fixed = sum(finding.fixed for finding in found.findings)
    left = len(found.findings) - fixed
    if not found.findings:
        typer.echo(f"{found.home}: everything is as it should be.")
    else:
        again = any(finding.repair and not finding.fixed for finding in found.findings)
        fix = hints.command("doctor", "--fix")
        more = f" Repair with: {fix}" if again and not found.fix else ""
        typer.echo(f"{found.home}: {fixed} repaired, {left} left.{more}")
