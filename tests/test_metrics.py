"""Scores against a hand-made example."""

import math

import numpy as np
import pytest

from ec_sweep import metrics

LABELS = np.array([0, 0, 0, 1, 1, 2], np.int32)
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.6, 0.3, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
        [0, 1, 0],
    ],
    np.float32,
)  # predicted: 0 0 1 1 0 1


def test_scores_of_a_hand_made_example() -> None:
    """Three of six right; class 2 is never predicted and counts 0 in the macro averages."""
    found = metrics.scores(LABELS, PROBABILITIES)
    assert found["test_accuracy"] == 0.5
    for name in ("precision", "recall", "f1"):
        assert found[f"test_{name}_micro"] == pytest.approx(0.5)
    assert found["test_precision_macro"] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert found["test_recall_macro"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["test_f1_macro"] == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)
    # (c * s - sum p_k t_k) / sqrt((s^2 - sum p_k^2)(s^2 - sum t_k^2)), Gorodkin 2004
    assert found["test_mcc"] == pytest.approx((3 * 6 - 15) / math.sqrt((36 - 18) * (36 - 14)))


def test_loss_is_the_mean_cross_entropy() -> None:
    """Natural logarithms, with impossible labels cut at 1e-7 as Keras does."""
    loss, _ = metrics.loss_and_accuracy(LABELS, PROBABILITIES)
    of_labels = [0.8, 0.6, 0.2, 0.8, 0.4, 1e-7]
    assert loss == pytest.approx(-sum(map(math.log, of_labels)) / 6, rel=1e-6)


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_scikit_learn(seed: int) -> None:
    """Classes that are never predicted or never there included, and all in one class."""
    from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

    random = np.random.default_rng(seed)
    n, classes = int(random.integers(1, 60)), int(random.integers(1, 9))
    labels = random.integers(0, classes, n).astype(np.int32)
    probabilities = random.dirichlet(np.full(classes, 0.1), n).astype(np.float32)
    probabilities[labels == 0, 0] += seed % 3
    predicted = probabilities.argmax(axis=1)
    found = metrics.scores(labels, probabilities)
    for average in ("micro", "macro"):
        expected = precision_recall_fscore_support(
            labels, predicted, labels=np.arange(classes), average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert found[f"test_{name}_{average}"] == pytest.approx(value, abs=1e-12)
    assert found["test_mcc"] == pytest.approx(matthews_corrcoef(labels, predicted), abs=1e-12)
