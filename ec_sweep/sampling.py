"""Which cell a sampled sweep tries next.

Optuna's samplers see studies that live in memory alone, made from what ledger
and tracker hold: nothing of them needs to survive a crash.
"""

import importlib.util
import itertools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ec_sweep.attempts import Result
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Attempt, State
from ec_sweep.pruning import Pruning
from ec_sweep.space import Axis, Choice
from ec_sweep.spec import Cell, Data, Sampled
from ec_sweep.stored import TrackedRun
from ec_sweep.tracking import Tracker

if TYPE_CHECKING:
    import optuna

_ASKED_AT_MOST = 100
"""Times that a sampler is asked for a point that is not known yet."""
_WORST = {"maximize": 0.0, "minimize": float("inf")}
"""What a diverged cell counts for, so that samplers keep away from it."""


@dataclass
class Known:
    """A cell that was proposed or listed, and what has come of it so far."""

    cell: Cell
    point: dict[str, Any] | None = None
    """The value of each axis; only of a sampled cell."""
    state: State = "waiting"
    value: float | None = None
    """Of the metric that the sampler goes by."""
    losses: dict[int, float] = field(default_factory=dict)
    """Validation loss by epoch, from 1."""
    last: Mapping[str, float] = field(default_factory=dict)
    """The metrics of the last epoch."""


