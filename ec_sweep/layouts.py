"""How rows become a table: the paper's layouts, and one for any other study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ec_sweep.plan import pretty
from ec_sweep.report import TIMES, Report, Row

MISSING = "N/A"
_NAMED = 6
"""Rows that a note names; of more it says how many."""
_SAME_AS_ACCURACY = {"test_recall_micro", "test_precision_micro", "test_f1_micro"}
"""Micro averages of a classifier that gives each sequence one label (paper, Tables 5-7)."""
NOTHING = "-"
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

Runs = tuple[str, ...]
"""Ids of runs, one a seed; empty where a text comes from none."""


@dataclass(frozen=True)
class Table:
    """A table in text: what LaTeX, CSV, Markdown and the terminal render.

    Compared with the paper, each row is three: ours, the paper's, and the difference.
    """

    row_names: list[str]
    rows: Sequence[tuple[str, ...]]
    metrics: list[str]
    cells: list[list[str]]
    """By row, then by group and metric."""
    caption: str
    label: str
    notes: list[str]
    group_name: str = ""
    """Hyperparameter that heads groups of columns; none by default, so one group without name."""
    groups: Sequence[str] = ("",)
    prose: Mapping[str, float] = field(default_factory=dict)
    """Columns of words, which print over several lines, with their share of the page."""
    files_only: frozenset[str] = frozenset()
    """Columns that a terminal leaves out: they say the same as another one."""
    apart: int = 0
    """Rows at the end that are set apart by a line: they say what the others rest on."""
    runs: Sequence[Sequence[Runs]] = ()
    """Of each row, its names and then its cells, the runs that they come from."""
    lines: Sequence[Sequence[str]] = ()
    """Of each row, what a page has in the place of its last cell: a sentence, and lines below."""


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
_CHOSEN_BY = {
    "val_accuracy": Column("val_accuracy", "Val. ACC"),
    "val_loss": Column("val_loss", "Val. loss"),
}
"""What sampled sweeps are sorted by."""
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
    paper = PAPER.get(report.table or 0)
    if paper and _fits(paper, report):
        return _table(report, paper)
    axes = tuple(report.axes) or ("model",)
    if report.metric:
        columns = _WITH_TIMES if report.timing == "exclusive" else Layout(()).columns
        return _table(report, Layout(axes, "", (_CHOSEN_BY[report.metric], *columns)))
    if report.timing == "exclusive":
        return _table(report, Layout(axes, "", _WITH_TIMES))
    return _table(report, Layout(axes[:-1], axes[-1]) if len(axes) > 1 else Layout(axes))


def paper_table(report: Report) -> Table:
    """Lay the rows of a paper's table out, numbered as there."""
    assert report.table is not None
    table = _table(report, paper_layout(report))
    caption = f"{report.title} (Table {report.table} of the paper). {report.source}."
    return replace(table, caption=caption, label=f"tab:paper-{report.table}")


def paper_layout(report: Report) -> Layout:
    """Return the layout of a paper's table, with a column more where rows differ in split."""
    layout = PAPER.get(report.table or 0, Layout(tuple(report.axes)))
    several = len(report.splits) > 1 and "split" not in layout.rows
    return replace(layout, rows=(*layout.rows, "split")) if several else layout


def _fits(layout: Layout, report: Report) -> bool:
    """Whether the rows vary in what the layout shows, and in nothing else."""
    head = layout.group or layout.rows[0]
    places = {(*values_of(row, layout.rows), _value(row, layout.group)) for row in report.rows}
    return head in report.axes and len(places) == len(report.rows)


