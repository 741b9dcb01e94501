"""Fit and test an estimator of scikit-learn: at once, where a network takes epochs."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ec_sweep import baselines, evaluation, machine, metrics, saving
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.evaluation import Part, Tokens
from ec_sweep.models import MODELS


def fit_and_test(
    task: Task, folder: AttemptFolder, report: Callable[[Event], None], check: Callable[[], None]
) -> Result:
    """Fit an estimator: its one epoch holds what a network's last epoch would.

    ``check`` raises where the trial is to end.
    """
    estimator = MODELS[task.model].build(task.hyperparameters, task.classes)
    parts = {part: Part(task, part) for part in task.sizes}
    start = time.perf_counter()
    estimator.fit(np.asarray(parts["train"].tokens), parts["train"].labels)
    seconds = time.perf_counter() - start

    def predict(tokens: Tokens) -> Any:
        return baselines.probabilities(estimator, tokens, task.classes)

    def weights() -> list[Any]:
        train = parts["train"]
        return baselines.learned(task.model, estimator, train.tokens, train.labels)

    epoch = {"epoch_seconds": seconds}
    for name, part in (("train", parts["train"]), ("val", parts["valid"])):
        check()
        some = slice(len(parts["valid"].labels))  # of train as many: nearest neighbours are slow
        loss, accuracy = metrics.loss_and_accuracy(part.labels[some], predict(part.tokens[some]))
        epoch |= {f"{name}_loss": loss, f"{name}_accuracy": accuracy}
    report(Event(now(), 1, epoch))
    check()
    final = {
        "fit_seconds": seconds, "epoch_seconds_median": seconds, "epochs_run": 1, "best_epoch": 1,
    }  # fmt: skip
    final |= evaluation.test(parts["test"], predict, predict, folder, 1)
    saving.save(folder.model, task.about, weights, epoch, final, task.to_beat)
    final["test_loss_best"], final["test_accuracy_best"] = (
        final["test_loss"], final["test_accuracy"],
    )  # fmt: skip
    learned = [getattr(estimator[-1], name, np.empty(0)) for name in ("coef_", "intercept_")]
    final["parameters"] = sum(values.size for values in learned)
    final["peak_memory_mb"] = machine.peak_memory_mb()
    return Result("complete", now(), final, value=epoch["val_accuracy"])
