"""What a study is asked for and how far it is: resolves names, files and requests to cells."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ec_sweep import cell_data, hints, machine, own_models, recalling, sampling, spec
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.experiments import find_tracker
from ec_sweep.hyperparameters import in_text
from ec_sweep.ledger import DONE, Attempt, Ledger, State, state_of
from ec_sweep.ledger_store import known_attempts
from ec_sweep.paths import Home, packed
from ec_sweep.plan import Plan, pretty
from ec_sweep.spec import SCALES, Cell, Data, Request, Sampled, Sweep


@dataclass(frozen=True)
class Place:
    """Where a command's state is."""

    home: Home
    storage: str | None = None
    """SQLAlchemy URL that replaces the home folder's ledger."""


@dataclass(frozen=True)
class CellStatus:
    """A cell and what has become of it."""

    cell: Cell
    attempts: Sequence[Attempt] = ()

    @property
    def state(self) -> State:
        """The state of the last attempt."""
        return state_of(self.attempts)

    def to_json(self) -> dict[str, Any]:
        """Return the cell as ``plan --json`` and ``status --json`` print it."""
        last = self.attempts[-1] if self.attempts else None
        return {
            "cell": self.cell.id,
            "params": self.cell.params,
            "seed": self.cell.seed,
            "state": self.state,
            "attempts": len(self.attempts),
            "run_id": last.run_id if last else None,
            "failure": last.failure if last else None,
        }


@dataclass(frozen=True)
class Resolved:
    """A study as it is asked for: its file, the request, and its cells."""

    sweep: Sweep
    request: Request
    before: Request | None
    """What was last asked for, where that has seeds or overrides."""
    cells: list[Cell]
    """All of a grid; of a sampled sweep those drawn so far that are known here."""
    datasets: dict[Data, Dataset]
    """Those that are built, by name and split."""
    sampled: Sampled | None = None
    """What cells are drawn from; ``None`` for a grid."""
    file: Path | None = None
    """The user's own sweep file, ``None`` for one that comes with ecsweep."""

    @property
    def name(self) -> str:
        """``name@scale``, as MLflow and Optuna know it."""
        return f"{self.sweep.study}@{self.request.scale}"

    @property
    def examples(self) -> list[Cell]:
        """All cells of a grid, or those at the corners of what a sampler draws from."""
        return self.sampled.extremes() if self.sampled else self.cells

    @property
    def missing(self) -> list[Data]:
        """The datasets that the study needs and that are not built."""
        needed = dict.fromkeys(cell.data for cell in self.examples)
        return [data for data in needed if data not in self.datasets]

    @property
    def to_draw(self) -> int:
        """How many cells a sampler has still to draw."""
        return self.sampled.trials - len(self.cells) if self.sampled else 0

    def after(self, attempts: Mapping[str, Sequence[Attempt]]) -> "Resolved":
        """Return the study with the cells that have been drawn, as the ledger knows them."""
        if self.sampled is None:
            return self
        points = sampling.drawn(self.sampled, attempts).values()
        return replace(self, cells=[self.sampled.cell(point) for point in points])

    @property
    def plan(self) -> Plan:
        """What a driver is to do."""
        if self.sampled:
            ends = {name: list(axis.extremes) for name, axis in self.sampled.axes.items()}
            varied = {name: found for name, found in ends.items() if len(found) > 1}
            return Plan(self.name, self.cells, self.datasets, varied or ends)
        values = {
            name: list(dict.fromkeys(value for cell in self.cells for value in _values(cell, name)))
            for name in self.sweep.axes
        }
        varied = {name: found for name, found in values.items() if len(found) > 1}
        return Plan(self.name, self.cells, self.datasets, varied or values)


def options_of(request: Request) -> str:
    """Return the options, beside the study's name, that make a request again."""
    parts = [f"--seeds {request.seeds}"] if request.seeds else []
    for name, value in request.overrides:
        parts.append(f"--set {shlex.quote(f'{name}={in_text(value)}')}")
    return " ".join(parts)


