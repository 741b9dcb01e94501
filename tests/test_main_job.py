"""The main job with everything real: the command, its workers, databases and signals."""

import csv
import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ec_sweep import datasets, local_executor, sharing
from ec_sweep.attempts import Event, Result, Task
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.paths import Home
from ec_sweep.sharing import Layout, Seat
from ec_sweep.worker_process import Worker
from tests.conftest import Ecsweep, alive, kill, wait_for

# Long enough to be caught in the middle, short enough to be finished afterwards.
LONG = ("--set", "early_stopping=none", "--workers", "2", "--set", "epochs=40")
TRIALS = """
    SELECT cell.value_json, attempt.value_json, trials.state
    FROM trials
    JOIN trial_user_attributes cell ON cell.trial_id = trials.trial_id AND cell.key = 'cell'
    JOIN trial_user_attributes attempt
      ON attempt.trial_id = trials.trial_id AND attempt.key = 'attempt'
"""
RUNS = """
    SELECT cell.value, runs.status, runs.run_uuid FROM runs
    JOIN tags cell ON cell.run_uuid = runs.run_uuid AND cell.key = 'ecsweep.cell'
"""
COMPLETE = "SELECT 1 FROM trials WHERE state = 'COMPLETE'"
TRAINED = "SELECT 1 FROM metrics WHERE step > 0"


def check_each_cell_recorded_once(ecsweep: Ecsweep, cells: int = 4) -> None:
    """Ask both databases directly: one COMPLETE trial and one FINISHED run for each cell."""
    trials = ecsweep.sql("studies.db", TRIALS)
    runs = ecsweep.sql("mlflow.db", RUNS)
    complete = sorted(json.loads(cell) for cell, _, state in trials if state == "COMPLETE")
    finished = sorted(cell for cell, status, _ in runs if status == "FINISHED")
    assert complete == finished
    assert len(set(complete)) == len(complete) == cells
    assert {state for _, _, state in trials} <= {"COMPLETE", "FAIL"}
    assert {status for _, status, _ in runs} <= {"FINISHED", "KILLED"}
    work = ecsweep.home / "mlruns" / "work"
    assert [path.name for path in work.iterdir() if path.suffix != ".lock"] == []


def workers(driver: "subprocess.Popen[str]") -> list[int]:
    """Return the worker processes of a driver."""
    children = psutil.Process(driver.pid).children()
    return [p.pid for p in children if "spawn_main" in " ".join(p.cmdline())]


def rows(ecsweep: Ecsweep, database: str, query: str) -> list[tuple[Any, ...]]:
    """Ask a database that may not exist yet."""
    import sqlite3

    try:
        return ecsweep.sql(database, query)
    except sqlite3.OperationalError:
        return []


def test_the_main_job_leaves_everything_the_contract_names(finished: Ecsweep) -> None:
    """One command: cells complete in Optuna and MLflow, tables and their origin written."""
    check_each_cell_recorded_once(finished)
    assert {cell["state"] for cell in finished.cells("tiny")} == {"complete"}
    written = {path.name for path in (finished.home / "reports" / "demo").iterdir()}
    assert written == {"tiny.csv", "tiny.tex", "tiny.md", "tiny.provenance.json"}
    steps = finished.sql(
        "mlflow.db", "SELECT key, COUNT(*) FROM metrics WHERE step > 0 GROUP BY key"
    )
    assert dict(steps) == dict.fromkeys(
        ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "epoch_seconds"), 4 * 2
    )
    artifacts = finished.home / "mlruns" / "artifacts"
    assert len(list(artifacts.rglob("predictions.npz"))) == 4
    parents = finished.sql(
        "mlflow.db",
        "SELECT status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
        "AND tags.key = 'ecsweep.role' AND tags.value = 'study'",
    )
    assert parents == [("FINISHED",)]


def test_a_second_run_trains_nothing(finished: Ecsweep) -> None:
    """Repeating a finished study starts no worker and adds no attempt."""
    before = finished.sql("mlflow.db", "SELECT run_uuid, status, end_time FROM runs ORDER BY 1")
    output = finished.ok("study", "tiny")
    assert "started" not in output
    after = finished.sql("mlflow.db", "SELECT run_uuid, status, end_time FROM runs ORDER BY 1")
    changed = [row for row in after if row not in before]
    assert len(after) == len(before)
    assert len(changed) <= 1  # the parent run's end
    assert len(finished.sql("studies.db", "SELECT * FROM trials")) == 4


