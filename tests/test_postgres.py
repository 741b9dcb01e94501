"""Ledger and MLflow on a real PostgreSQL server, and the study lock there."""

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import sqlalchemy

from ec_sweep import databases, server_lock
from ec_sweep.attempts import Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import find_tracker
from ec_sweep.ledger_store import find_ledger, known_studies, open_ledger
from ec_sweep.locks import StudyLock, holder_of, study_lock
from ec_sweep.mlflow_store import connect
from ec_sweep.paths import Home
from tests.conftest import Ecsweep, Postgres, kill, new_home, wait_for
from tests.test_locks import driver
from tests.test_study import DONE, ERROR, NAME, Setup, crash_at

SECRET = "Tr0ub4dor%40%2F3"  # in an address; means Tr0ub4dor@/3


@dataclass(frozen=True)
class Server:
    """Two fresh databases, for ledger and MLflow, with their tables."""

    postgres: Postgres
    storage: str
    tracking: str

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the ledger's database directly."""
        with databases.connection(self.storage) as connection:
            result = connection.execute(sqlalchemy.text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []


@pytest.fixture(scope="module")
def templates(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Databases whose tables exist already: creating them takes seconds."""
    storage, tracking = postgres.new(), postgres.new()
    home = Home(tmp_path_factory.mktemp("templates"))
    home.prepare()
    open_ledger(home, storage, "other@demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", tracking)
        connect(home)
    return storage, tracking


@pytest.fixture
def server(
    postgres: Postgres, templates: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Server:
    storage, tracking = (postgres.new(template) for template in templates)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    return Server(postgres, storage, tracking)


@pytest.fixture
def setup(tmp_path: Path, dataset: Dataset, server: Server) -> Setup:
    return Setup(tmp_path / "home", dataset, server.storage)


def commands(process: "psutil.Process") -> set[str]:
    """The command lines of a process' descendants."""
    found = set()
    for child in process.children(recursive=True):
        try:
            found.add(" ".join(child.cmdline()))
        except psutil.Error:
            continue
    return found


def test_a_study_is_cancelled_and_another_runs_on_postgresql(
    postgres: Postgres, ecsweep: Ecsweep, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Real workers, from empty databases; a password shows nowhere, in no process or file."""
    storage, tracking = (
        postgres.new().replace("postgres:@", f"postgres:{SECRET}@") for _ in range(2)
    )
    urls = {"ECSWEEP_STORAGE": storage, "MLFLOW_TRACKING_URI": tracking}
    few = ("--set", "filter_size=[2]", "--set", "epochs=5000", "--set", "early_stopping=none")
    planned = json.loads(ecsweep.ok("plan", "tiny", *few, "--json", **urls))
    assert len(planned["cells"]) == 2
    study = ecsweep.start("study", "tiny", *few, "--workers", "1", **urls)
    seen: set[str] = set()

    def under_way() -> bool:
        seen.update(commands(psutil.Process(study.pid)))
        found = ecsweep.run("status", "tiny", "--json", **urls)
        return '"running"' in found.stdout

    wait_for(under_way, process=study)
    elsewhere = new_home(tmp_path_factory.mktemp("elsewhere"))
    refused = elsewhere.fails("study", "tiny", **urls)
    assert f"run by process {study.pid} on {socket.gethostname()} since 2" in refused
    stopped = elsewhere.ok("cancel", "tiny", **urls)
    assert "tiny@demo has stopped: " in stopped
    assert "Go on with: ecsweep study tiny" in stopped
    said, _ = study.communicate(timeout=300)
    assert study.returncode == 130, said
    said += ecsweep.ok("study", "tiny", "--set", "filter_size=[2]", "--workers", "1", **urls)
    found = json.loads(ecsweep.ok("status", "tiny", "--json", **urls))["cells"]
    assert [cell["state"] for cell in found] == ["complete"] * 2
    said += ecsweep.ok("report", "tiny", **urls)
    said += ecsweep.ok("forget", "tiny", "--cell", found[0]["cell"], "--yes", **urls)
    found = json.loads(ecsweep.ok("status", "tiny", "--json", **urls))["cells"]
    assert sorted(cell["state"] for cell in found) == ["complete", "waiting"]
    artifacts = list((ecsweep.home / "mlruns" / "artifacts").rglob("predictions.npz"))
    assert len(artifacts) == 2
    assert not list((ecsweep.home / "mlruns").glob("*.db"))
    assert len(seen) >= 1
    assert "Tr0ub4dor" not in said + refused + stopped + "".join(seen)
    for path in ecsweep.home.rglob("*"):
        assert not (path.is_file() and b"Tr0ub4dor" in path.read_bytes()), path


@pytest.mark.parametrize(
    ("owner", "step", "when"),
    [
        ("tracker", "start", "after"),
        ("ledger", "start", "after"),
        ("tracker", "finish", "after"),
        ("ledger", "finish", "after"),
    ],
)
def test_a_driver_that_dies_is_repaired_on_postgresql(
    setup: Setup, owner: str, step: str, when: str
) -> None:
    """The order of writes holds there too."""
    with crash_at(owner, step, when, call=2):
        setup.drive()
    setup.drive()
    assert setup.states() == ["complete"] * 4
    setup.check_consistent()


def test_a_second_home_sees_and_continues_the_same_study(
    setup: Setup, dataset: Dataset, server: Server, tmp_path: Path
) -> None:
    """What is recorded from one home is not trained again from another."""
    with crash_at("executor", "submit", "before", call=4):  # the third cell is not recorded yet
        setup.drive()
    other = Setup(tmp_path / "other", dataset, server.storage)
    trained: list[Task] = []

    def script(task: Task) -> Result:
        trained.append(task)
        return DONE

    other.drive(script)
    assert setup.states() == other.states() == ["complete"] * 4
    assert len(trained) == 2
    tracker = find_tracker(other.home, NAME)
    assert tracker
    assert tracker.any_run


def test_a_backup_of_both_databases_is_gone_on_from(
    setup: Setup, dataset: Dataset, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_dump of ledger and MLflow, restored elsewhere: what was done stays done, the rest runs."""
    with crash_at("executor", "submit", "before", call=3):
        setup.drive()
    setup.drive(lambda _: ERROR)  # the rest fails, for now
    before = setup.states()
    copies = [server.postgres.copy(address) for address in (server.storage, server.tracking)]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", copies[1])
    restored = Setup(setup.home.root, dataset, copies[0])
    assert restored.states() == before
    assert set(before) == {"complete", "failed"}
    restored.drive(retry_failed=True)
    assert restored.states() == ["complete"] * 4
    restored.check_consistent()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.tracking)
    assert setup.states() == before, "the original is left alone"


def test_looking_at_an_empty_database_writes_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """Plan and status leave no tables behind."""
    address = postgres.new()
    home = Home(tmp_path)
    assert find_ledger(home, address, NAME) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        assert find_tracker(home, NAME) is None
    assert holder_of(home, NAME, address) is None
    assert known_studies(home, address) == []
    assert databases.tables(address, "none", "nobody") == set()


def test_a_role_that_may_make_no_tables_is_told_so(postgres: Postgres, tmp_path: Path) -> None:
    """As a database's owner may have left it: one line, before anything is begun."""
    postgres.server.psql("create role reader login")
    address = postgres.new()
    reader = address.replace("postgres:@", "reader:@")
    assert reader != address
    with (
        pytest.raises(EcsweepError, match="permission denied for schema public"),
        study_lock(Home(tmp_path), NAME, reader),
    ):
        raise AssertionError("the study is locked all the same")


def test_one_database_for_both_is_refused(server: Server, tmp_path: Path) -> None:
    """Both keep the version of their tables under one name; other spellings are seen too."""
    with pytest.raises(EcsweepError, match="two databases"):
        databases.check_apart(server.storage, "", server.storage)
    home = Home(tmp_path)
    home.prepare()
    with pytest.raises(EcsweepError, match="MLflow's data already"):
        open_ledger(home, server.tracking + "/", NAME)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server.storage + "/")
        with pytest.raises(EcsweepError, match="holds a ledger already"):
            connect(home)


def test_artifacts_that_are_elsewhere_are_named(setup: Setup) -> None:
    """A study whose files are on another machine is not continued half there, half here."""
    setup.drive()
    setup.home.artifacts.rename(setup.home.artifacts.with_name("gone"))
    with pytest.raises(EcsweepError, match=r"in .*artifacts, where it was run first"):
        find_tracker(setup.home, NAME)


def test_a_restart_of_the_server_is_survived(setup: Setup, server: Server) -> None:
    """Connections that broke are made anew; the lock is taken again where nobody has it."""
    setup.drive()
    ledger, tracker = setup.ledger, setup.tracker
    with study_lock(setup.home, NAME, server.storage) as lock:
        assert lock.check()
        server.postgres.control("-m", "immediate", "restart")
        assert len(ledger.attempts()) == 4
        assert len(tracker.runs()) == 4
        assert lock.check()
        other = StudyLock(Home(setup.home.root.parent), NAME, server.storage)
        Home(setup.home.root.parent).work.mkdir(parents=True, exist_ok=True)
        assert str(other.take()).startswith(f"process {os.getpid()}")


def test_a_lock_says_when_the_server_is_away(setup: Setup, server: Server) -> None:
    """Then nothing is known, and it is asked again."""
    with study_lock(setup.home, NAME, server.storage) as lock:
        server.postgres.control("-m", "fast", "stop")
        try:
            assert not lock.check()
            assert not lock.check()
        finally:
            server.postgres.control("-o", server.postgres.options, "start")
        assert lock.check()


def test_a_study_taken_over_in_an_outage_ends_its_first_driver(
    setup: Setup, server: Server
) -> None:
    """What it has in mind is out of date."""
    with study_lock(setup.home, NAME, server.storage) as lock:
        server.sql("select pg_terminate_backend(backend) from ecsweep_drivers")
        server.sql("update ecsweep_drivers set token = 'another', host = 'elsewhere'")
        with pytest.raises(EcsweepError, match=r"taken over by process \d+ on elsewhere"):
            lock.check()


def test_drivers_of_two_homes_share_one_study(setup: Setup, server: Server, tmp_path: Path) -> None:
    """One at a time; a driver that is killed frees the study at once."""
    other = Home(tmp_path / "other")
    other.prepare()
    process = driver(other, server.storage)
    who = f"run by process {process.pid} on "
    with pytest.raises(EcsweepError, match=who), study_lock(setup.home, NAME, server.storage):
        pass
    with study_lock(setup.home, "other@demo", server.storage):
        pass
    holder = holder_of(setup.home, NAME, server.storage)
    assert holder
    assert holder.alive
    kill(process)
    wait_for(lambda: holder_of(setup.home, NAME, server.storage) is None)
    with study_lock(setup.home, NAME, server.storage) as lock:
        assert lock.check()


def test_a_living_driver_keeps_its_study_while_its_connection_is_broken(
    setup: Setup, server: Server, tmp_path: Path
) -> None:
    """Of this machine that is known; one elsewhere has a minute to come back."""
    other = Home(tmp_path / "other")
    other.prepare()
    process = driver(other, server.storage)
    server.sql("select pg_terminate_backend(backend) from ecsweep_drivers")
    lock = StudyLock(setup.home, NAME, server.storage)
    assert getattr(lock.take(), "pid", None) == process.pid
    server.sql("update ecsweep_drivers set host = 'elsewhere'")
    holder = lock.take()
    assert "silent: free in a minute" in str(holder)
    kill(process)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_lock, "COMES_BACK", 0)
        assert lock.take() is None
    lock.release()
    assert server.sql("select count(*) from ecsweep_drivers") == [(0,)]


def test_a_missing_driver_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit with the pip line, not with an import error."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with (
        pytest.raises(EcsweepError, match=r"Install it with: pip install 'ecsweep\[postgresql\]'$"),
        databases.connection("postgresql+psycopg://me@localhost/x"),
    ):
        pass
