"""Scoring and timing a trained model on the test set, whatever kind of model it is."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep import metrics
from ec_sweep.attempts import AttemptFolder, Task
from ec_sweep.paths import open_atomically

LATENCY_CALLS = 30
"""Predictions of one sequence whose median is ``latency_ms_batch1``."""

Tokens = npt.NDArray[np.uint8]
Predict = Callable[[Tokens], metrics.Probabilities]
"""From tokens ``uint8[n, length]`` to probabilities ``float32[n, classes]``."""


class Part:
    """The sequences of one part of the dataset that a task uses."""

    def __init__(self, task: Task, part: str) -> None:
        def array(kind: str) -> Any:
            return np.load(task.dataset / f"{part}_{kind}.npy", mmap_mode="r")[: task.sizes[part]]

        self.tokens: Tokens = array("tokens")[:, : task.hyperparameters.length]
        """Mapped ``uint8[n, length]``."""
        self.labels: metrics.Labels = np.asarray(array("labels"))
        self.ids = array("ids")


def test(
    test_part: Part,
    predict: Predict,
    predict_one: Predict,
    folder: AttemptFolder,
    batch_size: int,
) -> dict[str, float]:
    """Score and time a model on the test set and keep its probabilities.

    ``predict`` takes the whole set, in batches of ``batch_size``; ``predict_one``
    takes one sequence. Both are called once before the clock starts: the first
    call may trace and compile.
    """
    tokens = np.ascontiguousarray(test_part.tokens)
    predict(tokens[:batch_size])
    start = time.perf_counter()
    probabilities = predict(tokens)
    seconds = time.perf_counter() - start
    with open_atomically(folder.predictions) as file:
        np.savez_compressed(
            file, ids=test_part.ids, labels=test_part.labels, probabilities=probabilities
        )
    return {
        **metrics.scores(test_part.labels, probabilities),
        "test_seconds": seconds,
        "latency_ms_batch1": _latency_ms(predict_one, tokens),
    }


def _latency_ms(predict_one: Predict, tokens: Tokens) -> float:
    """Return the median milliseconds to predict one sequence alone."""
    predict_one(tokens[:1])
    times = []
    for call in range(LATENCY_CALLS):
        one = tokens[call % len(tokens)][None]
        start = time.perf_counter()
        predict_one(one)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
