"""What a study's runs measured, read from the home's own MLflow database without MLflow."""

import json
import math
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from ec_sweep import hints
from ec_sweep.attempts import Result, now
from ec_sweep.direct import MLFLOW_SCHEMA, reading
from ec_sweep.errors import EcsweepError
from ec_sweep.mlflow_store import is_local
from ec_sweep.paths import Home
from ec_sweep.study_page import VIEW_TAG


@dataclass(frozen=True)
class TrackedRun:
    """One attempt at a cell, as MLflow holds it."""

    run_id: str
    cell: str
    seed: int
    status: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    seconds: float | None = None
    """From start to end, when it has ended."""

    @property
    def attempt(self) -> int:
        """1 for the first attempt at the cell."""
        return int(self.tags.get("ecsweep.attempt", 1))

    @property
    def concurrency(self) -> int:
        """Trials that shared the machine with it, itself included."""
        return int(self.tags.get("ecsweep.concurrency", 1))

    @property
    def complete(self) -> bool:
        """Whether it was trained and tested to its end."""
        return self.status == "FINISHED" and "ecsweep.pruned" not in self.tags

    @property
    def exclusive(self) -> bool:
        """Whether it had the machine to itself, so that its times mean something."""
        return self.tags.get("ecsweep.concurrency") == "1"


@dataclass(frozen=True)
class SavedModel:
    """A trained model that MLflow keeps."""

    model_id: str
    run_id: str
    location: str
    """Address of its files."""
    ready: bool
    """Whether it was logged to its end."""
    tags: Mapping[str, str]

    @property
    def cell(self) -> str:
        """The cell that it was trained for."""
        return self.tags["ecsweep.cell"]

    @property
    def dataset(self) -> str:
        """The fingerprint of the dataset that it was trained on."""
        return self.tags["ecsweep.dataset"]

    @property
    def only_best(self) -> bool:
        """Whether it stays only while no other of its dataset is better."""
        return self.tags["ecsweep.keep"] == "best"

    @property
    def val_accuracy(self) -> float:
        """What models are compared by."""
        return float(self.tags["ecsweep.val_accuracy"])


