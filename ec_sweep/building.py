"""Building datasets: from files or a source to arrays, aside and renamed when complete."""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ec_sweep import clustering, importing, labelling, packing, sources, splits, transfers
from ec_sweep.datasets import (
    LONGEST,
    SAMPLE,
    SEED,
    SHORTEST,
    Dataset,
    check_name,
    check_own_name,
    content_fingerprint,
    is_misspelt,
    read,
)
from ec_sweep.dividing import Division, Split, counts_of, divide
from ec_sweep.errors import EcsweepError
from ec_sweep.formats import Options
from ec_sweep.importing import Watch
from ec_sweep.labelling import Proteins
from ec_sweep.paths import Home, packed, write_atomically
from ec_sweep.recipes import OWN, RECIPES, Drawing, Recipe
from ec_sweep.sources import Source
from ec_sweep.splits import PARTS
from ec_sweep.transfers import Transfers


@dataclass(frozen=True)
class Reading:
    """How files that are built from directly are read."""

    options: Options = field(default_factory=Options)
    transfers: Transfers = field(default_factory=transfers.built_in)
    watch: Watch = lambda *_: None


def build_embedded(home: Home, name: str, split: str = "random") -> Dataset:
    """Build a dataset from the sample that comes with ecsweep."""
    check_name(name)
    sample = packed("data") / SAMPLE
    return build(
        home,
        name,
        [sample],
        split=Split(split),
        drawing=RECIPES[name].embedded_drawing,
        embedded=True,
        reading=Reading(Options(family_column="Family"), transfers.built_in(transfers.NONE)),
    )


def build(
    home: Home,
    name: str,
    origin: Sequence[Path] | str,
    *,
    split: Split = Split(),  # noqa: B008 - frozen
    smallest_class: int | None = None,
    drawing: Drawing | None = None,
    embedded: bool = False,
    reading: Reading | None = None,
) -> Dataset:
    """Build a dataset from files or from a source; the same content is built once.

    It is made aside and renamed when complete, so that a failure leaves nothing
    behind and a running study keeps the one it maps.

    Args:
        home: where it goes.
        name: the recipe's, or one of the user's own for classes of the user's own.
        origin: files, which become a source for the time being, or a source's name.
        split: how train, valid and test are divided.
        smallest_class: replaces the recipe's.
        drawing: what is drawn of each part; everything where it is ``None``.
        embedded: whether it is the sample that comes with ecsweep.
        reading: how files are read.

    Raises:
        EcsweepError: the files cannot be used, or leave a class or a part empty.
    """
    from filelock import FileLock

    reading = reading or Reading()
    recipe = _recipe(home, name, origin, reading)
    if recipe.classes and (smallest_class or drawing):
        raise EcsweepError(
            f"{name} has fixed, balanced classes: a smallest class and a drawing are for ec37 and "
            "classes of your own."
        )
    recipe = replace(recipe, smallest_class=smallest_class or recipe.smallest_class)
    _check(home, origin, reading, split)
    home.prepare()
    folder = home.data / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        for stale in folder.glob(f"{sources.ASIDE}*"):  # we hold the lock: its builder is gone
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(dir=folder, prefix=sources.ASIDE) as work:
            source = _source(home, origin, Path(work), reading)
            about = {"source": _origin(origin, embedded), "embedded": embedded}
            made = _made(recipe, name, source, about, split, drawing, Path(work))
            final = folder / made.name
            if final.exists():  # the same content: only its card is new
                (made / "dataset.json").replace(final / "dataset.json")
            else:
                made.rename(final)
    return read(final)


def _recipe(home: Home, name: str, origin: Sequence[Path] | str, reading: Reading) -> Recipe:
    """Return what makes a dataset of a name: one of ours, or classes that the source names."""
    column = reading.options.class_column
    if name in RECIPES:
        if column is not None:
            raise EcsweepError(
                f"{name} has its classes from EC numbers: give the dataset of --class-column "
                f"{column} a name of your own."
            )
        return RECIPES[name]
    if column is None and not isinstance(origin, str) and is_misspelt(name):
        check_name(name)
    check_own_name(name)
    if isinstance(origin, str):
        source = sources.get(home, origin)
        if "label" not in source.card["columns"] and is_misspelt(name):
            check_name(name)
        labelling.check_named(source)
    elif column is None:
        raise _class_column_needed(name, origin, reading.options.labels)
    return OWN


def _class_column_needed(name: str, paths: Sequence[Path], labels: Path | None) -> EcsweepError:
    """Return the error that asks for the column of the classes, and says which there are."""
    files = [*paths, labels] if labels else paths
    table, found = [(path, importing.columns(path)) for path in files][-1]
    shown = f"has: {', '.join(found)[:200]}"
    if not found:
        shown = "has no columns: give a table that names them with --labels"
    return EcsweepError(
        f"{name} is to be a dataset of your own: say which column holds the classes with "
        f"--class-column C. {table} {shown}."
    )


