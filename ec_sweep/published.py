"""The values that the paper prints, to stand beside ours at paper scale."""

import csv
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FILES = {3: "table3_cnn_filters.csv"}
_METRICS = {"accuracy": "test_accuracy", "loss": "test_loss"}


def values(table: int | None, params: Mapping[str, Any]) -> dict[str, float]:
    """Return the published metrics of the cell with these hyperparameters, by our names.

    Empty when the paper's table has no such cell.
    """
    if table not in _FILES:
        return {}
    for row in _rows(_FILES[table]):
        keys = row.keys() - _METRICS.keys()
        if all(key in params and float(row[key]) == params[key] for key in keys):
            return {name: float(row[column]) for column, name in _METRICS.items()}
    return {}


@functools.cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    path = Path(__file__).parent / "published_tables" / name
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))
