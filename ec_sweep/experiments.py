"""Finding and opening the MLflow experiments of studies, one for each study and scale."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ec_sweep import hints
from ec_sweep.errors import EcsweepError
from ec_sweep.mlflow_store import (
    connect,
    exists,
    is_local,
    keeps_artifacts_here,
    pages,
    reaching,
)  # fmt: skip
from ec_sweep.paths import Home
from ec_sweep.stored import Measured, artifact_folder, stored_studies
from ec_sweep.tracking import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_tracker(home: Home, study: str) -> Tracker:
    """Open the experiment of a study, making it and its database if need be."""
    client = connect(home)
    if tracker := _existing(home, client, study):
        return tracker
    location = home.artifacts.resolve().as_uri() if keeps_artifacts_here(home) else None
    # The UI opens such an experiment on its training runs, not on language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    made = reaching(client).create_experiment(study, location, tags)
    return Tracker(client, made, study)


def tracked_studies(
    home: Home, scale: str, only: Sequence[str] | None = None
) -> dict[str, Measured]:
    """Return, by study, all that have been asked for at a scale, or some."""
    if only is not None:
        asked = {name: find_tracker(home, f"{name}@{scale}") for name in only}
        return {name: tracker for name, tracker in asked.items() if tracker and tracker.asked}
    if not exists(home):
        return {}
    found: Mapping[str, Measured | None] | None = stored_studies(home)
    if found is None:
        client = connect(home)
        names = sorted(experiment.name for experiment in pages(client.search_experiments))
        some = [name for name in names if name.endswith(f"@{scale}")]
        found = {name: _existing(home, client, name) for name in some}
    return {
        name.partition("@")[0]: tracker
        for name, tracker in found.items()
        if tracker and name.endswith(f"@{scale}") and tracker.asked
    }


def find_tracker(home: Home, study: str) -> Measured | None:
    """Open the experiment of a study for reading, ``None`` when there is none yet."""
    if not exists(home):
        return None
    stored = stored_studies(home)
    return _existing(home, connect(home), study) if stored is None else stored.get(study)


def find_writable(home: Home, study: str) -> Tracker | None:
    """Open the experiment of a study for writing, ``None`` when there is none yet."""
    return _existing(home, connect(home), study) if exists(home) else None


def _existing(home: Home, client: "MlflowClient", study: str) -> Tracker | None:
    experiment = reaching(client).get_experiment_by_name(study)
    if experiment is None:
        return None
    fix = hints.command("doctor", "--fix")
    if experiment.lifecycle_stage == "deleted":
        raise EcsweepError(
            f"the MLflow experiment {study} was deleted. Bring it back with {fix} "
            f"or 'mlflow experiments restore --experiment-id {experiment.experiment_id}'."
        )
    if is_local(home):
        before = artifact_folder(experiment.artifact_location)
        if before.resolve() != home.artifacts.resolve():
            raise EcsweepError(
                f"this home was {before.parents[1]} when {study} was run, and MLflow keeps "
                f"absolute paths. Move it back, or have them changed with: {fix}"
            )
    elif keeps_artifacts_here(home) and experiment.artifact_location.startswith(("/", "file:")):
        folder = artifact_folder(experiment.artifact_location)
        if not folder.exists():
            raise EcsweepError(
                f"the artifacts of {study} are in {folder}, where it was run first, and that is "
                "not here. Mount it at the same path, or share runs through an MLflow server "
                "(docs/databases.md)."
            )
    stored = (stored_studies(home) or {}).get(study)
    return Tracker(client, experiment.experiment_id, study, stored)
