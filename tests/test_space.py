"""Sampled sweeps as files: ranges, what they may hold, and the errors of bad ones."""

from pathlib import Path

import pytest
import yaml

from ec_sweep import spec
from ec_sweep.errors import EcsweepError
from ec_sweep.space import Range, axis
from ec_sweep.spec import Request, Sweep

BASE = {
    "study": "s",
    "dataset": "enzyme",
    "fixed": {"model": "cnn", "epochs": 3},
    "grid": {
        "filter_size": {"low": 2, "high": 9},
        "learning_rate": {"low": "1e-6", "high": 0.01, "log": True},
    },
    "sampler": "random",
    "trials": 20,
}
RATES = {"learning_rate": {"low": 1e-4, "high": 1e-2}}


def sweep(**changes: object) -> Sweep:
    return Sweep.model_validate({**BASE, **changes})


def test_a_range_takes_the_type_of_its_hyperparameter() -> None:
    """Whole numbers for whole ones, whatever the spelling of the others."""
    found = spec.sampled(sweep(), Request())
    assert found is not None
    assert found.axes["filter_size"] == Range(2, 9)
    assert found.axes["learning_rate"] == Range(1e-6, 0.01, log=True)
    assert spec.cells(sweep(), Request()) == []
    assert (found.trials, found.metric, found.direction) == (20, "val_accuracy", "maximize")


def test_steps_are_counted_as_people_write_them() -> None:
    """0.1 and 0.2 make 0.3."""
    stepped = axis("dropout", {"low": 0.1, "high": 0.7, "step": 0.1}, "f", "grid.dropout")
    assert list(stepped.values) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert stepped.holds(0.3)
    assert not stepped.holds(0.35)
    whole = axis("units", {"low": 8, "high": 56, "step": 16}, "f", "grid.units")
    assert list(whole.values) == [8, 24, 40, 56]
    assert all(type(value) is int for value in whole.values)


def test_scale_and_set_replace_a_range() -> None:
    """By a range, by a list, or (--set alone) by a single value."""
    scales = {"demo": {"learning_rate": {"low": 0.1, "high": 1}}}
    found = spec.sampled(sweep(scales=scales), Request())
    assert found is not None
    assert found.axes["learning_rate"] == Range(0.1, 1.0)
    found = spec.sampled(sweep(), Request(overrides=(("filter_size", 5), ("epochs", 9))))
    assert found is not None
    assert found.axes["filter_size"].size == 1
    assert {cell.hyperparameters.epochs for cell in found.extremes()} == {9}
    ranged = (("learning_rate", {"low": 0.1, "high": 0.2}),)
    found = spec.sampled(sweep(), Request(overrides=ranged))
    assert found is not None
    assert found.axes["learning_rate"] == Range(0.1, 0.2)


def test_a_model_takes_the_drawn_values_that_it_declares() -> None:
    """As with grids, and a space counts only the cells that differ."""
    grid = {"model": ["cnn", "lstm"], "filter_size": [2, 3, 4], "units": [8, 16]}
    found = spec.sampled(sweep(grid=grid, trials=5), Request())
    assert found is not None
    drawn = [
        found.cell({"model": "lstm", "filter_size": size, "units": 8}) for size in (2, 3)
    ]  # fmt: skip
    assert drawn[0] == drawn[1]
    with pytest.raises(EcsweepError, match="trials must be at most 5, the cells that there are"):
        spec.sampled(sweep(grid=grid, trials=6), Request())


