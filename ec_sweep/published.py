"""What the paper prints, to stand beside ours at paper scale and to be checked for itself."""

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STUDIES = {
    2: ("rnn-units",),
    3: ("cnn-filters",),
    4: ("complex-cnn-filters",),
    5: ("single-enzyme",),
    6: ("single-ec37",),
    7: ("combined-enzyme", "combined-ec37"),
}
"""The studies that a table of the paper is made of; Table 1 is made of a dataset's card."""
CLASS_COLUMNS = ("all", "train_1", "train_2", "valid", "test")
"""Columns of Table 1."""
_FILES = {
    1: "table1_class_distribution.csv",
    2: "table2_rnn_units.csv",
    3: "table3_cnn_filters.csv",
    4: "table4_complex_cnn_filters.csv",
    5: "table5_dataset1_single.csv",
    6: "table6_dataset2_single.csv",
    7: "table7_ensembles.csv",
}
_METRICS = {
    "accuracy": "test_accuracy",
    "loss": "test_loss",
    "train_seconds_per_epoch": "epoch_seconds_median",
    "test_seconds": "test_seconds_batch1",
    "micro_recall": "test_recall_micro",
    "micro_precision": "test_precision_micro",
    "micro_f1": "test_f1_micro",
}
"""Our name of each metric; the paper's test time fits one sequence at a time (inference)."""
_ALL: dict[str, Any] = {
    "split": "random", "length": 1000, "batch_size": 32, "epochs": 30, "early_stopping": "paper",
    "hidden": [512, 512], "filters": 128,
}  # fmt: skip
_CHOSEN = {"filter_size": 9, "filter_sizes": [3, 4, 5], "units": 50, "depth": 2}
_IMPLIED: dict[int, dict[str, Any]] = {
    2: {**_ALL, "dataset": "enzyme"},
    3: {**_ALL, "dataset": "enzyme", "model": "cnn"},
    4: {**_ALL, "dataset": "enzyme", "model": "complex-cnn"},
    5: {**_ALL, **_CHOSEN, "dataset": "enzyme"},
    6: {**_ALL, **_CHOSEN, "dataset": "ec37"},
    7: {**_ALL, **_CHOSEN},
}
"""What the text says of all cells of a table, where a model has such a hyperparameter."""
_DATASETS = {"dataset1": "enzyme", "dataset2": "ec37"}


@dataclass(frozen=True)
class PublishedCell:
    """A row of one of Tables 2 to 7, under our names."""

    params: dict[str, Any]
    """What the table prints of the cell."""
    implied: dict[str, Any]
    """What the text says of all cells."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Empty where the table prints N/A."""


def values(table: int | None, params: Mapping[str, Any]) -> dict[str, float]:
    """Return the published metrics of the cell with these hyperparameters, by our names.

    Empty when the paper's table has no such cell, or prints N/A.
    """
    if table not in STUDIES:
        return {}
    for cell in cells(table):
        same = all(params.get(name) == value for name, value in cell.params.items())
        if same and all(params.get(n, value) == value for n, value in cell.implied.items()):
            return cell.metrics
    return {}


@functools.cache
def cells(table: int) -> tuple[PublishedCell, ...]:
    """Return the cells of one of Tables 2 to 7, in the order of print."""
    found = []
    for row in _rows(table):
        printed = {name: text for name, text in row.items() if name in _METRICS and text}
        found.append(
            PublishedCell(
                params=dict(_param(n, text) for n, text in row.items() if n not in _METRICS),
                implied=_IMPLIED[table],
                metrics={_METRICS[name]: float(text) for name, text in printed.items()},
            )
        )
    return tuple(found)


@functools.cache
def class_counts() -> dict[str, dict[str, int]]:
    """Return Table 1: of each column the sequences of each class, without the total."""
    rows = [row for row in _rows(1) if row["ec"] != "Total"]
    return {column: {row["ec"]: int(row[column] or 0) for row in rows} for column in CLASS_COLUMNS}


def _param(name: str, text: str) -> tuple[str, Any]:
    """Return a column and its text as a hyperparameter's name and value."""
    if name == "cell":
        return "model", text
    if name == "dataset":
        return name, _DATASETS[text]
    if name == "filter_sizes":
        return name, [int(size) for size in text.split("-")]
    if name == "learning_rate":
        return name, float(text)
    return name, text if name == "model" else int(text)


@functools.cache
def _rows(table: int) -> tuple[dict[str, str], ...]:
    path = Path(__file__).parent / "published_tables" / _FILES[table]
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
