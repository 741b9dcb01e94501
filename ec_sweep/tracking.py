"""What the attempts measured: MLflow is the only truth, and only this module speaks to it."""

import functools
import hashlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import ec_sweep
from ec_sweep.attempts import AttemptFolder, Event, Result, now
from ec_sweep.errors import EcsweepError
from ec_sweep.mlflow_store import connect, is_local, pages
from ec_sweep.paths import Home
from ec_sweep.spec import Cell

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
    "not_available": "FAILED",
}
"""The status of a run whose attempt ended so."""


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

    @property
    def attempt(self) -> int:
        """1 for the first attempt at the cell."""
        return int(self.tags.get("ecsweep.attempt", 1))

    @property
    def concurrency(self) -> int:
        """Trials that shared the machine with it, itself included."""
        return int(self.tags.get("ecsweep.concurrency", 1))

    @property
    def exclusive(self) -> bool:
        """Whether it had the machine to itself, so that its times mean something."""
        return self.tags.get("ecsweep.concurrency") == "1"


class Tracker:
    """The MLflow experiment of one study, ``name@scale``."""

    def __init__(self, client: "MlflowClient", experiment_id: str, study: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._study = study

    def open_parent(self, title: str) -> str:
        """Return the study's parent run, opened for another session."""
        run = self._parent()
        if run is None:
            tags = {
                "ecsweep.role": "study",
                "ecsweep.study": self._name,
                "ecsweep.scale": self._scale,
                "mlflow.note.content": title,
            }
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=self._study)
        else:
            self._client.update_run(run.info.run_id, status="RUNNING")
        return str(run.info.run_id)

    def close_parent(self, run_id: str, status: str) -> None:
        """End the parent run as FINISHED, FAILED or KILLED."""
        self._client.set_terminated(run_id, status)

    def store_plan(self, parent: str, plan: dict[str, Any]) -> None:
        """Keep the resolved plan; at every instant the old or the new one is in force."""
        text = json.dumps(plan, indent=1)
        name = f"plans/{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        if self._client.get_run(parent).data.tags.get("ecsweep.plan") != name:
            self._client.log_text(parent, text, name)
            self._client.set_tag(parent, "ecsweep.plan", name)

    @property
    def asked(self) -> bool:
        """Whether the study has ever been asked for."""
        run = self._parent()
        return run is not None and "ecsweep.plan" in run.data.tags

    def plan(self) -> dict[str, Any] | None:
        """Return the plan that was last asked for, ``None`` before the first study."""
        run = self._parent()
        name = run.data.tags.get("ecsweep.plan") if run else None
        if run is None or name is None:
            return None
        text = self._artifact(run.info.run_id, name)
        found: dict[str, Any] = json.loads(text)
        return found

    def store_card(self, parent: str, card: dict[str, Any]) -> None:
        """Keep a dataset's card with the study that uses it."""
        name = f"datasets/{card['name']}-{card['fingerprint'][:12]}.json"
        self._client.log_text(parent, json.dumps(card, indent=2), name)

    def parent_id(self) -> str | None:
        """Return the run that stands for the study as a whole."""
        run = self._parent()
        return str(run.info.run_id) if run else None

    def cards(self, fingerprints: Container[str]) -> dict[str, dict[str, Any]]:
        """Return the cards of the datasets with these fingerprints, by name."""
        parent = self._parent()
        if parent is None:
            return {}
        found = {}
        for file in self._client.list_artifacts(parent.info.run_id, "datasets"):
            card: dict[str, Any] = json.loads(self._artifact(parent.info.run_id, file.path))
            if card["fingerprint"] in fingerprints:
                found[str(card["name"])] = card
        return found

    def _artifact(self, run_id: str, name: str) -> str:
        """Return the text of an artifact that goes with the study's plan."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(run_id, name)).read_text()
        except (MlflowException, OSError) as error:
            raise EcsweepError(
                f"what was last asked of {self._study} is missing from MLflow's artifacts. "
                f"Ask again: ecsweep study {self._name} --scale {self._scale} --defaults"
            ) from error

    def predictions(self, run_id: str) -> Path:
        """Return the file of a run's test ids, labels and probabilities."""
        from mlflow.exceptions import MlflowException

        try:
            return Path(self._client.download_artifacts(run_id, "predictions.npz"))
        except (MlflowException, OSError) as error:
            raise EcsweepError(
                f"the predictions of run {run_id} of {self._study} are missing from MLflow's "
                f"artifacts. Train its cell again: ecsweep forget {self._name} --scale "
                f"{self._scale}, then ecsweep study {self._name} --scale {self._scale}"
            ) from error

    def history(self, run_id: str, metric: str) -> list[float]:
        """Return a metric's value after each epoch, from the first on."""
        measured = self._client.get_metric_history(run_id, metric)
        by_epoch = {point.step: point.value for point in measured if point.step}
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def start(self, cell: Cell, attempt: int, parent: str, label: str, concurrency: int) -> str:
        """Create the run of an attempt, complete with its tags; returns its id."""
        from mlflow.entities import Param

        run = self._client.create_run(
            self._experiment_id,
            start_time=now(),
            run_name=label if attempt == 1 else f"{label} (attempt {attempt})",
            tags={
                "mlflow.parentRunId": parent,
                "ecsweep.role": "attempt",
                "ecsweep.cell": str(cell.id),
                "ecsweep.study": self._name,
                "ecsweep.scale": self._scale,
                "ecsweep.seed": str(cell.seed),
                "ecsweep.attempt": str(attempt),
                "ecsweep.dataset": str(cell.fingerprint),
                "ecsweep.concurrency": str(concurrency),
                "ecsweep.version": code_version(),
            },
        )
        params = {**cell.params, "seed": cell.seed}
        self._client.log_batch(
            run.info.run_id,
            params=[Param(name, _param(value)) for name, value in params.items()],
        )
        return str(run.info.run_id)

    def log(self, run_id: str, events: Sequence[Event]) -> None:
        """Log events under their own times, so that logging them again changes nothing."""
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(name, value, event.timestamp, event.epoch)
            for event in events
            for name, value in event.metrics.items()
        ]
        environment = {key: text for event in events for key, text in event.environment.items()}
        tags = [RunTag(f"ecsweep.environment.{key}", text) for key, text in environment.items()]
        self._client.log_batch(run_id, metrics, tags=tags)

    def finish(self, run_id: str, result: Result, folder: AttemptFolder) -> None:
        """Log an attempt's result and artifacts and end its run; repeating it changes nothing."""
        from mlflow.entities import Metric, RunTag

        tags = {"ecsweep.failure": result.failure, "ecsweep.message": result.message[:2000]}
        self._client.log_batch(
            run_id,
            [Metric(name, value, result.timestamp, 0) for name, value in result.metrics.items()],
            tags=[RunTag(name, text) for name, text in tags.items() if text],
        )
        if result.traceback:
            self._client.log_text(run_id, result.traceback, "traceback.txt")
        if result.outcome == "complete" and folder.predictions.exists():
            self._client.log_artifact(run_id, str(folder.predictions))
        self._client.set_terminated(run_id, STATUS[result.outcome], end_time=result.timestamp)

    def finished_value(self, run_id: str) -> float | None:
        """Return the final validation accuracy of a run that is FINISHED, else ``None``."""
        run = self._client.get_run(run_id)
        if run.info.status != "FINISHED":
            return None
        return run.data.metrics.get("val_accuracy")

    @property
    def any_run(self) -> bool:
        """Whether there is any attempt at a cell."""
        return next(self._search("tags.`ecsweep.role` = 'attempt'"), None) is not None

    def runs(self) -> list[TrackedRun]:
        """Return every attempt of the study, first attempts first.

        The order is that of the attempts' numbers: clocks may be set back.
        """
        found = []
        for run in self._search("tags.`ecsweep.role` = 'attempt'"):
            tags = run.data.tags
            found.append(
                TrackedRun(
                    run_id=run.info.run_id,
                    cell=tags["ecsweep.cell"],
                    seed=int(tags.get("ecsweep.seed", 0)),
                    status=run.info.status,
                    metrics=run.data.metrics,
                    params=run.data.params,
                    tags=tags,
                )
            )
        return sorted(found, key=lambda run: run.attempt)

    def forget(self, run_ids: Sequence[str]) -> None:
        """Delete runs, as the MLflow UI does: its bin keeps them."""
        for run_id in run_ids:
            self._client.delete_run(run_id)

    @property
    def _name(self) -> str:
        return self._study.partition("@")[0]

    @property
    def _scale(self) -> str:
        return self._study.partition("@")[2]

    def _parent(self) -> "Run | None":
        return next(self._search("tags.`ecsweep.role` = 'study'"), None)

    def _search(self, condition: str) -> "Iterator[Run]":
        search = functools.partial(
            self._client.search_runs, [self._experiment_id], condition, order_by=["start_time"]
        )
        yield from pages(search)


