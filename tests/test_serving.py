"""Saved models: which are kept, through crashes too, and that MLflow serves them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from ec_sweep import choosing, doctor, encoding, estimating, saving, serving
from ec_sweep.attempts import AttemptFolder, Limits, Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.evaluation import Part
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.logged_models import FILES
from ec_sweep.models import MODELS
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.stored import SavedModel, StoredStudy, artifact_folder
from tests.conftest import Ecsweep, wait_for
from tests.test_doctor import predictions
from tests.test_outages import away, without_waiting
from tests.test_predicting import ABOUT, best_predictions
from tests.test_study import NAME, Crash, Setup, setup, template

__all__ = ["setup", "template", "without_waiting"]  # fixtures

ACCURACIES = {2: 0.6, 3: 0.8, 4: 0.7, 5: 0.8}
"""Validation accuracy by filter size: of two equals the first stays."""


def script(task: Task) -> Result:
    """Leave a model as real trials do, of weights that name the cell."""
    accuracy = ACCURACIES[task.hyperparameters.filter_size]
    result = Result("complete", 2000, {"test_accuracy": 1 - accuracy}, value=accuracy)
    last = {"val_accuracy": accuracy}
    (task.folder / "predictions.npz").write_bytes(predictions())
    weights = [np.full(3, task.hyperparameters.filter_size, np.float32)]
    saving.save(
        AttemptFolder(task.folder).model,
        task.about,
        lambda: weights,
        last,
        result.metrics,
        task.to_beat,
    )
    return result


def sizes(models: Sequence[SavedModel]) -> list[int]:
    """Return the filter size of each model, from its document and from its weights."""
    found = []
    for model in models:
        folder = artifact_folder(model.location) / FILES
        (weights,) = saving.read_weights(folder)
        about = saving.read_about(folder)
        assert about.hyperparameters.filter_size == weights[0]
        assert (about.cell, about.fingerprint) == (model.cell, model.dataset)
        assert about.val_accuracy == model.val_accuracy
        found.append(about.hyperparameters.filter_size)
    return found


def check(setup: Setup, expected: list[int]) -> None:
    """The models asked for are there, in both readings, and nothing else of any."""
    models = setup.tracker.models.find()
    assert sorted(sizes(models)) == expected
    assert all(model.ready for model in models)
    number = int(setup.tracker._experiment_id)
    stored = StoredStudy(setup.home.mlflow_db, number, NAME).saved_models()
    assert [(own.model_id, own.tags) for own in stored] == [(m.model_id, m.tags) for m in models]
    folders = {path.name for path in (setup.home.artifacts / "models").glob("*")}
    assert folders == {model.model_id for model in models}
    assert not list(setup.home.work.glob("*/model"))
    client = MlflowClient(f"sqlite:///{setup.home.mlflow_db}")
    for model in models:
        outputs = client.get_run(model.run_id).outputs.model_outputs
        assert [output.model_id for output in outputs] == [model.model_id]


def test_the_best_model_by_validation_accuracy_stays(setup: Setup) -> None:
    """Not the test set's best, which here is the worst; the driver loads no TensorFlow."""
    setup.drive(script, limits=Limits(save_models="best"))
    check(setup, [3])
    setup.check_consistent()


def test_a_model_that_is_beaten_already_is_not_written(setup: Setup) -> None:
    """Its weights would be written and thrown away; where all are kept, it is written."""
    written: dict[str, list[int]] = {"best": [], "all": []}
    for keep in ("best", "all"):

        def spy(task: Task, keep: Any = keep) -> Result:
            result = script(task)
            if saving.exists(AttemptFolder(task.folder).model):
                written[keep].append(task.hyperparameters.filter_size)
            return result

        setup.ledger.forget([str(cell.id) for cell in setup.cells])
        setup.drive(spy, limits=Limits(save_models=keep))
    assert written == {"best": [2, 3], "all": [2, 3, 4, 5]}


