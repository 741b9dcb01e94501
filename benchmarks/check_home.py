"""Check what a study has left in its home folder, without any of ecsweep's own code.

    python benchmarks/check_home.py HOME STUDY@SCALE [--json]
        [--ledger URL] [--mlflow URL] [--artifacts DIR] [--scratch DIR]...

Asks both databases in plain SQL and looks at the files, and counts what breaks the promise:
every cell is recorded exactly once, no finished cell is trained again, nothing is left over,
and Optuna and MLflow agree. For a study that has ended; exits 1 where a count that must be
zero is not. The databases are the home folder's own (a tracking server may stand before one),
or PostgreSQL's with ``--ledger`` and ``--mlflow``. For a study on a Ray cluster name also its
``--artifacts`` folder and the scratch folder of each node (``<tmp>/ecsweep-<uid>``).
"""

import argparse
import json
import os
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil

PROMISES = (
    "cells lost",
    "cells recorded twice",
    "cells trained again after finishing",
    "runs left RUNNING",
    "trials left RUNNING or WAITING",
    "Optuna/MLflow disagreements",
    "epochs missing or logged twice",
    "predictions missing or unreadable",
    "saved models half logged, beaten or without files",
    "leftover files",
    "leftover processes",
    "damaged databases",
)
"""What must be zero."""
NOTES = (
    "cells",
    "attempts",
    "runs never issued",
    "epochs trained again",
)
"""What is counted beside: nothing of it breaks the promise."""
EPOCH_METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds")
FINAL_METRICS = ("test_loss", "test_accuracy", "epochs_run", "best_epoch", "fit_seconds")
AGREEING = {
    "COMPLETE": {"FINISHED"},
    "PRUNED": {"FINISHED"},
    "FAIL": {"KILLED", "FAILED"},
    "RUNNING": {"RUNNING"},
    "WAITING": {"RUNNING"},
}
"""The states of a run that go with each state of its trial."""
Ask = Callable[..., list[tuple[Any, ...]]]
"""From a query, with ``?`` for each of the values that follow it, to its rows."""


@dataclass(frozen=True)
class Elsewhere:
    """What of a study does not lie in its home folder."""

    ledger: str | None = None
    """The address of a PostgreSQL database."""
    mlflow: str | None = None
    artifacts: Path | None = None
    """The folder of a cluster's checkpoints and finished attempts."""
    scratch: tuple[Path, ...] = ()
    """The folder of agents on each node."""


@dataclass(frozen=True)
class Databases:
    """Where ledger and MLflow are: a file of SQLite's, or an address of PostgreSQL's."""

    ledger: Path | str
    mlflow: Path | str


@dataclass(frozen=True)
class Found:
    """What a check has found: each broken promise in one line, and some counts beside."""

    broken: dict[str, list[str]]
    notes: dict[str, int]

    @property
    def kept(self) -> bool:
        """Whether every promise is kept."""
        return not any(self.broken.values())

    def counts(self) -> dict[str, int]:
        """Return how often each promise is broken."""
        return {name: len(lines) for name, lines in self.broken.items()}


@dataclass(frozen=True)
class Trial:
    """An attempt as Optuna's tables hold it."""

    number: int
    state: str
    cell: str | None
    run_id: str | None
    value: float | None


