"""Dividing: the proteins of a dataset split into parts, drawn, and put into their order."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec_sweep import clustering, splits
from ec_sweep.datasets import SEED
from ec_sweep.errors import EcsweepError, plural
from ec_sweep.labelling import Array, Proteins
from ec_sweep.recipes import Drawing, Recipe
from ec_sweep.sources import Rows, Source, groups_of
from ec_sweep.splits import PARTS, Groups, Parts

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Split:
    """How proteins are divided into train, valid and test."""

    method: str = "random"
    identity: float | None = None
    """Of families that MMseqs2 finds; ``None``: those that the source names, else the default."""
    stratify: bool = True

    def __post_init__(self) -> None:
        if self.method not in splits.METHODS:
            raise EcsweepError(
                f"a split must be one of {', '.join(splits.METHODS)}. Received: {self.method!r}."
            )
        if self.identity is not None and self.method != "cluster":
            raise EcsweepError(f"an identity is for the split cluster, not for {self.method}.")
        if self.identity is not None:
            clustering.check_identity(self.identity)
        if not self.stratify and self.method == "given":
            raise EcsweepError("a given split is as it is given: it can be stratified or not.")


@dataclass(frozen=True)
class Division:
    """The proteins of each part, in its order, and what is known of their split."""

    parts: list[Rows]
    """Of each part, places among the proteins."""
    families: Groups | None
    details: dict[str, Any]
    """For the card."""


def divide(
    recipe: Recipe,
    found: Proteins,
    source: Source,
    split: Split,
    drawing: Drawing | None,
    folder: Path,
) -> Division:
    """Split the proteins and draw of each part; each ends in its fixed shuffled order.

    What MMseqs2 needs on the way is written into ``folder``. What is left out is
    counted in ``found``.
    """
    given = _given(found, source) if split.method == "given" else None
    families, details = _families(found, source, split, folder)
    groups = families
    if split.method == "identical":
        groups = splits.identical_groups(_column(source, "digest", found.rows))
        details["groups"] = int(groups.max(initial=-1)) + 1
    accessions = _whole(_column(source, "accession", found.rows))
    parts = splits.assign(
        split.method, accessions, found.labels,
        seed=SEED, groups=groups, given=given, stratify=split.stratify,
    )  # fmt: skip
    del groups, given
    _check_parts(recipe, found, source, split, parts)
    divided = []
    for number in range(len(PARTS)):
        members = np.flatnonzero(parts == number)
        drawn = _drawn(recipe, found, source, accessions, members, drawing, number)
        found.dropped["down_sampled"] += len(members) - len(drawn)
        order = splits.hashed_order(_of(accessions, drawn), SEED, "order")
        divided.append(drawn[order])
    if split.method != "random" or not split.stratify:
        details["stratify"] = split.stratify and split.method != "given"
    return Division(divided, families, details)


def _column(source: Source, name: str, rows: Rows) -> "pa.ChunkedArray":
    """Return a column of some of a source's records."""
    return source.records([name], rows)[name]


def _whole(column: "pa.ChunkedArray") -> "pa.Array":
    """Return texts in one piece, of any size: of many, Arrow would make one for every draw."""
    import pyarrow as pa

    whole = column.cast(pa.large_string()).combine_chunks()
    del column
    pa.default_memory_pool().release_unused()  # or what the pieces took would stay taken
    return whole


def _of(column: "pa.Array", rows: Rows) -> "pa.Array":
    import pyarrow as pa

    return column.take(pa.array(rows))


def _given(found: Proteins, source: Source) -> Parts:
    """Return the parts that the source names; proteins of none are left out."""
    if "part" not in source.card["columns"]:
        raise EcsweepError(
            f"{source.name}: names no parts. Import the files with --split-column COLUMN."
        )
    names = _column(source, "part", found.rows)
    named = ~np.asarray(names.is_null())
    found.keep(named, "no_part")
    where = f"{source.name}: the column {source.card['columns']['part']}"
    return splits.given_parts(names.drop_null(), where)


