"""Sweep files: from YAML to a validated, frozen list of cells.

A regular grid, a list of grids and an explicit list of settings all become
cells here and nowhere else.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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

from ec_sweep import documents, space
from ec_sweep.cell import METRICS, MOST_CELLS, make_cell, reject_unused, used
from ec_sweep.cell import Cell as Cell
from ec_sweep.cell import Data as Data
from ec_sweep.cell import Sampled as Sampled
from ec_sweep.errors import EcsweepError
from ec_sweep.refusals import excerpt, problem
from ec_sweep.space import parse

SCALES = ("demo", "paper")
RESERVED = re.compile(r"(table|figure)\d.*|claims.*|report")
"""Names that reports give to their own files."""
_LARGEST_FILE = 250_000  # bytes, thousands of lines; reading more would take long

Name = Annotated[str, StringConstraints(pattern=rf"^{space.NAME_PATTERN}$")]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


class Sweep(BaseModel):
    """A sweep file as it was written, its keys known and its hyperparameters checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: Name
    """Its name: lower-case letters, digits and hyphens."""
    title: Annotated[str, StringConstraints(max_length=500), AfterValidator(_printable)] = ""
    """What it compares, in one line: the caption of its table."""
    table: Annotated[int, Field(strict=True, ge=1, le=7)] | None = None
    """The paper's table whose layout and printed values go with it."""
    dataset: str | None = None
    """What it trains on: enzyme, ec37, or a dataset of your own by its name."""
    split: str = "random"
    """How train, valid and test are told apart."""
    timing: Literal["shared", "exclusive"] = "shared"
    """exclusive: each trial has the machine to itself, so that its times are reported."""
    fixed: dict[str, Any] = {}
    """Values that all cells have."""
    grid: dict[str, Any] | list[dict[str, Any]] = []
    """Values to vary: a cell for each combination; a list of grids is their union."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    """Each cell is trained with each of these: initial weights and order of batches."""
    scales: dict[Literal["demo", "paper"], dict[str, Any]] = {}
    """Values that hold at one scale only; over an axis of the grid a list, which replaces it."""
    sampler: Literal["grid", "random", "tpe", "gp"] = "grid"
    """grid: every combination; the others draw cells from the grid and its ranges."""
    trials: Annotated[int, Field(strict=True, ge=1, le=MOST_CELLS)] | None = None
    """Different cells that a sampler draws in all."""
    metric: str = "val_accuracy"
    """What a sampler goes by, never a metric of the test set."""
    direction: Literal["maximize", "minimize"] | None = None
    """Whether more or less of the metric is better; the metric decides where it is left out."""
    pruner: Literal["median", "hyperband"] | None = None
    """Ends cells early whose validation loss is worse than that of cells before."""

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
class _Asked:
    """A sweep with the values of scale and overrides in their places."""

    fixed: dict[str, Any]
    grids: list[dict[str, Any]]
    labels: dict[str, str]
    """Where replaced axes come from, for error messages."""
    seeds: list[int]

    @property
    def names(self) -> set[str]:
        """All that is fixed or varied."""
        return {*self.fixed, *(name for grid in self.grids for name in grid)}


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
        hint = ' Quote a text that holds ": ".' if "mapping values" in str(error) else ""
        raise EcsweepError(f"{path}: not valid YAML: {error}.{hint}") from error
    if not isinstance(document, dict):
        raise EcsweepError(f"{path}: a sweep file must be a mapping with the key 'study'.")
    try:
        sweep = Sweep.model_validate(document)
    except ValidationError as error:
        raise EcsweepError(f"{path}: {problem(error, Sweep.model_fields)}") from None
    if RESERVED.fullmatch(sweep.study):
        raise EcsweepError(
            f"{path}: study must not be named as the files of a report are (table..., figure..., "
            f"claims..., report). Received: {sweep.study!r}."
        )
    for scale in SCALES:  # every scale, so that a mistake shows before the long run
        examples(sweep, Request(scale), str(path))
    _check_once(sweep, str(path))
    return sweep


def cells(sweep: Sweep, request: Request, where: str | None = None) -> list[Cell]:
    """Expand a sweep to its cells, in the order of the file, each once.

    ``fixed`` is overridden by the scale, a grid axis by a list under the scale,
    and all of them by the request's overrides. A cell takes of these values
    what its model declares. A sampled sweep lists none: see `sampled`.
    """
    where = _name(sweep, request, where)
    asked = _asked(sweep, request, where)
    if sweep.sampler != "grid":
        return []
    found: dict[Cell, None] = {}
    for settings in _settings(asked.grids, asked.labels, len(asked.seeds), where):
        for seed in asked.seeds:
            found[make_cell({**asked.fixed, **settings}, seed, where)] = None
    reject_unused(found, asked.names, where)
    return list(found)


def sampled(sweep: Sweep, request: Request, where: str | None = None) -> Sampled | None:
    """Return what the cells of a sampled sweep are drawn from, ``None`` for a grid."""
    where = _name(sweep, request, where)
    if sweep.sampler == "grid":
        return None
    asked = _asked(sweep, request, where)
    if len(asked.grids) > 1:
        raise EcsweepError(
            f"{where}: sampler {sweep.sampler} draws from one grid, not from a list of them. "
            f"Make one mapping of {len(asked.grids)}, or a study of each."
        )
    if len(asked.seeds) > 1:
        raise EcsweepError(
            f"{where}: sampler {sweep.sampler} trains each cell with one seed. "
            f"Received: {len(asked.seeds)} seeds. Give --seeds 1; repeat the best cells in a grid."
        )
    axes = {
        name: space.axis(name, written, where, asked.labels.get(name, f"grid.{name}"))
        for name, written in asked.grids[0].items()
    }
    if "split" in axes and axes["split"].size != 1:
        raise EcsweepError(
            f"{where}: sampler {sweep.sampler} compares cells by {sweep.metric}, which splits make "
            "more or less easy. Fix split, or compare splits in a grid."
        )
    assert sweep.trials is not None
    found = Sampled(
        sweep.sampler, sweep.trials, sweep.metric, asked.seeds[0], axes, asked.fixed, where
    )
    corners = dict.fromkeys(found.extremes())
    reject_unused(corners, asked.names, where)
    most = space.size(axes, {cell.model for cell in corners})
    if most is not None and sweep.trials > most:
        raise EcsweepError(
            f"{where}: trials must be at most {most}, the cells that there are. "
            f"Received: {sweep.trials}. {_fewer_trials(axes, bool(request.overrides))}"
        )
    return found


def _fewer_trials(axes: Mapping[str, space.Axis], overridden: bool) -> str:
    """Say how a sweep that is to draw more cells than there are can be mended."""
    if overridden:
        return "Give --set more values, or lower trials in the sweep file."
    ranges = [name for name, found in axes.items() if isinstance(found, space.Range)]
    listed = f"list the values of {' and '.join(ranges)} and " if ranges else ""
    return f"Lower it; or {listed}leave sampler and trials out: a grid runs all."


def examples(sweep: Sweep, request: Request, where: str | None = None) -> list[Cell]:
    """Return all cells of a grid, or those at the corners of what a sampler draws from."""
    drawn = sampled(sweep, request, where)
    return drawn.extremes() if drawn else cells(sweep, request, where)


def declared(sweep: Sweep, scale: str) -> set[str]:
    """Return the names that the models of a sweep take, beside what every cell has."""
    models = {cell.model for cell in examples(sweep, Request(scale))}
    return used(models)


def parse_override(text: str) -> tuple[str, Any]:
    """Return the name and value of a ``--set`` option such as ``epochs=2``."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not value and name in space.names():
        raise EcsweepError(f"--set {name} lacks its value: --set {name}=VALUE.")
    if name not in space.names():
        raise EcsweepError(f"--set takes KEY=VALUE. Received: {excerpt(text)}.{space.meant(name)}")
    try:
        return name, documents.parse(value)
    except ValueError as error:
        open_list = value.startswith("[") and not value.endswith("]")
        hint = " The list lacks its ]." if open_list else ""
        raise EcsweepError(f"--set {name}: not a value ({error}).{hint}") from error


