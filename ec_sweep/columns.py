"""Rows of text under each other in columns, also where a terminal is narrow."""

import textwrap
from collections.abc import Iterator, Sequence

_GAP = 2
"""Blanks between columns."""
_LEAST = 16
"""Characters, or those of its longest word, below which a column is not squeezed."""
_INDENT = " " * 4


def wrapped(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield the lines of rows, all of whose text is shown; the first row holds the headings.

    Where a terminal of ``width`` is too narrow, the widest column goes on over
    several lines; where even that does not help, a row does, field by field.
    """
    rows = _without_empty(rows)
    widths = _widths(rows)
    if width is None or _total(widths) <= width or not widths:
        yield from (_line(row, widths) for row in rows)
        return
    widest = widths.index(max(widths))
    left = width - (_total(widths) - widths[widest])
    words = (word for row in rows for word in row[widest].split())
    if left < max(_LEAST, *map(len, words)):
        for row in rows:
            yield from _filled(row, widths, width)
        return
    widths[widest] = left
    for row in rows:
        parts = textwrap.wrap(row[widest], left, break_on_hyphens=False) or [""]
        yield _line([*row[:widest], parts[0], *row[widest + 1 :]], widths)
        blank = [""] * len(row)
        for part in parts[1:]:
            yield _line([*blank[:widest], part, *blank[widest + 1 :]], widths)


def cut(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    """Yield a line for each row, cut to the width of a terminal.

    Columns of which nothing worth reading would be left are left out, from the right.
    """
    rows = _without_empty(rows)
    widths = _widths(rows)
    while width is not None and len(widths) > 1 and _total(widths[:-1]) + _GAP + 8 > width:
        widths.pop()
    for row in rows:
        line = _line(row[: len(widths)], widths)
        yield line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def _without_empty(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows)] if rows else []
    return [[row[at] for at in kept] for row in rows]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (text.ljust(width) for text, width in zip(row, widths, strict=True))
    return (" " * _GAP).join(padded).rstrip()


def _filled(row: Sequence[str], widths: Sequence[int], width: int) -> Iterator[str]:
    """Yield a row field by field, as many in a line as there is room for."""
    line = ""
    for text, column in zip(row, widths, strict=True):
        room = width - len(line)
        if line.strip() and (not text or len(text) > room):
            yield line.rstrip()
            line = _INDENT
        if len(text) > width - len(_INDENT):
            *whole, text = textwrap.wrap(text, width - len(_INDENT), break_on_hyphens=False)
            yield from (f"{_INDENT}{part}" for part in whole)
        line += text.ljust(column) + " " * _GAP
    if line.strip():
        yield line.rstrip()


def filled(text: str, width: int | None) -> str:
    """Return a line that goes on below, indented, where a terminal is narrower."""
    further = " " * (8 if text.startswith(" ") else 4)
    if width is None or not len(text) > width > len(further) + 20:
        return text
    return textwrap.fill(
        text, width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
