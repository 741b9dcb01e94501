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
