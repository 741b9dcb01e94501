"""The tables that are no grid of cells: classes, pairs compared, conclusions, more scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ec_sweep import published
from ec_sweep.analysis import Comparison, Selected, label_of
from ec_sweep.claims import Verdict
from ec_sweep.evidence import LEVEL, Fact, Value
from ec_sweep.layouts import (
    Column,
    Table,
    heading,
    notes_on,
    number,
    paper_layout,
    runs_of,
    values_of,
)
from ec_sweep.plan import pretty
from ec_sweep.report import Report, Row

_CLASS_HEADINGS = ("All", "1st train", "2nd train", "Valid", "Test")
_METRICS = {
    "test_accuracy": "accuracy",
    "test_accuracy_best": "accuracy of the best epoch",
    "test_loss": "loss",
    "epoch_seconds_median": "training seconds an epoch",
    "test_seconds_batch1": "seconds for the test set",
    "parameters": "parameters",
}
"""What conclusions are judged by, in words."""
_BY = "\u00d7"
"""Between a factor and what it multiplies."""
_EXTENDED = (
    Column("test_accuracy", "ACC"),
    Column("test_mcc", "MCC"),
    Column("test_recall_macro", "Macro recall"),
    Column("test_precision_macro", "Macro prec."),
    Column("test_f1_macro", "Macro F1"),
    Column("test_accuracy_best", "ACC best epoch"),
    Column("test_sequences_per_second", "Seq/s", "count"),
    Column("parameters", "Parameters", "count"),
    Column("peak_memory_mb", "MiB", "count"),
)


def named(report: Report, row: Row) -> str:
    """Return a row's label as people read it: ``filter size 9, learning rate 0.01``."""
    axes = [axis for axis in report.axes if axis in row.params] or ["model"]
    values = zip(axes, values_of(row, axes), strict=True)
    return ", ".join(_in_words(axis, value) for axis, value in values)


def _in_words(axis: str, value: str) -> str:
    if axis in ("model", "dataset"):
        return value  # names that speak for themselves
    return f"{value} split" if axis == "split" else f"{heading(axis).lower()} {value}"


def in_words(report: Report, table: Table) -> Table:
    """Return a `comparison_table` or `per_class_table` with its cells named in words."""
    names = {label_of(report, row): named(report, row) for row in report.rows}
    cells = [name in ("First", "Second", "Cell") for name in table.row_names]
    rows = [
        tuple(names.get(t, t) if cell else t for t, cell in zip(row, cells, strict=True))
        for row in table.rows
    ]
    key = _key(report)
    return replace(table, rows=rows, notes=[note.removesuffix(key) for note in table.notes])


def extended_table(report: Report, baselines: Sequence[Row]) -> Table:
    """Lay out what the paper does not print: macro scores, size, throughput, and the baselines."""
    names = paper_layout(report).rows
    rows = [*report.rows, *baselines]
    cells = [[number(row, column, "") for column in _EXTENDED] for row in rows]
    own = [[runs_of(row)] * len(_EXTENDED) for row in rows]
    return Table(
        row_names=[heading(name) for name in names],
        rows=[values_of(row, names) for row in rows],
        metrics=[column.heading for column in _EXTENDED],
        cells=cells,
        caption=f"{report.title}, more scores and baselines. {report.source}.",
        label=f"tab:{report.study}-extended",
        notes=[
            *notes_on(replace(report, rows=rows), _EXTENDED),
            "Seq/s: the whole test set in batches. Baselines are not in the paper. "
            "Parameters: a nearest neighbour learns none, it keeps the training set.",
        ],
        runs=[[*((),) * len(names), *runs] for runs in own],
    )


