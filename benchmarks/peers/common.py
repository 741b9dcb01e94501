"""What the peers of bench_sweep.py share: arrays, network, and a clock that splits their time.

A peer is called with the JSON file of its job (see `bench_sweep`) in a folder of its own and
leaves `times.json` there. Its network is that of ecsweep's `cnn`, written out in plain Keras.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers, ops

Cell = tuple[int, float]
"""Filter size and learning rate."""
LETTERS = 21
PARTS = ("train", "valid", "test")


class Job:
    """What is to be trained, and on what."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
        self.filter_sizes: list[int] = self._given["filter_sizes"]
        self.learning_rates: list[float] = self._given["learning_rates"]
        self.batch_size: int = self._given["batch_size"]
        self.epochs: int = self._given["epochs"]

    @property
    def cells(self) -> int:
        """How many cells the grid has."""
        return len(self.filter_sizes) * len(self.learning_rates)

    def arrays(self, kind: str) -> list[Any]:
        """Return the tokens or labels of training, validation and test."""
        folder = Path(self._given["arrays"])
        return [np.load(folder / f"{part}_{kind}.npy") for part in PARTS]

    def network(self, filter_size: int, one_hot: bool, **compiling: Any) -> keras.Model:
        """Return the compiled network over tokens, or over what is one-hot already."""
        length, classes = self._given["length"], self._given["classes"]
        if one_hot:
            given = hidden = keras.Input((length, LETTERS))
        else:
            given = keras.Input((length,), dtype="uint8")
            hidden = ops.one_hot(ops.cast(given, "int32"), LETTERS)  # padding, 255, is all zero
        hidden = layers.Conv1D(128, filter_size, padding="same")(hidden)
        hidden = layers.BatchNormalization(momentum=0.9)(hidden)
        hidden = layers.MaxPooling1D(2)(layers.Activation("relu")(hidden))
        hidden = layers.Flatten()(hidden)
        hidden = layers.Dense(512, activation="relu")(hidden)
        hidden = layers.Dense(512, activation="relu")(hidden)
        model = keras.Model(given, layers.Dense(classes, activation="softmax")(hidden))
        model.compile(
            loss="sparse_categorical_crossentropy", metrics=["accuracy"], **compiling
        )  # fmt: skip
        return model


def one_hot(tokens: Any) -> Any:
    """Return ``float32[n, length, 21]``, as most scripts hold sequences; padding is all zero."""
    return np.eye(LETTERS + 1, LETTERS, dtype=np.float32)[np.minimum(tokens, LETTERS)]


class Clock(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Splits the time of one cell from the begin of its building on.

    A batch that is the first or the last of its kind may trace and compile: what it takes more
    than the median batch counts so. The time from an epoch's end to what follows is recording.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batches: dict[str, list[list[float]]] = {"steps": [], "evaluation": []}
        self._mark = time.perf_counter()
        self.split = dict.fromkeys(("compile", "steps", "evaluation", "recording"), 0.0)

    def _count(self, what: str) -> None:
        end = time.perf_counter()
        self.split[what] += end - self._mark
        self._mark = end

    def _batch(self, what: str) -> None:
        end = time.perf_counter()
        self._batches[what][-1].append(end - self._mark)
        self._mark = end

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras' arguments
        """Count what came before as building."""
        self._count("compile")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Begin a pass over the training data."""
        self._count("recording" if epoch else "compile")
        self._batches["steps"].append([])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Count a step."""
        self._batch("steps")

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Begin a pass over validation or test data."""
        self._count("evaluation")
        self._batches["evaluation"].append([])

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Count a batch."""
        self._batch("evaluation")

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Count what ends a pass."""
        self._count("evaluation")

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Count what ends training."""
        self._count("recording")

    def result(self) -> dict[str, float]:
        """Return the seconds of each kind, after the test."""
        for what, passes in self._batches.items():
            steady = statistics.median(t for times in passes for t in (times[1:-1] or times))
            for number, times in enumerate(passes):
                ends = {0, len(times) - 1} if number == 0 else {0}
                extra = sum(max(0.0, times[index] - steady) for index in ends)
                self.split["compile"] += extra
                self.split[what] += sum(times) - extra
        return self.split


class Times:
    """The times of a peer's process, written at its end."""

    def __init__(self) -> None:
        """Begin where imports and data are there."""
        self._ready = time.time()
        self._cells: list[dict[str, float]] = []

    def add(self, cell: Cell, clock: Clock, accuracy: float) -> None:
        """Add a cell that is trained and tested."""
        found = {"filter_size": cell[0], "learning_rate": cell[1], "test_accuracy": accuracy}
        self._cells.append(found | clock.result())

    def write(self) -> None:
        """Leave all in the current folder."""
        found = {"ready": self._ready, "ended": time.time(), "cells": self._cells}
        Path("times.json").write_text(json.dumps(found, indent=1))
