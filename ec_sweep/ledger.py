"""Which attempts at which cells run, are done or failed: Optuna's study is the only truth."""

import contextlib
import functools
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ec_sweep.attempts import Outcome, Result
from ec_sweep.direct import OPTUNA_SCHEMA, reading
from ec_sweep.outages import Reaching
from ec_sweep.spec import Cell

if TYPE_CHECKING:
    import optuna

State = Literal["waiting", "running"] | Outcome
"""Of a cell (design: state of a cell)."""
DONE: frozenset[State] = frozenset({"complete", "pruned", "not_available"})
"""States that a study leaves alone and that are no failure of the study."""
LOST_AT_MOST = 3
"""Workers that a cell may lose, without getting further, before it is given up."""


@dataclass(frozen=True)
class Attempt:
    """One attempt at a cell, as the ledger holds it."""

    number: int
    """Optuna's trial number."""
    cell: str
    attempt: int
    """1 for the first attempt at the cell."""
    run_id: str
    state: State
    failure: str | None
    concurrency: int = 1
    """Trials that shared the machine with it, itself included."""
    seconds: float | None = None
    """From start to end, when it has ended."""
    reached: int = 0
    """Training steps in its last checkpoint."""
    point: Mapping[str, Any] | None = None
    """The value of each axis, as JSON holds it; only of a cell that a sampler drew."""

    @property
    def goes_on(self) -> bool:
        """Whether its cell's checkpoint is for it or the next attempt to go on from."""
        lost = self.failure == "lost"  # too often: that says nothing of the cell
        return self.state in ("running", "interrupted") or (self.state == "not_available" and lost)


def state_of(attempts: Sequence[Attempt]) -> State:
    """Return a cell's state: that of its last attempt."""
    return attempts[-1].state if attempts else "waiting"


def lost_in_a_row(attempts: Sequence[Attempt]) -> int:
    """Count the workers that a cell has lost since it last got further or ended by itself."""
    count = furthest = 0
    for attempt in attempts:
        ended = attempt.state != "interrupted"
        if ended or attempt.reached > furthest:
            count = 0
        furthest = 0 if ended else max(furthest, attempt.reached)
        count += attempt.failure == "lost" and not ended
    return count


_TRIALS = """
    SELECT trial_id, number, state, datetime_start, datetime_complete
    FROM trials JOIN studies USING (study_id) WHERE study_name = ? ORDER BY trial_id
"""
_ATTRIBUTES = """
    SELECT trial_id, key, value_json
    FROM trial_user_attributes JOIN trials USING (trial_id) JOIN studies USING (study_id)
    WHERE study_name = ?
"""
_FORGOTTEN = """
    SELECT value_json FROM study_user_attributes JOIN studies USING (study_id)
    WHERE study_name = ? AND key = 'forgotten'
"""