def class_table(card: Mapping[str, Any], scale: str, split: str, *, compared: bool) -> Table:
    """Lay a dataset's class counts out as the paper's Table 1."""
    samples = [*card["samples"], {}][:2]  # without a second sample its column stays empty
    ours = dict(
        zip(
            published.CLASS_COLUMNS,
            (card["all_counts"], *samples, *(card["class_counts"][p] for p in ("valid", "test"))),
            strict=True,
        )
    )
    theirs = published.class_counts() if compared else {}
    names = [*dict.fromkeys([*theirs.get("all", {}), *card["all_counts"]]), "Total"]
    rows: list[tuple[str, ...]] = []
    cells = []
    for name in names:
        own = [_count(ours[column], name) for column in published.CLASS_COLUMNS]
        if not compared:
            rows.append((name,))
            cells.append(["" if n is None else f"{n:,}" for n in own])
            continue
        printed = [_count(theirs[column], name) for column in published.CLASS_COLUMNS]
        differences = [
            "" if a is None or b is None else f"{a - b:+,}"
            for a, b in zip(own, printed, strict=True)
        ]
        rows += [(name, "ours"), (name, "paper"), (name, "difference")]
        cells += [[("" if n is None else f"{n:,}") for n in some] for some in (own, printed)]
        cells.append(differences)
    left_out = ", ".join(f"{name} ({n:,})" for name, n in card["classes_left_out"].items())
    smallest = card["filters"]["smallest_class"]
    return Table(
        row_names=["EC", ""] if compared else ["EC"],
        rows=rows,
        metrics=list(_CLASS_HEADINGS),
        cells=cells,
        caption=(
            f"Distribution of classes (Table 1 of the paper). {scale.capitalize()} scale: dataset "
            f"{card['name']} from {card['source']}, {split} split."
        ),
        label="tab:paper-1",
        notes=[
            f"Left out, as main class only or with fewer than {smallest} sequences: "
            f"{left_out or 'none'}.",
            f"{_drawn(card)} The first training sample trains the models; Figure 4 shows all "
            f"{len(card['samples'])}.",
        ],
    )


def _drawn(card: Mapping[str, Any]) -> str:
    drawing = card["drawing"]
    if drawing is None:
        return "Nothing was drawn: every sequence of each part is used."
    kind = "fractions" if drawing["fractions"] else "sizes"
    return f"Drawn from train, valid and test by {kind} {', '.join(map(pretty, drawing[kind]))}."


def comparison_table(report: Report, comparisons: Sequence[Comparison]) -> Table:
    """Lay out which cells differ beyond chance."""
    runs = {label_of(report, row): runs_of(row) for row in report.rows}
    return Table(
        row_names=["First", "Second"],
        rows=[(found.first, found.second) for found in comparisons],
        metrics=["Seeds", "Difference", "p", "p corrected", "Verdict"],
        cells=[
            [
                str(found.seeds), f"{found.difference:+.4f}", f"{found.p:.2g}",
                f"{found.p_corrected:.2g}", found.verdict,
            ]
            for found in comparisons
        ],
        caption=f"{report.title}: pairs on the same test sequences. {report.source}.",
        label=f"tab:{report.study}-comparisons",
        notes=[
            "Difference in accuracy, first less second. McNemar's exact test; with several seeds "
            "the largest p of all, so that a difference must hold with each. "
            f"{_correction(len(comparisons))}{_key(report)}"
        ],
        runs=[
            [runs.get(c.first, ()), runs.get(c.second, ()), *((),) * 5] for c in comparisons
        ],
    )  # fmt: skip


def _correction(comparisons: int) -> str:
    if comparisons == 1:
        return "One comparison needs no correction."
    return f"Corrected for {comparisons:,} comparisons (Benjamini-Yekutieli, 5 %)."


def _key(report: Report) -> str:
    """Say what the values are that name a cell, where that is not plain."""
    axes = [heading(axis).lower() for axis in report.axes]
    return "" if axes in ([], ["model"]) else f" Cells are named by {', '.join(axes)}."


def per_class_table(report: Report, selected: Sequence[Selected]) -> Table:
    """Lay out precision, recall and F1 of each class, for the best cell of each model."""
    rows, cells = [], []
    for cell in selected:
        for found in cell.classes:
            rows.append((cell.label, found.name))
            cells.append(
                [f"{found.precision:.4f}", f"{found.recall:.4f}", f"{found.f1:.4f}",
                 f"{found.support:,}"]
            )  # fmt: skip
    return Table(
        row_names=["Cell", "Class"],
        rows=rows,
        metrics=["Precision", "Recall", "F1", "Support"],
        cells=cells,
        caption=f"{report.title}: scores by class. {report.source}.",
        label=f"tab:{report.study}-classes",
        notes=[
            "Of each model and dataset the cell with the best validation accuracy, first seed. "
            f"A class that is never predicted has precision 0.{_key(report)}"
        ],
        runs=[[(), (), *((cell.run,),) * 4] for cell in selected for _ in cell.classes],
    )


