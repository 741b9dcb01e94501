"""Renderings of tables: tidy and plain CSV, LaTeX, Markdown, terminal."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ec_sweep.analysis import Selected
from ec_sweep.errors import printable
from ec_sweep.layouts import Table
from ec_sweep.plan import pretty
from ec_sweep.report import METRICS, Report

if TYPE_CHECKING:
    from rich.table import Table as RichTable

FORMATS = ("csv", "latex", "markdown")
SUFFIXES = {"csv": ".csv", "latex": ".tex", "markdown": ".md"}
_PLUS_MINUS = " ± "
_PAGE = 40
"""Lines of a table that fit a page; longer ones go on over the next."""
_LATEX = {*map(chr, range(0xC0, 0x100)), *"\xb1\xb0\xb5\xb7\u2013\u2014\u2018\u2019"} - {*"ÐðÞþ"}
"""What LaTeX's standard fonts have beside ASCII."""
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")


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
    """Return a table under one line of headings, its numbers and their intervals as numbers."""
    headings = [f"{group} {metric}".strip() for group, metric in _columns(table)]
    spread = [any(_PLUS_MINUS in row[at] for row in table.cells) for at in range(len(headings))]
    head = [name or "source" for name in table.row_names]
    for heading, has_interval in zip(headings, spread, strict=True):
        head += [heading, f"{heading} ci95"] if has_interval else [heading]
    lines = []
    for row, cells in zip(table.rows, table.cells, strict=True):
        line = list(row)
        for text, has_interval in zip(cells, spread, strict=True):
            mean, _, interval = text.partition(_PLUS_MINUS)
            line += [_number(mean), _number(interval)] if has_interval else [_number(text)]
        lines.append(line)
    return _csv([head, *lines])


def classes_csv(study: str, selected: Iterable[Selected]) -> str:
    """Return one line per cell and class: precision, recall, F1 and support."""
    head = ["study", "dataset", "split", "cell", "class", "precision", "recall", "f1", "support"]
    lines = [
        [study, *cell.data, cell.label, c.name, c.precision, c.recall, c.f1, c.support]
        for cell in selected
        for c in cell.classes
    ]
    return _csv([head, *lines])


def latex(table: Table) -> str:
    """Return a LaTeX table for the packages booktabs, graphicx and longtable, all text escaped.

    A table that is too wide for the page is made smaller; one that is too long
    goes on over several pages.
    """
    notes = [f"\\par\\smallskip\\footnotesize {_escape(note)}" for note in table.notes]
    caption = f"\\caption{{{_escape(table.caption)}}}"
    label = f"\\label{{{table.label}}}"
    columns, head, body = _latex_columns(table), _latex_head(table), _latex_rows(table)
    if len(table.rows) > _PAGE or table.prose:
        lines = [
            "\\begingroup\\footnotesize\\setlength{\\tabcolsep}{3pt}",
            f"\\begin{{longtable}}{{{columns}}}",
            caption, label + " \\\\",
            "\\toprule", *head, "\\midrule", "\\endhead", "\\bottomrule", "\\endfoot",
            *body,
            "\\end{longtable}", *notes, "\\par\\endgroup",
        ]  # fmt: skip
    else:
        fit = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%"
        lines = [
            "\\begin{table}[htbp]", "\\centering",
            caption, label, "\\smallskip",
            fit, f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule", *head, "\\midrule", *body, "\\bottomrule",
            "\\end{tabular}}", *notes, "\\end{table}",
        ]  # fmt: skip
    return "\n".join(["% Needs \\usepackage{booktabs,graphicx,longtable}.", *lines, ""])


def _latex_columns(table: Table) -> str:
    def kind(name: str, otherwise: str) -> str:
        share = table.prose.get(name)
        return f"p{{{share}\\linewidth}}" if share else otherwise

    metrics = [metric for _, metric in _columns(table)]
    return "".join([*(kind(n, "l") for n in table.row_names), *(kind(m, "r") for m in metrics)])


def _latex_head(table: Table) -> list[str]:
    left, width = len(table.row_names), len(table.metrics)
    columns = len(table.groups) * width
    spans = [(left + 1 + width * n, left + width * (n + 1)) for n in range(len(table.groups))]
    heads = [f"\\multicolumn{{{width}}}{{c}}{{{_escape(group)}}}" for group in table.groups]
    group_heads = [
        f"{'& ' * left}\\multicolumn{{{columns}}}{{c}}{{{_escape(table.group_name)}}} \\\\",
        f"\\cmidrule(lr){{{left + 1}-{left + columns}}}",
        f"{'& ' * left}{' & '.join(heads)} \\\\",
        "".join(f"\\cmidrule(lr){{{first}-{last}}}" for first, last in spans),
    ]
    names = [*table.row_names, *table.metrics * len(table.groups)]
    return [
        *(group_heads if table.group_name else []),
        " & ".join(map(_escape, names)) + " \\\\",
    ]


