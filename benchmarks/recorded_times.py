"""Where the time of a study's workers went, from what MLflow's tables hold of it.

Read from the raw tables, so that this measures the product without the product. All rests on
four facts: when a run was created, when its epochs and its result were reported, `fit_seconds`
and `epoch_seconds`.
"""

import contextlib
import itertools
import sqlite3
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PARTS = ("start", "compile", "steps", "evaluation", "recording", "idle")
"""Into what the time of a worker is split; see `split`."""


@dataclass
class Run:
    """A complete attempt at a cell. Times are seconds since 1970."""

    created: float
    concurrency: int = 1
    params: dict[str, str] = field(default_factory=dict)
    final: dict[str, float] = field(default_factory=dict)
    epochs: dict[int, tuple[float, float]] = field(default_factory=dict)
    """When an epoch was reported, and the seconds of its steps."""
    ended: float = 0.0

    @property
    def began(self) -> float:
        """When training began: building is before it."""
        return max(at for at, _ in self.epochs.values()) - self.final["fit_seconds"]

    @property
    def steps(self) -> float:
        """The seconds of its training steps, as if the first epoch had not compiled."""
        seconds = [found for _, found in self.epochs.values()]
        return sum(seconds) - self._excess(seconds)

    @property
    def compiling(self) -> float:
        """What first epoch and first validation took more than the others of the cell."""
        return self._excess([s for _, s in self.epochs.values()]) + self._excess(self._validation)

    @property
    def evaluation(self) -> float:
        """The seconds of validation and test, and of what is kept of them."""
        tested = self.ended - max(at for at, _ in self.epochs.values())
        return sum(self._validation) - self._excess(self._validation) + tested

    @property
    def _validation(self) -> list[float]:
        marks = [self.began, *(at for at, _ in self.epochs.values())]
        return [at - mark - s for mark, (at, s) in zip(marks, self.epochs.values(), strict=False)]

    @staticmethod
    def _excess(seconds: Sequence[float]) -> float:
        """Return how much longer the first took than the median of the others."""
        first, *others = seconds
        return max(0.0, first - statistics.median(others)) if others else 0.0


def read(database: Path) -> list[Run]:
    """Return the complete attempts in an MLflow database."""
    query = (
        "SELECT r.run_uuid, r.start_time, t.value FROM runs r JOIN tags t USING (run_uuid) "
        "WHERE r.status = 'FINISHED' AND t.key = 'ecsweep.concurrency'"
    )
    with contextlib.closing(sqlite3.connect(database)) as tables:
        runs = {
            run: Run(created / 1000, int(concurrency))
            for run, created, concurrency in tables.execute(query)
        }
        for run, key, value in tables.execute("SELECT run_uuid, key, value FROM params"):
            if run in runs:
                runs[run].params[key] = value
        query = "SELECT run_uuid, key, value, timestamp, step FROM metrics ORDER BY step"
        for run, key, value, at, epoch in tables.execute(query):
            if run in runs and epoch == 0:
                runs[run].final[key] = value
                runs[run].ended = at / 1000
            elif run in runs and key == "epoch_seconds":
                runs[run].epochs[epoch] = (at / 1000, value)
    return list(runs.values())


def split(runs: Sequence[Run], began: float, ended: float) -> dict[str, float]:
    """Return the seconds of wall time of each part; together they are the time of the process.

    The time of all workers is split and divided by their number. start: until the first network
    is built. compile: networks built and set up between trials, and first epochs and validations
    beyond the other ones. recording: from a worker's result to the creation of its next run, and
    from the last result to the end of the process. idle: a worker without a cell at the end.
    """
    lanes = _lanes(runs)
    found = dict.fromkeys(PARTS, 0.0)
    last = max(run.ended for run in runs)
    setups = []
    for lane in lanes:
        for earlier, later in itertools.pairwise(lane):
            waited = max(0.0, later.created - earlier.ended)
            found["recording"] += waited
            setups.append(later.began - earlier.ended - waited)
        found["idle"] += last - lane[-1].ended
    setup = statistics.median(setups) if setups else 0.0
    found["start"] = sum(lane[0].began - began - setup for lane in lanes)
    found["compile"] = sum(setups) + setup * len(lanes) + sum(run.compiling for run in runs)
    found["steps"] = sum(run.steps for run in runs)
    found["evaluation"] = sum(run.evaluation for run in runs)
    found["recording"] += (ended - last) * len(lanes)
    return {part: seconds / len(lanes) for part, seconds in found.items()}


def _lanes(runs: Sequence[Run]) -> list[list[Run]]:
    """Put runs into as few rows as they need, one behind the other: each is a worker."""
    lanes: list[list[Run]] = []
    for run in sorted(runs, key=lambda run: run.began):
        free = [lane for lane in lanes if lane[-1].ended <= run.began]
        if free:
            max(free, key=lambda lane: lane[-1].ended).append(run)
        else:
            lanes.append([run])
    return lanes
