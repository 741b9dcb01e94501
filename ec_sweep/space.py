"""What a sweep varies: the axes of its grid, each a list of values or a range to draw from."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ec_sweep import hyperparameters
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.models import MODELS
from ec_sweep.refusals import excerpt

SPLITS = ("random", "identical", "cluster", "given")
CHOICES = ("model", "split")
NAME_PATTERN = r"[a-z0-9-]{1,100}"
_MOST_STEPS = 100_000
_FORM = "{low: ..., high: ...}, with log: true or step: ... if you like"


def names() -> tuple[str, ...]:
    """Return all that a sweep may fix or vary."""
    return ("dataset", *CHOICES, *hyperparameters.names())


@dataclass(frozen=True)
class Choice:
    """An axis that lists its values."""

    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The values among which any impossible one shows."""
        if all(type(value) in (int, float) for value in self.values):
            return tuple(dict.fromkeys((min(self.values), max(self.values))))
        return self.values

    def holds(self, value: object) -> bool:
        """Say whether a value lies on the axis."""
        return value in self.values

    def to_json(self) -> list[Any]:
        """Return the axis as a sweep file writes it."""
        return [list(value) if isinstance(value, tuple) else value for value in self.values]


@dataclass(frozen=True)
class Range:
    """An axis of numbers from ``low`` to ``high``, both of the hyperparameter's own type."""

    low: float
    high: float
    log: bool = False
    """Draw the logarithm evenly: as many values below 0.001 as above, from 1e-6 to 1."""
    step: float | None = None

    @property
    def size(self) -> int | None:
        """How many values there are, ``None`` when there is no end to them."""
        if self.step is not None:
            return _steps(self.low, self.high, self.step) + 1
        return int(self.high - self.low + 1) if isinstance(self.low, int) else None

    @property
    def extremes(self) -> tuple[float, float]:
        """The values among which any impossible one shows."""
        return self.low, self.high

    @property
    def values(self) -> Iterable[float]:
        """The values, where there is an end to them."""
        return map(self.at, range(self.size or 0))

    def at(self, index: int) -> float:
        """Return the value so many steps above the lowest, without the errors of binary sums."""
        step = 1 if self.step is None else self.step
        return type(self.low)(_decimal(self.low) + index * _decimal(step))

    def index(self, value: float) -> int:
        """Return how many steps a value of the axis lies above the lowest."""
        return _steps(self.low, value, 1 if self.step is None else self.step)

    def holds(self, value: Any) -> bool:
        """Say whether a value lies on the axis."""
        if type(value) is not type(self.low) or not self.low <= value <= self.high:
            return False
        return self.step is None or self.at(self.index(value)) == value

    def rounded(self, value: float) -> float:
        """Return a drawn number with the few digits that matter, so that people can type it."""
        scale = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        digits = 5 + math.ceil(round(math.log10(scale), 3))
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        """Return the axis as a sweep file writes it."""
        document: dict[str, Any] = {"low": self.low, "high": self.high}
        return document | ({"log": True} if self.log else {}) | (
            {} if self.step is None else {"step": self.step}
        )  # fmt: skip


Axis = Choice | Range


def size(axes: Mapping[str, Axis], models: Iterable[str]) -> int | None:
    """Count the different cells of these axes, ``None`` when there is no end to them.

    An axis that a model does not declare makes no difference to its cells.
    """
    total = 0
    for model in models:
        own = {"dataset", "split"} | MODELS[model].hyperparameters
        sizes = [axis.size for name, axis in axes.items() if name in own]
        if None in sizes:
            return None
        total += math.prod(length for length in sizes if length is not None)
    return total


def axis(name: str, written: object, where: str, key: str) -> Axis:
    """Return an axis of a sampled sweep as it is written: a list of values, or a range."""
    if isinstance(written, dict):
        return _range(name, written, where, key)
    return Choice(choices(name, written, where, key))


def choices(name: str, written: object, where: str, key: str) -> tuple[Any, ...]:
    """Return the values that an axis lists, each once; a single one, as of a cell, is one."""
    if isinstance(written, dict) and name in hyperparameters.names():
        add = (
            "" if key.startswith("--set") else "add sampler: random (or tpe, gp) and trials: N, or "
        )
        raise EcsweepError(
            f"{where}: {key} is a range, from which a sampler draws; this sweep has none. "
            f"{f'{add}list its values'.capitalize()}."
        )
    if not isinstance(written, list):
        written = [written]
    elif written and _is_one_list(name, written):
        if key == f"grid.{name}" and len(written) > 1:  # more may have been meant than one
            several = [[value] for value in written]
            raise EcsweepError(
                f"{where}: {key} must be a list of lists: {excerpt(several)} for "
                f"{len(written)} values, {excerpt([written])} for one. "
                f"Received: {excerpt(written)}."
            )
        written = [written]
    if not written:
        _check_name(name, where, key)
        raise EcsweepError(f"{where}: {key} must list at least one value.")
    return tuple(dict.fromkeys(parse(name, value, where, key) for value in written))


def replacement(name: str, value: object, where: str, source: str) -> object:
    """Return what a scale or ``--set`` puts in the place of an axis."""
    if isinstance(value, dict) or (isinstance(value, list) and not _is_one_list(name, value)):
        return value
    if source == "--set":
        return [value]
    raise EcsweepError(
        f"{where}: {source}.{name} replaces a grid axis and must be a list of values. "
        f"Received: {excerpt(value)}."
    )