def test_a_killed_driver_is_gone_on_from(ecsweep: Ecsweep) -> None:
    """SIGKILL in the middle: workers die with it; nothing finished is trained again."""
    ecsweep.ok("studies")  # pays for the imports of commands, while nothing trains yet
    driver = ecsweep.start("study", "tiny", *LONG)
    try:
        # Values arrive while the cell trains, not after it.
        running = (
            "SELECT 1 FROM metrics JOIN runs ON runs.run_uuid = metrics.run_uuid "
            "WHERE runs.status = 'RUNNING' AND metrics.step BETWEEN 1 AND 20"
        )
        wait_for(lambda: rows(ecsweep, "mlflow.db", running), process=driver)
        refused = ecsweep.fails("study", "tiny")
        assert f"is being run by process {driver.pid} on {socket.gethostname()} since" in refused
        wait_for(lambda: rows(ecsweep, "studies.db", COMPLETE), process=driver)
        left = workers(driver)
        assert len(left) == 2
    finally:
        kill(driver)
    wait_for(lambda: not any(map(alive, left)))
    before = {run for _, status, run in ecsweep.sql("mlflow.db", RUNS) if status == "FINISHED"}
    assert before
    assert "Nothing runs it any more" in ecsweep.ok("status", "tiny")
    assert "4 waiting" in ecsweep.ok("status", "tiny", "--defaults")
    output = ecsweep.ok("study", "tiny", "--workers", "2")  # follows what was last asked for
    assert "As last asked for: --set early_stopping=none --set epochs=40" in output
    caption = (ecsweep.home / "reports" / "demo" / "tiny.md").read_text()
    assert "Demo scale, changed to early_stopping none, epochs 40: " in caption
    assert "[4/4]" in output
    check_each_cell_recorded_once(ecsweep)
    after = {run for _, status, run in ecsweep.sql("mlflow.db", RUNS) if status == "FINISHED"}
    assert before < after
    epochs = "SELECT DISTINCT value FROM params WHERE key = 'epochs'"
    assert ecsweep.sql("mlflow.db", epochs) == [("40",)]


def test_a_killed_worker_is_replaced(ecsweep: Ecsweep) -> None:
    """SIGKILL of a worker: its cell is tried again at once, the others go on."""
    driver = ecsweep.start("study", "tiny", *LONG)
    wait_for(lambda: rows(ecsweep, "mlflow.db", TRAINED), process=driver)
    os.kill(workers(driver)[0], signal.SIGKILL)
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, output
    assert "interrupted (lost: its worker was killed by SIGKILL)" in output
    check_each_cell_recorded_once(ecsweep)
    assert sorted(cell["attempts"] for cell in ecsweep.cells("tiny")) == [1, 1, 1, 2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly(ecsweep: Ecsweep, number: signal.Signals) -> None:
    """Ctrl-C once: exit 130, trials told, and the next call goes on."""
    driver = ecsweep.start("study", "tiny", *LONG[:-1], "epochs=60")
    wait_for(lambda: rows(ecsweep, "mlflow.db", TRAINED), process=driver)
    os.killpg(driver.pid, number)  # a terminal, systemd and Slurm signal every process
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 130, output
    assert "Go on with: ecsweep study tiny" in output
    states = [cell["state"] for cell in ecsweep.cells("tiny")]
    assert "Traceback" not in output
    assert states.count("interrupted") == 2
    assert set(states) <= {"interrupted", "waiting", "complete"}
    assert not ecsweep.sql("mlflow.db", "SELECT 1 FROM runs WHERE status = 'RUNNING'")
    if number == signal.SIGINT:
        ecsweep.ok("study", "tiny", "--workers", "2")
        check_each_cell_recorded_once(ecsweep)


def test_a_worker_that_has_grown_is_replaced(tmp_path: Path, finished: Ecsweep) -> None:
    """Beyond a limit a fresh process takes over; messages and results go on as before."""
    (dataset,) = datasets.find(Home(finished.home), "enzyme")
    hp = Hyperparameters(length=40, train_size=32, filters=2, hidden=(4,), epochs=1)
    executor = LocalExecutor(Layout(1, 1), tmp_path, "grown")
    executor.start()
    pids, outcomes = [], []
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sharing, "RECYCLE_AT", 0.5)
            for name in ("first", "second"):
                (tmp_path / name).mkdir()
                task = Task(
                    name, tmp_path / name, "cnn", hp, 0, dataset.folder, dataset.sizes(32), 2
                )
                executor.submit(task)
                (worker,) = filter(None, executor._workers)
                pids.append(worker.process.pid)
                while len(outcomes) < len(pids):
                    said = [message.content for message in executor.poll(1)]
                    outcomes += [c.outcome for c in said if isinstance(c, Result)]
                assert not alive(worker.process.pid or 0)
    finally:
        executor.close()
    assert outcomes == ["complete", "complete"]
    assert pids[0] != pids[1]
    assert not list(tmp_path.glob("*.log"))


