"""Final scores of a classifier from its probabilities on the test set."""

import numpy as np
import numpy.typing as npt

_SMALLEST = 1e-7  # probability below which the loss is cut, as in Keras' cross-entropy

Labels = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.float32]


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
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

    loss, accuracy = loss_and_accuracy(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    found = {"test_loss": loss, "test_accuracy": accuracy}
    for average in ("micro", "macro"):
        precision, recall, f1, _ = precision_recall_fscore_support(
            labels,
            predicted,
            labels=np.arange(probabilities.shape[1]),
            average=average,
            zero_division=0,
        )
        found[f"test_precision_{average}"] = float(precision)
        found[f"test_recall_{average}"] = float(recall)
        found[f"test_f1_{average}"] = float(f1)
    found["test_mcc"] = float(matthews_corrcoef(labels, predicted))
    return found
