"""Which part a protein falls into: keyed hashes of accessions, never their order.

A protein's place depends on its accession, its class, its group (where groups
stay together) and the seed alone, so the order of rows and the number of
threads cannot matter.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ec_sweep.errors import EcsweepError, printable

if TYPE_CHECKING:
    import pyarrow as pa

    Column: TypeAlias = pa.Array | pa.ChunkedArray

PARTS = ("train", "valid", "test")
SHARES = (0.6, 0.2)  # train, valid; test is the rest (paper 3.1: 6:2:2)
METHODS = ("random", "identical", "cluster", "given")

Strings = npt.NDArray[np.object_]
Indices = npt.NDArray[np.intp]
Hashes = npt.NDArray[np.uint64]
Labels = npt.NDArray[np.integer[Any]]
Groups = npt.NDArray[np.int64]
Parts = npt.NDArray[np.int8]
"""The part of each protein as its place in `PARTS`."""

_NAMES = {
    "train": 0, "training": 0,
    "valid": 1, "validation": 1, "val": 1, "dev": 1,
    "test": 2, "testing": 2,
}  # fmt: skip
_LAST = np.iinfo(np.uint64).max
_AT_ONCE = 1 << 16  # accessions that stand in memory as Python strings
_ONE_BY_ONE = 300  # groups of a class, the largest, that are placed one by one


def hashes(accessions: "Column | Strings", seed: int, purpose: str) -> Hashes:
    """Return a keyed hash of each accession; purposes are independent of each other."""
    import pandas as pd

    key = hashlib.sha256(f"{purpose}:{seed}".encode()).hexdigest()[:16]
    out = np.empty(len(accessions), np.uint64)
    start = 0
    for some in _batches(accessions):
        out[start : start + len(some)] = pd.util.hash_array(some, hash_key=key, categorize=False)
        start += len(some)
    return out


def _batches(accessions: "Column | Strings") -> Iterator[Strings]:
    """Yield the accessions as Python strings, not many at a time."""
    for start in range(0, len(accessions), _AT_ONCE):
        some = accessions[start : start + _AT_ONCE]
        yield some if isinstance(some, np.ndarray) else some.to_numpy(zero_copy_only=False)


def hashed_order(accessions: "Column | Strings", seed: int, purpose: str) -> Indices:
    """Return the indices that put the accessions into a fixed shuffled order."""
    keys = hashes(accessions, seed, purpose)
    order = np.argsort(keys)
    return np.argsort(keys) if _untie(keys, keys[order], accessions) else order


def _untie(keys: Hashes, in_order: Hashes, accessions: "Column | Strings") -> bool:
    """Count equal keys up by accession, so that rows' order cannot matter; say if there are any."""
    tied = in_order[1:][_equal_to_next(in_order)]
    if not len(tied):
        return False
    rows = np.flatnonzero(np.isin(keys, tied))  # rare, and few
    rows = rows[np.argsort([str(accessions[int(row)]) for row in rows])]
    keys[rows] += np.arange(len(rows), dtype=np.uint64)
    return True


def draw(accessions: "Column | Strings", size: int, seed: int, sample: int = 1) -> Indices:
    """Draw ``size`` of the accessions at random; all of them when there are no more.

    Samples of different numbers are independent of each other.
    """
    purpose = "draw" if sample == 1 else f"draw-{sample}"
    return hashed_order(accessions, seed, purpose)[:size]


