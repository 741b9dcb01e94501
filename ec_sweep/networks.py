"""Networks built and compiled, and taken up again by the next cell of the same kind.

Tracing a network's functions takes as long as twenty or so of its steps. Cells that
differ only in what these functions read while they run share them; the state of every
variable is that of a network just built, so a cell's result does not depend on it.
"""

import gc
from dataclasses import dataclass
from typing import Any

import keras

from ec_sweep.attempts import Task
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS, Kind, kind


@dataclass(frozen=True)
class Network:
    """A network, and what of it is trained: all but the softmax at its end.

    The loss is taken of the scores before it, because probabilities of 0 and 1 have no gradient:
    on TensorFlow Keras finds the scores itself, on other backends training would stand still.
    """

    kind: tuple[Kind, int]
    model: keras.Model
    """From tokens to probabilities."""
    trained: keras.Model
    """From tokens to scores, compiled; its weights are the model's."""

    def restart(self, fresh: keras.Model, learning_rate: float) -> None:
        """Set everything that training changes to what it is before the first step."""
        for variable, value in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(value)
        for variable in self.trained.optimizer.variables:
            variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
        self.trained.optimizer.learning_rate = learning_rate


_kept: Network | None = None  # a process trains one network at a time, as its backend computes


def get(task: Task) -> Network:
    """Return the network of a task as it is before the first step, compiled for training."""
    global _kept
    hp = task.hyperparameters
    wanted = kind(task.model, hp), task.classes
    if _kept is not None and _kept.kind != wanted:
        forget()  # before the next one takes its memory
    keras.utils.set_random_seed(task.seed)
    model = MODELS[task.model].build(hp, task.classes)
    if _kept is None:
        _kept = Network(wanted, model, _compiled(model, hp))
    else:
        # Built anew for its initial weights alone: no other way draws the same ones so surely.
        _kept.restart(model, hp.learning_rate)
        del model
        gc.collect()  # a network refers to itself
    return _kept


def forget() -> None:
    """Give back the memory of the network that is kept."""
    global _kept
    if _kept is not None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # TensorFlow keeps the gradient function of every model ever trained, and with it the
        # weights and Adam's two copies: emptied, what it keeps is small.
        for variable in (*_kept.trained.variables, *_kept.trained.optimizer.variables):
            empty = tf.zeros([0], variable.dtype)
            tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=empty)
    _kept = None
    keras.backend.clear_session()  # which collects garbage, too


def _compiled(model: keras.Model, hp: Hyperparameters) -> keras.Model:
    trained = keras.Model(model.input, model.layers[-1].input)
    trained.compile(
        optimizer=_optimizer(hp),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return trained


def _optimizer(hp: Hyperparameters) -> keras.Optimizer:
    adam = NativeAdam if keras.backend.backend() == "tensorflow" else keras.optimizers.Adam
    classes = {
        "adam": adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    return classes[hp.optimizer](hp.learning_rate)


class NativeAdam(keras.optimizers.Adam):  # type: ignore[misc] # Keras has no types
    """Keras' Adam, computed in one operation of TensorFlow for each variable.

    Adam only reads and writes memory. Keras' own step goes through the weights some thirty
    times, once for each operation of its formula, and took over a third of a CNN's step.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable as `keras.optimizers.Adam` does."""
        import tensorflow as tf

        place = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )
