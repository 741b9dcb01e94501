"""The paper's conclusions, each checked by one rule against runs or against its own tables."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any, TypeAlias

from ec_sweep import published
from ec_sweep.errors import EcsweepError
from ec_sweep.report import Report, Row

POINT = 0.01  # accuracies closer are alike: over two standard errors of 8,578 test sequences
SAME = 0.001  # spread of accuracies that is none: ten times the 0.01 points of the paper
LEVEL, SMALL_RATES, BEST_RATE, EXCEPTED_RATE = 0.77, (1e-5, 1e-6), 0.01, 0.001  # as in print
FAR = 0.1  # share of a loss: one setting's losses in Tables 4 and 5 are 6 % apart by chance
ABOUT = 1.5  # factor either way: "about twice" may be 3 times, not equally fast or 4 times
SLIGHT = 0.15  # share of time; a tenth would hang on how the paper rounds seconds
CHANCE = 0.05  # of any outlier among fair draws, over all classes and columns (Bonferroni)

_ACCURACY, _LOSS = "test_accuracy", "test_loss"
_TIMES = _TRAIN, _PREDICT = "epoch_seconds_median", "test_seconds_batch1"
_CNNS, _RNNS, _COMBINED = ("cnn", "complex-cnn"), ("lstm", "gru"), ("cnn-lstm", "cnn-gru")
_SINGLE = {"enzyme": 5, "ec37": 6}  # tables of the single models
_NOT_AVAILABLE = {"model": "gru", "units": 20, "depth": 5}  # in print; no claim waits for it
_TEXT = 0  # stands among the tables for Section 4.2, whose small rates have none
_Fact: TypeAlias = tuple[str, bool, float | None]  # in words; whether it holds; p-value
_Counts: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """What became of one conclusion; ``holds`` is ``None`` where it is not decidable.

    Confidence is in the verdict, whichever way it fell: paired one-sided t-tests over
    common seeds, corrected by Bonferroni. Where it holds, 1 less the sum of all
    comparisons' p-values; where not, 1 less the smallest p-value of a reversal times
    their number; at least 0. ``None`` where a comparison has one seed or no spread.
    """

    claim: str
    text: str
    holds: bool | None
    numbers: str
    confidence: float | None = None


@dataclass(frozen=True)
class Outlier:
    """A class with a number of sequences that a fair draw is unlikely to leave it."""

    column: str
    name: str
    count: int
    expected: float
    z: float  # standard deviations from the expected count
    p: float  # exact, two-sided


def from_runs(reports: Mapping[str, Report]) -> list[Verdict]:
    """Check every conclusion against runs; the reports are keyed by study."""
    tables = _Tables()
    for table, names in {**published.STUDIES, _TEXT: ("cnn-small-lr",)}.items():
        rows = [row for name in names if name in reports for row in reports[name].rows]
        told = [name if name in reports else f"{name} (not run)" for name in names]
        tables[table] = _Table(" + ".join(told), rows)
    card = next((r.cards["ec37"] for r in reports.values() if "ec37" in r.cards), {})
    kept, columns = {}, {}
    if card.get("drawing"):
        kept = {n: k for n, k in card["all_counts"].items() if n not in card["classes_left_out"]}
        columns = {f"train_{number}": counts for number, counts in enumerate(card["samples"], 1)}
        columns |= {part: card["class_counts"][part] for part in ("valid", "test")}
    return [_shares(kept, columns), *_checked(tables)]


def from_print() -> list[Verdict]:
    """Check every conclusion against the paper's own tables, by the same rules."""
    tables = _Tables({_TEXT: _Table("Section 4.2 (not printed: results by filter size)", [])})
    for table in published.STUDIES:
        rows = [Row({**c.implied, **c.params}, 1, c.metrics) for c in published.cells(table)]
        tables[table] = _Table(f"Table {table}", rows)
    columns = dict(published.class_counts())
    every = columns.pop("all")
    kept = {name: n for name, n in every.items() if any(c[name] for c in columns.values())}
    return [_shares(kept, columns), *_checked(tables)]


