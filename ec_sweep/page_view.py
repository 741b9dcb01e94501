"""The view that a study's page in MLflow's UI opens with: columns, order and charts.

The UI keeps views that its users share as JSON, and completes them with its
defaults (MLflow 3.17). Charts of all other metrics follow those that stand here.
"""

from collections.abc import Sequence
from typing import Any

_METRICS = ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "test_f1_macro", "epochs_run")
"""Columns of the table of runs, after what varies."""
_NAME = "attributes.`Run Name`"
_LAST = ("attributes.`Models`", "duration", "runDateAndNestInfo")
_WIDTHS = {_NAME: 330, "duration": 90, "runDateAndNestInfo": 150}
_WIDTH = 115
"""In pixels; the UI's own would cut names off."""
_CURVES = ("val_accuracy", "val_loss", "train_accuracy", "train_loss")
_MOST_RUNS = 20
"""Runs that a chart shows, the first of the table; the UI's choice is among 10, 20 and all."""


def view(axes: Sequence[str], metric: str, ascending: bool) -> dict[str, Any]:
    """Return a view, as JSON has it, of runs in the order of a metric; it is never a test metric.

    ``axes`` are the hyperparameters that vary.
    """
    curves, space = "ecsweep-curves", "ecsweep-space"
    columns = [f"params.`{name}`" for name in axes] + [f"metrics.`{name}`" for name in _METRICS]
    return {
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": ascending,
        "selectedColumns": [*columns, _LAST[0]],
        "columnOrder": [_NAME, *columns, *_LAST],
        "columnWidths": _WIDTHS | dict.fromkeys(columns, _WIDTH),
        "runsHiddenMode": f"FIRST_{_MOST_RUNS}_RUNS",
        "compareRunSections": [
            _section(curves, "Learning curves"),
            _section(space, "Search space"),
            _section("ecsweep-metrics", "Model metrics"),
        ],
        "compareRunCharts": [
            *(_line(f"ecsweep-{name}", name, curves) for name in _CURVES),
            {
                **_card("ecsweep-parallel", "PARALLEL", space),
                "selectedParams": list(axes),
                "selectedMetrics": [metric],
                "showAllRuns": True,
            },
        ],
    }


def _section(name: str, title: str) -> dict[str, Any]:
    return {
        "uuid": name, "name": title, "display": True, "isReordered": False, "deleted": False,
        "isGenerated": True,
    }  # fmt: skip


def _card(name: str, kind: str, section: str) -> dict[str, Any]:
    return {
        "uuid": name, "type": kind, "metricSectionId": section, "deleted": False,
        "isGenerated": False, "runsCountToCompare": _MOST_RUNS,
    }  # fmt: skip


def _line(name: str, metric: str, section: str) -> dict[str, Any]:
    return {
        **_card(name, "LINE", section),
        "metricKey": metric,
        "displayName": metric,
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "lineSmoothness": 0,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
