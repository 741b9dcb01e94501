"""What a study will take: time, memory and disk, from earlier cells and by arithmetic.

Nothing is guessed: where no earlier cell tells, that is said, and what would tell.
"""

import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ec_sweep import earlier, hints, machine, sharing, weights
from ec_sweep.earlier import UNLIKE, Earlier, Need
from ec_sweep.mlflow_store import keeps_artifacts_here
from ec_sweep.paths import Home
from ec_sweep.plan import size
from ec_sweep.planning import Resolved, StudyStatus
from ec_sweep.recipes import RECIPES
from ec_sweep.saving import Keep

_DATABASES = 2_200_000
"""Bytes of both databases before a first attempt, from above: after four they held 1.2 MB."""
_OF_ATTEMPT = 25_000
"""Bytes that an attempt is reckoned to add to both databases; a test holds the sum against them."""
_OF_EPOCH = 1_000
"""Bytes that an epoch is reckoned to add to MLflow's database."""
_OF_ID = 12
"""Bytes of a sequence's name and label in predictions, compressed."""

_ENDS = ("low", "typical", "high")

Certainty = Literal["measured", "scaled", "unknown"]


@dataclass(frozen=True)
class Span:
    """Seconds: what to reckon with, between the least and the most."""

    low: float
    typical: float
    high: float

    def over(self, workers: int, longest: "Span") -> "Span":
        """Return the time when workers share the whole, of which one cell is the longest."""
        return Span(
            max(self.low / workers, longest.low),
            max(self.typical / workers, longest.typical),
            max(self.high / workers, longest.high),
        )


@dataclass(frozen=True)
class Part:
    """Cells that are to run and cost the same, and what tells how much."""

    model: str
    length: int
    train: int | None
    cells: float
    """How many; of what a sampler has still to draw, each corner stands for its share."""
    certainty: Certainty
    runs: int
    """Earlier cells that tell."""
    unlike: tuple[str, ...]
    """In what they differ."""
    times: float
    """How many times as many residues an epoch reads as theirs did."""
    seconds: Span | None
    """Of one cell."""
    memory: float
    """Bytes that the process of a trial was measured to hold; 0 where none of the size was."""
    memory_at_least: int
    """Bytes that it holds at the very least, by arithmetic."""
    on_card_at_least: int
    """The same of a GPU's memory."""


@dataclass(frozen=True)
class Disk:
    """Bytes that what is left of a study writes at most."""

    checkpoints: int
    """Of the trials under way; they go with the study."""
    models: int
    predictions: int
    databases: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.checkpoints + self.models + self.predictions + self.databases


@dataclass(frozen=True)
class Estimate:
    """What is left of a study takes."""

    parts: Sequence[Part]
    workers: int
    disk: Disk
    free: int
    """Bytes free where the home folder is."""
    warnings: Sequence[str]
    to_learn: str
    """What would tell where nothing does: a command, or words."""

    @property
    def seconds(self) -> Span | None:
        """The time of the cells of which something is known; ``None`` where nothing is."""
        known = [(part.seconds, part.cells) for part in self.parts if part.seconds]
        if not known:
            return None
        each = [Span(s.low * n, s.typical * n, s.high * n) for s, n in known]
        longest = Span(*(max(getattr(s, end) for s, _ in known) for end in _ENDS))
        total = Span(*(sum(getattr(s, end) for s in each) for end in _ENDS))
        return total.over(self.workers, longest)

    @property
    def certainty(self) -> Certainty:
        """That of the least certain cells."""
        found = {part.certainty for part in self.parts}
        order: tuple[Certainty, ...] = ("unknown", "scaled", "measured")
        return next((name for name in order if name in found), "measured")

    def to_json(self) -> dict[str, Any]:
        """Return what ``plan --json`` prints as ``estimate``."""
        return {
            "seconds": asdict(self.seconds) if self.seconds else None,
            "certainty": self.certainty,
            "workers": self.workers,
            "basis": [
                {
                    "model": part.model,
                    "length": part.length,
                    "train": part.train,
                    "cells": round(part.cells, 2),
                    "certainty": part.certainty,
                    "runs": part.runs,
                    "unlike": list(part.unlike),
                    "times_larger": round(part.times, 3),
                    "seconds_per_cell": asdict(part.seconds) if part.seconds else None,
                    "memory_bytes": round(part.memory) or None,
                    "memory_bytes_at_least": part.memory_at_least,
                }
                for part in self.parts
            ],
            "disk_bytes": {**asdict(self.disk), "total": self.disk.total, "free": self.free},
            "warnings": list(self.warnings),
            "to_learn": self.to_learn if self.certainty == "unknown" else None,
        }


