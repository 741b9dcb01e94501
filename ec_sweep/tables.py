"""Renderings of tables: tidy and plain CSV, LaTeX, Markdown, terminal."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ec_sweep.analysis import Selected
from ec_sweep.layouts import Table
from ec_sweep.report import METRICS, Report
from ec_sweep.study import shown

if TYPE_CHECKING:
    from rich.table import Table as RichTable

FORMATS = ("csv", "latex", "markdown")
SUFFIXES = {"csv": ".csv", "latex": ".tex", "markdown": ".md"}
_NARROW = 7
"""Columns that fit a LaTeX page at full size."""


def render(table: Table, kind: str) -> str:
    """Return a table as ``csv``, ``latex`` or ``markdown``."""
    return {"csv": plain_csv, "latex": latex, "markdown": markdown}[kind](table)


def tidy_csv(report: Report) -> str:
    """Return one line per row: params, n, each metric, its interval, the published value."""
    rows = report.rows
    params = list(dict.fromkeys(name for row in rows for name in row.params))
    ci95 = [name for name in METRICS if any(name in row.ci95 for row in rows)]
    published = list(dict.fromkeys(name for row in rows for name in row.published))
    head = [
        *params, "n", *METRICS,
        *(f"{name}_ci95" for name in ci95),
        *(f"published_{name}" for name in published),
        "failure",
    ]  # fmt: skip
    lines = [
        [
            *(_plain(row.params.get(name)) for name in params),
            row.n,
            *(row.metrics.get(name, "") for name in METRICS),
            *(row.ci95.get(name, "") for name in ci95),
            *(row.published.get(name, "") for name in published),
            row.failure,
        ]
        for row in rows
    ]
    return _csv([head, *lines])


def plain_csv(table: Table) -> str:
    """Return a table's cells as it prints them, under one line of headings."""
    columns = [f"{group} {metric}".strip() for group, metric in _columns(table)]
    rows = [[*row, *cells] for row, cells in zip(table.rows, table.cells, strict=True)]
    return _csv([[*(name or "source" for name in table.row_names), *columns], *rows])


def classes_csv(study: str, selected: Iterable[Selected]) -> str:
    """Return one line per cell and class: precision, recall, F1 and support."""
    head = ["study", "dataset", "cell", "class", "precision", "recall", "f1", "support"]
    lines = [
        [study, cell.dataset, cell.label, c.name, c.precision, c.recall, c.f1, c.support]
        for cell in selected
        for c in cell.classes
    ]
    return _csv([head, *lines])


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
        *(["\\small\\setlength{\\tabcolsep}{3pt}"] if left + columns > _NARROW else []),
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


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(group, metric) for group in table.groups for metric in table.metrics]


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
