"""The driver on real databases: states, retries, and a crash at every step of recording.

The executor here is scripted, so that each ending can be had at will; real
workers are in ``test_main_job.py``.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from ec_sweep import doctor, output, report, sampling, spec
from ec_sweep.attempts import AttemptFolder, Event, Limits, Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError, StudyStoppedError
from ec_sweep.executors import Message, preferred
from ec_sweep.experiments import open_tracker
from ec_sweep.ledger import Ledger, state_of
from ec_sweep.ledger_store import open_ledger
from ec_sweep.locks import study_lock
from ec_sweep.models import Kind
from ec_sweep.paths import Home
from ec_sweep.plan import Plan, cells_to_run
from ec_sweep.planning import CellStatus, Place, Resolved, StudyStatus
from ec_sweep.recording import Recorder
from ec_sweep.sampling import Known, Proposer
from ec_sweep.study import Driver
from ec_sweep.tracking import Tracker

NAME = "scripted@demo"
DONE = Result("complete", 2000, {"test_accuracy": 0.75}, value=0.7)
LOST = Result("interrupted", 2000, failure="lost", message="killed")
OOM = Result("not_available", 2000, failure="oom", message="too large")
DIVERGED = Result("not_available", 2000, failure="diverged", message="loss nan")
TRACE = 'Traceback\n  File "x.py", line 1, in f\nValueError: bad'
ERROR = Result("failed", 2000, failure="error", message="ValueError: bad", traceback=TRACE)


class Crash(BaseException):
    """Stands for SIGKILL: nothing in the product may catch it."""


class ScriptedExecutor:
    """Ends each attempt as the script of its cell says; a complete one is in its folder first."""

    def __init__(self, slots: int, script: Callable[[Task], Result]) -> None:
        self.slots, self._script = slots, script
        self._tasks: list[Task] = []
        self.most = 0

    @property
    def company(self) -> int:
        return self.slots

    def start(self) -> None: ...
    def settle(self) -> None: ...
    def release(self) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...

    def prefer(self, kinds: Any) -> int:  # noqa: ARG002
        return 0

    def submit(self, task: Task) -> None:
        self._tasks.append(task)
        self.most = max(self.most, len(self._tasks))

    def poll(self, timeout: float) -> list[Message]:  # noqa: ARG002
        if not self._tasks:
            return []
        task = self._tasks.pop(0)
        folder = AttemptFolder(task.folder)
        event = Event(1000, 1, {"val_accuracy": 0.7, "train_loss": 0.5}, {"backend": "none"})
        folder.append(event)
        result = self._script(task)
        if result.outcome != "interrupted":
            folder.write_result(result)
        return [Message(task.run_id, event), Message(task.run_id, result)]


class Quiet:
    def started(self, cell: Any) -> None: ...
    def placed(self, cell: Any, node: str) -> None: ...
    def epoch(self, cell: Any, epoch: int, metrics: Any) -> None: ...
    def ended(self, cell: Any, result: Any) -> None: ...
    def note(self, text: str) -> None: ...


class Setup:
    """A home with a four-cell study and real databases, SQLite's unless others are named."""

    def __init__(self, root: Path, dataset: Dataset, storage: str | None = None) -> None:
        self.home = Home(root)
        self.storage = storage
        self.home.prepare()
        sweep = spec.Sweep.model_validate(
            {
                "study": "scripted",
                "dataset": "enzyme",
                "fixed": {"model": "cnn"},
                "grid": {"filter_size": [2, 3, 4, 5]},
            }
        )
        cells = spec.cells(sweep, spec.Request())
        self.cells = [cell.on({("enzyme", "random"): dataset.fingerprint}) for cell in cells]
        self.plan = Plan(
            NAME, self.cells, {("enzyme", "random"): dataset}, {"filter_size": [2, 3, 4, 5]}
        )

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.home, self.storage, NAME)

    @property
    def tracker(self) -> Tracker:
        return open_tracker(self.home, NAME)

    @property
    def proposer(self) -> Proposer:
        """A grid's: it has nothing to propose."""
        return Proposer([Known(cell) for cell in self.cells], None, None, (), {}, "")

    def drive(
        self,
        script: Callable[[Task], Result] = lambda _: DONE,
        slots: int = 1,
        retry_failed: bool = False,
        held: Callable[[], bool] = lambda: True,
        limits: Limits | None = None,
    ) -> ScriptedExecutor:
        """Repair and run like the ``study`` command does; every part is opened anew."""
        ledger, tracker = self.ledger, self.tracker
        executor = ScriptedExecutor(slots, script)
        driver = Driver(
            self.home,
            self.plan,
            ledger,
            tracker,
            executor,
            Quiet(),
            self.proposer,
            limits or Limits(),
            held,
        )
        parent = tracker.open_parent("")
        Recorder(self.home, NAME, ledger, tracker).repair()
        todo = cells_to_run(self.cells, ledger.attempts(), retry_failed)
        driver.run(todo, parent, lambda: 0)
        return executor

    def states(self) -> list[str]:
        attempts = self.ledger.attempts()
        return [state_of(attempts.get(str(cell.id), [])) for cell in self.cells]

    def check_consistent(self) -> None:
        """Each finished cell has one COMPLETE trial and one FINISHED run; nothing runs."""
        statuses = {"complete": "FINISHED", "interrupted": "KILLED", "pruned": "FINISHED"}
        runs = {run.run_id: run for run in self.tracker.runs()}
        for cell, attempts in self.ledger.attempts().items():
            for attempt in attempts:
                run = runs.pop(attempt.run_id)
                assert run.cell == cell
                assert run.status == statuses.get(attempt.state, "FAILED")
                assert run.tags["ecsweep.attempt"] == str(attempt.attempt)
            assert [attempt.attempt for attempt in attempts] == list(range(1, len(attempts) + 1))
            assert sum(attempt.state == "complete" for attempt in attempts) <= 1
        assert all(run.status == "KILLED" for run in runs.values())  # a run without its trial
        assert not [path for path in self.home.work.iterdir() if path.is_dir()]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A home whose databases exist already: creating them takes seconds."""
    root = tmp_path_factory.mktemp("template")
    home = Setup(root, dataset).home
    assert open_ledger(home, None, "other@demo")
    assert open_tracker(home, "other@demo")  # MLflow keeps the place of each study's artifacts
    return root


@pytest.fixture
def setup(tmp_path: Path, dataset: Dataset, template: Path) -> Setup:
    shutil.copytree(template, tmp_path / "home")
    return Setup(tmp_path / "home", dataset)


def by_size(endings: dict[int, list[Result]]) -> Callable[[Task], Result]:
    """Script the endings of cells by filter size, one an attempt; DONE where none is left."""

    def script(task: Task) -> Result:
        left = endings.get(task.hyperparameters.filter_size, [])
        return left.pop(0) if left else DONE

    return script


def test_a_finished_cell_is_never_trained_again(setup: Setup) -> None:
    """A second run of a finished study hands nothing out."""
    setup.drive()
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()

    def never(task: Task) -> Result:
        raise AssertionError(f"{task.run_id} trained again")

    setup.drive(never)


def test_a_worker_does_not_wait_for_the_recording_of_its_last_cell(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next cell is handed out first; all is recorded all the same."""
    steps = []
    for owner, name in ((ScriptedExecutor, "submit"), (Recorder, "record")):
        original = getattr(owner, name)

        def noted(*args: Any, original: Any = original, name: str = name) -> Any:
            steps.append(name)
            return original(*args)

        monkeypatch.setattr(owner, name, noted)
    setup.drive()
    assert steps == ["submit", *["submit", "record"] * 3, "record"]
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


