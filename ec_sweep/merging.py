"""Rows of the same accession made one record: EC numbers united, contradictions left out."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec_sweep.records import DIGEST, UNKNOWN, Codes, Mask, Numbers
from ec_sweep.splits import Hashes

if TYPE_CHECKING:
    import pyarrow as pa

LABEL_ROW = -1
"""Stands as length in the rows of label tables."""

ROLES = ("part", "family", "label")
"""Columns that the user may have named."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Merged:
    """What becomes of rows: the places of those kept, what they hold now, and the rest."""

    kept: Rows
    ec: Codes
    part: "pa.Array | None"
    family: "pa.Array | None"
    label: "pa.Array | None"
    dropped: Counter[str]
    examples: dict[str, str]
    """An accession that was dropped, for each reason."""


def suspects(hashes: Hashes) -> Rows:
    """Return the rows, in their order, whose accession's hash is that of another row too."""
    order = np.argsort(hashes)
    in_order = hashes[order]
    again = np.flatnonzero(in_order[1:] == in_order[:-1])
    return np.sort(order[np.union1d(again, again + 1)])


def alone(ec: Codes, length: Codes, own: Mask) -> tuple[Mask, dict[str, Mask]]:
    """Say which rows with an accession of their own are kept, and which are not by reason."""
    orphans = own & (length == LABEL_ROW)
    unlabelled = own & (ec == UNKNOWN) & ~orphans
    dropped = {"label_without_sequence": orphans, "no_label": unlabelled}
    return own & ~orphans & ~unlabelled, dropped


def merge(rows: "pa.Table", numbers: Numbers) -> Merged:
    """Make one record of the rows of each accession.

    The rows of a label table add their EC numbers to those of the sequence. An
    accession with two sequences, parts, families or classes is left out
    altogether, so that the order of rows cannot matter.

    Args:
        rows: the columns accession, ec, length and digest, and perhaps those of ROLES.
        numbers: whose codes stand in ``ec``.
    """
    accession = rows["accession"].combine_chunks().dictionary_encode()  # exact: texts, no hashes
    is_label = rows["length"].to_numpy() == LABEL_ROW
    order = np.argsort(accession.indices.to_numpy() * np.int64(2) + is_label, kind="stable")
    groups = _Groups(accession.indices.to_numpy()[order])
    is_label = is_label[order]
    digests = _words(rows["digest"])[order]
    other = (digests != digests[groups.first]).any(axis=1) & ~is_label
    ec = _united(groups, rows["ec"].to_numpy()[order], numbers)
    part, two_parts = _agreed(groups, rows, "part", order)
    family, two_families = _agreed(groups, rows, "family", order)
    label, two_classes = _agreed(groups, rows, "label", order)
    reasons = {
        "conflicting_sequences": groups.any(other),
        "conflicting_parts": two_parts,
        "conflicting_families": two_families,
        "conflicting_classes": two_classes,
        "label_without_sequence": is_label[groups.first],
        "label_joined": is_label,
        "repeated_accession": ~groups.is_first,
        "no_label": ec == UNKNOWN,
    }
    left = np.ones(len(order), bool)
    dropped: Counter[str] = Counter()
    examples = {}
    for reason, found in reasons.items():
        if len(lost := np.flatnonzero(left & found)):
            dropped[reason] = len(lost)
            examples[reason] = str(rows["accession"][int(order[lost[0]])])
        left &= ~found
    places = np.flatnonzero(left)
    places = places[np.argsort(order[places])]
    return Merged(
        kept=order[places],
        ec=ec[places],
        part=None if part is None else part.take(places),
        family=None if family is None else family.take(places),
        label=None if label is None else label.take(places),
        dropped=dropped,
        examples=examples,
    )


def taken(batches: "Iterable[pa.RecordBatch]", schema: "pa.Schema", rows: Rows) -> "pa.Table":
    """Return some rows, by their number in order, of all batches."""
    import pyarrow as pa

    found, start = [], 0
    for batch in batches:
        low, high = np.searchsorted(rows, [start, start + len(batch)])
        found.append(batch.take(pa.array(rows[low:high] - start)))
        start += len(batch)
    return pa.Table.from_batches(found, schema)


