"""Architectures against hand computation."""

import keras
import numpy as np
import pytest

from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS, one_hot


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
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert dense[0].kernel.shape == (64_000, 512)
    convolution = 9 * 21 * 128 + 128
    normalisation = 4 * 128
    head = (64_000 * 512 + 512) + (512 * 512 + 512) + (512 * 2 + 2)
    assert model.count_params() == convolution + normalisation + head
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize(
    ("changes", "positions"),
    [({}, 10), ({"conv_padding": "valid"}, 9), ({"pool_size": 3}, 6), ({"pool_size": 1}, 20)],
)
def test_padding_and_pooling_decide_what_is_flattened(
    changes: dict[str, object], positions: int
) -> None:
    """Positions before the head: length, less the filter's overlap, joined by pooling."""
    hp = Hyperparameters(length=20, filters=4, filter_size=3, hidden=(8,), **changes)  # type: ignore[arg-type]
    model = MODELS["cnn"].build(hp, 17)
    flat = next(layer for layer in model.layers if isinstance(layer, keras.layers.Flatten))
    assert flat.output.shape == (None, positions * 4)
    assert model.output_shape == (None, 17)


def test_layers_stand_in_the_papers_order() -> None:
    """Convolution, batch normalisation, ReLU, pooling, Flatten, 512, 512, softmax."""
    hp = Hyperparameters(length=20, batch_norm_momentum=0.7)
    model = MODELS["cnn"].build(hp, 2)
    kinds = [type(layer).__name__ for layer in model.layers if layer.name != "tokens"]
    own = ["Conv1D", "BatchNormalization", "Activation", "MaxPooling1D", "Flatten"]
    assert [kind for kind in kinds if kind in {*own, "Dense"}] == [*own, "Dense", "Dense", "Dense"]
    by_kind = {type(layer).__name__: layer for layer in model.layers}
    assert by_kind["BatchNormalization"].momentum == 0.7
    assert by_kind["Activation"].activation is keras.activations.relu
    assert by_kind["Dense"].activation is keras.activations.softmax


def test_models_survive_keras_safe_mode(tmp_path: object) -> None:
    """A saved model loads again without running code from the file."""
    model = MODELS["cnn"].build(Hyperparameters(length=20, filters=4, hidden=(8,)), 2)
    path = f"{tmp_path}/model.keras"
    model.save(path)
    tokens = np.array([[*range(20)]], np.uint8)
    again = keras.saving.load_model(path, safe_mode=True)
    assert np.allclose(again.predict(tokens, verbose=0), model.predict(tokens, verbose=0))


def test_dropout_is_there_when_asked_for() -> None:
    """None by default (the paper mentions none), one after each hidden layer otherwise."""
    for rate, count in ((0.0, 0), (0.5, 2)):
        model = MODELS["cnn"].build(Hyperparameters(length=20, dropout=rate), 2)
        assert sum(isinstance(layer, keras.layers.Dropout) for layer in model.layers) == count
