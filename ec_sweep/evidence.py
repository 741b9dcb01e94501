"""What conclusions are judged on: numbers of runs or of print, and how they are compared."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

from ec_sweep import published
from ec_sweep.errors import EcsweepError
from ec_sweep.plan import pretty
from ec_sweep.report import Report, Row

ACCURACY, ACCURACY_OF_BEST_EPOCH, LOSS = "test_accuracy", "test_accuracy_best", "test_loss"
PARAMETERS = "parameters"
TIMES = TRAIN, PREDICT = "epoch_seconds_median", "test_seconds_batch1"
CNNS, RNNS, COMBINED = ("cnn", "complex-cnn"), ("lstm", "gru"), ("cnn-lstm", "cnn-gru")
SINGLE = {"enzyme": 5, "ec37": 6}
"""The table of the single models on each dataset."""
LEVEL = "level"
"""Names a constant."""
TEXT = 0
"""Stands among the tables for Section 4.2, whose small rates have none."""
STUDIES = {**published.STUDIES, TEXT: ("cnn-small-lr",)}
"""The studies that conclusions are drawn from."""
CLASS_STUDY = "single-ec37"
"""The study whose dataset stands for the paper's second; any other on ``ec37`` stands in for it."""
NOT_AVAILABLE: Mapping[str, Any] = {"model": "gru", "units": 20, "depth": 5}
"""The cell that print lacks; no conclusion waits for it."""

_V = TypeVar("_V")


def judged_split(reports: Mapping[str, Report]) -> str:
    """Return the one split on whose runs conclusions are judged: the paper's, where it was run.

    The reports are keyed by study.
    """
    names = [name for some in STUDIES.values() for name in some if name in reports]
    found = [split for name in names for split in reports[name].splits]
    return found[0] if found and "random" not in found else "random"


def class_card(reports: Mapping[str, Report]) -> tuple[str, dict[str, Any]] | None:
    """Return the card of ``ec37`` that shows the paper's classes, after the name of its study.

    That of ``CLASS_STUDY`` where it has one, else of the first study that has; the
    reports are keyed by study.
    """
    data = "ec37", judged_split(reports)
    for name in (CLASS_STUDY, *reports):
        if name in reports and data in reports[name].cards:
            return name, reports[name].cards[data]
    return None


class Fact(NamedTuple):
    """A comparison, and how it came out."""

    metric: str
    """Empty where none was compared."""
    told: "str | Gap"
    holds: bool
    p: float | None = None
    """Of a one-sided t-test for it over the seeds; ``None`` with one seed or no spread."""

    def __str__(self) -> str:
        return f"{self.metric}: {self.told}" if self.metric else str(self.told)


class Gap(NamedTuple):
    """Two values, of which the first, with a margin on top, is above the second or is not."""

    high: "Value"
    margin: str
    sign: str
    low: "Value"

    def __str__(self) -> str:
        high, low = self.high, self.low
        return f"{high.name} {high.number}{self.margin} {self.sign} {low.name} {low.number}"


