"""Datasets: built once from records, named by their content, mapped by every worker."""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep import encoding, records, splits
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.paths import Home, packed, write_atomically
from ec_sweep.records import Record
from ec_sweep.splits import PARTS

SHORTEST, LONGEST = 50, 1000
"""Residues of the sequences kept (paper 3.1)."""
SEED = 0
"""Of every split and draw; a study's seeds never touch it."""
_FORMAT = 1
_ROWS_AT_ONCE = 10_000
_CARD_KEYS = {
    "name", "fingerprint", "source", "source_sha256", "embedded", "created", "filters", "split",
    "seed", "classes", "sizes", "class_counts", "dropped", "records_in", "records_kept",
    "test_sequences_also_in_train",
}  # fmt: skip
SAMPLE = "swissprot-sample.tsv.gz"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """How records become the classes of a dataset."""

    classes: tuple[str, ...]
    label: Callable[[Record], int]
    balanced_to: int | None = None
    """The class to whose number the others are down-sampled in each part."""


RECIPES = {
    # Paper 3.1, dataset 1: both groups split 6:2:2, then enzymes drawn down to the non-enzymes.
    "enzyme": Recipe(("non-enzyme", "enzyme"), lambda record: bool(record.ec_numbers), 0),
}


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
            return np.load(self.folder / f"{part}_{kind}.npy", mmap_mode="r")  # type: ignore[no-any-return]
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
            return f"length {length} is larger than the {self.length} residues of {self.name}"
        largest = self.card["sizes"]["train"]
        if train_size is not None and train_size > largest:
            return f"train_size {train_size} is larger than the {largest} sequences of {self.name}"
        return None


def find(home: Home, name: str) -> list[Dataset]:
    """Return the built datasets of a name, oldest first."""
    found = [_read(card.parent) for card in (home.data / name).glob("*/dataset.json")]
    return sorted(found, key=lambda dataset: str(dataset.card["created"]))


def built(home: Home) -> list[Dataset]:
    """Return every built dataset, by name and then oldest first."""
    return [dataset for name in RECIPES for dataset in find(home, name)]


def get(home: Home, name: str) -> Dataset:
    """Return a built dataset by name (the newest) or by the start of its fingerprint."""
    matching = [d for d in built(home) if d.name == name or d.fingerprint.startswith(name)]
    if not matching:
        check_name(name)
        raise EcsweepError(
            f"the dataset {name} is not built. "
            f"Build it with: ecsweep data build {name} --from FILE.tsv.gz"
        )
    return matching[-1]


def for_scale(home: Home, name: str, scale: str) -> Dataset | None:
    """Return the dataset that a study of this scale uses, ``None`` while it is not built.

    Demo uses the embedded sample, paper the newest dataset built from a file.
    """
    check_name(name)
    wanted = [dataset for dataset in find(home, name) if dataset.embedded == (scale == "demo")]
    if scale == "demo":
        digest = _digest(packed("data") / SAMPLE)
        wanted = [dataset for dataset in wanted if dataset.card["source_sha256"] == digest]
    return wanted[-1] if wanted else None


def check_name(name: str) -> None:
    """Raise an error that lists the datasets when there is none of this name."""
    if name not in RECIPES:
        raise EcsweepError(
            f"no dataset is named {name!r}.{nearest(name, RECIPES)} Allowed: {', '.join(RECIPES)}."
        )


def build_embedded(home: Home, name: str) -> Dataset:
    """Build a dataset from the sample that comes with ecsweep."""
    return build(home, name, packed("data") / SAMPLE, embedded=True)


def build(home: Home, name: str, source: Path, *, embedded: bool = False) -> Dataset:
    """Build a dataset from a TSV file of proteins; the same content is built once.

    It is made aside and renamed when complete, so that a failure leaves nothing
    behind and a running study keeps the one it maps.

    Raises:
        EcsweepError: the file cannot be used, or leaves a class or a part empty.
    """
    from filelock import FileLock

    check_name(name)
    recipe = RECIPES[name]
    found, rows, dropped = records.read(source)
    parts = _parts(recipe, found, dropped, source)
    kept = sum(len(members) for members in parts.values())
    if rows != kept + dropped.total():
        raise AssertionError(f"{rows} rows in, {kept} kept and {dropped.total()} dropped")
    folder = home.data / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for stale in folder.glob(".building-*"):  # we hold the lock: its builder is gone
            shutil.rmtree(stale)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=".building-"))
        try:
            _write_arrays(aside, parts)
            card = _card(name, recipe, parts, rows, dropped, source, embedded)
            card["test_sequences_also_in_train"] = _leaked(parts)
            card["fingerprint"] = _fingerprint(aside, card)
            write_atomically(aside / "dataset.json", json.dumps(card, indent=2) + "\n")
            final = folder / str(card["fingerprint"])
            if final.exists():  # the same content: only its card is new
                (aside / "dataset.json").replace(final / "dataset.json")
            else:
                aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return _read(final)