class Result:
    """The records that rows make, batch by batch, and counts of the rest."""

    def __init__(self, suspects: Rows, merged: Merged, numbers: Numbers) -> None:
        import pyarrow as pa

        self.kept = 0
        self.dropped, self.examples = Counter(merged.dropped), dict(merged.examples)
        self._suspects, self._merged = suspects, merged
        self._survivors = suspects[merged.kept]
        # Codes are as threads met the texts; on disk the order of the texts stands.
        order = sorted(range(len(numbers.texts)), key=numbers.texts.__getitem__)
        self._place = np.argsort(order).astype(np.int32)
        self._texts = pa.array([numbers.texts[code] for code in order], pa.string())

    def schema(self, rows: "pa.Schema") -> "pa.Schema":
        """Return the columns of records made of such rows."""
        import pyarrow as pa

        name = pa.dictionary(pa.int32(), pa.string())
        columns = {"accession": pa.string(), "ec_numbers": name, "length": pa.int32()}
        columns |= {"digest": pa.binary(DIGEST), "row": pa.int64()}
        return pa.schema(columns | {role: name for role in ROLES if role in rows.names})

    def records(self, batches: "Iterable[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Yield the records of each batch of rows."""
        start = 0
        for batch in batches:
            yield self._records(batch, start)
            start += len(batch)

    def _records(self, batch: "pa.RecordBatch", start: int) -> "pa.RecordBatch":
        import pyarrow as pa
        import pyarrow.compute as pc

        ec, length = batch["ec"].to_numpy().copy(), batch["length"].to_numpy()
        own = np.ones(len(batch), bool)
        own[self._within(self._suspects, start, len(batch))] = False
        keep, dropped = alone(ec, length, own)
        for reason, lost in dropped.items():
            if count := int(np.count_nonzero(lost)):
                self.dropped[reason] += count
                self.examples.setdefault(reason, str(batch["accession"][int(lost.argmax())]))
        low, high = np.searchsorted(self._survivors, [start, start + len(batch)])
        places = self._survivors[low:high] - start
        keep[places] = True
        ec[places] = self._merged.ec[low:high]
        self.kept += int(keep.sum())
        mask = pa.array(keep)
        codes = pa.array(self._place[ec[keep]])
        columns = {
            "accession": batch["accession"].filter(mask),
            "ec_numbers": pa.DictionaryArray.from_arrays(codes, self._texts),
            "length": batch["length"].filter(mask),
            "digest": batch["digest"].filter(mask),
            "row": pa.array(start + np.flatnonzero(keep)),
        }
        for role in ROLES:
            if role in batch.schema.names:
                said = getattr(self._merged, role)[low:high]
                survives = np.zeros(len(batch), bool)
                survives[places] = True
                column = pc.replace_with_mask(batch[role], pa.array(survives), said)
                columns[role] = column.filter(mask).dictionary_encode()
        return pa.record_batch(columns, schema=self.schema(batch.schema))

    @staticmethod
    def _within(rows: Rows, start: int, size: int) -> Rows:
        low, high = np.searchsorted(rows, [start, start + size])
        return rows[low:high] - start


class _Groups:
    """Rows sorted by their group: the first of a group and its number, for each row."""

    def __init__(self, keys: Codes) -> None:
        self.is_first: Mask = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        self.starts = np.flatnonzero(self.is_first)
        self.number = np.cumsum(self.is_first) - 1
        self.first = self.starts[self.number]

    def any(self, found: Mask) -> Mask:
        """Say of each row whether ``found`` holds for one of its group."""
        anywhere = np.bincount(self.number, found, len(self.starts)) > 0
        return np.asarray(anywhere[self.number])

    def distinct(self, codes: Codes) -> tuple[Rows, Rows]:
        """Return groups and codes, each pair that occurs once, in order; unknown ones left out."""
        known = codes != UNKNOWN
        pairs = np.unique(self.number[known] << np.int64(32) | codes[known])
        return pairs >> np.int64(32), pairs & np.int64(2**32 - 1)


def _united(groups: _Groups, codes: Codes, numbers: Numbers) -> Codes:
    """Return of each row the code of all EC numbers of its group."""
    group, code = groups.distinct(codes)
    place = np.arange(len(group)) - np.searchsorted(group, group)  # of a code in its group
    united = np.full(len(groups.starts), UNKNOWN, np.int32)
    for turn in range(int(place.max(initial=-1)) + 1):
        now = np.flatnonzero(place == turn)
        pairs = np.stack([united[group[now]], code[now]], axis=1)
        found, of_row = np.unique(pairs, axis=0, return_inverse=True)
        unions = [numbers.union(one, other) for one, other in found.tolist()]
        united[group[now]] = np.array(unions, np.int32)[of_row]
    return np.asarray(united[groups.number])


def _agreed(
    groups: _Groups, rows: "pa.Table", name: str, order: Rows
) -> "tuple[pa.Array | None, Mask]":
    """Return of each row what its group says in a column, and whether it says two things."""
    import pyarrow as pa

    if name not in rows.column_names:
        return None, np.zeros(len(order), bool)
    encoded = rows[name].combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(UNKNOWN).to_numpy()[order]
    group, code = groups.distinct(codes)
    said = np.full(len(groups.starts), UNKNOWN, np.int64)
    said[group[::-1]] = code[::-1]
    counts = np.bincount(group, minlength=len(groups.starts))
    of_row = said[groups.number]
    places = pa.array(of_row, mask=of_row == UNKNOWN)
    return encoded.dictionary.take(places), counts[groups.number] > 1


def _words(digests: "pa.ChunkedArray") -> npt.NDArray[np.uint64]:
    """Return digests as two words each."""
    column = digests.combine_chunks()
    words = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, DIGEST // 8)
    return words[column.offset : column.offset + len(column)]