@dataclass
class Run:
    """An attempt, or the whole study, as MLflow's tables hold it."""

    run_id: str
    status: str
    start: int
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Of each metric: step, time and value of every row."""

    @property
    def cell(self) -> str | None:
        """The cell that it is an attempt at."""
        return self.tags.get("ecsweep.cell")

    def last(self, metric: str) -> float | None:
        """Return the value of a metric at its last step."""
        rows = sorted(self.metrics.get(metric, ()))
        return rows[-1][2] if rows else None


def check(home: Path, study: str, elsewhere: Elsewhere | None = None) -> Found:
    """Check what a study, ``name@scale``, that has ended has left in its home and elsewhere."""
    home, elsewhere = home.resolve(), elsewhere or Elsewhere()
    mlruns = home / "mlruns"
    databases = Databases(
        elsewhere.ledger or mlruns / "studies.db", elsewhere.mlflow or mlruns / "mlflow.db"
    )
    broken: dict[str, list[str]] = {name: [] for name in PROMISES}
    broken["damaged databases"] += damages(databases)
    if broken["damaged databases"]:  # nothing that they say can be trusted
        return Found(broken, dict.fromkeys(NOTES, 0))
    trials, (runs, parents) = read_trials(databases, study), read_runs(databases, study)
    folders = artifact_folders(home)
    plan = read_plan(parents, folders)
    attempts = {run.run_id: run for run in runs}
    check_cells(plan, trials, runs, broken)
    check_states(trials, [*runs, *parents], broken)
    check_agreement(trials, attempts, broken)
    sizes = {cell["cell"]: cell["sizes"]["test"] for cell in plan["cells"]}
    pruned = {trial.run_id for trial in trials if trial.state == "PRUNED"}
    for run in runs:
        broken["epochs missing or logged twice"] += epoch_problems(run, run.run_id in pruned)
        if run.status == "FINISHED" and run.run_id not in pruned:
            problem = predictions_problem(folders.get(run.run_id), sizes.get(str(run.cell)))
            if problem:
                broken["predictions missing or unreadable"].append(f"run {run.run_id}: {problem}")
    models = model_problems(home, databases, study)
    broken["saved models half logged, beaten or without files"] += models
    broken["leftover files"] += [*leftover_files(home), *leftover_on_cluster(elsewhere)]
    broken["leftover processes"] += leftover_processes(home, elsewhere.scratch)
    known = {trial.run_id for trial in trials}
    unissued = [run for run in runs if run.status == "KILLED" and run.run_id not in known]
    notes = (len(plan["cells"]), len(trials), len(unissued), trained_again(trials, attempts))
    return Found(broken, dict(zip(NOTES, notes, strict=True)))


def damages(databases: Databases) -> list[str]:
    """Return what is wrong with the two databases themselves."""
    found = []
    for source in (databases.ledger, databases.mlflow):
        if isinstance(source, str):
            found += unreadable(source)
            continue
        try:
            with opened(source) as ask:
                said = [row[0] for row in ask("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            said = [str(error)]
        found += [f"{source.name}: {line}" for line in said if line != "ok"]
    return found


def unreadable(address: str) -> list[str]:
    """Return what PostgreSQL says when it reads every row of every table, if it complains."""
    import psycopg

    name = address.partition("?")[0].rpartition("/")[2]  # an address may hold a password
    found = []
    with opened(address) as ask:
        tables = ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for (table,) in tables:
        try:
            with opened(address) as ask:
                ask(f'SELECT SUM(LENGTH(CAST(own AS TEXT))) FROM "{table}" AS own')
        except psycopg.Error as error:
            found.append(f"{name}: table {table}: {error}")
    return found


@contextmanager
def opened(source: Path | str) -> Iterator[Ask]:
    """Open a database for reading; gives what asks it."""
    if isinstance(source, Path):
        with connect(source) as database:
            yield lambda query, *values: database.execute(query, values).fetchall()
        return
    import psycopg

    with psycopg.connect(source.replace("+psycopg", "", 1)) as server:
        yield lambda query, *values: server.execute(
            query.replace("?", "%s"), values or None
        ).fetchall()


def connect(path: Path) -> closing[sqlite3.Connection]:
    """Open a file of SQLite's for reading."""
    # Not mode=ro: after a crash the log beside it has to be taken in.
    return closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=60))


def read_trials(databases: Databases, study: str) -> list[Trial]:
    """Return the attempts of a study in Optuna's order, without those that were forgotten."""
    with opened(databases.ledger) as ask:
        forgotten = ask(
            "SELECT value_json FROM study_user_attributes JOIN studies USING (study_id) "
            "WHERE study_name = ? AND key = 'forgotten'",
            study,
        )
        gone = set(json.loads(forgotten[0][0])) if forgotten else set()
        rows = ask(
            "SELECT trial_id, number, state FROM trials JOIN studies USING (study_id) "
            "WHERE study_name = ? ORDER BY number",
            study,
        )
        attributes: dict[int, dict[str, Any]] = defaultdict(dict)
        for trial, key, value in ask("SELECT trial_id, key, value_json FROM trial_user_attributes"):
            attributes[trial][key] = json.loads(value)
        values = dict(ask("SELECT trial_id, value FROM trial_values"))
    return [
        Trial(
            number,
            state,
            attributes[trial].get("cell"),
            attributes[trial].get("run_id"),
            values.get(trial),
        )
        for trial, number, state in rows
        if number not in gone
    ]


