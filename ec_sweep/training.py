"""Training a network: epochs, early stopping, and checkpoints to go on from."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from ec_sweep import checkpoints, stopping
from ec_sweep.attempts import Event, Task, now
from ec_sweep.checkpoints import Array, Checkpoint, Position, UnreadableError
from ec_sweep.evaluation import Part
from ec_sweep.failures import Diverged
from ec_sweep.feeding import Batches

_VALIDATED_AT_ONCE = 128
"""Sequences, whatever the batch size of training: weights are read once for all of them."""
_EPOCH_METRICS = {
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}


class Training(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Trains epoch after epoch, from a checkpoint where there is one, and keeps checkpoints.

    Everything that decides what follows is restored: weights, optimizer, seeds
    of dropout, metrics of the epoch under way, early stopping, best weights, and
    the place in the epoch's shuffled order.
    """

    def __init__(
        self,
        model: keras.Model,
        task: Task,
        report: Callable[[Event], None],
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.set_model(model)
        self._task, self._report, self._check = task, report, check
        self._hp = task.hyperparameters
        self._train, self._valid = Part(task, "train"), Part(task, "valid")
        self._steps = math.ceil(len(self._train.labels) / self._hp.batch_size)
        self._rule = stopping.rule(self._hp.early_stopping, self._hp.patience)
        self._at = Position()
        self._ended = False
        self._best_loss, self.best_epoch = math.inf, 0
        self.best_weights: Sequence[Array] = []
        self._metrics: Sequence[Array] = []
        self._kept = self._place
        self._kept_at = self._mark = time.perf_counter()
        self._start: float | None = None  # of the clock that counts training alone

    @property
    def last(self) -> dict[str, float]:
        """The metrics of the last epoch."""
        return self._at.epochs[-1].metrics

    @property
    def _place(self) -> tuple[int, int, bool]:
        return len(self._at.epochs), self._at.batch, bool(self._at.trained)

    def run(self) -> None:
        """Train until all epochs are done or the early stopping rule ends it."""
        self._restore()
        self._mark = self._kept_at = time.perf_counter()
        while not self._ended:
            if self._at.trained:
                self._finish_epoch()
            else:
                self._fit()
        self._count_time()

    def _fit(self) -> None:
        epoch, first = len(self._at.epochs), self._at.batch
        if self.model.train_function is None:  # Keras makes it now, and keeps it
            self._at.compiled.append(epoch + 1)
        self._batches = Batches(self._train, self._hp.batch_size, self._task.seed, first)
        self.model.fit(
            self._batches.fed(),
            validation_data=Batches(self._valid, _VALIDATED_AT_ONCE).fed(),
            initial_epoch=epoch,
            # What is left of an epoch is a data set of its own: its length is another.
            epochs=epoch + 1 if first else self._hp.epochs,
            callbacks=[self],
            shuffle=False,  # Keras would shuffle batches by a state that no seed here decides
            verbose=0,
        )

    def _finish_epoch(self) -> None:
        """Validate after an epoch that an earlier attempt has trained to its end."""
        found = self.model.evaluate(
            Batches(self._valid, _VALIDATED_AT_ONCE).fed(),
            callbacks=[self],
            return_dict=True,
            verbose=0,
        )
        logs = self._at.trained | {f"val_{name}": value for name, value in found.items()}
        self.on_epoch_end(len(self._at.epochs), logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' arguments
        """Shuffle, and take up the metrics of an epoch that an earlier attempt began."""
        # Not left to the dataset's own on_epoch_end: Keras calls that once before training, too.
        self._batches.start_epoch(epoch)
        if self._at.batch:
            for variable, value in zip(self.model.metrics_variables, self._metrics, strict=True):
                variable.assign(value)
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' arguments
        """Count the batch; follow orders, keep a checkpoint when it is time."""
        self._at.batch += 1
        if self._at.batch < self._steps:  # after the last one, validation asks at once
            self._check()
            self._keep_in_time()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras' arguments
        """Note what training gave in this epoch, before validation begins."""
        self._count_time()
        self._start = None  # validation starts: not part of the epoch's time
        if not self._at.trained:
            found = self.model.get_metrics_result()
            self._at.trained = {name: float(value) for name, value in found.items()}

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' arguments
        """Follow orders in validation."""
        self._check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the epoch, keep the best weights, and end training when it is time."""
        found = {name: float(logs[key]) for name, key in _EPOCH_METRICS.items()}
        for name, value in found.items():
            if not np.isfinite(value):
                raise Diverged(f"{name} is {value} in epoch {epoch + 1}")
        event = Event(now(), epoch + 1, found | {"epoch_seconds": self._at.seconds})
        self._at.batch, self._at.seconds, self._at.trained = 0, 0.0, {}
        self._at.epochs.append(event)
        self._report(event)
        if self._judge(event):
            self.best_weights = self.model.get_weights()
        self.model.stop_training = self._ended
        self._keep_in_time()

    def _judge(self, epoch: Event) -> bool:
        """Tell the early stopping rule of an epoch; returns whether it is the best so far."""
        loss = epoch.metrics["val_loss"]
        self._ended = self._rule.stop(loss) or epoch.epoch == self._hp.epochs
        if not loss < self._best_loss:
            return False
        self._best_loss, self.best_epoch = loss, epoch.epoch
        return True

    def keep(self) -> None:
        """Write a checkpoint, if training has come further than the last one."""
        self._count_time()
        if self._task.checkpoint and self._place != self._kept:
            arrays = {
                group: [_array(variable) for variable in found]
                for group, found in _variables(self.model).items()
            }
            checkpoint = Checkpoint(self._at, {**arrays, "best": self.best_weights})
            checkpoint.write(self._task.checkpoint)
            self._kept = self._place
            done = len(self._at.epochs) * self._steps + self._at.batch
            self._report(Event(now(), checkpoint=done))
        self._kept_at = self._mark = time.perf_counter()  # writing is no training
        self._start = self._start and self._mark

    def _keep_in_time(self) -> None:
        if time.perf_counter() - self._kept_at >= self._task.checkpoint_every:
            self.keep()

    def _count_time(self) -> None:
        """Add the time since the clocks were last read to what they have counted."""
        end = time.perf_counter()
        self._at.fit_seconds += end - self._mark
        self._mark = end
        if self._start is not None:
            self._at.seconds += end - self._start
            self._start = end

    def _restore(self) -> None:
        """Go on from the checkpoint; one that cannot be read is as good as none, and said so."""
        if self._task.checkpoint is None:
            return
        try:
            kept = checkpoints.read(self._task.checkpoint)
            if kept is None:
                return
            self._assign(kept)
        except UnreadableError as error:
            reason = f"from the beginning: its checkpoint cannot be read ({error})"
            self._report(Event(now(), environment={"resumed": reason}))
            return
        self._at = kept.position
        self.best_weights = kept.arrays.get("best", [])
        place = f"after epoch {len(self._at.epochs)}, batch {self._at.batch} of {self._steps}"
        self._report(Event(now(), environment={"resumed": place}))
        for event in self._at.epochs:
            self._report(event)
            self._judge(event)
        self._kept = self._place

    def _assign(self, kept: Checkpoint) -> None:
        """Set all variables to what a checkpoint holds of them; the metrics wait for the epoch."""
        self.model.optimizer.build(self.model.trainable_variables)
        probabilities = np.full((1, self._task.classes), 1 / self._task.classes, np.float32)
        self.model.compute_metrics(None, self._train.labels[:1], probabilities)  # makes them
        variables = _variables(self.model)
        shapes = {group: [tuple(v.shape) for v in found] for group, found in variables.items()}
        if any(
            found != [array.shape for array in kept.arrays.get(group, [])]
            for group, found in shapes.items()
        ):
            raise UnreadableError("it is of another model, or of another version of Keras")
        for group in ("model", "optimizer"):
            for variable, array in zip(variables[group], kept.arrays[group], strict=True):
                variable.assign(array)
        self._metrics = kept.arrays["metrics"]

    def summary(self) -> dict[str, float]:
        """Return the final metrics that come from the epochs."""
        seconds = {event.epoch: event.metrics["epoch_seconds"] for event in self._at.epochs}
        # An epoch that compiled counts only when there is no other.
        steady = [found for epoch, found in seconds.items() if epoch not in self._at.compiled]
        return {
            "fit_seconds": self._at.fit_seconds,
            "epoch_seconds_median": statistics.median(steady or seconds.values()),
            "epochs_run": len(seconds),
            "best_epoch": self.best_epoch,
        }


def _array(variable: Any) -> Array:
    found: Array = keras.ops.convert_to_numpy(variable)
    return found


def _variables(model: keras.Model) -> dict[str, list[Any]]:
    return {
        "model": model.variables,  # the states of dropout's seeds among them
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