A, B, C = ("a",), ("b",), ("c",)


@pytest.mark.parametrize(
    ("kinds", "idle", "busy", "taken"),
    [
        ([A, B, A], [B], [A], 1),  # it has compiled this network
        ([A, A, B, A], [None], [A], 2),  # another worker has compiled A, and will go on with it
        ([A, B], [C], [], 0),
        ([A, A], [None], [A], 0),  # better compiled twice than nothing to do
        ([A, None], [], [A], 1),  # nothing to compile
    ],
)
def test_cells_go_where_their_network_is_compiled(
    kinds: list[Kind], idle: list[Kind], busy: list[Kind], taken: int
) -> None:
    """A worker goes on with what it has at hand; else it takes what no other has."""
    assert preferred(kinds, idle, busy) == taken


def test_every_contract_tag_param_and_attribute_is_there(setup: Setup) -> None:
    """What other tools rely on in MLflow and Optuna."""
    setup.drive(slots=2)
    for run in setup.tracker.runs():
        assert {
            "ecsweep.cell", "ecsweep.study", "ecsweep.scale", "ecsweep.seed",
            "ecsweep.attempt", "ecsweep.dataset", "ecsweep.concurrency",
        } <= run.tags.keys()  # fmt: skip
        assert run.tags["ecsweep.concurrency"] == "2"
        assert run.tags["ecsweep.study"] == "scripted"
        assert run.params["learning_rate"] == "0.001"
        assert run.metrics == {"val_accuracy": 0.7, "train_loss": 0.5, "test_accuracy": 0.75}
    ledger = setup.ledger
    trials = ledger._storage.get_all_trials(ledger._study_id)
    assert [trial.params for trial in trials] == [{"filter_size": n} for n in (2, 3, 4, 5)]
    assert all({"cell", "attempt", "run_id"} <= trial.user_attrs.keys() for trial in trials)
    assert [trial.value for trial in trials] == [0.7] * 4


