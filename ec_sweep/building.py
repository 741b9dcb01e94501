"""Building datasets: from records to arrays on disk, aside and renamed when complete."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ec_sweep import encoding, records, splits
from ec_sweep.datasets import (
    LONGEST,
    RECIPES,
    ROWS_AT_ONCE,
    SAMPLE,
    SEED,
    SHORTEST,
    Array,
    Dataset,
    Recipe,
    check_name,
    content_fingerprint,
    file_digest,
    read,
)
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home, packed, write_atomically
from ec_sweep.records import Record
from ec_sweep.splits import PARTS


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
    home.prepare()
    folder = home.data / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        for stale in folder.glob(".building-*"):  # we hold the lock: its builder is gone
            shutil.rmtree(stale)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=".building-"))
        try:
            _write_arrays(aside, parts)
            card = _card(name, recipe, parts, rows, dropped, source, embedded)
            card["test_sequences_also_in_train"] = _leaked(parts)
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
        "source_sha256": file_digest(source),
        "embedded": embedded,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
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