def test_all_models_stay_where_all_are_asked_for(setup: Setup) -> None:
    """A later best takes none of them away; with none, nothing is written."""
    setup.cells, later = setup.cells[:2], setup.cells[2:]
    setup.drive(script, limits=Limits(save_models="all"))
    check(setup, [2, 3])
    setup.cells = later
    setup.drive(script, limits=Limits(save_models="best"))
    check(setup, [2, 3])  # the best of all is saved already
    with pytest.raises(EcsweepError, match="begins several cells"):
        choosing.of_study(setup.home, "scripted", "demo", "")
    best = choosing.of_study(setup.home, "scripted", "demo", "best")
    assert saving.read_about(best).hyperparameters.filter_size == 3


def test_a_model_whose_files_are_gone_is_told_from_none(setup: Setup) -> None:
    """The commands that make it again are said."""
    setup.drive(script, limits=Limits(save_models="best"))
    (model,) = setup.tracker.models.find()
    shutil.rmtree(artifact_folder(model.location))
    with pytest.raises(EcsweepError, match=f"files of the model of cell {model.cell} are missing"):
        choosing.of_study(setup.home, "scripted", "demo", "best")


def test_no_model_is_written_where_none_is_asked_for(setup: Setup) -> None:
    """Neither files nor an entry; the command that makes one is said."""

    def without(task: Task) -> Result:
        assert task.about is None
        return script(task)

    setup.drive(without, limits=Limits(save_models="none"))
    assert setup.tracker.models.find() == []
    cell = setup.cells[0].id  # all have the same validation accuracy here
    with pytest.raises(EcsweepError) as error:
        choosing.of_study(setup.home, "scripted", "demo", "best")
    assert f"ecsweep forget scripted --cell {cell} --yes && " in str(error.value)
    assert "ecsweep study scripted --save-models best" in str(error.value)


def test_best_is_told_for_each_dataset(setup: Setup) -> None:
    """Accuracies on different data, or different splits of it, do not compare."""
    setup.drive(script, limits=Limits(save_models="best"))
    fingerprint = "f" * 64
    dataset = setup.plan.datasets["enzyme", "random"]
    dataset.card["fingerprint"], before = fingerprint, dataset.card["fingerprint"]
    try:
        setup.cells[:] = [cell.on({("enzyme", "random"): fingerprint}) for cell in setup.cells]
        setup.drive(script, limits=Limits(save_models="best"))
    finally:
        dataset.card["fingerprint"] = before
    check(setup, [3, 3])
    tracker = setup.tracker
    tracker.store_card(tracker.open_parent(""), {**dataset.card, "fingerprint": fingerprint})
    with pytest.raises(EcsweepError, match=r"each of 2 datasets. .*enzyme, random split f{12}\)"):
        choosing.of_study(setup.home, "scripted", "demo", "best")
    folder = choosing.of_study(setup.home, "scripted", "demo", str(setup.cells[1].id)[:8])
    assert saving.read_about(folder).fingerprint == fingerprint


STEPS = [
    ("create_logged_model", "after", "study"),
    ("log_model_artifacts", "after", "study"),
    ("log_outputs", "after", "study"),
    ("finalize_logged_model", "after", "study"),
    ("delete_logged_model", "before", "study"),  # its files are gone
    ("create_logged_model", "after", "doctor"),
    ("delete_logged_model", "before", "doctor"),
]