def test_failed_and_not_available_cells_are_left_until_asked_for(setup: Setup) -> None:
    """A failed cell never stops the others; --retry-failed runs it again."""
    setup.drive(by_size({2: [ERROR], 4: [DIVERGED]}))
    assert setup.states() == ["failed", "complete", "not_available", "complete"]
    setup.check_consistent()
    setup.drive(by_size({}))
    assert setup.states() == ["failed", "complete", "not_available", "complete"]
    setup.drive(by_size({}), retry_failed=True)
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_lost_worker_is_replaced_and_its_cell_tried_three_times(setup: Setup) -> None:
    """Twice lost and then done is complete; three times lost is not available."""
    setup.drive(by_size({2: [LOST, LOST], 3: [LOST, LOST, LOST]}))
    assert setup.states() == ["complete", "not_available", "complete", "complete"]
    attempts = setup.ledger.attempts()
    assert [a.state for a in attempts[str(setup.cells[0].id)]] == ["interrupted"] * 2 + ["complete"]
    assert attempts[str(setup.cells[1].id)][-1].failure == "lost"
    setup.check_consistent()


def test_a_cell_lost_too_often_goes_on_from_its_checkpoint(setup: Setup) -> None:
    """That says nothing of the cell: tried again, it loses nothing, and counts losses anew."""
    endings, found = [LOST] * 5 + [DONE], list[bool]()

    def script(task: Task) -> Result:
        if task.hyperparameters.filter_size != 2:
            return DONE
        assert task.checkpoint
        found.append(task.checkpoint.exists())
        task.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        task.checkpoint.write_bytes(b"kept")
        return endings.pop(0)

    setup.drive(script)
    assert setup.states() == ["not_available", "complete", "complete", "complete"]
    assert "checkpoint" not in [found.kind for found in doctor.examine(Place(setup.home)).findings]
    setup.drive(script, retry_failed=True)
    assert setup.states() == ["complete"] * 4
    assert found == [False, True, True, True, True, True]
    assert not list(setup.home.checkpoints(NAME).glob("*"))
    setup.check_consistent()


def test_out_of_memory_while_packed_is_tried_once_more_alone(setup: Setup) -> None:
    """Alone it may fit; if not, the cell is not available."""
    setup.drive(by_size({2: [OOM], 3: [OOM, OOM]}), slots=2)
    assert setup.states() == ["complete", "not_available", "complete", "complete"]
    alone = [run for run in setup.tracker.runs() if run.tags["ecsweep.attempt"] == "2"]
    assert [run.tags["ecsweep.concurrency"] for run in alone] == ["1", "1"]
    setup.check_consistent()


