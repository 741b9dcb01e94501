"""Figures of a report: only drawn here, 16 cm wide, legible without colour, labels as given."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ec_sweep.drawing import (
    COLOURS,
    MARKERS,
    WIDTH,
    add_legend,
    make_logarithmic,
    new_figure,
    styled,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CURVES = 10
"""Learning curves that can be told apart in one figure; of more only the best have a colour."""
BEST_CURVES = 6
_MOST_WITH_COUNTS, _MOST_WITH_SHARES = 5, 20
"""Classes of a confusion matrix whose cells have room for counts and shares, or for shares."""
# Neighbours differ in lightness too, so that bars stay apart in black and white.
_BARS = (("#0072B2", ""), ("#F3C969", "////"), ("#FFFFFF", ""), ("#CC79A7", "xxxx"))


@dataclass(frozen=True)
class Curve:
    """The course of one run, one value an epoch from epoch 1; losses in nats, accuracies shares."""

    label: str
    train_loss: Sequence[float]
    val_loss: Sequence[float]
    train_accuracy: Sequence[float]
    val_accuracy: Sequence[float]


@dataclass(frozen=True)
class Point:
    """One model: time in seconds, accuracy as a share, half of its 95 % interval if known."""

    label: str
    seconds: float
    accuracy: float
    half_interval: float | None = None


@dataclass(frozen=True)
class Estimate:
    """An accuracy as a share, and the ends of its 95 % interval."""

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """What one model took each class for: ``counts`` is ``int64[true, predicted]``."""

    label: str
    classes: Sequence[str]
    counts: npt.NDArray[np.int64]


@styled()
def learning_curves(title: str, curves: Sequence[Curve]) -> "Figure":
    """Draw loss and accuracy by epoch: validation solid and marked, training dashed.

    Of more than `MOST_CURVES` the best by last validation accuracy are drawn so, and of
    the others validation alone, thin and grey.
    """
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(title, 2.8)
    others: Sequence[Curve] = ()
    if len(curves) > MOST_CURVES:
        ranked = sorted(curves, key=_last_accuracy, reverse=True)
        curves, others = ranked[:BEST_CURVES], ranked[BEST_CURVES:]
    distinct = len(curves) <= len(COLOURS)
    colours = COLOURS if distinct else colormaps["viridis"](np.linspace(0, 0.9, len(curves)))
    handles: list[Any] = []
    for panel, name in enumerate(("loss", "accuracy")):
        axes = figure.add_subplot(1, 2, panel + 1)
        for curve, colour, marker in zip(curves, colours, itertools.cycle(MARKERS), strict=False):
            train, validation = getattr(curve, f"train_{name}"), getattr(curve, f"val_{name}")
            axes.plot(
                range(1, len(train) + 1), train, color=colour, linestyle="--", linewidth=0.7,
                marker="o" if len(train) == 1 else "",  # a line needs two epochs to be seen
                markersize=6, markerfacecolor="none", markeredgewidth=0.7,
            )  # fmt: skip
            every = math.ceil(max(1, len(validation)) / 8)
            handles += axes.plot(
                range(1, len(validation) + 1), validation, color=colour, linewidth=1.2,
                marker=marker, markersize=3.5, markevery=(len(handles) % every, every),
            )  # fmt: skip
        for curve in others:
            validation = getattr(curve, f"val_{name}")
            grey = axes.plot(
                range(1, len(validation) + 1), validation, color="0.72", linewidth=0.5, zorder=1,
                marker="." if len(validation) == 1 else "", markersize=3,
            )  # fmt: skip
        values = [value for line in axes.lines for value in np.asarray(line.get_ydata())]
        logarithmic = name == "loss" and make_logarithmic(axes, "y", values, 100)
        axes.set_title("Loss (logarithmic)" if logarithmic else name.capitalize())
        axes.set_xlabel("Epoch (training dashed or hollow)")
        axes.set_xlim(0.5, max([1, *(np.size(line.get_xdata()) for line in axes.lines)]) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    handles, labels = handles[: len(curves)], [curve.label for curve in curves]
    if others:
        handles, labels = handles + grey, [*labels, f"{len(others)} others, validation alone"]
    add_legend(figure, handles, labels)
    return figure


def _last_accuracy(curve: Curve) -> float:
    last = curve.val_accuracy[-1] if curve.val_accuracy else math.nan
    return last if math.isfinite(last) else -math.inf


@styled()
def accuracy_over_time(title: str, points: Sequence[Point], time_label: str) -> "Figure":
    """Draw accuracy against time, every model by name, with the Pareto front.

    Models on the front are filled, others hollow; a point that is not finite is left out.
    """
    figure = new_figure(title, 3.8)
    axes = figure.add_subplot()
    points = [p for p in points if math.isfinite(p.seconds) and math.isfinite(p.accuracy)]
    front = pareto_front(points)
    seconds, accuracies = [p.seconds for p in points], [p.accuracy for p in points]
    make_logarithmic(axes, "x", seconds, 20 if min(seconds, default=0) > 0 else math.inf)
    axes.step(
        [point.seconds for point in front], [point.accuracy for point in front], where="post",
        color=COLOURS[1], linewidth=1.2, label="Pareto front: none is faster and more accurate",
    )  # fmt: skip
    axes.errorbar(
        seconds, accuracies, yerr=[point.half_interval or math.nan for point in points],
        fmt="none", ecolor="0.45", elinewidth=0.9, capsize=3,
        label="95 % interval" if any(point.half_interval for point in points) else None,
    )  # fmt: skip
    fills = [COLOURS[0] if point in front else "white" for point in points]
    axes.scatter(seconds, accuracies, 26, fills, edgecolors=COLOURS[0], zorder=3)
    axes.set(xlabel=wrapped(time_label, 90), ylabel="Accuracy", xmargin=0.1, ymargin=0.12)
    figure.legend(loc="outside lower center", ncols=2)
    _name_points(figure, points, front)
    return figure


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return, fastest first, the points that no other beats at no loss; equal ones all stay."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.seconds, -point.accuracy)):
        last = front[-1] if front else Point("", math.nan, -math.inf)
        same = (point.seconds, point.accuracy) == (last.seconds, last.accuracy)
        if same or point.accuracy > last.accuracy:
            front.append(point)
    return front


@styled()
def accuracy_by_split(
    title: str, splits: Mapping[str, Mapping[str, Estimate]], interval: str
) -> "Figure":
    """Draw the test accuracy of each model, one mark a split; ``interval`` says what the bars are.

    Estimates by model by split; a lacking model has no mark.
    """
    models = list(dict.fromkeys(name for found in splits.values() for name in found))
    figure = new_figure(title, 0.7 + 0.34 * max(2, len(models)))
    axes = figure.add_subplot()
    handles: list[Any] = []
    for number, (found, colour, marker) in enumerate(
        zip(splits.values(), itertools.cycle(COLOURS), itertools.cycle(MARKERS), strict=False)
    ):
        offset = 0.22 * (number - (len(splits) - 1) / 2)  # beside each other, the first on top
        values = [(e.accuracy, e.accuracy - e.low, e.high - e.accuracy) for e in found.values()]
        accuracies, below, above = zip(*values, strict=True) if values else ((), (), ())
        handles += axes.errorbar(
            accuracies, [models.index(name) + offset for name in found], xerr=[below, above],
            fmt=marker, color=colour, markersize=4.5, elinewidth=0.9, capsize=2,
        )[:1]  # fmt: skip
    axes.set_yticks(range(len(models)), [wrapped(name, 30) for name in models])
    axes.set(ylim=(len(models) - 0.5, -0.5), xlabel=f"Test accuracy (bars: {interval})")
    axes.tick_params("y", length=0, grid_alpha=0)
    add_legend(figure, handles, list(splits))
    return figure


@styled()
def confusion_matrices(title: str, matrices: Sequence[Confusion]) -> "Figure":
    """Draw one matrix a model, coloured by the share of each true class (row).

    In the cells stand counts and per cent of the row for up to five classes, per cent alone
    for up to 20, nothing for more. A true class without a sequence is a grey row.
    """
    size = max((len(matrix.classes) for matrix in matrices), default=1)
    columns = 4 if size <= 3 else 3 if size == 6 else 2 if size <= 20 else 1
    rows = max(1, math.ceil(len(matrices) / columns))
    columns = max(1, math.ceil(len(matrices) / rows))
    inches = 0.064 * max((min(30, len(n)) for m in matrices for n in m.classes), default=1)
    side = min((WIDTH - 0.4 - inches) / columns - 0.1, 2.9 if size <= 13 else 4.6)
    steep = inches > side / size  # the longest name is wider than its column
    figure = new_figure(title, 0.4 + rows * (side + 0.4 + (inches if steep else 0.1)))
    figure.set_layout_engine("compressed")
    for index, matrix in enumerate(matrices):
        axes = figure.add_subplot(rows, columns, index + 1)
        mesh = _matrix(axes, matrix, 72 * side / size)
        axes.tick_params("x", rotation=90 if steep else 0)
        axes.set_title(wrapped(matrix.label, 76 // columns))
        if index % columns == 0:
            axes.set_ylabel("True class")
        elif list(matrix.classes) == list(matrices[index - 1].classes):
            axes.set_yticklabels([])
    figure.supxlabel(f"Predicted class. {numbers_of(size)}", fontsize=8)
    if size > _MOST_WITH_SHARES:
        figure.colorbar(mesh, ax=figure.axes, aspect=40, label="Per cent of the true class")
    return figure


def numbers_of(classes: int) -> str:
    """Say what stands in the cells of a confusion matrix of so many classes."""
    if classes <= _MOST_WITH_COUNTS:
        return "Numbers and colour: test sequences, and their share of the true class."
    if classes <= _MOST_WITH_SHARES:
        return "Numbers and colour: per cent of the true class; none where no sequence is."
    return "Colour: share of the true class."


@styled()
def class_shares(title: str, samples: Mapping[str, Mapping[str, int]]) -> "Figure":
    """Draw the number of sequences of each class, one bar a sample (the paper's Figure 4).

    Counts by class by sample; a lacking class counts 0. Over 56 bars take several rows.
    """
    classes = list(dict.fromkeys(name for counts in samples.values() for name in counts))
    rows = math.ceil(max(1, len(classes) * len(samples)) / 56)
    per_row = max(1, math.ceil(len(classes) / rows))
    figure = new_figure(title, 0.6 + (2.9 if rows == 1 else 2.2) * rows)
    every = [count for counts in samples.values() for count in counts.values()]
    low, top = min([count for count in every if count > 0], default=1) / 2, max([*every, 1])
    for row in range(rows):
        axes = figure.add_subplot(rows, 1, row + 1)
        shown = classes[row * per_row : (row + 1) * per_row]
        logarithmic = make_logarithmic(axes, "y", every, 100)
        handles = [
            _bars(axes, [counts.get(name, 0) for name in shown], place, len(samples), per_row)
            for place, counts in enumerate(samples.values())
        ]
        # Bars are as wide in each row, and no wider than those of four classes.
        middle, half = (len(shown) - 1) / 2, max(4, per_row) / 2
        ceiling = low * (top / low) ** 1.25 if logarithmic else 1.25 * top  # room for numbers
        axes.set(xlim=(middle - half, middle + half), ylim=(low if logarithmic else 0, ceiling))
        axes.set_ylabel("Sequences")
        steep = 90 if max(map(len, shown), default=0) * max(4, per_row) > 85 else 0
        axes.set_xticks(range(len(shown)), [wrapped(name, 30) for name in shown], rotation=steep)
        axes.tick_params("x", length=0, grid_alpha=0)
    add_legend(figure, handles, list(samples))
    return figure


def _name_points(figure: "Figure", points: Sequence[Point], front: Sequence[Point]) -> None:
    """Write each label at the nearest place where it covers no label, point or line."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # to be measured it must be laid out
    axes = figure.axes[0]
    bars = [(point.seconds, point.accuracy, point.half_interval or 0) for point in points]
    lines = [((x, y - half), (x, y + half)) for x, y, half in bars]
    for a, b in itertools.pairwise(front):
        corner = (b.seconds, a.accuracy)
        lines += [((a.seconds, a.accuracy), corner), (corner, (b.seconds, b.accuracy))]
    taken = [Bbox(axes.transData.transform(ends)).padded(4) for ends in lines]
    sides = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
    spots = [(distance, *side) for distance in (4, 8, 16, 28, 42) for side in sides]
    for point in sorted(points, key=lambda point: -point.accuracy):
        near: dict[str, Any] = {
            "xy": (point.seconds, point.accuracy),
            "textcoords": "offset points",
        }
        label = axes.annotate(wrapped(point.label, 32), xytext=(0, 0), fontsize=7.5, **near)
        label.set_in_layout(False)  # placing it must not move what it was placed by
        for distance, x, y in [*spots, spots[0]]:
            label.set(position=(x * distance, y * distance))
            label.set(ha=("center", "left", "right")[x], va=("center", "bottom", "top")[y])
            box = label.get_window_extent()
            if not box.count_overlaps(taken) and axes.bbox.count_contains(box.corners()) == 4:
                break
        if distance > 8:
            look = {"arrowstyle": "-", "color": "0.45", "linewidth": 0.5, "shrinkA": 0}
            axes.annotate("", xytext=(x * distance, y * distance), arrowprops=look, **near)
        taken.append(box)


def _matrix(axes: "Axes", matrix: Confusion, width: float) -> Any:
    """Draw one matrix with cells ``width`` points wide; returns what a colour bar needs."""
    from matplotlib import colormaps

    counts = np.asarray(matrix.counts)
    of_row = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    share = np.ma.masked_where(of_row == 0, 100 * counts / np.maximum(of_row, 1))
    colours = colormaps["Blues"].with_extremes(bad="#DDDDDD")
    mesh = axes.pcolormesh(share, cmap=colours, vmin=0, vmax=100, edgecolors="w", linewidth=0.4)
    ticks, names = np.arange(len(counts)) + 0.5, [wrapped(name, 30) for name in matrix.classes]
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.set(aspect="equal", ylim=(len(counts), 0))
    axes.tick_params(length=0)
    both, some = len(counts) <= _MOST_WITH_COUNTS, len(counts) <= _MOST_WITH_SHARES
    letters = max(len("100.0 %"), len(f"{counts.max(initial=0):,}"))  # 0.65 of their size wide
    size = min(8, width / 0.65 / letters if both else 0.44 * width)
    for true, predicted in np.argwhere((of_row > 0) & ((counts > 0) | both) & some):
        part, count = share[true, predicted], counts[true, predicted]
        axes.text(
            predicted + 0.5, true + 0.5, f"{count:,}\n{part:.1f} %" if both else f"{part:.0f}",
            color="white" if part > 55 else "black", fontsize=size, ha="center", va="center",
            in_layout=False,
        )  # fmt: skip
    return mesh


def _bars(axes: "Axes", counts: Sequence[int], place: int, samples: int, classes: int) -> Any:
    """Draw the ``place``-th of so many samples beside the others, its numbers on the bars."""
    width = 0.9 / samples
    points = 72 * (WIDTH - 0.7) * width / max(4, classes)  # what a bar is wide
    steep = points < 36
    colour, hatch = _BARS[place % len(_BARS)]
    lefts = np.arange(len(counts)) + (place - samples / 2) * width
    bars = axes.bar(lefts, counts, width, align="edge", color=colour, hatch=hatch, edgecolor="k")
    for left, count in zip(lefts, counts, strict=True):
        # Zero has no place on a logarithmic axis: its number stands on the floor.
        axes.annotate(
            f"{count:,}", (left + width / 2, count), (0.6 if steep else 0, 2),
            xycoords="data" if count else axes.get_xaxis_transform(), in_layout=False,
            textcoords="offset points", fontsize=min(7.5, 0.85 * points),
            rotation=90 if steep else 0, ha="center", va="bottom",
        )  # fmt: skip
    return bars
