"""Layers for TensorFlow on a CPU, where Keras' own are slow.

The same layers as Keras', variable for variable and result for result, only their way
there is another. LSTM, and batch normalisation where nothing is masked, run in one native
operation. GRU, of which TensorFlow has none that resets after the product, runs in a loop
that holds nothing but what depends on the step before; all else stands outside of it as
few large products, in the gradient as well.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import layers

_UNROLLED = 8
"""Steps in a turn of the loop at most: a turn has a cost of its own."""


@keras.saving.register_keras_serializable("ecsweep")
class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc] # Keras has no types
    """Keras' batch normalisation; ``[batch, steps, features]`` without a mask in one operation.

    Of its options it takes momentum and epsilon.

    It only reads and writes memory, and Keras' own formula goes through the features some
    ten times, its gradient included.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the normalised inputs; in training move the averages towards the batch's own."""
        if not (training and self.trainable) or mask is not None or len(inputs.shape) != 3:
            return super().call(inputs, training=training, mask=mask)
        found, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs[:, None], self.gamma.value, self.beta.value, epsilon=self.epsilon
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:2]), variance.dtype)
        variance *= (count - 1) / count  # of the batch itself, as Keras averages it
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return found[:, 0]


@keras.saving.register_keras_serializable("ecsweep")
class LSTM(layers.LSTM):  # type: ignore[misc] # Keras has no types
    """Keras' LSTM; without a mask it is TensorFlow's fused one, inputs as ``[time, batch, _]``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_jit = False  # XLA does not know the operation

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """Return the last output, all outputs, and the last states."""
        if mask is not None:
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[no-any-return]
        hidden, carry = initial_state
        cell = self.cell
        none = tf.zeros(self.units)
        # Not BlockLSTMV2, whose gradient takes Keras' order of the gates for the one of V1.
        found = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.constant(sequences.shape[1], tf.int64),
            x=_swapped(sequences), cs_prev=carry, h_prev=hidden,
            w=_reordered(tf.concat([cell.kernel.value, cell.recurrent_kernel.value], axis=0)),
            b=_reordered(cell.bias.value), wci=none, wcf=none, wco=none,
            forget_bias=0.0, cell_clip=-1.0, use_peephole=False,
        )  # fmt: skip
        last = found.h[-1]
        return last, _swapped(found.h), [last, found.cs[-1]]


@keras.saving.register_keras_serializable("ecsweep")
class GRU(layers.GRU):  # type: ignore[misc] # Keras has no types
    """Keras' GRU that resets after the product; without a mask its loop is our own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.supports_jit = False  # XLA would compile the loop for each size of a batch

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """Return the last output, all outputs, and the last states."""
        if mask is not None:
            return super().inner_loop(sequences, initial_state, mask, training)  # type: ignore[no-any-return]
        kernels = self.cell.kernel.value, self.cell.recurrent_kernel.value
        states = _gru(_swapped(sequences), *initial_state, *kernels, self.cell.bias.value)
        return states[-1], _swapped(states), [states[-1]]


def _swapped(sequences: Any) -> Any:
    """Change places of batch and time."""
    return tf.transpose(sequences, (1, 0, 2))


def _reordered(weights: Any) -> Any:
    """Bring Keras' order of the gates (input, forget, cell, output) into that of BlockLSTM."""
    enter, forget, cell, leave = tf.split(weights, 4, axis=-1)
    return tf.concat([enter, cell, forget, leave], axis=-1)


