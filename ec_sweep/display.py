"""What a driver tells whoever shows a study while it runs."""

from collections.abc import Mapping
from typing import Protocol

from ec_sweep.attempts import Result
from ec_sweep.spec import Cell


class Display(Protocol):
    """What watches a study and shows it."""

    def started(self, cell: Cell) -> None:
        """Show that an attempt at a cell has begun."""
        ...

    def placed(self, cell: Cell, node: str) -> None:
        """Show on which node of a cluster an attempt has begun."""
        ...

    def epoch(self, cell: Cell, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch."""
        ...

    def ended(self, cell: Cell, result: Result) -> None:
        """Show how an attempt ended."""
        ...

    def note(self, text: str) -> None:
        """Show a line of text."""
        ...