def assign(
    method: str,
    accessions: "Column | Strings",
    labels: Labels,
    *,
    seed: int,
    groups: Groups | None = None,
    given: Parts | None = None,
    stratify: bool = True,
) -> Parts:
    """Return the part of each protein, as its place in `PARTS`.

    ``random`` splits each class 6:2:2. ``identical`` and ``cluster`` keep each
    group of ``groups`` on one side and come as near to 6:2:2 as groups allow,
    in each class by the class that most of a group's members have. ``given``
    takes ``given``. Groups are any numbers from 0 that a table can be as long as.
    ``stratify=False`` splits all classes together.

    Raises:
        EcsweepError: a part stays empty.
    """
    if method == "given":
        if given is None:
            raise AssertionError("a given split needs its parts")
        parts = given
    else:
        labels = labels if stratify else np.zeros_like(labels)
        keys = hashes(accessions, seed, "split")
        _untie(keys, np.sort(keys), accessions)
        if method == "random":
            parts = _by_rows(keys, labels)
        elif groups is not None:
            parts = _by_groups(keys, labels, groups)
        else:
            raise AssertionError(f"a split by {method} needs groups")
    sizes = np.bincount(parts, minlength=len(PARTS))
    if not sizes.all():
        empty = " and ".join(part for part, size in zip(PARTS, sizes, strict=True) if not size)
        raise EcsweepError(
            f"split {method} of {len(parts):,} proteins leaves nothing for {empty}. "
            f"{_CURES.get(method, 'Use more proteins.')}"
        )
    return parts


_CURES = {
    "identical": "Use more proteins of different sequences, or --split random.",
    "cluster": "There are too few families: use more proteins, or a higher --identity.",
    "given": "Give train, valid and test to at least one protein each.",
}


def _targets(total: int) -> tuple[int, int, int]:
    train, valid = (round(share * total) for share in SHARES)
    return train, valid, total - train - valid


def _by_rows(keys: Hashes, labels: Labels) -> Parts:
    """Split each class 6:2:2, protein by protein."""
    parts = np.empty(len(keys), np.int8)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        own = keys[rows]
        train, valid, _ = _targets(len(rows))
        ends = (train, train + valid)
        first_of_valid, first_of_test = np.partition(np.append(own, _LAST), ends)[[*ends]]
        parts[rows] = (own >= first_of_valid).astype(np.int8) + (own >= first_of_test)
    return parts


def _by_groups(keys: Hashes, labels: Labels, groups: Groups) -> Parts:
    """Split each class as near to 6:2:2 as whole groups allow.

    A group's place comes from the smallest key among its proteins.
    """
    sizes = np.bincount(groups)
    group_keys = np.full(len(sizes), _LAST)
    np.minimum.at(group_keys, groups, keys)
    group_keys = _mixed(group_keys)
    classes = _majorities(groups, labels, len(sizes))
    parts = np.empty(len(sizes), np.int8)
    for label in np.unique(labels):
        chosen = np.flatnonzero((classes == label) & (sizes > 0))
        parts[chosen] = _placed(sizes[chosen], group_keys[chosen])
    return parts[groups]


def _mixed(keys: Hashes) -> Hashes:
    """Return new keys made of keys (splitmix64).

    The smallest hash of a large group is smaller than that of a small one, so it
    cannot be the key itself: large groups would come first.
    """
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def _majorities(groups: Groups, labels: Labels, size: int) -> Labels:
    """Return the class that most members of each group have, the first of equals."""
    classes = np.zeros(size, np.int32)
    most = np.zeros(size, np.int32)
    for label in np.unique(labels):
        counts = np.bincount(groups[labels == label], minlength=size)
        more = counts > most
        classes[more] = label
        most[more] = counts[more]
    return classes


