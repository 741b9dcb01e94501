"""Which attempts at which cells run, are done or failed: Optuna's study is the only truth."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from ec_sweep import schemas
from ec_sweep.attempts import Outcome, Result
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home, check_sqlite, make_database, no_room
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


def state_of(attempts: Sequence[Attempt]) -> State:
    """Return a cell's state: that of its last attempt."""
    return attempts[-1].state if attempts else "waiting"


def lost_in_a_row(attempts: Sequence[Attempt]) -> int:
    """Count the workers that a cell has lost since it last ended by itself."""
    count = 0
    for attempt in reversed(attempts):
        if attempt.state != "interrupted":
            break
        count += attempt.failure == "lost"
    return count


class Ledger:
    """The attempts of one study, ``name@scale``."""

    def __init__(self, storage: "optuna.storages.RDBStorage", study: str) -> None:
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study)

    def attempts(self) -> dict[str, list[Attempt]]:
        """Return the attempts at each cell, oldest first."""
        found: dict[str, list[Attempt]] = {}
        forgotten = self._forgotten()
        for trial in self._storage.get_all_trials(self._study_id, deepcopy=False):
            attributes = trial.user_attrs
            if "cell" not in attributes or trial.number in forgotten:
                continue
            attempt = Attempt(
                number=trial.number,
                cell=attributes["cell"],
                attempt=attributes["attempt"],
                run_id=attributes["run_id"],
                state=_state(trial),
                failure=attributes.get("failure"),
                concurrency=attributes.get("concurrency", 1),
                seconds=_seconds(trial),
            )
            found.setdefault(attempt.cell, []).append(attempt)
        return found

    def start(
        self,
        cell: Cell,
        attempt: int,
        run_id: str,
        concurrency: int,
        axes: Mapping[str, list[Any]],
    ) -> Attempt:
        """Enter an attempt as running, in one write.

        ``axes`` gives the values of each grid axis. Numbers among them become
        Optuna parameters, with ranges because Optuna refuses categories that
        change; everything else about a cell stands in MLflow.
        """
        import optuna

        distributions: dict[str, Any] = {}
        for name, values in axes.items():
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
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs=attributes,
        )
        trial_id = self._storage.create_new_trial(self._study_id, trial)
        number = self._storage.get_trial(trial_id).number
        return Attempt(number, str(cell.id), attempt, run_id, "running", None, concurrency)

    def finish(self, number: int, result: Result) -> None:
        """Tell how an attempt ended; telling it again changes nothing."""
        trial_id = self._trial_id(number)
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        for name in ("outcome", "failure"):
            value = getattr(result, name)
            if value is not None:
                self._storage.set_trial_user_attr(trial_id, name, value)
        values = None if result.value is None else [result.value]
        self._storage.set_trial_state_values(trial_id, _trial_state(result), values)

    def forget(self, cells: set[str]) -> list[Attempt]:
        """Leave the attempts at these cells out from now on; returns them."""
        gone = [a for cell, known in self.attempts().items() if cell in cells for a in known]
        numbers = sorted({*self._forgotten(), *(attempt.number for attempt in gone)})
        self._storage.set_study_user_attr(self._study_id, "forgotten", numbers)
        return gone

    def forgotten_runs(self) -> set[str]:
        """Return the MLflow runs of forgotten attempts."""
        forgotten = self._forgotten()
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
            ended = {"outcome": result.outcome, "failure": result.failure}
            attributes |= {name: text for name, text in ended.items() if text}
            state, value = _trial_state(result), result.value
        trial = optuna.create_trial(state=state, value=value, user_attrs=attributes)
        self._storage.create_new_trial(self._study_id, trial)

    def _forgotten(self) -> set[int]:
        """Return the numbers of forgotten trials: Optuna deletes no single one."""
        return set(self._storage.get_study_user_attrs(self._study_id).get("forgotten", ()))

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def open_ledger(home: Home, storage: str | None, study: str) -> Ledger:
    """Open the ledger of a study, making it and its database if need be.

    ``storage`` is an SQLAlchemy URL that replaces the home folder's ``studies.db``.
    """
    import optuna

    path = sqlite_path(home, storage)
    if path:
        check_sqlite(path)
        schemas.check_file(path, schemas.OPTUNA)
    if storage is None:
        make_database(home.studies_db, optuna.storages.RDBStorage)
    rdb = _storage(home, storage)
    optuna.create_study(study_name=study, storage=rdb, direction="maximize", load_if_exists=True)
    return Ledger(rdb, study)


def find_ledger(home: Home, storage: str | None, study: str) -> Ledger | None:
    """Open the ledger of a study for reading, ``None`` when there is none yet."""
    path = sqlite_path(home, storage)
    if path:
        check_sqlite(path)
        schemas.check_file(path, schemas.OPTUNA)
        if not path.exists():
            return None
    try:
        return Ledger(_storage(home, storage), study)
    except KeyError:  # no such study
        return None


def known_studies(home: Home, storage: str | None) -> list[str]:
    """Return the names of the studies, ``name@scale``, that have a ledger."""
    path = sqlite_path(home, storage)
    if path and not path.exists():
        return []
    return [study.study_name for study in _storage(home, storage).get_all_studies()]


def sqlite_path(home: Home, storage: str | None) -> Path | None:
    """Return the file that holds the ledger, ``None`` when it is on a server."""
    if storage is None:
        return home.studies_db
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(storage)
    except sqlalchemy.exc.ArgumentError as error:
        raise EcsweepError(
            "--storage must be an SQLAlchemy URL such as "
            "postgresql+psycopg://user@host/database or sqlite:////folder/studies.db."
        ) from error
    on_disk = url.get_backend_name() == "sqlite" and url.database
    return Path(str(url.database)) if on_disk else None


def _storage(home: Home, storage: str | None) -> "optuna.storages.RDBStorage":
    import optuna
    import sqlalchemy

    logging.getLogger("alembic").setLevel(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = storage or f"sqlite:///{home.studies_db}"
    connect_args = {"timeout": 60} if url.startswith("sqlite") else {}
    try:
        if not connect_args:
            schemas.check_server(url, schemas.OPTUNA)
        rdb = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": connect_args})
        if connect_args:
            with rdb.engine.connect() as connection:
                connection.execute(sqlalchemy.text("PRAGMA journal_mode=WAL"))
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError) as error:
        if no_room(error):
            raise
        shown = sqlalchemy.make_url(url).render_as_string(hide_password=True)
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise EcsweepError(f"{shown}: the ledger cannot be opened ({reason}).") from error
    return rdb


def _trial_state(result: Result) -> "optuna.trial.TrialState":
    """Return Optuna's state of a trial that ended with a result."""
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    return states.get(result.outcome, TrialState.FAIL)


def _seconds(trial: "optuna.trial.FrozenTrial") -> float | None:
    """Return how long a trial took, ``None`` where the clock was set back meanwhile."""
    seconds = trial.duration.total_seconds() if trial.duration else None
    return None if seconds is None or seconds < 0 else seconds


def _state(trial: "optuna.trial.FrozenTrial") -> State:
    """Return the state that Optuna's own, and the outcome kept beside it, stand for."""
    if trial.state.name == "RUNNING":
        return "running"
    if trial.state.name == "COMPLETE":
        return "complete"
    if trial.state.name == "PRUNED":
        return "pruned"
    return cast(State, trial.user_attrs.get("outcome", "interrupted"))
