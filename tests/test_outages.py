"""Databases that are away while a study runs: all waits, nothing is lost or written twice."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.utils.rest_utils import verify_rest_response
from optuna.storages import RDBStorage

from ec_sweep import experiments, outages, study
from ec_sweep.attempts import Event, Result, Task
from ec_sweep.errors import EcsweepError
from ec_sweep.executors import Message
from ec_sweep.locks import study_lock
from ec_sweep.outages import Outage, Reaching, UnavailableError
from ec_sweep.paths import Home
from ec_sweep.study import Driver
from tests.test_study import (
    DONE,
    NAME,
    Quiet,
    ScriptedExecutor,
    Setup,
    setup,
    template,
)

__all__ = ["setup", "template"]  # fixtures


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_SHORTEST_WAIT", 0.01)
    monkeypatch.setattr(outages, "_LONGEST_WAIT", 0.02)


@contextmanager
def away(owner: type, step: str, calls: set[int], when: str) -> Iterator[None]:
    """Make some calls of a step fail as a server that is away does, before or after it worked."""
    original, count = getattr(owner, step), 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count in calls and when == "before":
            raise requests.exceptions.ConnectionError("connection refused")
        found = original(*args, **kwargs)
        if count in calls:
            raise requests.exceptions.ConnectionError("cut off before the answer")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, step, failing)
        yield
    assert count >= min(calls)


STEPS = [
    (MlflowClient, "create_run"),
    (MlflowClient, "log_batch"),
    (MlflowClient, "log_artifact"),
    (MlflowClient, "set_terminated"),
    (RDBStorage, "create_new_trial"),
    (RDBStorage, "set_trial_state_values"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_nothing_is_lost_or_written_twice_by_an_outage(
    setup: Setup, owner: type, step: str, when: str
) -> None:
    """A write that failed is made later; one whose answer was lost is not made twice."""
    trained: list[str] = []

    def script(task: Task) -> Result:
        (task.folder / "predictions.npz").write_bytes(b"kept")
        trained.append(str(task.hyperparameters.filter_size))
        return DONE

    with away(owner, step, {2, 3}, when):
        setup.drive(script, slots=2)
    assert sorted(trained) == ["2", "3", "4", "5"]
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()
    for run in setup.tracker.runs():
        if run.status == "FINISHED":
            assert run.metrics == {"val_accuracy": 0.7, "train_loss": 0.5, "test_accuracy": 0.75}
            assert setup.tracker.history(run.run_id, "train_loss") == [0.5]


class Talking(ScriptedExecutor):
    """Trains on while nothing can be recorded: three epochs, each said at a poll of its own."""

    def __init__(self) -> None:
        super().__init__(1, lambda _: DONE)
        self._words: list[Message] = []
        self.polls = 0

    def prefer(self, kinds: Any) -> int:  # noqa: ARG002
        return 0

    def submit(self, task: Task) -> None:
        from ec_sweep.attempts import AttemptFolder

        folder, said = AttemptFolder(task.folder), []
        for epoch in (1, 2, 3):
            event = Event(1000 * epoch, epoch, {"val_accuracy": 0.1 * epoch})
            folder.append(event)
            said.append(event)
        folder.write_result(DONE)
        self._words = [Message(task.run_id, word) for word in [*said, DONE]]

    def poll(self, timeout: float) -> list[Message]:  # noqa: ARG002
        self.polls += 1
        return [self._words.pop(0)] if self._words else []


def test_trials_go_on_while_the_tracker_is_away(setup: Setup) -> None:
    """All that a trial says waits and arrives in order; the user is told once, and when it ends."""
    notes: list[str] = []

    class Display(Quiet):
        def note(self, text: str) -> None:
            notes.append(text)

    ledger, tracker, executor = setup.ledger, setup.tracker, Talking()
    driver = Driver(setup.home, setup.plan, ledger, tracker, executor, Display(), setup.proposer)
    with away(MlflowClient, "log_batch", set(range(2, 10)), "before"):
        driver.run(setup.cells[:1], tracker.open_parent(""), lambda: 0)
    (run,) = setup.tracker.runs()
    assert setup.tracker.history(run.run_id, "val_accuracy") == pytest.approx([0.1, 0.2, 0.3])
    assert run.status == "FINISHED"
    assert len(notes) == 2
    assert "MLflow cannot be reached (connection refused)" in notes[0]
    assert notes[1] == "Everything that waited is recorded."


def test_ctrl_c_in_an_outage_leaves_the_results_to_the_next_start(setup: Setup) -> None:
    """The trials end, the driver does not wait for the server, and nothing is trained again."""
    ledger, tracker, executor = setup.ledger, setup.tracker, Talking()
    driver = Driver(setup.home, setup.plan, ledger, tracker, executor, Quiet(), setup.proposer)
    parent = tracker.open_parent("")
    with away(MlflowClient, "log_batch", set(range(2, 1000)), "before"):  # 1: its parameters
        driver.run(setup.cells[:1], parent, lambda: int(executor.polls > 5))
    assert setup.states()[0] == "running"

    def never(task: Task) -> Result:
        raise AssertionError(f"{task.run_id} trained again")

    setup.cells, kept = setup.cells[:1], setup.cells
    setup.drive(never)
    setup.cells = kept
    assert setup.states()[0] == "complete"
    setup.check_consistent()


def test_a_locked_database_is_waited_for(setup: Setup) -> None:
    """Somebody else writes to MLflow's database for longer than SQLite waits: real locks."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "before_cursor_execute", retval=True)
    def hurry(_c: Any, _cu: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 50"), parameters

    blocker = sqlite3.connect(setup.home.mlflow_db, check_same_thread=False, isolation_level=None)
    released = threading.Event()

    def script(task: Task) -> Result:
        if task.hyperparameters.filter_size == 3:
            blocker.execute("BEGIN EXCLUSIVE")

            def release() -> None:
                time.sleep(1)
                blocker.execute("ROLLBACK")
                released.set()

            threading.Thread(target=release).start()
        return DONE

    try:
        with closing(blocker):
            setup.drive(script)
            assert released.is_set()
    finally:
        event.remove(Engine, "before_cursor_execute", hurry)
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_home_that_is_removed_ends_the_study(setup: Setup, tmp_path: Path) -> None:
    """SQLite would go on writing to files that nobody will ever see."""

    def script(task: Task) -> Result:
        if task.hyperparameters.filter_size == 3:
            setup.home.root.rename(tmp_path / "gone")
        return Result("interrupted", 2000, message="cannot write results: gone")

    with pytest.raises(EcsweepError, match=r"home folder .* was removed while the study ran"):
        setup.drive(lambda task: script(task) if task.hyperparameters.filter_size > 2 else DONE)
    assert not setup.home.root.exists()
    shutil.move(tmp_path / "gone", setup.home.root)
    setup.drive()
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_study_that_another_driver_has_taken_is_left_alone(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lost its lock writes nothing more."""
    monkeypatch.setattr(study, "_CHECK_LOCK", 0.0)
    asked = []

    def held() -> bool:
        asked.append(None)
        if len(asked) > 2:
            raise EcsweepError("taken by another driver")
        return True

    with pytest.raises(EcsweepError, match="taken by another driver"):
        setup.drive(held=held)
    assert setup.states() == ["complete", "running", "waiting", "waiting"]
    setup.drive()
    assert setup.states() == ["complete"] * 4


def test_while_the_lock_is_not_certain_nothing_is_written(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock's server that does not answer is an outage like any other."""
    monkeypatch.setattr(study, "_CHECK_LOCK", 0.0)
    answers = iter([True, False, False])
    setup.drive(held=lambda: next(answers, True))
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_real_lock_is_checked(setup: Setup) -> None:
    """The lock of a study that is run, as the command takes it, says that it is held."""
    with study_lock(setup.home, NAME, None) as held:
        setup.drive(held=held.check)
    assert setup.states() == ["complete"] * 4


def test_errors_that_waiting_does_not_mend_are_not_outages() -> None:
    """A damaged file is named in a line, a mistake in the program keeps its traceback."""

    class Client:
        def broken(self) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        def locked(self) -> None:
            raise sqlite3.OperationalError("database is locked")

        def mistaken(self) -> None:
            raise sqlite3.OperationalError("no such column: x")

        def full(self) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    client = Reaching(Client(), "MLflow")
    with pytest.raises(UnavailableError, match="MLflow cannot be reached"):
        client.locked()
    with pytest.raises(EcsweepError, match="ecsweep doctor") as broken:
        client.broken()
    assert not isinstance(broken.value, UnavailableError)
    for call in (client.mistaken, client.full):
        with pytest.raises(sqlite3.OperationalError):
            call()


@pytest.mark.parametrize(
    ("status", "away"),
    [(400, False), (404, False), (408, True), (429, True), (500, True), (502, True)],
)
def test_a_servers_own_errors_are_outages(status: int, away: bool) -> None:
    """A proxy that answers for a server that is being restarted says nothing of the request."""
    answer = requests.Response()
    answer.status_code, answer._content = status, b"<html>Bad Gateway</html>"

    class Client:
        def ask(self) -> None:
            verify_rest_response(answer, "/api/2.0/mlflow/runs/create")

        def upload(self) -> None:
            answer.raise_for_status()

        def cut(self) -> None:
            raise requests.exceptions.ChunkedEncodingError("Connection broken")

    remote = Reaching(Client(), "MLflow", remote=True)
    for call in (remote.ask, remote.upload):
        with pytest.raises(Exception, match=str(status)) as caught:
            call()
        assert isinstance(caught.value, UnavailableError) == away
    with pytest.raises(UnavailableError):
        remote.cut()


def test_a_lost_worker_counts_through_an_outage(setup: Setup) -> None:
    """What is read again after an outage holds no attempt that is still under way."""
    lost = Result("interrupted", 2000, failure="lost", message="killed")
    with away(MlflowClient, "set_terminated", {2}, "before"):
        setup.drive(lambda _: lost)
    assert setup.states() == ["not_available"] * 4
    for attempts in setup.ledger.attempts().values():
        assert [attempt.attempt for attempt in attempts] == [1, 2, 3]
    setup.check_consistent()


def test_waiting_grows_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure waits longer, up to a limit; success starts anew."""
    monkeypatch.setattr(outages, "_SHORTEST_WAIT", 60)
    outage = Outage()
    assert not outage.waits
    outage.begin("away")
    assert outage.waits
    assert outage.reason == "away"
    outage._retry_at = 0.0  # the time has passed
    assert not outage.waits
    outage.end()
    assert not outage.reason


def test_a_server_that_goes_as_a_study_opens_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first write, which makes the experiment, tells outages from bugs."""

    class Client:
        tracking_uri = "http://127.0.0.1:9"

        def get_experiment_by_name(self, _: str) -> None:
            return None

        def create_experiment(self, *_: object) -> str:
            raise requests.exceptions.ConnectionError("Connection reset by peer")

    monkeypatch.setattr(experiments, "connect", lambda _: Client())
    with pytest.raises(UnavailableError, match="MLflow cannot be reached"):
        experiments.open_tracker(Home(tmp_path), "new@demo")
