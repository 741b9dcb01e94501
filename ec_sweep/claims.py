"""The paper's conclusions, each checked by one rule against runs or against its own tables."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from ec_sweep import published
from ec_sweep.errors import EcsweepError, plural
from ec_sweep.evidence import (
    ACCURACY,
    CNNS,
    COMBINED,
    LOSS,
    PARAMETERS,
    PREDICT,
    RNNS,
    SINGLE,
    STUDIES,
    TEXT,
    TIMES,
    TRAIN,
    Fact,
    Line,
    PaperTable,
    PaperTables,
    Value,
    class_card,
    judged_split,
)
from ec_sweep.plan import pretty
from ec_sweep.report import Report, Row

POINT = 0.01  # accuracies closer are alike: over two standard errors of 8,578 test sequences
SAME = 0.001  # spread of accuracies that is none: ten times the 0.01 points of the paper
FAR = 0.1  # share of a loss: one setting's losses in Tables 4 and 5 are 6 % apart by chance
ABOUT = 1.5  # factor either way: "about twice" may be 3 times, not equally fast or 4 times
SLIGHT = 0.15  # share of time; a tenth would hang on how the paper rounds seconds
CHANCE = 0.05  # of any outlier among fair draws, over all classes and columns (Bonferroni)

# What the text states, and no table needs to hold.
BEST_RATE, EXCEPTED_RATE, SMALL_RATES = 0.01, 0.001, (1e-5, 1e-6)
GOOD_SIZES = (3, 4, 5, 7, 9)
LEVEL = 0.77
LEVELS_OF_4_8_16 = {0.01: 0.80, 0.001: 0.83, 0.0001: 0.79}
LEVELS_1, DIGITS = {"lstm": 0.824, "complex-cnn": 0.823}, 0.0005  # half of their last digit
LEVELS_2 = {"lstm": 0.91, "complex-cnn": 0.90}  # "about": cut off, not rounded, so within a point
LEAD, LOSS_LEAD, CLOSE = 0.015, 0.005, 0.005  # half a point: a third of the one, all of the other

_Counts: TypeAlias = Mapping[str, int]
_Rule: TypeAlias = Callable[[PaperTables], Iterable[Fact]]
_flat = chain.from_iterable


@dataclass(frozen=True)
class Verdict:
    """What became of one conclusion; ``holds`` is ``None`` where it is not decidable.

    Confidence is in the verdict, whichever way it fell: paired one-sided t-tests over
    common seeds, corrected by Bonferroni. Where it holds, 1 less the sum of all
    comparisons' p-values; where not, 1 less the smallest p-value of a reversal times
    their number; at least 0. ``None`` where a comparison has one seed or no spread, or
    looks at each run by itself.
    """

    claim: str
    text: str
    holds: bool | None
    said: Sequence[str]
    """What stands beside the facts, or in their place."""
    facts: Sequence[Fact] = ()
    confidence: float | None = None

    @property
    def told(self) -> list[Fact]:
        """The facts that a reader is shown: all that hold where all do, else the others."""
        return [fact for fact in self.facts if self.holds or not fact.holds]

    @property
    def numbers(self) -> str:
        """What it rests on, in a line."""
        held = sum(fact.holds for fact in self.facts)
        count = [f"{held} of {len(self.facts)} comparisons hold"] if self.facts else []
        return "; ".join([*count, *map(str, self.told), *self.said])


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
    tables, split = PaperTables(), judged_split(reports)
    for table, names in STUDIES.items():
        some = {name: reports[name].rows for name in names if name in reports}
        rows = [row for found in some.values() for row in found if row.data[1] == split]
        told = [name if name in some else f"{name} (not run)" for name in names]
        tables[table] = PaperTable(" + ".join(told), rows)
    _, card = class_card(reports) or ("", {})
    kept, columns = {}, {}
    if card.get("drawing"):
        kept = {n: k for n, k in card["all_counts"].items() if n not in card["classes_left_out"]}
        columns = {f"train_{number}": counts for number, counts in enumerate(card["samples"], 1)}
        columns |= {part: card["class_counts"][part] for part in ("valid", "test")}
    return [_shares(kept, columns), *_checked(tables)]


def from_print() -> list[Verdict]:
    """Check every conclusion against the paper's own tables, by the same rules."""
    text = PaperTable("Section 4.2 (not printed: results by filter size)", [])
    tables = PaperTables({TEXT: text})
    for table in published.STUDIES:
        rows = [Row({**c.implied, **c.params}, 1, c.metrics) for c in published.cells(table)]
        tables[table] = PaperTable(f"Table {table}", rows, absent="not printed")
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


