"""Labelling: which records of a source make the classes of a dataset, and why others do not."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ec_sweep import ec
from ec_sweep.datasets import LONGEST, SHORTEST
from ec_sweep.errors import EcsweepError, plural
from ec_sweep.recipes import Label, Recipe
from ec_sweep.records import numbers_of
from ec_sweep.sources import Rows, Source

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_CLASS, _MOST_CLASSES = 100, 1000
Labels = npt.NDArray[np.int32]
Array = npt.NDArray[Any]


@dataclass
class Proteins:
    """The records of a source that have a class, and what was left out."""

    rows: Rows
    """Their places among the source's records, in order."""
    labels: Labels
    """Their classes, as places in ``classes``."""
    classes: list[str]
    all_counts: dict[str, int]
    """Proteins of every class found, those left out too."""
    dropped: Counter[str]
    cases: Counter[str]
    """What was met on the way to the classes kept."""
    samples: list[dict[str, int]] = field(default_factory=list)
    """Proteins of each class in each training sample."""

    def keep(self, kept: npt.NDArray[np.bool_], reason: str) -> None:
        """Leave proteins out for a reason."""
        self.dropped[reason] += int(np.count_nonzero(~kept))
        self.rows, self.labels = self.rows[kept], self.labels[kept]


def proteins(recipe: Recipe, source: Source) -> Proteins:
    """Filter by length and label; each distinct text of EC numbers, or class, is looked at once.

    Raises:
        EcsweepError: the classes are too few, or the source names none.
    """
    column = "ec_numbers" if recipe.label else "label"
    if not recipe.label:
        check_named(source)
    table = source.records([column, "length"]).unify_dictionaries()
    texts, codes = _codes(table[column])
    length = np.concatenate([chunk.to_numpy() for chunk in table["length"].chunks])
    del table
    short, long = length < SHORTEST, length > LONGEST
    dropped = Counter(too_short=int(short.sum()), too_long=int(long.sum()))
    fitting = ~(short | long)
    del length, short, long
    labels = [_label(recipe, text) for text in texts]
    counts = np.bincount(codes[fitting], minlength=len(texts)).tolist()
    all_counts: Counter[str] = Counter(dict.fromkeys(recipe.classes or (), 0))
    for label, count in zip(labels, counts, strict=True):
        (dropped if label.name is None else all_counts)[label.name or label.reason] += count
    if recipe.classes is None:
        in_order = ec.in_order if recipe.label else sorted
        all_counts = Counter({name: all_counts[name] for name in in_order(+all_counts)})
    classes = _classes(recipe, source, all_counts, dropped)
    place = {name: number for number, name in enumerate(classes)}
    cases: Counter[str] = Counter()
    for label, count in zip(labels, counts, strict=True):
        if label.name in place:
            cases.update(dict.fromkeys(label.cases, count))
    of_text = np.array([place.get(label.name or "", -1) for label in labels], np.int32)
    found = of_text[codes]
    found[~fitting] = -1
    rows = np.flatnonzero(found >= 0)
    return Proteins(rows, found[rows], classes, dict(all_counts), +dropped, +cases)


def check_named(source: Source) -> None:
    """Raise an error when a source names no classes of the user's own."""
    if "label" not in source.card["columns"]:
        raise EcsweepError(
            f"{source.name}: names no classes of your own. Give --class-column COLUMN where its "
            "files are read. By EC numbers ecsweep builds the datasets enzyme and ec37."
        )


def _label(recipe: Recipe, text: str) -> Label:
    """Return what a recipe makes of a text of EC numbers, or of a class as it is written."""
    if recipe.label:
        return recipe.label(numbers_of(text))
    if not text:
        return Label(None, "no_class")
    return Label(text) if _is_class(text) else Label(None, "invalid_class")


def _is_class(text: str) -> bool:
    """Say whether a class can stand in tables: in a line, and in one that is not too long."""
    return text.isprintable() and len(text) <= _LONGEST_CLASS


def _codes(column: "pa.ChunkedArray") -> tuple[list[str], Array]:
    """Return the distinct texts of a column, none as ``""``, and each row's place among them."""
    texts = [*column.chunk(0).dictionary.to_pylist(), ""]
    none = len(texts) - 1
    places = [chunk.indices.fill_null(none).to_numpy() for chunk in column.chunks]
    return texts, np.concatenate(places)


def _classes(
    recipe: Recipe, source: Source, counts: Counter[str], dropped: Counter[str]
) -> list[str]:
    """Return the classes kept; the others' proteins are dropped by reason."""
    if recipe.classes is not None:
        return list(recipe.classes)
    classes = []
    for name, count in counts.items():
        if recipe.label and "." not in name:
            dropped["main_class_only"] += count
        elif count < recipe.smallest_class:
            dropped["rare_class"] += count
        else:
            classes.append(name)
    if len(classes) < 2:
        large = f"{len(classes)} {plural('class', len(classes))}"
        raise EcsweepError(
            f"{source.name}: has {large} with at least {recipe.smallest_class} "
            f"proteins of {SHORTEST}-{LONGEST} residues; a dataset needs two. "
            f"Found: {_shown(counts)}."
        )
    if len(classes) > _MOST_CLASSES:
        raise EcsweepError(
            f"{source.name}: has {len(classes):,} classes, and a dataset at most "
            f"{_MOST_CLASSES:,}. Is it the right column? --smallest-class N leaves rare ones out."
        )
    return classes


def _shown(counts: Counter[str]) -> str:
    """Return the largest classes with their numbers of proteins."""
    largest = counts.most_common(20)
    more = f" and {len(counts) - 20:,} more" if len(counts) > 20 else ""
    return (", ".join(f"{name}: {count:,}" for name, count in largest) or "none") + more
