"""`ecsweep doctor`: looks at everything that crashes, old versions and hands can leave."""

import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from ec_sweep import doctor_files, doctor_studies, hints, schemas
from ec_sweep.attempts import AttemptFolder
from ec_sweep.doctor_tracking import experiment_names
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import find_writable
from ec_sweep.findings import Finding
from ec_sweep.ledger_store import find_ledger, known_studies, sqlite_path
from ec_sweep.locks import holder_of, study_lock
from ec_sweep.mlflow_store import is_local
from ec_sweep.outages import UnavailableError
from ec_sweep.paths import Home
from ec_sweep.planning import Place

_STUDY = re.compile(r"[a-z0-9-]+@[a-z0-9-]+")
_RUN = re.compile(r"[0-9a-f]{32}")


@dataclass
class Examination:
    """What was found in a home folder, and what was repaired of it."""

    home: Path
    fix: bool
    findings: list[Finding] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    """Studies that a living driver runs."""

    @property
    def healthy(self) -> bool:
        """Whether nothing is left to repair."""
        return all(finding.fixed for finding in self.findings)

    def take(self, findings: Iterable[Finding]) -> bool:
        """Take findings in, each repaired before the next is looked for, if so asked.

        Returns whether nothing is left of them.
        """
        taken = [finding.mended() if self.fix else finding for finding in findings]
        self.findings += taken
        return all(finding.fixed for finding in taken)


def examine(place: Place, fix: bool = False, deep: bool = False) -> Examination:
    """Look at a home folder, and with ``fix`` repair what is found."""
    home = place.home
    found = Examination(home.root, fix)
    if home.work.parent.exists() and fix:
        home.work.mkdir(mode=0o700, exist_ok=True)
    work_folders = _work_folders(place)  # before the ledger, which knows them first
    found.take(doctor_files.files(home, deep))
    if not found.take(_databases(place)):
        if is_local(home) and not home.mlflow_db.exists():
            found.take(_artifacts_alone(home))
        return found
    if is_local(home) and not home.mlflow_db.exists():
        found.take(_without_measurements(place))
        return found
    names = {*known_studies(home, place.storage), *experiment_names(home)}
    for name in sorted(name for name in names if _STUDY.fullmatch(name)):
        _examine_study(found, place, name, deep)
    found.take(_unknown_folders(place, work_folders, sorted(names)))
    return found


def _examine_study(found: Examination, place: Place, name: str, deep: bool) -> None:
    """Look at one study, unless a driver runs it."""
    if holder_of(place.home, name, place.storage):
        found.left_alone.append(name)
        return
    before = len(found.findings)
    try:
        with study_lock(place.home, name, place.storage) if found.fix else nullcontext():
            found.take(doctor_studies.study(place, name, deep))
    except UnavailableError:
        raise
    except EcsweepError as error:  # the others are looked at all the same
        where, remedy = str(place.home.root), "See what it says, then examine again."
        found.take([Finding("study", name, where, str(error), remedy)])
    if not found.fix and holder_of(place.home, name, place.storage):  # it began meanwhile
        del found.findings[before:]
        found.left_alone.append(name)


def _databases(place: Place) -> Iterator[Finding]:
    """Look at the databases that are files."""
    home = place.home
    ledger = sqlite_path(home, place.storage)
    if ledger:
        yield from doctor_files.database(home, ledger, schemas.OPTUNA)
    if is_local(home):
        yield from doctor_files.database(home, home.mlflow_db, schemas.MLFLOW)


def _without_measurements(place: Place) -> Iterator[Finding]:
    """Look at a home without MLflow's database: healthy where nothing was trained."""
    home, found = place.home, False
    for name in known_studies(home, place.storage):
        ledger = find_ledger(home, place.storage, name)
        cells = len(ledger.attempts()) if ledger else 0
        if cells:
            found = True
            yield Finding(
                "database-missing",
                name,
                str(home.mlflow_db),
                f"it is gone, and with it the measurements of {cells} cells",
                "Put a backup in its place. If there is none, train them again: "
                f"{hints.on('forget', name)}",
            )
    if not found:
        yield from _artifacts_alone(home)


def _artifacts_alone(home: Home) -> Iterator[Finding]:
    """Look for artifacts that no database speaks of."""
    if home.artifacts.exists() and any(home.artifacts.iterdir()):
        yield Finding(
            "database-missing",
            None,
            str(home.mlflow_db),
            f"it is gone, though {home.artifacts} holds what studies have left",
            "Put backups of both databases in their place, or remove the artifacts.",
        )


def _work_folders(place: Place) -> list[Path]:
    work = place.home.work
    folders = sorted(work.iterdir()) if work.exists() else []
    return [path for path in folders if path.is_dir() and _RUN.fullmatch(path.name)]


def _unknown_folders(place: Place, folders: list[Path], names: list[str]) -> Iterator[Finding]:
    """Look for work folders of attempts that no ledger has as its own."""
    known: set[str] = set()
    recorded: set[str] = set()
    for name in names if folders else ():
        if ledger := find_ledger(place.home, place.storage, name):
            known |= {own.run_id for all_ in ledger.attempts().values() for own in all_}
            recorded |= ledger.forgotten_runs()
        try:
            tracker = find_writable(place.home, name)
        except EcsweepError:  # deleted or moved: reported already
            continue
        if tracker:
            recorded |= {run.run_id for run in tracker.runs() if run.status != "RUNNING"}
    for path in folders:
        folder = AttemptFolder(path)
        if path.name in known or not path.exists():
            continue
        with folder.lock() as free:
            if not free:  # of a study whose ledger is elsewhere
                continue
        problem = "it is of an attempt that no study knows"
        if path.name in recorded or not (path / "result.json").exists():
            yield Finding("work-folder", None, str(path), problem, "remove it", folder.remove)
        else:
            hand = "If its ledger is elsewhere, name it with --storage; else remove the folder."
            yield Finding("work-folder", None, str(path), f"{problem}, with a result", hand)
