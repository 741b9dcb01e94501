"""What hands do to MLflow's data, seen and undone: deleted runs and experiments, moved homes."""

import functools
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ec_sweep.attempts import now
from ec_sweep.errors import EcsweepError
from ec_sweep.findings import Finding
from ec_sweep.mlflow_store import connect, is_local, pages
from ec_sweep.paths import Home
from ec_sweep.stored import artifact_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

_ATTEMPTS = "tags.`ecsweep.role` = 'attempt'"
_PARENTS = "tags.`ecsweep.role` = 'study'"


def experiment_names(home: Home) -> list[str]:
    """Return the names of all experiments, deleted ones too."""
    from mlflow.entities import ViewType

    search = functools.partial(connect(home).search_experiments, ViewType.ALL)
    return [experiment.name for experiment in pages(search)]


def experiment(home: Home, name: str) -> Iterator[Finding]:
    """Look whether a study's experiment can be opened: neither deleted nor of a moved home."""
    client = connect(home)
    found = client.get_experiment_by_name(name)
    if found is None:
        return
    where = f"MLflow experiment {found.experiment_id}"
    if found.lifecycle_stage == "deleted":
        yield Finding(
            "experiment-deleted",
            name,
            where,
            "it was deleted, with its runs; MLflow's bin still holds them",
            "bring it back (as 'mlflow experiments restore --experiment-id "
            f"{found.experiment_id}' does)",
            lambda: client.restore_experiment(found.experiment_id),
        )
    before = artifact_folder(found.artifact_location)
    if not is_local(home) or before.resolve() == home.artifacts.resolve():
        return
    problem = f"its home was {before.parents[1]} when it was run, and MLflow keeps absolute paths"
    if _artifacts_are_here(home, client, found):
        yield Finding(
            "home-moved",
            name,
            where,
            problem,
            f"change them to {home.artifacts}",
            lambda: _relocate(home, found.artifact_location),
        )
    else:
        hand = f"Its artifacts are not in {home.artifacts}: move them there from {before}."
        yield Finding("home-moved", name, where, problem, hand)


def _artifacts_are_here(home: Home, client: "MlflowClient", found: "Experiment") -> bool:
    """Say whether the artifacts of an experiment, where it has any, came with the home."""
    from mlflow.entities import ViewType

    runs = client.search_runs([found.experiment_id], run_view_type=ViewType.ALL, max_results=1000)
    kept = [
        run.info.run_id
        for run in runs
        if "ecsweep.plan" in run.data.tags
        or (run.info.status == "FINISHED" and run.data.tags.get("ecsweep.role") == "attempt")
    ]
    return not kept or any((home.artifacts / run_id).exists() for run_id in kept)


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a transaction on a database that others may use."""
    try:
        with closing(sqlite3.connect(path, timeout=20)) as connection, connection:
            yield connection
    except sqlite3.Error as error:
        raise EcsweepError(
            f"{path} cannot be changed ({error}). End what uses it (ecsweep ui?), then try again."
        ) from error


def _relocate(home: Home, before: str) -> None:
    """Change where MLflow believes the artifacts to be, in one transaction."""
    new = home.artifacts.resolve().as_uri()
    with _writing(home.mlflow_db) as connection:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
        ):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(before) + 1, before, len(before) + 1, f"{before}/"),
            )


@dataclass(frozen=True)
class Runs:
    """The runs of a study, beyond what `Tracker` needs: deleted ones, and states set anew."""

    client: "MlflowClient"
    experiment_id: str

    def deleted(self) -> set[str]:
        """Return the attempts' runs that are in MLflow's bin."""
        from mlflow.entities import ViewType

        return {run.info.run_id for run in self._search(_ATTEMPTS, ViewType.DELETED_ONLY)}

    def restore(self, run_id: str) -> None:
        """Bring a run back from MLflow's bin."""
        self.client.restore_run(run_id)

    def running_parents(self) -> list[str]:
        """Return the runs that stand for the study as a whole and are not ended."""
        from mlflow.entities import ViewType

        found = self._search(_PARENTS, ViewType.ACTIVE_ONLY)
        return [run.info.run_id for run in found if run.info.status == "RUNNING"]

    def end(self, run_id: str, status: str) -> None:
        """Give a run another status, and an end where it has none; what it measured stays."""
        end = self.client.get_run(run_id).info.end_time
        self.client.set_terminated(run_id, status, end_time=end or now())

    def _search(self, condition: str, view: int) -> "Iterator[Run]":
        search = functools.partial(
            self.client.search_runs, [self.experiment_id], condition, run_view_type=view
        )
        yield from pages(search)
