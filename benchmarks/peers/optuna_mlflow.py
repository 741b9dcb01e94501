"""The grid with Optuna, Keras and MLflow, as a script usually does it; `--fair` as well as it may.

Without: sequences one-hot in float32, no XLA. With `--fair`: tokens, one-hot in the model, XLA.
The same in both: Optuna's study in memory, one MLflow run a trial on SQLite.
"""

import sys
from typing import Any

import keras
import mlflow
import optuna
from common import Clock, Job, Times, one_hot

FAIR = "--fair" in sys.argv

job = Job()
(x_train, x_valid, x_test), (y_train, y_valid, y_test) = job.arrays("tokens"), job.arrays("labels")
if not FAIR:
    x_train, x_valid, x_test = (one_hot(tokens) for tokens in (x_train, x_valid, x_test))
times = Times()


def log_epoch(epoch: int, logs: dict[str, float]) -> None:
    """Log what an epoch measured."""
    mlflow.log_metrics(logs, step=epoch)


def objective(trial: Any) -> float:
    """Train and test one point of the grid; returns its validation accuracy."""
    filter_size = trial.suggest_categorical("filter_size", job.filter_sizes)
    rate = trial.suggest_categorical("learning_rate", job.learning_rates)
    with mlflow.start_run():
        mlflow.log_params(trial.params)
        clock = Clock()
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        compiling = {"jit_compile": True} if FAIR else {}
        model = job.network(
            filter_size, not FAIR, optimizer=keras.optimizers.Adam(rate), **compiling
        )
        history = model.fit(
            x_train, y_train, validation_data=(x_valid, y_valid), batch_size=job.batch_size,
            epochs=job.epochs, verbose=0,
            callbacks=[clock, keras.callbacks.LambdaCallback(on_epoch_end=log_epoch)],
        )  # fmt: skip
        loss, accuracy = model.evaluate(
            x_test, y_test, batch_size=job.batch_size, callbacks=[clock], verbose=0
        )
        mlflow.log_metrics({"test_loss": loss, "test_accuracy": accuracy})
    times.add((filter_size, rate), clock, accuracy)
    return float(history.history["val_accuracy"][-1])


mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("grid")
grid = {"filter_size": job.filter_sizes, "learning_rate": job.learning_rates}
study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid))
study.optimize(objective, n_trials=job.cells)
times.write()