class Ledger:
    """The attempts of one study, ``name@scale``."""

    def __init__(
        self, storage: "optuna.storages.RDBStorage", study: str, database: Path | None = None
    ) -> None:
        self._storage = Reaching(storage, "the ledger")
        self._study = study
        self._database = database  # what can be read without Optuna
        self._study_id = storage.get_study_id_from_name(study)
        self._trial_ids: dict[int, int] = {}

    @functools.cached_property
    def key(self) -> str:
        """What tells this study from those of its name in other ledgers; drawn when first asked."""
        known = self._storage.get_study_user_attrs(self._study_id).get("key")
        if known is None:
            known = uuid.uuid4().hex[:8]
            self._storage.set_study_user_attr(self._study_id, "key", known)
        return str(known)

    def attempts(self) -> dict[str, list[Attempt]]:
        """Return the attempts at each cell, oldest first."""
        if self._database:
            found = read_attempts(self._database, self._study)
            if found is not None:
                return found
        forgotten = self._forgotten()
        return _by_cell(
            _attempt(trial.number, trial.state.name, trial.user_attrs, trial.duration)
            for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)
            if "cell" in trial.user_attrs and trial.number not in forgotten
        )

    def start(
        self,
        cell: Cell,
        attempt: int,
        run_id: str,
        concurrency: int,
        axes: Mapping[str, list[Any]],
        point: Mapping[str, Any] | None = None,
    ) -> Attempt:
        """Enter an attempt as running, in one write.

        ``axes`` gives the values of each grid axis, or the ends of a range.
        Numbers among them become Optuna parameters, with ranges because Optuna
        refuses categories that change; everything else about a cell stands in
        MLflow. ``point`` is what a sampler drew, from which the cell is made again.
        """
        import optuna

        distributions: dict[str, Any] = {}
        for name, values in axes.items():
            if point is not None and name not in cell.declared:
                continue  # drawn, but not for this model, whose own value may lie outside
            if not hasattr(cell.hyperparameters, name):
                continue  # of a model of the user's own, which this is not
            if all(type(value) is int for value in values):
                distributions[name] = optuna.distributions.IntDistribution(min(values), max(values))
            elif all(type(value) is float for value in values):
                distributions[name] = optuna.distributions.FloatDistribution(
                    min(values), max(values)
                )
        params = {name: getattr(cell.hyperparameters, name) for name in distributions}
        attributes = {
            "cell": cell.id,
            "attempt": attempt,
            "run_id": run_id,
            "concurrency": concurrency,
        }
        if point is not None:
            attributes["point"] = json.dumps(point)
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
        )
        trial_id = self._storage.create_new_trial(self._study_id, trial)
        number = self._storage.get_trial(trial_id).number
        self._trial_ids[number] = trial_id
        return Attempt(
            number, str(cell.id), attempt, run_id, "running", None, concurrency, point=point
        )

    def finish(self, number: int, result: Result, reached: int = 0) -> None:
        """Tell how an attempt ended, and how many steps are safe; repeating it changes nothing."""
        from optuna.exceptions import UpdateFinishedTrialError

        trial_id = self._trial_id(number)
        with contextlib.suppress(UpdateFinishedTrialError):  # told already
            for name, value in _attributes(result, reached).items():
                self._storage.set_trial_user_attr(trial_id, name, value)
            values = None if result.value is None else [result.value]
            self._storage.set_trial_state_values(trial_id, _trial_state(result), values)
        self._trial_ids.pop(number, None)

    def forget(self, cells: set[str]) -> list[Attempt]:
        """Leave the attempts at these cells out from now on; returns them."""
        gone = [a for cell, known in self.attempts().items() if cell in cells for a in known]
        numbers = sorted({*self._forgotten(), *(attempt.number for attempt in gone)})
        self._storage.set_study_user_attr(self._study_id, "forgotten", numbers)
        return gone

    def forgotten_runs(self) -> set[str]:
        """Return the MLflow runs of forgotten attempts."""
        forgotten = self._forgotten()
        if not forgotten:
            return set()
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return {trial.user_attrs["run_id"] for trial in trials if trial.number in forgotten}

    def strays(self) -> list[int]:
        """Return the numbers of trials that wait or run without standing for an attempt."""
        return [
            trial.number
            for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)
            if not trial.state.is_finished()
            and (trial.state.name == "WAITING" or "cell" not in trial.user_attrs)
        ]

    def adopt(
        self, cell: str, attempt: int, run_id: str, concurrency: int, result: Result | None
    ) -> None:
        """Enter an attempt that is known from its MLflow run alone, in one write.

        Without a result it is entered as running, to be recorded from its folder.
        """
        import optuna

        attributes = {
            "cell": cell,
            "attempt": attempt,
            "run_id": run_id,
            "concurrency": concurrency,
        }
        if result is None:
            state, value = optuna.trial.TrialState.RUNNING, None
        else:
            attributes |= _attributes(result)
            state, value = _trial_state(result), result.value
        trial = optuna.create_trial(state=state, value=value, user_attrs=attributes)
        self._storage.create_new_trial(self._study_id, trial)

    def _forgotten(self) -> set[int]:
        """Return the numbers of forgotten trials: Optuna deletes no single one."""
        return set(self._storage.get_study_user_attrs(self._study_id).get("forgotten", ()))

    def _trial_id(self, number: int) -> int:
        """Return the id of a trial in its storage; of those begun here it is known."""
        if number in self._trial_ids:
            return self._trial_ids[number]
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))


def read_attempts(path: Path, study: str) -> dict[str, list[Attempt]] | None:
    """Return what `Ledger.attempts` does, ``None`` where only Optuna can."""
    with reading(path, OPTUNA_SCHEMA) as database:
        if database is None:
            return None
        rows = [database.execute(q, [study]).fetchall() for q in (_ATTRIBUTES, _TRIALS, _FORGOTTEN)]
    of_trials, trials, of_study = rows
    attributes: dict[int, dict[str, Any]] = {}
    for trial, key, value in of_trials:
        attributes.setdefault(trial, {})[key] = json.loads(value)
    forgotten = {number for (value,) in of_study for number in json.loads(value)}
    return _by_cell(
        _attempt(number, state, attributes[trial], _between(start, end))
        for trial, number, state, start, end in trials
        if "cell" in attributes.get(trial, {}) and number not in forgotten
    )


def _between(start: str | None, end: str | None) -> timedelta | None:
    return datetime.fromisoformat(end) - datetime.fromisoformat(start) if start and end else None


def _by_cell(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.cell, []).append(attempt)
    return found


def _attempt(
    number: int, state: str, attributes: Mapping[str, Any], duration: timedelta | None
) -> Attempt:
    """Return an attempt from Optuna's state and the attributes that were kept with it."""
    seconds = duration.total_seconds() if duration else None
    return Attempt(
        number=number,
        cell=attributes["cell"],
        attempt=attributes["attempt"],
        run_id=attributes["run_id"],
        state=_state(state, attributes),
        failure=attributes.get("failure"),
        concurrency=attributes.get("concurrency", 1),
        reached=attributes.get("reached", 0),
        point=json.loads(attributes["point"]) if "point" in attributes else None,
        # The clock may have been set back meanwhile.
        seconds=None if seconds is None or seconds < 0 else seconds,
    )


def _attributes(result: Result, reached: int = 0) -> dict[str, Any]:
    """Return what is kept of a result beside Optuna's state, which is one for all failures."""
    outcome = None if result.outcome in ("complete", "pruned") else result.outcome
    kept = {"outcome": outcome, "failure": result.failure, "reached": reached}
    return {name: value for name, value in kept.items() if value}


def _trial_state(result: Result) -> "optuna.trial.TrialState":
    """Return Optuna's state of a trial that ended with a result."""
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    return states.get(result.outcome, TrialState.FAIL)


def _state(state: str, attributes: Mapping[str, Any]) -> State:
    """Return the state that Optuna's own, and the outcome kept beside it, stand for."""
    if state in ("RUNNING", "COMPLETE", "PRUNED"):
        return cast(State, state.lower())
    return cast(State, attributes.get("outcome", "interrupted"))
