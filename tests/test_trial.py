"""Trials: real training of tiny models, and every way they can end."""

import contextlib
import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest

from ec_sweep import checkpoints, evaluation, networks, trial
from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.feeding import Batches
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS
from ec_sweep.training import Training

TIMED = re.compile("seconds|latency|peak_memory").search
TINY = Hyperparameters(
    length=40, train_size=72, filters=4, filter_size=3, hidden=(8,), batch_size=16, epochs=3
)


class Runner:
    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.dataset, self.folder = dataset, folder
        self.events: list[Event] = []

    def task(
        self,
        hp: Hyperparameters = TINY,
        seed: int = 0,
        name: str = "attempt",
        model: str = "cnn",
    ) -> Task:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        sizes = self.dataset.sizes(hp.train_size)
        classes = len(self.dataset.card["classes"])
        return Task(name, folder, model, hp, seed, self.dataset.folder, sizes, classes)

    def run(
        self,
        hp: Hyperparameters = TINY,
        seed: int = 0,
        name: str = "attempt",
        model: str = "cnn",
    ) -> Result:
        self.events = []
        return trial.run(self.task(hp, seed, name, model), self.events.append, lambda: None)


@pytest.fixture
def runner(dataset: Dataset, tmp_path: Path) -> Runner:
    return Runner(dataset, tmp_path)


def test_a_trial_measures_what_the_contract_names(runner: Runner) -> None:
    """Every metric of the design, its predictions, and events that were kept on disk too."""
    networks.forget()
    result = runner.run()
    assert result.outcome == "complete", result.traceback
    assert set(result.metrics) == {
        "fit_seconds", "epoch_seconds_median", "epochs_run", "best_epoch",
        "test_loss", "test_accuracy", "test_mcc",
        "test_precision_micro", "test_recall_micro", "test_f1_micro",
        "test_precision_macro", "test_recall_macro", "test_f1_macro",
        "test_seconds", "latency_ms_batch1", "test_accuracy_best", "test_loss_best",
        "parameters", "peak_memory_mb",
    }  # fmt: skip
    epochs = [event for event in runner.events if event.epoch]
    assert [event.epoch for event in epochs] == [1, 2, 3]
    assert set(epochs[0].metrics) == {
        "train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds",
    }  # fmt: skip
    assert result.value == epochs[-1].metrics["val_accuracy"]
    assert result.metrics["epoch_seconds_median"] == np.median(
        [event.metrics["epoch_seconds"] for event in epochs[1:]]
    )  # without the epoch that compiled
    folder = AttemptFolder(runner.folder / "attempt")
    assert folder.events() == runner.events
    assert folder.result() == result
    with np.load(folder.predictions) as kept:
        assert kept["probabilities"].shape == (24, 2)
        accuracy = (kept["probabilities"].argmax(axis=1) == kept["labels"]).mean()
        assert accuracy == result.metrics["test_accuracy"]
        assert set(kept["ids"]) <= set(runner.dataset.array("test", "ids"))


