"""The ledger, driven at random over real databases beside a model of plain dictionaries."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ec_sweep.attempts import AttemptFolder, Event, Result
from ec_sweep.datasets import Dataset
from ec_sweep.experiments import find_writable, open_tracker
from ec_sweep.ledger import Attempt, state_of
from ec_sweep.ledger_store import find_ledger, open_ledger
from ec_sweep.recording import Recorder
from tests.test_study import DIVERGED, DONE, ERROR, LOST, OOM, Setup

ENDINGS = [DONE, LOST, OOM, DIVERGED, ERROR, Result("interrupted", 2000), Result("pruned", 2000)]
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED"}
STEPS = ("nothing", "result.json", "tracker", "tracker, folder gone", "ledger")
"""What a driver may last have written of an attempt's end before it died."""


@dataclass
class Known:
    """An attempt as the model knows it."""

    run_id: str
    state: str
    failure: str | None = None


def test_the_ledger_is_what_was_told_to_it(tmp_path: Path) -> None:
    """Attempts begin, end, crash between any two writes, are forgotten and read anew."""
    names = itertools.count()

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            setup = Setup(tmp_path, cast(Dataset, SimpleNamespace(fingerprint="f" * 64)))
            self.home, self.cells = setup.home, setup.cells[:2]
            self.name = f"study{next(names)}@demo"
            self.ledger = open_ledger(self.home, None, self.name)
            self.tracker = open_tracker(self.home, self.name)
            self.parent = self.tracker.open_parent("")
            self.model: dict[str, list[Known]] = {str(cell.id): [] for cell in self.cells}
            self.bin: set[str] = set()
            self.attempts: dict[str, Attempt] = {}

        def recorder(self) -> Recorder:
            return Recorder(self.home, self.name, self.ledger, self.tracker)

        def begin(self, cell: Any, concurrency: int) -> Attempt:
            known = self.model[cell.id]
            number = len(known) + 1
            run_id = self.tracker.start(cell, number, self.parent, "label", concurrency)
            attempt = self.ledger.start(cell, number, run_id, concurrency, {"filter_size": [2, 3]})
            AttemptFolder(self.home.attempt(run_id)).create()
            known.append(Known(run_id, "running"))
            self.attempts[run_id] = attempt
            return attempt

        @rule(at=st.integers(0, 1), ending=st.sampled_from(ENDINGS), concurrency=st.integers(1, 2))
        def attempt(self, at: int, ending: Result, concurrency: int) -> None:
            """An attempt from start to end, as the driver records it."""
            attempt = self.begin(self.cells[at], concurrency)
            self.recorder().record(attempt, ending)
            self.end(attempt.cell, ending, concurrency)

        @rule(at=st.integers(0, 1), ending=st.sampled_from(ENDINGS), step=st.sampled_from(STEPS))
        def crash(self, at: int, ending: Result, step: str) -> None:
            """An attempt whose driver dies while recording its end; the next one repairs."""
            attempt = self.begin(self.cells[at], 1)
            folder = AttemptFolder(self.home.attempt(attempt.run_id))
            written = ending.outcome != "interrupted"  # such an end leaves no result
            if step != "nothing" and written:
                folder.write_result(ending)
            self.tracker.log(attempt.run_id, [Event(1000, 1, {"val_accuracy": 0.7})])
            if step.startswith("tracker") or step == "ledger":
                self.tracker.finish(attempt.run_id, ending, folder)
            if step == "tracker, folder gone" and ending.outcome == "complete":
                folder.remove()  # MLflow alone knows: of a complete attempt that suffices
            if step == "ledger":
                self.ledger.finish(attempt.number, ending)
            self.reopen()
            kept = step == "ledger" or (step != "nothing" and written)
            self.end(attempt.cell, ending if kept else Result("interrupted", 2000), 1)
            assert not folder.path.exists()

        @rule(at=st.integers(0, 1))
        def crash_between_run_and_trial(self, at: int) -> None:
            """A run without its trial is no attempt: the next driver closes it."""
            run_id = self.tracker.start(self.cells[at], 9, self.parent, "label", 1)
            self.reopen()
            statuses = {run.run_id: run.status for run in self.tracker.runs()}
            assert statuses[run_id] == "KILLED"

        @rule(at=st.sets(st.integers(0, 1)), crash=st.booleans())
        def forget(self, at: set[int], crash: bool) -> None:
            """Attempts at some cells are forgotten; the runs too, at the latest by repair."""
            cells = {str(self.cells[place].id) for place in at}
            gone = self.ledger.forget(cells)
            assert {a.run_id for a in gone} == {k.run_id for c in cells for k in self.model[c]}
            self.bin |= {attempt.run_id for attempt in gone}
            for cell in cells:
                self.model[cell] = []
            if crash:
                self.reopen()
            else:
                self.tracker.forget([attempt.run_id for attempt in gone])

        @rule(at=st.integers(0, 1), ending=st.sampled_from(ENDINGS))
        def tell_again(self, at: int, ending: Result) -> None:
            """What has ended stays as it ended."""
            for known in self.model[str(self.cells[at].id)]:
                self.ledger.finish(self.attempts[known.run_id].number, ending)

        @rule()
        def reopen(self) -> None:
            """The next driver: everything from disk, and repaired."""
            ledger = find_ledger(self.home, None, self.name)
            tracker = find_writable(self.home, self.name)
            assert ledger
            assert tracker
            self.ledger, self.tracker = ledger, tracker
            self.recorder().repair()

        def end(self, cell: str, ending: Result, concurrency: int) -> None:
            if ending.failure == "oom" and concurrency > 1:
                ending = replace(ending, outcome="interrupted")
            known = self.model[cell][-1]
            self.model[cell][-1] = Known(known.run_id, ending.outcome, ending.failure)

        @invariant()
        def agree(self) -> None:
            found = self.ledger.attempts()
            for cell, known in self.model.items():
                own = found.get(cell, [])
                assert [Known(a.run_id, a.state, a.failure) for a in own] == known
                assert [a.attempt for a in own] == list(range(1, len(own) + 1))
                assert state_of(own) == (known[-1].state if known else "waiting")
            assert self.ledger.forgotten_runs() == self.bin
            runs = {run.run_id: run.status for run in self.tracker.runs()}
            assert not self.bin & runs.keys()
            for known in itertools.chain(*self.model.values()):
                assert runs[known.run_id] == STATUS.get(known.state, "FAILED")

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=12,
            phases=[Phase.generate],  # shrinking on real databases takes minutes
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