def estimate(
    home: Home,
    found: StudyStatus,
    *,
    workers: int | None = None,
    keep: Keep = "best",
    elsewhere: bool = False,
) -> Estimate:
    """Return what is left of a study takes.

    ``workers`` are those asked for, if any; trials that run ``elsewhere``, on a
    cluster, do not need this machine's memory.
    """
    resolved = found.resolved
    exclusive = resolved.sweep.timing == "exclusive" or not found.left
    beside = 1 if exclusive else workers or sharing.usual_workers(found.left, exclusive=False)
    needs = _needs(found)
    known = earlier.find(home, resolved.name, needs) if needs else {}
    parts = [
        _part(need, count, known.get(need.model, []), alone=beside == 1)
        for need, count in needs.items()
    ]
    disk = _disk(home, needs, beside, keep)
    free = shutil.disk_usage(_there(home.root)).free
    warnings = [] if elsewhere else list(_of_memory(parts, machine.visible_gpus()))
    if disk.total > free:
        warnings.append(
            f"{resolved.name} may write {size(disk.total)} (checkpoints {size(disk.checkpoints)}, "
            f"models {size(disk.models)}), and {size(free)} are free in {home.root}."
        )
    return Estimate(_merged(parts), beside, disk, free, warnings, _to_learn(resolved))


def _needs(found: StudyStatus) -> Mapping[Need, float]:
    """Return what is left to run, alike cells together, with their number."""
    resolved = found.resolved
    left = [c.cell for c in found.cells if c.state in ("waiting", "interrupted", "running")]
    corners = resolved.examples if resolved.to_draw else []
    found_needs: dict[Need, float] = {}
    for cells, share in ((left, 1.0), (corners, resolved.to_draw / max(1, len(corners)))):
        for cell in cells:
            need = earlier.need_of(cell, resolved.datasets.get(cell.data))
            found_needs[need] = found_needs.get(need, 0) + share
    return found_needs


def _part(need: Need, count: float, known: Sequence[Earlier], *, alone: bool) -> Part:
    some, unlike = earlier.closest(known, need, alone)
    least = weights.training_bytes(need.model, need.hp, need.classes)
    at_least = weights.checkpoint_bytes(need.model, need.hp, need.classes)
    certainty: Certainty = "unknown"
    seconds, memory = None, 0.0
    if some:
        certainty = "scaled" if unlike[0] or unlike[1] else "measured"
        seconds = _seconds(need, some)
        memory = max(own.memory for own in some) if not any(unlike[:3]) else 0.0
    words = tuple(word for word, differs in zip(UNLIKE, unlike, strict=False) if differs)
    return Part(
        need.model, need.hp.length, need.train, count,
        certainty, len(some), words, some[0].times_larger(need) if some else 1.0,
        seconds, memory, at_least, least,
    )  # fmt: skip


def _seconds(need: Need, some: Sequence[Earlier]) -> Span:
    """Return the time of a cell: early stopping may end it as it ended the earlier ones."""
    alike = [own for own in some if own.params.get("epochs", "1") == str(need.epochs)]
    trained = [own.epochs for own in alike] or [float(need.epochs)]
    usual, fewest = statistics.median(trained), min(trained)
    return Span(
        min(own.seconds(need, fewest) for own in some),
        statistics.median(own.seconds(need, usual) for own in some),
        max(own.seconds(need, need.epochs) for own in some),
    )


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Join parts that differ in their network alone; of a cell's time the mean counts."""
    groups: dict[tuple[Any, ...], list[Part]] = {}
    for part in parts:
        key = part.model, part.length, part.train, part.certainty, part.unlike
        groups.setdefault(key, []).append(part)
    return [_joined(group) for group in groups.values()]


