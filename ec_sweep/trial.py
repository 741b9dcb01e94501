"""Train and test one cell inside a worker.

Knows nothing of Optuna, MLflow or other cells. Importing this module imports
Keras and its backend: only workers do. A cell is a network, trained epoch by
epoch, or an estimator of scikit-learn, fitted at once (`ec_sweep.estimating`).
"""

import contextlib
import functools
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow's own default leaves oneDNN out on CPUs without AVX-512, where a step of the CNN then
# takes 2.3 times as long (docs/benchmarks.md).
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np

from ec_sweep import estimating, evaluation, machine, metrics, networks, own_models, saving
from ec_sweep.attempts import AttemptFolder, Event, Order, Result, Task, now
from ec_sweep.evaluation import LATENCY_CALLS, Part, Tokens
from ec_sweep.failures import Pruned, Stopped, TimedOut, cannot_write, classify
from ec_sweep.models import MODELS
from ec_sweep.networks import Network
from ec_sweep.training import Training

Orders = Callable[[], Order | None]
"""Asked after every batch for what the driver wants; that also shows that the trial lives."""


def configure(threads: int, deterministic: bool, gpu_memory: int | None = None) -> None:
    """Set up the backend, once per process and before anything is computed.

    ``gpu_memory`` are the bytes of a GPU that this process may take; without, it takes what it
    needs. JAX reads its share from the environment.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            if gpu_memory is None:
                tf.config.experimental.set_memory_growth(gpu, True)
            else:
                limit = tf.config.LogicalDeviceConfiguration(memory_limit=gpu_memory / 2**20)
                tf.config.set_logical_device_configuration(gpu, [limit])
        if deterministic:
            tf.config.experimental.enable_op_determinism()
    gc.collect()
    gc.freeze()  # looking through all that was imported would take half a second a trial


def run(task: Task, emit: Callable[[Event], None], orders: Orders) -> Result:
    """Train and test a cell; whatever goes wrong becomes a classified result.

    Events are kept in the task's folder before they are emitted; the result is
    kept there too, unless the trial was stopped and is to go on another time.
    """
    folder = AttemptFolder(task.folder)
    epochs: list[Event] = []

    def report(event: Event) -> None:
        folder.append(event)
        epochs.extend([event] if event.epoch else [])
        emit(event)

    try:
        check = functools.partial(_check, task, orders, time.monotonic())
        result = _train_and_test(task, report, check)
    except Stopped:
        result = Result("interrupted", now())
    except Pruned:
        measured = {"epochs_run": float(len(epochs))}
        result = Result("pruned", now(), measured, epochs[-1].metrics["val_accuracy"])
    except Exception as error:  # the one seam where any failure of a trial becomes data
        lost_folder = isinstance(error, OSError) and not task.folder.exists()
        result = cannot_write(str(error)) if lost_folder else classify(error)
    if result.outcome != "complete":  # the next cell begins with nothing of what went wrong here
        networks.forget()
    if result.outcome != "interrupted":
        try:
            folder.write_result(result)
        except OSError as error:
            result = cannot_write(error.strerror or str(error))
    return result


def _check(task: Task, orders: Orders, start: float) -> None:
    """Raise what ends a trial that the driver wants to end, or that has taken too long."""
    order = orders()
    if order == "stop":
        raise Stopped
    if order == "prune":
        raise Pruned
    if task.timeout is not None and time.monotonic() - start > task.timeout:
        raise TimedOut(f"it took longer than {task.timeout:g} s")


def _train_and_test(
    task: Task, report: Callable[[Event], None], check: Callable[[], None]
) -> Result:
    if task.own:
        own_models.know(task.own)
    folder = AttemptFolder(task.folder)
    is_network = MODELS[task.model].is_network
    if not is_network:
        networks.forget()  # its memory would count as this trial's
    machine.reset_peak_memory()
    if not is_network:
        report(Event(now(), environment=_environment("false")))
        return estimating.fit_and_test(task, folder, report, check)
    network = networks.get(task)
    check()  # a large network alone may have taken too long to build
    report(Event(now(), environment=_environment(str(network.trained.jit_compile).lower())))
    return _fit_network(network, task, folder, report, check)


def _fit_network(
    network: Network,
    task: Task,
    folder: AttemptFolder,
    report: Callable[[Event], None],
    check: Callable[[], None],
) -> Result:
    batch_size = task.hyperparameters.batch_size
    model, test = network.model, Part(task, "test")
    training = Training(network.trained, task, report, check)

    def predict(tokens: Tokens) -> Any:
        return _in_batches(model, tokens, batch_size, check)

    try:
        training.run()
        final = training.summary()
        final |= evaluation.test(test, predict, model.predict_on_batch, folder, batch_size)
    except Stopped:
        training.keep()
        raise
    # Before the best epoch's weights replace those that the tables tell of.
    saving.save(folder.model, task.about, model.get_weights, training.last, final, task.to_beat)
    final |= _test_best(model, batch_size, test, training, final)
    final["parameters"] = model.count_params()
    final["peak_memory_mb"] = machine.peak_memory_mb()
    return Result("complete", now(), final, value=training.last["val_accuracy"])


def _in_batches(
    model: keras.Model, tokens: Tokens, batch_size: int, check: Callable[[], None]
) -> Any:
    """Predict batch by batch, with a look at orders after each.

    Without Keras' own loop, which builds a pipeline for each call: that takes
    longer than to predict a few hundred sequences.
    """
    found = []
    for start in range(0, len(tokens), batch_size):
        batch = np.ascontiguousarray(tokens[start : start + batch_size])
        found.append(model.predict_on_batch(batch))
        check()
    return np.concatenate(found)


_PACKAGES = ("numpy", "scikit-learn", "mlflow", "optuna")


def _test_best(
    model: keras.Model,
    batch_size: int,
    test: Part,
    training: Training,
    final: dict[str, float],
) -> dict[str, float]:
    """Score the weights of the best epoch, which are the last ones as a rule.

    Not to be stopped: the weights that a checkpoint would need are gone.
    """
    loss, accuracy = final["test_loss"], final["test_accuracy"]
    if training.best_epoch != final["epochs_run"]:
        model.set_weights(training.best_weights)
        probabilities = _in_batches(model, test.tokens, batch_size, lambda: None)
        loss, accuracy = metrics.loss_and_accuracy(test.labels, probabilities)
    return {"test_loss_best": loss, "test_accuracy_best": accuracy}


def _installed() -> dict[str, str]:
    """Return the versions that count; a machine of workers alone needs no driver's libraries."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _environment(xla: str) -> dict[str, str]:
    """Say what a trial runs on: provenance, not identity."""
    backend = keras.backend.backend()
    found = {
        "python": platform.python_version(),
        "keras": keras.__version__,
        **_installed(),
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
        found["onednn"] = os.environ["TF_ENABLE_ONEDNN_OPTS"]
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
