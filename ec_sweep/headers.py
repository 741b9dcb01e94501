"""The first lines of files: which format they begin, and which columns stand in a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ec_sweep import fasta
from ec_sweep.errors import EcsweepError, quoted
from ec_sweep.tabular import NAMES, Layout, cells, looks_like_ec, normal, places

FORMATS = {
    "uniprot-tsv": "UniProt TSV",
    "uniprot-dat": "UniProt flat file",
    "uniprot-fasta": "UniProt FASTA",
    "brenda-csv": "BRENDA CSV",
    "brenda-fasta": "BRENDA FASTA",
    "clean-tsv": "CLEAN TSV",
    "csv": "CSV table",
    "fasta": "FASTA",
    "parquet": "Parquet",
}
ACCESSIONS = ("Accession", "Accession code", "UniProt ID", "UniProt", "ID")
"""What the column Entry may be named too, as people write it."""
_ALSO = f"Entry may be named {', '.join(ACCESSIONS[:-1])} or {ACCESSIONS[-1]} too"
_BRENDA = {"accession": 0, "ec_numbers": 2, "length": 5, "sequence": 6}
_BRENDA_WIDTH = 7
_CLEAN = ["entry", "ec number", "sequence"]


class _Line(NamedTuple):
    text: bytes
    number: int


def recognise(path: Path, head: bytes) -> str:
    """Return the format that a file begins with: a key of FORMATS.

    Raises:
        EcsweepError: it is none of them; the error says what they are and what came.
    """
    first, *others = _lines(head)
    if first.text.startswith(b"ID   "):
        return "uniprot-dat"
    if titles := fasta.titles(head):
        if any(map(fasta.is_brenda, titles)):
            return "brenda-fasta"
        return "uniprot-fasta" if any(map(fasta.is_uniprot, titles)) else "fasta"
    if any(map(_is_brenda, [first, *others][:20])):
        return "brenda-csv"
    for key, delimiter in (("uniprot-tsv", b"\t"), ("csv", b",")):
        names = [normal(name) for name in _names(first, delimiter)]
        if "sequence" in names and set(names) & set(NAMES["accession"]):
            return "clean-tsv" if delimiter == b"\t" and names == _CLEAN else key
    raise EcsweepError(
        f"{path}: of no known format. Known: {', '.join(FORMATS.values())}. In a table, line "
        f"{first.number} must be a header with the columns Entry, EC number and Sequence; "
        f"{_ALSO}, and --class-column names one instead of EC number. Received: {_shown(first)}."
    )


def layout(path: Path, head: bytes, key: str, named: dict[str, str], labelled: bool) -> Layout:
    """Return which columns of a table are read.

    Args:
        path: the file, for errors.
        head: its first lines.
        key: its format, of FORMATS.
        named: columns that the user named.
        labelled: its EC numbers may come from a table of labels.
    """
    if key == "brenda-csv":
        return _brenda_layout(path, head, named)
    first = next(_lines(head))
    delimiter = b"," if key == "csv" else b"\t"
    header = _names(first, delimiter)
    found = places(path, header, NAMES, named)
    needed = {"accession", "sequence"}
    if not labelled and "label" not in found:  # classes of the user's own need no EC numbers
        needed.add("ec_numbers")
    if not needed <= set(found):
        raise EcsweepError(
            f"{path}: line {first.number} must be a header with the columns Entry, "
            f"{named.get('label', 'EC number')} and Sequence, separated by "
            f"{'commas' if key == 'csv' else 'tabs'}; {_ALSO}. Received: {_shown(first)}."
        )
    has_quotes = key == "csv" or b'"' in first.text
    return Layout(found, len(header), delimiter, has_quotes, first.number)


def columns(head: bytes) -> list[str]:
    """Return the columns that the header of a table names; none where a file begins as no table."""
    first = next(_lines(head))
    if fasta.titles(head) or first.text.startswith(b"ID   "):
        return []
    names = _names(first, _delimiter(first))
    return names if len(names) > 1 else []


def label_layout(path: Path, head: bytes, named: dict[str, str]) -> Layout:
    """Return which columns of a table of labels are read; it may lack a header."""
    lines = list(_lines(head))
    first = lines[0]
    delimiter = _delimiter(first)
    has_quotes = delimiter != b"\t" or b'"' in first.text
    header = _names(first, delimiter)
    roles = ("accession", "ec_numbers")
    if not any(map(looks_like_ec, cells(first.text, delimiter, has_quotes) or [])):
        found = places(path, header, roles, named)
        if {"accession", "label"} <= set(found) or set(roles) <= set(found):
            return Layout(found, len(header), delimiter, has_quotes, first.number)
    elif named:
        raise EcsweepError(f"{path}: has no header that could name {', '.join(named.values())!r}.")
    if len(lines) > 1 and not head.endswith(b"\n"):
        lines.pop()  # may be cut
    rows = [cells(line.text, delimiter, has_quotes) or [] for line in lines]
    for place in range(1, len(header)):
        values = [row[place].strip() for row in rows if place < len(row)]
        if any(values) and all(looks_like_ec(value) for value in values if value):
            found = {"accession": 0, "ec_numbers": place}
            return Layout(found, len(header), delimiter, has_quotes, first.number - 1)
    raise EcsweepError(
        f"{path}: line {first.number}: a table of labels has the columns Entry and "
        f"{named.get('label', 'EC number')}, "
        f"separated by tabs, commas or semicolons; {_ALSO}. Received: {_shown(first)}."
    )


def _brenda_layout(path: Path, head: bytes, named: dict[str, str]) -> Layout:
    first = next(_lines(head))
    header = _names(first, b"\t")
    has_header = normal(header[0]).startswith("accession")
    if len(header) != _BRENDA_WIDTH:
        raise EcsweepError(
            f"{path}: line {first.number}: BRENDA's table has {_BRENDA_WIDTH} columns, separated "
            f"by tabs. Received: {_shown(first)}."
        )
    if named and not has_header:
        raise EcsweepError(f"{path}: has no header that could name {', '.join(named.values())!r}.")
    found = _BRENDA | places(path, header, (), named)
    return Layout(found, len(header), header=first.number - (0 if has_header else 1))


def _is_brenda(line: _Line) -> bool:
    row = line.text.split(b"\t")
    if len(row) != _BRENDA_WIDTH:
        return False
    titled = normal(row[0].decode("latin-1")) == "accession code"
    return titled or (looks_like_ec(row[2]) and row[5].strip().isdigit())


def _lines(head: bytes) -> Iterator[_Line]:
    """Yield the lines that are neither blank nor comments; at least one, if but an empty one."""
    none = True
    for number, text in enumerate(head.split(b"\n"), start=1):
        if text.strip() and not text.startswith(b"#"):
            none = False
            yield _Line(text, number)
    if none:
        yield _Line(b"", 1)


def _delimiter(line: _Line) -> bytes:
    """Return what most likely separates the columns of a table."""
    return max((b"\t", b",", b";"), key=line.text.count)


def _names(line: _Line, delimiter: bytes) -> list[str]:
    row = cells(line.text, delimiter, quoted=b'"' in line.text) or line.text.split(delimiter)
    return [value.decode(errors="replace").strip() for value in row]


def _shown(line: _Line) -> str:
    return quoted(line.text[:120].decode(errors="replace"))
