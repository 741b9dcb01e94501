"""Where ledger, tracking and work folders of a study disagree, and which of them is right.

The ledger knows states, MLflow knows measurements. So a run takes the status that the ledger's
state stands for; a finished run without a trial is entered in the ledger; and a cell is trained
again only where no measurement of it is left.
"""

import functools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ec_sweep import checkpoints, doctor_models, hints
from ec_sweep.attempts import AttemptFolder, Result, now
from ec_sweep.doctor_tracking import Runs, experiment
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import find_writable
from ec_sweep.findings import Finding
from ec_sweep.ledger import Attempt, Ledger, state_of
from ec_sweep.ledger_store import find_ledger, open_ledger
from ec_sweep.mlflow_store import connect, is_local
from ec_sweep.paths import DAMAGED
from ec_sweep.planning import Place
from ec_sweep.recording import Recorder
from ec_sweep.stored import TrackedRun, finished
from ec_sweep.tracking import STATUS, Tracker

_FINAL = "test_accuracy"
"""A metric that every run has that came to its end."""
_NO_NUMBERS = ("FINISHED", None)
"""Status and result of a run that claims to have ended, and has no final metrics."""


def study(place: Place, name: str, deep: bool) -> Iterator[Finding]:
    """Look at one study, ``name@scale``; each finding may be repaired before the next is asked."""
    yield from experiment(place.home, name)
    if any(True for _ in experiment(place.home, name)):
        return  # it cannot be opened
    tracker = find_writable(place.home, name)
    ledger = find_ledger(place.home, place.storage, name)
    if tracker is None:
        if ledger:
            yield from _without_experiment(ledger, name)
        return
    if ledger is None:
        runs = tracker.runs()
        if not runs:
            return
        yield Finding(
            "ledger-missing",
            name,
            "the ledger",
            f"it does not know the study, of which MLflow holds {len(runs)} runs; if the ledger is "
            "elsewhere, name it with --storage",
            "make it, and enter what MLflow holds",
            lambda: open_ledger(place.home, place.storage, name),
        )
        ledger = find_ledger(place.home, place.storage, name)
        if ledger is None:
            return
    yield from _Study(place, name, ledger, tracker).findings(deep)


def _without_experiment(ledger: Ledger, name: str) -> Iterator[Finding]:
    """Look at a study that MLflow does not know."""
    attempts = ledger.attempts()
    if not attempts:
        return
    complete = sum(state_of(own) == "complete" for own in attempts.values())
    yield Finding(
        "experiment-missing",
        name,
        "MLflow",
        f"it has no experiment of the study: the measurements of {complete} complete cells are "
        "lost. If there is a backup of mlflow.db, put it in place first",
        f"forget the {len(attempts)} cells, so that they are trained again",
        lambda: ledger.forget(set(attempts)),
    )