BAD = [
    ({"sampler": "grid", "trials": None}, "has none. Add sampler: random (or tpe, gp) and"),
    ({"sampler": "grid", "grid": {"epochs": [1]}}, "trials counts what a sampler draws"),
    ({"trials": None}, "sampler random needs trials: N"),
    ({"trials": 0}, "trials must be "),
    ({"trials": 2.5}, "trials must be "),
    ({"sampler": "bayes"}, "sampler must be "),
    ({"pruner": "best"}, "pruner must be "),
    ({"grid": [{"epochs": [1]}, {"filters": [1]}]}, "draws from one grid, not from a list"),
    ({"seeds": [0, 1]}, "trains each cell with one seed. Received: 2 seeds"),
    ({"metric": "test_accuracy"}, "choosing by the test set would leak"),
    ({"metric": "val_loss", "direction": "maximize"}, "direction must be minimize for val_loss"),
    ({"grid": {"filter_size": [2, 3]}}, "Received: 20. Lower it; or leave samp"),
    ({"grid": {"filter_size": {"low": 2, "high": 9}}}, "list the values of filter_size and leave"),
    ({"grid": {"filter_sise": {"low": 2, "high": 9}}}, "Did you mean 'filter_size'?"),
    ({"grid": {"filter_size": {"low": 2}}}, "a range {low: ..., high: ...}"),
    ({"grid": {"filter_size": {}}}, "a range {low: ..., high: ...}"),
    ({"grid": {"filter_size": {"low": 2, "high": 9, "most": 3}}}, "a range {low: ..., high"),
    ({"grid": {"filter_size": {"low": 2.5, "high": 9}}}, "filter_size.low must be a whole number"),
    ({"grid": {"filter_size": {"low": True, "high": 9}}}, "filter_size.low must be a whole number"),
    ({"grid": {"filter_size": {"low": 0, "high": 9}}}, "grid.filter_size.low must be a whole"),
    ({"grid": {"filter_size": {"low": 2, "high": 10**9}}}, "filter_size.high must be a whole"),
    ({"grid": {"filter_size": {"low": 9, "high": 2}}}, "grid.filter_size.low must be below"),
    ({"grid": {"filter_size": {"low": 2, "high": 2}}}, "grid.filter_size.low must be below"),
    ({"grid": {"filter_size": {"low": 2, "high": 300, "step": 0.5}}}, "step must be a whole"),
    ({"grid": {"filter_size": {"low": 2, "high": 9, "step": 8}}}, "at most high - low"),
    ({"grid": {"filter_size": {"low": 2, "high": 9, "step": 0}}}, "step must be a whole"),
    ({"grid": {"filter_size": {"low": 2, "high": 9, "step": 4}}}, "6 is the last it reaches"),
    ({"seeds": [0, 0]}, "the seed 0 is given 2 times"),
    ({"fixed": {"model": "cnn", "filter_size": 2}}, "'filter_size' stands in fixed and in grid"),
    ({"scales": {"demo": {"filters": [1, 2]}}}, "scales.demo.filters must be one value"),
    ({"grid": {"learning_rate": {"low": 0, "high": 1}}}, "learning_rate.low must be a number abo"),
    ({"grid": {"learning_rate": {"low": 1, "high": float("inf")}}}, "learning_rate.high must be"),
    ({"grid": {"learning_rate": {"low": 0.1, "high": 1, "log": 1}}}, "log must be true or false"),
    ({"grid": {"dropout": {"low": 0, "high": 0.5, "log": True}}}, "must be above 0 where log"),
    ({"grid": {"learning_rate": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}}, "both log"),
    ({"grid": {"learning_rate": {"low": 0.1, "high": 1, "step": "x"}}}, "step must be a number"),
    ({"grid": {"learning_rate": {"low": 0.1, "high": 1, "step": 1e-300}}}, "100000 steps"),
    ({"grid": {"train_size": {"low": None, "high": 9}}}, "train_size.low must be a number"),
    ({"grid": {"activation": {"low": 1, "high": 9}}}, "has no numbers to range over"),
    ({"grid": {"hidden": {"low": 1, "high": 9}}}, "has no numbers to range over"),
    ({"fixed": {}, "grid": {"model": {"low": 1, "high": 9}}}, "has no numbers to range over"),
    ({"grid": {**RATES, "units": {"low": 1, "high": 9}}}, "units is not a hyperparameter of cnn"),
    ({"fixed": {"model": "cnn", "units": {"low": 1, "high": 9}}}, "fixed.units must be a whole"),
    ({"grid": {**RATES, "filter_size": {"low": 2, "high": 300}},
      "scales": {"demo": {"length": 256}}}, "filter_size 300 is larger than length 256"),
    ({"scales": {"demo": {"learning_rate": 0.1}}}, "replaces a grid axis"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_samplers_and_ranges_are_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    """Every fault is said in one line that names file and key."""
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    with pytest.raises(EcsweepError) as caught:
        spec.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