def share_outliers(all_counts: _Counts, columns: Mapping[str, _Counts]) -> list[Outlier]:
    """Return the classes that have not kept their share in a column.

    Each column counts as a simple random sample of its size from all sequences,
    without replacement: hypergeometric counts, whose exact tails suit rare classes
    too. Parts split class by class vary less, so they are flagged no more often.
    """
    from scipy import stats

    found = []
    for column, counts in columns.items():
        size = sum(counts.get(name, 0) for name in all_counts)
        for name, total in all_counts.items():
            law, count = stats.hypergeom(sum(all_counts.values()), total, size), counts.get(name, 0)
            p = 2 * min(float(law.cdf(count)), float(law.sf(count - 1)))
            if p * len(all_counts) * len(columns) < CHANCE:
                expected, z = float(law.mean()), float((count - law.mean()) / law.std())
                found.append(Outlier(column, name, count, expected, z, p))
    return found


@dataclass(frozen=True)
class _Value:
    metric: str
    name: str  # of one row, or of several on average
    mean: float
    by_seed: Mapping[int, float]

    def over(self, low: "_Value", margin: float = 0.0) -> _Fact:
        from scipy import stats

        holds = round(self.mean + margin - low.mean, 9) > 0  # binary noise decides no tie
        sign, added = ">" if holds else "<=", f" + {margin:g}" if margin else ""
        shown = f"{self.name} {self.mean:.4g}{added} {sign} {low.name} {low.mean:.4g}"
        gaps = [at + margin - low.by_seed[s] for s, at in self.by_seed.items() if s in low.by_seed]
        test = stats.ttest_1samp if len(gaps) > 1 and max(gaps) - min(gaps) > 1e-9 else None
        p = float(test(gaps, 0, alternative="greater").pvalue) if test else None
        return f"{self.metric}: {shown}", holds, p

    def alike(self, other: "_Value") -> list[_Fact]:
        return [self.over(other, POINT), other.over(self, POINT)]

    def times(self, factor: float) -> "_Value":
        by_seed = {seed: factor * value for seed, value in self.by_seed.items()}
        return _Value(self.metric, f"{factor:.3g} x {self.name} =", factor * self.mean, by_seed)


class _Along(dict[Any, Any]):
    """What stands along an axis: values, or lines of them."""

    def __missing__(self, key: Any) -> Any:
        raise EcsweepError(f"no {_shown(key)} among {', '.join(map(_shown, self))}")

    def highest(self, key: Any) -> list[_Fact]:
        return [self[key].over(self[other]) for other in self if other != key]

    def lowest(self, key: Any) -> list[_Fact]:
        return [self[other].over(self[key]) for other in self if other != key]

    def mean(self, name: str, keys: Sequence[Any] = ()) -> _Value:
        found: list[_Value] = [self[key] for key in keys or self]
        seeds = set.intersection(*(set(value.by_seed) for value in found))
        by_seed = {seed: fmean(value.by_seed[seed] for value in found) for seed in seeds}
        return _Value(found[0].metric, name, fmean(value.mean for value in found), by_seed)