def test_predictions_agree_with_keras_own_evaluation(runner: Runner) -> None:
    """Our scores are those of Keras' evaluate on the same weights."""
    task = runner.task()
    keras.utils.set_random_seed(1)
    model = MODELS["cnn"].build(TINY, 2)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    part = evaluation.Part(task, "test")
    found = evaluation.test(
        part, model.predict_on_batch, model.predict_on_batch, AttemptFolder(task.folder), 16
    )
    loss, accuracy = model.evaluate(np.array(part.tokens), part.labels, verbose=0)
    assert found["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert found["test_accuracy"] == pytest.approx(accuracy)


def test_seed_decides_weights_and_batches_but_not_data(runner: Runner) -> None:
    """Same seed: same initial weights, same batches. Other seed: others, on the same proteins."""

    def start(seed: int) -> tuple[Any, list[Any]]:
        task = runner.task(seed=seed)
        keras.utils.set_random_seed(seed)
        weights = MODELS["cnn"].build(TINY, 2).get_weights()
        batches = Batches(evaluation.Part(task, "train"), 16, seed)
        seen = [batches[i] for i in range(len(batches))]
        batches.start_epoch(1)
        return weights, [*seen, *(batches[i] for i in range(len(batches)))]

    (weights_a, batches_a), (weights_b, batches_b) = start(0), start(0)
    (weights_c, batches_c) = start(1)
    assert all((a == b).all() for a, b in zip(weights_a, weights_b, strict=True))
    assert all((a[0] == b[0]).all() for a, b in zip(batches_a, batches_b, strict=True))
    assert not all((a == c).all() for a, c in zip(weights_a, weights_c, strict=True))
    assert not all((a[0] == c[0]).all() for a, c in zip(batches_a, batches_c, strict=True))

    def proteins(batches: list[Any]) -> list[bytes]:
        return sorted(row.tobytes() for tokens, _ in batches for row in tokens)

    assert len(batches_a) == 2 * 5  # 72 sequences: the last batch of each epoch is partial
    assert proteins(batches_a[:5]) == proteins(batches_a[5:]) == proteins(batches_c[:5])
    assert [len(labels) for _, labels in batches_a[:5]] == [16, 16, 16, 16, 8]


def test_training_takes_the_batches_in_that_order(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keras asks for batch 0, 1, 2, ... of every epoch, and each epoch is shuffled anew."""
    asked: list[tuple[int, bytes]] = []
    original = Batches.__getitem__

    def watch(self: Any, index: int) -> Any:
        batch = original(self, index)
        if self._seed is not None:  # no batch of validation
            asked.append((index, batch[0].tobytes()))
        return batch

    monkeypatch.setattr(Batches, "__getitem__", watch)
    runner.run(dataclasses.replace(TINY, epochs=2))
    expected = Batches(evaluation.Part(runner.task(), "train"), 16, 0)
    order = [(i, original(expected, i)[0].tobytes()) for i in range(5)]
    expected.start_epoch(1)
    order += [(i, original(expected, i)[0].tobytes()) for i in range(5)]
    seen = list(dict.fromkeys(asked))  # the first batch is looked at more than once
    assert seen == order


def test_deterministic_cells_repeat_to_the_last_digit(tmp_path: Path, dataset: Dataset) -> None:
    """With deterministic: true two processes measure the same, bit by bit."""
    hp = dataclasses.replace(TINY, deterministic=True, dropout=0.3)
    script = (
        "import sys, json, pickle; from ec_sweep import trial;"
        "task = pickle.load(sys.stdin.buffer); trial.configure(2, True);"
        "events = []; result = trial.run(task, events.append, lambda: None);"
        "print(json.dumps([result.metrics, [e.metrics for e in events]]))"
    )
    runs = []
    for name in ("first", "second"):
        task = Runner(dataset, tmp_path).task(hp, seed=3, name=name)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=pickle.dumps(task), capture_output=True, check=True)
        final, epochs = json.loads(done.stdout.splitlines()[-1])
        runs.append([{k: v for k, v in m.items() if not TIMED(k)} for m in (final, *epochs)])
    assert runs[0] == runs[1]
    assert runs[0][0]["test_loss"] > 0


def test_trials_run_on_jax(tmp_path: Path, dataset: Dataset) -> None:
    """KERAS_BACKEND=jax trains the same cells, and the run says on what it ran.

    The loss comes from the scores before the softmax: with probabilities, which end at 0 and 1,
    it could not pass 16.2, and a network that has gone so far would never learn again.
    """
    pytest.importorskip("jax", reason="the extra ecsweep[jax] is not installed")
    script = (
        "import sys, json, pickle; from ec_sweep import trial; trial.configure(1, False)\n"
        "events, ends = [], []\n"
        "for task in pickle.load(sys.stdin.buffer):\n"
        "    ends.append(trial.run(task, events.append, lambda: None))\n"
        "print(json.dumps([[e.outcome, e.traceback, e.metrics] for e in ends]))\n"
        "print(json.dumps([events[0].environment, [e.metrics for e in events if e.epoch]]))"
    )
    hp = dataclasses.replace(TINY, units=3, epochs=1, train_size=48)
    far = dataclasses.replace(hp, learning_rate=10.0)
    tasks = [
        Runner(dataset, tmp_path).task(hp, name="one", model="cnn-gru"),
        Runner(dataset, tmp_path).task(far, name="two"),
        Runner(dataset, tmp_path).task(far, name="again"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps(tasks),
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        check=True,
    )
    ends, said = done.stdout.decode().splitlines()[-2:]
    for outcome, traceback, metrics in json.loads(ends):
        assert outcome == "complete", traceback
        assert 0 <= metrics["test_accuracy"] <= 1
    environment, (_, epoch, again) = json.loads(said)
    assert epoch["train_loss"] > 20
    assert again["train_loss"] == pytest.approx(epoch["train_loss"])  # on the same network
    assert environment["backend"] == "jax"
    assert environment["jax"]


def test_the_loss_curve_is_that_of_the_plain_keras_loop(runner: Runner) -> None:
    """Same weights, same batches: what is ours in the step changes the losses by rounding alone."""
    hp = dataclasses.replace(TINY, epochs=4, early_stopping="none")
    for optimizer in ("adam", "sgd"):
        hp = dataclasses.replace(hp, optimizer=optimizer)
        task = runner.task(hp)
        runner.run(hp, name=optimizer)
        keras.utils.set_random_seed(task.seed)
        model = MODELS["cnn"].build(hp, task.classes)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.optimizer.learning_rate = hp.learning_rate
        train, valid = evaluation.Part(task, "train"), evaluation.Part(task, "valid")
        for event in (event for event in runner.events if event.epoch):
            order = np.random.default_rng([task.seed, event.epoch - 1]).permutation(72)
            tokens, labels = train.tokens[order], train.labels[order]
            found = model.fit(tokens, labels, hp.batch_size, shuffle=False, verbose=0).history
            loss, accuracy = model.evaluate(np.array(valid.tokens), valid.labels, verbose=0)
            expected = [found["loss"][0], found["accuracy"][0], loss, accuracy]
            names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
            assert [event.metrics[name] for name in names] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("untraced")
def test_a_network_used_again_trains_as_a_new_one(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells that differ in values read at run time share what is compiled, and nothing else."""
    compiled = []
    original = networks._compiled
    monkeypatch.setattr(
        networks, "_compiled", lambda *args: compiled.append(args) or original(*args)
    )
    hp = dataclasses.replace(TINY, dropout=0.3)
    other = dataclasses.replace(
        hp, learning_rate=0.03, batch_size=24, epochs=2, early_stopping="none", train_size=60
    )
    networks.forget()
    runner.run(hp, seed=5, name="before")
    again = runner.run(other, seed=6, name="again")
    curve = [event.metrics for event in runner.events]
    assert len(compiled) == 1
    epochs = [metrics["epoch_seconds"] for metrics in curve if metrics]
    assert again.metrics["epoch_seconds_median"] == np.median(epochs)  # none has compiled
    networks.forget()
    new = runner.run(other, seed=6, name="new")
    assert len(compiled) == 2
    for found, expected in zip(
        (again.metrics, *curve), (new.metrics, *(e.metrics for e in runner.events)), strict=True
    ):
        measured = {name: value for name, value in expected.items() if not TIMED(name)}
        assert {name: found[name] for name in measured} == pytest.approx(measured, rel=1e-5)
    for change in ({"filters": 5}, {"dropout": 0.0}, {"optimizer": "sgd"}):
        other = dataclasses.replace(other, **change)  # one more each time: nothing else is new
        runner.run(other, name=str(change))
    assert len(compiled) == 5


def test_a_loss_that_explodes_is_not_available(runner: Runner) -> None:
    """Divergence in real training is a result of the cell, named as such."""
    hp = dataclasses.replace(TINY, optimizer="sgd", learning_rate=10.0, hidden=(512,) * 16)
    hp = dataclasses.replace(hp, initializer="he_normal", activation="elu", epochs=20)
    result = runner.run(hp)
    assert (result.outcome, result.failure) == ("not_available", "diverged"), result
    assert "is nan in epoch" in result.message
    assert AttemptFolder(runner.folder / "attempt").result() == result
    assert networks._kept is None  # nothing of it is left to the next cell


@pytest.mark.parametrize(
    ("error", "outcome", "failure"),
    [
        (MemoryError(), "not_available", "oom"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "not_available", "oom"),
        (ValueError("bad shape"), "failed", "error"),
        (OSError(28, "No space left on device"), "interrupted", None),
    ],
)
def test_whatever_goes_wrong_is_classified(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str, failure: str
) -> None:
    """An exception becomes a result; a full disk is the machine's fault, not the cell's."""

    def explode(*_: object) -> None:
        raise error

    monkeypatch.setattr(evaluation, "test", explode)
    result = runner.run()
    assert (result.outcome, result.failure) == (outcome, failure)
    kept = AttemptFolder(runner.folder / "attempt").result()
    assert kept == (result if failure else None)


def test_a_stopped_trial_leaves_no_result(runner: Runner) -> None:
    """Asked to stop, a trial ends at the next batch and can be run again."""
    task = runner.task()
    result = trial.run(
        task, runner.events.append, lambda: "stop" if len(runner.events) > 1 else None
    )
    assert result.outcome == "interrupted"
    assert AttemptFolder(task.folder).result() is None
    assert max(event.epoch for event in runner.events) == 1


GOING_ON = """
import dataclasses, json, pickle, sys
from ec_sweep import trial
task, places = pickle.load(sys.stdin.buffer)
trial.configure(1, True)


def run(name, stop_at=None, **changes):
    (task.folder.parent / name).mkdir()
    asked, events = [], []
    def orders():
        asked.append(None)
        return "stop" if len(asked) == stop_at else None
    changed = dataclasses.replace(task, folder=task.folder.parent / name, **changes)
    result = trial.run(changed, events.append, orders)
    epochs = [[event.epoch, event.metrics] for event in events if event.epoch]
    said = [event.environment.get("resumed") for event in events]
    return [result.outcome, result.metrics, epochs, len(asked), next(filter(None, said), None)]


found = [run("whole")]
for place in places:
    checkpoint = task.folder.parent / f"{place}.npz"
    stopped = run(f"stopped-{place}", place, checkpoint=checkpoint)
    found += [stopped, run(f"resumed-{place}", checkpoint=checkpoint)]
print(json.dumps(found))
"""


# Orders are asked for once the network is built, after each of an epoch's first 4 batches, the one
# of its validation, and those of the test; the rule ends training after epoch 3.
PLACES = {
    4: "after epoch 0, batch 3 of 5",
    11: "after epoch 1, batch 5 of 5",
    18: "after epoch 3, batch 0 of 5",
}


@pytest.mark.parametrize(("backend", "places"), [("tensorflow", [4, 11, 18]), ("jax", [4, 11])])
def test_a_resumed_trial_ends_as_if_it_had_never_been_stopped(
    tmp_path: Path, dataset: Dataset, backend: str, places: list[int]
) -> None:
    """Stopped in training, validation or test: same epochs, same metrics to the last digit."""
    pytest.importorskip(backend, reason="the extra ecsweep[jax] is not installed")
    hp = dataclasses.replace(
        TINY, deterministic=True, dropout=0.3, learning_rate=0.02, patience=2, epochs=30
    )
    task = Runner(dataset, tmp_path).task(hp, seed=3)
    done = subprocess.run(
        [sys.executable, "-c", GOING_ON],
        input=pickle.dumps((task, places)),
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        check=True,
    )
    whole, *others = json.loads(done.stdout.splitlines()[-1])

    def untimed(found: list[Any]) -> list[Any]:
        outcome, final, epochs, *_ = found
        metrics = [final, *(metrics for _, metrics in epochs)]
        return [outcome, *({k: v for k, v in m.items() if not TIMED(k)} for m in metrics)]

    assert whole[0] == "complete"
    if backend == "tensorflow":
        assert whole[1]["epochs_run"] == 3
        assert whole[1]["best_epoch"] < 3  # what early stopping remembers matters
    for place, stopped, resumed in zip(places, others[::2], others[1::2], strict=True):
        assert stopped[0] == "interrupted"
        assert untimed(resumed) == untimed(whole)
        assert resumed[4] == PLACES[place]
        assert resumed[3] <= whole[3] - place + 3  # nothing was trained again


@pytest.mark.usefixtures("untraced")
def test_a_checkpoint_is_written_in_time_and_a_damaged_one_is_left(runner: Runner) -> None:
    """Checkpoints come by time, not by epoch; one that cannot be read starts the cell anew."""
    path = runner.folder / "kept" / "cell.npz"
    task = dataclasses.replace(runner.task(), checkpoint=path)
    assert trial.run(task, runner.events.append, lambda: None).outcome == "complete"
    assert not path.exists()  # five minutes have not passed
    task = dataclasses.replace(task, checkpoint_every=0)
    runner.events = []
    assert trial.run(task, runner.events.append, lambda: None).outcome == "complete"
    steps = [event.checkpoint for event in runner.events if event.checkpoint]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", content.replace(b"\x3f", b"\x3e")):
        path.write_bytes(damaged)
        runner.events = []
        result = trial.run(task, runner.events.append, lambda: None)
        assert result.metrics["epochs_run"] == 3
        said = [event.environment.get("resumed", "") for event in runner.events]
        assert any("from the beginning: its checkpoint cannot be read" in text for text in said)
    for place in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with contextlib.suppress(
            checkpoints.UnreadableError
        ):  # nothing else comes of a flipped bit
            checkpoints.read(path)
    path.write_bytes(content)
    other = dataclasses.replace(task, hyperparameters=dataclasses.replace(TINY, filters=5))
    runner.events = []
    assert trial.run(other, runner.events.append, lambda: None).outcome == "complete"
    assert "of another model" in str(runner.events[1].environment)


def test_a_trial_ends_when_it_takes_too_long_or_is_pruned(runner: Runner) -> None:
    """A time limit fails the cell; pruning keeps what its epochs measured."""
    task = dataclasses.replace(runner.task(name="slow"), timeout=0.0)
    result = trial.run(task, runner.events.append, lambda: None)
    assert (result.outcome, result.failure) == ("failed", "timeout")
    assert "longer than 0 s" in result.message
    assert not runner.events  # building the network took its time: nothing was trained
    runner.events = []

    def orders() -> Any:
        return "prune" if any(event.epoch for event in runner.events) else None

    result = trial.run(runner.task(name="worse"), runner.events.append, orders)
    assert result.outcome == "pruned"
    (epoch,) = (event for event in runner.events if event.epoch)
    assert result.value == epoch.metrics["val_accuracy"]


def test_early_stopping_and_best_weights(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training stops by the rule; the best epoch's weights are tested beside the last one's."""
    losses = iter([0.5, 0.6, 0.7, 0.8])
    original = Training.on_epoch_end

    def scripted(self: Any, epoch: int, logs: Any = None) -> None:
        original(self, epoch, {**logs, "val_loss": next(losses)})

    monkeypatch.setattr(Training, "on_epoch_end", scripted)
    hp = dataclasses.replace(TINY, epochs=30, patience=2, learning_rate=0.01)
    result = runner.run(hp)
    assert result.metrics["epochs_run"] == 3
    assert result.metrics["best_epoch"] == 1
    assert result.metrics["test_loss_best"] != result.metrics["test_loss"]


def test_a_trial_learns(runner: Runner) -> None:
    """Training loss falls: the labels belong to their sequences."""
    hp = dataclasses.replace(TINY, epochs=12, learning_rate=0.01, early_stopping="none")
    runner.run(hp)
    losses = [event.metrics["train_loss"] for event in runner.events if event.epoch]
    assert losses[-1] < 0.3 * losses[0]


@pytest.fixture(scope="module")
def metrics_of_a_cnn(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a trial of the single CNN measures."""
    return set(Runner(dataset, tmp_path_factory.mktemp("cnn")).run().metrics)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("model", [name for name in MODELS if name != "cnn"])
def test_every_model_is_trained_and_tested(
    runner: Runner, metrics_of_a_cnn: set[str], model: str
) -> None:
    """Each model of the registry gives the metrics that the single CNN gives."""
    result = runner.run(dataclasses.replace(TINY, units=3, epochs=2), model=model)
    assert result.outcome == "complete", result.traceback
    assert set(result.metrics) == metrics_of_a_cnn
    epochs = [event.metrics for event in runner.events if event.epoch]
    assert len(epochs) == (2 if MODELS[model].is_network else 1)
    assert set(epochs[0]) == {
        "train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds",
    }  # fmt: skip
    assert result.value == epochs[-1]["val_accuracy"]
    assert result.metrics["epoch_seconds_median"] == epochs[-1]["epoch_seconds"]


def test_baselines_learn_real_proteins(runner: Runner) -> None:
    """Composition and neighbours tell enzymes from others better than chance."""
    hp = dataclasses.replace(TINY, length=256, train_size=1200)
    for model in ("composition", "kmer-nn"):
        result = runner.run(hp, name=model, model=model)
        assert result.metrics["test_accuracy"] > 0.6  # 400 sequences: chance stays below 0.57


def test_a_baseline_is_measured_without_the_network_before_it(runner: Runner) -> None:
    """The memory that a worker keeps a network in is none of the next trial's."""
    runner.run(name="network")
    assert networks._kept is not None
    assert runner.run(name="baseline", model="composition").outcome == "complete"
    assert networks._kept is None


def test_a_class_without_training_sequences_is_never_predicted(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimator that has not seen a class gives it probability 0, in the right column."""
    original = evaluation.Part.__init__

    def shifted(self: Any, task: Task, part: str) -> None:
        original(self, task, part)
        self.labels = self.labels + 1

    monkeypatch.setattr(evaluation.Part, "__init__", shifted)
    task = dataclasses.replace(runner.task(model="composition"), classes=4)
    assert trial.run(task, runner.events.append, lambda: None).outcome == "complete"
    with np.load(AttemptFolder(task.folder).predictions) as kept:
        assert kept["probabilities"].shape == (24, 4)
        assert (kept["probabilities"][:, [0, 3]] == 0).all()
        assert np.allclose(kept["probabilities"].sum(axis=1), 1)


@pytest.mark.usefixtures("untraced")
def test_memory_comes_back_between_trials(runner: Runner) -> None:
    """A worker serves many cells: their weights and optimizer states do not pile up."""
    hp = dataclasses.replace(TINY, train_size=16, epochs=1, filters=64, hidden=(4096,))
    weights_mb = 40 // 2 * 64 * 4096 * 4 / 2**20
    held = []
    for number in range(4):
        assert runner.run(hp, name=f"trial-{number}").outcome == "complete"
        held.append(psutil.Process().memory_info().rss / 2**20)
    assert held[3] - held[1] < 2 * weights_mb  # kept, it would be three times the weights a trial
