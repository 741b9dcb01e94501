"""The models that a sweep can name, and which hyperparameters each of them declares.

Networks are plain Keras 3 over ``uint8[length]`` tokens, written with
``keras.ops`` alone so that the same code runs on TensorFlow and JAX. Keras is
imported when a model is built, never before: the driver lives without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ec_sweep import baselines
from ec_sweep.encoding import LETTERS
from ec_sweep.hyperparameters import Hyperparameters, OwnHyperparameters

if TYPE_CHECKING:
    import keras

_DATA = {"length", "train_size"}
TRAINING = _DATA | {
    "batch_size", "epochs", "optimizer", "learning_rate",
    "early_stopping", "patience", "deterministic",
}  # fmt: skip
"""What every network declares: the data that it sees, and how it is trained."""
_BRANCH = {
    "filters", "conv_padding", "activation", "batch_norm_momentum", "pool_size", "initializer",
}  # fmt: skip
_CONVOLUTION = _BRANCH | {"filter_size"}
_BRANCHES = _BRANCH | {"filter_sizes"}
_RECURRENCE = {"units", "depth", "last_state", "batch_norm_momentum"}
_HEAD = {"activation", "hidden", "dropout", "initializer"}
_AT_RUN_TIME = {
    "train_size", "batch_size", "epochs", "learning_rate", "early_stopping", "patience",
}  # fmt: skip
"""What a compiled network does not depend on."""

Kind = tuple[Any, ...] | None
"""Cells of one kind can be trained by one compiled network."""


@dataclass(frozen=True)
class Model:
    """A model: how it is built, and the hyperparameters that it declares."""

    build: Callable[[Hyperparameters, int], Any]
    """Returns a network (`keras.Model`) or an estimator (scikit-learn) for so many classes."""
    hyperparameters: frozenset[str]
    check: Callable[[Hyperparameters], str | None] = lambda _: None
    """Returns why a combination of allowed values is impossible, ``None`` when it is fine."""
    is_network: bool = True
    own: Mapping[str, Any] = field(default_factory=dict)
    """The hyperparameters that it alone has, with their defaults; they are declared, too."""
    source: str = ""
    """Of a model in a user's own file (`ec_sweep.own_models`): sha256 of its text."""


def kind(model: str, hp: Hyperparameters) -> Kind:
    """Return what two cells have in common when one compiled network serves both.

    ``None``: it is no network, and nothing is compiled.
    """
    if not MODELS[model].is_network:
        return None
    values = {name: getattr(hp, name) for name in MODELS[model].hyperparameters - _AT_RUN_TIME}
    return (model, MODELS[model].source, *sorted(values.items()))


def hyperparameters_of(model: str, values: Mapping[str, Any]) -> Hyperparameters:
    """Return the hyperparameters of a model, of which ``values`` names some."""
    known = MODELS[model]
    if not known.own:
        return Hyperparameters(**values)
    own = {name: values.get(name, default) for name, default in known.own.items()}
    shared = {name: value for name, value in values.items() if name not in own}
    return OwnHyperparameters(**shared, own=tuple(sorted(own.items())))


def one_hot(tokens: Any) -> Any:
    """Return ``float32[batch, length, 21]`` of ``uint8[batch, length]`` tokens.

    Padding (255) equals no letter, so its rows are all zero (paper 3.2, padding ours).
    """
    from keras import ops

    return ops.one_hot(ops.cast(tokens, "int32"), LETTERS)