@dataclass(frozen=True)
class StudyStatus:
    """Every cell of a study with its state."""

    resolved: Resolved
    cells: list[CellStatus]
    orphaned: dict[str, State] = field(default_factory=dict)
    """Recorded cells that the study does not ask for any more; they are left alone."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to run and nothing failed."""
        return not self.resolved.to_draw and all(cell.state in DONE for cell in self.cells)

    @property
    def left(self) -> int:
        """Count the cells that are still to run, those not drawn yet included."""
        return self.count("waiting", "interrupted", "running") + self.resolved.to_draw

    def count(self, *states: State) -> int:
        """Count the cells in these states."""
        return sum(cell.state in states for cell in self.cells)

    def to_json(self) -> dict[str, Any]:
        """Return what ``plan --json`` and ``status --json`` print."""
        sampled = self.resolved.sampled
        drawing = {"sampler": sampled.sampler, "trials": sampled.trials} if sampled else {}
        return {
            "study": self.resolved.sweep.study,
            "scale": self.resolved.request.scale,
            "cells": [cell.to_json() for cell in self.cells],
            **drawing,
            "orphaned": self.orphaned,
        }


def sweep_files() -> dict[str, Path]:
    """Return the sweep files of ``./sweeps`` and the packed ones, by the study they name.

    An own file comes before a packed one of the same study. The paper's tables stand first, in
    their order. A file that cannot be read stands under its own name: asking for it says why.
    """
    found: dict[str, Path] = {}
    tables: dict[str, int | None] = {}
    for folder in (Path("sweeps"), packed("sweeps")):
        for path in sorted(folder.glob("*.yaml")):
            try:
                sweep = spec.load(path)
                name, table = sweep.study, sweep.table
            except EcsweepError:
                name, table = recalling.study_of(path) or path.stem, None
            tables.setdefault(name, table)
            other = found.setdefault(name, path)
            if other != path and other.parent == folder:
                raise EcsweepError(f"{path} names its study {name!r}, as {other} does. Rename one.")
    return {name: found[name] for name in sorted(found, key=lambda n: (tables[n] or 99, n))}


def is_path(study: str) -> bool:
    """Say whether a study is given by the path of its file, not by name."""
    return study.endswith((".yaml", ".yml")) or os.sep in study


def name_of(home: Home, study: str) -> str:
    """Return the name of a study given by name, which may only have run here, or by path."""
    if not is_path(study) and any(find_tracker(home, f"{study}@{s}") for s in SCALES):
        return study
    return load_sweep(home, study)[1].study


def load_sweep(home: Home, study: str, scale: str | None = None) -> tuple[Path, Sweep]:
    """Return the file of a study and what it says; advised commands name it as it is given."""
    path = find_sweep(study, home)
    sweep = recalling.load(home, path, scale)
    if is_path(study):
        hints.by_path(sweep.study, study)
    return path, sweep


def find_sweep(study: str, home: Home | None = None) -> Path:
    """Return the file of a study given by name or by path, or with which it has run in a home."""
    if is_path(study):
        return Path(study)
    files = sweep_files()
    if study not in files and home and (known := _last_file(home, study)):
        return known
    if study not in files:
        raise _unknown(study, files)
    return files[study]


def _unknown(study: str, known: Iterable[str]) -> EcsweepError:
    """Return the error that no study has a name, with what may be meant."""
    if (other := Path("sweeps") / f"{study}.yml") in Path("sweeps").glob("*.yml"):
        return EcsweepError(
            f"no study is named {study!r}: names are looked for in files that end in .yaml. "
            f"Rename {other}, or give its path."
        )
    if (own := Path("sweeps") / f"{study}.yaml") in Path("sweeps").glob("*.yaml"):
        return EcsweepError(f"{own} names its study {spec.load(own).study!r}: ask for that.")
    if study in {path.name for path in Path().iterdir() if path.is_dir()}:
        return EcsweepError(f"{study} is a folder. Give the path of a sweep file in it.")
    return EcsweepError(
        f"no study is named {study!r}.{nearest(study, known)} "
        f"Known: {', '.join(sorted(known)) or 'none'}. A path to a YAML file is taken too."
    )


def _last_file(home: Home, study: str) -> Path | None:
    """Return the file with which a study was last run here, if it is still there."""
    for scale in SCALES:
        tracker = find_tracker(home, f"{study}@{scale}")
        plan = tracker.plan() if tracker else None
        file = plan.get("file") if plan else None
        if file and Path(file).exists():
            return Path(file)
    return None


def applicable(study: str, request: Request) -> Request:
    """Return a request without the overrides that mean nothing to any model of a study."""
    declared = spec.declared(spec.load(find_sweep(study)), request.scale)
    kept = tuple((name, value) for name, value in request.overrides if name in declared)
    return replace(request, overrides=kept)