@tf.custom_gradient  # type: ignore[untyped-decorator] # TensorFlow has no types
def _gru(
    inputs: Any, first: Any, kernel: Any, recurrent: Any, biases: Any
) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Return all states, ``[time, batch, units]``, and how gradients come back through them."""
    steps, units = inputs.shape[0], first.shape[1]
    projected = tf.nn.bias_add(tf.matmul(_flat(inputs), kernel), biases[0])
    projections = _listed(projected, steps)

    def gates(projection: Any, state: Any) -> tuple[Any, Any, Any, Any]:
        """Return update, reset, what is reset, and the candidate."""
        product = tf.nn.bias_add(tf.matmul(state, recurrent), biases[1])
        from_input, into_candidate = tf.split(projection, [2 * units, units], axis=1)
        from_state, recalled = tf.split(product, [2 * units, units], axis=1)
        update, reset = tf.split(tf.sigmoid(from_input + from_state), 2, axis=1)
        return update, reset, recalled, tf.tanh(into_candidate + reset * recalled)

    def forward(step: Any, state: Any, states: Any) -> tuple[Any, Any]:
        update, _, _, candidate = gates(projections.read(step), state)
        state = candidate + update * (state - candidate)
        return state, states.write(step, state)

    states, _ = _loop(forward, steps, first)

    def gradient(after: Any) -> tuple[Any, ...]:
        before = _flat(tf.concat([first[tf.newaxis], states[:-1]], axis=0))
        # Recomputed for all steps at once: no slower than to keep it step by step.
        update, reset, recalled, candidate = gates(projected, before)
        # A state's gradient times these is that of each sum before its sigmoid or tanh.
        of_candidate = (1 - update) * (1 - candidate * candidate)
        of_update = (before - candidate) * update * (1 - update)
        of_reset = of_candidate * recalled * reset * (1 - reset)
        of_product = tf.concat([of_update, of_reset, of_candidate * reset], axis=1)
        factors = _listed(tf.concat([of_product, update], axis=1), steps)
        # Back to the state before: through the product, and (the identity) past it.
        back = tf.concat([tf.transpose(recurrent), tf.eye(units)], axis=0)
        outer = _listed(_flat(after), steps)

        def backward(step: Any, carried: Any, written: Any) -> tuple[Any, Any]:
            carried += outer.read(step)
            spread = tf.concat([carried] * 4, axis=1) * factors.read(step)
            return tf.matmul(spread, back), written.write(step, carried)

        found, at_first = _loop(backward, steps, tf.zeros_like(first), backwards=True)
        found = _flat(found)
        products = tf.concat([found] * 3, axis=1) * of_product
        projections = tf.concat([products[:, : 2 * units], found * of_candidate], axis=1)
        return (
            tf.reshape(tf.matmul(projections, kernel, transpose_b=True), tf.shape(inputs)),
            at_first,
            tf.matmul(_flat(inputs), projections, transpose_a=True),
            tf.matmul(before, products, transpose_a=True),
            tf.stack([tf.reduce_sum(projections, axis=0), tf.reduce_sum(products, axis=0)]),
        )

    return states, gradient


def _loop(
    body: Callable[[Any, Any, Any], tuple[Any, Any]],
    steps: int,
    first: Any,
    backwards: bool = False,
) -> tuple[Any, Any]:
    """Return what ``body`` writes at each step, ``[time, batch, units]``, and its last state."""
    unrolled = max(turns for turns in range(1, _UNROLLED + 1) if steps % turns == 0)
    start, way = (steps - 1, -1) if backwards else (0, 1)

    def turn(step: Any, state: Any, written: Any) -> tuple[Any, Any, Any]:
        for ahead in range(unrolled):
            state, written = body(step + way * ahead, state, written)
        return step + way * unrolled, state, written

    written = tf.TensorArray(tf.float32, steps, element_shape=first.shape)
    _, last, written = tf.while_loop(
        lambda step, *_: step >= 0 if backwards else step < steps,
        turn,
        (start, first, written),
    )
    return written.stack(), last


def _listed(rows: Any, steps: int) -> Any:
    """Make rows of ``[time * batch, _]`` readable step by step."""
    by_step = tf.reshape(rows, (steps, -1, rows.shape[1]))
    return tf.TensorArray(tf.float32, steps).unstack(by_step)


def _flat(sequences: Any) -> Any:
    """Return ``[time, batch, _]`` as rows."""
    return tf.reshape(sequences, (-1, sequences.shape[2]))