def verify(dataset: Dataset) -> str | None:
    """Recompute the fingerprint; returns what is wrong, ``None`` when the content is intact."""
    try:
        actual = _fingerprint(dataset.folder, dataset.card)
    except (OSError, ValueError, EOFError) as error:
        return f"its arrays cannot be read ({error})"
    if actual != dataset.fingerprint:
        return (
            f"its content has the fingerprint {actual}, not the {dataset.fingerprint} of its card"
        )
    if dataset.folder.name != actual:
        return f"its folder is named {dataset.folder.name}, not {actual}"
    return None


def _read(folder: Path) -> Dataset:
    try:
        card = json.loads((folder / "dataset.json").read_text())
        missing = sorted(_CARD_KEYS - card.keys())
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, ValueError, AttributeError) as error:
        raise EcsweepError(
            f"{folder / 'dataset.json'}: not the card of a dataset ({error}). "
            "Remove the folder and build the dataset again."
        ) from error
    return Dataset(folder, card)


@dataclass(frozen=True)
class _Member:
    record: Record
    label: int


def _parts(
    recipe: Recipe, found: list[Record], dropped: Counter[str], source: Path
) -> dict[str, list[_Member]]:
    """Filter, label, split and draw; every part ends in its fixed shuffled order."""
    groups: dict[int, list[Record]] = {label: [] for label in range(len(recipe.classes))}
    for record in found:
        if len(record.sequence) < SHORTEST:
            dropped["too_short"] += 1
        elif len(record.sequence) > LONGEST:
            dropped["too_long"] += 1
        else:
            groups[recipe.label(record)].append(record)
    in_parts: dict[str, dict[int, list[Record]]] = {part: {} for part in PARTS}
    for label, group in groups.items():
        for part, indices in splits.split(_accessions(group), SEED).items():
            in_parts[part][label] = [group[index] for index in indices]
    parts = {}
    for part, by_label in in_parts.items():
        if recipe.balanced_to is not None:
            size = len(by_label[recipe.balanced_to])
            for label, group in by_label.items():
                drawn = splits.draw(_accessions(group), size, SEED)
                dropped["down_sampled"] += len(group) - len(drawn)
                by_label[label] = [group[index] for index in drawn]
        members = [_Member(record, label) for label, group in by_label.items() for record in group]
        order = splits.hashed_order(_accessions([m.record for m in members]), SEED, "order")
        parts[part] = [members[index] for index in order]
        for label, class_name in enumerate(recipe.classes):
            if not by_label[label]:
                raise EcsweepError(
                    f"{source}: leaves no {class_name} for the {part} part; "
                    f"a dataset needs at least 5 of each class with {SHORTEST}-{LONGEST} residues."
                )
    return {part: parts[part] for part in PARTS}


def _accessions(group: list[Record]) -> splits.Strings:
    return np.array([record.accession for record in group], dtype=object)


def _write_arrays(folder: Path, parts: dict[str, list[_Member]]) -> None:
    for part, members in parts.items():
        ids = np.array([member.record.accession for member in members], "U")
        labels = np.array([member.label for member in members], np.int32)
        _save(folder / f"{part}_ids.npy", ids.dtype, ids.shape, [ids])
        _save(folder / f"{part}_labels.npy", labels.dtype, labels.shape, [labels])
        shape = (len(members), LONGEST)
        _save(folder / f"{part}_tokens.npy", np.dtype(np.uint8), shape, _encoded(members))


def _encoded(members: list[_Member]) -> Iterator[Array]:
    """Yield the tokens of the members, some rows at a time."""
    for start in range(0, len(members), _ROWS_AT_ONCE):
        some = members[start : start + _ROWS_AT_ONCE]
        tokens = np.empty((len(some), LONGEST), np.uint8)
        encoding.encode([member.record.sequence for member in some], tokens)
        yield tokens


def _save(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], chunks: Iterable[Array]
) -> None:
    """Write a .npy file by plain writes: NumPy's own, and mapped ones, hide a full disk."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)


def _card(
    name: str,
    recipe: Recipe,
    parts: dict[str, list[_Member]],
    rows: int,
    dropped: Counter[str],
    source: Path,
    embedded: bool,
) -> dict[str, Any]:
    counts = {part: Counter(m.label for m in members) for part, members in parts.items()}
    return {
        "name": name,
        "fingerprint": "",
        "source": f"{source.name} ({'embedded sample' if embedded else 'file'})",
        "source_sha256": _digest(source),
        "embedded": embedded,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "filters": {"shortest": SHORTEST, "longest": LONGEST, "other_letters": "X"},
        "split": "random",
        "seed": SEED,
        "classes": list(recipe.classes),
        "sizes": {part: len(members) for part, members in parts.items()},
        "class_counts": {
            part: {name: counts[part][label] for label, name in enumerate(recipe.classes)}
            for part in PARTS
        },
        "dropped": dict(sorted((reason, n) for reason, n in dropped.items() if n)),
        "records_in": rows,
        "records_kept": sum(len(members) for members in parts.values()),
    }


def _leaked(parts: dict[str, list[_Member]]) -> int:
    """Count the test sequences that stand in train too, letter by letter."""
    train = {member.record.sequence for member in parts["train"]}
    return sum(member.record.sequence in train for member in parts["test"])


def _fingerprint(folder: Path, card: dict[str, Any]) -> str:
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
    for start in range(0, len(array), _ROWS_AT_ONCE):
        yield array[start : start + _ROWS_AT_ONCE]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
