"""Records checked by columns: what cannot be used is left out and counted by reason."""

import hashlib
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec_sweep import ec
from ec_sweep.ec import EcNumber
from ec_sweep.fields import Fields
from ec_sweep.transfers import Migrated, Transfers

if TYPE_CHECKING:
    import pyarrow as pa


LONGEST_ACCESSION = 255  # bytes
DIGEST = 16  # bytes
UNKNOWN = -1
"""Code of EC numbers that another table states."""
_INVALID, _DELETED = -2, -3

Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Checked:
    """Records that can be used, in the order of the file, and those that cannot by reason."""

    accession: "pa.Array"
    """Strings."""
    ec: Codes
    """Codes of `Numbers`; `UNKNOWN` where another table states them."""
    sequence: "pa.Array"
    """Binary, letters A-Z; null in the rows of a label table."""
    digest: "pa.Array"
    """`DIGEST` bytes of each sequence."""
    part: "pa.Array | None"
    family: "pa.Array | None"
    label: "pa.Array | None"
    dropped: Counter[str]
    migrated: Counter[Migrated]
    """How many records had their EC numbers changed, by what became of them."""

    @property
    def records(self) -> int:
        """How many records there were, those dropped among them."""
        return len(self.accession) + self.dropped.total()


class Numbers:
    """The EC numbers of records: each text is parsed and migrated once, and has a code.

    Threads may share one.
    """

    def __init__(self, transfers: Transfers) -> None:
        self.texts: list[str] = []
        """Of each code the numbers in their one way of writing."""
        self._transfers = transfers
        self._codes: dict[str, int] = {}
        self._known: dict[bytes, tuple[int, Migrated | None]] = {}
        self._unions: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()

    def parse(self, text: bytes) -> tuple[int, Migrated | None]:
        """Return the code of the numbers that a text states, and what migration did to them."""
        found = self._known.get(text)
        if found is None:
            try:
                migrated = self._transfers.apply(ec.split(text.decode("utf-8", "replace")))
            except ec.InvalidEcNumber:
                return _INVALID, None  # not kept: of nonsense there is no end
            changed = migrated.moved or migrated.split or migrated.deleted
            # Without a number left, it would pass for no enzyme, which it is.
            code = _DELETED if migrated.lost else self._code(migrated.numbers)
            found = self._known[text] = code, migrated if changed else None
        return found

    def union(self, one: int, other: int) -> int:
        """Return the code of all numbers that two codes stand for."""
        if UNKNOWN in (one, other) or one == other:
            return max(one, other)
        key = (one, other) if one < other else (other, one)
        found = self._unions.get(key)
        if found is None:
            found = self._unions[key] = self._code(
                ec.split(f"{self.texts[one]};{self.texts[other]}")
            )
        return found

    def _code(self, numbers: tuple[str, ...]) -> int:
        text = "; ".join(numbers)
        with self._lock:
            code = self._codes.setdefault(text, len(self.texts))
            if code == len(self.texts):
                self.texts.append(text)
            return code


def numbers_of(text: str) -> tuple[EcNumber, ...]:
    """Return the numbers of a text in our own way of writing."""
    return tuple(map(ec.parse, text.split("; "))) if text else ()


def check(fields: Fields, numbers: Numbers) -> Checked:
    """Check the records of a block; a record with several faults counts under the first."""
    import pyarrow as pa

    accession = _trimmed(fields.accession)
    sequence, invalid = _upper(fields.sequence)
    length = lengths(sequence)
    labels_only = _nulls(sequence)
    text = _EcTexts(fields.ec_numbers, numbers)
    faults = {
        "no_accession": lengths(accession) == 0,
        "invalid_accession": _unfit_accessions(accession),
        "no_sequence": (length == 0) & ~labels_only,
        "invalid_sequence": invalid,
        "length_mismatch": _other_length(fields.length, length) & ~labels_only,
        "invalid_ec_number": text.codes == _INVALID,
        "deleted_ec_number": text.codes == _DELETED,
    }
    good = np.ones(len(length), bool)
    dropped = Counter(fields.dropped)
    for reason, found in faults.items():
        if count := int(np.count_nonzero(good & found)):
            dropped[reason] += count
            good &= ~found
    mask = pa.array(good)
    sequence = sequence.filter(mask)
    return Checked(
        accession=accession.filter(mask).cast(pa.string()),
        ec=text.codes[good],
        sequence=sequence,
        digest=digests(sequence),
        part=_names(fields.part, mask),
        family=_names(fields.family, mask),
        label=_names(fields.label, mask),
        dropped=dropped,
        migrated=text.migrated(good),
    )


