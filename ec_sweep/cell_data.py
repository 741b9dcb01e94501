"""The datasets that cells are trained on: found, built where they can be, said in words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ec_sweep import building, datasets, hints
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError, plural
from ec_sweep.models import MODELS
from ec_sweep.paths import Home
from ec_sweep.recipes import RECIPES
from ec_sweep.spec import Cell, Data


def find(
    home: Home, scale: str, cells: Sequence[Cell], where: str, *, build: bool
) -> dict[Data, Dataset]:
    """Return the datasets of the cells that are built, each large enough for its cells.

    With ``build``, those of demo scale are built if need be.
    """
    if scale == "demo" and any(cell.split == "given" for cell in cells):
        raise EcsweepError(
            f"{where}: demo scale has no split given: the embedded sample names no parts. "
            "Take random, identical or cluster, or your own proteins with --scale paper."
        )
    found = {}
    for name, split in dict.fromkeys(cell.data for cell in cells):
        dataset = datasets.for_scale(home, name, scale, split)
        if dataset is None and build and scale == "demo":
            dataset = building.build_embedded(home, name, split)
        if dataset is not None:
            found[name, split] = dataset
    for cell in cells:
        if cell.data in found and (problem := _problem(cell, found[cell.data])):
            raise EcsweepError(f"{where}: impossible cell: {problem}.")
    return found


def _problem(cell: Cell, dataset: Dataset) -> str | None:
    """Return why a cell cannot be trained on a dataset, ``None`` when it can."""
    hp = cell.hyperparameters
    problem = dataset.check(hp.length, hp.train_size)
    if problem or hp.train_size is not None:  # by which its model has been checked already
        return problem
    return MODELS[cell.model].check(replace(hp, train_size=dataset.card["sizes"]["train"]))


def check_built(missing: Sequence[Data], scale: str) -> None:
    """Raise an error that says how to build what only the user's proteins can make."""
    if not missing or scale == "demo":
        return
    name, split = missing[0]
    with_split = "" if split == "random" else f" with split {split}"
    raise EcsweepError(
        f"{scale} scale needs the dataset {name} built from your proteins{with_split}. "
        f"{how_to_build(missing)}"
    )


def how_to_build(missing: Sequence[Data]) -> str:
    """Say how datasets are built from a user's proteins."""
    return f"Build it with: {' && '.join(map(_command, missing))}"


def _command(data: Data) -> str:
    name, split = data
    source = "SOURCE_WITH_SPLIT_COLUMN" if split == "given" else "FILE.tsv.gz"
    option: tuple[str, ...] = () if split == "random" else ("--split", split)
    option += () if name in RECIPES else ("--class-column", "COLUMN")
    return hints.command("data", "build", name, "--from", source, *option)


def in_words(found: Mapping[Data, Dataset], cells: Sequence[Cell]) -> str:
    """Say on what data, and how much of it, the cells are trained."""
    parts: dict[tuple[str, str], dict[str, str]] = {}  # what several splits share is said once
    for data, dataset in found.items():
        some = [cell.hyperparameters for cell in cells if cell.data == data]
        sizes = sorted({tuple(dataset.sizes(hp.train_size).values()) for hp in some})
        lengths = " or ".join(map(str, sorted({hp.length for hp in some})))
        shared = f"dataset {data[0]} from {dataset.card['source']}", f"length {lengths}"
        parts.setdefault(shared, {})[_split(dataset)] = " or ".join(
            f"{train:,} training, {valid:,} validation and {test:,} test {plural('sequence', test)}"
            for train, valid, test in sizes
        )
    return "; ".join(
        f"{source}, {', '.join(f'{counts}, {length}, {split}' for split, counts in splits.items())}"
        if len(splits) == 1
        else f"{source}, {length}, " + ", ".join(f"{s} ({counts})" for s, counts in splits.items())
        for (source, length), splits in parts.items()
    )


def _split(dataset: Dataset) -> str:
    """Return what kind of split a dataset has, with what makes it stricter or looser."""
    details = dataset.card.get("split_details", {})  # older cards have none
    words = f"{dataset.card['split']} split"
    if dataset.card["split"] == "cluster" and "identity" in details:
        words += f" at {details['identity']:.0%} identity".replace("%", " %")
    elif dataset.card["split"] == "cluster" and "column" in details:
        words += f" by column {details['column']}"
    return words if details.get("stratify", True) else f"{words}, not stratified"
