"""What a driver is to do: the cells of a study, what is left of them, how they are told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ec_sweep.datasets import Dataset
from ec_sweep.ledger import Attempt, State, state_of
from ec_sweep.own_models import file_of
from ec_sweep.saving import About, Keep
from ec_sweep.spec import Cell, Data
from ec_sweep.versions import code_version


@dataclass(frozen=True)
class Plan:
    """What a driver is to do: the cells, on which datasets, and what varies among them."""

    study: str
    """``name@scale``."""
    cells: Sequence[Cell]
    datasets: Mapping[Data, Dataset]
    axes: Mapping[str, list[Any]]
    """The values of each grid axis."""

    @cached_property
    def _replicated(self) -> bool:
        return len({cell.seed for cell in self.cells}) > 1

    def label(self, cell: Cell) -> str:
        """Return what tells this cell from the others, such as ``filter_size=9``."""
        values = {name: cell.params[name] for name in self.axes if name in cell.params}
        if self._replicated:
            values["seed"] = cell.seed
        return " ".join(f"{name}={pretty(value)}" for name, value in values.items()) or cell.model

    def about(self, cell: Cell, keep: Keep) -> About | None:
        """Return what the model trained for a cell is to say of itself, if it is to be saved."""
        if keep == "none":
            return None
        card = self.datasets[cell.data].card
        return About(
            model=cell.model,
            hyperparameters=cell.hyperparameters,
            classes=tuple(card["classes"]),
            dataset={name: str(card[name]) for name in ("name", "fingerprint", "split", "source")},
            shortest=card["filters"]["shortest"],
            longest=card["filters"]["longest"],
            study=self.study,
            cell=str(cell.id),
            seed=cell.seed,
            keep=keep,
            ecsweep=code_version(),
            own=file_of(cell.model),
        )


def pretty(value: object) -> str:
    """Return a hyperparameter's value as people write it: 0.0001, relu, 3-4-5."""
    if isinstance(value, float):
        positional = 1e-7 < abs(value) < 1e7
        return np.format_float_positional(value, trim="-") if positional else repr(value)
    if isinstance(value, list | tuple):
        return "-".join(map(pretty, value))
    return str(value)


def size(count: float) -> str:
    """Return bytes as people say them: 950 kB, 1.2 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            number = count / unit
            return f"{number:.1f} {name}" if number < 10 else f"{number:,.0f} {name}"
    return f"{count:.0f} bytes"


def cells_to_run(
    cells: Sequence[Cell], attempts: Mapping[str, Sequence[Attempt]], retry_failed: bool
) -> list[Cell]:
    """Return the cells that are not done, in order."""
    wanted: set[State] = {"waiting", "running", "interrupted"}
    if retry_failed:
        wanted |= {"failed", "not_available"}
    return [cell for cell in cells if state_of(attempts.get(str(cell.id), [])) in wanted]