def test_workers_that_hang_dawdle_or_are_ended_are_told_apart(
    tmp_path: Path, finished: Ecsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped: lost. Beyond its time: failed. SIGTERM: lost, but its checkpoint is gone on from."""
    (dataset,) = datasets.find(Home(finished.home), "enzyme")
    hp = Hyperparameters(
        length=40, train_size=64, filters=2, hidden=(4,), epochs=100_000, early_stopping="none"
    )
    executor = LocalExecutor(Layout(1, 1), tmp_path, "told-apart")
    executor.start()
    said: list[Event | Result] = []

    def begin(name: str, **changes: Any) -> int:
        """Submit a trial, wait until it trains; returns its process."""
        said.clear()
        (tmp_path / name).mkdir()
        sizes = dataset.sizes(64)
        task = Task(name, tmp_path / name, "cnn", hp, 0, dataset.folder, sizes, 2, **changes)
        executor.submit(task)
        wait_for(lambda: hear() and any(isinstance(c, Event) and c.epoch for c in said))
        (worker,) = filter(None, executor._workers)
        return int(worker.process.pid or 0)

    def hear() -> bool:
        said.extend(message.content for message in executor.poll(0.2))
        return True

    def end() -> Result:
        return wait_for(lambda: hear() and next((c for c in said if isinstance(c, Result)), None))  # type: ignore[no-any-return]

    checkpoint = tmp_path / "kept" / "cell.npz"
    try:
        os.kill(begin("ended", checkpoint=checkpoint), signal.SIGTERM)
        result = end()
        assert (result.outcome, result.failure) == ("interrupted", "lost")
        assert "SIGTERM" in result.message
        epochs = max(c.epoch for c in said if isinstance(c, Event))
        process = begin("resumed", checkpoint=checkpoint)
        resumed = [c.environment.get("resumed", "") for c in said if isinstance(c, Event)]
        assert any(text.startswith(f"after epoch {epochs},") for text in resumed)
        os.kill(process, signal.SIGSTOP)
        executor._silence = 1.0
        result = end()
        assert (result.outcome, result.failure) == ("interrupted", "lost")
        assert result.message == "its worker was silent for 1 s"
        assert not alive(process)
        executor._silence = 1800.0
        monkeypatch.setattr(local_executor, "_GRACE", 0.5)
        os.kill(begin("slow", timeout=60.0), signal.SIGSTOP)
        (worker,) = filter(None, executor._workers)
        worker.began = (worker.began or 0) - 60
        result = end()
        assert (result.outcome, result.failure) == ("failed", "timeout")
    finally:
        executor.close()


@pytest.mark.parametrize(
    ("code", "words", "killed", "failure"),
    [
        (-9, "", 0, "lost"),
        (-9, "", 1, "oom"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", 0, "oom"),
        (-6, "F0000 CUDA_ERROR_OUT_OF_MEMORY: out of memory", 0, "oom"),
        (-11, "Fatal Python error: Segmentation fault", 0, "lost"),
    ],
)
def test_running_out_of_memory_is_told_from_other_deaths(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    words: str,
    killed: int,
    failure: str,
) -> None:
    """By what the kernel counts, and by what libraries say before they abort."""
    monkeypatch.setattr(local_executor, "oom_kills", lambda: killed)
    log = tmp_path / "worker.log"
    log.write_text("RESOURCE_EXHAUSTED in an earlier trial\n" + words)
    process: Any = SimpleNamespace(exitcode=code)
    worker = Worker(process, None, False, log, 0, Seat(1), log_start=39)  # type: ignore[arg-type]
    result = LocalExecutor(Layout(1, 1), tmp_path, "x")._lost(worker)
    assert result.failure == failure
    assert result.outcome == ("not_available" if failure == "oom" else "interrupted")


def test_a_sampled_study_draws_prunes_and_goes_on(ecsweep: Ecsweep) -> None:
    """With real workers: so many different cells whatever is killed, some pruned, best first."""
    (ecsweep.home / "sweeps" / "drawn.yaml").write_text(
        """
study: drawn
dataset: enzyme
fixed: {model: cnn, filters: 2, hidden: [4], epochs: 15, early_stopping: none, length: 40,
  train_size: 64, filter_size: 3, pool_size: 2}
grid: {learning_rate: {low: 1e-5, high: 1e-1, log: true}}
sampler: random
trials: 6
pruner: median
"""
    )
    driver = ecsweep.start("study", "drawn", "--workers", "2")
    wait_for(lambda: rows(ecsweep, "studies.db", COMPLETE), process=driver)
    kill(driver)
    drawn = [cell["cell"] for cell in ecsweep.cells("drawn")]
    assert "[6/6]" in ecsweep.ok("study", "drawn", "--workers", "2")
    cells = ecsweep.cells("drawn")
    assert len({cell["cell"] for cell in cells}) == 6
    assert [cell["cell"] for cell in cells][: len(drawn)] == drawn
    assert {cell["state"] for cell in cells} <= {"complete", "pruned"}
    trials = ecsweep.sql("studies.db", "SELECT state FROM trials WHERE state != 'FAIL'")
    assert len(trials) == 6
    statuses = ecsweep.sql("mlflow.db", RUNS)
    assert sum(status == "FINISHED" for _, status, _ in statuses) == 6
    table = (ecsweep.home / "reports" / "demo" / "drawn.csv").read_text().splitlines()
    assert len(table) == 7


def test_ctrl_c_at_once_is_quiet(ecsweep: Ecsweep) -> None:
    """Before the workers have even started: still exit 130, and no traceback from anybody."""
    driver = ecsweep.start("study", "tiny", *LONG)
    wait_for(lambda: workers(driver), process=driver)
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 130, output
    assert "Traceback" not in output


def test_inline_runs_in_the_commands_own_process(ecsweep: Ecsweep) -> None:
    """For debugging; replicates with seeds get intervals in the table."""
    ecsweep.ok("study", "tiny", "--executor", "inline", "--seeds", "2", "--set", "filter_size=[3]")
    assert len(ecsweep.cells("tiny")) == 4  # two learning rates, two seeds: as last asked for
    folder = ecsweep.home / "reports" / "demo"
    with (folder / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["n"] for row in rows] == ["2", "2"]
    assert all(float(row["epoch_seconds_median"]) > 0 for row in rows)  # one at a time: times count
    table = (folder / "tiny.md").read_text()
    assert " ± " in table
    assert "Student's t) over 2 seeds" in table


def test_the_ui_serves_this_homes_runs(finished: Ecsweep) -> None:
    """`ecsweep ui` opens the right database, on 127.0.0.1 alone, and ends with Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = finished.start("ui", "--port", str(port))
    address = f"http://127.0.0.1:{port}"

    def experiments() -> Any:
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/experiments/search",
            data=b'{"max_results": 10}',
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["experiments"]
        except OSError:
            return None

    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"MLflow UI on {address}")
        found = experiments()  # it answers from the moment that it says so
        assert "tiny@demo" in {experiment["name"] for experiment in found}
        children = psutil.Process(server.pid).children(recursive=True)
        listening = [
            connection.laddr.ip
            for process in children
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        assert set(listening) == {"127.0.0.1"}
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=300)
    wait_for(lambda: not any(alive(process.pid) for process in children))


