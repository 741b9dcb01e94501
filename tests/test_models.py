"""Architectures against hand computation."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ec_sweep import weights
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS, one_hot

pytestmark = pytest.mark.usefixtures("untraced")
NETWORKS = [name for name, model in MODELS.items() if model.is_network]
RECURRENT = ["lstm", "gru", "cnn-lstm", "cnn-gru", "complex-cnn-lstm"]
SMALL = Hyperparameters(
    length=20, filters=4, filter_size=3, filter_sizes=(2, 3), units=5, depth=2, hidden=(8,)
)


def changed(**values: object) -> Hyperparameters:
    from dataclasses import replace

    return replace(SMALL, **values)  # type: ignore[arg-type]


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def layers_of(model: keras.Model, *kinds: type) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def head(inputs: int, classes: int = 2) -> int:
    return (inputs * 512 + 512) + (512 * 512 + 512) + (512 * classes + classes)


def convolution(size: int, filters: int = 128) -> int:
    normalisation = 4 * filters
    return size * 21 * filters + filters + normalisation


def recurrence(kind: str, inputs: int, units: int, depth: int) -> int:
    """Gates, biases (GRU has two with reset_after) and batch normalisation of each layer."""
    total = 0
    for layer in range(depth):
        from_below = units if layer else inputs
        gates, biases = (4, 1) if kind == "lstm" else (3, 2)
        total += gates * (units * (from_below + units) + biases * units) + 4 * units
    return total


def test_one_hot_of_residues_x_and_padding() -> None:
    """Each residue has its column, X the 21st; padding is all zero."""
    tokens = np.array([[0, 19, 20, 255]], np.uint8)
    found = keras.ops.convert_to_numpy(one_hot(tokens))
    assert found.shape == (1, 4, 21)
    assert found.dtype == np.float32
    assert found[0].argmax(axis=1)[:3].tolist() == [0, 19, 20]
    assert found[0].sum(axis=1).tolist() == [1, 1, 1, 0]


def test_parameters_of_the_papers_single_cnn() -> None:
    """Size 9, length 1,000: the first dense layer holds 64,000 x 512 weights (paper 5)."""
    model = MODELS["cnn"].build(Hyperparameters(filter_size=9, length=1000), 2)
    dense = layers_of(model, keras.layers.Dense)
    assert dense[0].kernel.shape == (64_000, 512)
    assert model.count_params() == convolution(9) + head(64_000)
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "complex-cnn",
            {},
            convolution(3) + convolution(4) + convolution(5) + head(3 * 64_000),
        ),
        ("complex-cnn", {"filter_sizes": (7,)}, convolution(7) + head(64_000)),
        ("lstm", {}, recurrence("lstm", 21, 50, 2) + head(50)),
        ("gru", {"units": 20, "depth": 5}, recurrence("gru", 21, 20, 5) + head(20)),
        ("lstm", {"units": 100, "depth": 1}, recurrence("lstm", 21, 100, 1) + head(100)),
        ("cnn-lstm", {}, convolution(9) + recurrence("lstm", 128, 50, 2) + head(50)),
        ("cnn-gru", {}, convolution(9) + recurrence("gru", 128, 50, 2) + head(50)),
        (
            "complex-cnn-lstm",
            {},
            convolution(3) + convolution(4) + convolution(5)
            + recurrence("lstm", 3 * 128, 50, 2) + head(50),
        ),
    ],
)  # fmt: skip
def test_parameters_by_hand(name: str, changes: dict[str, object], expected: int) -> None:
    """At the paper's sizes every other network has the weights that arithmetic gives it."""
    model = MODELS[name].build(Hyperparameters(**changes), 2)  # type: ignore[arg-type]
    assert model.count_params() == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_ends_in_the_same_head(name: str) -> None:
    """Tokens in; two hidden layers of 512 and as many probabilities as classes out."""
    model = MODELS[name].build(Hyperparameters(length=30), 17)
    assert model.input_shape == (None, 30)
    assert model.output_shape == (None, 17)
    assert [dense.units for dense in layers_of(model, keras.layers.Dense)] == [512, 512, 17]
    assert layers_of(model, keras.layers.BatchNormalization)  # in all models (paper 3.3)
    tokens = np.array([[*range(21)] + [255] * 9], np.uint8)
    probabilities = model.predict_on_batch(tokens)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("last_state", ["residue", "end"])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_qualify_for_cudnn(name: str, last_state: str) -> None:
    """None of the options that would keep cuDNN from running a layer on a GPU."""
    model = MODELS[name].build(changed(last_state=last_state), 2)
    recurrent = layers_of(model, keras.layers.LSTM, keras.layers.GRU)
    assert len(recurrent) == SMALL.depth
    for layer in recurrent:
        assert layer.use_cudnn == "auto"
        assert layer.activation is keras.activations.tanh
        assert layer.recurrent_activation is keras.activations.sigmoid
        assert (layer.dropout, layer.recurrent_dropout) == (0, 0)
        assert (layer.use_bias, layer.unroll, layer.go_backwards) == (True, False, False)
        assert getattr(layer, "reset_after", True)


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("pool_size", [1, 3])
def test_padding_does_not_change_the_answer(name: str, pool_size: int) -> None:
    """The state after the last residue enters the head, however long the padding."""
    probabilities = []
    for length in (12, 24):
        keras.utils.set_random_seed(1)
        model = MODELS[name].build(changed(length=length, pool_size=pool_size), 2)
        tokens = np.full((2, length), 255, np.uint8)
        tokens[0, :6], tokens[1, :9] = range(6), range(9)
        probabilities.append(model.predict_on_batch(tokens))
    assert np.allclose(*probabilities, atol=1e-6)
    at_end = MODELS[name].build(changed(length=24, pool_size=pool_size, last_state="end"), 2)
    at_end.set_weights(model.get_weights())
    assert not np.allclose(at_end.predict_on_batch(tokens), probabilities[1], atol=1e-6)


