"""Sweep files: from YAML to a validated, frozen list of cells.

A regular grid, a list of grids and an explicit list of settings all become
cells here and nowhere else.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from ec_sweep import documents, hyperparameters
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.hyperparameters import FROZEN_DEFAULTS, Hyperparameters
from ec_sweep.models import MODELS
from ec_sweep.refusals import problem, shown

SCALES = ("demo", "paper")
_CHOICES = {"model": tuple(MODELS), "split": ("random",)}
_NAMES = ("dataset", *_CHOICES, *hyperparameters.NAMES)
_ID_VERSION = 1
_RESERVED = re.compile(r"(table|figure)\d.*|claims.*")
"""Names that reports give to their own files."""
_LARGEST_FILE = 250_000  # bytes, thousands of lines; reading more would take long
_MOST_CELLS = 100_000

NAME_PATTERN = r"[a-z0-9-]{1,100}"
Name = Annotated[str, StringConstraints(pattern=rf"^{NAME_PATTERN}$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


class Sweep(BaseModel):
    """A sweep file as it was written, its keys known and its hyperparameters checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: Name
    title: Annotated[str, StringConstraints(max_length=500), AfterValidator(_printable)] = ""
    table: Annotated[int, Field(strict=True, ge=1, le=7)] | None = None
    dataset: str | None = None
    split: str = "random"
    timing: Literal["shared", "exclusive"] = "shared"
    fixed: dict[str, Any] = {}
    grid: dict[str, Any] | list[dict[str, Any]] = []
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    scales: dict[Literal["demo", "paper"], dict[str, Any]] = {}

    @property
    def axes(self) -> list[str]:
        """The names that the grids vary, in the order of the file."""
        return list(dict.fromkeys(name for grid in self.grids for name in grid))

    @property
    def grids(self) -> list[dict[str, Any]]:
        """The grids whose union is swept."""
        return [self.grid] if isinstance(self.grid, dict) else self.grid


@dataclass(frozen=True)
class Request:
    """How a study is asked for, beside its sweep file."""

    scale: str = "demo"
    seeds: int | None = None
    """Replicates: seeds 0 to ``seeds - 1`` instead of the file's."""
    overrides: tuple[tuple[str, Any], ...] = ()
    """``--set`` values, strongest of all."""


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
        identity = {
            "version": _ID_VERSION,
            "model": self.model,
            "hyperparameters": {
                name: value
                for name, value in self.declared.items()
                if value != FROZEN_DEFAULTS[name]
            },
            "seed": self.seed,
            "dataset": self.fingerprint,
        }
        canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def on(self, fingerprints: Mapping[str, str | None]) -> "Cell":
        """Return the cell on the built dataset of its name."""
        return replace(self, fingerprint=fingerprints.get(self.dataset))


def load(path: Path) -> Sweep:
    """Read and check a sweep file; an error names file, key, value and what is allowed."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise EcsweepError(f"{path}: larger than {_LARGEST_FILE} bytes; not a sweep file.")
        document = documents.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EcsweepError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise EcsweepError(f"{path}: not UTF-8 text ({error.reason}).") from error
    except ValueError as error:
        raise EcsweepError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise EcsweepError(f"{path}: a sweep file must be a mapping with the key 'study'.")
    try:
        sweep = Sweep.model_validate(document)
    except ValidationError as error:
        raise EcsweepError(f"{path}: {problem(error, Sweep.model_fields)}") from None
    if _RESERVED.fullmatch(sweep.study):
        raise EcsweepError(
            f"{path}: study must not be named as the files of a report are (table..., figure..., "
            f"claims...). Received: {sweep.study!r}."
        )
    for scale in SCALES:  # every scale, so that a mistake shows before the long run
        cells(sweep, Request(scale), str(path))
    return sweep


def cells(sweep: Sweep, request: Request, where: str | None = None) -> list[Cell]:
    """Expand a sweep to its cells, in the order of the file, each once.

    ``fixed`` is overridden by the scale, a grid axis by a list under the scale,
    and all of them by the request's overrides. A cell takes of these values
    what its model declares.
    """
    where = where or sweep.study
    scale = {str(name): values for name, values in sweep.scales.items()}.get(request.scale, {})
    overrides = dict(request.overrides)
    fixed = {"split": sweep.split, **sweep.fixed}
    if sweep.dataset is not None:
        fixed.setdefault("dataset", sweep.dataset)
    grids = [dict(grid) for grid in sweep.grids]
    labels: dict[str, str] = {}
    for source, values in ((f"scales.{request.scale}", scale), ("--set", overrides)):
        for name, value in values.items():
            axes = [grid for grid in grids if name in grid]
            for grid in axes:
                grid[name] = _new_axis(name, value, where, source)
                labels[name] = f"--set {name}" if source == "--set" else f"{source}.{name}"
            if not axes:
                fixed[name] = value
    sources = _sources(sweep, scale, request)
    fixed = {
        name: _parse(name, value, where, f"{sources.get(name, 'fixed')}{name}")
        for name, value in fixed.items()
    }
    if not grids or not all(grids):
        raise EcsweepError(f"{where}: grid must name at least one axis with its values.")
    seeds = list(range(request.seeds)) if request.seeds else sorted(set(sweep.seeds))
    found: dict[Cell, None] = {}
    for settings in _settings(grids, labels, len(seeds), where):
        for seed in seeds:
            found[_cell({**fixed, **settings}, seed, where)] = None
    _reject_unused(found, {*fixed, *(name for grid in grids for name in grid)}, where)
    return list(found)


def declared(sweep: Sweep) -> set[str]:
    """Return the names that the models of a sweep take, beside what every cell has."""
    models = {cell.model for cell in cells(sweep, Request())}
    return _used(models)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the name and value of a ``--set`` option such as ``epochs=2``."""
    name, equals, value = text.partition("=")
    if not equals and name in _NAMES:
        raise EcsweepError(f"--set {name} lacks its value: --set {name}=VALUE.")
    if name not in _NAMES:
        raise EcsweepError(
            f"--set takes KEY=VALUE with a key of {', '.join(_NAMES)}. Received: {shown(text)}."
            f"{nearest(name, _NAMES)}"
        )
    try:
        return name, documents.parse(value)
    except ValueError as error:
        raise EcsweepError(f"--set {name}: not a value ({error}).") from error


