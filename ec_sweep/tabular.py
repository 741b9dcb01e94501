"""Tables: rows of columns separated by tabs or commas, parsed a block at a time by Arrow."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ec_sweep.errors import EcsweepError
from ec_sweep.fields import Fields
from ec_sweep.opening import Block

if TYPE_CHECKING:
    import pyarrow as pa

# Names in the order in which they are believed, compared without case, "_" as a blank.
NAMES = {
    "accession": ("entry", "accession", "accession code", "uniprot id", "uniprot", "id"),
    "ec_numbers": ("ec number", "ec numbers", "ec", "ec-number", "ec-numbers"),
    "sequence": ("sequence",),
    "length": ("length",),
}
_EC_NUMBER = rb"\d+(?:\.(?:\d+|-|[nB]\d+)){3}"
_EC_NUMBERS = re.compile(rb"[;,\s]*%s(?:[;,\s]+%s)*[;,\s]*" % (_EC_NUMBER, _EC_NUMBER))
_LETTERS = re.compile(rb"[A-Za-z]+")


@dataclass(frozen=True)
class Layout:
    """What stands where in a table: the place of each column that is read."""

    places: dict[str, int]
    width: int
    delimiter: bytes = b"\t"
    quoted: bool = False  # values may stand in double quotes
    header: int = 1  # lines above the first row


def places(
    path: Path, header: list[str], wanted: Iterable[str], named: dict[str, str]
) -> dict[str, int]:
    """Find columns by name, whatever their case.

    Args:
        path: the file, for errors.
        header: the names of the columns.
        wanted: those of NAMES to look for.
        named: columns that the user named, as ``--split-column`` does.

    Raises:
        EcsweepError: two columns have the name looked for, or a named one is not there.
    """
    names = [normal(name) for name in header]
    found = {}
    for role in wanted:
        known = next((name for name in NAMES[role] if name in names), None)
        if known is not None:
            found[role] = _only(path, header, names, known)
    for role, name in named.items():
        if normal(name) not in names:
            shown = ", ".join(header)[:200]
            raise EcsweepError(f"{path}: has no column {name!r}. Its columns: {shown}.")
        found[role] = _only(path, header, names, normal(name))
    return found


def normal(name: str) -> str:
    """Return the name of a column as it is compared."""
    return " ".join(name.replace("_", " ").lower().split())


def _only(path: Path, header: list[str], names: list[str], name: str) -> int:
    place = names.index(name)
    if names.count(name) > 1:
        raise EcsweepError(f"{path}: line 1: two columns are named {header[place]!r}. Keep one.")
    return place


def cells(line: bytes, delimiter: bytes, quoted: bool) -> list[bytes] | None:
    """Return the values of a row; None where its quotes are not closed."""
    if not quoted or b'"' not in line:
        return line.split(delimiter)
    try:
        text = [line.decode("latin-1")]
        row = next(csv.reader(text, delimiter=delimiter.decode(), strict=True))
    except csv.Error:
        return None
    return [value.encode("latin-1") for value in row]


def looks_like_ec(text: bytes) -> bool:
    """Say whether a text is one EC number or several."""
    return _EC_NUMBERS.fullmatch(text) is not None


def parse(block: Block, layout: Layout, path: Path, sequences: bool = True) -> Fields:
    """Parse the rows of a block.

    Args:
        block: whole lines of the table.
        layout: its columns.
        path: the file, for errors.
        sequences: False for a table of labels, whose rows have none.
    """
    import pyarrow as pa

    data = block.data
    if not data.endswith(b"\n"):
        _reject_cut_off(block, layout, path)
    dropped: Counter[str] = Counter()
    if layout.quoted and b'"' in data:
        columns = _unquoted(data, layout, dropped)
    else:
        columns = _columns(data, layout, dropped)
    count = len(next(iter(columns.values())))
    absent = pa.nulls(count, pa.binary())
    if "label" in columns:  # a class of the user's own; that there is no EC number is said
        columns.setdefault("ec_numbers", pa.array([b""] * count, pa.binary()))
    return Fields(
        accession=columns["accession"],
        ec_numbers=columns.get("ec_numbers", absent),
        sequence=columns["sequence"] if sequences else absent,
        length=columns.get("length"),
        part=columns.get("part"),
        family=columns.get("family"),
        label=columns.get("label"),
        dropped=dropped,
    )


def _columns(data: bytes, layout: Layout, dropped: Counter[str]) -> "dict[str, pa.Array]":
    import pyarrow as pa

    try:
        return _by_arrow(data, layout)
    except pa.ArrowInvalid:
        # Some row has too few or too many values. Arrow could hand over such rows, but as
        # text, which fails where they are not UTF-8: so they are sorted out here.
        whole = []
        for line in data.split(b"\n"):
            if line.count(layout.delimiter) + 1 == layout.width:
                whole.append(line)
            elif not _is_blank(line, layout):
                dropped["wrong_number_of_columns"] += 1
        return _by_arrow(b"\n".join(whole) + b"\n", layout)


def _by_arrow(data: bytes, layout: Layout) -> "dict[str, pa.Array]":
    import pyarrow as pa
    from pyarrow import csv as arrow

    if data.startswith(b"\xef\xbb\xbf"):
        data = b"\n" + data  # or Arrow would take it for a byte order mark
    names = [str(place) for place in range(layout.width)]
    read = {names[place] for place in layout.places.values()}
    table = arrow.read_csv(
        pa.BufferReader(data),
        # One batch: whole blocks are spread over threads, not parts of them.
        arrow.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        arrow.ParseOptions(delimiter=layout.delimiter.decode(), quote_char=False),
        arrow.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(read, pa.binary()),
            strings_can_be_null=False,
            include_columns=sorted(read),
        ),
    )
    return {
        role: table.column(names[place]).combine_chunks() for role, place in layout.places.items()
    }


def _unquoted(data: bytes, layout: Layout, dropped: Counter[str]) -> "dict[str, pa.Array]":
    """Parse rows with quotes one by one: an unclosed quote must not swallow the next row."""
    import pyarrow as pa

    rows = []
    for line in data.split(b"\n"):
        row = cells(line, layout.delimiter, layout.quoted)
        if row is None:
            dropped["unclosed_quotes"] += 1
        elif len(row) == layout.width:
            rows.append(row)
        elif not _is_blank(line, layout):
            dropped["wrong_number_of_columns"] += 1
    return {
        role: pa.array([row[place] for row in rows], pa.binary())
        for role, place in layout.places.items()
    }


def _is_blank(line: bytes, layout: Layout) -> bool:
    return not line.strip() and layout.delimiter not in line


def _reject_cut_off(block: Block, layout: Layout, path: Path) -> None:
    """Raise an error if a last line without its end is not whole: the file was cut."""
    line = block.data.rpartition(b"\n")[2]
    if not _is_blank(line, layout) and (reason := _unfit(line, layout)):
        number = block.line + block.data.count(b"\n")
        raise EcsweepError(
            f"{path}: line {number}: the file ends in the middle of a row ({reason}). Get it again."
        )


def _unfit(line: bytes, layout: Layout) -> str | None:
    row = cells(line, layout.delimiter, layout.quoted)
    if row is None:
        return "unclosed_quotes"
    if len(row) != layout.width:
        return "wrong_number_of_columns"
    value = {role: row[place].strip() for role, place in layout.places.items()}
    if not value["accession"]:
        return "no_accession"
    numbers = value.get("ec_numbers", b"")
    if numbers and not looks_like_ec(numbers):
        return "invalid_ec_number"
    sequence = value.get("sequence")
    if sequence is None:
        return None
    if not sequence:
        return "no_sequence"
    if not _LETTERS.fullmatch(sequence):
        return "invalid_sequence"
    if value.get("length", b"") not in (b"", str(len(sequence)).encode()):
        return "length_mismatch"
    return None