class Proposer:
    """Proposes the cells of a sampled sweep, and says when to prune one of any sweep."""

    def __init__(
        self,
        known: Sequence[Known],
        sampled: Sampled | None,
        pruner: str | None,
        tried: Collection[str],
        datasets: Mapping[Data, Dataset],
        plan_name: str,
    ) -> None:
        """Start from what is known.

        ``tried`` are all cells that the ledger knows, also those outside of the
        space, which it cannot hold twice.
        """
        self._sampled, self._tried = sampled, set(tried)
        self._datasets, self._plan_name = datasets, plan_name
        self._known = {str(one.cell.id): one for one in known}
        self._asked = 0
        self._pruning: Pruning | None = None
        if pruner:
            cells = sampled.extremes() if sampled else [one.cell for one in known]
            epochs = max(cell.declared.get("epochs", 1) for cell in cells)
            self._pruning = Pruning(pruner, epochs)
            for name, one in self._known.items():
                self._pruning.enter(name, one.state, one.losses)

    @property
    def cells(self) -> list[Cell]:
        """The cells that are known, in the order of their drawing."""
        return [one.cell for one in self._known.values()]

    def propose(self) -> Cell | None:
        """Return the next new cell, ``None`` when all are known (of a grid, always).

        What is proposed depends on what is known alone, so that a study that was
        interrupted goes on as if it had not been.
        """
        sampled = self._sampled
        if sampled is None or len(self._known) >= sampled.trials:
            return None
        for point in self._points(sampled):
            cell = sampled.cell(point)
            if str(cell.id) not in self._tried and str(cell.id) not in self._known:
                self._known[str(cell.id)] = Known(cell, point)
                return cell
        return None

    def point(self, cell: Cell) -> dict[str, Any] | None:
        """Return the values that a sampled cell was drawn with, as JSON holds them."""
        point = self._known[str(cell.id)].point
        return None if point is None else json.loads(json.dumps(point))

    def tags(self, cell: Cell) -> dict[str, str]:
        """Return what the run of a sampled cell tells a report that knows the plan alone."""
        if self._sampled is None:
            return {}
        text = json.dumps(document(cell, self._datasets))
        return {"ecsweep.plan": self._plan_name, "ecsweep.document": text}

    def observe(self, cell: Cell, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take an epoch's metrics in; returns whether the cell is to be pruned now."""
        known = self._known[str(cell.id)]
        known.last = metrics
        if "val_loss" not in metrics:
            return False
        # An attempt that starts again, or goes on from a checkpoint, repeats epochs.
        known.losses = {e: loss for e, loss in known.losses.items() if e < epoch}
        known.losses[epoch] = metrics["val_loss"]
        if self._pruning is None or epoch >= cell.declared.get("epochs", 1):
            return False  # after the last epoch there is nothing to save
        return self._pruning.prune(str(cell.id), known.losses)

    def ended(self, cell: Cell, result: Result) -> None:
        """Take in how an attempt ended; an interrupted cell stays open."""
        known = self._known[str(cell.id)]
        if result.outcome == "interrupted":
            return
        known.state = result.outcome
        if result.outcome in ("complete", "pruned") and self._sampled:
            value = {} if result.value is None else {"val_accuracy": result.value}
            known.value = {**known.last, **result.metrics, **value}.get(self._sampled.metric)
        elif result.failure == "diverged" and self._sampled:
            known.value = _WORST[self._sampled.direction]
        if self._pruning:
            self._pruning.close(str(cell.id), known.state, known.losses)

    def _points(self, sampled: Sampled) -> Iterator[dict[str, Any]]:
        """Yield points to try, best first."""
        distributions = {name: _distribution(axis) for name, axis in sampled.axes.items()}
        if sampled.sampler != "random":
            seed = _seed(sampled.seed, len(self._known))
            study = _study(sampled, self._known.values(), distributions, seed)
            for _ in range(_ASKED_AT_MOST):  # each point asked for keeps the next away from it
                yield _ask(study, sampled.axes, distributions)
        # One endless random sequence, of which the first new point is taken.
        while self._asked < _ASKED_AT_MOST * (len(self._known) + 1):
            seed = _seed(sampled.seed, self._asked)
            study = _study(replace(sampled, sampler="random"), (), distributions, seed)
            self._asked += 1
            yield _ask(study, sampled.axes, distributions)
        if sampled.points is not None:
            yield from sampled.points


def drawn(sampled: Sampled, attempts: Mapping[str, Sequence[Attempt]]) -> dict[str, dict[str, Any]]:
    """Return the points of the cells that the ledger knows, in the order of their drawing.

    Cells count that lie in the space as it is now, with the fixed values as they
    are now: a wider range keeps what was drawn from the narrower one. Of a space
    that ends, so do cells that were tried before there was a sampler.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for name, tries in sorted(attempts.items(), key=lambda item: item[1][0].number):
        point = tries[0].point
        values = None if point is None else sampled.read(point)
        same = values is not None and sampled.cell(values).id == name
        found[name] = values if same else None
    if None in found.values() and sampled.points is not None:
        by_id = {str(sampled.cell(point).id): point for point in sampled.points}
        found = {name: values or by_id.get(name) for name, values in found.items()}
    known = ((name, values) for name, values in found.items() if values is not None)
    return dict(itertools.islice(known, sampled.trials))


def open_proposer(
    cells: Sequence[Cell],
    sampled: Sampled | None,
    pruner: str | None,
    attempts: Mapping[str, Sequence[Attempt]],
    tracker: Tracker,
    datasets: Mapping[Data, Dataset],
    plan_name: str,
) -> Proposer:
    """Return the proposer of a study, which knows what earlier sessions measured.

    ``cells`` are those of a grid; ``plan_name`` is what the tracker keeps the plan as.
    """
    if sampled:
        known = [Known(sampled.cell(point), point) for point in drawn(sampled, attempts).values()]
    else:
        known = [Known(cell) for cell in cells]
    if sampled or pruner:
        runs = {run.run_id: run for run in tracker.runs()}
        for one in known:
            past = attempts.get(str(one.cell.id), ())
            if past:
                run = runs.get(past[-1].run_id)
                _recall(one, past[-1], run, sampled)
                if run is not None and (pruner or one.state == "pruned"):
                    one.losses = dict(enumerate(tracker.history(run.run_id, "val_loss"), 1))
    return Proposer(known, sampled, pruner, attempts.keys(), datasets, plan_name)


def check_sampler(sampler: str) -> None:
    """Raise an error when a sampler needs what is not installed."""
    if sampler == "gp" and importlib.util.find_spec("torch") is None:
        raise EcsweepError(
            "sampler gp needs PyTorch, which is not installed. "
            "Install it with: pip install 'ecsweep[gp]' (or take sampler: tpe)"
        )


def document(cell: Cell, datasets: Mapping[Data, Dataset]) -> dict[str, Any]:
    """Return what reports need to know of a cell."""
    return {
        "cell": cell.id,
        "params": cell.params,
        "seed": cell.seed,
        "dataset": cell.fingerprint,
        "sizes": datasets[cell.data].sizes(cell.hyperparameters.train_size),
    }


def _recall(known: Known, last: Attempt, run: TrackedRun | None, sampled: Sampled | None) -> None:
    """Fill in what the last attempt at a cell has come to."""
    if last.state not in ("complete", "pruned", "failed", "not_available"):
        return
    known.state = last.state
    if run is not None and last.state in ("complete", "pruned"):
        known.value = run.metrics.get(sampled.metric if sampled else "val_accuracy")
    elif last.failure == "diverged" and sampled:
        known.value = _WORST[sampled.direction]


def _study(
    sampled: Sampled,
    known: Iterable[Known],
    distributions: "dict[str, optuna.distributions.BaseDistribution]",
    seed: int,
) -> "optuna.Study":
    """Return a study in memory that holds what is known, in the order in which it was drawn."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler: optuna.samplers.BaseSampler
    if sampled.sampler == "random":
        sampler = optuna.samplers.RandomSampler(seed)
    elif sampled.sampler == "tpe":
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    else:
        sampler = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    study = optuna.create_study(sampler=sampler, direction=sampled.direction)
    for one in known:
        if one.point is None or (one.state in ("failed", "not_available") and one.value is None):
            continue
        params = {name: _internal(axis, one.point[name]) for name, axis in sampled.axes.items()}
        state, value = optuna.trial.TrialState.RUNNING, None
        reported: dict[int, float] = {}
        if one.value is not None:
            state, value = optuna.trial.TrialState.COMPLETE, one.value
        if one.state == "pruned" and value is not None:
            state, value = optuna.trial.TrialState.PRUNED, None
            reported[max(one.losses, default=1)] = one.value or 0.0
        study.add_trial(
            optuna.create_trial(
                state=state,
                value=value,
                params=params,
                distributions=distributions,
                intermediate_values=reported,
            )
        )
    return study


def _ask(
    study: "optuna.Study",
    axes: Mapping[str, Axis],
    distributions: "dict[str, optuna.distributions.BaseDistribution]",
) -> dict[str, Any]:
    """Return the point that a study's sampler draws, a value for each axis."""
    drawn = study.ask(distributions).params
    return {name: _value(axis, drawn[name]) for name, axis in axes.items()}


def _distribution(axis: Axis) -> "optuna.distributions.BaseDistribution":
    """Return how Optuna draws from an axis: of listed values, and of steps, the index."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(axis, Choice):
        return CategoricalDistribution(range(axis.size))
    if axis.step is not None:
        return IntDistribution(0, axis.index(axis.high))
    if isinstance(axis.low, int):
        return IntDistribution(axis.low, int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _value(axis: Axis, drawn: Any) -> Any:
    if isinstance(axis, Choice):
        return axis.values[drawn]
    if axis.step is not None:
        return axis.at(drawn)
    return drawn if isinstance(axis.low, int) else axis.rounded(drawn)


def _internal(axis: Axis, value: Any) -> Any:
    if isinstance(axis, Choice):
        return axis.values.index(value)
    return value if axis.step is None else axis.index(value)


def _seed(*numbers: int) -> int:
    """Return the seed of one drawing, so that no drawing depends on those before it."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