def _name(sweep: Sweep, request: Request, where: str | None) -> str:
    """Return what errors name: the file, or the study where --set and not the file is wrong."""
    return sweep.study if request.overrides or where is None else where


def _asked(sweep: Sweep, request: Request, where: str) -> _Asked:
    """Put the values of scale and overrides in their places."""
    _check_sampler(sweep, where)
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
                grid[name] = space.replacement(name, value, where, source)
                labels[name] = f"--set {name}" if source == "--set" else f"{source}.{name}"
            if not axes:
                key = f"--set {name}" if source == "--set" else f"{source}.{name}"
                space.check_single(name, value, where, key)
                fixed[name] = value
    sources = _sources(sweep, scale, request)
    fixed = {
        name: parse(name, value, where, f"{sources.get(name, 'fixed')}{name}")
        for name, value in fixed.items()
    }
    if not grids or not all(grids):
        raise EcsweepError(f"{where}: grid must name at least one axis with its values.")
    if isinstance(sweep.grid, list) and len(grids) == 1:
        labels = {name: f"grid[0].{name}" for name in grids[0]} | labels
    seeds = list(range(request.seeds)) if request.seeds else sorted(set(sweep.seeds))
    return _Asked(fixed, grids, labels, seeds)


def _check_sampler(sweep: Sweep, where: str) -> None:
    if sweep.sampler == "grid" and sweep.trials is not None:
        raise EcsweepError(
            f"{where}: trials counts what a sampler draws, and a grid runs all its cells. "
            f"Add sampler: random (or tpe, gp), or leave trials out."
        )
    if sweep.sampler != "grid" and sweep.trials is None:
        raise EcsweepError(f"{where}: sampler {sweep.sampler} needs trials: N, the cells to draw.")
    if sweep.metric not in METRICS:
        raise EcsweepError(
            f"{where}: metric must be {' or '.join(METRICS)}: choosing by the test set would leak "
            f"it into the choice. Received: {excerpt(sweep.metric)}."
        )
    if sweep.direction not in (None, METRICS[sweep.metric]):
        raise EcsweepError(
            f"{where}: direction must be {METRICS[sweep.metric]} for {sweep.metric}. "
            f"Received: {excerpt(sweep.direction)}. Leave it out: the metric decides."
        )


