"""The independent checker finds every kind of damage; a sweep under faults shows it none."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchmarks import check_home
from tests.conftest import Ecsweep

CHAOS = Path(check_home.__file__).with_name("chaos.py")
FIRST = "(SELECT MIN(run_uuid) FROM tags WHERE key = 'ecsweep.cell')"
Break = Callable[[Path], None]


def sql(database: str, *statements: str) -> Break:
    """Return what changes a database behind everybody's back."""

    def run(home: Path) -> None:
        with closing(sqlite3.connect(home / "mlruns" / database)) as connection:
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement
            connection.commit()

    return run


def predictions(home: Path) -> Path:
    return min((home / "mlruns" / "artifacts").rglob("predictions.npz"))


def tear_predictions(home: Path) -> None:
    predictions(home).write_bytes(predictions(home).read_bytes()[:-100])


def leave_a_result(home: Path) -> None:
    (home / "mlruns" / "work" / "abc").mkdir()
    (home / "mlruns" / "work" / "abc" / "result.json").write_text("{}")


def tear_the_database(home: Path) -> None:
    path = home / "mlruns" / "studies.db"
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'ix_trials_study_id'"
        (page,) = connection.execute(query).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


DAMAGE: list[tuple[str, Break]] = [
    ("cells lost", sql("studies.db", "UPDATE trials SET state = 'FAIL' WHERE number = 0")),
    (
        "cells recorded twice",
        sql(
            "studies.db",
            "UPDATE trial_user_attributes SET value_json = (SELECT value_json FROM "
            "trial_user_attributes WHERE trial_id = 1 AND key = 'cell') "
            "WHERE trial_id = 2 AND key = 'cell'",
        ),
    ),
    (
        "cells trained again after finishing",
        sql(
            "studies.db",
            "UPDATE trial_user_attributes SET value_json = (SELECT value_json FROM "
            "trial_user_attributes WHERE trial_id = 1 AND key = 'cell') "
            "WHERE trial_id = 4 AND key = 'cell'",
            "UPDATE trials SET state = 'FAIL' WHERE trial_id = 4",
        ),
    ),
    (
        "runs left RUNNING",
        sql("mlflow.db", f"UPDATE runs SET status = 'RUNNING' WHERE run_uuid = {FIRST}"),
    ),
    (
        "trials left RUNNING or WAITING",
        sql("studies.db", "UPDATE trials SET state = 'RUNNING' WHERE number = 2"),
    ),
    (
        "Optuna/MLflow disagreements",
        sql("studies.db", "UPDATE trial_values SET value = value + 0.001 WHERE trial_id = 1"),
    ),
    (
        "Optuna/MLflow disagreements",
        sql("mlflow.db", f"UPDATE runs SET status = 'KILLED' WHERE run_uuid = {FIRST}"),
    ),
    (
        "Optuna/MLflow disagreements",
        sql("studies.db", "DELETE FROM trial_user_attributes WHERE trial_id = 3"),
    ),
    (
        "epochs missing or logged twice",
        sql(
            "mlflow.db",
            f"DELETE FROM metrics WHERE run_uuid = {FIRST} AND key = 'val_loss' AND step = 1",
        ),
    ),
    (
        "epochs missing or logged twice",
        sql(
            "mlflow.db",
            "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan "
            f"FROM metrics WHERE run_uuid = {FIRST} AND key = 'train_loss' AND step = 2",
        ),
    ),
    ("predictions missing or unreadable", lambda home: predictions(home).unlink()),
    ("predictions missing or unreadable", tear_predictions),
    ("leftover files", leave_a_result),
    ("damaged databases", tear_the_database),
]


@pytest.fixture
def copy(finished: Ecsweep, tmp_path: Path) -> Path:
    """A copy of a finished home, to be damaged."""
    home = tmp_path / "home"
    shutil.copytree(finished.home, home)
    return home


def test_a_finished_home_keeps_every_promise(copy: Path) -> None:
    """Nothing is counted where nothing is wrong."""
    found = check_home.check(copy, "tiny@demo")
    assert found.kept, found.broken
    assert found.notes == {
        "cells": 4, "attempts": 4, "runs never issued": 0, "epochs trained again": 0,
    }  # fmt: skip


@pytest.mark.parametrize(("promise", "damage"), DAMAGE)
def test_the_checker_finds_damage(promise: str, damage: Break, copy: Path) -> None:
    """Each promise, broken by hand, is counted as broken, and the exit code says so."""
    damage(copy)
    assert check_home.check(copy, "tiny@demo").counts()[promise] >= 1


def test_the_checker_finds_a_worker_that_stayed(copy: Path) -> None:
    """A process of this home that is still alive counts; one of another home does not."""
    command = [sys.executable, "-c", "import time; 'ec_sweep'; time.sleep(60)"]
    with subprocess.Popen(command, cwd=copy) as stayed:
        try:
            assert psutil.Process(stayed.pid).is_running()
            found = check_home.check(copy, "tiny@demo")
            (line,) = found.broken["leftover processes"]
            assert f"process {stayed.pid}:" in line
            assert check_home.leftover_processes(copy.parent) == []
        finally:
            stayed.kill()


def test_the_checkers_command_says_what_is_wrong(copy: Path) -> None:
    """Its table has every promise; its exit code is 1 when one is broken."""
    command = [sys.executable, check_home.__file__, str(copy), "tiny@demo"]
    fine = subprocess.run(command, capture_output=True, text=True, check=False)
    assert fine.returncode == 0, fine.stdout
    assert all(f"| {promise} | 0 |" in fine.stdout for promise in check_home.PROMISES)
    leave_a_result(copy)
    broken = subprocess.run(command, capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert "leftover files: mlruns/work/abc" in broken.stdout


def test_a_study_under_faults_loses_nothing(tmp_path: Path) -> None:
    """Killed drivers and workers, locked databases, a cut server, a full disk: all counts zero."""
    command = [sys.executable, str(CHAOS), "--quick", "--seed", "1", "--home", str(tmp_path / "c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "12 faults" in done.stdout
