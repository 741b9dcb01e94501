"""The neural architectures, and which hyperparameters each of them declares.

Builders are plain Keras 3 over ``uint8[length]`` tokens, written with
``keras.ops`` alone so that the same code runs on every backend. Keras is
imported when a model is built, never before: the driver lives without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ec_sweep.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    import keras

LETTERS = 21
"""Size of the alphabet: 20 residues and X (paper 3.2)."""

_TRAINING = {
    "length", "train_size", "batch_size", "epochs", "optimizer", "learning_rate",
    "early_stopping", "patience", "deterministic",
}  # fmt: skip
_CONVOLUTION = {
    "filters", "filter_size", "conv_padding", "activation", "batch_norm_momentum", "pool_size",
}  # fmt: skip
_HEAD = {"activation", "hidden", "dropout", "initializer"}


@dataclass(frozen=True)
class Model:
    """An architecture: how it is built, and the hyperparameters that it declares."""

    build: Callable[[Hyperparameters, int], keras.Model]
    hyperparameters: frozenset[str]
    check: Callable[[Hyperparameters], str | None] = lambda _: None
    """Returns why a combination of allowed values is impossible, ``None`` when it is fine."""


def one_hot(tokens: Any) -> Any:
    """Return ``float32[batch, length, 21]`` of ``uint8[batch, length]`` tokens.

    Padding (255) equals no letter, so its rows are all zero (paper 3.2, padding ours).
    """
    from keras import ops

    # Padding becomes a 22nd letter that is cut off again: out-of-range tokens fail on PyTorch.
    letters = ops.minimum(ops.cast(tokens, "int32"), LETTERS)
    return ops.one_hot(letters, LETTERS + 1)[..., :LETTERS]


def cnn(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the single CNN of paper 3.3: one convolution, max pooling, and the head.

    The head starts with Flatten, so the first dense layer holds
    ``length // pool_size * filters * hidden[0]`` weights.
    """
    import keras

    tokens = keras.Input((hp.length,), dtype="uint8", name="tokens")
    hidden = _convolution(hp, one_hot(tokens))
    return keras.Model(tokens, _head(hp, classes, keras.layers.Flatten()(hidden)), name="cnn")


def _convolution(hp: Hyperparameters, hidden: Any) -> Any:
    """Convolution, batch normalisation, activation, max pooling."""
    from keras import layers

    hidden = layers.Conv1D(
        hp.filters,
        hp.filter_size,
        padding=hp.conv_padding,
        kernel_initializer=hp.initializer,
    )(hidden)
    hidden = layers.BatchNormalization(momentum=hp.batch_norm_momentum)(hidden)
    hidden = layers.Activation(hp.activation)(hidden)
    return layers.MaxPooling1D(hp.pool_size)(hidden)


def _head(hp: Hyperparameters, classes: int, hidden: Any) -> Any:
    """Hidden dense layers and softmax, the same for every extractor (paper 3.3)."""
    from keras import layers

    for units in hp.hidden:
        hidden = layers.Dense(
            units, activation=hp.activation, kernel_initializer=hp.initializer
        )(hidden)  # fmt: skip
        if hp.dropout:
            hidden = layers.Dropout(hp.dropout)(hidden)
    return layers.Dense(classes, activation="softmax", kernel_initializer=hp.initializer)(hidden)


def _check_convolution(hp: Hyperparameters) -> str | None:
    if hp.filter_size > hp.length:
        return f"filter_size {hp.filter_size} is larger than length {hp.length}"
    positions = hp.length if hp.conv_padding == "same" else hp.length - hp.filter_size + 1
    if hp.pool_size > positions:
        return f"pool_size {hp.pool_size} is larger than the {positions} positions before pooling"
    return None


def _declare(*groups: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*groups)


MODELS = {
    "cnn": Model(cnn, _declare(_TRAINING, _CONVOLUTION, _HEAD), _check_convolution),
}