def _placed(sizes: Indices, keys: Hashes) -> Parts:
    """Return the part of each group of a class.

    The largest groups choose one by one, by chance among the parts that have room
    for them; the many small ones then fill the room left, in a shuffled order. No
    group takes more than half of valid or test while train has room, and three
    groups are enough for no part to stay empty.
    """
    targets = np.array(_targets(int(sizes.sum())))
    parts = np.empty(len(sizes), np.int8)
    room = targets.copy()
    many = len(sizes) > _ONE_BY_ONE
    small = np.partition(sizes, -_ONE_BY_ONE)[-_ONE_BY_ONE] if many else 0
    largest = np.flatnonzero(sizes > small)
    largest = largest[np.lexsort((keys[largest], -sizes[largest]))]
    chances = (_mixed(keys[largest]) >> np.uint64(11)) / 2.0**53  # below 1
    for place, group in enumerate(largest):
        part = _chosen(int(sizes[group]), room, targets, len(sizes) - place, chances[place])
        room[part] -= sizes[group]
        parts[group] = part
    rest = np.flatnonzero(sizes <= small)
    if len(rest):
        rest = rest[np.argsort(keys[rest])]
        ends = np.cumsum(sizes[rest])
        left = np.maximum(room, 0)
        cuts = np.cumsum(left)[:-1] * (ends[-1] / left.sum())
        parts[rest] = np.searchsorted(cuts, ends - sizes[rest] / 2, side="right")
    return parts


def _chosen(size: int, room: Indices, targets: Indices, groups_left: int, chance: float) -> int:
    """Return the part that a group of a class falls into."""
    empty = room == targets
    if empty.sum() >= groups_left:
        return int(np.flatnonzero(empty)[np.argmax(room[empty])])
    fits = (room >= size) & (size <= targets * (1, 0.5, 0.5))
    if not fits.any():
        return int(np.argmax(room))
    shares = np.cumsum(np.where(fits, room, 0))
    return int(np.searchsorted(shares, chance * shares[-1], side="right"))


def identical_groups(digests: "Column") -> Groups:
    """Return for each row the place of its digest (16 bytes) among the sorted distinct ones."""
    import pyarrow as pa

    whole = digests.combine_chunks() if isinstance(digests, pa.ChunkedArray) else digests
    if not len(whole):
        return np.empty(0, np.int64)
    raw = np.frombuffer(whole.buffers()[1], np.uint64)[2 * whole.offset :][: 2 * len(whole)]
    high, low = raw[::2].byteswap(), raw[1::2]
    order = np.argsort(high)
    same = _equal_to_next(high[order])
    if (same & ~_equal_to_next(low[order])).any():  # as good as never
        order = np.lexsort((low.byteswap(), high))
        same = _equal_to_next(high[order]) & _equal_to_next(low[order])
    groups = np.empty(len(whole), np.int64)
    groups[order[0]] = 0
    groups[order[1:]] = np.cumsum(~same)
    return groups


def _equal_to_next(values: Hashes) -> npt.NDArray[np.bool_]:
    equal: npt.NDArray[np.bool_] = values[:-1] == values[1:]
    return equal


def given_parts(names: "Column", where: str) -> Parts:
    """Return the parts that a column names; ``where`` says in errors which column it is.

    Raises:
        EcsweepError: a name is none of a part.
    """
    import pyarrow as pa

    whole = names.combine_chunks() if isinstance(names, pa.ChunkedArray) else names
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    values = [
        v.decode(errors="replace") if isinstance(v, bytes) else v
        for v in whole.dictionary.to_pylist()
    ]
    codes = np.array([_NAMES.get(v.strip().lower(), -1) for v in values] + [-1], np.int8)
    indices = whole.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    parts: Parts = codes[indices]
    if (parts < 0).any():
        counts = np.bincount(indices, minlength=len(codes))
        shown = [f"{v!r} ({n:,})" for v, n in zip([*values, ""], counts, strict=True) if n]
        raise EcsweepError(
            f"{where} must name a part in every row: train, valid (validation, val, dev) or test. "
            f"Found: {printable(', '.join(shown[:8]))}{', …' * (len(shown) > 8)}."
        )
    return parts


def shared(groups: Groups, parts: Parts) -> int:
    """Count the test proteins whose group has a member in train: those a model may have seen.

    With `identical_groups` these are the test sequences that stand in train letter
    by letter. Rows of no part (-1: not drawn) count nowhere.
    """
    seen = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    seen[groups[parts == PARTS.index("train")]] = True
    return int(seen[groups[parts == PARTS.index("test")]].sum())
