"""Early stopping on hand-written loss curves."""

import math

import pytest

from ec_sweep import stopping


def stops_at(name: str, losses: list[float], patience: int = 5) -> int | None:
    """Return the epoch (from 1) after which training stops."""
    rule = stopping.rule(name, patience)
    for epoch, loss in enumerate(losses, start=1):
        if rule.stop(loss):
            return epoch
    return None


ZIGZAG = [9, 10, 8, 9, 7, 8, 6, 7, 5, 6, 4, 5]  # worse than the one before at 2, 4, 6, 8, 10
PLATEAU = [5, 9, 8, 7, 6.5, 6.4, 6.3]  # better than the one before from 3 on, never than the best


@pytest.mark.parametrize(
    ("losses", "paper", "patience"),
    [
        (ZIGZAG, 10, None),  # the paper counts in total, patience starts anew at each best
        (PLATEAU, None, 6),  # the paper compares with the epoch before, patience with the best
        ([5, 6, 7, 8, 9, 10, 11], 6, 6),
        ([5, 4, 3, 2, 1], None, None),
        ([5, 5, 5, 5, 5, 5], 6, 6),  # no better is a failure
    ],
)
def test_rules_differ_where_the_paper_does(
    losses: list[float], paper: int | None, patience: int | None
) -> None:
    """`paper` compares with the epoch before and never forgets; `patience` is Keras' rule."""
    assert stops_at("paper", losses) == paper
    assert stops_at("patience", losses) == patience
    assert stops_at("none", losses) is None


def test_the_count_is_a_hyperparameter() -> None:
    """Fewer failures stop earlier under both rules."""
    assert stops_at("paper", ZIGZAG, patience=2) == 4
    assert stops_at("patience", PLATEAU, patience=2) == 3


def test_a_loss_that_is_no_number_is_no_improvement() -> None:
    """NaN never counts as better."""
    assert stops_at("paper", [1, math.nan, 1], patience=2) == 3
    assert stops_at("patience", [1, math.nan, math.nan], patience=2) == 3