def _table(report: Report, layout: Layout) -> Table:
    def group_of(row: Row) -> str:
        return _value(row, layout.group) if layout.group else ""

    groups = list(dict.fromkeys(group_of(row) for row in report.rows))
    by_place = {(values_of(row, layout.rows), group_of(row)): row for row in report.rows}
    if len(by_place) < len(report.rows):
        raise AssertionError(f"rows of {report.study} share a place in the layout {layout}")
    places = list(dict.fromkeys(place for place, _ in by_place))
    compared = any(row.published for row in report.rows)
    sources = ("ours", "paper", "difference") if compared else ("",)
    rows, cells, runs = [], [], []
    for place in places:
        found = [by_place.get((place, group)) for group in groups for _ in layout.columns]
        for source in sources:
            rows.append((*place, source) if compared else place)
            own = [None] * len(found) if source == "paper" else found
            runs.append([*((),) * len(rows[-1]), *map(runs_of, own)])
            cells.append(
                [
                    _text(by_place.get((place, group)), column, source, layout)
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
        files_only=frozenset(c.heading for c in layout.columns if c.metric in _SAME_AS_ACCURACY),
        runs=runs,
    )


def _text(row: Row | None, column: Column, source: str, layout: Layout) -> str:
    """Return a metric, or in the first column that the cell was pruned."""
    if row is not None and row.pruned and source != "paper" and column == layout.columns[0]:
        return row.failure
    return number(row, column, source)


def runs_of(row: Row | None) -> Runs:
    """Return the complete runs of a row."""
    return tuple(row.runs.values()) if row else ()


def number(row: Row | None, column: Column, source: str) -> str:
    """Return a metric as the paper prints it, ± the interval if there is one."""
    if row is None:
        return ""
    ours, theirs = row.metrics.get(column.metric), row.published.get(column.metric)
    if source == "paper":
        return MISSING if theirs is None else as_text(column, theirs)
    if source == "difference":
        return "" if ours is None or theirs is None else as_text(column, ours - theirs, "+")
    if ours is None:
        return MISSING
    interval = row.ci95.get(column.metric)
    return as_text(column, ours) + (
        f" ± {as_text(column, interval)}" if interval is not None else ""
    )


def as_text(column: Column, value: float, sign: str = "") -> str:
    """Return a number as a column prints it."""
    if column.kind == "score":
        return f"{value:{sign}.4f}"
    if column.kind == "count":
        return f"{value:{sign},.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:{sign}.{digits}f}"


def notes_on(report: Report, columns: Sequence[Column]) -> list[str]:
    """Say why each missing number is missing, how times were taken, what an interval is."""
    places: dict[tuple[str, str], list[str]] = {}
    for row in report.rows:
        if row.failure and not row.pruned:
            place = ", ".join(
                f"{heading(axis).lower()} {_value(row, axis)}" for axis in report.axes
            )
            kind = MISSING if row.n == 0 else f"Mean of {row.n}"
            places.setdefault((kind, row.failure), []).append(place)
    notes = [
        f"{kind} {_where(at, len(report.rows))}: {why.rstrip('.')}."
        for (kind, why), at in places.items()
    ]
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
            "Train s: median seconds an epoch, without the first where there are several. "
            "Test s: the test set one sequence "
            f"at a time, from the median of {' or '.join(sorted(calls)) or 'the'} such predictions "
            "multiplied up."
        )
    if metrics & TIMES:
        notes += _notes_on_times(report)
    return notes


def _where(places: Sequence[str], rows: int) -> str:
    """Return which rows a note is about, or how many where they are many."""
    if len(places) > _NAMED:
        return f"in {len(places)} of {rows} rows"
    return f"at {'; '.join(places)}"


def _notes_on_times(report: Report) -> list[str]:
    """Say which times are missing, and what the paper's were measured on."""
    notes = []
    timed = sum("fit_seconds" in found for row in report.rows for found in row.by_seed.values())
    complete = sum(len(row.by_seed) for row in report.rows)
    if timed < complete:
        notes.append(
            f"Times come only from runs that had the machine to themselves: {timed} of {complete}."
        )
    if any("epoch_seconds_median" in row.published for row in report.rows):
        cells = report.provenance.get("cells", {}).values()
        devices = {cell["environment"].get("device", "unknown") for cell in cells}
        notes.append(
            "The paper's times: GTX 1660 SUPER, 777 steps and 8,578 test sequences on dataset 1, "
            "9,922 and 60,445 on dataset 2. Ours: "
            f"{' or '.join(sorted(devices))}; differences in time compare all that at once."
        )
    return notes


def values_of(row: Row, axes: Sequence[str]) -> tuple[str, ...]:
    """Return a row's values of some hyperparameters, as people read them."""
    return tuple(_value(row, axis) for axis in axes)


def _value(row: Row, axis: str) -> str:
    if axis not in row.params:
        return NOTHING
    text = pretty(row.params[axis])
    return _VALUES.get((axis, text), text)


def heading(name: str) -> str:
    """Return how a hyperparameter is headed."""
    return _HEADINGS.get(name, name.replace("_", " ").capitalize())
