"""A study run with what it shows on the way, for the command line and for Python alike."""

from collections.abc import Mapping

import typer

from ec_sweep import app, hints, planning
from ec_sweep.app import Options
from ec_sweep.errors import EcsweepError
from ec_sweep.messages import say_data, say_request
from ec_sweep.planning import Place, Resolved, StudyStatus
from ec_sweep.progress import progress
from ec_sweep.spec import Request


def runnable(place: Place, requests: Mapping[str, Request], *, follow: bool) -> list[Resolved]:
    """Return the studies asked for; nothing is written before all are known to be runnable."""
    for name, wanted in requests.items():
        planning.check_runnable(planning.resolve(place, name, wanted, follow=follow))
    place.home.prepare()
    return [
        planning.resolve(place, name, wanted, follow=follow, build=True)
        for name, wanted in requests.items()
    ]


def run(place: Place, resolved: Resolved, options: Options) -> StudyStatus:
    """Run one study and show its progress; returns the state of every cell.

    Raises:
        EcsweepError: another driver runs it, or its state cannot be used or told.
        KeyboardInterrupt: it was stopped; what is done is kept, and how to go on has been said.
    """
    name, scale = resolved.sweep.study, resolved.request.scale
    if scale == "demo":
        full = hints.command("study", name, scale="paper")
        typer.echo(f"Demo scale (embedded sample). Full size: {full}")
    say_request(resolved)
    say_data(resolved)
    interrupts = app.Interrupts()
    found = app.run_study(place, resolved, options, progress, interrupts)
    if interrupts.count and not (found and found.done):
        left = f" with {found.left} cells left" if found else ""
        typer.echo(f"Interrupted{left}. Go on with: {hints.on('study', resolved.name)}")
        raise KeyboardInterrupt
    if found is None:
        raise EcsweepError(
            f"{name} has run, and its databases are away now. "
            f"See: {hints.on('status', resolved.name)}"
        )
    return found
