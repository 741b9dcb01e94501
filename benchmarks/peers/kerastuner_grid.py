"""The grid with KerasTuner's GridSearch: tokens, one-hot in the model, KerasTuner's defaults."""

from typing import Any

import keras
import keras_tuner
from common import Clock, Job, Times

job = Job()
(x_train, x_valid, x_test), (y_train, y_valid, y_test) = job.arrays("tokens"), job.arrays("labels")
times = Times()


class Network(keras_tuner.HyperModel):  # type: ignore[misc] # KerasTuner has no types
    """The network, and how it is trained and tested."""

    def build(self, hp: Any) -> Any:
        """Build the network of a trial."""
        self._clock = Clock()
        keras.utils.set_random_seed(0)
        filter_size = hp.Choice("filter_size", job.filter_sizes)
        rate = hp.Choice("learning_rate", job.learning_rates)
        return job.network(filter_size, False, optimizer=keras.optimizers.Adam(rate))

    def fit(self, hp: Any, model: Any, *args: Any, callbacks: Any = (), **kwargs: Any) -> Any:
        """Train, and test at the end."""
        history = model.fit(*args, callbacks=[self._clock, *callbacks], **kwargs)
        _, accuracy = model.evaluate(
            x_test, y_test, batch_size=job.batch_size, callbacks=[self._clock], verbose=0
        )
        times.add((hp.get("filter_size"), hp.get("learning_rate")), self._clock, accuracy)
        return history


class Search(keras_tuner.GridSearch):  # type: ignore[misc] # KerasTuner has no types
    """The search, which gets along without TensorBoard: TensorFlow no longer brings it."""

    def _configure_tensorboard_dir(self, *_: Any) -> None:
        """Do nothing: there is no callback of TensorBoard, whose folder this would set."""


tuner = Search(Network(), "val_accuracy", max_trials=job.cells, directory=".", project_name="grid")
tuner.search(
    x_train, y_train, validation_data=(x_valid, y_valid),
    batch_size=job.batch_size, epochs=job.epochs, verbose=0,
)  # fmt: skip
times.write()
