"""Renderings of a report: tidy CSV, LaTeX, Markdown, terminal, and the provenance sidecar."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ec_sweep.errors import EcsweepError
from ec_sweep.paths import write_atomically
from ec_sweep.report import METRICS, Report, Row
from ec_sweep.study import shown

if TYPE_CHECKING:
    from rich.table import Table as RichTable

FORMATS = ("csv", "latex", "markdown")
MISSING = "N/A"
_SHOWN_METRICS = (("test_accuracy", "ACC"), ("test_loss", "Loss"))
_HEADINGS = {
    "filter_size": "Filter size",
    "learning_rate": "Learning rate",
    "batch_size": "Batch size",
    "model": "Model",
}


@dataclass(frozen=True)
class Table:
    """The paper's layout, in text: what LaTeX, Markdown and the terminal render.

    The rows are the values of all axes but the last, whose values head groups of
    columns. At paper scale each row is three: ours, the paper's, and the difference.
    """

    row_names: list[str]
    rows: list[tuple[str, ...]]
    group_name: str
    groups: list[str]
    metrics: list[str]
    cells: list[list[str]]
    """By row, then by group and metric."""
    caption: str
    label: str
    notes: list[str]


def write(report: Report, formats: Sequence[str], folder: Path) -> list[Path]:
    """Write the tables and their provenance sidecar; returns the files."""
    table = layout(report)
    files = {}
    if "csv" in formats:
        files[".csv"] = tidy_csv(report)
    if "latex" in formats:
        files[".tex"] = latex(table)
    if "markdown" in formats:
        files[".md"] = markdown(table)
    files[".provenance.json"] = json.dumps(report.provenance, indent=1) + "\n"
    written = []
    for suffix, text in files.items():
        path = folder / f"{report.study}{suffix}"
        try:
            write_atomically(path, text)
        except OSError as error:
            raise EcsweepError(f"{path}: cannot be written ({error.strerror}).") from error
        written.append(path)
    return written


def tidy_csv(report: Report) -> str:
    """Return one line per row: params, n, each metric, its interval, the published value."""
    rows = report.rows
    params = list(dict.fromkeys(name for row in rows for name in row.params))
    ci95 = [name for name in METRICS if any(name in row.ci95 for row in rows)]
    published = list(dict.fromkeys(name for row in rows for name in row.published))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *params, "n", *METRICS,
            *(f"{name}_ci95" for name in ci95),
            *(f"published_{name}" for name in published),
            "failure",
        ]
    )  # fmt: skip
    for row in rows:
        writer.writerow(
            [
                *(_plain(row.params.get(name)) for name in params),
                row.n,
                *(row.metrics.get(name, "") for name in METRICS),
                *(row.ci95.get(name, "") for name in ci95),
                *(row.published.get(name, "") for name in published),
                row.failure,
            ]
        )
    return text.getvalue()


def layout(report: Report) -> Table:
    """Lay a report out as the paper does; a single axis goes down the rows."""
    *row_axes, group_axis = report.axes if len(report.axes) > 1 else (*report.axes, "")
    groups = list(dict.fromkeys(shown(row.params.get(group_axis, "")) for row in report.rows))
    by_place = {
        (_values(row, row_axes), shown(row.params.get(group_axis, ""))): row for row in report.rows
    }
    places = list(dict.fromkeys(place for place, _ in by_place))
    compared = any(row.published for row in report.rows)
    sources = ("ours", "paper", "difference") if compared else ("",)
    rows, cells = [], []
    for place in places:
        for source in sources:
            rows.append((*place, source) if compared else place)
            cells.append(
                [
                    _number(by_place.get((place, group)), metric, source)
                    for group in groups
                    for metric, _ in _SHOWN_METRICS
                ]
            )
    names = [_heading(axis) for axis in row_axes]
    return Table(
        row_names=[*names, ""] if compared else names,
        rows=rows,
        group_name=_heading(group_axis),
        groups=groups,
        metrics=[heading for _, heading in _SHOWN_METRICS],
        cells=cells,
        caption=f"{report.title or report.study}. {report.source}.",
        label=f"tab:{report.study}",
        notes=_notes(report),
    )


def latex(table: Table) -> str:
    """Return a LaTeX table for the booktabs package, every text escaped."""
    left, width = len(table.row_names), len(table.metrics)
    columns = len(table.groups) * width
    spans = [(left + 1 + width * n, left + width * (n + 1)) for n in range(len(table.groups))]
    heads = [f"\\multicolumn{{{width}}}{{c}}{{{_escape(group)}}}" for group in table.groups]
    names = [*table.row_names, *table.metrics * len(table.groups)]
    group_heads = [
        f"{'& ' * left}\\multicolumn{{{columns}}}{{c}}{{{_escape(table.group_name)}}} \\\\",
        f"\\cmidrule(lr){{{left + 1}-{left + columns}}}",
        f"{'& ' * left}{' & '.join(heads)} \\\\",
        "".join(f"\\cmidrule(lr){{{first}-{last}}}" for first, last in spans),
    ]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{_escape(table.caption)}}}",
        f"\\label{{{table.label}}}",
        "\\smallskip",
        f"\\begin{{tabular}}{{{'l' * left}{'r' * columns}}}",
        "\\toprule",
        *(group_heads if table.group_name else []),
        " & ".join(map(_escape, names)) + " \\\\",
        "\\midrule",
    ]
    before: tuple[str, ...] = ()
    for row, cells in zip(table.rows, table.cells, strict=True):
        same = left > 1 and row[:-1] == before
        if left > 1 and before and not same:
            lines.append("\\addlinespace")
        shown_row = (*[""] * (left - 1), row[-1]) if same else row
        lines.append(" & ".join(map(_escape, (*shown_row, *cells))) + " \\\\")
        before = row[:-1]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par\\smallskip\\footnotesize {_escape(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table}", ""])


def markdown(table: Table) -> str:
    """Return a Markdown table with caption and notes."""
    from tabulate import tabulate

    group_name = table.group_name.lower()
    columns = [
        f"{metric}, {group_name} {group}" if group else metric for group, metric in _columns(table)
    ]
    body = tabulate(
        [[*row, *cells] for row, cells in zip(table.rows, table.cells, strict=True)],
        headers=[*table.row_names, *columns],
        tablefmt="github",
        disable_numparse=True,
    )
    notes = "".join(f"\n{note}\n" for note in table.notes)
    return f"**{table.caption}**\n\n{body}\n{notes}"


def terminal(table: Table) -> "RichTable":
    """Return the table for a terminal."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    *names, last = table.row_names
    for heading in (*names, f"{table.group_name}\n{last}".strip()):
        shown_table.add_column(Text(heading))
    for group, metric in _columns(table):
        shown_table.add_column(Text(f"{group}\n{metric}".strip()), justify="right", no_wrap=True)
    for row, cells in zip(table.rows, table.cells, strict=True):
        shown_table.add_row(*map(Text, (*row, *cells)))
    return shown_table


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(group, metric) for group in table.groups for metric in table.metrics]