def test_the_picked_state_is_that_of_a_mask() -> None:
    """The same answer as Keras gives when the padding is masked."""
    hp = changed(depth=1)
    model = MODELS["gru"].build(hp, 2)
    (recurrent,) = layers_of(model, keras.layers.GRU)
    tokens = np.full((3, 20), 255, np.uint8)
    for row, residues in enumerate((1, 7, 20)):
        tokens[row, :residues] = range(residues)
    twin = keras.layers.GRU(hp.units)
    twin.build((None, 20, 21))
    twin.set_weights(recurrent.get_weights())
    masked = twin(one_hot(tokens), mask=keras.ops.convert_to_tensor(tokens < 21))
    normalisation = layers_of(model, keras.layers.BatchNormalization)[-1]
    picked = keras.Model(model.input, normalisation.input)
    assert np.allclose(picked.predict_on_batch(tokens), masked, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", "cnn-lstm"])
def test_the_last_state_enters_the_head(name: str) -> None:
    """Stacked layers hand on sequences; the last one hands on its last state alone."""
    model = MODELS[name].build(changed(depth=3, last_state="end"), 2)
    recurrent = layers_of(model, keras.layers.LSTM)
    steps = 20 if name == "lstm" else 10
    assert [layer.output.shape for layer in recurrent] == [
        (None, steps, 5), (None, steps, 5), (None, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "positions"),
    [({}, 10), ({"conv_padding": "valid"}, 9), ({"pool_size": 3}, 6), ({"pool_size": 1}, 20)],
)
def test_padding_and_pooling_decide_what_is_flattened(
    changes: dict[str, object], positions: int
) -> None:
    """Positions before the head: length, less the filter's overlap, joined by pooling."""
    model = MODELS["cnn"].build(changed(**changes), 17)
    (flat,) = layers_of(model, keras.layers.Flatten)
    assert flat.output.shape == (None, positions * 4)


def test_branches_see_the_same_sequence_side_by_side() -> None:
    """Each branch has its filter size; with valid padding they differ in length, which is fine."""
    hp = changed(filter_sizes=(2, 5, 8), conv_padding="valid")
    model = MODELS["complex-cnn"].build(hp, 2)
    branches = layers_of(model, keras.layers.Conv1D)
    assert [layer.kernel_size for layer in branches] == [(2,), (5,), (8,)]
    dense = layers_of(model, keras.layers.Dense)[0]
    assert dense.kernel.shape[0] == 4 * (19 // 2 + 16 // 2 + 13 // 2)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("cnn", {"filter_size": 21}, "filter_size 21 is larger than length 20"),
        ("complex-cnn", {"filter_sizes": (3, 21)}, "filter_sizes 21 is larger than length 20"),
        ("cnn-gru", {"pool_size": 21}, "pool_size 21 is larger than the 20 positions"),
        ("complex-cnn-lstm", {"conv_padding": "valid"}, "conv_padding must be same"),
    ],
)
def test_impossible_shapes_are_named(name: str, changes: dict[str, object], reason: str) -> None:
    """What Keras would only find out when building is said before."""
    assert reason in str(MODELS[name].check(changed(**changes)))
    assert MODELS[name].check(SMALL) is None


