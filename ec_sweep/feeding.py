"""Batches of a part of the dataset, and how they reach a network that is trained."""

import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ec_sweep.evaluation import Part

_AHEAD = 2
"""Batches that are made ready while one is computed on."""


class Batches(keras.utils.PyDataset):  # type: ignore[misc] # Keras has no types
    """Batches of tokens and labels, in the order of the part or one that a seed decides."""

    def __init__(self, part: Part, batch_size: int, seed: int | None = None, first: int = 0):
        """Leave out the batches before ``first``, which another attempt has trained on."""
        super().__init__()
        self._part, self._batch_size, self._seed, self._first = part, batch_size, seed, first
        self._order = np.arange(len(part.labels))
        self.start_epoch(0)

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size) - self._first

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        start = (self._first + index) * self._batch_size
        rows = self._order[start : start + self._batch_size]
        return self._part.tokens[rows], self._part.labels[rows]

    def start_epoch(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 0: seed and epoch alone decide the order."""
        if self._seed is not None:
            generator = np.random.default_rng([self._seed, epoch])
            self._order = generator.permutation(len(self._part.labels))

    def fed(self) -> Any:
        """Return what Keras is to be given: on TensorFlow a pipeline of its own making.

        Keras would make one that tunes itself, in a thread that sleeps twice as long
        after each look, 10 ms at first. The end of an epoch waits for that thread,
        for up to as long as the epoch has taken.
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        tokens, labels = self._part.tokens, self._part.labels
        pipeline = tf.data.Dataset.from_generator(
            self._each,
            output_signature=(
                tf.TensorSpec((None, *tokens.shape[1:]), tokens.dtype),
                tf.TensorSpec((None,), labels.dtype),
            ),
        ).apply(tf.data.experimental.assert_cardinality(len(self)))
        options = tf.data.Options()
        options.autotune.enabled = False
        return pipeline.prefetch(_AHEAD).with_options(options)

    def _each(self) -> Iterator[tuple[Any, Any]]:
        for index in range(len(self)):
            yield self[index]