def _values(row: Row, axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown(row.params.get(axis)) for axis in axes)


def _number(row: Row | None, metric: str, source: str) -> str:
    """Return a metric as the paper prints it: four decimals, ± the interval if there is one."""
    if row is None:
        return ""
    ours, theirs = row.metrics.get(metric), row.published.get(metric)
    if source == "paper":
        return MISSING if theirs is None else f"{theirs:.4f}"
    if source == "difference":
        return "" if ours is None or theirs is None else f"{ours - theirs:+.4f}"
    if ours is None:
        return MISSING
    interval = f" ± {row.ci95[metric]:.4f}" if metric in row.ci95 else ""
    return f"{ours:.4f}{interval}"


def _notes(report: Report) -> list[str]:
    """Say why each missing number is missing, and what an interval is."""
    notes = []
    for row in report.rows:
        if row.failure:
            place = ", ".join(
                f"{_heading(axis).lower()} {shown(row.params.get(axis))}" for axis in report.axes
            )
            kind = MISSING if row.n == 0 else f"Mean of {row.n}"
            notes.append(f"{kind} at {place}: {row.failure}.")
    seeds = {row.n for row in report.rows if row.ci95}
    if seeds:
        notes.append(
            f"Mean ± half of the 95 % interval of the mean (Student's t) over {max(seeds)} seeds."
        )
    return notes


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name.replace("_", " ").capitalize())


def _plain(value: object) -> str:
    return "" if value is None else shown(value)


def _escape(text: str) -> str:
    """Escape LaTeX's special characters."""
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "<": r"\textless{}", ">": r"\textgreater{}",
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)