def _latex_rows(table: Table) -> list[str]:
    """Return the lines of the body; ours, the paper's and the difference stand together."""
    left = len(table.row_names)
    together = left > 1 and table.row_names[-1] == ""
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for at, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.apart and at == len(table.rows) - table.apart:
            lines.append("\\midrule")
        same = together and row[:-1] == before
        if together and before and not same:
            lines.append("\\addlinespace")
        names = (*[""] * (left - 1), row[-1]) if same else row
        texts = map(_escape, (*names, *cells))
        ragged = [f"{{\\raggedright {t}\\par}}" if table.prose else t for t in texts]
        lines.append(" & ".join(ragged) + " \\\\")
        before = row[:-1]
    return lines


def markdown(table: Table) -> str:
    """Return a Markdown table with caption and notes."""
    from tabulate import tabulate

    group_name = table.group_name.lower()
    columns = [
        f"{metric}, {group_name} {group}" if group else metric for group, metric in _columns(table)
    ]
    body = tabulate(
        [
            [*map(literal, row), *map(literal, cells)]
            for row, cells in zip(table.rows, table.cells, strict=True)
        ],
        headers=[literal(name) for name in (*table.row_names, *columns)],
        tablefmt="github",
        disable_numparse=True,
    )
    if table.prose:  # padded to its longest sentence no line could be read
        body = re.sub("-{4,}", "---", re.sub(" {2,}", " ", body))
    notes = "".join(f"\n{literal(note)}\n" for note in table.notes)
    return f"**{literal(table.caption)}**\n\n{body}\n{notes}"


def columns_of(table: Table) -> list[int]:
    """Return the columns that a terminal shows, by number: those that repeat another are not."""
    return [at for at, (_, name) in enumerate(_columns(table)) if name not in table.files_only]


def terminal(table: Table, kept: Sequence[int] | None = None) -> "RichTable":
    """Return the table for a terminal, of some of its columns or of `columns_of` it."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    *names, last = table.row_names
    corner = f"{table.group_name}\n{last}".strip() if last else _narrow(table.group_name)
    for heading in (*map(_narrow, names), corner):
        shown_table.add_column(Text(printable(heading, "\n")), no_wrap=True)
    columns = _columns(table)
    kept = columns_of(table) if kept is None else kept
    for group, metric in (columns[at] for at in kept):
        top = Text(printable(f"{group}\n{metric}".strip(), "\n"))
        shown_table.add_column(top, justify="right", no_wrap=True)
    for at, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.apart and at == len(table.rows) - table.apart:
            shown_table.add_section()
        intervals_below = (cells[at].replace(_PLUS_MINUS, "\n±") for at in kept)
        place = ("diff." if name == "difference" else name for name in row)
        texts = (printable(text, "\n") for text in (*place, *intervals_below))
        shown_table.add_row(*map(Text, texts))
    return shown_table


def _narrow(heading: str) -> str:
    """Put the words of a heading below each other."""
    return heading.replace(" ", "\n")


def _number(text: str) -> str:
    """Return a printed number as programs read it, any other text as it is."""
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    for line in lines:
        write([printable(cell, "\n") if isinstance(cell, str) else cell for cell in line])
    return text.getvalue()


def _columns(table: Table) -> list[tuple[str, str]]:
    return [(group, metric) for group in table.groups for metric in table.metrics]


def _plain(value: object) -> str:
    return "" if value is None else pretty(value)


def literal(text: str) -> str:
    """Escape what Markdown and HTML would take for more than the text that it is."""
    special = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    special |= {character: f"\\{character}" for character in "\\`*[]|$"}
    return "".join(special.get(character, character) for character in printable(text))


def _escape(text: str) -> str:
    """Escape LaTeX's special characters; what its fonts lack is named by its number."""
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "<": r"\textless{}", ">": r"\textgreater{}", "`": r"\textasciigrave{}", "|": r"\textbar{}",
        "[": "{[}", "*": "{*}",  # which a line break would take for its own
    }  # fmt: skip
    escaped = "".join(
        special.get(a) or (a if a.isascii() or a in _LATEX else f"(U+{ord(a):04X})")
        for a in printable(text)
    )
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens, no dash
