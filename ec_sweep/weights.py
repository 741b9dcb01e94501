"""How large a network is, by arithmetic: nothing is built, and Keras is not imported.

The counts are Keras' own (`keras.Model.count_params`), layer by layer as
`ec_sweep.models` puts them together.
"""

from ec_sweep.encoding import LETTERS
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

FLOAT = 4
"""Bytes of a weight."""
_MOMENTS = {"adam": 2, "rmsprop": 1, "sgd": 0}
"""Values that an optimizer keeps of each weight."""
_NORMALISATION = 4
"""Scale, shift, mean and variance of each channel."""


def parameters(model: str, hp: Hyperparameters, classes: int) -> int:
    """Return the parameters of a network of ours.

    0 where nothing tells: an estimator's depend on its data, those of a model of the user's own on
    its code.
    """
    if not MODELS[model].is_network or MODELS[model].source:
        return 0
    if model in ("lstm", "gru"):
        return _recurrence(model, hp, LETTERS) + _head(hp, hp.units, classes)
    branches = hp.filter_sizes if "filter_sizes" in MODELS[model].hyperparameters else (
        hp.filter_size,
    )  # fmt: skip
    found = sum((size * LETTERS + 1 + _NORMALISATION) * hp.filters for size in branches)
    if "units" in MODELS[model].hyperparameters:
        kind = model.rpartition("-")[2]
        entering = hp.filters * len(branches)
        return found + _recurrence(kind, hp, entering) + _head(hp, hp.units, classes)
    entering = sum(_positions(hp, size) // hp.pool_size * hp.filters for size in branches)
    return found + _head(hp, entering, classes)


def checkpoint_bytes(model: str, hp: Hyperparameters, classes: int) -> int:
    """Return the bytes of a checkpoint: what training holds, and the best epoch's weights."""
    return training_bytes(model, hp, classes) + FLOAT * parameters(model, hp, classes)


def training_bytes(model: str, hp: Hyperparameters, classes: int) -> int:
    """Return the bytes that training holds at the very least where it computes.

    Weights and what the optimizer keeps of each. Gradients, what lies between
    the layers, and the libraries come on top.
    """
    return FLOAT * (1 + _MOMENTS[hp.optimizer]) * parameters(model, hp, classes)


def model_bytes(model: str, hp: Hyperparameters, classes: int, train: int) -> int:
    """Return the bytes of a saved model that saw so many training sequences.

    Nearest neighbours keep all of them, a byte a residue and four a label.
    """
    if model == "kmer-nn":
        return train * (hp.length + FLOAT)
    return FLOAT * parameters(model, hp, classes)


def _positions(hp: Hyperparameters, filter_size: int) -> int:
    """Return the positions after a convolution, before pooling."""
    return hp.length if hp.conv_padding == "same" else hp.length - filter_size + 1


def _recurrence(kind: str, hp: Hyperparameters, entering: int) -> int:
    """Count stacked layers, each with its normalisation; Keras' GRU has two biases a gate."""
    gates, biases = (4, 1) if kind == "lstm" else (3, 2)
    found = 0
    for inputs in (entering, *[hp.units] * (hp.depth - 1)):
        found += gates * hp.units * (inputs + hp.units + biases) + _NORMALISATION * hp.units
    return found


def _head(hp: Hyperparameters, entering: int, classes: int) -> int:
    """Count the dense layers, output included."""
    found = 0
    for units in (*hp.hidden, classes):
        found += (entering + 1) * units
        entering = units
    return found