@dataclass(frozen=True)
class _Table:
    source: str
    rows: Sequence[Row]

    def matching(self, **params: Any) -> list[Row]:
        if not self.rows:
            raise EcsweepError(f"{self.source}: no rows")
        rows = [row for row in self.rows if not _not_available(row)]
        return [r for r in rows if all(_plain(r.params.get(n)) == params[n] for n in params)]

    def axis(self, axis: str, **params: Any) -> list[Any]:
        return sorted({_plain(row.params[axis]) for row in self.matching(**params)})

    def value(self, metric: str, **params: Any) -> _Value:
        name = " ".join(v if n == "model" else f"{n}={_shown(v)}" for n, v in params.items())
        found = self.matching(**params)
        if len(found) != 1:
            raise EcsweepError(f"{self.source}: {len(found)} rows of {name}, not one")
        number = found[0].metrics.get(metric, math.nan)
        if not math.isfinite(number):
            why = found[0].failure or "not measured"
            raise EcsweepError(f"{self.source}: no {metric} of {name} ({why})")
        by_seed = {seed: m[metric] for seed, m in found[0].by_seed.items() if metric in m}
        return _Value(metric, name, number, by_seed)

    def along(self, metric: str, axis: str, at: Sequence[Any] = (), **params: Any) -> _Along:
        keys = at or self.axis(axis, **params)
        return _Along({n: self.value(metric, **params, **{axis: n}) for n in keys})

    def grid(self, down: str, across: str, metric: str = _ACCURACY) -> _Along:
        """Return a metric along one axis at each value of another; every cell is needed."""
        at = self.axis(across)
        return _Along({n: self.along(metric, across, at, **{down: n}) for n in self.axis(down)})

    def averages(self, axis: str) -> _Along:
        grid = self.grid(axis, "learning_rate")
        return _Along({n: at.mean(f"mean of {axis}={_shown(n)}") for n, at in grid.items()})