def _deeper(t: PaperTables, model: str, depth: int) -> Iterator[Fact]:
    for units in t[2].axis("units", model=model):
        found = t[2].along(ACCURACY, "depth", model=model, units=units)
        yield from (found[depth].over(found[d]) for d in found if depth in found and d > depth)


def _best_rate(t: PaperTables) -> Iterator[Fact]:
    for at in t[3].grid("filter_size", "learning_rate").values():
        yield from at.highest(BEST_RATE)


def _good_sizes(t: PaperTables) -> Iterator[Fact]:
    grid = t[3].grid("filter_size", "learning_rate")
    best = Line({size: at.ranked()[-1] for size, at in grid.items()})
    rest = [size for size in best if size not in GOOD_SIZES]
    if rest:  # not the median of all: five of eight sizes cannot be above it
        others = best.mean(f"mean of sizes {pretty(rest)} at their best rates", rest)
        yield from (best[size].over(others) for size in GOOD_SIZES)


def _small_rates(t: PaperTables) -> Iterator[tuple[Value, Value]]:
    """Yield the lowest and the highest accuracy of all filter sizes, at each small rate."""
    grid = t[TEXT].grid("learning_rate", "filter_size")
    for ranked in [grid[rate].ranked() for rate in SMALL_RATES]:
        yield ranked[0], ranked[-1]


def _stable(t: PaperTables) -> Iterator[Fact]:
    for rate in SMALL_RATES:
        for size in t[TEXT].axis("filter_size"):
            yield t[TEXT].steady(POINT, filter_size=size, learning_rate=rate)


def _worst_sizes(t: PaperTables) -> Iterator[Fact]:
    for at in t[4].grid("learning_rate", "filter_sizes").values():
        yield from at.lowest("4-8-16")


def _losses_of_3_5_9(t: PaperTables) -> Iterator[Fact]:
    grid = t[4].grid("learning_rate", "filter_sizes", LOSS)
    for rate in {EXCEPTED_RATE: 0, **grid}:
        kim, best = grid[rate]["3-4-5"], grid[rate]["3-5-9"]
        yield kim.over(best) if rate == EXCEPTED_RATE else best.over(kim)


def _levels_of_4_8_16(t: PaperTables) -> list[Fact]:
    at = t[4].along(ACCURACY, "learning_rate", filter_sizes="4-8-16")
    return at.near(LEVELS_OF_4_8_16, POINT)


def _far_lower_loss(t: PaperTables) -> list[Fact]:
    accuracy, loss = t.single(5), t.single(5, LOSS)
    lower = loss["complex-cnn"].times(1 - FAR).over(loss["lstm"])
    return [*accuracy["lstm"].alike(accuracy["complex-cnn"], POINT), lower]


def _slower(t: PaperTables, metric: str, times: float) -> list[Fact]:
    at = t.single(5, metric)
    slow, fast = at.mean("RNNs", RNNS), at.mean("CNNs", CNNS)
    return [slow.over(fast.times(times / ABOUT)), fast.times(times * ABOUT).over(slow)]


def _alike_and_faster(t: PaperTables) -> Iterator[Fact]:
    accuracy = t.single(6)
    yield from accuracy["complex-cnn"].alike(accuracy["lstm"], POINT)
    for seconds in (t.single(6, metric) for metric in TIMES):
        yield from (seconds[rnn].over(seconds["complex-cnn"]) for rnn in RNNS)


def _more_accurate(t: PaperTables) -> Iterator[Fact]:
    return _flat(at.highest("cnn-lstm") for at in t.combined(ACCURACY))


def _lower_loss(t: PaperTables) -> Iterator[Fact]:
    return _flat(at.lowest("cnn-lstm") for at in t.combined(LOSS))


def _slightly_faster(t: PaperTables) -> Iterator[Fact]:
    for at in _flat(map(t.combined, TIMES)):
        lstm, gru = at["cnn-lstm"], at["cnn-gru"]
        yield from (lstm.over(gru), gru.over(lstm.times(1 - SLIGHT)))