class _Study:
    """A study that nobody runs, in ledger and tracking."""

    def __init__(self, place: Place, name: str, ledger: Ledger, tracker: Tracker) -> None:
        self._home, self._name = place.home, name
        self._ledger, self._tracker = ledger, tracker
        client = connect(place.home)
        found = client.get_experiment_by_name(name)
        assert found is not None
        self._bin = Runs(client, found.experiment_id)
        self._look()

    def _look(self) -> None:
        self._attempts = self._ledger.attempts()
        self._runs = {run.run_id: run for run in self._tracker.runs()}
        self._deleted = self._bin.deleted()
        self._known = {own.run_id: own for all_ in self._attempts.values() for own in all_}

    def findings(self, deep: bool) -> Iterator[Finding]:
        """Look for one kind after the other; what was repaired is looked at anew."""
        looks: list[Callable[[], Iterator[Finding]]] = [
            self._deleted_runs,
            self._strays,
            self._running_without_run,
            self._runs_without_trial,
            self._unfinished,
            self._disagreements,
            self._parents,
            functools.partial(self._predictions, deep),
            self._checkpoints,
            functools.partial(doctor_models.superfluous, self._name, self._tracker),
        ]
        for look in looks:
            found = list(look())
            yield from found
            if found:
                self._look()

    def _finding(
        self,
        kind: str,
        where: str,
        problem: str,
        remedy: str,
        repair: Callable[[], object] | None,
    ) -> Finding:
        return Finding(kind, self._name, where, problem, remedy, repair)

    def _deleted_runs(self) -> Iterator[Finding]:
        """Look for runs that were deleted while the ledger counts on them."""
        for run_id in sorted(self._deleted & self._known.keys()):
            attempt = self._known[run_id]
            yield self._finding(
                "run-deleted",
                f"run {run_id}",
                f"MLflow's run of the {attempt.state} cell {attempt.cell} was deleted",
                f"bring it back from MLflow's bin (to drop it: {self._forget(attempt.cell)})",
                functools.partial(self._bin.restore, run_id),
            )

    def _strays(self) -> Iterator[Finding]:
        """Look for trials that wait, or run without being an attempt."""
        for number in self._ledger.strays():
            yield self._finding(
                "trial-stray",
                f"trial {number}",
                "the trial waits for nobody, or stands for no attempt",
                "tell it as failed",
                functools.partial(self._ledger.finish, number, Result("interrupted", now())),
            )

    def _running_without_run(self) -> Iterator[Finding]:
        """Look for running trials whose runs are gone for good."""
        for run_id, attempt in self._known.items():
            if attempt.state == "running" and run_id not in self._runs.keys() | self._deleted:
                yield self._finding(
                    "trial-running",
                    f"trial {attempt.number}",
                    f"nothing runs the trial of cell {attempt.cell}, and its run is gone",
                    "tell it as interrupted; its cell is trained again",
                    functools.partial(self._interrupt, attempt),
                )

    def _interrupt(self, attempt: Attempt) -> None:
        with AttemptFolder(self._home.attempt(attempt.run_id)).lock() as free:
            if not free:
                raise EcsweepError("a worker still trains it: end that process first")
            self._ledger.finish(attempt.number, Result("interrupted", now()))

    def _runs_without_trial(self) -> Iterator[Finding]:
        """Look for runs that measured something and that the ledger does not know."""
        states = {cell: [own.state for own in all_] for cell, all_ in self._attempts.items()}
        missing = self._runs.keys() - self._known.keys() - self._ledger.forgotten_runs()
        unknown = [run for run in self._runs.values() if run.run_id in missing]
        ended = {run.cell for run in unknown if run.status in ("FINISHED", "FAILED")}
        for run in unknown:
            before = states.setdefault(run.cell, [])
            result = self._result(run)
            if run.status == "KILLED" and (run.cell not in ended or len(before) + 1 != run.attempt):
                continue  # its driver died before its trial
            if run.status == "RUNNING" and not self._has_result(run):
                continue  # Recorder ends it
            superseded = "complete" in before or (run.status == "FAILED" and any(before))
            if run.status == "KILLED" or not (superseded or (run.status, result) == _NO_NUMBERS):
                before.append(result.outcome if result else "running")
                remedy, repair = "enter it in the ledger", self._adopting(run, result)
            else:
                remedy = "mark it KILLED; what it measured stays"
                repair = functools.partial(self._bin.end, run.run_id, "KILLED")
            why = ", which has other attempts" if superseded else ""
            yield self._finding(
                "run-without-trial",
                f"run {run.run_id}",
                f"the ledger does not know this {run.status} run of cell {run.cell}{why}",
                remedy,
                repair,
            )

    def _adopting(self, run: TrackedRun, result: Result | None) -> Callable[[], None]:
        return functools.partial(
            self._ledger.adopt, run.cell, run.attempt, run.run_id, run.concurrency, result
        )

    def _has_result(self, run: TrackedRun) -> bool:
        return AttemptFolder(self._home.attempt(run.run_id)).result() is not None

    def _result(self, run: TrackedRun) -> Result | None:
        """Return how the attempt of an ended run ended, as far as the run says."""
        if run.status == "FAILED":
            failure = run.tags.get("ecsweep.failure", "error")
            failed = failure in ("error", "timeout")
            return Result("failed" if failed else "not_available", now(), failure=failure)
        if run.status == "KILLED":
            return Result("interrupted", now(), failure=run.tags.get("ecsweep.failure"))
        return finished(run.status, run.tags, run.metrics)

    def _unfinished(self) -> Iterator[Finding]:
        """Look for what a driver that died left, which the next driver mends too."""
        recorder = Recorder(self._home, self._name, self._ledger, self._tracker)
        repair = functools.cache(recorder.repair)
        for run_id, own in self._known.items():
            folder = self._home.attempt(run_id)
            if own.state == "running" and run_id in self._runs:
                problem = f"nothing runs attempt {own.attempt} at cell {own.cell}"
                remedy = "record what it came to, from its work folder"
                yield self._finding("trial-running", f"trial {own.number}", problem, remedy, repair)
            elif own.state != "running" and folder.exists():
                problem = f"the {own.state} attempt at cell {own.cell} is recorded"
                yield self._finding("work-folder", str(folder), problem, "remove it", repair)
        forgotten = self._ledger.forgotten_runs()
        for run in self._runs.values():
            if run.run_id in forgotten:
                problem = f"its attempt at cell {run.cell} is forgotten"
                remedy = "delete it, into MLflow's bin"
            elif run.status == "RUNNING" and run.run_id not in self._known:
                problem, remedy = "nothing runs it, and it has no trial", "mark it KILLED"
            else:
                continue
            kind = "run-forgotten" if run.run_id in forgotten else "run-running"
            yield self._finding(kind, f"run {run.run_id}", problem, remedy, repair)

    def _disagreements(self) -> Iterator[Finding]:
        """Look for ended trials whose runs say otherwise."""
        lasts = {all_[-1].run_id for all_ in self._attempts.values()}
        for run_id, own in self._known.items():
            if own.state == "running" or run_id in self._deleted:
                continue
            run = self._runs.get(run_id)
            if run is None:
                if run_id in lasts and own.state != "interrupted":
                    yield self._nothing_left(own, "MLflow's run of it is gone")
            elif own.state == "complete" and _FINAL not in run.metrics:
                yield self._nothing_left(own, f"its run is {run.status} and has no final numbers")
            elif run.status != STATUS[own.state]:
                yield self._finding(
                    "run-status",
                    f"run {run_id}",
                    f"it is {run.status}, its attempt at cell {own.cell} {own.state}",
                    f"mark it {STATUS[own.state]}; what it measured stays",
                    functools.partial(self._bin.end, run_id, STATUS[own.state]),
                )

    def _nothing_left(self, attempt: Attempt, why: str) -> Finding:
        """Report an attempt whose numbers are lost; its cell goes where it has no others."""
        cell = attempt.cell
        others = [run for run in self._runs.values() if run.cell == cell]
        measured = any(_FINAL in run.metrics for run in others)
        return self._finding(
            "run-lost",
            f"cell {cell}",
            f"the cell is {attempt.state}, but {why}",
            f"Another run measured it; if that is of no use: {self._forget(cell)}"
            if measured
            else "forget the cell, of which no measurement is left, so that it is trained again",
            None if measured else functools.partial(self._forget_cell, cell),
        )

    def _forget_cell(self, cell: str) -> None:
        gone = self._ledger.forget({cell})
        self._tracker.forget([own.run_id for own in gone if own.run_id in self._runs])

    def _parents(self) -> Iterator[Finding]:
        """Look for parent runs of drivers that died."""
        for run_id in self._bin.running_parents():
            yield self._finding(
                "parent-running",
                f"run {run_id}",
                "nothing runs the study that it stands for",
                "mark it KILLED",
                functools.partial(self._bin.end, run_id, "KILLED"),
            )

    def _predictions(self, deep: bool) -> Iterator[Finding]:
        """Look for predictions that reports need and cannot read."""
        if not is_local(self._home):
            return
        for run_id, own in self._known.items():
            run = self._runs.get(run_id)
            if own.state != "complete" or run is None or run.status != "FINISHED":
                continue
            path = self._home.artifacts / run_id / "artifacts" / "predictions.npz"
            if problem := _unreadable(path, deep):
                yield self._finding(
                    "predictions",
                    str(path),
                    f"the predictions of cell {own.cell} {problem}; its other numbers are whole",
                    f"Put back a copy, or train the cell again: {self._forget(own.cell)}",
                    None,
                )

    def _checkpoints(self) -> Iterator[Finding]:
        """Look for checkpoints of cells that do not go on from them."""
        for path in sorted(self._home.checkpoints(self._name).glob("*.npz")):
            attempts = self._attempts.get(path.stem, [])
            if path.name.startswith(".") or (attempts and attempts[-1].goes_on):
                continue
            state = state_of(attempts)
            yield self._finding(
                "checkpoint",
                str(path),
                f"its cell is {state.replace('_', ' ')} and does not go on from it",
                "remove it",
                functools.partial(checkpoints.remove, path),
            )

    def _forget(self, cell: str) -> str:
        return hints.on("forget", self._name, "--cell", cell)


def _unreadable(path: Path, deep: bool) -> str | None:
    """Return what is wrong with a file of predictions, ``None`` when it can be read."""
    if not path.exists():
        return "are missing"
    try:
        with zipfile.ZipFile(path) as kept:
            wanted = {"ids.npy", "labels.npy", "probabilities.npy"}
            bad = not wanted <= set(kept.namelist()) or (deep and kept.testzip())
    except DAMAGED as error:
        return f"cannot be read ({error})"
    return "are damaged" if bad else None
