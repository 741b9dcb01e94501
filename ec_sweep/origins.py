"""Where the numbers of a page come from: the runs behind each, and what is known of them."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from ec_sweep.layouts import Runs, heading
from ec_sweep.plan import pretty
from ec_sweep.report import Report


@dataclass(frozen=True)
class Run:
    """One seed of a cell."""

    run_id: str
    cell: str
    seed: int
    address: str
    """Of its page in the MLflow UI."""


@dataclass(frozen=True)
class Entry:
    """What is known of the runs that a number comes from."""

    anchor: str
    study: str
    """``name@scale``."""
    label: str
    """What tells its cell from the others of the study."""
    runs: list[Run]
    dataset: str
    dataset_anchor: str
    """Where the page tells of the dataset, empty where it does not."""
    facts: dict[str, str]


class Origins:
    """Gives every set of runs that a number comes from an entry of its own."""

    def __init__(self, reports: Mapping[str, Report], mlflow: str) -> None:
        self._mlflow = mlflow.rstrip("/")
        self._known: dict[str, tuple[Report, str, Mapping[str, Any]]] = {
            run: (made, cell, origin)
            for made in reports.values()
            for cell, origin in made.provenance["cells"].items()
            for run in origin["runs"]
        }
        self._anchors: dict[Runs, str] = {}

    def anchor(self, runs: Runs) -> str:
        """Return where the page tells of some runs, empty where they are none or unknown."""
        if not runs or any(run not in self._known for run in runs):
            return ""
        return self._anchors.setdefault(runs, f"origin-{len(self._anchors) + 1}")

    def entries(self, datasets: Container[str]) -> list[Entry]:
        """Return what is told of all runs that were asked for, in the order of asking.

        ``datasets`` are the fingerprints of those that the page tells of.
        """
        return [self._entry(runs, anchor, datasets) for runs, anchor in self._anchors.items()]

    def _entry(self, runs: Runs, anchor: str, datasets: Container[str]) -> Entry:
        made, _, origin = self._known[runs[0]]
        params = origin["params"]
        axes = {heading(axis): pretty(params[axis]) for axis in made.axes if axis in params}
        fixed = {name: pretty(value) for name, value in params.items() if name not in made.axes}
        facts = {
            "Fixed": ", ".join(f"{name}={value}" for name, value in fixed.items()),
            "Code": f"ecsweep {origin['code']}",
            "Trials at once": origin["concurrency"] or "",
            "Environment": ", ".join(f"{k} {v}" for k, v in origin["environment"].items()),
        }
        return Entry(
            anchor=anchor,
            study=made.name,
            label=", ".join(f"{name} {value}" for name, value in axes.items()) or params["model"],
            runs=[self._run(run) for run in runs],
            dataset=f"{params['dataset']}, {params['split']} split, {origin['dataset']}",
            dataset_anchor=of_dataset(own) if (own := origin["dataset"]) in datasets else "",
            facts={name: text for name, text in facts.items() if text},
        )

    def _run(self, run_id: str) -> Run:
        _, cell, origin = self._known[run_id]
        return Run(run_id, cell, origin["seed"], f"{self._mlflow}/#/runs/{run_id}")


def of_dataset(fingerprint: str) -> str:
    """Return where a page tells of a dataset."""
    return f"dataset-{fingerprint[:12]}"