def _leads(t: PaperTables) -> Iterator[Fact]:
    for accuracy, loss in zip(t.combined(ACCURACY), t.combined(LOSS), strict=True):
        yield from accuracy["cnn-lstm"].minus(accuracy["cnn-gru"]).near(LEAD, CLOSE)
        yield from loss["cnn-gru"].minus(loss["cnn-lstm"]).near(LOSS_LEAD, CLOSE)


def _equal_conditions(t: PaperTables) -> Iterator[Fact]:
    for units in t[2].axis("units"):
        lstm, gru = (t[2].along(ACCURACY, "depth", model=m, units=units) for m in RNNS)
        yield from (lstm[depth].over(gru[depth]) for depth in lstm if depth in gru)
    yield from (at["lstm"].over(at["gru"]) for at in map(t.single, SINGLE.values()))


def _information_kept(t: PaperTables) -> Iterator[Fact]:
    pairs = list(zip(t.combined(ACCURACY), map(t.single, SINGLE.values()), strict=True))
    for rnn in RNNS:
        yield from (at[f"cnn-{rnn}"].over(alone[rnn], POINT) for at, alone in pairs)


def _fewer_parameters(t: PaperTables) -> Iterator[Fact]:
    # Of whole models: the RNN adds some, and the rest is the same but for the first dense layer.
    for at, table in zip(t.combined(PARAMETERS), SINGLE.values(), strict=True):
        alone = t[table].value(PARAMETERS, model="cnn")
        yield from (alone.over(at[model]) for model in COMBINED)


