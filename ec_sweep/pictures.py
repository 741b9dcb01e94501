"""Which figures a study's report has, and of what numbers; `ec_sweep.figures` draws them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ec_sweep import analysis, figures, heatmaps, layouts, leakage, supplement
from ec_sweep.cell import Data
from ec_sweep.report import Report, Row
from ec_sweep.stored import Measured

_CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")

_MOST_NAMED = 8
"""Points of a figure that have room for names in words; of more the values alone stand there."""
_MOST_VALUES = 40
"""Of a hyperparameter that goes down or across a heat map; of more nothing can be read."""


class Picture(NamedTuple):
    """A figure that is to be drawn."""

    name: str
    """Of its files, without suffix."""
    draw: Callable[[], Any]
    reading: str
    """What kind of figure it is and how it is read, in a sentence."""


def of_dataset(card: Mapping[str, Any]) -> Picture:
    """Return how many sequences of each class a dataset has."""
    name = f"dataset-{card['name']}-{card['fingerprint'][:12]}"
    title = f"Classes of the dataset {card['name']}, {card['split']} split"
    draw = partial(figures.class_shares, title, card["class_counts"])
    return Picture(name, draw, "Sequences of each class, one bar a part of the dataset.")


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
        reading = f"Test accuracy of each model, one mark a split; bars: {interval}."
        yield Picture(f"{made.study}-splits", draw, reading)
    for data in made.cards:
        yield from _grid(made, data)
        yield from _of_data(made, data, best, seed)


def _title(made: Report, more: str) -> str:
    scale = f"{made.scale} scale{', changed' if made.changed else ''}"
    return f"{made.title or made.study} ({scale}{more})"


def _learning(made: Report, tracker: Measured, seed: str) -> Iterator[Picture]:
    """Yield the learning curves of the rows that were trained for several epochs."""
    curves = [
        figures.Curve(
            supplement.named(made, row),
            *(tracker.history(row.runs[min(row.runs)], metric) for metric in _CURVES),
        )
        for row in made.rows
        if row.runs and row.metrics.get("epochs_run", 0) > 1
    ]
    if curves:
        reading = "Learning curves: loss and accuracy by epoch, validation solid and marked, "
        reading += "training dashed."
        if len(curves) > figures.MOST_CURVES:
            reading += (
                f" In colour the {figures.BEST_CURVES} best of {len(curves)} by validation "
                "accuracy, in grey the validation of the others."
            )
        draw = partial(figures.learning_curves, _title(made, seed), curves)
        yield Picture(f"{made.study}-learning", draw, reading)


def _grid(made: Report, data: Data) -> Iterator[Picture]:
    """Yield accuracy over the two hyperparameters with the most values, panels by the others.

    Nothing of a study that varies in one alone, or has values for half of the places or less.
    """
    rows = [row for row in made.rows if row.data == data and "test_accuracy" in row.metrics]
    axes = [axis for axis in made.axes if axis not in ("dataset", "split")]
    values = {a: list(dict.fromkeys(layouts.values_of(row, [a])[0] for row in rows)) for a in axes}
    ranked = sorted((a for a in axes if len(values[a]) > 1), key=lambda a: -len(values[a]))
    if made.metric or len(ranked) < 2 or len(values[ranked[0]]) > _MOST_VALUES:
        return  # what a sampler drew has hardly two points in a line
    down, across, *others = ranked
    panels: dict[str, list[Row]] = {}
    for row in rows:
        label = ", ".join(
            f"{layouts.heading(axis).lower()} {value}"
            for axis, value in zip(others, layouts.values_of(row, others), strict=True)
        )
        panels.setdefault(label, []).append(row)
    places = len(values[down]) * len(values[across])
    if 2 * len(rows) <= places * len(panels):
        return
    grids = []
    for label, some in panels.items():
        accuracies = np.full((len(values[down]), len(values[across])), np.nan)
        for row in some:
            at = layouts.values_of(row, [down, across])
            place = values[down].index(at[0]), values[across].index(at[1])
            accuracies[place] = row.metrics["test_accuracy"]
        grids.append(heatmaps.Grid(label, values[down], values[across], accuracies))
    suffix, which = _which(data, made)
    headings = layouts.heading(down), layouts.heading(across)
    draw = partial(heatmaps.accuracy_grids, _title(made, which), *headings, grids)
    mean = ", mean over the seeds" if any(row.n > 1 for row in rows) else ""
    reading = f"Heat map of the grid: test accuracy{mean}, by colour and number."
    yield Picture(f"{made.study}-grid{suffix}", draw, reading)


def _of_data(
    made: Report, data: Data, best: Sequence[analysis.Selected], seed: str
) -> Iterator[Picture]:
    """Yield the figures of one dataset and split."""
    suffix, which = _which(data, made)
    timed = [r for r in made.rows if "epoch_seconds_median" in r.metrics and r.data == data]
    crowded = len(timed) > _MOST_NAMED
    label = analysis.label_of if crowded else supplement.named
    points = [
        figures.Point(
            label(made, row),
            row.metrics["epoch_seconds_median"],
            row.metrics["test_accuracy"],
            row.ci95.get("test_accuracy"),
        )
        for row in timed
    ]
    names = {analysis.label_of(made, row): supplement.named(made, row) for row in made.rows}
    matrices = [
        figures.Confusion(names[cell.label], made.cards[data]["classes"], cell.confusion)
        for cell in best
        if cell.data == data
    ]
    if points:
        seconds = "Training time (seconds an epoch)"
        by = ", ".join(layouts.heading(axis).lower() for axis in made.axes)
        title = _title(made, which) + f", named by {by}" * (crowded and bool(by))
        draw: Callable[[], Any] = partial(figures.accuracy_over_time, title, points, seconds)
        reading = (
            "Test accuracy against training time: filled models are on the Pareto front, than "
            "which none is both faster and more accurate."
        )
        yield Picture(f"{made.study}-time{suffix}", draw, reading)
    if matrices:
        draw = partial(figures.confusion_matrices, _title(made, which + seed), matrices)
        reading = (
            "Confusion matrix of the best cell of each model by validation accuracy: true classes "
            f"down, predicted ones across. {figures.numbers_of(len(matrices[0].classes))}"
        )
        yield Picture(f"{made.study}-confusion{suffix}", draw, reading)


def _which(data: Data, made: Report) -> tuple[str, str]:
    """Return what tells the files, and the titles, of one dataset and split from the others'."""
    columns = zip(*made.cards, strict=True)
    own = [name for name, all_names in zip(data, columns, strict=True) if len({*all_names}) > 1]
    return "".join(f"-{name}" for name in own), "".join(f", {name}" for name in own)
