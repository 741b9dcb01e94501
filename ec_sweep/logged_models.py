"""Saved models in MLflow, logged as models from code: written, compared, and removed.

Every step can be repeated, and the new model stands before the old one goes:
what a crash leaves is one model too many or half of one, which `tidy` removes.
"""

import contextlib
import functools
import importlib.metadata
import tempfile
from collections.abc import Container, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ec_sweep import hyperparameters, own_models, saving
from ec_sweep.attempts import AttemptFolder
from ec_sweep.mlflow_store import is_remote, pages
from ec_sweep.models import MODELS
from ec_sweep.outages import Reaching
from ec_sweep.saving import About
from ec_sweep.stored import SavedModel, artifact_folder
from ec_sweep.study_page import dataset_input, dataset_name, digest_of

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

FILES = "artifacts/model"
"""The folder of `ec_sweep.saving` within a model's files, where MLflow puts it."""
_SCRIPT = Path(__file__).with_name("served_model.py")
_EXAMPLE = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"


class LoggedModels:
    """The saved models of one study, ``name@scale``."""

    def __init__(self, client: Any, experiment_id: str) -> None:
        """Take a client that tells outages (`Reaching`)."""
        self._client, self._experiment_id = client, experiment_id

    def record(self, run_id: str, folder: AttemptFolder) -> None:
        """Log the model that an attempt has left, if it is to stay; then the one it beats goes."""
        if not saving.exists(folder.model):
            return
        before = own_models.known()
        try:
            self._record(run_id, folder)
        finally:  # a model brings its file of models along, which may be an older one
            own_models.know(before)

    def _record(self, run_id: str, folder: AttemptFolder) -> None:
        about = saving.read_about(folder.model)
        if about.keep == "all":
            self._log(run_id, about, folder)
            return
        rivals = [
            model
            for model in self.find(f"tags.`ecsweep.dataset` = '{about.fingerprint}'")
            if model.ready and model.run_id != run_id
        ]
        if any(rival.val_accuracy >= about.val_accuracy for rival in rivals):
            return
        self._log(run_id, about, folder)
        for rival in rivals:
            if rival.only_best:
                self.remove(rival)

    def superfluous(self, living: Container[str] = ()) -> list[SavedModel]:
        """Return what crashes have left: models half logged, and such as others have beaten.

        ``living`` are runs whose end is still being recorded.
        """
        models = self.find()
        left = [own for own in models if not own.ready and own.run_id not in living]
        bests = [model for model in models if model.ready and model.only_best]
        top = best_of_each_dataset(bests)  # oldest first
        left += [model for model in bests if top[model.dataset] is not model]
        return left

    def tidy(self, living: Container[str] = ()) -> None:
        """Remove what crashes have left."""
        for model in self.superfluous(living):
            self.remove(model)

    def remove_of(self, run_id: str) -> None:
        """Remove the models of a run."""
        for model in self.find(f"source_run_id = '{run_id}'"):
            self.remove(model)

    def find(self, condition: str | None = None) -> list[SavedModel]:
        """Return the models, half logged ones too, oldest first."""
        order = [{"field_name": "creation_timestamp", "ascending": True}]
        search = functools.partial(
            self._client.search_logged_models, [self._experiment_id], condition, order_by=order
        )
        found = [_saved(model) for model in pages(search)]
        return [model for model in found if "ecsweep.keep" in model.tags]  # not those of others

    def _log(self, run_id: str, about: About, folder: AttemptFolder) -> None:
        """Log a model: entered, then its files, then its run's output, then ready for use."""
        known = self.find(f"source_run_id = '{run_id}'")
        if any(model.ready for model in known):
            return
        model_id = known[0].model_id if known else self._enter(run_id, about)
        with tempfile.TemporaryDirectory(dir=folder.path) as aside:
            path = Path(aside) / "model"
            _write(path, model_id, run_id, about, folder.model)
            self._client.log_model_artifacts(model_id, str(path))
        self._link(run_id, model_id)
        self._measure(run_id, model_id, about, folder)
        self._client.finalize_logged_model(model_id, "READY")

    def _enter(self, run_id: str, about: About) -> str:
        model = self._client.create_logged_model(
            self._experiment_id,
            name=f"{about.model}-{about.cell}",
            source_run_id=run_id,
            tags={
                "ecsweep.cell": about.cell,
                "ecsweep.dataset": about.fingerprint,
                "ecsweep.keep": about.keep,
                "ecsweep.val_accuracy": repr(about.val_accuracy),
            },
            params={name: hyperparameters.in_text(value) for name, value in _params(about).items()},
        )
        return str(model.model_id)

    def _link(self, run_id: str, model_id: str) -> None:
        """Make a model its run's output, once."""
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(run_id).outputs
        if model_id not in {
            output.model_id for output in (outputs.model_outputs if outputs else ())
        }:
            self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _measure(self, run_id: str, model_id: str, about: About, folder: AttemptFolder) -> None:
        """Give a model what its run measured last, and the dataset that it was measured on.

        The run itself has all of these points already, and MLflow keeps none twice.
        """
        from mlflow.entities import Metric

        data, result = about.dataset, folder.result()
        name, digest = dataset_name(data["name"], data["split"]), digest_of(about.fingerprint)
        points = [(e.metrics, e.timestamp, e.epoch) for e in folder.events() if e.epoch][-1:]
        points += [(result.metrics, result.timestamp, 0)] if result else []
        metrics = [
            Metric(key, value, timestamp, epoch, model_id, name, digest, run_id)
            for measured, timestamp, epoch in points
            for key, value in measured.items()
        ]
        self._client.log_inputs(run_id, [dataset_input(name, digest, data["source"])])
        self._client.log_batch(run_id, metrics)

    def remove(self, model: SavedModel) -> None:
        """Delete a model: its files first, so that nothing is left which nobody finds."""
        from mlflow.exceptions import MlflowException
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from requests.exceptions import HTTPError

        uri = self._client.tracking_uri
        repository = get_artifact_repository(model.location, tracking_uri=uri)
        files = Reaching(repository, "MLflow", remote=is_remote(uri))
        with contextlib.suppress(MlflowException, HTTPError):  # `mlflow gc` may be allowed to
            files.delete_artifacts()
        if model.location.startswith(("/", "file:")):
            with contextlib.suppress(OSError):
                artifact_folder(model.location).parent.rmdir()
        self._client.delete_logged_model(model.model_id)


