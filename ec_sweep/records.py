"""Protein records from UniProt-style TSV files, every row kept or counted by reason."""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from ec_sweep.errors import EcsweepError

_COLUMNS = ("entry", "ec number", "sequence")
_EC_NUMBER = re.compile(r"\d+(\.(\d+|-|[nB]\d+)){3}")
_SEQUENCE = re.compile(r"[A-Z]+")
_GZIP_MAGIC = b"\x1f\x8b"


class Record(NamedTuple):
    """A protein: its accession, its EC numbers (none: no enzyme known) and its sequence."""

    accession: str
    ec_numbers: tuple[str, ...]
    sequence: str


class Malformed(Exception):  # noqa: N818 - a verdict on one row, counted and never shown
    """A row that cannot be used; the message is the reason it is counted under."""


def read(path: Path) -> tuple[list[Record], int, Counter[str]]:
    """Read a TSV file with the columns Entry, EC number and Sequence, plain or gzipped.

    Rows of the same accession and sequence are merged and their EC numbers
    united; an accession with two different sequences is left out altogether,
    so that the order of rows cannot matter.

    Returns:
        The records, the number of rows read, and the rows left out by reason.

    Raises:
        EcsweepError: the file is missing, empty, cut off, or not such a file.
    """
    merged: dict[str, Record] = {}
    conflicting: set[str] = set()
    dropped: Counter[str] = Counter()
    rows = 0
    for row in _rows(path):
        rows += 1
        try:
            record = _record(row)
        except Malformed as reason:
            dropped[str(reason)] += 1
            continue
        known = merged.setdefault(record.accession, record)
        if known is record:
            continue
        if known.sequence != record.sequence or record.accession in conflicting:
            conflicting.add(record.accession)
            dropped["conflicting_sequences"] += 1
        else:
            united = tuple(sorted({*known.ec_numbers, *record.ec_numbers}))
            merged[record.accession] = known._replace(ec_numbers=united)
            dropped["repeated_accession"] += 1
    for accession in conflicting:
        del merged[accession]
        dropped["conflicting_sequences"] += 1
    if not rows:
        raise EcsweepError(f"{path}: has a header but no records.")
    return list(merged.values()), rows, dropped


class _Row(NamedTuple):
    fields: list[str]
    columns: dict[str, int]
    width: int


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the rows of the file under its header."""
    with _open(path) as file:
        header = file.readline().rstrip("\r\n").split("\t")
        names = [name.strip().lower() for name in header]
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            shown = ", ".join(header)[:120]
            raise EcsweepError(
                f"{path}: line 1 must be a header with the columns Entry, EC number and Sequence, "
                f"separated by tabs. Received: {shown!r}."
            )
        columns = {name: names.index(name) for name in names}
        for number, line in enumerate(file, start=2):
            if not line.strip():
                continue
            row = _Row(line.rstrip("\r\n").split("\t"), columns, len(names))
            if not line.endswith("\n"):
                _reject_cut_off(row, path, number)
            yield row


def _reject_cut_off(row: _Row, path: Path, number: int) -> None:
    """Raise an error if a last line without its end is not whole: the file was cut."""
    try:
        _record(row)
    except Malformed as reason:
        raise EcsweepError(
            f"{path}: line {number}: the file ends in the middle of a row ({reason}). Get it again."
        ) from None


def _record(row: _Row) -> Record:
    fields, columns, width = row
    if len(fields) != width:
        raise Malformed("wrong_number_of_columns")
    accession = fields[columns["entry"]].strip()
    if not accession:
        raise Malformed("no_accession")
    sequence = fields[columns["sequence"]].strip().upper()
    if not sequence:
        raise Malformed("no_sequence")
    if not _SEQUENCE.fullmatch(sequence):
        raise Malformed("invalid_sequence")
    if "length" in columns and fields[columns["length"]].strip() not in ("", str(len(sequence))):
        raise Malformed("length_mismatch")
    numbers = [number.strip() for number in fields[columns["ec number"]].split(";")]
    ec_numbers = tuple(sorted({number for number in numbers if number}))
    if not all(map(_EC_NUMBER.fullmatch, ec_numbers)):
        raise Malformed("invalid_ec_number")
    return Record(accession, ec_numbers, sequence)


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    """Open plain or gzipped text; what is no such file becomes an error that says so."""
    try:
        with path.open("rb") as raw:
            start = raw.read(1024)
    except OSError as error:
        raise EcsweepError(f"{path}: cannot be read ({error.strerror}).") from error
    if not start:
        raise EcsweepError(f"{path}: the file is empty.")
    zipped = start.startswith(_GZIP_MAGIC)
    if path.suffix == ".gz" and not zipped:
        raise EcsweepError(f"{path}: named .gz but not a gzip file.{_html(start)}")
    open_file = gzip.open if zipped else open
    try:
        with open_file(path, "rb") as binary:
            head = binary.read(1024)
        if not head:
            raise EcsweepError(f"{path}: the file inside is empty.")
        if _html(head):
            raise EcsweepError(f"{path}: not a table.{_html(head)}")
        # Undecodable bytes become a replacement letter, which no sequence may hold.
        with open_file(path, "rt", encoding="utf-8-sig", errors="replace", newline="\n") as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EcsweepError(
            f"{path}: cut off or damaged gzip file ({error}). Get it again."
        ) from error


def _html(start: bytes) -> str:
    beginning = start.lstrip().lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return " It is an HTML page, such as a server sends when a download fails."
    return ""
