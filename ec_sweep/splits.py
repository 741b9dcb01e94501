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
        yield some if isinstance(some, np.ndarray) else np.array(some.to_pylist(), dtype=object)


def hashed_order(accessions: "Column | Strings", seed: int, purpose: str) -> Indices:
    """Return the indices that put the accessions into a fixed shuffled order."""
    return _order(accessions, hashes(accessions, seed, purpose))


def _order(accessions: "Column | Strings", keys: Hashes) -> Indices:
    """Return the order of the hashes, equal ones by accession: rows' order cannot matter."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    tied = in_order[1:] == in_order[:-1]
    if not tied.any():
        return order
    places = np.flatnonzero(np.append(tied, False) | np.append(False, tied))  # rare, and few
    rows = order[places]
    text = [str(accessions[int(row)]) for row in rows]
    order[places] = rows[sorted(range(len(rows)), key=lambda i: (int(keys[rows[i]]), text[i]))]
    return order


def draw(accessions: "Column | Strings", size: int, seed: int, sample: int = 1) -> Indices:
    """Draw ``size`` of the accessions at random; all of them when there are no more.

    Samples of different numbers are independent of each other.
    """
    purpose = "draw" if sample == 1 else f"draw-{sample}"
    return hashed_order(accessions, seed, purpose)[:size]


def split(accessions: "Column | Strings", seed: int) -> dict[str, Indices]:
    """Split one class 6:2:2; returns the indices of each part."""
    order = hashed_order(accessions, seed, "split")
    train, valid, _ = _targets(len(order))
    return dict(zip(PARTS, np.split(order, [train, train + valid]), strict=True))


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
    takes ``given``. ``stratify=False`` splits all classes together.

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
        order = _order(accessions, keys)
        if method == "random":
            parts = _by_rows(order, labels)
        elif groups is not None:
            parts = _by_groups(order, keys, labels, groups)
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


def _by_rows(order: Indices, labels: Labels) -> Parts:
    """Split each class 6:2:2, protein by protein."""
    parts = np.empty(len(order), np.int8)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        parts[rows] = np.repeat(np.arange(len(PARTS), dtype=np.int8), _targets(len(rows)))
    return parts


def _by_groups(order: Indices, keys: Hashes, labels: Labels, groups: Groups) -> Parts:
    """Split each class as near to 6:2:2 as whole groups allow."""
    _, first, number = np.unique(groups[order], return_index=True, return_inverse=True)
    keys_of_groups = _mixed(keys[order][first])[number]
    parts = np.empty(len(order), np.int8)
    parts[order] = np.searchsorted([0.6 * 2**64, 0.8 * 2**64], keys_of_groups.astype(float))
    return parts


def _mixed(keys: Hashes) -> Hashes:
    """Return other keys made of keys, independent of their size."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def identical_groups(digests: "Column") -> Groups:
    """Return a number for each row, the same where the digests (16 bytes each) are the same."""
    return np.unique(np.array(digests.to_pylist()), return_inverse=True)[1].astype(np.int64)


def given_parts(names: "Column", where: str) -> Parts:
    """Return the parts that a column names; ``where`` says in errors which column it is.

    Raises:
        EcsweepError: a name is none of a part.
    """
    found = [str(name).strip().lower() for name in names.to_pylist()]
    unknown = sorted(set(found) - set(_NAMES))
    if unknown:
        raise EcsweepError(f"{where}: unknown parts {', '.join(map(printable, unknown[:5]))}.")
    return np.array([_NAMES[name] for name in found], np.int8)


def shared(groups: Groups, parts: Parts) -> int:
    """Count the test proteins whose group has a member in train: those a model may have seen.

    With `identical_groups` these are the test sequences that stand in train letter
    by letter. Rows of no part (-1: not drawn) count nowhere.
    """
    seen = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    seen[groups[parts == PARTS.index("train")]] = True
    return int(seen[groups[parts == PARTS.index("test")]].sum())