@functools.cache
def code_version() -> str:
    """Return ecsweep's version and a digest of its sources, which tells edited copies apart."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return f"{ec_sweep.__version__}+{digest.hexdigest()[:12]}"


def open_tracker(home: Home, study: str) -> Tracker:
    """Open the experiment of a study, making it and its database if need be."""
    client = connect(home)
    if tracker := _existing(home, client, study):
        return tracker
    location = home.artifacts.resolve().as_uri() if is_local(home) else None
    # The UI opens such an experiment on its training runs, not on language models.
    tags = {"mlflow.experimentKind": "custom_model_development"}
    return Tracker(client, client.create_experiment(study, location, tags), study)


def tracked_studies(home: Home, scale: str) -> dict[str, Tracker]:
    """Return the trackers of all studies that have been asked for at a scale, by study."""
    if is_local(home) and not home.mlflow_db.exists():
        return {}
    client = connect(home)
    names = [
        experiment.name
        for experiment in pages(client.search_experiments)
        if experiment.name.endswith(f"@{scale}")
    ]
    trackers = {name: _existing(home, client, name) for name in sorted(names)}
    return {
        name.partition("@")[0]: tracker
        for name, tracker in trackers.items()
        if tracker and tracker.asked
    }


def find_tracker(home: Home, study: str) -> Tracker | None:
    """Open the experiment of a study for reading, ``None`` when there is none yet."""
    if is_local(home) and not home.mlflow_db.exists():
        return None
    return _existing(home, connect(home), study)


def _existing(home: Home, client: "MlflowClient", study: str) -> Tracker | None:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        return None
    if experiment.lifecycle_stage == "deleted":
        raise EcsweepError(
            f"the MLflow experiment {study} was deleted. Bring it back with ecsweep doctor --fix "
            f"or 'mlflow experiments restore --experiment-id {experiment.experiment_id}'."
        )
    if is_local(home):
        before = Path(unquote(urlparse(experiment.artifact_location).path))
        if before.resolve() != home.artifacts.resolve():
            raise EcsweepError(
                f"this home was {before.parents[1]} when {study} was run, and MLflow keeps "
                "absolute paths. Move it back, or have them changed with: ecsweep doctor --fix"
            )
    return Tracker(client, experiment.experiment_id, study)


def _param(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