def _joined(group: Sequence[Part]) -> Part:
    cells = math.fsum(part.cells for part in group)
    timed = [(part.seconds, part.cells / cells) for part in group if part.seconds]
    mean = Span(*(math.fsum(getattr(s, end) * share for s, share in timed) for end in _ENDS))
    first = group[0]
    return Part(
        first.model, first.length, first.train, cells,
        first.certainty, max(part.runs for part in group), first.unlike,
        max(part.times for part in group),
        mean if timed else None,
        max(part.memory for part in group),
        max(part.memory_at_least for part in group),
        max(part.on_card_at_least for part in group),
    )  # fmt: skip


def _disk(home: Home, needs: Mapping[Need, float], workers: int, keep: Keep) -> Disk:
    """Return what is written at most; artifacts of a server are not this disk's."""
    if not needs:
        return Disk(0, 0, 0, 0)
    checkpoint = max(weights.checkpoint_bytes(n.model, n.hp, n.classes) for n in needs)
    models = {
        need: weights.model_bytes(need.model, need.hp, need.classes, need.train or 0)
        for need in needs
    }
    at_once = min(workers, math.ceil(math.fsum(needs.values())))
    # A worker writes its model, MLflow gets a copy, and then the worker's goes.
    kept = at_once * max(models.values())
    if keep == "none":
        kept = 0
    elif keep == "best":  # the next best comes before the last goes
        kept += 2 * sum(max(m for n, m in models.items() if n.data == d) for d in _data(needs))
    else:
        kept += math.ceil(math.fsum(models[need] * count for need, count in needs.items()))
    predictions = math.fsum(
        need.test * (weights.FLOAT * need.classes + _OF_ID) * count for need, count in needs.items()
    )
    rows = math.fsum((_OF_ATTEMPT + _OF_EPOCH * need.epochs) * n for need, n in needs.items())
    new = 0 if home.studies_db.exists() else _DATABASES
    if not keeps_artifacts_here(home):
        kept, predictions = 0 if keep == "none" else at_once * max(models.values()), 0
    # One more: the next is written aside before it takes the place of the last.
    return Disk((at_once + 1) * checkpoint, kept, math.ceil(predictions), math.ceil(rows) + new)


def _data(needs: Mapping[Need, float]) -> set[tuple[str, str]]:
    return {need.data for need in needs}


def _of_memory(parts: Sequence[Part], gpus: Sequence[str]) -> Iterator[str]:
    """Yield a line where one trial takes more memory than there is."""
    if not parts:
        return
    cards = [card.total for card in machine.cards(gpus) if card] if gpus else []
    widest = max(parts, key=lambda part: part.on_card_at_least)
    if cards and widest.on_card_at_least > max(cards):
        yield (
            f"a trial of {widest.model} at length {widest.length} holds at least "
            f"{size(widest.on_card_at_least)} of weights and optimizer, and no GPU here has more "
            f"than {size(max(cards))}."
        )
    needy = max(parts, key=lambda part: max(part.memory, part.memory_at_least))
    held = max(needy.memory, 0 if gpus else needy.memory_at_least)
    how = "was measured to hold" if needy.memory >= needy.memory_at_least else "holds at least"
    what = f"a trial of {needy.model} at length {needy.length} {how} {size(held)}"
    if held > (total := machine.total_memory()):
        yield f"{what}, and this machine has {size(total)}."
    elif held > (available := machine.available_memory()):
        yield f"{what}, and {size(available)} are free now."


def _to_learn(resolved: Resolved) -> str:
    """Say what would tell how long cells take."""
    study, scale = resolved.sweep.study, resolved.request.scale
    if resolved.missing and scale != "demo":
        return "Build its dataset first."
    if scale != "demo" and all(name in RECIPES for name, _ in resolved.datasets):
        return f"Its demo scale would tell roughly: {hints.command('study', study)}"
    short = hints.command("study", study, "--set", "epochs=1", scale=scale)
    return f"One epoch of each would tell (and then, for the whole, --defaults): {short}"


def _there(path: Path) -> Path:
    """Return a folder that exists, the path's own or the nearest above it."""
    return next(folder for folder in (path, *path.parents) if folder.exists())
