"""Heat maps of a grid: accuracy over two hyperparameters, one panel a value of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ec_sweep.drawing import WIDTH, new_figure, styled, wrapped
from ec_sweep.layouts import MISSING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Grid:
    """Accuracies as shares by the values of two hyperparameters; NaN where there is none."""

    label: str
    """What the panel is of; empty where there is but one."""
    down: Sequence[str]
    across: Sequence[str]
    accuracies: npt.NDArray[np.float64]
    """``[down, across]``."""


@styled()
def accuracy_grids(title: str, down: str, across: str, grids: Sequence[Grid]) -> "Figure":
    """Draw one panel a grid, all on one scale of colours, with the value in each place.

    The scale runs from dark to light, so that it reads in grey and to the colour-blind.
    """
    from matplotlib.colors import Normalize

    columns = min(len(grids), 2)
    rows = math.ceil(len(grids) / columns)
    names = max(len(name) for grid in grids for name in grid.across)
    width = (WIDTH - 1.2) / columns / max(len(grid.across) for grid in grids)  # inches of a place
    steep = 0.075 * names > width
    height = 0.65 + 0.24 * max(len(grid.down) for grid in grids) + 0.075 * names * steep
    figure = new_figure(title, 0.4 + rows * height)
    found = np.concatenate([grid.accuracies[np.isfinite(grid.accuracies)] for grid in grids])
    scale = Normalize(found.min(), max(found.max(), found.min() + 1e-9))
    for index, grid in enumerate(grids):
        axes = figure.add_subplot(rows, columns, index + 1)
        mesh = _panel(axes, grid, scale, width)
        axes.tick_params("x", rotation=90 if steep else 0)
        axes.set(xlabel=wrapped(across, 40), ylabel=wrapped(down, 30))
        axes.set_title(wrapped(grid.label, 76 // columns))
    figure.colorbar(mesh, ax=figure.axes, label="Test accuracy", aspect=30)
    return figure


def _panel(axes: "Axes", grid: Grid, scale: Any, width: float) -> Any:
    """Draw one grid with places ``width`` inches wide; returns what a colour bar needs."""
    from matplotlib import colormaps

    shown = np.ma.masked_invalid(grid.accuracies)
    mesh = axes.pcolormesh(
        shown, cmap=colormaps["cividis"], norm=scale, edgecolors="w", linewidth=0.4
    )
    digits = 4 if width > 0.45 else 2
    for (row, column), value in np.ndenumerate(grid.accuracies):
        lacks = not math.isfinite(value)
        axes.text(
            column + 0.5, row + 0.5, MISSING if lacks else f"{value:.{digits}f}",
            color="0.45" if lacks else "black" if scale(value) > 0.55 else "white",
            fontsize=min(7.5, 26 * width), ha="center", va="center", in_layout=False,
        )  # fmt: skip
    ticks = [np.arange(len(names)) + 0.5 for names in (grid.across, grid.down)]
    axes.set_xticks(ticks[0], [wrapped(name, 30) for name in grid.across])
    axes.set_yticks(ticks[1], [wrapped(name, 30) for name in grid.down])
    axes.set_ylim(len(grid.down), 0)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    return mesh
