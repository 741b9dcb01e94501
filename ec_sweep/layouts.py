"""How rows become a table: the paper's layouts, and one for any other study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ec_sweep.report import TIMES, Report, Row
from ec_sweep.study import shown

MISSING = "N/A"
_NOTHING = "-"
"""Stands for a hyperparameter that a model does not have."""
_HEADINGS = {
    "filter_size": "Filter size",
    "filter_sizes": "Filter sizes",
    "learning_rate": "Learning rate",
    "batch_size": "Batch size",
    "model": "Model",
}
_VALUES = {
    ("model", "cnn"): "Single CNN",
    ("model", "complex-cnn"): "Complex CNN",
    ("model", "lstm"): "LSTM",
    ("model", "gru"): "GRU",
    ("model", "cnn-lstm"): "CNN-LSTM",
    ("model", "cnn-gru"): "CNN-GRU",
    ("model", "complex-cnn-lstm"): "Complex CNN-LSTM",
    ("model", "composition"): "Composition",
    ("model", "kmer-nn"): "k-mer neighbour",
}


@dataclass(frozen=True)
class Table:
    """A table in text: what LaTeX, CSV, Markdown and the terminal render.

    Compared with the paper, each row is three: ours, the paper's, and the difference.
    """

    row_names: list[str]
    rows: Sequence[tuple[str, ...]]
    group_name: str
    groups: list[str]
    metrics: list[str]
    cells: list[list[str]]
    """By row, then by group and metric."""
    caption: str
    label: str
    notes: list[str]


@dataclass(frozen=True)
class Column:
    """A metric as a table prints it."""

    metric: str
    heading: str
    kind: Literal["score", "seconds", "count"] = "score"


@dataclass(frozen=True)
class Layout:
    """Which hyperparameters go down the rows, which one heads groups of columns."""

    rows: tuple[str, ...]
    group: str = ""
    columns: tuple[Column, ...] = (Column("test_accuracy", "ACC"), Column("test_loss", "Loss"))


_ACCURACY = (Column("test_accuracy", "ACC"),)
_WITH_TIMES = (
    *Layout(()).columns,
    Column("epoch_seconds_median", "Train s", "seconds"),
    Column("test_seconds_batch1", "Test s", "seconds"),
    Column("test_recall_micro", "Recall"),
    Column("test_precision_micro", "Prec."),
    Column("test_f1_micro", "F1"),
)
PAPER = {
    2: Layout(("units", "depth"), "model", _ACCURACY),
    3: Layout(("filter_size",), "learning_rate"),
    4: Layout(("filter_sizes",), "learning_rate"),
    5: Layout(("model", "learning_rate"), "", _WITH_TIMES),
    6: Layout(("model", "learning_rate"), "", _WITH_TIMES),
    7: Layout(("dataset", "model", "learning_rate"), "", _WITH_TIMES),
}
"""Of the paper's Tables 2 to 7."""


def study_table(report: Report) -> Table:
    """Lay a study out as the paper does its table, or by its axes."""
    return _table(report, _layout(report))


def paper_table(report: Report) -> Table:
    """Lay the rows of a paper's table out, numbered as there."""
    table = _table(report, _layout(report))
    return _renamed(table, f"Table {report.table}. {table.caption}", f"tab:paper-{report.table}")


def _layout(report: Report) -> Layout:
    paper = PAPER.get(report.table or 0)
    places = {*paper.rows, paper.group} if paper else set()
    if paper and {paper.group or paper.rows[0]} <= {*report.axes} <= {*places, "dataset"}:
        return paper
    if report.timing == "exclusive":
        return Layout(tuple(report.axes) or ("model",), "", _WITH_TIMES)
    if len(report.axes) > 1:
        return Layout(tuple(report.axes[:-1]), report.axes[-1])
    return Layout(tuple(report.axes) or ("model",))


def _table(report: Report, layout: Layout) -> Table:
    def group_of(row: Row) -> str:
        return _value(row, layout.group) if layout.group else ""

    groups = list(dict.fromkeys(group_of(row) for row in report.rows))
    by_place = {(values_of(row, layout.rows), group_of(row)): row for row in report.rows}
    places = list(dict.fromkeys(place for place, _ in by_place))
    compared = any(row.published for row in report.rows)
    sources = ("ours", "paper", "difference") if compared else ("",)
    rows, cells = [], []
    for place in places:
        for source in sources:
            rows.append((*place, source) if compared else place)
            cells.append(
                [
                    number(by_place.get((place, group)), column, source)
                    for group in groups
                    for column in layout.columns
                ]
            )
    names = [heading(axis) for axis in layout.rows]
    return Table(
        row_names=[*names, ""] if compared else names,
        rows=rows,
        group_name=heading(layout.group),
        groups=groups,
        metrics=[column.heading for column in layout.columns],
        cells=cells,
        caption=f"{report.title or report.study}. {report.source}.",
        label=f"tab:{report.study}",
        notes=notes_on(report, layout.columns),
    )


def _renamed(table: Table, caption: str, label: str) -> Table:
    return Table(**{**vars(table), "caption": caption, "label": label})


def number(row: Row | None, column: Column, source: str) -> str:
    """Return a metric as the paper prints it, ± the interval if there is one."""
    if row is None:
        return ""
    ours, theirs = row.metrics.get(column.metric), row.published.get(column.metric)
    if source == "paper":
        return MISSING if theirs is None else _as(column, theirs)
    if source == "difference":
        return "" if ours is None or theirs is None else _as(column, ours - theirs, "+")
    if ours is None:
        return MISSING
    interval = row.ci95.get(column.metric)
    return _as(column, ours) + (f" ± {_as(column, interval)}" if interval is not None else "")


def _as(column: Column, value: float, sign: str = "") -> str:
    if column.kind == "score":
        return f"{value:{sign}.4f}"
    if column.kind == "count":
        return f"{value:{sign},.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:{sign}.{digits}f}"


def notes_on(report: Report, columns: Sequence[Column]) -> list[str]:
    """Say why each missing number is missing, how times were taken, what an interval is."""
    notes = []
    for row in report.rows:
        if row.failure:
            place = ", ".join(
                f"{heading(axis).lower()} {_value(row, axis)}" for axis in report.axes
            )
            kind = MISSING if row.n == 0 else f"Mean of {row.n}"
            notes.append(f"{kind} at {place}: {row.failure}.")
    seeds = {row.n for row in report.rows if row.ci95}
    if seeds:
        notes.append(
            f"Mean ± half of the 95 % interval of the mean (Student's t) over {max(seeds)} seeds."
        )
    metrics = {column.metric for column in columns}
    if "test_seconds_batch1" in metrics:
        calls = {
            cell["environment"].get("latency_calls")
            for cell in report.provenance.get("cells", {}).values()
        } - {None}
        notes.append(
            "Train s: median seconds an epoch without the first. Test s: the test set one sequence "
            f"at a time, from the median of {' or '.join(sorted(calls)) or 'the'} such predictions "
            "multiplied up."
        )
    shared = [row for row in report.rows if row.n and not TIMES & row.metrics.keys()]
    if metrics & TIMES and shared:
        notes.append("No times where trials shared the machine.")
    return notes


def values_of(row: Row, axes: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values of some hyperparameters, as people read them."""
    return tuple(_value(row, axis) for axis in axes)


def _value(row: Row, axis: str) -> str:
    if axis not in row.params:
        return _NOTHING
    text = shown(row.params[axis])
    return _VALUES.get((axis, text), text)


def heading(name: str) -> str:
    """Return how a hyperparameter is headed."""
    return _HEADINGS.get(name, name.replace("_", " ").capitalize())
