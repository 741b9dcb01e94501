"""A dataset of random residues and labels, for timing alone: nothing can be learned from it."""

from pathlib import Path

import numpy as np

from ec_sweep.attempts import AttemptFolder, Task
from ec_sweep.encoding import PADDING, RESIDUES
from ec_sweep.hyperparameters import Hyperparameters

SHORTEST = 50
"""Residues, as in the paper; lengths are uniform from here on, so that some is padding."""


def write(folder: Path, sizes: dict[str, int], length: int, classes: int) -> Path:
    """Write the files that a trial maps: tokens, labels and ids of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part, size in sizes.items():
        tokens = generator.integers(len(RESIDUES), size=(size, length), dtype=np.uint8)
        ends = generator.integers(min(SHORTEST, length), length + 1, size=size)
        tokens[np.arange(length) >= ends[:, None]] = PADDING
        np.save(folder / f"{part}_tokens.npy", tokens)
        labels = generator.integers(classes, size=size, dtype=np.int32)
        np.save(folder / f"{part}_labels.npy", labels)
        ids = np.array([f"S{number:07}" for number in range(size)])
        np.save(folder / f"{part}_ids.npy", ids)
    return folder


def task(
    name: str, model: str, hp: Hyperparameters, dataset: Path, sizes: dict[str, int], classes: int
) -> Task:
    """Return what a worker is to train; its folder is made beside the dataset."""
    folder = AttemptFolder(dataset.parent / "attempts" / name)
    folder.create()
    return Task(
        run_id=name, folder=folder.path, model=model, hyperparameters=hp, seed=0,
        dataset=dataset, sizes=sizes, classes=classes,
    )  # fmt: skip
