"""Datasets: named by their content, mapped by every worker; `ec_sweep.building` makes them."""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep import cards, hints
from ec_sweep.errors import EcsweepError, nearest, plural
from ec_sweep.paths import Home, file_digest, packed
from ec_sweep.recipes import RECIPES
from ec_sweep.splits import PARTS

SHORTEST, LONGEST = 50, 1000
"""Residues of the sequences kept (paper 3.1)."""
SEED = 0
"""Of every split and draw; a study's seeds never touch it."""
_FORMAT = 1
ROWS_AT_ONCE = 10_000
"""Rows of tokens held in memory at a time."""
_CARD_KEYS = {
    "name", "fingerprint", "source", "source_sha256", "embedded", "created", "filters", "split",
    "seed", "classes", "sizes", "class_counts", "dropped", "records_in", "records_kept",
    "test_sequences_also_in_train",
}  # fmt: skip
SAMPLE = "swissprot-sample.tsv.gz"
_OWN_NAME, _TAKEN = re.compile(r"[a-z0-9-]{1,100}"), ("sources", "downloads")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """A built dataset: its folder and its card."""

    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.card["name"])

    @property
    def fingerprint(self) -> str:
        """Sha256 over the full content, 64 hex digits."""
        return str(self.card["fingerprint"])

    @property
    def embedded(self) -> bool:
        """Whether it was built from the sample that comes with ecsweep."""
        return bool(self.card["embedded"])

    @cached_property
    def length(self) -> int:
        """Columns of the token arrays: the longest ``length`` that a cell can ask for."""
        return int(self.array("train", "tokens").shape[1])

    def array(self, part: str, kind: str) -> Array:
        """Map ``tokens`` uint8[n, length], ``labels`` int32[n] or ``ids`` str[n] of a part."""
        try:
            mapped: Array = np.load(self.folder / f"{part}_{kind}.npy", mmap_mode="r")
            return mapped
        except (OSError, ValueError, EOFError) as error:
            raise EcsweepError(
                f"{self.folder} is damaged ({error}). Remove the folder and build it again."
            ) from error

    def sizes(self, train_size: int | None) -> dict[str, int]:
        """Return how many sequences of each part are used with ``train_size`` in training.

        Every part is stored in a fixed shuffled order, of which the first are
        taken; validation and test shrink in proportion.
        """
        sizes: dict[str, int] = self.card["sizes"]
        if train_size is None:
            return dict(sizes)
        share = train_size / sizes["train"]
        return {part: max(1, round(share * size)) for part, size in sizes.items()}

    def check(self, length: int, train_size: int | None) -> str | None:
        """Return why a cell cannot be trained on this dataset, ``None`` when it can."""
        if length > self.length:
            residues = f"{self.length} {plural('residue', self.length)}"
            return f"length {length} is larger than the {residues} of {self.name}"
        largest = self.card["sizes"]["train"]
        if train_size is not None and train_size > largest:
            sequences = f"{largest} {plural('sequence', largest)}"
            return f"train_size {train_size} is larger than the {sequences} of {self.name}"
        classes = len(self.card["classes"])
        smallest = min(self.card["sizes"].values())
        if train_size is not None and min(self.sizes(train_size).values()) < classes <= smallest:
            return (
                f"train_size {train_size} leaves parts of {self.name} with fewer sequences than "
                f"its {classes} classes: take at least {math.ceil(classes * largest / smallest)}"
            )
        return None


def names(home: Home) -> list[str]:
    """Return the names of ecsweep's datasets, and of those with classes of the user's own."""
    folders = {card.parents[1].name for card in home.data.glob("*/*/dataset.json")}
    return [*RECIPES, *sorted(folders - RECIPES.keys())]


def find(home: Home, name: str) -> list[Dataset]:
    """Return the built datasets of a name, oldest first."""
    return _oldest_first(map(read, _folders(home, name)))


def built(home: Home) -> list[Dataset]:
    """Return every built dataset, by name and then oldest first."""
    return [dataset for name in names(home) for dataset in find(home, name)]


def readable(home: Home) -> list[Dataset]:
    """Return every built dataset, by name and then oldest first, but those that are damaged."""
    found = []
    for name in names(home):
        own = []
        for folder in _folders(home, name):
            with contextlib.suppress(EcsweepError):
                own.append(read(folder))
        found += _oldest_first(own)
    return found


def verify_all(home: Home) -> dict[Path, str | None]:
    """Return what is wrong with each dataset's folder, ``None`` where nothing is."""
    found: dict[Path, str | None] = {}
    for folder in (folder for name in names(home) for folder in _folders(home, name)):
        try:
            found[folder] = verify(read(folder))
        except EcsweepError as error:  # its card
            found[folder] = str(error)
    return found


def _folders(home: Home, name: str) -> list[Path]:
    return [card.parent for card in sorted((home.data / name).glob("*/dataset.json"))]


