"""EC numbers that were transferred or deleted, and what stands for them now."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from ec_sweep import enzyme_files
from ec_sweep.ec import EcNumber, parse
from ec_sweep.enzyme_files import Move
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import packed

TABLE = "ec-transfers.tsv"
STATE = "2026-06-24"
"""The day whose nomenclature the built-in table has."""
TRANSLOCASES, CURRENT, NONE = "translocases", "current", "none"
BASES = (TRANSLOCASES, CURRENT, NONE)
"""What a table builds on: numbers that moved to EC 7, as the paper has them; all that moved or
were deleted up to `STATE`; nothing."""


@dataclass(frozen=True)
class Migrated:
    """What became of the EC numbers of a protein."""

    numbers: tuple[str, ...]
    """The numbers now: canonical, in order, each once."""
    moved: tuple[str, ...] = ()
    """Those that became one other number: ``3.6.3.8 → 7.2.2.10``."""
    split: tuple[str, ...] = ()
    """Those that became several: ``1.1.1.5 → 1.1.1.303, 1.1.1.304``."""
    deleted: tuple[str, ...] = ()
    """Those that nothing stands for any more."""

    @property
    def lost(self) -> bool:
        """Whether it had numbers and all are deleted: it is an enzyme without a number."""
        return bool(self.deleted) and not self.numbers


@dataclass(frozen=True)
class Transfers:
    """What stands for numbers that are no longer in use; a number stands for itself elsewhere.

    A partial number moves only where the table names it: the built-in one does
    so where all members of a class that is empty now went to one sub-class.
    """

    origin: tuple[str, ...]
    """Where it comes from, for the card."""
    targets: Mapping[EcNumber, tuple[EcNumber, ...]]
    """The numbers in use that stand for one that is not; none if it is deleted."""

    def apply(self, numbers: tuple[str, ...]) -> Migrated:
        """Return what stands for the numbers now, and what was done.

        Raises:
            InvalidEcNumber: one of them is no EC number.
        """
        found: set[EcNumber] = set()
        done: dict[str, list[str]] = {"moved": [], "split": [], "deleted": []}
        for number in sorted(set(map(parse, numbers))):
            targets = self.targets.get(number)
            if targets is None:
                found.add(number)
                continue
            found.update(targets)
            kind = ("deleted", "moved", "split")[min(len(targets), 2)]
            arrow = f" → {', '.join(map(str, targets))}" if targets else ""
            done[kind].append(f"{number}{arrow}")
        return Migrated(
            tuple(map(str, sorted(found))), **{kind: tuple(texts) for kind, texts in done.items()}
        )


@cache
def built_in(base: str = TRANSLOCASES) -> Transfers:
    """Return one of the `BASES` that come with ecsweep."""
    return Transfers(_origin(base), _resolved({}, _moves(base), packed("data") / TABLE))


def load(path: Path, base: str = TRANSLOCASES) -> Transfers:
    """Return one of the `BASES` with what a file says, which wins: see `enzyme_files.moves`.

    Raises:
        EcsweepError: the file cannot be read, is no such table, or moves numbers in a circle.
    """
    own = enzyme_files.moves(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    origin = (*_origin(base), f"{path.name} (sha256 {digest})")
    return Transfers(origin, _resolved(own, _moves(base), path))


def _origin(base: str) -> tuple[str, ...]:
    return () if base == NONE else (f"{base}, built-in of {STATE}",)


@cache
def _moves(base: str) -> Mapping[EcNumber, Move]:
    """Return the moves of a base, chains not followed yet."""
    if base == NONE:
        return {}
    path = packed("data") / TABLE
    moves = enzyme_files.moves(path)
    if base == CURRENT:
        return moves
    ends = _resolved({}, moves, path)
    into = {old for old, targets in ends.items() if any(one.main == 7 for one in targets)}
    return {old: move for old, move in moves.items() if old in into}


def summary(counted: Iterable[tuple[Migrated, int]]) -> dict[str, Any]:
    """Return how many proteins had each number moved, split and deleted, for the card.

    Takes what became of each text that gives EC numbers, and how many have it.
    """
    kinds: dict[str, Counter[str]] = {"moved": Counter(), "split": Counter(), "deleted": Counter()}
    for migrated, count in counted:
        for kind, counts in kinds.items():
            for text in getattr(migrated, kind):
                counts[text] += count
    return {
        kind: {text: counts[text] for text in sorted(counts, key=_old_number)}
        for kind, counts in kinds.items()
    }


def _old_number(text: str) -> EcNumber:
    return parse(text.partition(" ")[0])


def _resolved(
    own: Mapping[EcNumber, Move], base: Mapping[EcNumber, Move], path: Path
) -> dict[EcNumber, tuple[EcNumber, ...]]:
    """Follow every chain to its ends; what is deleted on the way is left out."""
    targets = {
        old: move.targets for old, move in {**base, **own}.items() if move.targets is not None
    }
    final: dict[EcNumber, tuple[EcNumber, ...]] = {}
    try:
        for number in TopologicalSorter(targets).static_order():  # targets first
            if number in targets:
                ends = {end for target in targets[number] for end in final.get(target, (target,))}
                final[number] = tuple(sorted(ends))
    except CycleError as error:
        circle = error.args[1][::-1]
        line = min(own[number].line for number in circle if number in own)
        raise EcsweepError(
            f"{path}: line {line}: moves numbers in a circle: {' → '.join(map(str, circle))}. "
            f"Write {enzyme_files.KEPT!r} as the new number of the one that is in use."
        ) from None
    return final
