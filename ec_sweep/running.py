"""A study run with what it shows on the way, for the command line and for Python alike."""

from collections.abc import Mapping

from ec_sweep import app, estimates, hints, planning
from ec_sweep.app import Options
from ec_sweep.errors import EcsweepError
from ec_sweep.messages import of_data, of_request
from ec_sweep.planning import Place, Resolved, StudyStatus
from ec_sweep.spec import Request
from ec_sweep.voice import Voice


def runnable(place: Place, requests: Mapping[str, Request], *, follow: bool) -> list[Resolved]:
    """Return the studies asked for; nothing is written before all are known to be runnable."""
    for name, wanted in requests.items():
        planning.check_runnable(planning.resolve(place, name, wanted, follow=follow))
    place.home.prepare()
    return [
        planning.resolve(place, name, wanted, follow=follow, build=True)
        for name, wanted in requests.items()
    ]


def run(place: Place, resolved: Resolved, options: Options, says: Voice) -> StudyStatus:
    """Run one study and show its progress; returns the state of every cell.

    Raises:
        EcsweepError: another driver runs it, or its state cannot be used or told.
        KeyboardInterrupt: it was stopped; what is done is kept, and how to go on has been said.
    """
    _say_before(place, resolved, options, says)
    interrupts = app.Interrupts()
    found = app.run_study(place, resolved, options, says.show, interrupts)
    if interrupts.count and not (found and found.done):
        says.documents += [found.to_json() | {"files": [], "models": []}] if found else []
        left = f" with {found.left} cells left" if found else ""
        says.say(f"Interrupted{left}. Go on with: {hints.on('study', resolved.name)}")
        raise KeyboardInterrupt
    if found is None:
        raise EcsweepError(
            f"{resolved.sweep.study} has run, and its databases are away now. "
            f"See: {hints.on('status', resolved.name)}"
        )
    return found


def _say_before(place: Place, resolved: Resolved, options: Options, says: Voice) -> None:
    """Say what is run, and warn of what this machine does not hold."""
    if resolved.request.scale == "demo":
        full = hints.command("study", resolved.sweep.study, scale="paper")
        says.say(f"Demo scale (embedded sample). Full size: {full}")
    for line in (*of_request(resolved), *of_data(resolved)):
        says.say(line)
    costs = estimates.estimate(
        place.home,
        planning.status(place, resolved),
        workers=options.asked.workers,
        keep=options.limits.save_models,
        elsewhere=options.executor == "ray",
    )
    for line in costs.warnings:
        says.warn(line)