def resolve(
    place: Place, study: str, request: Request, *, follow: bool = True, build: bool = False
) -> Resolved:
    """Return a study's cells.

    Where the request names neither seeds nor overrides and ``follow`` is true,
    those that were last asked for hold. With ``build``, the demo dataset is
    built if need be; otherwise cells on a dataset that is not built have no id.
    """
    path, sweep = load_sweep(place.home, study, request.scale)
    before = _last_request(place, sweep, request.scale) if follow else None
    if before and request.seeds is None and not request.overrides:
        request = before
    cells, sampled = spec.cells(sweep, request, str(path)), spec.sampled(sweep, request, str(path))
    examples = sampled.extremes() if sampled else cells
    where = sweep.study if request.overrides else str(path)
    built = cell_data.find(place.home, request.scale, examples, where, build=build)
    fingerprints = {data: dataset.fingerprint for data, dataset in built.items()}
    cells = [cell.on(fingerprints) for cell in cells]
    if sampled:
        sampled = replace(sampled, fingerprints=fingerprints)
    own = None if path.parent == packed("sweeps") else path.resolve()
    return Resolved(sweep, request, before, cells, built, sampled, own)


def _last_request(place: Place, sweep: Sweep, scale: str) -> Request | None:
    """Return what was last asked of a study, ``None`` where that was the file as it is."""
    tracker = find_tracker(place.home, f"{sweep.study}@{scale}")
    last = tracker.plan() if tracker else None
    if last is None or not (last["request"]["seeds"] or last["request"]["set"]):
        return None
    return Request(scale, last["request"]["seeds"], tuple(last["request"]["set"].items()))


def check_runnable(resolved: Resolved) -> None:
    """Raise an error when a study cannot run for want of what only the user can give."""
    machine.check_backend()
    own_models.check_allowed(cell.model for cell in resolved.examples)
    sampling.check_sampler(resolved.sweep.sampler)
    cell_data.check_built(resolved.missing, resolved.request.scale)


def status(place: Place, resolved: Resolved, ledger: Ledger | None = None) -> StudyStatus:
    """Return the state of every cell; nothing is written."""
    if ledger is None:
        attempts = known_attempts(place.home, place.storage, resolved.name)
    else:
        attempts = ledger.attempts()
    resolved = resolved.after(attempts)
    cells = [CellStatus(cell, attempts.get(str(cell.id), ())) for cell in resolved.cells]
    asked = {cell.id for cell in resolved.cells}
    others = {name: state_of(tries) for name, tries in attempts.items() if name not in asked}
    return StudyStatus(resolved, cells, others)


def plan_document(resolved: Resolved) -> dict[str, Any]:
    """Return what the parent run stores: all that status and report need of the request."""
    request, sampled = resolved.request, resolved.sampled
    drawing = (
        {"sampler": sampled.sampler, "metric": sampled.metric, "direction": sampled.direction}
        if sampled
        else {}
    )
    return {
        "study": resolved.sweep.study,
        "scale": request.scale,
        "title": resolved.sweep.title,
        "table": resolved.sweep.table,
        "timing": resolved.sweep.timing,
        "axes": list(resolved.plan.axes),
        "source": source_of(resolved),
        "file": str(resolved.file) if resolved.file else None,
        **own_models.document(cell.model for cell in resolved.examples),
        "request": {"seeds": request.seeds, "set": dict(request.overrides)},
        "cells": [sampling.document(cell, resolved.datasets) for cell in resolved.cells],
        **drawing,
    }


def source_of(resolved: Resolved) -> str:
    """Say on what data, and how much of it, the cells are trained."""
    data = cell_data.in_words(resolved.datasets, resolved.examples)
    scale, overrides = resolved.request.scale.capitalize(), resolved.request.overrides
    changed = ", ".join(f"{name} {pretty(value)}" for name, value in overrides)
    return f"{scale} scale{f', changed to {changed}' if changed else ''}: {data}"


def _values(cell: Cell, name: str) -> list[Any]:
    """Return a cell's value of a name, none where only another model has it."""
    holder = cell if name in ("model", "dataset", "split") else cell.hyperparameters
    return [getattr(holder, name)] if hasattr(holder, name) else []
