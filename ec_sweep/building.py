"""Building datasets: from records to arrays on disk, aside and renamed when complete."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ec_sweep import ec, encoding, records, splits
from ec_sweep.datasets import (
    LONGEST,
    ROWS_AT_ONCE,
    SAMPLE,
    SEED,
    SHORTEST,
    Array,
    Dataset,
    check_name,
    content_fingerprint,
    file_digest,
    read,
)
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home, packed, write_atomically
from ec_sweep.recipes import RECIPES, Drawing, Recipe
from ec_sweep.records import Record
from ec_sweep.splits import PARTS


def build_embedded(home: Home, name: str) -> Dataset:
    """Build a dataset from the sample that comes with ecsweep."""
    check_name(name)
    source = packed("data") / SAMPLE
    return build(home, name, source, drawing=RECIPES[name].embedded_drawing, embedded=True)


def build(
    home: Home,
    name: str,
    source: Path,
    *,
    smallest_class: int | None = None,
    drawing: Drawing | None = None,
    embedded: bool = False,
) -> Dataset:
    """Build a dataset from a TSV file of proteins; the same content is built once.

    ``smallest_class`` replaces the recipe's; ``drawing`` says what is drawn of
    each part, everything where it is ``None``. It is made aside and renamed when
    complete, so that a failure leaves nothing behind and a running study keeps
    the one it maps.

    Raises:
        EcsweepError: the file cannot be used, or leaves a class or a part empty.
    """
    from filelock import FileLock

    check_name(name)
    recipe = RECIPES[name]
    if recipe.classes and (smallest_class or drawing):
        raise EcsweepError(
            f"{name} has fixed, balanced classes: a smallest class and a drawing are for ec37."
        )
    recipe = replace(recipe, smallest_class=smallest_class or recipe.smallest_class)
    found = _proteins(recipe, source)
    parts = _parts(recipe, found, drawing, source)
    home.prepare()
    folder = home.data / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        for stale in folder.glob(".building-*"):  # we hold the lock: its builder is gone
            shutil.rmtree(stale)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=".building-"))
        try:
            _write_arrays(aside, parts)
            card = _card(name, recipe, found, parts, source, embedded)
            if recipe.classes is None:
                card |= _drawing_card(found, drawing)
            card["fingerprint"] = content_fingerprint(aside, card)
            write_atomically(aside / "dataset.json", json.dumps(card, indent=2) + "\n")
            final = folder / str(card["fingerprint"])
            if final.exists():  # the same content: only its card is new
                (aside / "dataset.json").replace(final / "dataset.json")
            else:
                aside.rename(final)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return read(final)


@dataclass(frozen=True)
class _Member:
    record: Record
    label: int


@dataclass
class _Proteins:
    """The proteins of a file by class, and what was left out."""

    rows: int
    dropped: Counter[str]
    by_class: dict[str, list[Record]]
    """In the order of the classes; those left out are not among them."""
    all_counts: dict[str, int]
    """Proteins of every class found, the ones left out too."""
    cases: Counter[str]
    """What was met on the way to the classes kept."""
    samples: list[dict[str, int]] = field(default_factory=list)
    """Proteins of each class in each training sample."""


def _proteins(recipe: Recipe, source: Path) -> _Proteins:
    """Read, filter and label; leave rare classes out."""
    records_found, rows, dropped = records.read(source)
    groups: dict[str, list[Record]] = {name: [] for name in recipe.classes or ()}
    cases: dict[str, Counter[str]] = {}
    for record in records_found:
        if len(record.sequence) < SHORTEST:
            dropped["too_short"] += 1
        elif len(record.sequence) > LONGEST:
            dropped["too_long"] += 1
        elif (label := recipe.label(record)).name is None:
            dropped[label.reason] += 1
        else:
            groups.setdefault(label.name, []).append(record)
            cases.setdefault(label.name, Counter()).update(label.cases)
    if recipe.classes is not None:
        counts = {name: len(group) for name, group in groups.items()}
        return _Proteins(rows, dropped, groups, counts, Counter())
    all_counts = {name: len(groups[name]) for name in ec.in_order(groups)}
    for name, count in all_counts.items():
        if "." not in name:
            dropped["main_class_only"] += count
            del groups[name]
        elif count < recipe.smallest_class:
            dropped["rare_class"] += count
            del groups[name]
    if len(groups) < 2:
        raise EcsweepError(
            f"{source}: has {len(groups)} classes with at least {recipe.smallest_class} proteins "
            f"of {SHORTEST}-{LONGEST} residues; a dataset needs two. Found: {all_counts}."
        )
    kept = {name: groups[name] for name in ec.in_order(groups)}
    of_kept = sum((cases[name] for name in kept), Counter())
    return _Proteins(rows, dropped, kept, all_counts, of_kept)


def _parts(
    recipe: Recipe, found: _Proteins, drawing: Drawing | None, source: Path
) -> dict[str, list[_Member]]:
    """Split each class and draw of each part; every part ends in its fixed shuffled order."""
    in_parts: dict[str, dict[str, list[Record]]] = {part: {} for part in PARTS}
    for name, group in found.by_class.items():
        for part, indices in splits.split(_accessions(group), SEED).items():
            in_parts[part][name] = [group[index] for index in indices]
            if not len(indices):
                raise EcsweepError(
                    f"{source}: leaves no {name} for the {part} part; "
                    f"a dataset needs at least 5 of each class with {SHORTEST}-{LONGEST} residues."
                )
    parts = {}
    for number, (part, by_class) in enumerate(in_parts.items()):
        members = [
            _Member(record, label)
            for label, group in enumerate(by_class.values())
            for record in group
        ]
        if recipe.balanced_to is not None:
            drawn = _balanced(members, list(by_class).index(recipe.balanced_to))
        else:
            size = drawing.size(number, len(members)) if drawing else len(members)
            if not 1 <= size <= len(members):
                raise EcsweepError(
                    f"{source}: {size} sequences cannot be drawn from the {len(members)} of {part}."
                )
            drawn = _drawn(members, size)
            if part == "train":
                found.samples = _samples(members, size, list(by_class), drawing)
        found.dropped["down_sampled"] += len(members) - len(drawn)
        order = splits.hashed_order(_accessions([m.record for m in drawn]), SEED, "order")
        parts[part] = [drawn[index] for index in order]
    return parts


def _balanced(members: list[_Member], label: int) -> list[_Member]:
    """Draw every class down to the number of one."""
    size = sum(member.label == label for member in members)
    labels = sorted({member.label for member in members})
    groups = ([member for member in members if member.label == one] for one in labels)
    return [member for group in groups for member in _drawn(group, size)]


def _samples(
    members: list[_Member], size: int, names: list[str], drawing: Drawing | None
) -> list[dict[str, int]]:
    """Count the classes of each training sample, the one that trains first."""
    found = []
    for sample in range(1, (drawing.samples if drawing else 1) + 1):
        counts = Counter(names[member.label] for member in _drawn(members, size, sample))
        found.append({name: counts[name] for name in names})
    return found


def _drawn(members: list[_Member], size: int, sample: int = 1) -> list[_Member]:
    """Draw so many members at random; samples are independent of each other."""
    accessions = _accessions([member.record for member in members])
    return [members[index] for index in splits.draw(accessions, size, SEED, sample)]


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
    for start in range(0, len(members), ROWS_AT_ONCE):
        some = members[start : start + ROWS_AT_ONCE]
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
    found: _Proteins,
    parts: dict[str, list[_Member]],
    source: Path,
    embedded: bool,
) -> dict[str, Any]:
    """Return the card, still without its fingerprint."""
    counts = {part: Counter(m.label for m in members) for part, members in parts.items()}
    kept = sum(len(members) for members in parts.values())
    if found.rows != kept + found.dropped.total():
        raise AssertionError(
            f"{found.rows} rows in, {kept} kept and {found.dropped.total()} dropped"
        )
    filters = {"shortest": SHORTEST, "longest": LONGEST, "other_letters": "X"}
    if recipe.classes is None:
        filters["smallest_class"] = recipe.smallest_class
    return {
        "name": name,
        "fingerprint": "",
        "source": f"{source.name} ({'embedded sample' if embedded else 'file'})",
        "source_sha256": file_digest(source),
        "embedded": embedded,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "filters": filters,
        "split": "random",
        "seed": SEED,
        "classes": list(found.by_class),
        "sizes": {part: len(members) for part, members in parts.items()},
        "class_counts": {
            part: {name: counts[part][label] for label, name in enumerate(found.by_class)}
            for part in PARTS
        },
        "dropped": dict(sorted((reason, n) for reason, n in found.dropped.items() if n)),
        "records_in": found.rows,
        "records_kept": kept,
        "test_sequences_also_in_train": _leaked(parts),
    }


def _drawing_card(found: _Proteins, drawing: Drawing | None) -> dict[str, Any]:
    """Return what Table 1 and Figure 4 of the paper need beside a card."""
    left_out = {n: count for n, count in found.all_counts.items() if n not in found.by_class}
    return {
        "all_counts": found.all_counts,
        "classes_left_out": left_out,
        "label_cases": dict(sorted(found.cases.items())),
        "drawing": asdict(drawing) if drawing else None,
        "samples": found.samples,
    }


def _leaked(parts: dict[str, list[_Member]]) -> int:
    """Count the test sequences that stand in train too, letter by letter."""
    train = {member.record.sequence for member in parts["train"]}
    return sum(member.record.sequence in train for member in parts["test"])