def check_single(name: object, value: object, where: str, key: str) -> None:
    """Raise an error when a scale or ``--set`` gives several values to what is no axis."""
    _check_name(name, where, key)
    several = isinstance(value, list) and not _is_one_list(str(name), value)
    if several or isinstance(value, dict):
        raise EcsweepError(
            f"{where}: {key} must be one value: only what the grid of a sweep names takes several, "
            f"and this one's does not name {name}. Received: {excerpt(value)}."
        )


def parse(name: object, value: object, where: str, key: str) -> Any:
    """Return a value as its hyperparameter, or the name of model, dataset or split, holds it."""
    _check_name(name, where, key)
    name, hint = str(name), ""
    if name == "dataset":
        if isinstance(value, str) and re.fullmatch(NAME_PATTERN, value):
            return value
        must = "a name of lower-case letters, digits and hyphens"
    elif name in CHOICES:
        allowed = tuple(MODELS) if name == "model" else SPLITS
        if value in allowed:
            return value
        must = f"one of {', '.join(allowed)}"
        hint = nearest(str(value), allowed)
        if name == "model":
            hint += " A model of your own: study and plan take --models FILE."
    else:
        try:
            return hyperparameters.parse(name, value)
        except ValueError as error:
            must = str(error)
            if isinstance(value, str) and "," in value:
                hint = f" Several values: --set {name}='[A, B]'."
    raise EcsweepError(f"{where}: {key} must be {must}. Received: {excerpt(value)}.{hint}")


def _check_name(name: object, where: str, key: str) -> None:
    if name not in names():
        raise EcsweepError(f"{where}: unknown key {excerpt(key)}.{meant(str(name))}")


_ALSO_CALLED = {
    "lr": "learning_rate",
    "kernel_size": "filter_size",
    "max_length": "length",
    "dense": "hidden",
    "hidden_units": "hidden",
    "n_epochs": "epochs",
    "dropout_rate": "dropout",
}
"""What others call some hyperparameters."""


def meant(name: str) -> str:
    """Return which name may have been meant, or all that there are: the end of a message."""
    known = _ALSO_CALLED.get(name.lower())
    hint = f" Did you mean {known!r}?" if known else nearest(name, names())
    return hint or f" Allowed: {', '.join(names())}."


def _is_one_list(name: str, values: list[Any]) -> bool:
    """Say whether a list is one value of a hyperparameter that holds lists."""
    nested = name in hyperparameters.names() and hyperparameters.is_list(name)
    return nested and not any(isinstance(value, list) for value in values)


def _range(name: str, written: Mapping[Any, Any], where: str, key: str) -> Range:
    def refuse(what: str, received: object) -> EcsweepError:
        return EcsweepError(f"{where}: {what}. Received: {excerpt(received)}.")

    kind = hyperparameters.number_type(name) if name in hyperparameters.names() else None
    if name in names() and kind is None:
        raise refuse(f"{key} has no numbers to range over: list its values", dict(written))
    unknown = [part for part in written if part not in ("low", "high", "log", "step")]
    if unknown or not {"low", "high"} <= written.keys():
        raise refuse(f"{key} must be a list of values, or a range {_FORM}", dict(written))
    low, high = (parse(name, written[end], where, f"{key}.{end}") for end in ("low", "high"))
    for end, value in (("low", low), ("high", high)):
        if value is None:
            raise refuse(f"{key}.{end} must be a number", None)
    if low >= high:
        raise refuse(f"{key}.low must be below {key}.high", dict(written))
    log, step = written.get("log", False), written.get("step")
    if not isinstance(log, bool):
        raise refuse(f"{key}.log must be true or false", log)
    if log and low <= 0:
        raise refuse(f"{key}.low must be above 0 where log is true", low)
    if step is None:
        return Range(low, high, log)
    if log:
        raise refuse(f"{key} must not have both log and step", dict(written))
    step = _step(step, kind, high - low)
    if step is None:
        whole = "a whole number" if kind is int else "a number"
        must = f"{whole} above 0 and at most high - low, for at most {_MOST_STEPS} steps"
        raise refuse(f"{key}.step must be {must}", written["step"])
    last = Range(low, high, step=step).at(_steps(low, high, step))
    if last != high:
        must = f"{key}.step must lead from low to high: {excerpt(last)} is the last it reaches"
        raise refuse(must, dict(written))
    return Range(low, high, step=step)


def _step(written: object, kind: type | None, width: float) -> float | None:
    """Return a step as its range holds it, ``None`` when it is not one."""
    if isinstance(written, bool) or not isinstance(written, int | float | str):
        return None
    try:
        step: float = float(written)  # a string, too: as YAML 1.1 reads 1e-2
    except (ValueError, OverflowError):
        return None
    if not 0 < step <= width or width / step > _MOST_STEPS:
        return None
    if kind is int:
        return int(step) if isinstance(written, int) else None
    return step


def _steps(low: float, high: float, step: float) -> int:
    return int((_decimal(high) - _decimal(low)) / _decimal(step))


def _decimal(number: float) -> Decimal:
    """Return a number as it is written, not as binary fractions hold it."""
    return Decimal(str(number))
