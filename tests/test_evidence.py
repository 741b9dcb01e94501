"""Values and how they are compared."""

import pytest

from ec_sweep.errors import EcsweepError
from ec_sweep.evidence import Line, PaperTable, Value
from ec_sweep.report import Row


def value(*accuracies: float) -> Value:
    mean = sum(accuracies) / len(accuracies)
    return Value("test_accuracy", "x", mean, dict(enumerate(accuracies)))


def constant(number: float) -> Value:
    return Value("test_accuracy", "level", number, None)


def test_differences_pair_seeds() -> None:
    """Seeds that both have are paired; a constant has them all, on either side."""
    assert value(0.5, 0.75, 1).minus(value(0.25, 0.25)).by_seed == {0: 0.25, 1: 0.5}
    assert value(0.5, 0.75).minus(constant(0.25)).by_seed == {0: 0.25, 1: 0.5}
    assert constant(1).minus(value(0.5, 0.75)).by_seed == {0: 0.5, 1: 0.25}
    assert constant(1).minus(constant(0.5)).by_seed == {}


def test_multiples_and_means_keep_seeds() -> None:
    """What is made of values has their common seeds; a constant stays one."""
    assert value(0.5, 0.75).times(2).by_seed == {0: 1, 1: 1.5}
    assert constant(0.5).times(2).by_seed is None
    line = Line({1: value(0.5, 0.75), 2: value(0.25), 3: value(1, 1)})
    assert line.mean("all").by_seed == pytest.approx({0: 1.75 / 3})
    assert line.mean("two", [1, 3]).by_seed == {0: 0.75, 1: 0.875}


def test_near_a_level() -> None:
    """A whole margin away is not near, from above or below; a t-test needs seeds that differ."""
    for number, holds in ((0.8, True), (0.809, True), (0.81, False), (0.791, True), (0.79, False)):
        assert all(fact.holds for fact in value(number).near(0.8, 0.01)) is holds
    assert [fact.p for fact in value(0.8, 0.8).near(0.8, 0.01)] == [None, None]
    # Gaps of 0.009 and 0.011: t = 10 with 1 degree of freedom, p = 1/2 - atan(10) / pi.
    above, below = value(0.799, 0.801).near(0.8, 0.01)
    assert above.p == pytest.approx(0.031726, abs=1e-6)
    assert below.p == pytest.approx(0.031726, abs=1e-6)


def test_the_lowest_stands_first() -> None:
    """Ranking goes by mean, not by place on the axis."""
    line = Line({1: value(0.9), 2: value(0.7), 3: value(0.8)})
    assert [one.mean for one in line.ranked()] == [0.7, 0.8, 0.9]
    with pytest.raises(EcsweepError, match="no 4 among 1, 2, 3"):
        line.highest(4)


def test_a_missing_number_has_its_reason() -> None:
    """A failure explains itself; else the table says what its numbers are."""
    failed = Row({"model": "cnn"}, 0, failure="oom: too large")
    for row, reason in ((failed, "oom: too large"), (Row({"model": "cnn"}, 1), "not printed")):
        table = PaperTable("Table 5", [row], absent="not printed")
        with pytest.raises(EcsweepError, match=rf"no test_loss of cnn \({reason}\)"):
            table.value("test_loss", model="cnn")
