"""Tables as HTML has them: spans, kinds of cells, and links to where numbers come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ec_sweep.layouts import Table
from ec_sweep.origins import Origins

_MOST_ROWS = 500
"""Rows of a table that a page shows; of more, the first."""
_NUMBER = re.compile(r"([+-]?[\d.,]+(e[+-]?\d+)?( ± [\d.,]+)?|N/A|-|nan|inf|)")


@dataclass(frozen=True)
class Cell:
    """A cell of a table, or a heading of rows."""

    text: str
    kind: str
    """``number`` or ``words``."""
    link: str = ""
    """Where the page tells where it comes from."""
    scope: str = ""
    """``row`` or ``rowgroup`` of a heading."""
    rows: int = 1
    lines: Sequence[str] = ()
    """What stands below the text, each on a line of its own."""


@dataclass(frozen=True)
class Head:
    """A heading of columns."""

    text: str
    kind: str
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    cells: list[Cell]
    apart: bool
    """Whether a line sets it apart from those above."""


@dataclass(frozen=True)
class Markup:
    """A table to stand in a page."""

    name: str
    caption: str
    head: list[list[Head]]
    body: list[Line]
    notes: list[str]
    prose: bool
    """Whether columns hold sentences."""


def lay_out(name: str, table: Table, origins: Origins) -> Markup:
    """Return a table as HTML has it; its numbers lead to their runs."""
    left = len(table.row_names)
    together = left > 1 and not table.row_names[-1]
    columns = list(zip(*table.cells, strict=True)) or [()] * len(table.groups) * len(table.metrics)
    kinds = ["words"] * left + [_kind(column) for column in columns]
    spans = _spans(table.rows) if together else [1] * len(table.rows)
    apart = {len(table.rows) - table.apart} if table.apart else set()
    apart |= {at for at, span in enumerate(spans) if span and together}
    lines = []
    for at, (row, cells) in enumerate(zip(table.rows[:_MOST_ROWS], table.cells, strict=False)):
        runs = table.runs[at] if at < len(table.runs) else [()] * len(kinds)
        links = [origins.anchor(own) for own in runs]
        made = [
            Cell(text, kind, link)
            for text, kind, link in zip((*row, *cells), kinds, links, strict=True)
        ]
        if table.lines:
            text, *below = table.lines[at]
            made[-1] = replace(made[-1], text=text, lines=below)
        first = [replace(cell, scope="row") for cell in made[:left]]
        if together:
            spanning = [replace(cell, scope="rowgroup", rows=spans[at]) for cell in first[:-1]]
            first = [*spanning * bool(spans[at]), first[-1]]
        lines.append(Line([*first, *made[left:]], at > 0 and at in apart))
    notes = list(table.notes)
    if len(table.rows) > _MOST_ROWS:
        notes.insert(0, f"The first {_MOST_ROWS} of {len(table.rows):,} rows; the CSV has all.")
    return Markup(name, table.caption, _head(table, kinds), lines, notes, bool(table.prose))


def _kind(column: Sequence[str]) -> str:
    """Say whether a column is read as numbers: most of its texts are."""
    numbers = sum(bool(_NUMBER.fullmatch(text)) for text in column)
    return "number" if 2 * numbers > len(column) else "words"


def _spans(rows: Sequence[tuple[str, ...]]) -> list[int]:
    """Return how many rows the names of each span, 0 where they repeat those above.

    Ours, the paper's and the difference, named last, stand together.
    """
    spans: list[int] = []
    for _, same in groupby(rows, key=lambda row: row[:-1]):
        count = len(list(same))
        spans += [count, *[0] * (count - 1)]
    return spans


def _head(table: Table, kinds: Sequence[str]) -> list[list[Head]]:
    """Return the headings, in three rows where a hyperparameter groups the columns."""
    width, left = len(table.metrics), len(table.row_names)
    metrics = [*table.metrics] * len(table.groups)
    deep = 3 if table.group_name else 1
    names = [Head(n, kind, rows=deep) for n, kind in zip(table.row_names, kinds, strict=False)]
    last = [Head(metric, kind) for metric, kind in zip(metrics, kinds[left:], strict=True)]
    if not table.group_name:
        return [[*names, *last]]
    whole = Head(table.group_name, "group", columns=len(metrics))
    return [[*names, whole], [Head(group, "group", columns=width) for group in table.groups], last]