def finished(status: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> Result | None:
    """Return what a run that is FINISHED stands for, ``None`` for any other.

    One without final metrics claims to have ended, and has not.
    """
    value = metrics.get("val_accuracy", metrics.get("test_accuracy"))
    if status == "FINISHED" and "ecsweep.pruned" in tags:
        return Result("pruned", now(), value=value)
    if status == "FINISHED" and "test_accuracy" in metrics:
        return Result("complete", now(), value=value)
    return None


class Measured(Protocol):
    """What is read of a study's runs, through MLflow or beside it."""

    @property
    def experiment_id(self) -> int:
        """MLflow's number of the experiment."""
        ...

    @property
    def has_view(self) -> bool:
        """Whether MLflow's UI is told how to show the study (`ec_sweep.study_page`)."""
        ...

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that was last asked for, ``None`` before the first study."""
        ...

    def parent_id(self) -> str | None:
        """Return the run that stands for the study as a whole."""
        ...

    def cards(self, fingerprints: Container[str]) -> dict[str, dict[str, Any]]:
        """Return the cards of the datasets with these fingerprints, by fingerprint."""
        ...

    @property
    def asked(self) -> bool:
        """Whether the study has ever been asked for."""
        ...

    @property
    def any_run(self) -> bool:
        """Whether there is any attempt at a cell."""
        ...

    def runs(self) -> list[TrackedRun]:
        """Return every attempt of the study, oldest first."""
        ...

    def saved_models(self) -> list[SavedModel]:
        """Return the models that can be used, oldest first."""
        ...

    def predictions(self, run_id: str) -> bytes:
        """Return a run's test ids, labels and probabilities (``predictions.npz``)."""
        ...

    def history(self, run_id: str, metric: str) -> list[float]:
        """Return a metric's value after each epoch, from the first on."""
        ...


_EXPERIMENTS = """
    SELECT name, experiment_id, artifact_location, lifecycle_stage FROM experiments
    WHERE workspace = 'default' AND name LIKE '%@%' ORDER BY name
"""
_RUNS = """
    SELECT run_uuid, status, artifact_uri, (end_time - start_time) / 1000.0
    FROM runs JOIN tags USING (run_uuid)
    WHERE experiment_id = ? AND lifecycle_stage = 'active' AND key = 'ecsweep.role' AND value = ?
    ORDER BY start_time, run_uuid
"""
_TAGGED = "SELECT 1 FROM experiment_tags WHERE experiment_id = ? AND key = ?"
_PLAN = "SELECT value FROM tags WHERE run_uuid = ? AND key = 'ecsweep.plan'"
_OF_RUNS = """
    SELECT run_uuid, key, {} FROM {} JOIN runs USING (run_uuid)
    WHERE experiment_id = ? AND lifecycle_stage = 'active'
"""
_MODELS = """
    SELECT model_id, source_run_id, artifact_location FROM logged_models
    WHERE experiment_id = ? AND lifecycle_stage = 'active' AND status = 2
    ORDER BY creation_timestamp_ms, model_id
"""
_OF_MODELS = "SELECT model_id, tag_key, tag_value FROM logged_model_tags WHERE experiment_id = ?"
_HISTORY = """
    SELECT step, value, is_nan FROM metrics WHERE run_uuid = ? AND key = ? AND step > 0
    ORDER BY step, timestamp
"""


@dataclass(frozen=True)
class StoredStudy:
    """The MLflow experiment of one study in the home's own database, for reading alone."""

    database: Path
    experiment_id: int
    study: str
    """``name@scale``."""

    def plan(self) -> dict[str, Any] | None:
        """See `Measured`."""
        path = self._plan()
        name = f"{path.parent.name}/{path.name}" if path else ""
        return {**self._document(path), "name": name} if path else None

    @property
    def asked(self) -> bool:
        """See `Measured`."""
        return self._plan() is not None

    @property
    def has_view(self) -> bool:
        """See `Measured`."""
        return bool(self._rows(_TAGGED, self.experiment_id, VIEW_TAG))

    def parent_id(self) -> str | None:
        """See `Measured`."""
        return next((run_id for run_id, _ in self._parent()), None)

    def cards(self, fingerprints: Container[str]) -> dict[str, dict[str, Any]]:
        """See `Measured`."""
        files = [f for _, folder in self._parent() for f in sorted(folder.glob("datasets/*.json"))]
        cards = [self._document(file) for file in files]
        found = {card["fingerprint"]: card for card in cards}
        return {name: card for name, card in found.items() if name in fingerprints}

    @property
    def any_run(self) -> bool:
        """See `Measured`."""
        return bool(self._rows(f"{_RUNS} LIMIT 1", self.experiment_id, "attempt"))

    def runs(self) -> list[TrackedRun]:
        """See `Measured`."""
        rows = self._rows(_RUNS, self.experiment_id, "attempt")
        tags, params = self._by_run("tags", "value"), self._by_run("params", "value")
        # MLflow keeps a number beside the mark of what is none.
        metrics = self._by_run("latest_metrics", "iif(is_nan, NULL, value)")
        found = [
            TrackedRun(
                run_id=run_id,
                cell=tags[run_id]["ecsweep.cell"],
                seed=int(tags[run_id]["ecsweep.seed"]),
                status=status,
                metrics={key: _float(value) for key, value in metrics[run_id].items()},
                params=params[run_id],
                tags=tags[run_id],
                seconds=seconds,
            )
            for run_id, status, _, seconds in rows
        ]
        return sorted(found, key=lambda run: run.attempt)  # clocks may be set back

    def saved_models(self) -> list[SavedModel]:
        """See `Measured`."""
        tags: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for model_id, key, value in self._rows(_OF_MODELS, self.experiment_id):
            tags[model_id][key] = value
        return [
            SavedModel(model_id, run_id, location, True, tags[model_id])
            for model_id, run_id, location in self._rows(_MODELS, self.experiment_id)
            if "ecsweep.keep" in tags[model_id]  # others were logged by hand
        ]

    def predictions(self, run_id: str) -> bytes:
        """See `Measured`."""
        for (uri,) in self._rows("SELECT artifact_uri FROM runs WHERE run_uuid = ?", run_id):
            path = artifact_folder(uri) / "predictions.npz"
            if path.exists():
                return path.read_bytes()
        raise no_predictions(self.study, run_id)

    def history(self, run_id: str, metric: str) -> list[float]:
        """See `Measured`."""
        by_epoch = {
            step: math.nan if is_nan else value
            for step, value, is_nan in self._rows(_HISTORY, run_id, metric)
        }
        return list(by_epoch.values())

    def _parent(self) -> list[tuple[str, Path]]:
        """Return the parent run and the folder of its artifacts, where there is one."""
        rows = self._rows(f"{_RUNS} LIMIT 1", self.experiment_id, "study")
        return [(run_id, artifact_folder(uri)) for run_id, _, uri, _ in rows]

    def _plan(self) -> Path | None:
        """Return the file of the plan in force."""
        for run_id, folder in self._parent():
            for (name,) in self._rows(_PLAN, run_id):
                return folder / str(name)
        return None

    def _by_run(self, table: str, value: str) -> defaultdict[str, dict[str, Any]]:
        found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for run_id, key, content in self._rows(_OF_RUNS.format(value, table), self.experiment_id):
            found[run_id][key] = content
        return found

    def _document(self, path: Path) -> dict[str, Any]:
        """Return an artifact that goes with the study's plan."""
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:  # missing, or torn by a power cut
            raise no_plan(self.study) from error
        return found

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return _rows(self.database, query, *values) or []


def stored_studies(home: Home) -> dict[str, StoredStudy] | None:
    """Return the studies in the home's own database, by ``name@scale``.

    ``None`` where only MLflow can tell: the data is elsewhere, its schema is
    not known here, a study was deleted, or the home has been moved.
    """
    found = _rows(home.mlflow_db, _EXPERIMENTS) if is_local(home) else None
    here = home.artifacts.resolve()
    if found is None or any(
        stage != "active" or artifact_folder(place).resolve() != here
        for _, _, place, stage in found
    ):
        return None
    return {name: StoredStudy(home.mlflow_db, number, name) for name, number, _, _ in found}


def no_plan(study: str) -> EcsweepError:
    """Return the error that what goes with a study's plan is missing."""
    return EcsweepError(
        f"what was last asked of {study} is missing from MLflow's artifacts. "
        f"Ask again: {hints.on('study', study, '--defaults')}"
    )


def no_predictions(study: str, run_id: str) -> EcsweepError:
    """Return the error that a run's predictions are missing or damaged."""
    return EcsweepError(
        f"the predictions of run {run_id} of {study} are missing or damaged in MLflow's artifacts. "
        f"Train its cell again: {hints.on('forget', study)}, then {hints.on('study', study)}"
    )


def _rows(path: Path, query: str, *values: object) -> list[tuple[Any, ...]] | None:
    with reading(path, MLFLOW_SCHEMA) as connection:
        return connection.execute(query, values).fetchall() if connection else None


def artifact_folder(uri: str) -> Path:
    """Return the folder that an address of artifacts on this machine means."""
    return Path(unquote(urlparse(uri).path))


def _float(value: float | None) -> float:
    return math.nan if value is None else value