def read_runs(databases: Databases, study: str) -> tuple[list[Run], list[Run]]:
    """Return the runs of a study that stand for attempts, and those for the study as a whole."""
    of_study = (
        "runs JOIN experiments USING (experiment_id) "
        "WHERE experiments.name = ? AND runs.lifecycle_stage = 'active'"
    )
    with opened(databases.mlflow) as ask:
        runs = {
            row[0]: Run(*row)
            for row in ask(
                f"SELECT run_uuid, status, start_time FROM {of_study} ORDER BY start_time", study
            )
        }
        for run, key, value in ask("SELECT run_uuid, key, value FROM tags"):
            if run in runs:
                runs[run].tags[key] = value
        for run, key, *row in ask("SELECT run_uuid, key, step, timestamp, value FROM metrics"):
            if run in runs:
                runs[run].metrics[key].append(tuple(row))
    parents = [run for run in runs.values() if run.tags.get("ecsweep.role") == "study"]
    return [run for run in runs.values() if run not in parents], parents


def artifact_folders(home: Path) -> dict[str, Path]:
    """Return the artifact folder of every run that has one."""
    found = (home / "mlruns" / "artifacts").glob("**/artifacts")
    return {path.parent.name: path for path in found}


def read_plan(parents: list[Run], folders: dict[str, Path]) -> dict[str, Any]:
    """Return the plan that the study's parent run keeps."""
    if len(parents) != 1:
        sys.exit(f"{len(parents)} runs stand for the study as a whole, not one")
    (parent,) = parents
    path = folders[parent.run_id] / parent.tags["ecsweep.plan"]
    plan: dict[str, Any] = json.loads(path.read_text())
    return plan


def check_cells(
    plan: dict[str, Any], trials: list[Trial], runs: list[Run], broken: dict[str, list[str]]
) -> None:
    """Look for cells that are lost, recorded twice, or trained again when they were done."""
    for cell in sorted({cell["cell"] for cell in plan["cells"]} | {str(t.cell) for t in trials}):
        own = [trial for trial in trials if trial.cell == cell]
        mine = [run for run in runs if run.cell == cell]
        complete = [trial.number for trial in own if trial.state in ("COMPLETE", "PRUNED")]
        finished = [run for run in mine if run.status == "FINISHED"]
        if not complete:
            states = ", ".join(trial.state for trial in own) or "no trial"
            broken["cells lost"].append(f"cell {cell}: {states}")
        if len(complete) > 1 or len(finished) > 1:
            broken["cells recorded twice"].append(
                f"cell {cell}: trials {complete}, runs {[run.run_id for run in finished]}"
            )
        later = [f"trial {t.number}" for t in own if complete and t.number > complete[0]]
        later += [f"run {r.run_id}" for r in mine if finished and r.start > finished[0].start]
        if later:
            broken["cells trained again after finishing"].append(f"cell {cell}: {later}")


def check_states(trials: list[Trial], runs: list[Run], broken: dict[str, list[str]]) -> None:
    """Look for what is still said to run."""
    for trial in trials:
        if trial.state in ("RUNNING", "WAITING"):
            broken["trials left RUNNING or WAITING"].append(f"trial {trial.number}: {trial.state}")
    for run in runs:
        if run.status in ("RUNNING", "SCHEDULED"):
            role = run.tags.get("ecsweep.role")
            broken["runs left RUNNING"].append(f"run {run.run_id} ({role}): {run.status}")


