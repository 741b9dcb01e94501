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

    @classmethod
    def none(cls) -> "Transfers":
        """Return a table that leaves every number as it is."""
        return cls((), {})

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
def built_in() -> Transfers:
    """Return the table that comes with ecsweep."""
    path = packed("data") / TABLE
    return Transfers((f"built-in of {STATE}",), _resolved(enzyme_files.moves(path), {}, path))


def load(path: Path) -> Transfers:
    """Return the built-in table with what a file says, which wins: see `enzyme_files.moves`.

    Raises:
        EcsweepError: the file cannot be read, is no such table, or moves numbers in a circle.
    """
    own = enzyme_files.moves(path)
    base = enzyme_files.moves(packed("data") / TABLE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    origin = (*built_in().origin, f"{path.name} (sha256 {digest})")
    return Transfers(origin, _resolved(own, base, path))


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