def test_why_cells_failed_is_told_once_a_reason(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line of each reason with its cells; what is complete or waiting has none."""
    long = replace(OOM, message="too large\nfor this machine")
    setup.drive(by_size({2: [ERROR], 3: [long], 4: [ERROR]}))
    history = setup.ledger.attempts()
    cells = [CellStatus(cell, history[str(cell.id)]) for cell in setup.cells]
    found = StudyStatus(cast("Resolved", None), cells)
    output.print_reasons(found, setup.tracker.runs())
    first, second, third, _ = (str(cell.id) for cell in setup.cells)
    said = capsys.readouterr()
    expected = [f"{first}, {third}: ValueError: bad", f"{second}: too large"]
    assert (said.out + said.err).splitlines() == expected


def test_the_same_error_in_three_cells_stops_the_study(setup: Setup) -> None:
    """A programming error shows its traceback instead of failing every cell."""
    with pytest.raises(StudyStoppedError, match="ValueError: bad"):
        setup.drive(lambda _: ERROR)
    assert setup.states() == ["failed", "failed", "failed", "waiting"]
    other = replace(ERROR, traceback=TRACE.replace("x.py", "y.py"))
    endings = {2: [ERROR], 3: [ERROR], 4: [other], 5: [other]}
    setup.drive(by_size(endings), retry_failed=True)  # two and two: two different errors


def test_results_that_cannot_be_written_stop_the_study(setup: Setup) -> None:
    """A full disk is said in one line; the cell is interrupted, to go on from."""
    full = Result("interrupted", 2000, message="cannot write results: No space left on device")
    with pytest.raises(EcsweepError, match="No space left"):
        setup.drive(lambda _: full)
    assert setup.states() == ["interrupted", "waiting", "waiting", "waiting"]
    setup.drive()
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_changed_dataset_is_never_mixed_with_the_old_one(setup: Setup, dataset: Dataset) -> None:
    """Other content, other cells: the old ones stay recorded and stand in no new table."""
    setup.drive()
    changed = replace(dataset, card={**dataset.card, "fingerprint": "f" * 64})
    second = Setup(setup.home.root, changed)
    second.drive(lambda task: ERROR if task.hyperparameters.filter_size == 2 else DONE)
    assert second.states() == ["failed", "complete", "complete", "complete"]
    assert setup.states() == ["complete"] * 4
    tracker = second.tracker
    asked = [sampling.document(cell, {("enzyme", "random"): changed}) for cell in second.cells]
    plan = {
        "study": "scripted", "scale": "demo", "title": "", "table": None, "timing": "shared",
        "axes": ["filter_size"], "source": "", "request": {"seeds": None, "set": {}},
        "cells": asked,
    }  # fmt: skip
    tracker.store_plan(tracker.open_parent(""), plan)
    rows = report.build(tracker, NAME).rows
    used = {run for row in rows for run in row.runs.values()}
    own = {a.run_id for cell in asked for a in second.ledger.attempts()[cell["cell"]]}
    assert [row.n for row in rows] == [0, 1, 1, 1]
    assert used < own


def test_forgotten_cells_leave_no_checkpoint(setup: Setup) -> None:
    """What is trained anew begins at the beginning; a failed cell's checkpoint goes as well."""
    setup.drive(by_size({2: [ERROR], 3: [replace(LOST, failure=None, message="")]}))
    kept = [setup.home.checkpoint(NAME, str(cell.id)) for cell in setup.cells[:2]]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"kept")
    Recorder(setup.home, NAME, setup.ledger, setup.tracker).repair()
    assert [path.exists() for path in kept] == [False, True]
    setup.ledger.forget({str(setup.cells[1].id)})
    Recorder(setup.home, NAME, setup.ledger, setup.tracker).repair()
    assert not kept[1].exists()


def test_a_cell_that_was_not_interrupted_begins_at_the_beginning(setup: Setup) -> None:
    """A checkpoint that a failure recorded elsewhere, or a crash, has left is not gone on from."""
    setup.drive(by_size({2: [ERROR], 3: [replace(LOST, failure=None, message="")]}))
    kept = [setup.home.checkpoint(NAME, str(cell.id)) for cell in setup.cells[:2]]
    found: dict[int, bool] = {}

    def script(task: Task) -> Result:
        assert task.checkpoint
        found[task.hyperparameters.filter_size] = task.checkpoint.exists()
        return DONE

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "repair", lambda *_: None)
        for path in kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"kept")
        setup.drive(script, retry_failed=True)
    assert found == {2: False, 3: True}


