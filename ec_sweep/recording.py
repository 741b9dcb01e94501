"""Recording an attempt's end, and repairing what a driver that died left half recorded.

Every step can be repeated: what was done already changes nothing.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from ec_sweep import checkpoints, hints
from ec_sweep.attempts import AttemptFolder, Result, now
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Attempt, Ledger
from ec_sweep.locations import Location
from ec_sweep.paths import Home
from ec_sweep.tracking import Tracker

_ORPHAN_WAIT = 30.0
"""Seconds that a worker of a dead driver has to disappear."""


class Recorder:
    """Writes attempts' ends to tracker and ledger, in the order that makes crashes repairable."""

    def __init__(
        self,
        home: Home,
        study: str,
        ledger: Ledger,
        tracker: Tracker,
        location: Location | None = None,
    ) -> None:
        """Record what lies in the home, and in the ``location`` of a cluster where there is one."""
        self._home, self._study = home, study
        self._ledger, self._tracker = ledger, tracker
        self._location = location

    def record(self, attempt: Attempt, result: Result) -> Result:
        """Write an attempt's end: MLflow run and model, then Optuna trial, then its files go.

        Returns the result as it was recorded: out of memory beside other trials
        says nothing yet of the cell, which is to be tried alone.
        """
        if result.failure == "oom" and attempt.concurrency > 1:
            result = replace(result, outcome="interrupted")
        folder = self._folder(attempt.run_id)
        if result.outcome != "interrupted" and folder.path.exists() and not folder.result():
            folder.write_result(result)  # a verdict that its worker could not leave
        self._tracker.finish(attempt.run_id, result, folder)
        if result.outcome == "complete":
            self._tracker.models.record(attempt.run_id, folder)
        self._end(attempt, result)
        return result

    def record_remains(self, attempt: Attempt) -> Result:
        """Record an attempt whose worker is gone, from what it left in its folder."""
        folder = self._folder(attempt.run_id)
        if self._location and not folder.result():  # it may have ended without its driver
            self._location.pull_attempt(attempt.run_id, folder.path)
        events, result = folder.events(), folder.result()
        attempt = replace(attempt, reached=max([e.checkpoint for e in events], default=0))
        if result is None:
            result = self._tracker.finished(attempt.run_id)
            if result is None:
                result = Result("interrupted", now())
            else:  # recorded in MLflow already; only the trial was not told
                self._end(attempt, result)
                return result
        if events:
            self._tracker.log(attempt.run_id, events)
        return self.record(attempt, result)

    def repair(self, living: Container[str] = ()) -> None:
        """Bring ledger, tracker and work folders to one state after a crash or an outage.

        ``living`` are the runs of attempts that this driver's workers are at.
        """
        known: set[str] = set()
        recorded = self._ledger.attempts()
        for path in self._home.checkpoints(self._study).glob("*.npz"):
            if path.stem not in recorded:  # forgotten
                checkpoints.remove(path)
        for attempts in recorded.values():
            for attempt in attempts:
                known.add(attempt.run_id)
                if attempt.run_id in living:
                    continue
                if attempt.state == "running":
                    self._check_orphan(attempt, self._folder(attempt.run_id))
                    self.record_remains(attempt)
                else:  # it may have died between telling the trial and this
                    self._remove_files(attempt, last=attempt == attempts[-1])
        if self._location:
            self._location.tidy(living, _unfinished(self._ledger.attempts()))
        if forgotten := self._ledger.forgotten_runs():
            active = {run.run_id for run in self._tracker.runs()}
            self._tracker.forget(sorted(forgotten & active))
        self._tracker.models.tidy(living)
        for run_id in self._tracker.unfinished():
            if run_id in known:
                continue
            folder = self._folder(run_id)
            if folder.result():
                raise EcsweepError(
                    f"run {run_id} has a result, and the ledger does not know it: was it brought "
                    f"back from an older copy? Enter it with: {hints.command('doctor', '--fix')}"
                )
            self._tracker.finish(run_id, Result("interrupted", now()), folder)

    def _end(self, attempt: Attempt, result: Result) -> None:
        """Tell the trial, then delete what is no longer needed of the attempt's files."""
        self._ledger.finish(attempt.number, result, attempt.reached)
        ended = replace(attempt, state=result.outcome, failure=result.failure)
        self._remove_files(ended, last=True)
        if self._location:
            self._location.remove_attempt(ended.run_id)
        if self._location and not ended.goes_on:
            self._location.remove_checkpoint(ended.cell)

    def _remove_files(self, attempt: Attempt, last: bool) -> None:
        """Delete an attempt's folder, and the cell's checkpoint where nothing goes on from it."""
        self._folder(attempt.run_id).remove()
        if last and not attempt.goes_on:
            checkpoints.remove(self._home.checkpoint(self._study, attempt.cell))

    def _check_orphan(self, attempt: Attempt, folder: AttemptFolder) -> None:
        """Wait for a worker that outlives its driver; give up with an error."""
        with folder.lock(_ORPHAN_WAIT) as free:
            if not free:
                raise EcsweepError(
                    f"cell {attempt.cell} is still being trained by a worker whose driver is gone "
                    f"({folder.path} is locked). End that process, then run the command again."
                )

    def _folder(self, run_id: str) -> AttemptFolder:
        return AttemptFolder(self._home.attempt(run_id))


def _unfinished(attempts: Mapping[str, Sequence[Attempt]]) -> set[str]:
    """Return the cells that a checkpoint is kept for."""
    return {cell for cell, own in attempts.items() if own and own[-1].goes_on}


def remove_logs(home: Home, study: str) -> None:
    """Delete the logs of workers that are gone with their driver; the study's lock is held."""
    for log in home.work.glob(f"{study}-worker-*.log"):
        log.unlink(missing_ok=True)
