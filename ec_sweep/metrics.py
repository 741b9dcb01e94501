"""Final scores of a classifier from its probabilities on the test set.

Counted here and not by scikit-learn, which takes a worker a second to import.
"""

import numpy as np
import numpy.typing as npt

_SMALLEST = 1e-7  # probability below which the loss is cut, as in Keras' cross-entropy

Labels = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.float32]
Counts = npt.NDArray[np.float64]
"""Sequences of each class."""


def loss_and_accuracy(labels: Labels, probabilities: Probabilities) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the share of right answers.

    ``labels`` is ``int32[n]``, ``probabilities`` ``float32[n, classes]``.
    """
    of_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.clip(of_label, _SMALLEST, 1 - _SMALLEST)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())


def scores(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Return every ``test_*`` score of a classifier's last epoch.

    Micro-averaged precision, recall and F1 equal accuracy when each sequence has
    one label (paper, Tables 5-7); the macro averages weigh all classes alike, a
    class that is never predicted counting 0.
    """
    loss, accuracy = loss_and_accuracy(labels, probabilities)
    classes = probabilities.shape[1]
    pairs = labels.astype(np.int64) * classes + probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(float)
    right, truth, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "test_loss": loss,
        "test_accuracy": accuracy,
        **{f"test_{name}_micro": accuracy for name in ("precision", "recall", "f1")},
        "test_precision_macro": _mean_share(right, predicted),
        "test_recall_macro": _mean_share(right, truth),
        "test_f1_macro": _mean_share(2 * right, predicted + truth),
        "test_mcc": _correlation(right.sum(), truth, predicted),
    }


def _mean_share(some: Counts, of: Counts) -> float:
    """Return the mean over classes of one count's share of another; 0 of 0 counts 0."""
    return float(np.divide(some, of, out=np.zeros_like(some), where=of > 0).mean())


def _correlation(right: float, truth: Counts, predicted: Counts) -> float:
    """Return Matthews' correlation coefficient for several classes (Gorodkin 2004)."""
    n = truth.sum()
    spread = (n * n - truth @ truth) * (n * n - predicted @ predicted)
    return float((right * n - truth @ predicted) / np.sqrt(spread)) if spread else 0.0
