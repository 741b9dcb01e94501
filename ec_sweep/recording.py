"""Recording an attempt's end, and repairing what a driver that died left half recorded.

Every step can be repeated: what was done already changes nothing.
"""

from dataclasses import replace

from ec_sweep.attempts import AttemptFolder, Result, now
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Attempt, Ledger
from ec_sweep.paths import Home
from ec_sweep.tracking import Tracker

_ORPHAN_WAIT = 30.0
"""Seconds that a worker of a dead driver has to disappear."""


class Recorder:
    """Writes attempts' ends to tracker and ledger, in the order that makes crashes repairable."""

    def __init__(self, home: Home, ledger: Ledger, tracker: Tracker) -> None:
        self._home, self._ledger, self._tracker = home, ledger, tracker

    def record(self, attempt: Attempt, result: Result) -> Result:
        """Write an attempt's end: MLflow run, then Optuna trial, then the folder goes.

        Returns the result as it was recorded: out of memory beside other trials
        says nothing yet of the cell, which is to be tried alone.
        """
        if result.failure == "oom" and attempt.concurrency > 1:
            result = replace(result, outcome="interrupted")
        folder = self._folder(attempt.run_id)
        self._tracker.finish(attempt.run_id, result, folder)
        self._ledger.finish(attempt.number, result)
        folder.remove()
        return result

    def record_remains(self, attempt: Attempt) -> Result:
        """Record an attempt whose worker is gone, from what it left in its folder."""
        folder = self._folder(attempt.run_id)
        events, result = folder.events(), folder.result()
        if result is None:
            value = self._tracker.finished_value(attempt.run_id)
            if value is None:
                result = Result("interrupted", now())
            else:  # recorded in MLflow already; only the trial was not told
                result = Result("complete", now(), value=value)
                self._ledger.finish(attempt.number, result)
                return result
        if events:
            self._tracker.log(attempt.run_id, events)
        return self.record(attempt, result)

    def repair(self) -> None:
        """Bring ledger, tracker and work folders to one state after a driver that died."""
        known: set[str] = set()
        for attempts in self._ledger.attempts().values():
            for attempt in attempts:
                known.add(attempt.run_id)
                folder = self._folder(attempt.run_id)
                if attempt.state == "running":
                    self._check_orphan(attempt, folder)
                    self.record_remains(attempt)
                elif folder.path.exists():
                    folder.remove()  # it died between telling the trial and this
        forgotten = self._ledger.forgotten_runs()
        for run in self._tracker.runs():
            if run.run_id in forgotten:
                self._tracker.forget([run.run_id])
            elif run.status == "RUNNING" and run.run_id not in known:
                end = Result("interrupted", now())
                self._tracker.finish(run.run_id, end, self._folder(run.run_id))

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
