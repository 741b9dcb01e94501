"""Train and test one cell inside a worker.

Knows nothing of Optuna, MLflow or other cells. Importing this module imports
Keras and its backend: only workers do. A cell is a network, trained epoch by
epoch, or an estimator of scikit-learn, fitted at once.
"""

import contextlib
import gc
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from ec_sweep import evaluation, machine, metrics, stopping
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.evaluation import LATENCY_CALLS, Part, Tokens
from ec_sweep.failures import Diverged, Stopped, cannot_write, classify
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

Report = Callable[[Event], None]


def configure(threads: int, deterministic: bool) -> None:
    """Set up the backend, once per process and before anything is computed."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
        if deterministic:
            tf.config.experimental.enable_op_determinism()


def run(task: Task, emit: Callable[[Event], None], stopped: Callable[[], bool]) -> Result:
    """Train and test a cell; whatever goes wrong becomes a classified result.

    Events are kept in the task's folder before they are emitted; the result is
    kept there too, unless the trial was stopped and is to go on another time.
    """
    folder = AttemptFolder(task.folder)
    try:
        result = _train_and_test(task, emit, stopped)
    except Stopped:
        result = Result("interrupted", now())
    except Exception as error:  # the one seam where any failure of a trial becomes data
        result = classify(error)
    finally:
        keras.backend.clear_session()
        gc.collect()
    if result.outcome != "interrupted":
        try:
            folder.write_result(result)
        except OSError as error:
            result = cannot_write(error)
    return result


def _train_and_test(
    task: Task, emit: Callable[[Event], None], stopped: Callable[[], bool]
) -> Result:
    folder = AttemptFolder(task.folder)
    machine.reset_peak_memory()

    def report(event: Event) -> None:
        folder.append(event)
        emit(event)

    if not MODELS[task.model].is_network:
        return _fit_estimator(task, folder, report, stopped)
    with _network(task) as model:
        return _fit_network(model, task, folder, report, stopped)


@contextlib.contextmanager
def _network(task: Task) -> Iterator[keras.Model]:
    """Yield the compiled network of a task, and take its memory back at the end."""
    keras.utils.set_random_seed(task.seed)
    model = MODELS[task.model].build(task.hyperparameters, task.classes)
    model.compile(
        optimizer=_optimizer(task.hyperparameters),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    try:
        yield model
    finally:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # TensorFlow keeps the gradient function of every model ever trained, and with it the
            # weights and Adam's two copies: emptied, what it keeps is small.
            for variable in (*model.variables, *model.optimizer.variables):
                empty = tf.zeros([0], variable.dtype)
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=empty)


def _fit_network(
    model: keras.Model,
    task: Task,
    folder: AttemptFolder,
    report: Report,
    stopped: Callable[[], bool],
) -> Result:
    hp = task.hyperparameters
    report(Event(now(), environment=_environment(str(model.jit_compile).lower())))
    parts = {part: Part(task, part) for part in task.sizes}
    batches = _Batches(parts["train"], hp.batch_size, task.seed)
    watcher = _Watcher(hp, batches, report, stopped)
    start = time.perf_counter()
    model.fit(
        batches,
        validation_data=(parts["valid"].tokens, parts["valid"].labels),
        validation_batch_size=hp.batch_size,
        epochs=hp.epochs,
        callbacks=[watcher],
        shuffle=False,  # Keras would shuffle the batches by a state that no seed here decides
        verbose=0,
    )
    final = {"fit_seconds": time.perf_counter() - start, **watcher.summary()}
    if stopped():
        raise Stopped

    def predict(tokens: Tokens) -> Any:
        return model.predict(tokens, batch_size=hp.batch_size, verbose=0)

    final |= evaluation.test(parts["test"], predict, model.predict_on_batch, folder, hp.batch_size)
    final |= _test_best(model, predict, parts["test"], watcher, final)
    final["parameters"] = model.count_params()
    final["peak_memory_mb"] = machine.peak_memory_mb()
    return Result("complete", now(), final, value=watcher.last["val_accuracy"])


def _fit_estimator(
    task: Task, folder: AttemptFolder, report: Report, stopped: Callable[[], bool]
) -> Result:
    """Fit an estimator at once: its one epoch holds what a network's last epoch would."""
    report(Event(now(), environment=_environment("false")))
    estimator = MODELS[task.model].build(task.hyperparameters, task.classes)
    parts = {part: Part(task, part) for part in task.sizes}
    start = time.perf_counter()
    estimator.fit(np.asarray(parts["train"].tokens), parts["train"].labels)
    seconds = time.perf_counter() - start

    def predict(tokens: Tokens) -> Any:
        # A class that no training sequence has is unknown to the estimator.
        found = np.zeros((len(tokens), task.classes), np.float32)
        found[:, estimator.classes_] = estimator.predict_proba(np.asarray(tokens))
        return found

    epoch = {"epoch_seconds": seconds}
    for name, part in (("train", parts["train"]), ("val", parts["valid"])):
        if stopped():
            raise Stopped
        some = slice(len(parts["valid"].labels))  # of train as many: nearest neighbours are slow
        loss, accuracy = metrics.loss_and_accuracy(part.labels[some], predict(part.tokens[some]))
        epoch |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    report(Event(now(), 1, epoch))
    final = {
        "fit_seconds": seconds, "epoch_seconds_median": seconds, "epochs_run": 1, "best_epoch": 1,
    }  # fmt: skip
    final |= evaluation.test(parts["test"], predict, predict, folder, 1)
    final["test_loss_best"], final["test_accuracy_best"] = (
        final["test_loss"], final["test_accuracy"],
    )  # fmt: skip
    learned = [getattr(estimator[-1], name, np.empty(0)) for name in ("coef_", "intercept_")]
    final["parameters"] = sum(values.size for values in learned)
    final["peak_memory_mb"] = machine.peak_memory_mb()
    return Result("complete", now(), final, value=epoch["val_accuracy"])


