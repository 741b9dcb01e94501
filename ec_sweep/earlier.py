"""What earlier cells cost, and which of them tell most about one that is still to run."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ec_sweep import datasets, machine
from ec_sweep.experiments import find_tracker
from ec_sweep.hyperparameters import Hyperparameters, in_text, to_json
from ec_sweep.models import MODELS, hyperparameters_of
from ec_sweep.paths import Home
from ec_sweep.spec import Cell, Data
from ec_sweep.stored import TrackedRun, stored_studies

_COSTS_NOTHING = {
    "train_size", "length", "batch_size", "epochs", "learning_rate", "early_stopping", "patience",
    "initializer", "batch_norm_momentum", "dropout",
}  # fmt: skip
"""What says nothing of how large a network is; some of it is looked at by itself."""
_ALIKE = 0.1
"""Sizes whose logarithms differ by less are one size."""
UNLIKE = ("length or size", "hardware", "network or batch size", "number of trials side by side")
"""In what an earlier cell may differ, the worst first."""


@dataclass(frozen=True)
class Need:
    """A cell that is to be trained, as far as its costs depend on it."""

    model: str
    hp: Hyperparameters
    data: Data
    train: int | None
    """Training sequences; ``None`` while its dataset is not built and nothing else says."""
    test: int
    classes: int

    @property
    def epochs(self) -> int:
        """Epochs at most; an estimator is fitted once."""
        return self.hp.epochs if MODELS[self.model].is_network else 1

    @cached_property
    def network(self) -> Mapping[str, str]:
        """What the network, and a step of its training, is made of, in MLflow's words."""
        names = MODELS[self.model].hyperparameters - _COSTS_NOTHING
        values = {name: getattr(self.hp, name) for name in sorted(names)}
        return {name: in_text(value) for name, value in to_json(values).items()}


@dataclass(frozen=True)
class Earlier:
    """A cell that was trained and tested to its end."""

    model: str
    length: int
    train: int
    params: Mapping[str, str]
    here: bool
    """Whether it ran on hardware and backend that are this machine's."""
    alone: bool
    epochs: float
    """Epochs trained, of ``params["epochs"]`` at most."""
    epoch_seconds: float
    """Of an epoch with its validation."""
    test_seconds: float
    other_seconds: float
    """All the rest: of the worker's start, building, compiling, recording."""
    memory: float
    """Bytes that its process held at most."""

    def unlike(self, need: Need, alone: bool) -> tuple[bool, ...]:
        """Say in what it differs from a cell that is to run, the worst first (`UNLIKE`)."""
        same = all(self.params.get(name) == value for name, value in need.network.items())
        batch = self.params.get("batch_size", str(need.hp.batch_size))
        return (
            (self.length, self.train) != (need.hp.length, need.train),
            not self.here,
            not same or batch != str(need.hp.batch_size),
            self.alone != alone,
        )

    def times_larger(self, need: Need) -> float:
        """Return how many times as many residues an epoch of a cell reads."""
        return need.hp.length * (need.train or 0) / (self.length * self.train)

    def seconds(self, need: Need, epochs: float) -> float:
        """Return what a cell would take at this one's pace."""
        times = self.times_larger(need)
        return times * (epochs * self.epoch_seconds + self.test_seconds) + self.other_seconds


def need_of(cell: Cell, dataset: datasets.Dataset | None) -> Need:
    """Return what the costs of a cell depend on; many cells have the same."""
    hp = cell.hyperparameters
    kept = MODELS[cell.model].hyperparameters - {"learning_rate", "early_stopping", "patience"}
    small = {name: getattr(hp, name) for name in kept}
    if dataset is None:  # it will be split 6:2:2, and have two classes at least
        test = round((hp.train_size or 0) / 3)
        return Need(
            cell.model, hyperparameters_of(cell.model, small), cell.data, hp.train_size, test, 2
        )
    sizes, classes = dataset.sizes(hp.train_size), len(dataset.card["classes"])
    hp = hyperparameters_of(cell.model, small)
    return Need(cell.model, hp, cell.data, sizes["train"], sizes["test"], classes)


