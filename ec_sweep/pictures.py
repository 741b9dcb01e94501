"""Which figures a study's report has, and of what numbers; `ec_sweep.figures` draws them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ec_sweep import analysis, figures, layouts, leakage
from ec_sweep.cell import Data
from ec_sweep.report import Report
from ec_sweep.stored import Measured

_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")

Picture = tuple[str, Callable[[], Any]]
"""A file's name without its suffix, and what draws it."""


def of_study(
    made: Report, tracker: Measured, best: Sequence[analysis.Selected]
) -> Iterator[Picture]:
    """Yield a study's figures; ``best`` are the cells whose confusion is shown."""
    seed = ", first seed" if any(row.n > 1 for row in made.rows) else ""
    yield from _learning(made, tracker, seed)
    if len(made.splits) > 1:
        found, interval = leakage.estimates(made)
        splits = {
            split: {label: figures.Estimate(*ends) for label, ends in by_label.items()}
            for split, by_label in found.items()
        }
        draw = partial(figures.accuracy_by_split, _title(made, ""), splits, interval)
        yield f"{made.study}-splits", draw
    for data in made.cards:
        yield from _of_data(made, data, best, seed)


def _title(made: Report, more: str) -> str:
    scale = f"{made.scale} scale{', changed' if made.changed else ''}"
    return f"{made.title or made.study} ({scale}{more})"


def _learning(made: Report, tracker: Measured, seed: str) -> Iterator[Picture]:
    """Yield the learning curves of the rows that were trained for several epochs."""
    curves = [
        figures.Curve(
            analysis.label_of(made, row),
            *(tracker.history(row.runs[min(row.runs)], metric) for metric in _CURVES),
        )
        for row in made.rows
        if row.runs and row.metrics.get("epochs_run", 0) > 1
    ]
    if curves:
        by = ", ".join(layouts.heading(axis).lower() for axis in made.axes)
        title = _title(made, seed) + (f", curves by {by}" if by else "")
        yield f"{made.study}-learning", partial(figures.learning_curves, title, curves)


def _of_data(
    made: Report, data: Data, best: Sequence[analysis.Selected], seed: str
) -> Iterator[Picture]:
    """Yield the figures of one dataset and split."""
    suffix, which = _which(data, made)
    points = [
        figures.Point(
            analysis.label_of(made, row),
            row.metrics["epoch_seconds_median"],
            row.metrics["test_accuracy"],
            row.ci95.get("test_accuracy"),
        )
        for row in made.rows
        if "epoch_seconds_median" in row.metrics and row.data == data
    ]
    matrices = [
        figures.Confusion(cell.label, made.cards[data]["classes"], cell.confusion)
        for cell in best
        if cell.data == data
    ]
    if points:
        seconds = "Training time (seconds an epoch)"
        title = _title(made, which)
        draw: Callable[[], Any] = partial(figures.accuracy_over_time, title, points, seconds)
        yield f"{made.study}-time{suffix}", draw
    if matrices:
        draw = partial(figures.confusion_matrices, _title(made, which + seed), matrices)
        yield f"{made.study}-confusion{suffix}", draw


def _which(data: Data, made: Report) -> tuple[str, str]:
    """Return what tells the files, and the titles, of one dataset and split from the others'."""
    columns = zip(*made.cards, strict=True)
    own = [name for name, all_names in zip(data, columns, strict=True) if len({*all_names}) > 1]
    return "".join(f"-{name}" for name in own), "".join(f", {name}" for name in own)