def _made(
    recipe: Recipe,
    name: str,
    source: Source,
    about: dict[str, Any],
    split: Split,
    drawing: Drawing | None,
    work: Path,
) -> Path:
    """Make a dataset in a folder for work; returns its own there, named by its fingerprint."""
    aside = work / "dataset"
    aside.mkdir()
    found = labelling.proteins(recipe, source)
    division = divide(recipe, found, source, split, drawing, work)
    card = _card(name, recipe, found, division, source, split) | about
    if recipe.classes is None:
        card |= _drawing_card(found, drawing)
    card |= _write(aside, source, found, division)
    card["fingerprint"] = content_fingerprint(aside, card)
    write_atomically(aside / "dataset.json", json.dumps(card, indent=2) + "\n")
    return aside.rename(work / str(card["fingerprint"]))


def _check(home: Home, origin: Sequence[Path] | str, reading: Reading, split: Split) -> None:
    """Raise an error where what is asked cannot be done, before anything is made."""
    if isinstance(origin, str):
        sources.get(home, origin)
        return
    importing.opened(origin, reading.options)
    if split.method == "given" and reading.options.split_column is None:
        raise EcsweepError("--split given needs --split-column: where the parts stand.")
    if split.method == "cluster" and (split.identity or reading.options.family_column is None):
        clustering.find()


def _source(home: Home, origin: Sequence[Path] | str, work: Path, reading: Reading) -> Source:
    """Return the source of a name, or make one of files for the time being."""
    if isinstance(origin, str):
        return sources.get(home, origin)
    folder = work / "source"
    folder.mkdir()
    name = ", ".join(map(str, origin))
    return importing.write(folder, name, origin, reading.options, reading.transfers, reading.watch)


def _origin(origin: Sequence[Path] | str, embedded: bool) -> str:
    """Say where a dataset comes from."""
    if isinstance(origin, str):
        return f"{origin} (source)"
    kind = "embedded sample" if embedded else "file" if len(origin) == 1 else "files"
    return f"{', '.join(path.name for path in origin)} ({kind})"


def _write(folder: Path, source: Source, found: Proteins, division: Division) -> dict[str, Any]:
    """Write the arrays; returns what the card says of sequences on both sides."""
    every = np.concatenate(division.parts)
    order = np.argsort(found.rows[every])
    records = source.records(["accession", "digest", "row"], found.rows[every][order])
    records = records.take(np.argsort(order))
    part = np.repeat(np.arange(len(PARTS), dtype=np.int8), [len(some) for some in division.parts])
    ends = np.cumsum([0, *map(len, division.parts)])
    for number, name in enumerate(PARTS):
        accessions = records["accession"][ends[number] : ends[number + 1]]
        packing.write_arrays(folder, name, accessions, found.labels[division.parts[number]])
    rows = records["row"].to_numpy()
    packing.write_tokens(folder, source, np.split(rows, ends[1:-1]))
    same = splits.identical_groups(records["digest"])
    leaks = {"test_sequences_also_in_train": splits.shared(same, part)}
    if division.families is not None:
        relatives = splits.shared(division.families[every], part)
        leaks["test_sequences_in_train_families"] = relatives
    return leaks


def _card(
    name: str,
    recipe: Recipe,
    found: Proteins,
    division: Division,
    source: Source,
    split: Split,
) -> dict[str, Any]:
    """Return the card, still without its fingerprint and what is said of the arrays."""
    sizes = {part: len(rows) for part, rows in zip(PARTS, division.parts, strict=True)}
    counts = {
        part: counts_of(found.labels[rows], found.classes)
        for part, rows in zip(PARTS, division.parts, strict=True)
    }
    records_in, kept = source.card["records_in"], sum(sizes.values())
    dropped = found.dropped + Counter(source.card["dropped"])
    if records_in != kept + dropped.total():
        raise AssertionError(f"{records_in} in, {kept} kept and {dropped.total()} dropped")
    filters = {"shortest": SHORTEST, "longest": LONGEST, "other_letters": "X"}
    if recipe.classes is None:
        filters["smallest_class"] = recipe.smallest_class
    return {
        "name": name,
        "fingerprint": "",
        "source": "",
        "source_sha256": _digest(source),
        "embedded": False,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "filters": filters,
        "split": split.method,
        "split_details": division.details,
        "seed": SEED,
        "classes": found.classes,
        "sizes": sizes,
        "class_counts": counts,
        "dropped": dict(sorted(dropped.items())),
        "records_in": records_in,
        "records_kept": kept,
        "files": source.card["files"],
        "transfers": source.card["transfers"],
        "migrations": source.card["migrations"],
    }


def _digest(source: Source) -> str:
    """Return the sha256 of the one file of a source; of several that of all of theirs."""
    digests = sorted(file["sha256"] for file in source.card["files"])
    if len(digests) == 1:
        return str(digests[0])
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _drawing_card(found: Proteins, drawing: Drawing | None) -> dict[str, Any]:
    """Return what Table 1 and Figure 4 of the paper need beside a card."""
    left_out = {n: count for n, count in found.all_counts.items() if n not in found.classes}
    return {
        "all_counts": found.all_counts,
        "classes_left_out": left_out,
        "label_cases": dict(sorted(found.cases.items())),
        "drawing": asdict(drawing) if drawing else None,
        "samples": found.samples,
    }