def test_a_result_that_the_ledger_does_not_know_is_not_thrown_away(setup: Setup) -> None:
    """A ledger brought back from an older copy: the study stops, and says what to do."""
    with crash_at("tracker", "finish", "before", call=1):
        setup.drive()
    with closing(sqlite3.connect(setup.home.studies_db)) as ledger, ledger:
        ledger.execute("DELETE FROM trials")
        ledger.execute("DELETE FROM trial_user_attributes")
    with pytest.raises(EcsweepError, match="ecsweep doctor --fix"):
        setup.drive()


STEPS = [
    ("tracker", "start"),
    ("ledger", "start"),
    ("folder", "create"),
    ("executor", "submit"),
    ("tracker", "log"),
    ("tracker", "finish"),
    ("ledger", "finish"),
    ("folder", "remove"),
]
OWNERS = {
    "tracker": Tracker,
    "ledger": Ledger,
    "folder": AttemptFolder,
    "executor": ScriptedExecutor,
}


@contextmanager
def crash_at(owner: str, step: str, when: str, call: int) -> Iterator[None]:
    """Crash before or after the given call of a step."""
    original = getattr(OWNERS[owner], step)
    count = 0

    def crashing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == call and when == "before":
            raise Crash
        result = original(*args, **kwargs)
        if count == call and when == "after":
            raise Crash
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OWNERS[owner], step, crashing)
        with pytest.raises(Crash):
            yield


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_driver_that_dies_at_any_step_is_repaired(
    setup: Setup, owner: str, step: str, when: str
) -> None:
    """Whatever was written when it died: the next run completes each cell exactly once."""
    trained: list[str] = []

    def script(task: Task) -> Result:
        trained.append(task.run_id)
        return DONE

    with crash_at(owner, step, when, call=2):
        setup.drive(script)
    results = [
        folder.name for folder in setup.home.work.iterdir() if (folder / "result.json").exists()
    ]
    setup.drive(script)
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()
    runs = {run.run_id: run for run in setup.tracker.runs()}
    for run_id in results:  # a result once written is recorded, not trained again
        assert runs[run_id].status == "FINISHED"
    for cell in setup.cells:
        done = [runs[run] for run in trained if runs[run].cell == cell.id]
        assert sum(run.status == "FINISHED" for run in done) == 1
        assert done[0].metrics["test_accuracy"] == 0.75


