"""The layers for TensorFlow on a CPU against Keras' own."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from ec_sweep import models
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

tf = pytest.importorskip("tensorflow")
cpu_layers = pytest.importorskip("ec_sweep.cpu_layers")

if keras.backend.backend() != "tensorflow":
    pytest.skip("made for TensorFlow", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("untraced")
KINDS = ["LSTM", "GRU"]


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(autouse=True)
def _cleared() -> Iterator[None]:
    yield
    keras.backend.clear_session()


def twins(kind: str, width: int, units: int, **options: Any) -> tuple[Any, Any]:
    """Keras' layer and ours, with the same weights of a size at which all gates work."""
    generator = np.random.default_rng(1)
    plain, own = (getattr(module, kind)(units, **options) for module in (layers, cpu_layers))
    for layer in (plain, own):
        layer.build((None, 7, width))
    weights = [generator.normal(0, 0.3, found.shape) for found in plain.get_weights()]
    for layer in (plain, own):
        layer.set_weights(weights)
    return plain, own


def found_by(call: Callable[[Any], Any], inputs: Any, layer: Any) -> list[Any]:
    """Outputs, and the gradients of inputs and weights of a loss that weighs each output."""

    @tf.function
    def run(inputs: Any) -> list[Any]:
        variables = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = call(inputs)
            weights = tf.reshape(tf.cos(tf.range(tf.size(outputs), dtype="float32")), outputs.shape)
            loss = tf.reduce_sum(weights * outputs * outputs)
        return [outputs, *tape.gradient(loss, [inputs, *variables])]

    return [np.asarray(found) for found in run(tf.constant(inputs))]


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize(
    ("length", "width", "units", "batch"), [(1, 3, 2, 2), (37, 21, 50, 5), (96, 8, 20, 3)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_gradients_are_those_of_keras(
    kind: str, length: int, width: int, units: int, batch: int, sequences: bool,
    generator: np.random.Generator,
) -> None:  # fmt: skip
    """Whatever the length (a prime one, too), to rounding: outputs and every gradient."""
    inputs = generator.normal(size=(batch, length, width)).astype("float32")
    plain, own = twins(kind, width, units, return_sequences=sequences)
    for expected, found in zip(
        found_by(plain, inputs, plain), found_by(own, inputs, own), strict=True
    ):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_states_go_in_and_out_as_in_keras(kind: str, generator: np.random.Generator) -> None:
    """A state to begin with is taken up, and the last ones are handed out."""
    plain, own = twins(kind, 4, 6, return_state=True)
    inputs = generator.normal(size=(3, 9, 4)).astype("float32")
    states = [generator.normal(size=(3, 6)).astype("float32") for _ in plain.state_size]
    for expected, found in zip(
        plain(inputs, initial_state=states), own(inputs, initial_state=states), strict=True
    ):
        assert np.allclose(expected, found, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "trainable"),
    [((4, 9, 3), True), ((1, 1, 3), True), ((5, 3), True), ((4, 9, 3), False)],
)
def test_batches_are_normalised_as_by_keras(
    shape: tuple[int, ...], trainable: bool, generator: np.random.Generator
) -> None:
    """Outputs, gradients and moving averages in training, outputs with these averages in a test."""
    inputs = generator.normal(2, 3, shape).astype("float32")
    weights = [generator.uniform(0.5, 2, shape[-1:]) for _ in range(4)]
    results = []
    for module in (layers, cpu_layers):
        layer = module.BatchNormalization(momentum=0.8)
        layer.build((None, *shape[1:]))
        layer.set_weights(weights)
        layer.trainable = trainable
        found = found_by(functools.partial(layer, training=True), inputs, layer)
        results.append([*found, *layer.get_weights(), np.asarray(layer(inputs, training=False))])
    for expected, found in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
    assert np.allclose(results[0][-2], weights[-1]) != trainable  # the averages have moved


def test_training_normalises_in_one_operation() -> None:
    """A mask or one vector a sequence is left to Keras, whose formula has many operations."""
    layer = cpu_layers.BatchNormalization()
    layer.build((None, 7, 3))

    def operations(**given: Any) -> set[str]:
        run = tf.function(lambda inputs: layer(inputs, training=True, **given))
        return {
            op.type for op in run.get_concrete_function(tf.zeros((2, 7, 3))).graph.get_operations()
        }

    assert "FusedBatchNormV3" in operations()
    assert "FusedBatchNormV3" not in operations(mask=np.ones((2, 7), bool))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_left_to_keras(kind: str, generator: np.random.Generator) -> None:
    """What is masked does not count, as in Keras."""
    plain, own = twins(kind, 4, 6)
    inputs = generator.normal(size=(2, 9, 4)).astype("float32")
    mask = np.arange(9) < np.array([[4], [9]])
    assert np.array_equal(plain(inputs, mask=mask), own(inputs, mask=mask))


def plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_fastest", lambda kind: getattr(layers, kind))


def trained(name: str) -> tuple[list[float], keras.Model]:
    """Losses of some steps on random sequences that end at different places."""
    keras.backend.clear_session()  # names are counted
    keras.utils.set_random_seed(7)
    hp = Hyperparameters(
        length=40, filters=8, filter_size=3, filter_sizes=(2, 3), units=10, hidden=(16,)
    )
    model = MODELS[name].build(hp, 3)
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    generator = np.random.default_rng(2)
    tokens = generator.integers(0, 21, (48, 40)).astype("uint8")
    tokens[np.arange(40) >= generator.integers(5, 41, (48, 1))] = 255
    labels = tokens[:, 2] % 3
    batches = [slice(start, start + 16) for start in (0, 16, 32)] * 10
    losses = [float(model.train_on_batch(tokens[rows], labels[rows])) for rows in batches]
    return losses, model


@pytest.mark.parametrize("name", ["cnn", "lstm", "gru", "complex-cnn-lstm"])
def test_training_follows_the_losses_of_keras(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same seed: the same variables, the same losses, and the learning is real."""
    found, own = trained(name)
    plain_layers(monkeypatch)
    expected, plain = trained(name)
    ours = [layer for layer in own.layers if hasattr(cpu_layers, type(layer).__name__)]
    assert {type(layer).__module__ for layer in ours} == {"ec_sweep.cpu_layers"}
    assert [(v.path, v.shape) for v in own.variables] == [
        (v.path, v.shape) for v in plain.variables
    ]
    assert expected[-1] < expected[0]
    assert np.allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_first_weights_are_those_of_keras(kind: str) -> None:
    """A seed draws the same, whichever layer asks."""
    drawn = []
    for module in (layers, cpu_layers):
        keras.utils.set_random_seed(3)
        layer = getattr(module, kind)(6)
        layer.build((None, 5, 4))
        drawn.append(layer.get_weights())
    for expected, found in zip(*drawn, strict=True):
        assert np.array_equal(expected, found)


def test_no_mask_goes_from_layer_to_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stacked layer would run slowly behind one, and not in cuDNN."""
    seen = []
    true = cpu_layers.LSTM.inner_loop

    def spied(self: Any, **given: Any) -> Any:
        seen.append(given["mask"])
        return true(self, **given)

    monkeypatch.setattr(cpu_layers.LSTM, "inner_loop", spied)
    trained("lstm")
    assert seen
    assert all(mask is None for mask in seen)


def test_a_gpu_gets_keras_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """There cuDNN is faster."""
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: ["a GPU"])
    assert models._fastest("LSTM") is layers.LSTM
    assert models._fastest("GRU") is layers.GRU
    assert models._fastest("BatchNormalization") is layers.BatchNormalization