def _write(path: Path, model_id: str, run_id: str, about: About, files: Path) -> None:
    """Write a model in MLflow's form: a script, the weights, and what goes in and comes out."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    sequences = Schema([ColSpec("string", "sequence")])
    probabilities = Schema([ColSpec("float", name) for name in about.classes])
    mlflow.pyfunc.save_model(
        path,
        python_model=_SCRIPT,
        artifacts={"model": str(files)},
        signature=ModelSignature(sequences, probabilities),
        input_example=pd.DataFrame({"sequence": [_EXAMPLE]}),
        pip_requirements=_requirements(about),
        mlflow_model=Model(artifact_path=None, run_id=run_id, model_id=model_id),
    )


def _params(about: About) -> dict[str, Any]:
    names = MODELS[about.model].hyperparameters
    values = {name: getattr(about.hyperparameters, name) for name in sorted(names)}
    data = {"dataset": about.dataset["name"], "split": about.dataset["split"]}
    return {"model": about.model, **data, **hyperparameters.to_json(values), "seed": about.seed}


def _requirements(about: About) -> list[str]:
    libraries = ["keras", "tensorflow"] if MODELS[about.model].is_network else ["scikit-learn"]
    names = ["ecsweep", "mlflow", "numpy", *libraries]
    return [f"{name}=={importlib.metadata.version(name)}" for name in names]


def _saved(model: "LoggedModel") -> SavedModel:
    return SavedModel(
        model_id=model.model_id,
        run_id=str(model.source_run_id),
        location=model.artifact_location,
        ready=str(model.status) == "READY",
        tags=model.tags or {},
    )


def best_of_each_dataset(models: Iterable[SavedModel]) -> dict[str, SavedModel]:
    """Return of each dataset the model of the best validation accuracy; of equals the first."""
    best: dict[str, SavedModel] = {}
    for model in models:
        rival = best.get(model.dataset)
        if rival is None or model.val_accuracy > rival.val_accuracy:
            best[model.dataset] = model
    return best