def claims_table(
    verdicts: Sequence[Verdict],
    scale: str | None,
    split: str = "",
    changed: Sequence[str] = (),
) -> Table:
    """Lay out which conclusions of the paper hold, by runs at a scale or by its own tables.

    ``changed`` names the studies whose runs were asked for with other values than the paper's.
    """
    words = {True: "holds", False: "does not hold", None: "not decidable"}
    where = f"the runs at {scale} scale, {split} split" if scale else "its own printed tables"
    counts = [f"{word}: {sum(v.holds is held for v in verdicts)}" for held, word in words.items()]
    notes = [f"Of {len(verdicts)} conclusions: {', '.join(counts)}."]
    if any(found.confidence is not None for found in verdicts):
        notes.append(
            "Confidence in a verdict: one-sided paired t-tests over the seeds, Bonferroni within "
            "a claim; none for rules that compare no seeds."
        )
    if scale == "demo":
        notes.append("Demo runs show that the check works; they say nothing of the paper.")
    if changed:
        notes.append(f"Not as the paper has them, by --set: {', '.join(changed)}.")
    verdict_of = {
        found.claim: words[found.holds]
        + ("" if found.confidence is None else f" (confidence {found.confidence:.3f})")
        for found in verdicts
    }
    return Table(
        row_names=["Claim", "Conclusion"],
        rows=[(found.claim, found.text) for found in verdicts],
        metrics=["Verdict", "Numbers"],
        cells=[[verdict_of[found.claim], found.numbers] for found in verdicts],
        caption=f"The paper's conclusions, checked against {where}.",
        label=f"tab:claims-{scale or 'printed'}",
        notes=notes,
        prose={"Conclusion": 0.25, "Verdict": 0.13, "Numbers": 0.46},
        lines=[_told(found) for found in verdicts],
    )


def _told(verdict: Verdict) -> list[str]:
    """Return what a verdict rests on as people read it: a summary, and a line a comparison."""
    told = verdict.told
    said = [_spelled(text) for text in verdict.said]
    if not told:
        return said
    metrics = {fact.metric for fact in told if fact.metric}
    of = f" of {_METRICS[next(iter(metrics))]}" if len(metrics) == 1 else ""
    held, whole = sum(fact.holds for fact in verdict.facts), len(verdict.facts)
    noun, verb = ("comparison", "holds") if whole == 1 else ("comparisons", "hold")
    end = ":" if verdict.holds else ". Not these:"
    lines = [_fact_in_words(fact, named=len(metrics) > 1) for fact in told]
    return [f"{held} of {whole} {noun}{of} {verb}{end}", *lines, *said]


def _fact_in_words(fact: Fact, named: bool) -> str:
    """Return a comparison with the values before what they are of, and its metric if asked for."""
    if isinstance(fact.told, str):
        shown = _spelled(fact.told)
    else:
        high, margin, sign, low = fact.told
        sign = {"<=": "\u2264"}.get(sign, sign)
        shown = f"{_valued(high)}{margin} {sign} {_valued(low)}"
    return f"{_METRICS[fact.metric].capitalize()}: {shown}" if named and fact.metric else shown


def _valued(value: Value) -> str:
    if value.name == LEVEL:
        return value.number
    return f"{value.number} ({_spelled(value.name.removesuffix(' ='))})"


def _spelled(text: str) -> str:
    """Return names of hyperparameters, models and sizes as people write them."""
    text = re.sub(r"\bsizes \d+(-\d+)+", lambda found: found[0].replace("-", ", "), text)
    words: list[str] = []
    before = ""
    for word in text.split():
        name, is_pair, value = word.partition("=")
        pair = bool(is_pair and name and value)
        model = _model(word)
        kind = "pair" if pair else "model" if model != word else ""
        if (before, kind) in {("pair", "pair"), ("pair", "model"), ("model", "pair")}:
            words[-1] += ","  # what follows belongs to the same cell
        other = _METRICS.get(word, _BY if word == "x" else word.replace("_", " "))
        words.append({"pair": f"{heading(name).lower()} {value}", "model": model}.get(kind, other))
        before = kind
    return " ".join(words)


def _model(word: str) -> str:
    """Return a model's name as tables have it, any other word as it is."""
    return values_of(Row({"model": word}, 0, {}), ["model"])[0]


def _count(counts: Mapping[str, int], name: str) -> int | None:
    """Return a class's count, ``None`` where the column has none of it."""
    if name == "Total":
        return sum(counts.values()) if counts else None
    return counts.get(name)