def check_agreement(
    trials: list[Trial], runs: dict[str, Run], broken: dict[str, list[str]]
) -> None:
    """Compare each trial with its run: state, cell and objective value."""
    said = broken["Optuna/MLflow disagreements"]
    times = Counter(trial.run_id for trial in trials)
    for trial in trials:
        name = f"trial {trial.number} ({trial.state})"
        run = runs.get(str(trial.run_id))
        if run is None:
            said.append(f"{name}: no run {trial.run_id}")
            continue
        if times[trial.run_id] > 1:
            said.append(f"{name}: shares run {run.run_id}")
        if run.status not in AGREEING.get(trial.state, ()):
            said.append(f"{name}: run {run.run_id} is {run.status}")
        if run.cell != trial.cell:
            said.append(f"{name}: is of cell {trial.cell}, run {run.run_id} of {run.cell}")
        measured = run.last("val_accuracy")
        agree = trial.value is not None and measured is not None
        if trial.state == "COMPLETE" and not (agree and abs(trial.value - measured) < 1e-9):
            said.append(f"{name}: its value is {trial.value}, run {run.run_id} has {measured}")
    known = {trial.run_id for trial in trials}
    for run in runs.values():
        if run.run_id not in known and run.status != "KILLED":
            said.append(f"run {run.run_id} ({run.status}): no trial knows it")


def epoch_problems(run: Run, pruned: bool) -> Iterator[str]:
    """Yield what is wrong with a run's metrics: twice, or missing from one that is finished."""
    for metric, rows in run.metrics.items():
        twice = sorted(step for step, n in Counter(row[0] for row in rows).items() if n > 1)
        if twice:
            yield f"run {run.run_id} ({run.status}): {metric} twice at {twice}"
    if run.status != "FINISHED":
        return
    missing = [] if pruned else [name for name in FINAL_METRICS if name not in run.metrics]
    if missing:
        yield f"run {run.run_id}: no {', '.join(missing)}"
    steps = {name: {row[0] for row in run.metrics.get(name, ())} for name in EPOCH_METRICS}
    ran = max((max(own, default=0) for own in steps.values()), default=0)
    wanted = set(range(1, int(run.last("epochs_run") or ran) + 1))
    for name, own in steps.items():
        if own != wanted:
            gaps, more = sorted(wanted - own), sorted(own - wanted)
            yield f"run {run.run_id}: {name} misses epochs {gaps}, has {more} too many"


def predictions_problem(folder: Path | None, rows: int | None) -> str | None:
    """Say what is wrong with the predictions of a finished run, if anything is."""
    if folder is None or not (folder / "predictions.npz").exists():
        return "no predictions.npz"
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as file:
            lengths = {name: len(file[name]) for name in file.files}
    except Exception as error:  # whatever numpy, zipfile or zlib say of a damaged file
        return f"predictions.npz cannot be read ({error!r})"
    if set(lengths) < {"ids", "labels", "probabilities"} or set(lengths.values()) != {rows}:
        return f"predictions.npz has {lengths} rows, not {rows}"
    return None


def trained_again(trials: list[Trial], runs: dict[str, Run]) -> int:
    """Count the epochs that a later attempt had to train once more, after a crash.

    An epoch that came with a checkpoint keeps the time at which it was first trained.
    """
    before: dict[tuple[str | None, int], int] = {}
    again = 0
    for trial in trials:
        run = runs.get(str(trial.run_id))
        for step, at, _ in run.metrics.get("val_loss", ()) if run else ():
            again += before.get((trial.cell, step), at) != at
            before[trial.cell, step] = at
    return again


def model_problems(home: Path, databases: Databases, study: str) -> list[str]:
    """Return what is wrong with saved models: one is ready and whole for each dataset's best."""
    of_study = "JOIN experiments USING (experiment_id) WHERE experiments.name = ?"
    with opened(databases.mlflow) as ask:
        rows = ask(
            "SELECT model_id, status, logged_models.lifecycle_stage, source_run_id "
            f"FROM logged_models {of_study}",
            study,
        )
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        for model, key, value in ask("SELECT model_id, tag_key, tag_value FROM logged_model_tags"):
            tags[model][key] = value
        metrics = ask("SELECT run_uuid, value FROM latest_metrics WHERE key = 'val_accuracy'")
    accuracies, found, bests = dict(metrics), [], []
    folder = home / "mlruns" / "artifacts"  # a server puts models under their experiment
    for model, status, stage, run in rows:
        files = sorted(folder.glob(f"**/models/{model}/**/model.json"))
        if (stage == "active") != bool(files) or (stage == "active" and status != 2):
            found.append(
                f"model {model} is {stage} with status {status} and {len(files)} documents"
            )
        elif stage == "active" and tags[model]["ecsweep.keep"] == "best":
            bests.append(tags[model]["ecsweep.dataset"])
            if accuracies.get(run) != float(tags[model]["ecsweep.val_accuracy"]):
                found.append(f"model {model} names another accuracy than its run")
    return found + [
        f"dataset {name[:12]} has several bests" for name in {*bests} if bests.count(name) > 1
    ]