class _EcTexts:
    """The EC numbers of a block, each distinct text looked at once."""

    def __init__(self, texts: "pa.Array", numbers: Numbers) -> None:
        encoded = texts.dictionary_encode()
        parsed = [numbers.parse(text) for text in encoded.dictionary.to_pylist()]
        self._migrated = [migrated for _, migrated in parsed]
        self._rows = np.asarray(encoded.indices.fill_null(len(parsed)))
        self.codes = np.array([*(code for code, _ in parsed), UNKNOWN], np.int32)[self._rows]

    def migrated(self, good: Mask) -> Counter[Migrated]:
        """Count what became of the numbers of the good records, and of those with none left."""
        found: Counter[Migrated] = Counter()
        if any(self._migrated):
            counts = np.bincount(
                self._rows[good | (self.codes == _DELETED)], minlength=len(self._migrated)
            )
            for migrated, count in zip(self._migrated, counts.tolist(), strict=False):
                if migrated:
                    found[migrated] += count
        return +found


def _views(column: "pa.Array") -> tuple[Codes, npt.NDArray[np.uint8]]:
    """Return where the values of a binary column begin and end, and their bytes, uncopied."""
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    every = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return ends - ends[0], every[ends[0] : ends[-1]]


def lengths(column: "pa.Array") -> Codes:
    """Return the bytes of each value, 0 of a null."""
    return np.diff(_views(column)[0])


def letters(column: "pa.Array") -> npt.NDArray[np.uint8]:
    """Return the bytes of all values behind each other."""
    return _views(column)[1]


def _nulls(column: "pa.Array") -> Mask:
    return np.asarray(column.is_null())


def _rows_with(column: "pa.Array", strange: Mask) -> Mask:
    """Say which values hold one of the bytes that ``strange`` marks by their number."""
    ends, data = _views(column)
    found = np.zeros(len(column), bool)
    found[np.searchsorted(ends, np.flatnonzero(strange[data]), "right") - 1] = True
    return found


def _bytes(*ranges: tuple[int, int]) -> Mask:
    marked = np.zeros(256, bool)
    for first, last in ranges:
        marked[first : last + 1] = True
    return marked


_BLANKS = _bytes((9, 13), (32, 32))
_NOT_A_TO_Z = ~_bytes((65, 90))
_NOT_PLAIN = ~_bytes((33, 126))


def _as_text(column: "pa.Array") -> "pa.Array":
    """Return binary values as strings, uncopied and whatever they are.

    Arrow's functions for ASCII want strings. They look at bytes and never ask for more.
    """
    import pyarrow as pa

    return pa.Array.from_buffers(
        pa.string(), len(column), column.buffers(), column.null_count, column.offset
    )


def _as_bytes(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return pa.Array.from_buffers(
        pa.binary(), len(column), column.buffers(), column.null_count, column.offset
    )


def _trimmed(column: "pa.Array") -> "pa.Array":
    """Return binary values without the blanks around them."""
    import pyarrow.compute as pc

    if not _rows_with(column, _BLANKS).any():
        return column
    return _as_bytes(pc.ascii_trim_whitespace(_as_text(column)))


def _upper(column: "pa.Array") -> "tuple[pa.Array, Mask]":
    """Return sequences in upper case without blanks around, and which hold more than A-Z."""
    import pyarrow as pa
    import pyarrow.compute as pc

    extremes = pc.min_max(pa.array(letters(column))).as_py()
    if extremes["min"] is None or ord("A") <= extremes["min"] <= extremes["max"] <= ord("Z"):
        return column, np.zeros(len(column), bool)  # nearly always, and much faster
    upper = _as_bytes(pc.ascii_upper(pc.ascii_trim_whitespace(_as_text(column))))
    return upper, _rows_with(upper, _NOT_A_TO_Z)


def _unfit_accessions(column: "pa.Array") -> Mask:
    """Say which accessions are too long, no UTF-8, or hold what cannot be printed."""
    unfit: Mask = lengths(column) > LONGEST_ACCESSION
    for row in np.flatnonzero(_rows_with(column, _NOT_PLAIN)):
        try:
            unfit[row] |= not column[int(row)].as_py().decode().isprintable()
        except UnicodeDecodeError:
            unfit[row] = True
    return unfit


def _other_length(stated: "pa.Array | None", length: Codes) -> Mask:
    """Say which rows state another length than their sequence has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if stated is None:
        return np.zeros(len(length), bool)
    stated = _trimmed(stated)
    actual = pa.array(length).cast(pa.string()).cast(pa.binary())
    same = np.asarray(pc.equal(stated, actual).fill_null(True))
    return ~same & (lengths(stated) > 0)


def digests(sequences: "pa.Array") -> "pa.Array":
    """Return a digest of each sequence; of a null that of no letters."""
    import pyarrow as pa

    digest = hashlib.blake2b
    found = b"".join(
        [digest(one or b"", digest_size=DIGEST).digest() for one in sequences.to_pylist()]
    )
    return pa.Array.from_buffers(pa.binary(DIGEST), len(sequences), [None, pa.py_buffer(found)])


def _names(column: "pa.Array | None", mask: "pa.Array") -> "pa.Array | None":
    """Return the good values of a column that the user named as text, nothing as null."""
    import pyarrow as pa

    if column is None:
        return None
    found = _trimmed(column).filter(mask).dictionary_encode()
    names = [(text or b"").decode("utf-8", "replace") for text in found.dictionary.to_pylist()]
    names_or_null = pa.array([name or None for name in names], pa.string())
    return names_or_null.take(found.indices)