@pytest.mark.parametrize("step", ["log_batch", "log_artifact", "log_text", "set_terminated"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_inside_the_recording_of_a_run_is_repaired(
    setup: Setup, step: str, when: str
) -> None:
    """Between metrics, artifacts and the end of the run, too."""
    from mlflow import MlflowClient

    def script(task: Task) -> Result:
        (task.folder / "predictions.npz").write_bytes(b"kept")
        return ERROR if task.hyperparameters.filter_size == 4 else DONE

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OWNERS, "client", MlflowClient)
        with crash_at("client", step, when, call=1 if step == "log_text" else 3):
            setup.drive(script)
    setup.drive(script)
    assert setup.states() == ["complete", "complete", "failed", "complete"]
    setup.check_consistent()
    artifacts = setup.home.artifacts
    assert len(list(artifacts.rglob("predictions.npz"))) == 3
    assert len(list(artifacts.rglob("traceback.txt"))) == 1


@pytest.mark.parametrize(("owner", "step"), [("tracker", "finish"), ("ledger", "finish")])
@pytest.mark.parametrize("when", ["before", "after"])
def test_out_of_memory_is_tried_alone_after_a_crash_too(
    setup: Setup, owner: str, step: str, when: str
) -> None:
    """A driver that dies while recording it forgets nothing."""
    script = by_size({2: [OOM]})
    with crash_at(owner, step, when, call=1):
        setup.drive(script, slots=2)
    setup.drive(script, slots=2)
    assert setup.states() == ["complete"] * 4
    alone = [run for run in setup.tracker.runs() if run.tags["ecsweep.concurrency"] == "1"]
    assert [run.cell for run in alone] == [setup.cells[0].id]
    setup.check_consistent()


def test_lost_workers_count_across_interruptions(setup: Setup) -> None:
    """A Ctrl-C between two losses does not start the count anew."""
    for ending in (LOST, LOST):
        endings = by_size({2: [ending]})
        with crash_at("executor", "submit", "before", call=2):
            setup.drive(endings)
    setup.drive(by_size({2: [LOST]}))
    assert setup.states()[0] == "not_available"
    setup.check_consistent()


def test_what_a_killed_worker_had_finished_is_recorded(setup: Setup) -> None:
    """A second Ctrl-C kills at once, but a result on disk counts, with its events."""
    executor = ScriptedExecutor(1, lambda _: DONE)
    ledger, tracker = setup.ledger, setup.tracker
    driver = Driver(setup.home, setup.plan, ledger, tracker, executor, Quiet(), setup.proposer)
    calls = iter([0, 2, 2])
    executor.poll = lambda _: (ScriptedExecutor.poll(executor, 0), [])[1]  # type: ignore[method-assign]
    driver.run(setup.cells, tracker.open_parent(""), lambda: next(calls))
    assert setup.states() == ["complete", "waiting", "waiting", "waiting"]
    (run,) = setup.tracker.runs()
    assert run.metrics["train_loss"] == 0.5
    setup.check_consistent()


def test_a_cell_whose_worker_still_lives_is_not_issued_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A locked attempt folder means an orphan is still at work."""
    monkeypatch.setattr("ec_sweep.recording._ORPHAN_WAIT", 0.1)
    with crash_at("executor", "submit", "before", call=1):
        setup.drive()
    (folder,) = (AttemptFolder(path) for path in setup.home.work.iterdir() if path.is_dir())
    with folder.lock(), pytest.raises(EcsweepError, match="still being trained"):
        setup.drive()
    setup.drive()
    assert setup.states() == ["complete"] * 4


def test_a_torn_last_event_is_ignored(setup: Setup) -> None:
    """What a crash tore off is not an event."""
    with crash_at("tracker", "finish", "before", call=1):
        setup.drive()
    (path,) = (found.parent for found in setup.home.work.glob("*/events.jsonl"))
    with (path / "events.jsonl").open("a") as file:
        file.write('{"timestamp": 12')
    assert len(AttemptFolder(path).events()) == 1
    setup.drive()
    setup.check_consistent()


def test_the_second_driver_is_told_who_runs_the_study(setup: Setup) -> None:
    """One driver per study; other studies are not held up."""
    who = rf"run by process {os.getpid()} on .+ since \d{{4}}-"
    with study_lock(setup.home, NAME, None):
        with pytest.raises(EcsweepError, match=who), study_lock(setup.home, NAME, None):
            pass
        with study_lock(setup.home, "other@demo", None):
            pass
    with study_lock(setup.home, NAME, None):
        pass


def test_a_crash_while_forgetting_is_repaired(setup: Setup) -> None:
    """What the ledger has forgotten, the reports forget with the next run."""
    setup.drive()
    setup.ledger.forget({str(setup.cells[0].id)})
    setup.drive()
    assert len(setup.tracker.runs()) == 4


def test_forgotten_cells_are_trained_anew(setup: Setup) -> None:
    """Forgetting takes a cell's attempts out of the ledger, and only its."""
    setup.drive()
    gone = setup.ledger.forget({str(setup.cells[0].id)})
    setup.tracker.forget([attempt.run_id for attempt in gone])
    assert setup.states() == ["waiting", "complete", "complete", "complete"]
    setup.drive()
    assert setup.states() == ["complete"] * 4
    assert len(setup.tracker.runs()) == 4


def test_a_clock_that_is_set_back_does_not_turn_attempts_around(setup: Setup) -> None:
    """The last attempt is that with the highest number, and no time is negative."""
    setup.drive(by_size({2: [LOST]}))
    cell = str(setup.cells[0].id)
    client = setup.tracker._client
    last = setup.ledger.attempts()[cell][-1]
    with closing(sqlite3.connect(setup.home.mlflow_db)) as connection:
        connection.execute("UPDATE runs SET start_time = 1 WHERE run_uuid = ?", (last.run_id,))
        connection.commit()
    with closing(sqlite3.connect(setup.home.studies_db)) as connection:
        connection.execute("UPDATE trials SET datetime_complete = '1999-01-01 00:00:00.000000'")
        connection.commit()
    assert client.get_run(last.run_id).info.start_time == 1
    assert [run for run in setup.tracker.runs() if run.cell == cell][-1].run_id == last.run_id
    attempts = setup.ledger.attempts()
    assert {own.seconds for all_ in attempts.values() for own in all_} == {None}