def cnn(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the single CNN of paper 3.3: one convolution, max pooling, and the head.

    The head starts with Flatten, so the first dense layer holds
    ``length // pool_size * filters * hidden[0]`` weights.
    """
    from keras import layers

    tokens = sequence_input(hp)
    features = convolution(hp, hp.filter_size, one_hot(tokens))
    return classifier(hp, classes, tokens, layers.Flatten()(features))


def complex_cnn(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the complex CNN of paper 3.3 (after Kim 2014): convolutions side by side.

    The first dense layer holds as many times more weights than the single CNN's
    as there are branches.
    """
    from keras import layers

    tokens = sequence_input(hp)
    letters = one_hot(tokens)
    branches = [layers.Flatten()(convolution(hp, size, letters)) for size in hp.filter_sizes]
    return classifier(hp, classes, tokens, _joined(branches))


def lstm(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build stacked LSTM layers of paper 3.3, whose last state enters the head."""
    tokens = sequence_input(hp)
    return classifier(hp, classes, tokens, _recurrence(hp, "LSTM", one_hot(tokens), tokens))


def gru(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build stacked GRU layers of paper 3.3, whose last state enters the head."""
    tokens = sequence_input(hp)
    return classifier(hp, classes, tokens, _recurrence(hp, "GRU", one_hot(tokens), tokens))


def cnn_lstm(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the single CNN followed by stacked LSTM layers (paper 3.3, Table 7)."""
    tokens = sequence_input(hp)
    features = convolution(hp, hp.filter_size, one_hot(tokens))
    return classifier(hp, classes, tokens, _recurrence(hp, "LSTM", features, tokens, hp.pool_size))


def cnn_gru(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the single CNN followed by stacked GRU layers (paper 3.3, Table 7)."""
    tokens = sequence_input(hp)
    features = convolution(hp, hp.filter_size, one_hot(tokens))
    return classifier(hp, classes, tokens, _recurrence(hp, "GRU", features, tokens, hp.pool_size))


def complex_cnn_lstm(hp: Hyperparameters, classes: int) -> keras.Model:
    """Build the complex CNN followed by stacked LSTM layers (the paper's future work)."""
    tokens = sequence_input(hp)
    letters = one_hot(tokens)
    features = _joined([convolution(hp, size, letters) for size in hp.filter_sizes])
    return classifier(hp, classes, tokens, _recurrence(hp, "LSTM", features, tokens, hp.pool_size))


def sequence_input(hp: Hyperparameters) -> Any:
    """Return the input of every network: ``uint8[batch, length]`` tokens."""
    import keras

    return keras.Input((hp.length,), dtype="uint8", name="tokens")


def convolution(hp: Hyperparameters, filter_size: int, letters: Any) -> Any:
    """Convolution, batch normalisation, activation, max pooling: [batch, positions, filters]."""
    from keras import layers

    hidden = layers.Conv1D(
        hp.filters, filter_size, padding=hp.conv_padding, kernel_initializer=hp.initializer
    )(letters)
    hidden = layers.Activation(hp.activation)(_normalised(hp, hidden))
    return layers.MaxPooling1D(hp.pool_size)(hidden)


def _joined(branches: list[Any]) -> Any:
    """Put the features of branches beside each other; a single branch is what it is."""
    from keras import layers

    return layers.Concatenate()(branches) if len(branches) > 1 else branches[0]


def _recurrence(hp: Hyperparameters, kind: str, features: Any, tokens: Any, stride: int = 1) -> Any:
    """Return the last state of stacked layers, each batch-normalised: [batch, units].

    Layers keep the options under which cuDNN runs them on a GPU. The state after
    the last residue is picked from all of them, which equals masking the padding,
    as that stands at the end; a mask itself would keep JAX from using cuDNN.
    ``stride`` residues make a step.
    """
    from keras import ops

    layer = _fastest(kind)
    # A step counts when its first residue is one.
    steps = ops.less(tokens, LETTERS)[:, ::stride][:, : features.shape[1]]
    from_residues = hp.last_state == "residue"
    for _ in range(1, hp.depth):
        features = layer(hp.units, return_sequences=True)(features)
        features = _normalised(hp, features, mask=steps if from_residues else None)
    features = layer(hp.units, return_sequences=from_residues)(features)
    if from_residues:
        last = ops.sum(ops.cast(steps, "int32"), axis=1) - 1
        features = ops.take_along_axis(features, ops.reshape(last, (-1, 1, 1)), axis=1)[:, 0]
    return _normalised(hp, features)


def _fastest(kind: str) -> Any:
    """Return Keras' class, or ours where TensorFlow has but a CPU (a GPU has cuDNN)."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if not tf.config.get_visible_devices("GPU"):
            from ec_sweep import cpu_layers

            return getattr(cpu_layers, kind)
    return getattr(keras.layers, kind)


def _normalised(hp: Hyperparameters, features: Any, mask: Any = None) -> Any:
    layer = _fastest("BatchNormalization")(momentum=hp.batch_norm_momentum)
    # The mask ends here. Keras would hand it on to the next recurrent layer, which it slows
    # and keeps from cuDNN, and which has no need of it: the last state is picked.
    layer.compute_mask = lambda *_: None
    return layer(features, mask=mask)


def classifier(hp: Hyperparameters, classes: int, tokens: Any, features: Any) -> keras.Model:
    """Add hidden dense layers and softmax, the same for every extractor (paper 3.3)."""
    import keras
    from keras import layers

    hidden = features
    for units in hp.hidden:
        hidden = layers.Dense(
            units, activation=hp.activation, kernel_initializer=hp.initializer
        )(hidden)  # fmt: skip
        if hp.dropout:
            hidden = layers.Dropout(hp.dropout)(hidden)
    scores = layers.Dense(classes, kernel_initializer=hp.initializer)(hidden)
    return keras.Model(tokens, layers.Softmax()(scores))


def _check_convolution(hp: Hyperparameters) -> str | None:
    return _check_sizes(hp, "filter_size", (hp.filter_size,))


def _check_branches(hp: Hyperparameters) -> str | None:
    return _check_sizes(hp, "filter_sizes", hp.filter_sizes)


def _check_recurrent_branches(hp: Hyperparameters) -> str | None:
    if hp.conv_padding != "same":
        return "conv_padding must be same where branches of different filter sizes enter an LSTM"
    return _check_branches(hp)


def _check_sizes(hp: Hyperparameters, name: str, sizes: Iterable[int]) -> str | None:
    for size in sizes:
        if size > hp.length:
            return f"{name} {size} is larger than length {hp.length}"
        positions = hp.length if hp.conv_padding == "same" else hp.length - size + 1
        if hp.pool_size > positions:
            return (
                f"pool_size {hp.pool_size} is larger than the {positions} positions before pooling"
            )
    return None


def _declare(*groups: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*groups)


MODELS: dict[str, Model] = {
    "cnn": Model(cnn, _declare(TRAINING, _CONVOLUTION, _HEAD), _check_convolution),
    "complex-cnn": Model(complex_cnn, _declare(TRAINING, _BRANCHES, _HEAD), _check_branches),
    "lstm": Model(lstm, _declare(TRAINING, _RECURRENCE, _HEAD)),
    "gru": Model(gru, _declare(TRAINING, _RECURRENCE, _HEAD)),
    "cnn-lstm": Model(
        cnn_lstm, _declare(TRAINING, _CONVOLUTION, _RECURRENCE, _HEAD), _check_convolution
    ),
    "cnn-gru": Model(
        cnn_gru, _declare(TRAINING, _CONVOLUTION, _RECURRENCE, _HEAD), _check_convolution
    ),
    "complex-cnn-lstm": Model(
        complex_cnn_lstm,
        _declare(TRAINING, _BRANCHES, _RECURRENCE, _HEAD),
        _check_recurrent_branches,
    ),
    "composition": Model(
        baselines.composition, _declare(_DATA, {"inverse_regularization"}), is_network=False
    ),
    "kmer-nn": Model(
        baselines.kmer_nn, _declare(_DATA, {"kmer", "neighbors"}),
        baselines.check_kmer_nn, is_network=False,
    ),
}  # fmt: skip
