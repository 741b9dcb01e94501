"""Homologous families, found by MMseqs2 linclust."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from ec_sweep.splits import Column, Groups

IDENTITY = 0.5  # as UniRef50; see docs/fidelity.md


@dataclass(frozen=True)
class Program:
    """An MMseqs2 program."""

    path: str
    version: str


def find() -> Program:
    """Find MMseqs2: ``ECSWEEP_MMSEQS``, then ``mmseqs`` on the path, then the wheel's.

    Raises:
        EcsweepError: there is none, or it does not run.
    """
    raise NotImplementedError


def families(
    digests: "Column",
    sequences: "Iterable[pa.Array]",
    identity: float = IDENTITY,
    *,
    program: Program,
    folder: Path,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> "Groups":
    """Return the family of each row, as the number of a row that holds its representative.

    ``digests`` has 16 bytes a row; ``sequences`` brings the same rows' sequences in
    batches. What is written on the way stands in ``folder`` and is removed again.

    Raises:
        EcsweepError: MMseqs2 failed.
    """
    raise NotImplementedError