def _check_once(sweep: Sweep, where: str) -> None:
    """Raise an error when a value, or a seed, is given twice."""
    both = [name for name in sweep.fixed if sweep.grids and all(name in g for g in sweep.grids)]
    if both:
        raise EcsweepError(
            f"{where}: {excerpt(both[0])} stands in fixed and in grid, which would replace it. "
            "Remove one."
        )
    seed, times = Counter(sweep.seeds).most_common(1)[0]
    if times > 1:
        raise EcsweepError(f"{where}: the seed {seed} is given {times} times in seeds.")


def _sources(sweep: Sweep, scale: Mapping[str, Any], request: Request) -> dict[str, str]:
    """Say where each overriding value came from, for error messages."""
    sources = dict.fromkeys(("dataset", "split"), "")
    sources |= dict.fromkeys(sweep.fixed, "fixed.")
    sources |= dict.fromkeys(scale, f"scales.{request.scale}.")
    return sources | dict.fromkeys(dict(request.overrides), "--set ")


def _settings(
    grids: Sequence[Mapping[str, Any]], labels: Mapping[str, str], seeds: int, where: str
) -> Iterator[dict[str, Any]]:
    """Yield the points of each grid; the first axis varies slowest."""
    total = 0
    for number, grid in enumerate(grids):
        label = "grid" if len(grids) == 1 else f"grid[{number}]"
        axes = [
            space.choices(name, values, where, labels.get(name, f"{label}.{name}"))
            for name, values in grid.items()
        ]
        total += math.prod(map(len, axes))
        if total * seeds > MOST_CELLS:
            raise EcsweepError(f"{where}: grid and seeds span more than {MOST_CELLS} cells.")
        for point in itertools.product(*axes):
            yield dict(zip(grid, point, strict=True))
