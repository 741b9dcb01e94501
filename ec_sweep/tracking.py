"""What the attempts measured: MLflow is the only truth.

Only this module writes it, `ec_sweep.logged_models` the models, and `ec_sweep.study_page` what
the UI shows of a study as a whole.
"""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ec_sweep.attempts import AttemptFolder, Event, Result, now
from ec_sweep.hyperparameters import in_text
from ec_sweep.logged_models import LoggedModels
from ec_sweep.mlflow_store import pages, reaching
from ec_sweep.spec import Cell
from ec_sweep.stored import (
    SavedModel,
    StoredStudy,
    TrackedRun,
    artifact_folder,
    finished,
    no_plan,
    no_predictions,
)
from ec_sweep.study_page import StudyPage
from ec_sweep.versions import code_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

STATUS = {
    "complete": "FINISHED",
    "pruned": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
    "not_available": "FAILED",
}
"""The status of a run whose attempt ended so."""


class Tracker:
    """The MLflow experiment of one study, ``name@scale``."""

    def __init__(
        self,
        client: "MlflowClient",
        experiment_id: str,
        study: str,
        stored: StoredStudy | None = None,
    ) -> None:
        self._client = reaching(client)
        self._experiment_id = experiment_id
        self._study = study
        self._stored = stored
        self._artifacts: dict[str, str] = {}
        """Where the artifacts of runs begun here go."""
        self._waiting: dict[str, tuple[list[Metric], dict[str, str]]] = {}
        """Metrics and tags of a run that its next write takes along."""

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

    def close_parent(self, status: str) -> None:
        """End the parent run, if it has been opened, as FINISHED, FAILED or KILLED."""
        if parent := self.parent_id():
            self._client.set_terminated(parent, status)

    def store_plan(self, parent: str, plan: dict[str, Any]) -> str:
        """Keep the resolved plan; at every instant the old or the new one is in force.

        Returns the name under which it is kept.
        """
        text = json.dumps(plan, indent=1)
        name = f"plans/{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        if self._client.get_run(parent).data.tags.get("ecsweep.plan") != name:
            self._client.log_text(parent, text, name)
            self._client.set_tag(parent, "ecsweep.plan", name)
        return name

    @property
    def asked(self) -> bool:
        """Whether the study has ever been asked for."""
        run = self._parent()
        return run is not None and "ecsweep.plan" in run.data.tags

    def plan(self) -> dict[str, Any] | None:
        """Return the plan last asked for, with its name; ``None`` before the first study."""
        run = self._parent()
        name = run.data.tags.get("ecsweep.plan") if run else None
        if run is None or name is None:
            return None
        return {**self._document(run.info.run_id, name), "name": name}

    def store_card(self, parent: str, card: dict[str, Any]) -> None:
        """Keep a dataset's card with the study that uses it."""
        name = f"datasets/{card['name']}-{card['fingerprint'][:12]}.json"
        self._client.log_text(parent, json.dumps(card, indent=2), name)

    @property
    def experiment_id(self) -> int:
        """MLflow's number of the experiment."""
        return int(self._experiment_id)

    @property
    def has_view(self) -> bool:
        """Whether MLflow's UI is told how to show the study."""
        return self.page.has_view

    def parent_id(self) -> str | None:
        """Return the run that stands for the study as a whole."""
        run = self._parent()
        return str(run.info.run_id) if run else None

    def cards(self, fingerprints: Container[str]) -> dict[str, dict[str, Any]]:
        """Return the cards of the datasets with these fingerprints, by fingerprint."""
        parent = self._parent()
        if parent is None:
            return {}
        found = {}
        for file in self._client.list_artifacts(parent.info.run_id, "datasets"):
            card = self._document(parent.info.run_id, file.path)
            if card["fingerprint"] in fingerprints:
                found[str(card["fingerprint"])] = card
        return found

    def _document(self, run_id: str, name: str) -> dict[str, Any]:
        """Return an artifact that goes with the study's plan."""
        from mlflow.exceptions import MlflowException

        try:
            found: dict[str, Any] = json.loads(self._artifact(run_id, name))
        except (MlflowException, OSError, ValueError) as error:  # missing, or torn by a power cut
            raise no_plan(self._study) from error
        return found

    def _artifact(self, run_id: str, name: str) -> bytes:
        """Return the content of an artifact; MLflow itself would leave a copy behind."""
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._client.download_artifacts(run_id, name, folder)).read_bytes()

    def saved_models(self) -> list[SavedModel]:
        """Return the models that can be used, oldest first."""
        return [model for model in self.models.find() if model.ready]

    def predictions(self, run_id: str) -> bytes:
        """Return a run's test ids, labels and probabilities (``predictions.npz``)."""
        from mlflow.exceptions import MlflowException

        try:
            return self._artifact(run_id, "predictions.npz")
        except (MlflowException, OSError) as error:
            raise no_predictions(self._study, run_id) from error

    def history(self, run_id: str, metric: str) -> list[float]:
        """Return a metric's value after each epoch, from the first on."""
        measured = self._client.get_metric_history(run_id, metric)
        by_epoch = {point.step: point.value for point in measured if point.step}
        return [by_epoch[epoch] for epoch in sorted(by_epoch)]

    def start(
        self,
        cell: Cell,
        attempt: int,
        parent: str,
        label: str,
        concurrency: int,
        tags: Mapping[str, str] | None = None,
    ) -> str:
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
                **(tags or {}),
            },
        )
        self._artifacts[run.info.run_id] = run.info.artifact_uri
        params = {**cell.params, "seed": cell.seed}
        self._client.log_batch(
            run.info.run_id,
            params=[Param(name, in_text(value)) for name, value in params.items()],
        )
        return str(run.info.run_id)

    def log(self, run_id: str, events: Sequence[Event], last: bool = False) -> None:
        """Log events under their own times, so that logging them again changes nothing.

        A write costs more than what it writes: what a run is on waits for its first metrics, and
        the ``last`` events for `finish`. Only the node of a cluster, which is looked for while
        it runs, does not wait.
        """
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, event.timestamp, event.epoch)
            for event in events
            for name, value in event.metrics.items()
        ]
        found = {key: text for event in events for key, text in event.environment.items()}
        tags = {f"ecsweep.environment.{key}": text for key, text in found.items()}
        if "node" in found or (metrics and not last):
            self._log_batch(run_id, metrics, tags)
        else:
            before, others = self._waiting.get(run_id, ([], {}))
            self._waiting[run_id] = (before + metrics, others | tags)

    def finish(self, run_id: str, result: Result, folder: AttemptFolder) -> None:
        """Log an attempt's result and artifacts and end its run; repeating it changes nothing."""
        from mlflow.entities import Metric

        tags = {"ecsweep.failure": result.failure, "ecsweep.message": result.message[:2000]}
        if result.outcome == "pruned":  # FINISHED like a complete run, but no result
            tags["ecsweep.pruned"] = str(round(result.metrics.get("epochs_run", 0)))
        self._log_batch(
            run_id,
            [Metric(name, value, result.timestamp, 0) for name, value in result.metrics.items()],
            {name: text for name, text in tags.items() if text},
        )
        if result.traceback:
            self._client.log_text(run_id, result.traceback, "traceback.txt")
        if result.outcome == "complete" and folder.predictions.exists():
            self._client.log_artifact(run_id, str(folder.predictions))
            self._settle(run_id, folder.predictions.name)
        self._client.set_terminated(run_id, STATUS[result.outcome], end_time=result.timestamp)
        self._artifacts.pop(run_id, None)

    def _settle(self, run_id: str, name: str) -> None:
        """Make sure that a power cut takes an artifact no more, where it is on this machine."""
        uri = self._artifacts.get(run_id) or self._client.get_run(run_id).info.artifact_uri
        path = artifact_folder(uri) / name
        if uri.startswith(("/", "file:")) and path.exists():
            for place in (path, path.parent):
                handle = os.open(place, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    def _log_batch(self, run_id: str, metrics: "list[Metric]", tags: Mapping[str, str]) -> None:
        """Log metrics and tags, and those that waited."""
        from mlflow.entities import RunTag

        before, others = self._waiting.get(run_id, ([], {}))
        metrics, tags = before + metrics, {**others, **tags}
        self._client.log_batch(run_id, metrics, tags=[RunTag(*tag) for tag in tags.items()])
        self._waiting.pop(run_id, None)

    def finished(self, run_id: str) -> Result | None:
        """Return what a run that is FINISHED stands for, else ``None``."""
        run = self._client.get_run(run_id)
        return finished(run.info.status, run.data.tags, run.data.metrics)

    @property
    def any_run(self) -> bool:
        """Whether there is any attempt at a cell."""
        return next(self._search("tags.`ecsweep.role` = 'attempt'"), None) is not None

    def runs(self) -> list[TrackedRun]:
        """Return every attempt of the study, first attempts first.

        The order is that of the attempts' numbers: clocks may be set back.
        """
        if self._stored:  # thousands at once; through MLflow each takes milliseconds
            return self._stored.runs()
        found = []
        for run in self._search("tags.`ecsweep.role` = 'attempt'"):
            tags, end = run.data.tags, run.info.end_time
            found.append(
                TrackedRun(
                    run_id=run.info.run_id,
                    cell=tags["ecsweep.cell"],
                    seed=int(tags.get("ecsweep.seed", 0)),
                    status=run.info.status,
                    metrics=run.data.metrics,
                    params=run.data.params,
                    tags=tags,
                    seconds=None if end is None else (end - run.info.start_time) / 1000,
                )
            )
        return sorted(found, key=lambda run: run.attempt)

    def unfinished(self) -> list[str]:
        """Return the runs of attempts that have not ended."""
        condition = "tags.`ecsweep.role` = 'attempt' AND attributes.status = 'RUNNING'"
        return [str(run.info.run_id) for run in self._search(condition)]

    @property
    def models(self) -> LoggedModels:
        """The study's saved models."""
        return LoggedModels(self._client, self._experiment_id)

    @property
    def page(self) -> StudyPage:
        """The study's page in MLflow's UI."""
        return StudyPage(self._client, self._experiment_id)

    def forget(self, run_ids: Sequence[str]) -> None:
        """Delete runs, as the MLflow UI does: its bin keeps them, but for their models."""
        for run_id in run_ids:
            self.models.remove_of(run_id)
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
