"""What random splitting is worth: accuracies by split, and how much of the test set leaks."""

import math
from collections.abc import Container
from statistics import fmean

from ec_sweep.cell import Data
from ec_sweep.layouts import (
    MISSING,
    NOTHING,
    Column,
    Table,
    as_text,
    heading,
    notes_on,
    number,
    runs_of,
    values_of,
)
from ec_sweep.report import Report, Row, half_interval

Interval = tuple[float, float, float]
"""A value, and the ends of its 95 % interval."""
_ACCURACY = Column("test_accuracy", "ACC")
_LEAKS = {
    "also in train": "test_sequences_also_in_train",
    "family in train": "test_sequences_in_train_families",
}
"""Keys of a dataset's card, by how the table calls them."""
_PROTEINS = ("source_sha256", "filters", "classes", "transfers", "drawing")
"""Keys of a card that say which proteins a dataset holds, however they are split."""


def splits_table(report: Report) -> Table:
    """Lay accuracies out by split, with what random splitting is worth and what leaks in each."""
    axes = tuple(axis for axis in report.axes if axis != "split") or ("model",)
    splits, against = report.splits, strictest(report)
    apart = _built_apart(report, against) if against else []
    by_place = {(values_of(row, axes), row.data[1]): row for row in report.rows}
    rows = list(dict.fromkeys(place for place, _ in by_place))
    cells, runs = [], []
    for place in rows:
        found = [by_place.get((place, split)) for split in splits]
        texts = [number(row, _ACCURACY, "") for row in found]
        if against:
            pair = by_place.get((place, "random")), by_place.get((place, against))
            texts.append(_worth(*pair, apart))
        cells.append(texts)
        runs.append([*((),) * len(axes), *map(runs_of, found), *((),) * bool(against)])
    leaks = _leaks(report)
    counts = [[by.get(split, "") for split in splits] + [""] * bool(against) for _, by in leaks]
    return Table(
        row_names=[heading(axis) for axis in axes],
        rows=[*rows, *((label, *[""] * (len(axes) - 1)) for label, _ in leaks)],
        metrics=splits + [f"random - {against}"] * bool(against),
        cells=[*cells, *counts],
        caption=f"{report.title or report.study}: test accuracy by split. {report.source}.",
        label=f"tab:{report.study}",
        notes=[
            *notes_on(report, [_ACCURACY]),
            *(_why_withheld(report, name, str(against)) for name in apart),
            *_notes_on_splits(report),
        ],
        apart=len(leaks),
        runs=runs,
    )


def strictest(report: Report) -> str | None:
    """Return the split that random splitting is compared with: the one that keeps most apart."""
    others = [split for split in ("given", "identical", "cluster") if split in report.splits]
    return others[-1] if others and "random" in report.splits else None


def _built_apart(report: Report, against: str) -> list[str]:
    """Return the datasets whose two splits hold different proteins, so that nothing compares."""
    cards = report.cards
    both = [name for name, split in cards if split == "random" and (name, against) in cards]
    return [
        name
        for name in both
        if any(cards[name, "random"].get(k) != cards[name, against].get(k) for k in _PROTEINS)
    ]


def _why_withheld(report: Report, name: str, against: str) -> str:
    """Say why two accuracies are not subtracted, and what makes them comparable."""
    sources = [report.cards[name, split].get("source") for split in ("random", against)]
    differ = " and ".join(map(str, sources)) if sources[0] != sources[1] else "the same name"
    return (
        f"random - {against} of {name} is withheld: the two splits were built of different "
        f"proteins (from {differ}, or with other options). Build both from one source."
    )


def _worth(random: Row | None, other: Row | None, apart: Container[str]) -> str:
    """Return how much more accurate a row is on the random split, over the seeds of both."""
    if random is None or other is None:
        return ""
    if random.data[0] in apart:
        return MISSING
    gaps = [
        random.by_seed[seed][_ACCURACY.metric] - other.by_seed[seed][_ACCURACY.metric]
        for seed in sorted(random.by_seed.keys() & other.by_seed.keys())
    ]
    if not gaps:
        return ""
    interval = f" ± {as_text(_ACCURACY, half_interval(gaps))}" if len(gaps) > 1 else ""
    return as_text(_ACCURACY, fmean(gaps), "+") + interval


def _leaks(report: Report) -> list[tuple[str, dict[str, str]]]:
    """Return, of each dataset, what is tested by split, and how much of it train has seen."""
    found = []
    names = list(dict.fromkeys(name for name, _ in report.cards))
    for name in names:
        cards = {split: card for (own, split), card in report.cards.items() if own == name}
        used = {split: _tested(report, (name, split)) for split in cards}
        whole = {split: f"{card['sizes']['test']:,}" for split, card in cards.items()}
        leaks = {
            label: {s: f"{card[key]:,}" if key in card else MISSING for s, card in cards.items()}
            for label, key in _LEAKS.items()
        }
        part = {} if used == whole else {"of so many": whole}
        which = f", {name}" if len(names) > 1 else ""
        for label, by_split in {"Test sequences": used, **part, **leaks}.items():
            found.append((f"{label}{which}", by_split))
    return found


def _tested(report: Report, data: Data) -> str:
    sizes = sorted({row.sizes["test"] for row in report.rows if row.data == data})
    return " or ".join(f"{size:,}" for size in sizes)


def _notes_on_splits(report: Report) -> list[str]:
    """Say what the counts of leaks mean, and how far off one accuracy may be by chance."""
    fewest = min(row.sizes["test"] for row in report.rows)
    whole = {data: card["sizes"]["test"] for data, card in report.cards.items()}
    notes = [
        "Also in train: test sequences that equal one of train, letter by letter. Family in train: "
        "those of a family, of homologous proteins, that train holds a member of.",
        f"On {fewest:,} test sequences chance alone moves an accuracy by up to ± "
        f"{1.96 * math.sqrt(0.25 / fewest):.3f} (95 %), by more where they are related.",
    ]
    if any(row.sizes["test"] < whole.get(row.data, 0) for row in report.rows):
        notes.append("A part of each dataset is used here; leaks are counted in all of it.")
    return notes


def estimates(report: Report) -> tuple[dict[str, dict[str, Interval]], str]:
    """Return the accuracies by split and model with their 95 % intervals, and what those are.

    Over the seeds where there are several, else that of a share of so many test sequences.
    """
    axes = tuple(axis for axis in report.axes if axis != "split") or ("model",)
    replicated = all(row.ci95 for row in report.rows if row.n)
    found: dict[str, dict[str, Interval]] = {split: {} for split in report.splits}
    for row in report.rows:
        if row.n:
            label = ", ".join(value for value in values_of(row, axes) if value != NOTHING)
            found[row.data[1]][label] = _over_seeds(row) if replicated else _of_share(row)
    seeds = max((row.n for row in report.rows), default=0)
    over = f"over {seeds} seeds" if replicated else "by the number of test sequences"
    return found, f"95 % interval {over}"


def _over_seeds(row: Row) -> Interval:
    accuracy, half = row.metrics[_ACCURACY.metric], row.ci95[_ACCURACY.metric]
    return accuracy, accuracy - half, accuracy + half


def _of_share(row: Row) -> Interval:
    """Return Wilson's interval, which takes test sequences for independent of each other."""
    from scipy.stats import binomtest

    accuracy, tested = row.metrics[_ACCURACY.metric], row.sizes["test"]
    ends = binomtest(round(accuracy * tested), tested).proportion_ci(method="wilson")
    return accuracy, float(ends.low), float(ends.high)