@dataclass(frozen=True)
class Value:
    """A number of one row, or one made of several."""

    metric: str
    name: str
    mean: float
    by_seed: Mapping[int, float] | None
    """``None`` for a constant, which is the same with every seed."""

    @property
    def number(self) -> str:
        """The value as conclusions print it."""
        return f"{self.mean:.4g}"

    def at(self, seed: int) -> float:
        """Return the value with a seed."""
        return self.mean if self.by_seed is None else self.by_seed[seed]

    def minus(self, other: "Value") -> "Value":
        """Return the difference, seed by seed where both have one."""
        by_seed = {seed: self.at(seed) - other.at(seed) for seed in _common_seeds(self, other)}
        name = f"{self.name} less {other.name}"
        return Value(self.metric, name, self.mean - other.mean, by_seed)

    def times(self, factor: float) -> "Value":
        """Return a multiple."""
        by_seed = self.by_seed and {seed: factor * one for seed, one in self.by_seed.items()}
        return Value(self.metric, f"{factor:.3g} x {self.name} =", factor * self.mean, by_seed)

    def over(self, low: "Value", margin: float = 0.0) -> Fact:
        """Return whether this, with a margin on top, is above another."""
        from scipy import stats

        gap = self.minus(low)
        holds = _positive(gap.mean + margin)
        told = Gap(self, f" + {margin:g}" if margin else "", ">" if holds else "<=", low)
        gaps = [gap.at(seed) + margin for seed in _common_seeds(gap)]
        test = stats.ttest_1samp if len(gaps) > 1 and max(gaps) - min(gaps) > 1e-9 else None
        p = float(test(gaps, 0, alternative="greater").pvalue) if test else None
        return Fact(self.metric, told, holds, p)

    def alike(self, other: "Value", margin: float) -> list[Fact]:
        """Return whether this is less than a margin from another, above or below."""
        return [self.over(other, margin), other.over(self, margin)]

    def near(self, level: float, margin: float) -> list[Fact]:
        """Return whether this is less than a margin from a constant."""
        return self.alike(Value(self.metric, LEVEL, level, None), margin)


def _positive(number: float) -> bool:
    return round(number, 9) > 0  # binary noise decides no tie


def _common_seeds(*values: Value) -> list[int]:
    seeds = [set(value.by_seed) for value in values if value.by_seed is not None]
    return sorted(set.intersection(*seeds)) if seeds else []


class Along(dict[Any, _V]):
    """What stands along an axis; asking for what does not is an error in words."""

    def __missing__(self, key: Any) -> _V:
        raise EcsweepError(f"no {pretty(key)} among {', '.join(map(pretty, self))}")


class Line(Along[Value]):
    """Values along an axis."""

    def highest(self, key: Any) -> list[Fact]:
        """Return whether one is above each of the others."""
        return [self[key].over(self[other]) for other in self if other != key]

    def lowest(self, key: Any) -> list[Fact]:
        """Return whether one is below each of the others."""
        return [self[other].over(self[key]) for other in self if other != key]

    def near(self, levels: Mapping[Any, float], margin: float) -> list[Fact]:
        """Return whether those that have a level are less than a margin from it."""
        return [fact for key, level in levels.items() for fact in self[key].near(level, margin)]

    def mean(self, name: str, keys: Sequence[Any] | None = None) -> Value:
        """Return the mean of all, or of some."""
        found = [self[key] for key in (self if keys is None else keys)]
        by_seed = {seed: fmean(v.at(seed) for v in found) for seed in _common_seeds(*found)}
        return Value(found[0].metric, name, fmean(value.mean for value in found), by_seed)

    def ranked(self) -> list[Value]:
        """Return the values, the lowest first."""
        return sorted(self.values(), key=lambda value: value.mean)