def test_forget_lets_a_cell_be_trained_anew(copied: Ecsweep) -> None:
    """Forgetting asks first, and takes only what was named."""
    cell = copied.cells("tiny")[0]["cell"]
    assert copied.run("forget", "tiny", "--cell", cell).returncode == 2  # no answer
    assert copied.cells("tiny")[0]["state"] == "complete"
    assert "Forgot 1 attempts" in copied.ok("forget", "tiny", "--cell", cell, "--yes")
    assert [c["state"] for c in copied.cells("tiny")] == ["waiting"] + ["complete"] * 3
    assert "no cell abc" in copied.fails("forget", "tiny", "--cell", "abc", "--yes")
    before = copied.cells("tiny")
    copied.ok("study", "tiny")
    after = copied.cells("tiny")
    assert {c["state"] for c in after} == {"complete"}
    assert [c["run_id"] for c in after[1:]] == [c["run_id"] for c in before[1:]]
    copied.ok("study", "tiny", "--set", "filter_size=[2]")  # what is asked for no more
    other = next(c["cell"] for c in after if c["params"]["filter_size"] == 3)
    assert "Forgot 1 attempts" in copied.ok("forget", "tiny", "--cell", other, "--yes")
    assert other not in json.loads(copied.ok("status", "tiny", "--json"))["orphaned"]