class _Tables(dict[int, _Table]):
    """The evidence, printed or run, by number of the paper's table; and what claims ask of it."""

    def single(self, table: int, metric: str = _ACCURACY) -> _Along:
        return self[table].along(metric, "model", _CNNS + _RNNS)

    def combined(self, metric: str) -> list[_Along]:
        return [self[7].along(metric, "model", _COMBINED, dataset=name) for name in _SINGLE]

    def ends(self, axis: str, other: str) -> Iterator[tuple[_Value, _Value]]:
        """Yield Table 2 at both ends of an axis, for each model and value of the other."""
        for model in self[2].axis("model"):
            for fixed in self[2].axis(other, model=model):
                found = self[2].along(_ACCURACY, axis, **{"model": model, other: fixed})
                if len(found) > 1:
                    yield found[min(found)], found[max(found)]

    def deeper(self, model: str, depth: int) -> Iterator[_Fact]:
        for units in self[2].axis("units", model=model):
            found = self[2].along(_ACCURACY, "depth", model=model, units=units)
            yield from (found[depth].over(found[d]) for d in found if depth in found and d > depth)

    def equal_conditions(self) -> Iterator[_Fact]:
        for units in self[2].axis("units"):
            lstm, gru = (self[2].along(_ACCURACY, "depth", model=m, units=units) for m in _RNNS)
            yield from (lstm[depth].over(gru[depth]) for depth in lstm if depth in gru)
        yield from (at["lstm"].over(at["gru"]) for at in map(self.single, _SINGLE.values()))

    def halves(self, metric: str, odd: bool = False) -> Iterator[tuple[_Value, _Value]]:
        """Yield the means of Table 3 over the larger (or odd) sizes and the rest, at each rate."""
        sizes = self[3].axis("filter_size")
        yes = [n for n in sizes if (n % 2 if odd else n in sizes[len(sizes) // 2 :])]
        no = [n for n in sizes if n not in yes]
        grid = self[3].grid("learning_rate", "filter_size", metric) if yes and no else {}
        for rate, at in grid.items():
            high, low = (f"sizes {_shown(n)} at {rate:g}" for n in (yes, no))
            yield at.mean(high, yes), at.mean(low, no)

    def small(self) -> list[tuple[_Value, _Value]]:
        grid = self[_TEXT].grid("learning_rate", "filter_size")
        lines = [sorted(grid[rate].values(), key=lambda value: value.mean) for rate in SMALL_RATES]
        return [(line[0], line[-1]) for line in lines]

    def losses_of_359(self) -> Iterator[_Fact]:
        grid = self[4].grid("learning_rate", "filter_sizes", _LOSS)
        for rate in {EXCEPTED_RATE: 0, **grid}:
            kim, best = grid[rate]["3-4-5"], grid[rate]["3-5-9"]
            yield kim.over(best) if rate == EXCEPTED_RATE else best.over(kim)

    def slower(self, metric: str, times: float) -> list[_Fact]:
        at = self.single(5, metric)
        slow, fast = at.mean("RNNs", _RNNS), at.mean("CNNs", _CNNS)
        return [slow.over(fast.times(times / ABOUT)), fast.times(times * ABOUT).over(slow)]


_flat = chain.from_iterable
# Conclusions by number in our words, and the facts they are made of: all of these have to hold.
_CLAIMS: tuple[tuple[str, str, Callable[[_Tables], Iterable[_Fact]]], ...] = (
    ("1a", "The most units are more accurate than the fewest, at any depth",
     lambda t: [most.over(fewest) for fewest, most in t.ends("units", "depth")]),
    ("1b", "LSTM is less accurate beyond depth 3 than at 3", lambda t: t.deeper("lstm", 3)),
    ("1c", "GRU is less accurate beyond depth 2 than at 2", lambda t: t.deeper("gru", 2)),
    ("1d", "The least depth is more accurate than the greatest, at any number of units",
     lambda t: [least.over(greatest) for least, greatest in t.ends("depth", "units")]),
    ("2a", "Learning rate 0.01 is the most accurate, at any filter size", lambda t: _flat(
        at.highest(BEST_RATE) for at in t[3].grid("filter_size", "learning_rate").values())),
    ("2b", "Mean loss is higher over the larger half of filter sizes, at any rate",
     lambda t: [large.over(small) for large, small in t.halves(_LOSS)]),
    ("2c", "Mean accuracy is higher over odd filter sizes than over even ones, at any rate",
     lambda t: [odd.over(even) for odd, even in t.halves(_ACCURACY, odd=True)]),
    ("2d", "Mean accuracy is higher over the smaller half of filter sizes, at any rate",
     lambda t: [small.over(large) for large, small in t.halves(_ACCURACY)]),
    ("2e", "Size 9 is the most accurate on average over the learning rates",
     lambda t: t[3].averages("filter_size").highest(9)),
    ("3a", f"At 1e-5 and 1e-6 accuracies of all filter sizes lie within {SAME:g}",
     lambda t: [low.over(high, SAME) for low, high in t.small()]),
    ("3b", f"At 1e-5 and 1e-6 accuracy is within {POINT:g} of {LEVEL:g} at any filter size",
     lambda t: _flat(v.alike(_Value("", "level", LEVEL, {})) for v in _flat(t.small()))),
    ("4a", "(4,8,16) is the least accurate, at any rate", lambda t: _flat(
        at.lowest("4-8-16") for at in t[4].grid("learning_rate", "filter_sizes").values())),
    ("4b", "Loss of (3,5,9) is above that of (3,4,5), except at 0.001", _Tables.losses_of_359),
    ("4c", "(3,5,9) is the most accurate on average over the learning rates",
     lambda t: t[4].averages("filter_sizes").highest("3-5-9")),
    ("5a", "LSTM is the most accurate on dataset 1", lambda t: t.single(5).highest("lstm")),
    ("5b", "LSTM is like complex CNN in accuracy on dataset 1, at a far lower loss", lambda t: [
        *t.single(5)["lstm"].alike(t.single(5)["complex-cnn"]),
        t.single(5, _LOSS)["complex-cnn"].times(1 - FAR).over(t.single(5, _LOSS)["lstm"])]),
    ("5c", "RNNs train about 2 times slower than CNNs", lambda t: t.slower(_TRAIN, 2)),
    ("5d", "RNNs predict about 10 times slower than CNNs", lambda t: t.slower(_PREDICT, 10)),
    ("5e", "GRU is the least accurate on dataset 1", lambda t: t.single(5).lowest("gru")),
    ("6a", "LSTM is the most accurate on dataset 2", lambda t: t.single(6).highest("lstm")),
    ("6b", "LSTM is the slowest on dataset 2, in training and in prediction",
     lambda t: _flat(t.single(6, time).highest("lstm") for time in _TIMES)),
    ("6c", "Complex CNN is like LSTM in accuracy on dataset 2, and faster than RNNs", lambda t: [
        *t.single(6)["complex-cnn"].alike(t.single(6)["lstm"]),
        *(t.single(6, s)[r].over(t.single(6, s)["complex-cnn"]) for s in _TIMES for r in _RNNS)]),
    ("7a", "CNN-LSTM is more accurate than CNN-GRU on both datasets",
     lambda t: _flat(at.highest("cnn-lstm") for at in t.combined(_ACCURACY))),
    ("7b", "CNN-LSTM has a lower loss than CNN-GRU on both datasets",
     lambda t: _flat(at.lowest("cnn-lstm") for at in t.combined(_LOSS))),
    ("7c", f"CNN-GRU is faster than CNN-LSTM, by less than {SLIGHT:.0%}", lambda t: _flat(
        (at["cnn-lstm"].over(at["cnn-gru"]), at["cnn-gru"].over(at["cnn-lstm"].times(1 - SLIGHT)))
        for at in _flat(map(t.combined, _TIMES)))),
    ("8a", "LSTM is more accurate than GRU under any equal conditions", _Tables.equal_conditions),
    ("8b", "Most accurate are LSTM on the simple problem and complex CNN on the complex one",
     lambda t: t.single(5).highest("lstm") + t.single(6).highest("complex-cnn")),
    ("8c", "CNN-LSTM beats CNN-GRU in accuracy and loss", lambda t: _flat(
        (*a.highest("cnn-lstm"), *b.lowest("cnn-lstm"))
        for a, b in zip(t.combined(_ACCURACY), t.combined(_LOSS), strict=True))),
    ("8d", "A CNN in front costs an RNN less than a point of accuracy", lambda t: [
        at[f"cnn-{rnn}"].over(alone[rnn], POINT) for rnn in _RNNS
        for at, alone in zip(t.combined(_ACCURACY), map(t.single, _SINGLE.values()), strict=True)]),
)  # fmt: skip


def _checked(tables: _Tables) -> Iterator[Verdict]:
    for claim, text, check in _CLAIMS:
        try:
            facts = list(check(tables))
            if not facts:
                raise EcsweepError("the rows hold nothing to compare")
        except EcsweepError as reason:
            yield Verdict(claim, text, None, str(reason))
            continue
        held = [holds for _, holds, _ in facts]
        told = [shown for shown, holds, _ in facts if not holds or all(held)]
        if claim in ("1c", "1d", "8a") and any(map(_not_available, tables[2].rows)):
            told.append("left out, without a result: gru units=20 depth=5")
        ps = [p for _, _, p in facts if p is not None]
        doubt = math.fsum(ps) if all(held) else len(ps) * (1 - max(ps, default=0))
        confidence = max(0.0, 1 - doubt) if len(ps) == len(facts) else None
        numbers = "; ".join([f"{sum(held)} of {len(held)} comparisons hold", *told])
        yield Verdict(claim, text, all(held), numbers, confidence)


def _shares(counts: _Counts, columns: Mapping[str, _Counts]) -> Verdict:
    text = "Every class keeps its share in every sample, taken as drawn at random from all"
    if not columns:
        return Verdict("T1", text, None, "no card of an ec37 whose samples were drawn at random")
    found = share_outliers(counts, columns)
    drawn = "{0.name} in {0.column}: {0.count} drawn, {0.expected:.1f} expected, z {0.z:.2f}"
    told = [drawn.format(outlier) for outlier in found]
    numbers = f"{len(told)} outliers in {len(counts)} classes x {len(columns)} columns"
    return Verdict("T1", text, not told, "; ".join([numbers, *told]))


def _not_available(row: Row) -> bool:
    return not row.metrics and _NOT_AVAILABLE.items() <= row.params.items()


def _plain(value: Any) -> Any:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(_plain(value))