def _oldest_first(found: Iterable[Dataset]) -> list[Dataset]:
    return sorted(found, key=lambda dataset: str(dataset.card["created"]))


def named(home: Home, name: str) -> list[Dataset]:
    """Return the built datasets of a name, oldest first, or those that a fingerprint begins."""
    matching = [d for d in built(home) if d.name == name or d.fingerprint.startswith(name)]
    if not matching:
        check_name(name, names(home))
        raise EcsweepError(
            f"the dataset {name} is not built. "
            f"Build it with: {hints.command('data', 'build', name, '--from', 'FILE.tsv.gz')}"
        )
    return matching


def for_scale(home: Home, name: str, scale: str, split: str = "random") -> Dataset | None:
    """Return the dataset that a study of this scale and split uses, ``None`` if it is not built.

    Demo uses the embedded sample, paper the newest dataset built from a file.
    """
    check_name(name, names(home))
    if scale == "demo" and name not in RECIPES:
        raise EcsweepError(
            f"the dataset {name} is of your own proteins, and demo scale trains on the embedded "
            "sample alone. Give --scale paper."
        )
    found = [dataset for dataset in find(home, name) if dataset.card["split"] == split]
    wanted = [dataset for dataset in found if dataset.embedded == (scale == "demo")]
    if scale == "demo":
        digest = file_digest(packed("data") / SAMPLE)
        wanted = [dataset for dataset in wanted if dataset.card["source_sha256"] == digest]
    return wanted[-1] if wanted else None


def how_to_train(built: Sequence[str]) -> str:
    """Say what trains on built datasets; no study of ecsweep's does on one of the user's own."""
    if not RECIPES.keys().isdisjoint(built):
        return hints.command("study", "STUDY", scale="paper")
    command = hints.command("study", "FILE", scale="paper")
    return f"a sweep with dataset: {built[0]}, then: {command}"


def check_name(name: str, known: Iterable[str] = tuple(RECIPES)) -> None:
    """Raise an error that lists the datasets when there is none of this name."""
    allowed = list(known)
    if name not in allowed:
        own = hints.command("data", "build", "NAME", "--from", "FILE", "--class-column", "C")
        raise EcsweepError(
            f"no dataset is named {name!r}.{nearest(name, allowed)} Allowed: {', '.join(allowed)}. "
            f"With classes of your own: {own}"
        )


def is_misspelt(name: str) -> bool:
    """Say whether a name is nearly that of a dataset of ecsweep's, or nothing like a name."""
    import difflib

    small = name.lower()
    if re.fullmatch(r"ec-?\d*", small) or not re.fullmatch(r"[\w .-]+", name):
        return True
    return bool(difflib.get_close_matches(small, RECIPES, cutoff=0.7))


def check_own_name(name: str) -> None:
    """Raise an error when a dataset with classes of the user's own cannot be named so."""
    if not _OWN_NAME.fullmatch(name) or name in _TAKEN:
        raise EcsweepError(
            "a dataset's name must be of lower-case letters, digits and hyphens, 100 at most, and "
            f"not {' or '.join(_TAKEN)}. Received: {name[:120]!r}."
        )


def verify(dataset: Dataset) -> str | None:
    """Recompute the fingerprint; returns what is wrong, ``None`` when the content is intact."""
    try:
        actual = content_fingerprint(dataset.folder, dataset.card)
    except (OSError, ValueError, EOFError) as error:
        return f"its arrays cannot be read ({error})"
    if actual != dataset.fingerprint:
        return (
            f"its content has the fingerprint {actual}, not the {dataset.fingerprint} of its card"
        )
    if dataset.folder.name != actual:
        return f"its folder is named {dataset.folder.name}, not {actual}"
    return None


def read(folder: Path) -> Dataset:
    """Return the dataset in a folder, from its card."""
    cure = "Remove the folder and build the dataset again."
    return Dataset(folder, cards.read(folder / "dataset.json", _CARD_KEYS, "dataset", cure))


def content_fingerprint(folder: Path, card: dict[str, Any]) -> str:
    """Return sha256 over classes, filters, split and every array of the dataset."""
    content = hashlib.sha256()
    keys = ("name", "embedded", "classes", "filters", "split", "seed")
    head = {key: card[key] for key in keys}
    content.update(json.dumps({"format": _FORMAT, **head}, sort_keys=True).encode())
    for part in PARTS:
        ids = np.load(folder / f"{part}_ids.npy")
        content.update("\n".join(ids).encode())
        labels = np.load(folder / f"{part}_labels.npy")
        content.update(labels.astype("<i4").tobytes())
        tokens = np.load(folder / f"{part}_tokens.npy", mmap_mode="r")
        content.update(repr((labels.shape, tokens.shape)).encode())
        for rows in _chunks(tokens):
            content.update(np.ascontiguousarray(rows).data)
    return content.hexdigest()


def _chunks(array: Array) -> Iterator[Array]:
    for start in range(0, len(array), ROWS_AT_ONCE):
        yield array[start : start + ROWS_AT_ONCE]