def leftover_files(home: Path) -> list[str]:
    """Return what should have been cleaned up: all of the work folder but locks, and odd ends."""
    work = home / "mlruns" / "work"
    found = [path for path in work.rglob("*") if path.suffix != ".lock" or path.parent != work]
    for folder in (home / "mlruns", home / "mlruns" / "artifacts", home / "reports"):
        if folder.exists():  # half-written files have hidden names
            found += [path for path in folder.glob("**/.*") if work not in path.parents]
    found += [path for path in (home / "data").glob("*/.*") if path.name != ".lock"]
    return sorted({str(path.relative_to(home)) for path in found})


def leftover_on_cluster(elsewhere: Elsewhere) -> list[str]:
    """Return what should have gone from a cluster: all files but the lock of each node."""
    found: list[Path] = []
    if elsewhere.artifacts:  # its folders stay, as an object store has none
        found += [path for path in elsewhere.artifacts.rglob("*") if path.is_file()]
    for folder in elsewhere.scratch:
        found += [path for path in folder.rglob("*") if path != folder / ".lock"]
    return sorted(map(str, found))


def leftover_processes(home: Path, scratch: tuple[Path, ...] = ()) -> list[str]:
    """Return the drivers, agents and workers of a home folder that are still alive."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    others = [process for process in psutil.process_iter() if process.pid not in spared]
    folders = (home / "mlruns", *scratch)
    return [line for process in others if (line := described_if_of(process, home, folders))]


def described_if_of(process: psutil.Process, home: Path, folders: tuple[Path, ...]) -> str | None:
    """Describe a process if it is one of ecsweep's that works in a home folder or on its nodes."""
    try:
        command = process.cmdline()
        names = ("ec_sweep", "multiprocessing", "ray::Agent")
        ours = any(name in part for part in command for name in names)
        if not ours or process.status() == psutil.STATUS_ZOMBIE:
            return None
        places = [process.cwd(), process.environ().get("ECSWEEP_HOME", ""), *command]
        written = [Path(file.path) for file in process.open_files()]  # a worker's log
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    at_home = any(place and os.path.realpath(place) == str(home) for place in places)
    if at_home or any(path.is_relative_to(folder) for path in written for folder in folders):
        return f"process {process.pid}: {' '.join(command)[:200]}"
    return None


def table(found: Found) -> str:
    """Return the counts as a Markdown table."""
    rows = [*found.counts().items(), *((f"*{name}*", n) for name, n in found.notes.items())]
    return "\n".join(["| counted | found |", "|---|---:|", *(f"| {n} | {k} |" for n, k in rows)])


def main() -> int:
    """Print the table, or JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("study", help="name@scale")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--ledger", help="postgresql://… instead of the home's studies.db")
    parser.add_argument("--mlflow", help="postgresql://… instead of the home's mlflow.db")
    parser.add_argument("--artifacts", type=Path, help="the folder that the nodes share")
    parser.add_argument("--scratch", type=Path, action="append", default=[], help="of a node")
    options = parser.parse_args()
    scratch = tuple(options.scratch)
    elsewhere = Elsewhere(options.ledger, options.mlflow, options.artifacts, scratch)
    found = check(options.home, options.study, elsewhere)
    if options.json:
        print(json.dumps({"broken": found.broken, "notes": found.notes}, indent=1))
    else:
        print(table(found))
        for name, lines in found.broken.items():
            for line in lines:
                print(f"{name}: {line}")
    return 0 if found.kept else 1


if __name__ == "__main__":
    sys.exit(main())
