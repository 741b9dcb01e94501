"""Finding the saved model that is meant: the best of a study, a cell's, or one named by itself."""

import atexit
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ec_sweep import saving
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.experiments import find_tracker
from ec_sweep.hints import command
from ec_sweep.logged_models import FILES, best_of_each_dataset
from ec_sweep.mlflow_store import connect, exists, is_local, tracking_uri
from ec_sweep.paths import Home
from ec_sweep.spec import SCALES
from ec_sweep.stored import Measured, SavedModel, artifact_folder

_MODEL_ID = re.compile(r"^model_id: (m-\w+)$", re.MULTILINE)


def best_models(tracker: Measured) -> list[SavedModel]:
    """Return the best saved model of each dataset of a study, newest dataset first."""
    return list(best_of_each_dataset(tracker.saved_models()).values())[::-1]


def of_study(home: Home, study: str, scale: str, cell: str) -> Path:
    """Return the files of a study's saved model: of the best cell, or of the one named.

    Raises:
        EcsweepError: there is none, or several are the best, each of its dataset.
    """
    name = f"{study}@{scale}"
    tracker = find_tracker(home, name)
    models = tracker.saved_models() if tracker else []
    if not models and (elsewhere := _other_scale(home, study, scale)):
        raise EcsweepError(
            f"no model of {name} is saved, but there are at {elsewhere} scale: "
            f"add --scale {elsewhere}"
        )
    if tracker is None or not models:
        asked = "" if cell == "best" else cell
        raise EcsweepError(f"no model of {name} is saved. {_remedy(tracker, study, scale, asked)}")
    cards = tracker.cards({model.dataset for model in models})
    if cell != "best":
        chosen = [model for model in models if model.cell.startswith(cell)]
        if not chosen:
            raise EcsweepError(
                f"no model of cell {cell} of {name} is saved, but of {_shown(models, cards)}. "
                f"{_remedy(tracker, study, scale, cell)}"
            )
        if len({model.cell for model in chosen}) > 1:
            raise EcsweepError(f"--cell {cell} begins several cells: {_shown(chosen, cards)}.")
        return _folder(home, chosen[-1], study, scale)
    best = best_models(tracker)
    if len(best) > 1:
        raise EcsweepError(
            f"{name} has a best model for each of {len(best)} datasets. "
            f"Choose one with --cell: {_shown(best, cards)}."
        )
    return _folder(home, best[0], study, scale)


def _other_scale(home: Home, study: str, scale: str) -> str | None:
    """Return the other scale, where the study has models saved."""
    for other in SCALES:
        tracker = None if other == scale else find_tracker(home, f"{study}@{other}")
        if tracker and tracker.saved_models():
            return other
    return None


def named(home: Home, model: str) -> Path:
    """Return the files of a model named by a folder, a file in it, or an address of MLflow's."""
    if model.startswith(("models:/", "runs:/", "mlflow-artifacts:/")):
        return _inside(_downloaded(home, model), model)
    path = Path(model)
    try:
        return _inside(path.parent if path.is_file() else path, model)
    except OSError as error:
        raise EcsweepError(f"--model {model} cannot be read ({error.strerror}).") from error


def address(folder: Path) -> str:
    """Return by what MLflow knows the model whose files these are, ``""`` where it does not."""
    try:
        found = _MODEL_ID.search((folder.parents[1] / "MLmodel").read_text())
    except (OSError, ValueError):
        return ""
    return f"models:/{found[1]}" if found else ""


def _folder(home: Home, model: SavedModel, study: str, scale: str) -> Path:
    """Return the files of a saved model, brought here where they are elsewhere."""
    if model.location.startswith(("/", "file:")):
        folder = artifact_folder(model.location)
    else:
        folder = _downloaded(home, f"models:/{model.model_id}")
    if not saving.exists(folder / FILES):
        raise EcsweepError(
            f"the files of the model of cell {model.cell} are missing from {folder}. Train it "
            f"again: {_commands(study, scale, model.cell, 'best')}"
        )
    return folder / FILES


def _inside(folder: Path, name: str) -> Path:
    """Return where ecsweep's own files are in a model's folder."""
    for place in (folder, folder / FILES, folder / "artifacts" / FILES):
        if saving.exists(place):
            return place
    raise EcsweepError(
        f"{name}: no model that ecsweep saved. Name its folder, or models:/ID as MLflow shows it."
    )


def _downloaded(home: Home, uri: str) -> Path:
    """Return a copy of a model's files, which goes when this process ends."""
    where = "of this home" if is_local(home) else "of MLFLOW_TRACKING_URI"
    if not exists(home):
        raise EcsweepError(f"{uri}: no such model {where}, which holds no study yet.")
    connect(home)
    from mlflow import artifacts, set_registry_uri, set_tracking_uri
    from mlflow.exceptions import MlflowException

    folder = tempfile.mkdtemp(prefix="ecsweep-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # What a model's address stands for, MLflow looks up in the default of the process alone.
    set_tracking_uri(tracking_uri(home))
    set_registry_uri(tracking_uri(home))
    try:
        return Path(artifacts.download_artifacts(uri, dst_path=folder))
    except (MlflowException, OSError) as error:
        reason = first_line(error)
        raise EcsweepError(f"{uri}: no such model {where} ({reason}).") from error


def _remedy(tracker: Measured | None, study: str, scale: str, cell: str = "") -> str:
    """Return the command that makes a model: trained cells have to be trained again."""
    keep = "all" if cell else "best"
    runs = [run for run in tracker.runs() if run.complete] if tracker else []
    runs = [run for run in runs if run.cell.startswith(cell)]
    if not runs:
        return f"Train it: {command('study', study, '--save-models', keep, scale=scale)}"
    best = max(runs, key=lambda run: run.metrics.get("val_accuracy", -1))
    return f"Train it again: {_commands(study, scale, best.cell, keep)}"


def _commands(study: str, scale: str, cell: str, keep: str) -> str:
    """Return what trains a cell again and saves its model."""
    forget = command("forget", study, "--cell", cell, "--yes", scale=scale)
    return f"{forget} && {command('study', study, '--save-models', keep, scale=scale)}"


def _shown(models: Sequence[SavedModel], cards: Mapping[str, Mapping[str, Any]]) -> str:
    found = [
        f"{model.cell} (validation accuracy {model.val_accuracy:.4f}, "
        f"{_data(model.dataset, cards.get(model.dataset))})"
        for model in models[:10]
    ]
    more = f" and {len(models) - 10} more" if len(models) > 10 else ""
    return f"{'; '.join(found)}{more}"


def _data(fingerprint: str, card: Mapping[str, Any] | None) -> str:
    """Return which dataset it is, as far as its card is known."""
    words = f"{card['name']}, {card['split']} split" if card else "dataset"
    return f"{words} {fingerprint[:12]}"
