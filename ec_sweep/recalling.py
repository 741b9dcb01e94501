"""What a study's last run knew that this command was not told: the models of a user's own file."""

from pathlib import Path

from ec_sweep import documents, hints, own_models, spec
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import find_tracker
from ec_sweep.own_building import OwnFile
from ec_sweep.paths import Home
from ec_sweep.spec import Sweep


def load(home: Home, path: Path, scale: str | None = None) -> Sweep:
    """Return what a sweep file says, which may name models that its last run was told of.

    That run was at ``scale``, or at any where there was none or none is given.
    Those are known by what they declare; running them takes the user's word (`own_models.know`).
    """
    try:
        return spec.load(path)
    except EcsweepError:
        known = own_models.known()
        last = None if known and known.allowed else _last_models(home, path, scale)
        if last is None:
            raise
    own_models.know(last)
    hints.with_models(last.name)
    return spec.load(path)


def study_of(sweep: Path) -> str | None:
    """Return the study that a sweep file names, whatever else may be wrong in it."""
    try:
        document = documents.parse(sweep.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reading it in earnest says what is wrong
        return None
    study = document.get("study") if isinstance(document, dict) else None
    return study if isinstance(study, str) else None


def _last_models(home: Home, sweep: Path, wanted: str | None) -> OwnFile | None:
    """Return the file of models with which the study of a sweep file was last run here."""
    study = study_of(sweep)
    for scale in sorted(spec.SCALES, key=lambda scale: scale != wanted) if study else ():
        tracker = find_tracker(home, f"{study}@{scale}")
        plan = tracker.plan() if tracker else None
        if plan and "models" in plan:
            return OwnFile(plan["models"]["file"], plan["models"]["text"])
    return None
