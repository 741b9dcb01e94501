"""The rows of a study's tables, from MLflow alone; laying out and rendering are others' jobs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ec_sweep import published
from ec_sweep.cell import Data
from ec_sweep.errors import EcsweepError
from ec_sweep.stored import Measured, TrackedRun

METRICS = (
    "test_accuracy", "test_loss",
    "test_precision_micro", "test_recall_micro", "test_f1_micro",
    "test_precision_macro", "test_recall_macro", "test_f1_macro", "test_mcc",
    "test_accuracy_best", "test_loss_best",
    "train_loss", "train_accuracy", "val_loss", "val_accuracy",
    "epochs_run", "best_epoch", "parameters", "peak_memory_mb",
    "epoch_seconds_median", "fit_seconds", "test_seconds", "latency_ms_batch1",
    "test_seconds_batch1", "test_sequences_per_second",
)  # fmt: skip
TIMES = {
    "epoch_seconds_median", "fit_seconds", "test_seconds", "latency_ms_batch1",
    "test_seconds_batch1", "test_sequences_per_second",
}  # fmt: skip
"""Metrics that mean something only when the trial had the machine to itself."""


@dataclass(frozen=True)
class Row:
    """One cell without its seed: what it is made of and what its complete runs measured."""

    params: dict[str, Any]
    n: int
    """Complete runs, one a seed."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Mean over the seeds."""
    ci95: dict[str, float] = field(default_factory=dict)
    """Half of the 95 % interval of the mean (Student's t); only with several seeds."""
    published: dict[str, float] = field(default_factory=dict)
    """The paper's values; only at paper scale."""
    failure: str = ""
    """Why runs are missing, empty when none is."""
    pruned: bool = False
    """Whether it was ended early, with every seed, as not worth its last epochs."""
    runs: dict[int, str] = field(default_factory=dict)
    """The complete run of each seed."""
    by_seed: dict[int, dict[str, float]] = field(default_factory=dict)
    """The metrics of each seed."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sequences of each part that are used."""

    @property
    def data(self) -> Data:
        """The name of its dataset, and the split."""
        return str(self.params["dataset"]), str(self.params["split"])


@dataclass(frozen=True)
class Report:
    """A study's rows and where each of their numbers comes from."""

    study: str
    scale: str
    title: str
    table: int | None
    axes: list[str]
    source: str
    """What data the runs were trained on, in words."""
    rows: list[Row]
    provenance: dict[str, Any]
    timing: str = "shared"
    """``exclusive`` where each trial had the machine to itself."""
    cards: dict[Data, dict[str, Any]] = field(default_factory=dict)
    """The datasets' cards by name and split."""
    changed: bool = False
    """Whether values of the sweep file were overridden (``--set``)."""
    metric: str = ""
    """What a sampler went by; empty for a grid."""

    @property
    def name(self) -> str:
        """``name@scale``, as MLflow and Optuna know it."""
        return f"{self.study}@{self.scale}"

    @property
    def splits(self) -> list[str]:
        """The splits on which the rows were trained, which no number may mix."""
        return list(dict.fromkeys(row.data[1] for row in self.rows))


def build(tracker: Measured | None, name: str) -> Report:
    """Return the report of a study, ``name@scale``, as its last plan asked for it.

    Raises:
        EcsweepError: the study has not been run.
    """
    plan = tracker.plan() if tracker else None
    tracked = tracker.runs() if tracker else []
    if tracker is None or plan is None or not tracked:
        study, _, scale = name.partition("@")
        raise EcsweepError(
            f"{study} has not been run at {scale} scale. "
            f"Run it with: ecsweep study {study} --scale {scale}"
        )
    plan["cells"] += _drawn_since(plan, tracked)
    if any("sizes" not in cell for cell in plan["cells"]):
        raise EcsweepError(
            f"{plan['study']} was last asked for by an earlier version, which kept less. "
            f"Ask again, nothing is trained anew: ecsweep study {plan['study']} "
            f"--scale {plan['scale']}"
        )
    runs: dict[str, list[TrackedRun]] = {}
    for run in tracked:
        runs.setdefault(run.cell, []).append(run)
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in plan["cells"]:
        groups.setdefault(repr(cell["params"]), []).append(cell)
    return Report(
        study=plan["study"],
        scale=plan["scale"],
        title=plan["title"],
        table=plan["table"],
        axes=plan["axes"],
        source=plan["source"],
        rows=_ranked(plan, [_row(plan, cells, runs) for cells in groups.values()]),
        provenance={
            "study": plan["study"],
            "scale": plan["scale"],
            "cells": {
                cell["cell"]: _provenance(cell, runs.get(cell["cell"], []))
                for cell in plan["cells"]
            },
        },
        timing=plan["timing"],
        cards=_cards(plan, tracker),
        changed=bool(plan["request"]["set"]),
        metric=plan.get("metric", ""),
    )


def _cards(plan: Mapping[str, Any], tracker: Measured) -> dict[Data, dict[str, Any]]:
    """Return the cards of the datasets that a plan's cells are trained on."""
    used = {
        (cell["params"]["dataset"], cell["params"]["split"]): cell["dataset"]
        for cell in plan["cells"]
    }
    cards = tracker.cards(set(used.values()))
    return {data: cards[fingerprint] for data, fingerprint in used.items() if fingerprint in cards}