@dataclass(frozen=True)
class PaperTable:
    """The rows that stand for a table of the paper."""

    source: str
    rows: Sequence[Row]
    absent: str = "not measured"
    """Why a metric can be missing in a row that has not failed."""

    @property
    def lacks_the_cell_not_available(self) -> bool:
        """Whether the cell that print lacks has no result here either."""
        return any(map(_not_available, self.rows))

    def axis(self, axis: str, **params: Any) -> list[Any]:
        """Return the values of an axis among the rows with these hyperparameters."""
        return sorted({_plain(row.params[axis]) for row in self._matching(**params)})

    def row(self, **params: Any) -> Row:
        """Return the one row with these hyperparameters."""
        found = self._matching(**params)
        if len(found) != 1:
            raise EcsweepError(f"{self.source}: {len(found)} rows of {_name(params)}, not one")
        return found[0]

    def value(self, metric: str, **params: Any) -> Value:
        """Return a metric of the one row with these hyperparameters."""
        row = self.row(**params)
        number = row.metrics.get(metric, math.nan)
        if not math.isfinite(number):
            why = row.failure or self.absent
            raise EcsweepError(f"{self.source}: no {metric} of {_name(params)} ({why})")
        by_seed = {seed: found[metric] for seed, found in row.by_seed.items() if metric in found}
        return Value(metric, _name(params), number, by_seed)

    def along(self, metric: str, axis: str, at: Sequence[Any] = (), **params: Any) -> Line:
        """Return a metric along an axis, at all of its values or at some."""
        keys = at or self.axis(axis, **params)
        return Line({n: self.value(metric, **params, **{axis: n}) for n in keys})

    def grid(self, down: str, across: str, metric: str = ACCURACY) -> Along[Line]:
        """Return a metric along one axis at each value of another; every cell is needed."""
        at = self.axis(across)
        return Along({n: self.along(metric, across, at, **{down: n}) for n in self.axis(down)})

    def averages(self, axis: str) -> Line:
        """Return the mean accuracies over the learning rates along an axis."""
        grid = self.grid(axis, "learning_rate")
        return Line({n: at.mean(f"mean of {axis}={pretty(n)}") for n, at in grid.items()})

    def steady(self, margin: float, **params: Any) -> Fact:
        """Return whether no run diverged or ended a margin away from its best epoch's accuracy.

        Each run counts by itself, for a mean would hide the one that failed: so no p-value.
        """
        name, failure = _name(params), self.row(**params).failure
        if any(reason.startswith("diverged") for reason in failure.split("; ")):
            return Fact("", f"{name}: {failure}", False)
        best = self.value(ACCURACY_OF_BEST_EPOCH, **params)
        gap = self.value(ACCURACY, **params).minus(best)
        if not gap.by_seed:
            raise EcsweepError(f"{self.source}: no single runs of {name}")
        within = sum(_positive(margin - abs(lost)) for lost in gap.by_seed.values())
        told = f"last epoch within {margin:g} of the best in {within} of {len(gap.by_seed)} runs"
        return Fact(ACCURACY, f"{name}: {told}", within == len(gap.by_seed))

    def _matching(self, **params: Any) -> list[Row]:
        if not self.rows:
            raise EcsweepError(f"{self.source}: no rows")
        rows = [row for row in self.rows if not _not_available(row)]
        return [r for r in rows if all(_plain(r.params.get(n)) == params[n] for n in params)]


class PaperTables(dict[int, PaperTable]):
    """The tables by the paper's numbers, and the comparisons that several conclusions share."""

    def single(self, table: int, metric: str = ACCURACY) -> Line:
        """Return a metric of the four single models, in Table 5 or 6."""
        return self[table].along(metric, "model", CNNS + RNNS)

    def combined(self, metric: str) -> list[Line]:
        """Return a metric of both models of Table 7, on each dataset."""
        return [self[7].along(metric, "model", COMBINED, dataset=name) for name in SINGLE]

    def ends(self, axis: str, other: str) -> Iterator[tuple[Value, Value]]:
        """Yield Table 2 at both ends of an axis, for each model and value of the other."""
        for model in self[2].axis("model"):
            for fixed in self[2].axis(other, model=model):
                found = self[2].along(ACCURACY, axis, **{"model": model, other: fixed})
                if len(found) > 1:
                    yield found[min(found)], found[max(found)]

    def halves(self, metric: str, odd: bool = False) -> Iterator[tuple[Value, Value]]:
        """Yield the means of Table 3 over the larger (or odd) sizes and the rest, at each rate."""
        sizes = self[3].axis("filter_size")
        yes = [n for n in sizes if (n % 2 if odd else n in sizes[len(sizes) // 2 :])]
        no = [n for n in sizes if n not in yes]
        if not yes or not no:
            return
        for rate, at in self[3].grid("learning_rate", "filter_size", metric).items():
            high, low = (f"sizes {pretty(n)} at {rate:g}" for n in (yes, no))
            yield at.mean(high, yes), at.mean(low, no)


def _name(params: Mapping[str, Any]) -> str:
    return " ".join(v if n == "model" else f"{n}={pretty(v)}" for n, v in params.items())


def _plain(value: Any) -> Any:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else value


def _not_available(row: Row) -> bool:
    return not row.metrics and NOT_AVAILABLE.items() <= row.params.items()
