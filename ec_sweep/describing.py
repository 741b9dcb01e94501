"""What a study says of itself in MLflow's UI: its sweep, how far it is, and its result table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ec_sweep import page_view, tables
from ec_sweep.cell import METRICS
from ec_sweep.layouts import Table
from ec_sweep.plan import pretty
from ec_sweep.planning import Resolved, StudyStatus, source_of
from ec_sweep.space import Axis, Choice
from ec_sweep.study_page import MOST
from ec_sweep.tables import literal
from ec_sweep.tracking import Tracker

_LONGEST_LIST = 40
"""Values of an axis that are worth listing."""


def begin(tracker: Tracker, parent: str, found: StudyStatus) -> None:
    """Give a study that is about to run its page: datasets, columns, and a first description."""
    resolved = found.resolved
    if not any(cell.attempts for cell in found.cells):  # else the last end has described it
        tracker.page.describe(parent, text(found), resolved.sweep.title)
    tracker.page.log_datasets(parent, [dataset.card for dataset in resolved.datasets.values()])
    metric = resolved.sampled.metric if resolved.sampled else "val_accuracy"
    view = page_view.view(list(resolved.plan.axes), metric, METRICS[metric] == "minimize")
    tracker.page.offer_view(view)


def text(found: StudyStatus, table: Table | None = None) -> str:
    """Return a study's description in Markdown, with its result table where there is one.

    Of a table that is too long for MLflow the first rows are shown.
    """
    head = _head(found)
    if table is None:
        return head
    room, keep = MOST - len(head), len(table.rows)
    compared = len(table.row_names) > 1 and not table.row_names[-1]
    together = 3 if compared else 1  # ours, the paper's, the difference
    while len(body := _results(found, table, keep)) > room and keep > together:
        fitting = max(0, keep * room // len(body))
        keep = max(together, min(keep - together, fitting) // together * together)
    return f"{head}\n\n{body}"


def counts(found: StudyStatus) -> str:
    """Return how many cells are in each state."""
    states = dict.fromkeys(cell.state for cell in found.cells)
    return ", ".join(f"{found.count(state)} {state.replace('_', ' ')}" for state in states)


def axis_in_words(axis: Axis) -> str:
    """Return what a sampler draws an axis' values from."""
    if isinstance(axis, Choice):
        return " or ".join(map(pretty, axis.values))
    how = " (log)" if axis.log else "" if axis.step is None else f" by {pretty(axis.step)}"
    return f"{pretty(axis.low)} to {pretty(axis.high)}{how}"


def _head(found: StudyStatus) -> str:
    """Return what a study is, before any result: title, data, what varies, what does not."""
    resolved = found.resolved
    sweep = resolved.sweep
    title = f"**{literal(sweep.title or sweep.study)}**"
    if sweep.table:
        title += f" (Table {sweep.table} of the paper)"
    axes = _axes(resolved)
    lines = [f"| `{name}` | {literal(values)} |" for name, values in axes.items()]
    fixed = ", ".join(f"{name} {pretty(value)}" for name, value in _fixed(resolved, axes).items())
    parts = [
        title,
        f"{literal(source_of(resolved))}.",
        "\n".join(["| varied | values |", "|---|---|", *lines]),
        f"Fixed: {literal(fixed)}." if fixed else "",
        _progress(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _axes(resolved: Resolved) -> dict[str, str]:
    """Return what varies, with its values or range in words."""
    sampled = resolved.sampled
    if sampled:
        return {name: axis_in_words(axis) for name, axis in sampled.axes.items()}
    axes = {name: _listed(values) for name, values in resolved.plan.axes.items()}
    seeds = sorted({cell.seed for cell in resolved.cells})
    return axes | ({"seed": _listed(seeds)} if len(seeds) > 1 else {})


def _listed(values: Sequence[Any]) -> str:
    words = [pretty(value) for value in values[:_LONGEST_LIST]]
    return ", ".join(words) + (f", … ({len(values)} values)" if len(values) > len(words) else "")


def _fixed(resolved: Resolved, axes: Mapping[str, str]) -> dict[str, Any]:
    """Return the hyperparameters that all cells share."""
    first, *others = (cell.params for cell in resolved.examples)
    return {
        name: value
        for name, value in first.items()
        if name not in axes
        and value is not None
        and all(params.get(name) == value for params in others)
    }


def _progress(found: StudyStatus) -> str:
    sampled = found.resolved.sampled
    states = counts(found)
    told = f"{len(found.cells)} cells{f': {states}' if states else ''}."
    if sampled:
        aim = "" if sampled.sampler == "random" else f" to {sampled.direction} `{sampled.metric}`"
        told += f" Drawn by sampler {sampled.sampler}{aim}, {sampled.trials} in all."
    return told


def _results(found: StudyStatus, table: Table, keep: int) -> str:
    """Return the result table with its first rows, and how to have all of it."""
    study, scale = found.resolved.sweep.study, found.resolved.request.scale
    command = f"ecsweep report {study}" + ("" if scale == "demo" else f" --scale {scale}")
    notes = [note if len(note) <= 300 else f"{note[:300]}…" for note in table.notes]
    if keep < len(table.rows):
        notes.insert(0, f"The first {keep} of {len(table.rows):,} rows.")
    some = replace(
        table, caption="Results", rows=table.rows[:keep], cells=table.cells[:keep], notes=notes
    )
    # Padded to its longest value the table would take several times the room.
    body = re.sub("-{4,}", "---", re.sub(" {2,}", " ", tables.markdown(some)))
    return f"{body}\nTables, figures and comparisons: `{command}`"
