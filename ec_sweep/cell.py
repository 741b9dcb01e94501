"""Cells: what is trained once each, their identity, and what a sampler draws them from."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ec_sweep import hyperparameters, space
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import FROZEN_DEFAULTS, Hyperparameters
from ec_sweep.models import MODELS, hyperparameters_of
from ec_sweep.space import Axis, parse

MOST_CELLS = 100_000
METRICS: dict[str, Literal["maximize", "minimize"]] = {
    "val_accuracy": "maximize",
    "val_loss": "minimize",
}
"""What samplers may go by: measured on validation data, never on the test set."""
_ID_VERSION = 1

Data = tuple[str, str]
"""A dataset's name and its split, which together say on what a cell is trained."""


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: what is trained, once."""

    model: str
    dataset: str
    split: str
    hyperparameters: Hyperparameters
    seed: int
    fingerprint: str | None = None
    """Of the dataset; ``None`` until that is built."""

    @property
    def data(self) -> Data:
        """The name of its dataset, and the split."""
        return self.dataset, self.split

    @property
    def declared(self) -> dict[str, Any]:
        """The hyperparameters that the model declares, by name in alphabetical order."""
        names = sorted(MODELS[self.model].hyperparameters)
        return {name: getattr(self.hyperparameters, name) for name in names}

    @property
    def params(self) -> dict[str, Any]:
        """What the cell is made of, as JSON holds it, without its seed."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "split": self.split,
            **hyperparameters.to_json(self.declared),
        }

    @property
    def id(self) -> str | None:
        """12 hex digits that name the cell for ever; ``None`` while its dataset is not built."""
        if self.fingerprint is None:
            return None
        model = MODELS[self.model]
        defaults = FROZEN_DEFAULTS | dict(model.own)
        identity = {
            "version": _ID_VERSION,
            "model": self.model,
            "hyperparameters": {
                name: value for name, value in self.declared.items() if value != defaults[name]
            },
            "seed": self.seed,
            "dataset": self.fingerprint,
            **({"source": model.source} if model.source else {}),
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def on(self, fingerprints: Mapping[Data, str | None]) -> "Cell":
        """Return the cell on the built dataset of its name and split."""
        return replace(self, fingerprint=fingerprints.get(self.data))


@dataclass(frozen=True)
class Sampled:
    """What the cells of a sampled sweep are drawn from, one after the other."""

    sampler: str
    trials: int
    """Different cells to draw in all."""
    metric: str
    seed: int
    """Of the drawing, and of every cell."""
    axes: Mapping[str, Axis]
    fixed: Mapping[str, Any]
    where: str
    """The sweep file, for error messages."""
    fingerprints: Mapping[Data, str | None] = field(default_factory=dict)
    """Of the built datasets, by name and split."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """``maximize`` or ``minimize``, as the metric wants it."""
        return METRICS[self.metric]

    def cell(self, values: Mapping[str, Any]) -> Cell:
        """Return the cell at a point, of which each axis has a value."""
        return make_cell({**self.fixed, **values}, self.seed, self.where).on(self.fingerprints)

    def read(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a point that JSON held, ``None`` when it does not lie in the space."""
        if point.keys() != self.axes.keys():
            return None
        try:
            values = {name: parse(name, point[name], self.where, name) for name in self.axes}
        except EcsweepError:
            return None
        return values if all(a.holds(values[name]) for name, a in self.axes.items()) else None

    @property
    def points(self) -> Iterator[dict[str, Any]] | None:
        """All points, ``None`` when there are too many to look at."""
        sizes = [axis.size for axis in self.axes.values()]
        if None in sizes or math.prod(n for n in sizes if n) > MOST_CELLS:
            return None
        every = itertools.product(*(axis.values for axis in self.axes.values()))
        return (dict(zip(self.axes, point, strict=True)) for point in every)

    def extremes(self) -> list[Cell]:
        """Return the cells at the corners; if any cell is impossible, one of them is."""
        corners = [axis.extremes for axis in self.axes.values()]
        if math.prod(map(len, corners)) > MOST_CELLS:
            raise EcsweepError(f"{self.where}: grid has more than {MOST_CELLS} corners. Fix some.")
        points = (dict(zip(self.axes, point, strict=True)) for point in itertools.product(*corners))
        return list(dict.fromkeys(map(self.cell, points)))


def make_cell(values: dict[str, Any], seed: int, where: str) -> Cell:
    """Return the cell of these values, of which it takes what its model declares."""
    choices = {name: values.pop(name, None) for name in ("dataset", *space.CHOICES)}
    for name in ("model", "dataset"):
        if choices[name] is None:
            raise EcsweepError(f"{where}: {name} must be given in fixed or in grid.")
    model = MODELS[choices["model"]]
    kept = {name: value for name, value in values.items() if name in model.hyperparameters}
    values_of_model = hyperparameters_of(choices["model"], kept)
    problem = model.check(values_of_model)
    if problem:
        raise EcsweepError(f"{where}: impossible cell: {problem}.")
    return Cell(**choices, hyperparameters=values_of_model, seed=seed)


def reject_unused(found: Mapping[Cell, None], names: set[str], where: str) -> None:
    """Raise an error when a name that is fixed or varied means nothing to any cell's model."""
    models = sorted({cell.model for cell in found})
    unused = sorted(names - used(models))
    if unused:
        raise EcsweepError(
            f"{where}: {unused[0]} is not a hyperparameter of {' or '.join(models)}. "
            f"Remove it, or sweep a model that has it."
        )


def used(models: Iterable[str]) -> set[str]:
    """Return the names that these models take, beside what every cell has."""
    own = (MODELS[model].hyperparameters for model in models)
    return {"dataset", *space.CHOICES}.union(*own)