class _Batches(keras.utils.PyDataset):  # type: ignore[misc] # Keras has no types
    """Training batches, in an order that seed and epoch alone decide."""

    def __init__(self, part: Part, batch_size: int, seed: int) -> None:
        super().__init__()
        self._part, self._batch_size, self._seed = part, batch_size, seed
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._part.tokens[rows], self._part.labels[rows]

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0."""
        generator = np.random.default_rng([self._seed, epoch])
        self._order = generator.permutation(len(self._part.labels))


class _Watcher(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Reports epochs, keeps the best weights, and ends training when it is time."""

    def __init__(
        self,
        hp: Hyperparameters,
        batches: _Batches,
        report: Callable[[Event], None],
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._batches, self._report, self._stopped = batches, report, stopped
        self._rule = stopping.rule(hp.early_stopping, hp.patience)
        self._seconds: list[float] = []
        self._best_loss = float("inf")
        self._start = self._train_end = 0.0
        self.best_epoch = 0
        self.best_weights: list[Any] = []
        self.last: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        # Not left to the dataset's own on_epoch_end: Keras calls that once before training, too.
        self._batches.start_epoch(epoch)
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._check_stopped()

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        self._train_end = time.perf_counter()  # validation starts: not part of the epoch's time

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._check_stopped()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._seconds.append(self._train_end - self._start)
        found = {name: float(logs[key]) for name, key in _EPOCH_METRICS.items()}
        for name, value in found.items():
            if not np.isfinite(value):
                raise Diverged(f"{name} is {value} in epoch {epoch + 1}")
        self.last = found | {"epoch_seconds": self._seconds[-1]}
        self._report(Event(now(), epoch + 1, self.last))
        if found["val_loss"] < self._best_loss:
            self._best_loss, self.best_epoch = found["val_loss"], epoch + 1
            self.best_weights = self.model.get_weights()
        if self._rule.stop(found["val_loss"]):
            self.model.stop_training = True

    def summary(self) -> dict[str, float]:
        """Return the final metrics that come from the epochs."""
        return {
            # The first epoch traces and compiles: it counts only when it is all there is.
            "epoch_seconds_median": statistics.median(self._seconds[1:] or self._seconds),
            "epochs_run": len(self._seconds),
            "best_epoch": self.best_epoch,
        }

    def _check_stopped(self) -> None:
        if self._stopped():
            raise Stopped


_PACKAGES = ("numpy", "scikit-learn", "mlflow", "optuna")
_EPOCH_METRICS = {
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "val_loss": "val_loss",
    "val_accuracy": "val_accuracy",
}


def _optimizer(hp: Hyperparameters) -> keras.Optimizer:
    classes = {
        "adam": keras.optimizers.Adam,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": keras.optimizers.SGD,
    }
    return classes[hp.optimizer](hp.learning_rate)


def _test_best(
    model: keras.Model,
    predict: evaluation.Predict,
    test: Part,
    watcher: _Watcher,
    final: dict[str, float],
) -> dict[str, float]:
    """Score the weights of the best epoch, which are the last ones as a rule."""
    loss, accuracy = final["test_loss"], final["test_accuracy"]
    if watcher.best_epoch != final["epochs_run"]:
        model.set_weights(watcher.best_weights)
        probabilities = predict(np.ascontiguousarray(test.tokens))
        loss, accuracy = metrics.loss_and_accuracy(test.labels, probabilities)
    return {"test_loss_best": loss, "test_accuracy_best": accuracy}


def _environment(xla: str) -> dict[str, str]:
    """Say what a trial runs on: provenance, not identity."""
    backend = keras.backend.backend()
    found = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "backend": backend,
        "xla": xla,
        "latency_calls": str(LATENCY_CALLS),
        "machine": machine.description(),
    }
    if backend == "tensorflow":
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        found["tensorflow"] = tf.__version__
        found["tf32"] = str(
            bool(gpus) and tf.config.experimental.tensor_float_32_execution_enabled()
        ).lower()
        found["threads"] = str(tf.config.threading.get_intra_op_parallelism_threads())
        found["device"] = (
            tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
            if gpus
            else "CPU"
        )
    elif backend == "jax":
        import jax

        found["jax"] = jax.__version__
        found["device"] = jax.devices()[0].device_kind
    return found