def _sources(sweep: Sweep, scale: Mapping[str, Any], request: Request) -> dict[str, str]:
    """Say where each overriding value came from, for error messages."""
    sources = dict.fromkeys(("dataset", "split"), "")
    sources |= dict.fromkeys(sweep.fixed, "fixed.")
    sources |= dict.fromkeys(scale, f"scales.{request.scale}.")
    return sources | dict.fromkeys(dict(request.overrides), "--set ")


def _new_axis(name: str, value: object, where: str, source: str) -> list[Any]:
    nested = hyperparameters.is_list(name) if name in hyperparameters.NAMES else False
    single = not isinstance(value, list) or (nested and not any(isinstance(v, list) for v in value))
    if not single:
        assert isinstance(value, list)
        return value
    if source == "--set":
        return [value]
    raise EcsweepError(
        f"{where}: {source}.{name} replaces a grid axis and must be a list of values. "
        f"Received: {shown(value)}."
    )


def _settings(
    grids: list[dict[str, Any]], labels: Mapping[str, str], seeds: int, where: str
) -> Iterator[dict[str, Any]]:
    """Yield the points of each grid; the first axis varies slowest.

    ``labels`` says of replaced axes where they come from, for error messages.
    """
    total = 0
    for number, grid in enumerate(grids):
        label = "grid" if len(grids) == 1 else f"grid[{number}]"
        axis_values = [
            [
                _parse(name, value, where, labels.get(name, f"{label}.{name}"))
                for value in _axis(name, values)
            ]
            for name, values in grid.items()
        ]
        size = 1
        for name, values in zip(grid, axis_values, strict=True):
            if not values:
                _check_name(name, where, f"{label}.{name}")
                raise EcsweepError(f"{where}: {label}.{name} must list at least one value.")
            size *= len(values)
        total += size
        if total * seeds > _MOST_CELLS:
            raise EcsweepError(f"{where}: grid and seeds span more than {_MOST_CELLS} cells.")
        for point in itertools.product(*axis_values):
            yield dict(zip(grid, point, strict=True))


def _axis(name: str, values: object) -> list[Any]:
    """Return the values of an axis; a single value, as explicit lists of cells give, is one."""
    if not isinstance(values, list):
        return [values]
    nested = name in hyperparameters.NAMES and hyperparameters.is_list(name)
    if nested and values and not any(isinstance(value, list) for value in values):
        return [values]
    return values


def _check_name(name: object, where: str, key: str) -> None:
    if name not in _NAMES:
        raise EcsweepError(
            f"{where}: unknown key {shown(key)}.{nearest(str(name), _NAMES)} "
            f"Allowed: {', '.join(_NAMES)}."
        )


def _parse(name: object, value: object, where: str, key: str) -> Any:
    _check_name(name, where, key)
    name, hint = str(name), ""
    if name == "dataset":
        if isinstance(value, str) and re.fullmatch(NAME_PATTERN, value):
            return value
        must = "a name of lower-case letters, digits and hyphens"
    elif name in _CHOICES:
        if value in _CHOICES[name]:
            return value
        must = f"one of {', '.join(_CHOICES[name])}"
        hint = nearest(str(value), _CHOICES[name])
    else:
        try:
            return hyperparameters.parse(name, value)
        except ValueError as error:
            must = str(error)
    raise EcsweepError(f"{where}: {key} must be {must}. Received: {shown(value)}.{hint}")


def _cell(values: dict[str, Any], seed: int, where: str) -> Cell:
    choices = {name: values.pop(name, None) for name in ("dataset", *_CHOICES)}
    for name in ("model", "dataset"):
        if choices[name] is None:
            raise EcsweepError(f"{where}: {name} must be given in fixed or in grid.")
    model = MODELS[choices["model"]]
    kept = {name: value for name, value in values.items() if name in model.hyperparameters}
    values_of_model = Hyperparameters(**kept)
    impossible = model.check(values_of_model)
    if impossible:
        raise EcsweepError(f"{where}: impossible cell: {impossible}.")
    return Cell(**choices, hyperparameters=values_of_model, seed=seed)


def _reject_unused(found: Mapping[Cell, None], names: set[str], where: str) -> None:
    models = sorted({cell.model for cell in found})
    unused = sorted(names - _used(models))
    if unused:
        raise EcsweepError(
            f"{where}: {unused[0]} is not a hyperparameter of {' or '.join(models)}. "
            f"Remove it, or sweep a model that has it."
        )


def _used(models: Iterable[str]) -> set[str]:
    own = (MODELS[model].hyperparameters for model in models)
    return {"dataset", *_CHOICES}.union(*own)