def find(home: Home, study: str, needs: Iterable[Need]) -> dict[str, list[Earlier]]:
    """Return the earlier cells of each model that is needed, of a study (``name@scale``).

    Where some model has none of the very size, those of the home's other
    studies too, if its own database can be read.
    """
    needs = list(needs)
    sizes = {dataset.fingerprint: dataset for dataset in datasets.readable(home)}
    tracker = find_tracker(home, study)
    found = _read(tracker.runs() if tracker else [], sizes)
    have = {(own.model, own.length, own.train) for own in found}
    if all((n.model, n.hp.length, n.train) in have for n in needs):
        return _by_model(found)
    for name, other in (stored_studies(home) or {}).items():
        if name != study:
            found += _read(other.runs(), sizes)
    return _by_model(found)


def closest(
    known: Sequence[Earlier], need: Need, alone: bool
) -> tuple[list[Earlier], tuple[bool, ...]]:
    """Return the earlier cells of its model that are most like a cell, and how they are not."""
    if not known or need.train is None:
        return [], ()
    ranked = [(own.unlike(need, alone), own) for own in known]
    least = min(unlike for unlike, _ in ranked)
    alike = [own for unlike, own in ranked if unlike == least]
    if least[0] and least[2]:  # how another network takes to another size is anyone's guess
        return [], ()
    steps = {id(own): abs(math.log(own.times_larger(need))) for own in alike}
    nearest = min(steps.values())
    return [own for own in alike if steps[id(own)] < nearest + _ALIKE], least


def _by_model(found: Iterable[Earlier]) -> dict[str, list[Earlier]]:
    by_model: dict[str, list[Earlier]] = {}
    for own in found:
        by_model.setdefault(own.model, []).append(own)
    return by_model


def _read(runs: Iterable[TrackedRun], built: Mapping[str, datasets.Dataset]) -> list[Earlier]:
    """Return what complete runs tell; those of a dataset that is gone tell nothing."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    here = machine.description(), backend, bool(machine.visible_gpus())
    return [
        earlier
        for run in runs
        if run.complete and (earlier := _earlier(run, built, here)) is not None
    ]


def _earlier(
    run: TrackedRun, built: Mapping[str, datasets.Dataset], here: tuple[str, str, bool]
) -> Earlier | None:
    metrics, params = run.metrics, run.params
    dataset = built.get(run.tags.get("ecsweep.dataset", ""))
    size = params.get("train_size", "null")
    epochs, fit = metrics.get("epochs_run", 0), metrics.get("fit_seconds", math.nan)
    if params.get("model") not in MODELS or "length" not in params or not epochs > 0:
        return None
    if math.isnan(fit) or (size == "null" and dataset is None):
        return None
    test, epoch = (
        metrics.get("test_seconds", 0.0),
        metrics.get("epoch_seconds_median", fit / epochs),
    )
    # Validation takes about as long as the test; what is left was spent on building and compiling.
    epoch += max(0.0, min(test, fit / epochs - epoch))
    where, computed_with, device = (
        run.tags.get(f"ecsweep.environment.{name}", "") for name in ("machine", "backend", "device")
    )
    return Earlier(
        model=params["model"],
        length=int(params["length"]),
        train=dataset.card["sizes"]["train"] if size == "null" and dataset else int(size),
        params=params,
        here=(where, computed_with, device.upper() != "CPU") == here,
        alone=run.exclusive,
        epochs=epochs,
        epoch_seconds=epoch,
        test_seconds=test,
        other_seconds=max(0.0, max(run.seconds or 0.0, fit + test) - epochs * epoch - test),
        memory=metrics.get("peak_memory_mb", 0.0) * 2**20,
    )