# Conclusions by number in our words, and the facts they are made of: all of these have to hold.
_CLAIMS: tuple[tuple[str, str, _Rule], ...] = (
    ("1a", "The most units are more accurate than the fewest, at any depth",
     lambda t: [most.over(fewest) for fewest, most in t.ends("units", "depth")]),
    ("1b", "LSTM is less accurate beyond depth 3 than at 3", lambda t: _deeper(t, "lstm", 3)),
    ("1c", "GRU is less accurate beyond depth 2 than at 2", lambda t: _deeper(t, "gru", 2)),
    ("1d", "The least depth is more accurate than the greatest, at any number of units",
     lambda t: [least.over(greatest) for least, greatest in t.ends("depth", "units")]),
    ("2a", "Learning rate 0.01 is the most accurate, at any filter size", _best_rate),
    ("2b", "Mean loss is higher over the larger half of filter sizes, at any rate",
     lambda t: [large.over(small) for large, small in t.halves(LOSS)]),
    ("2c", "Mean accuracy is higher over odd filter sizes than over even ones, at any rate",
     lambda t: [odd.over(even) for odd, even in t.halves(ACCURACY, odd=True)]),
    ("2d", "Mean accuracy is higher over the smaller half of filter sizes, at any rate",
     lambda t: [small.over(large) for large, small in t.halves(ACCURACY)]),
    ("2e", "Size 9 is the most accurate on average over the learning rates",
     lambda t: t[3].averages("filter_size").highest(9)),
    ("2f", "Sizes 3, 4, 5, 7, 9 are each more accurate than the others' mean, all at best rates",
     _good_sizes),
    ("3a", f"At 1e-5 and 1e-6 accuracies of all filter sizes lie within {SAME:g}",
     lambda t: [low.over(high, SAME) for low, high in _small_rates(t)]),
    ("3b", f"At 1e-5 and 1e-6 accuracy is within {POINT:g} of {LEVEL:g} at any filter size",
     lambda t: _flat(value.near(LEVEL, POINT) for value in _flat(_small_rates(t)))),
    ("3c", "At 1e-5 and 1e-6 no run diverges, and the last epoch's accuracy is within "
     f"{POINT:g} of the best epoch's", _stable),
    ("4a", "(4,8,16) is the least accurate, at any rate", _worst_sizes),
    ("4b", "Loss of (3,5,9) is above that of (3,4,5), except at 0.001", _losses_of_3_5_9),
    ("4c", "(3,5,9) is the most accurate on average over the learning rates",
     lambda t: t[4].averages("filter_sizes").highest("3-5-9")),
    ("4d", "(4,8,16) has accuracies 0.80 at 0.01, 0.83 at 0.001, 0.79 at 0.0001, within a point",
     _levels_of_4_8_16),
    ("5a", "LSTM is the most accurate on dataset 1", lambda t: t.single(5).highest("lstm")),
    ("5b", "LSTM is like complex CNN in accuracy on dataset 1, at a far lower loss",
     _far_lower_loss),
    ("5c", "RNNs train about 2 times slower than CNNs", lambda t: _slower(t, TRAIN, 2)),
    ("5d", "RNNs predict about 10 times slower than CNNs", lambda t: _slower(t, PREDICT, 10)),
    ("5e", "GRU is the least accurate on dataset 1", lambda t: t.single(5).lowest("gru")),
    ("5f", f"On dataset 1 LSTM has accuracy 0.824 and complex CNN 0.823, within {DIGITS:g}",
     lambda t: t.single(5).near(LEVELS_1, DIGITS)),
    ("6a", "LSTM is the most accurate on dataset 2", lambda t: t.single(6).highest("lstm")),
    ("6b", "LSTM is the slowest on dataset 2, in training and in prediction",
     lambda t: _flat(t.single(6, time).highest("lstm") for time in TIMES)),
    ("6c", "Complex CNN is like LSTM in accuracy on dataset 2, and faster than RNNs",
     _alike_and_faster),
    ("6d", f"On dataset 2 LSTM has accuracy 0.91 and complex CNN 0.90, within {POINT:g}",
     lambda t: t.single(6).near(LEVELS_2, POINT)),
    ("7a", "CNN-LSTM is more accurate than CNN-GRU on both datasets", _more_accurate),
    ("7b", "CNN-LSTM has a lower loss than CNN-GRU on both datasets", _lower_loss),
    ("7c", f"CNN-GRU is faster than CNN-LSTM, by less than {SLIGHT:.0%}", _slightly_faster),
    ("7d", f"CNN-LSTM leads CNN-GRU by {LEAD:g} in accuracy and {LOSS_LEAD:g} in loss, "
     f"within {CLOSE:g}, on both datasets", _leads),
    ("8a", "LSTM is more accurate than GRU under any equal conditions", _equal_conditions),
    ("8b", "Most accurate are LSTM on the simple problem and complex CNN on the complex one",
     lambda t: t.single(5).highest("lstm") + t.single(6).highest("complex-cnn")),
    ("8c", "CNN-LSTM beats CNN-GRU in accuracy and loss (7a and 7b together)",
     lambda t: [*_more_accurate(t), *_lower_loss(t)]),
    ("8d", "A CNN in front costs an RNN less than a point of accuracy", _information_kept),
    ("8e", "A CNN in front of an RNN has fewer parameters, by its first dense layer, than alone",
     _fewer_parameters),
)  # fmt: skip


def _checked(tables: PaperTables) -> Iterator[Verdict]:
    for claim, text, rule in _CLAIMS:
        try:
            facts = list(rule(tables))
            if not facts:
                raise EcsweepError("the rows hold nothing to compare")
        except EcsweepError as reason:
            yield Verdict(claim, text, None, [str(reason)])
            continue
        holds, said = all(fact.holds for fact in facts), []
        if claim in ("1c", "1d", "8a") and tables[2].lacks_the_cell_not_available:
            said = ["left out, without a result: gru units=20 depth=5"]
        ps = [fact.p for fact in facts if fact.p is not None]
        doubt = math.fsum(ps) if holds else len(ps) * (1 - max(ps, default=0))
        confidence = max(0.0, 1 - doubt) if len(ps) == len(facts) else None
        yield Verdict(claim, text, holds, said, facts, confidence)


def _shares(counts: _Counts, columns: Mapping[str, _Counts]) -> Verdict:
    text = "Every class keeps its share in every sample, taken as drawn at random from all"
    if not columns:
        return Verdict("T1", text, None, ["no card of an ec37 whose samples were drawn at random"])
    found = share_outliers(counts, columns)
    drawn = "{0.name} in {0.column}: {0.count} drawn, {0.expected:.1f} expected, z {0.z:.2f}"
    told = [drawn.format(outlier) for outlier in found]
    outliers = f"{len(told)} {plural('outlier', len(told))}"
    numbers = f"{outliers} in {len(counts)} classes x {len(columns)} columns"
    return Verdict("T1", text, not told, [numbers, *told])