@pytest.mark.parametrize(("step", "when", "mended_by"), STEPS)
def test_a_crash_at_any_step_costs_no_model_and_leaves_none(
    setup: Setup, step: str, when: str, mended_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start has the best model once, whole, and no other; doctor sees what was left."""
    original = getattr(MlflowClient, step)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            original(*args, **kwargs)
        raise Crash

    best = Limits(save_models="best")
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, crashing)
        with pytest.raises(Crash):
            setup.drive(script, limits=best)
    if mended_by == "doctor":
        assert doctor.examine(Place(setup.home), fix=True).healthy
        assert doctor.examine(Place(setup.home)).findings == []
    setup.drive(script, limits=best)
    check(setup, [3])
    setup.check_consistent()


@pytest.mark.parametrize("mended_by", ["study", "doctor"])
def test_what_no_work_folder_tells_of_is_removed(setup: Setup, mended_by: str) -> None:
    """Half of a model, and a best that another has beaten, where their attempts are over."""
    setup.cells = setup.cells[:2]
    setup.drive(script, limits=Limits(save_models="all"))
    models = setup.tracker.models
    kept = models.find()
    client = MlflowClient(f"sqlite:///{setup.home.mlflow_db}")
    for model in kept:
        client.set_logged_model_tags(model.model_id, {"ecsweep.keep": "best"})
    models._enter(kept[0].run_id, replace(ABOUT, val_accuracy=0.9))
    if mended_by == "doctor":
        found = doctor.examine(Place(setup.home), fix=True).findings
        assert [finding.fixed for finding in found if finding.kind == "model"] == [True, True]
    else:
        setup.drive(script)
    check(setup, [3])


@pytest.mark.parametrize("step", ["create_logged_model", "log_model_artifacts"])
def test_an_outage_while_a_model_is_logged_makes_no_second(setup: Setup, step: str) -> None:
    """What was cut off is done again when MLflow is back."""
    for when in ("before", "after"):
        with away(MlflowClient, step, {1, 2}, when):
            setup.drive(script, limits=Limits(save_models="best"))
        check(setup, [3])
        gone = setup.ledger.forget({str(cell.id) for cell in setup.cells})
        setup.tracker.forget([attempt.run_id for attempt in gone])
        assert setup.tracker.models.find() == []  # what is forgotten takes its models along
        assert not list((setup.home.artifacts / "models").glob("*"))


def damaged(folder: Path) -> dict[str, Callable[[], None]]:
    """Return what may happen to a model's files, by what is said of it."""
    document, weights = folder / "model.json", folder / "weights.npz"
    held, text = weights.read_bytes(), document.read_text()
    return {
        "weights are missing or damaged": weights.unlink,
        "weights are missing or damaged (": lambda: weights.write_bytes(held[: len(held) // 2]),
        "saved by another ecsweep": lambda: document.write_text(
            text.replace('"format": 1', '"format": 2')
        ),
        "not a model's document": lambda: document.write_text(text.replace('"cnn"', '"cnm"')),
        "or damaged (JSONDecodeError": lambda: document.write_text(text[:50]),
        "cannot be read": document.unlink,
    }


def test_damaged_models_are_explained(setup: Setup) -> None:
    """One line that names the file, not a wrong prediction."""
    setup.drive(script, limits=Limits(save_models="best"))
    (model,) = setup.tracker.models.find()
    folder = artifact_folder(model.location) / FILES
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    for said, damage in damaged(folder).items():
        damage()
        with pytest.raises(EcsweepError) as error:
            _ = saving.read_about(folder), saving.read_weights(folder)
        assert said in str(error.value)
        assert str(folder) in str(error.value)
        shutil.copytree(whole, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("model", ["composition", "kmer-nn"])
def test_baselines_are_saved_too(dataset: Dataset, tmp_path: Path, model: str) -> None:
    """Loaded again they give the probabilities that they were tested with; nothing is pickled."""
    hp = Hyperparameters(length=60, train_size=100)
    classes = tuple(dataset.card["classes"])
    about = replace(ABOUT, model=model, hyperparameters=hp, classes=classes)
    sizes = dataset.sizes(hp.train_size)
    task = Task("run", tmp_path, model, hp, 0, dataset.folder, sizes, len(classes), about=about)
    folder = AttemptFolder(tmp_path)
    result = estimating.fit_and_test(task, folder, lambda _: None, lambda: None)
    classifier = serving.load(folder.model)
    assert classifier.about.val_accuracy == result.value
    tokens = Part(task, "test").tokens
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWYX", "S1")
    texts = [b"".join(letters[row[row != encoding.PADDING]]).decode() for row in tokens]
    found = classifier.probabilities(texts, 32)
    with np.load(folder.predictions) as kept:
        assert np.abs(found - kept["probabilities"]).max() < 1e-6


@pytest.mark.parametrize("model", ["complex-cnn", "cnn-gru"])
def test_networks_come_back_with_their_weights(tmp_path: Path, model: str) -> None:
    """The same probabilities as before, in batches of any size."""
    hp = Hyperparameters(length=60, filters=4, hidden=(8,), units=4)
    about = replace(ABOUT, model=model, hyperparameters=hp)
    network = MODELS[model].build(hp, 3)
    tokens = np.random.default_rng(0).integers(0, 21, (10, 60)).astype(np.uint8)
    tokens[3, 20:] = encoding.PADDING
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWYX", "S1")
    texts = [b"".join(letters[row[row != encoding.PADDING]]).decode() for row in tokens]
    expected = network.predict_on_batch(tokens)
    saving.write(tmp_path, about, network.get_weights())
    classifier = serving.load(tmp_path)
    for size in (1, 4, 16):
        assert np.abs(classifier.probabilities(texts, size) - expected).max() < 1e-6
    saving.write(tmp_path, about, network.get_weights()[:-1])
    with pytest.raises(EcsweepError, match="weights do not fit the model"):
        serving.load(tmp_path)


def best_model(home: Ecsweep) -> str:
    """Return the id of the one model that the tiny study has kept."""
    query = """
        SELECT model_id FROM logged_models JOIN experiments USING (experiment_id)
        WHERE experiments.name = 'tiny@demo' AND logged_models.status = 2
            AND logged_models.lifecycle_stage = 'active'
    """  # those that were beaten are marked as deleted
    ((model_id,),) = home.sql("mlflow.db", query)
    return str(model_id)


def test_a_model_is_found_by_the_address_that_mlflow_shows(
    finished: Ecsweep, tmp_path: Path
) -> None:
    """From any folder, in which nothing is left."""
    fasta = tmp_path / "a.fasta"
    fasta.write_text(">a\nACDEFGHIKLMNPQRSTVWY\n")
    inside = tmp_path / "elsewhere"
    inside.mkdir()
    done = subprocess.run(
        finished.command("predict", str(fasta), "--model", f"models:/{best_model(finished)}"),
        cwd=inside, env=finished.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("a\t")
    assert not list(inside.iterdir())
    assert f" models:/{best_model(finished)}\n" in done.stderr
    folder = finished.home / "mlruns" / "artifacts" / "models" / best_model(finished)
    found = choosing.named(Home(finished.home), str(folder))
    assert choosing.address(found) == f"models:/{best_model(finished)}"


@pytest.fixture(scope="module")
def served(finished: Ecsweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's own server on the tiny study's best model."""
    model_id = best_model(finished)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serving") / "log"
    uri = f"sqlite:///{finished.home}/mlruns/mlflow.db"
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # uvicorn's too
    with log.open("wb") as file:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{model_id}",
                "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port),
                "--workers", "1",
            ],
            env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PATH": programs},
            stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip

    def answers() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_for(answers)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def post(address: str, content: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        address, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_mlflow_serves_a_saved_model(
    served: str, finished: Ecsweep, proteins: list[list[str]]
) -> None:
    """Raw sequences over HTTP get the trial's probabilities; bad ones get 400 and the reason."""
    _, kept = best_predictions(finished)
    by_id = {row[0]: row[4] for row in proteins}
    texts = [by_id[name] for name in kept["ids"]]
    split = {"dataframe_split": {"columns": ["sequence"], "data": [[text] for text in texts]}}
    status, answer = post(served, split)
    assert status == 200, answer
    found = [[row["non-enzyme"], row["enzyme"]] for row in answer["predictions"]]
    assert np.abs(np.array(found) - kept["probabilities"]).max() < 1e-6
    for one in ({"inputs": {"sequence": texts[:1]}}, {"inputs": [{"sequence": texts[0]}]}):
        status, answer = post(served, one)
        assert status == 200, answer
        (row,) = answer["predictions"]
        assert [row["non-enzyme"], row["enzyme"]] == pytest.approx(found[0], abs=1e-6)
    status, answer = post(served, {"inputs": {"sequence": [texts[0], "AC-GT"]}})
    assert status == 400
    assert "sequence 1: invalid_sequence" in answer["message"]
    assert post(served, {"inputs": {"sequences": texts[:1]}})[0] == 400