def _drawn_since(plan: Mapping[str, Any], tracked: Sequence[TrackedRun]) -> list[dict[str, Any]]:
    """Return the cells that a sampler has drawn since the plan was stored."""
    if "sampler" not in plan:
        return []
    known = {cell["cell"] for cell in plan["cells"]}
    tags = [run.tags for run in tracked if run.cell not in known]
    drawn = [t["ecsweep.document"] for t in tags if t.get("ecsweep.plan") == plan["name"]]
    return [json.loads(text) for text in dict.fromkeys(drawn)]


def _ranked(plan: Mapping[str, Any], rows: list[Row]) -> list[Row]:
    """Return the rows of a sampled sweep best first, those without a score last."""
    if "sampler" not in plan:
        return rows
    metric, sign = plan["metric"], -1 if plan["direction"] == "maximize" else 1

    def rank(row: Row) -> float:
        return sign * row.metrics[metric] if metric in row.metrics else math.inf

    return sorted(rows, key=rank)


def joined(reports: Sequence[Report], title: str, table: int) -> Report:
    """Return the rows of a table's studies, of which there may be one, as one report."""
    first = reports[0]
    splits = {split for report in reports for split in report.splits}
    differing = ["dataset"] * (len(reports) > 1) + ["split"] * (len(splits) > 1)
    return Report(
        study=f"table{table}",
        scale=first.scale,
        title=title,
        table=table,
        axes=list(dict.fromkeys([*differing, *(a for r in reports for a in r.axes)])),
        source=_joined_source([report.source for report in reports]),
        rows=[row for report in reports for row in report.rows],
        provenance={
            "study": [report.study for report in reports],
            "scale": first.scale,
            "cells": {
                cell: origin
                for report in reports
                for cell, origin in report.provenance["cells"].items()
            },
        },
        timing=first.timing,
        cards={data: card for report in reports for data, card in report.cards.items()},
        changed=any(report.changed for report in reports),
    )


def _joined_source(sources: Sequence[str]) -> str:
    """Say once at which scale, then on what data."""
    heads = dict.fromkeys(source.partition(": ")[0] for source in sources)
    if len(heads) > 1:
        return "; ".join(dict.fromkeys(sources))
    return f"{sources[0].partition(': ')[0]}: " + "; ".join(
        dict.fromkeys(source.partition(": ")[2] for source in sources)
    )


def _row(
    plan: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    runs: Mapping[str, Sequence[TrackedRun]],
) -> Row:
    params = cells[0]["params"]
    done: dict[int, str] = {}
    by_seed: dict[int, dict[str, float]] = {}
    missing = []
    for cell in cells:
        attempts = runs.get(cell["cell"], [])
        finished = [run for run in attempts if run.complete]
        if finished:
            done[cell["seed"]] = finished[-1].run_id
            by_seed[cell["seed"]] = _measured(finished[-1], cell["sizes"]["test"])
        else:
            missing.append(_reason(attempts))
    metrics, ci95 = {}, {}
    for name in METRICS:
        values = [found[name] for found in by_seed.values() if name in found]
        if values:
            metrics[name] = math.fsum(values) / len(values)
        if len(values) > 1:
            ci95[name] = half_interval(values)
    return Row(
        params=params,
        n=len(done),
        metrics=metrics,
        ci95=ci95,
        published=published.values(plan["table"], params) if plan["scale"] == "paper" else {},
        failure="; ".join(dict.fromkeys(missing)),
        pruned=not done and all(reason.startswith("pruned") for reason in missing),
        runs=done,
        by_seed=by_seed,
        sizes=cells[0]["sizes"],
    )


def _measured(run: TrackedRun, test_sequences: int) -> dict[str, float]:
    """Return a run's metrics that mean something, and what follows from its times."""
    found = dict(run.metrics)
    if "latency_ms_batch1" in found:
        # As the paper measured (inference): the whole test set, one sequence at a time.
        found["test_seconds_batch1"] = found["latency_ms_batch1"] * test_sequences / 1000
    if found.get("test_seconds"):
        found["test_sequences_per_second"] = test_sequences / found["test_seconds"]
    return {name: value for name, value in found.items() if run.exclusive or name not in TIMES}


def half_interval(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean (Student's t)."""
    from scipy import stats

    return float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))


def _reason(attempts: Sequence[TrackedRun]) -> str:
    if not attempts:
        return "not run yet"
    last = attempts[-1]
    if last.status == "RUNNING":
        return "still running"
    if "ecsweep.pruned" in last.tags:
        return f"pruned after epoch {last.tags['ecsweep.pruned']}"
    failure = last.tags.get("ecsweep.failure", "interrupted")
    message = last.tags.get("ecsweep.message", "")
    return f"{failure}: {message}" if message else failure


def _provenance(cell: Mapping[str, Any], attempts: Sequence[TrackedRun]) -> dict[str, Any]:
    finished = [run for run in attempts if run.complete]
    tags = (finished or list(attempts))[-1].tags if attempts else {}
    prefix = "ecsweep.environment."
    return {
        "params": cell["params"],
        "seed": cell["seed"],
        "runs": [run.run_id for run in finished[-1:]],
        "all_runs": [run.run_id for run in attempts],
        "dataset": cell["dataset"],
        "code": tags.get("ecsweep.version"),
        "concurrency": tags.get("ecsweep.concurrency"),
        "environment": {
            key.removeprefix(prefix): text for key, text in tags.items() if key.startswith(prefix)
        },
    }
