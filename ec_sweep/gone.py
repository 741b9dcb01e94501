"""Where one of the two databases is gone of whose content the other speaks."""

from ec_sweep import hints
from ec_sweep.direct import OPTUNA_SCHEMA, reading
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import find_tracker
from ec_sweep.ledger import Ledger
from ec_sweep.ledger_store import find_ledger
from ec_sweep.mlflow_store import is_local
from ec_sweep.paths import Home
from ec_sweep.planning import Place, StudyStatus


def of_status(place: Place, found: StudyStatus) -> str | None:
    """Return in a line what is gone of a study, ``None`` where all is there."""
    tried = len(found.orphaned) + sum(bool(cell.attempts) for cell in found.cells)
    return of_study(place, found.resolved.name, tried)


def of_study(place: Place, name: str, cells: int, ledger: Ledger | None = None) -> str | None:
    """Return in a line what is gone of a study of which the ledger knows so many cells."""
    home = place.home
    if cells:
        return _measurements(home, f"the measurements of {cells} cells") if _lacks(home) else None
    tracker = find_tracker(home, name)
    runs = tracker.runs() if tracker else []
    # Others are left by drivers that die before the ledger knows: the next one mends that.
    ended = sum(run.status in ("FINISHED", "FAILED") for run in runs)
    if not ended:
        return None
    ledger = ledger or find_ledger(home, place.storage, name)
    if ledger and ledger.forgotten_runs():
        return None
    return (
        f"the ledger does not know {name}, of which MLflow holds {ended} runs. If it is "
        f"elsewhere, name it with --storage. What else can be done says: {hints.command('doctor')}"
    )


def check_tracking(home: Home) -> None:
    """Raise an error when MLflow's database is gone from a home in which studies have run."""
    if not _lacks(home):
        return
    left = home.artifacts.exists() and any(home.artifacts.iterdir())
    if left or _any_trial(home):
        raise EcsweepError(_measurements(home, "all measurements"))


def _lacks(home: Home) -> bool:
    return is_local(home) and not home.mlflow_db.exists()


def _measurements(home: Home, what: str) -> str:
    return (
        f"{home.mlflow_db} is gone, and with it {what}. Put a backup in its place. "
        f"What else can be done says: {hints.command('doctor')}"
    )


def _any_trial(home: Home) -> bool:
    with reading(home.studies_db, OPTUNA_SCHEMA) as database:
        return bool(database and database.execute("SELECT 1 FROM trials LIMIT 1").fetchone())