def _families(
    found: Proteins, source: Source, split: Split, folder: Path
) -> tuple[Groups | None, dict[str, Any]]:
    """Return the family of each protein, if any are known or wanted, and what to say of them."""
    named = "family" in source.card["columns"]
    if split.method == "cluster" and (split.identity is not None or not named):
        identity = clustering.IDENTITY if split.identity is None else split.identity
        program = clustering.find()
        digests = _column(source, "digest", found.rows)
        rows = _column(source, "row", found.rows).to_numpy()
        families = clustering.families(
            digests, _sequences(source, rows), identity, program=program, folder=folder
        )
        about = {"identity": identity, "program": f"MMseqs2 {program.version}"}
    elif named:
        families = _named_families(_column(source, "family", found.rows))
        about = {"column": source.card["columns"]["family"]}
    else:
        return None, {}
    return families, {"families": len(np.unique(families)), **about}


def _named_families(names: "pa.ChunkedArray") -> Groups:
    """Return a number for each name; a protein without one is a family of its own."""
    encoded = names.unify_dictionaries()
    indices = [np.asarray(chunk.indices.fill_null(-1)) for chunk in encoded.chunks]
    families = np.concatenate([*indices, np.empty(0, np.int64)]).astype(np.int64)
    nameless = np.flatnonzero(families < 0)
    families[nameless] = families.max(initial=-1) + 1 + np.arange(len(nameless))
    return np.unique(families, return_inverse=True)[1].astype(np.int64)


def _sequences(source: Source, rows: Rows) -> "Iterator[pa.Array]":
    """Yield sequences in the order of their rows, which grow."""
    import pyarrow as pa

    for group, first, end in groups_of(source.row_groups()):
        low, high = np.searchsorted(rows, [first, end])
        if low < high:
            yield source.sequences(group).take(pa.array(rows[low:high] - first))


def _check_parts(
    recipe: Recipe, found: Proteins, source: Source, split: Split, parts: Parts
) -> None:
    """Raise an error if a part lacks a class, where its split promises all of them."""
    if recipe.classes is None and not (split.method == "random" and split.stratify):
        return  # families and given parts are as they are: the card shows what is missing
    for number, part in enumerate(PARTS):
        counts = np.bincount(found.labels[parts == number], minlength=len(found.classes))
        for name, count in zip(found.classes, counts, strict=True):
            if not count:
                raise EcsweepError(
                    f"{source.name}: leaves no {name} for the {part} part; a dataset needs at "
                    "least 5 of each class within its limits of length."
                )


def _drawn(
    recipe: Recipe,
    found: Proteins,
    source: Source,
    accessions: "pa.Array",
    members: Rows,
    drawing: Drawing | None,
    number: int,
) -> Rows:
    """Draw of the members of a part; of train other samples are counted too."""
    labels = found.labels[members]
    if recipe.balanced:  # to the non-enzymes in the paper, of which there are fewer
        size = int(np.bincount(labels, minlength=len(found.classes)).min())
        groups = (members[labels == label] for label in range(len(found.classes)))
        return np.concatenate([_draw(accessions, group, size) for group in groups])
    size = drawing.size(number, len(members)) if drawing else len(members)
    if not 1 <= size <= len(members):
        raise EcsweepError(
            f"{source.name}: {size} {plural('sequence', size)} cannot be drawn from the "
            f"{len(members)} of {PARTS[number]}."
        )
    drawn = _draw(accessions, members, size)
    if number == 0:
        found.samples.append(counts_of(found.labels[drawn], found.classes))
        for sample in range(2, (drawing.samples if drawing else 1) + 1):
            other = _draw(accessions, members, size, sample)
            found.samples.append(counts_of(found.labels[other], found.classes))
    return drawn


def _draw(accessions: "pa.Array", members: Rows, size: int, sample: int = 1) -> Rows:
    if size >= len(members):
        return members
    return members[splits.draw(_of(accessions, members), size, SEED, sample)]


def counts_of(labels: Array, classes: list[str]) -> dict[str, int]:
    """Return how many of the labels name each class."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))