def test_layers_stand_in_the_papers_order() -> None:
    """Convolution, batch normalisation, ReLU, pooling, Flatten, 512, 512, softmax."""
    hp = Hyperparameters(length=20, batch_norm_momentum=0.7)
    model = MODELS["cnn"].build(hp, 2)
    own = ["Conv1D", "BatchNormalization", "Activation", "MaxPooling1D", "Flatten"]
    found = [kind for kind in kinds(model) if kind in {*own, "Dense", "Softmax"}]
    assert found == [*own, "Dense", "Dense", "Dense", "Softmax"]
    by_kind = {type(layer).__name__: layer for layer in model.layers}
    assert by_kind["BatchNormalization"].momentum == 0.7
    assert by_kind["Activation"].activation is keras.activations.relu
    assert by_kind["Dense"].activation is keras.activations.linear  # the last of them: scores


@pytest.mark.parametrize("name", NETWORKS)
def test_models_survive_keras_safe_mode(name: str, tmp_path: Path) -> None:
    """A saved model loads again without running code from the file."""
    model = MODELS[name].build(SMALL, 2)
    path = str(tmp_path / "model.keras")
    model.save(path)
    tokens = np.array([[*range(20)]], np.uint8)
    again = keras.saving.load_model(path, safe_mode=True)
    assert np.allclose(again.predict_on_batch(tokens), model.predict_on_batch(tokens))


def test_dropout_is_there_when_asked_for() -> None:
    """None by default (the paper mentions none), one after each hidden layer otherwise."""
    for rate, count in ((0.0, 0), (0.5, 2)):
        model = MODELS["cnn"].build(Hyperparameters(length=20, dropout=rate), 2)
        assert sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers) == count


def answers() -> dict[str, Any]:
    """What every network gives with weights that are the same on every backend."""
    tokens = np.array([[*range(15)] + [255] * 5] * 2, np.uint8)
    found = {}
    for name in NETWORKS:
        model = MODELS[name].build(SMALL, 3)
        generator = np.random.default_rng(0)
        weights = [generator.uniform(0.01, 0.2, own.shape) for own in model.get_weights()]
        model.set_weights(weights)
        found[name] = model.predict_on_batch(tokens)
    return found


def test_the_same_builders_run_on_jax() -> None:
    """Every network gives on the JAX backend, weight for weight, what it gives on TensorFlow."""
    pytest.importorskip("jax", reason="the extra ecsweep[jax] is not installed")
    script = (
        "import sys, numpy as np, keras; from tests.test_models import answers;"
        "assert keras.backend.backend() == sys.argv[1];"
        "np.savez(sys.stdout.buffer, **answers())"
    )
    here = keras.backend.backend()
    other = "jax" if here == "tensorflow" else "tensorflow"
    done = subprocess.run(
        [sys.executable, "-c", script, other],
        env={**os.environ, "KERAS_BACKEND": other},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
    )
    found, expected = np.load(io.BytesIO(done.stdout)), answers()
    for name in NETWORKS:
        assert np.allclose(found[name], expected[name], atol=1e-5), name


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"conv_padding": "valid", "pool_size": 3, "filter_sizes": (2, 5, 3), "hidden": ()},
        {"depth": 3, "units": 7, "hidden": (6, 4), "last_state": "end", "dropout": 0.5},
    ],
)
def test_parameters_are_counted_without_building(name: str, values: dict[str, object]) -> None:
    """By arithmetic, as many as Keras counts."""
    if name == "complex-cnn-lstm":
        values = {key: value for key, value in values.items() if key != "conv_padding"}
    hp = changed(**values)
    assert weights.parameters(name, hp, 5) == MODELS[name].build(hp, 5).count_params()


def test_the_published_networks_have_their_parameters() -> None:
    """At the paper's size (docs/benchmarks.md)."""
    hp = Hyperparameters()
    assert weights.parameters("cnn", hp, 2) == 33_057_026
    assert weights.parameters("complex-cnn", hp, 2) == 98_602_370
    assert weights.parameters("gru", hp, 2) == 316_444
    assert weights.parameters("complex-cnn-lstm", hp, 2) == 431_570
