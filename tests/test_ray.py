"""Studies on a real Ray cluster of several nodes on this machine, and what may befall them."""

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.locations import Location
from ec_sweep.membership import Wanted
from ec_sweep.ray_executor import RayExecutor
from tests.conftest import Ecsweep, Postgres, alive, kill, wait_for
from tests.executor_contract import ExecutorContract, Trials
from tests.test_main_job import check_each_cell_recorded_once, rows
from tests.test_own_models import SWEEP as OWN_SWEEP
from tests.test_own_models import TEXT as OWN_MODEL

# Before Ray is imported, which looks once. It then stays on the loopback interface.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
pytest.importorskip("ray", reason="the extra ecsweep[ray] is not installed")

SMALL = 10**9
CELLS = ("--set", "early_stopping=none", "--set", "filter_size=[2]")
"""Two cells, as many as there are nodes."""
LONG = (*CELLS, "--checkpoint-every", "1s", "--set", "epochs=60")
"""Trials of some seconds, so that there is time to strike."""
CHECKPOINTS = "tiny@demo-*/checkpoints/*.npz"


@dataclass
class Nodes:
    """The cluster's own process."""

    process: "subprocess.Popen[str]"
    address: str
    environment: dict[str, str]

    def order(self, text: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        print(text, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n", text

    def options(self, *more: str) -> tuple[str, ...]:
        """Return what makes a study run here."""
        return ("--executor", "ray", "--address", self.address, "--memory-per-trial", "1G", *more)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster of a head and two nodes of one CPU that asks for a token."""
    scratch = tempfile.mkdtemp(prefix="ec-", dir="/tmp")  # sockets need a short path
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "ray").mkdir()  # Ray keeps its address there, and does not make the folder
    known = {
        "TMPDIR": str(folder),
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in known.items():
            patch.setenv(name, value)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_nodes", scratch],
            cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout
        found = Nodes(process, process.stdout.readline().strip(), known)
        for name in ("one", "two"):
            found.order(f"add {name} 1 0")
        yield found
        process.communicate("end\n", timeout=300)


class TestRay(ExecutorContract):
    """Agents on two nodes, with a folder for checkpoints and finished attempts."""

    @pytest.fixture(scope="class")
    @classmethod
    def trials(
        cls, nodes: Nodes, tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
    ) -> Iterator[Trials]:
        folder = tmp_path_factory.mktemp("ray")
        location = Location(str(folder / "location"), "contract@demo")
        executor = RayExecutor(Wanted(nodes.address, memory=SMALL), "contract@demo", location)
        executor.start()
        yield Trials(executor, folder, dataset)
        executor.close()


def agents(nodes: Nodes) -> list[psutil.Process]:
    """Return the processes of agents on the cluster."""
    return [
        process for process in psutil.Process(nodes.process.pid).children(recursive=True)
        if _is_agent(process)
    ]  # fmt: skip


def _is_agent(process: psutil.Process) -> bool:
    try:
        return "ray::Agent" in "".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def begin(ecsweep: Ecsweep) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the tiny study; what a failed test leaves is ended, and shown."""
    begun: list[subprocess.Popen[str]] = []

    def start(*options: str, **more: str) -> "subprocess.Popen[str]":
        begun.append(ecsweep.start("study", "tiny", *options, **more))
        return begun[-1]

    yield start
    for driver in begun:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
        if driver.stdout and not driver.stdout.closed:  # nobody has read what it said
            print(driver.communicate()[0])


Begin = Callable[..., "subprocess.Popen[str]"]


def trained(home: Ecsweep, runs: int = 1) -> bool:
    query = "SELECT DISTINCT run_uuid FROM metrics WHERE step > 0"
    return len(rows(home, "mlflow.db", query)) >= runs


def trains(home: Ecsweep, ready: Callable[[str], bool] = bool) -> str:
    """Return a node where a cell has trained an epoch, and is ready for what is to befall it.

    Whichever has one: on a busy machine one node may finish all cells before another has begun.
    """
    query = (
        "SELECT cell.value, node.value FROM tags cell JOIN tags node USING (run_uuid) JOIN runs "
        "USING (run_uuid) WHERE cell.key = 'ecsweep.cell' AND status = 'RUNNING' AND node.key = "
        "'ecsweep.environment.node' AND run_uuid IN (SELECT run_uuid FROM metrics WHERE step > 0)"
    )
    return next((node for cell, node in rows(home, "mlflow.db", query) if ready(cell)), "")


def test_a_study_on_postgresql_survives_its_nodes_and_driver(
    nodes: Nodes, ecsweep: Ecsweep, begin: Begin, postgres: Postgres
) -> None:
    """A node is killed, a driver too, PostgreSQL restarts: each cell is recorded exactly once."""
    ledger, mlflow = postgres.new(), postgres.new()
    databases = {"ECSWEEP_STORAGE": ledger, "MLFLOW_TRACKING_URI": mlflow}
    shared = ecsweep.home / "shared"
    options = nodes.options("--artifacts", str(shared), *LONG)
    driver = begin(*options, **databases)
    wait_for(lambda: list(shared.glob(CHECKPOINTS)), process=driver)
    nodes.order("kill two")
    wait_for(lambda: list(shared.glob(CHECKPOINTS)), process=driver)
    kill(driver)
    wait_for(lambda: not agents(nodes))
    again = begin(*nodes.options("--artifacts", str(shared)), **databases)
    wait_for(lambda: agents(nodes), process=again)
    nodes.order("add two 1 0")
    postgres.control("restart", "-m", "fast")
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert "Node two joined: 2 trials side by side now." in output
    assert " goes on after epoch " in output
    cells = ecsweep.cells("tiny", **databases)
    assert [cell["state"] for cell in cells] == ["complete"] * 2
    assert not [path for path in shared.rglob("*") if path.is_file()]
    assert not [path for path in (ecsweep.home / "mlruns" / "work").iterdir() if path.is_dir()]


def test_a_lost_node_costs_what_came_after_the_checkpoint(
    nodes: Nodes, ecsweep: Ecsweep, begin: Begin
) -> None:
    """Its cell is lost, and goes on elsewhere; status tells the cells of each node."""
    shared = ecsweep.home / "shared"
    driver = begin(*nodes.options("--artifacts", f"file://{shared}", *LONG))
    wait_for(lambda: len(agents(nodes)) == 2, process=driver)

    def kept(cell: str) -> bool:
        return any(path.stem == cell for path in shared.glob(CHECKPOINTS))

    node = wait_for(lambda: trains(ecsweep, kept), process=driver)
    nodes.order(f"kill {node}")
    wait_for(lambda: "lost" in str(rows(ecsweep, "mlflow.db", FAILURES)), process=driver)
    said = r"On nodes: .*(one|two) \d running, \d done"  # between two cells nothing is running
    wait_for(lambda: re.search(said, ecsweep.ok("status", "tiny")), process=driver)
    nodes.order(f"add {node} 1 0")
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, output
    assert "interrupted (lost: its node is gone)" in output
    assert f"Node {node} is gone: 1 trial side by side now." in output
    assert " goes on after epoch " in output
    check_each_cell_recorded_once(ecsweep, cells=2)


FAILURES = "SELECT value FROM tags WHERE key = 'ecsweep.failure'"


def test_a_node_that_is_taken_away_keeps_its_trial_first(
    nodes: Nodes, ecsweep: Ecsweep, begin: Begin
) -> None:
    """A spot machine's notice: the trial writes a checkpoint at once and goes on elsewhere."""
    shared = ecsweep.home / "shared"
    seldom = (*CELLS, "--checkpoint-every", "1h", "--set", "epochs=60")
    driver = begin(*nodes.options("--artifacts", str(shared), *seldom))
    wait_for(lambda: len(agents(nodes)) == 2, process=driver)
    node = wait_for(lambda: trains(ecsweep), process=driver)
    nodes.order(f"drain {node} 300")  # seconds: a busy machine takes some to write a checkpoint
    wait_for(lambda: "lost" in str(rows(ecsweep, "mlflow.db", FAILURES)), process=driver)
    nodes.order(f"kill {node}")
    nodes.order(f"add {node} 1 0")
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, output
    assert f"Node {node} is being taken away: 1 trial side by side now." in output
    assert "interrupted (lost: its node is being taken away)" in output
    assert " goes on after epoch " in output
    check_each_cell_recorded_once(ecsweep, cells=2)


def test_without_artifacts_a_lost_trial_begins_again_and_says_so(
    nodes: Nodes, ecsweep: Ecsweep, begin: Begin
) -> None:
    """A killed worker is replaced on its node; a killed agent anywhere. Ctrl-C ends it all."""
    driver = begin(*nodes.options(*LONG[:-1], "epochs=2000"))  # none ends before Ctrl-C
    # Whichever is killed has an epoch to lose.
    wait_for(lambda: trained(ecsweep, runs=2), process=driver)
    (worker, *_) = [
        child for own in agents(nodes) for child in own.children()
        if "spawn_main" in "".join(child.cmdline())
    ]  # fmt: skip
    os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: "lost" in str(rows(ecsweep, "mlflow.db", FAILURES)), process=driver)
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 130, output
    assert "No --artifacts: what is lost or interrupted begins again." in output
    assert "its worker was killed by SIGKILL; without --artifacts it begins again" in output
    assert not rows(ecsweep, "mlflow.db", "SELECT 1 FROM runs WHERE status = 'RUNNING'")
    wait_for(lambda: not agents(nodes))
    assert not alive(worker.pid)


def test_more_trials_than_there_is_room_for_end_all_the_same(
    nodes: Nodes, ecsweep: Ecsweep
) -> None:
    """An agent that is done gives its room to one that Ray cannot place.

    A relative folder is below the driver's own, whatever the nodes' is.
    """
    more = ("--workers", "4", "--artifacts", "shared", "--set", "epochs=1")
    ecsweep.ok("study", "tiny", *nodes.options(*more))
    check_each_cell_recorded_once(ecsweep, cells=4)
    left = [path for path in (ecsweep.home / "shared").rglob("*") if path.is_file()]
    assert (ecsweep.home / "shared").is_dir()
    assert not left


def test_a_model_of_the_users_own_trains_on_the_cluster(nodes: Nodes, ecsweep: Ecsweep) -> None:
    """Its file is the driver's alone: the nodes are sent its text, and no folder of the user's."""
    (ecsweep.home / "models.py").write_text(OWN_MODEL)
    (ecsweep.home / "sweeps" / "own.yaml").write_text(OWN_SWEEP)
    ecsweep.ok("study", "own", "--models", "models.py", *nodes.options("--workers", "1"))
    told = [(cell["params"]["model"], cell["state"]) for cell in ecsweep.cells("own")]
    assert told == [("cnn", "complete"), ("wide", "complete"), ("wide", "complete")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpus-per-trial", "1"), "no node of the cluster has 4 CPUs, 1 GPU and 1.0 GB"),
        (("--gpus-per-trial", "2"), "--gpus-per-trial must be from 0 to 1"),
        (("--memory-per-trial", "many"), "--memory-per-trial must be a size such as"),
        (("--gpu-share", "4"), "--gpus-per-trial 0.25"),
        (("--artifacts", "/proc/nowhere"), "--artifacts /proc/nowhere cannot be"),
        (("--artifacts", "nope://x"), "--artifacts nope://x cannot be used"),
    ],
)
def test_what_a_cluster_cannot_give_is_told_in_a_line(
    nodes: Nodes, ecsweep: Ecsweep, options: tuple[str, ...], said: str
) -> None:
    """What came, what there is, and what to do; exit 2 and no attempt is left."""
    line = ecsweep.fails("study", "tiny", *nodes.options(), *options)
    assert said in line
    assert all(cell["state"] == "waiting" for cell in ecsweep.cells("tiny"))


def test_a_cluster_that_is_not_there_or_refuses_is_told_in_a_line(
    nodes: Nodes, ecsweep: Ecsweep
) -> None:
    """Nobody listens; a token is wrong; options of Ray without it."""
    with_ray = ("study", "tiny", "--executor", "ray", "--address")
    assert "127.0.0.1:9" in ecsweep.fails(*with_ray, "127.0.0.1:9")
    wrong = ecsweep.run(*with_ray, nodes.address, RAY_AUTH_TOKEN="0" * 64)
    assert wrong.returncode == 2
    last = wrong.stderr.splitlines()[-1]  # Ray warns before it gives up
    assert last.startswith(f"ecsweep: no Ray cluster can be reached at {nodes.address}")
    local = ecsweep.fails("study", "tiny", "--address", "auto")
    assert "--address is for --executor ray. Received: local." in local


def test_a_node_with_another_version_is_refused(nodes: Nodes, tmp_path: Path) -> None:
    """Results of two versions are not mixed: the study stops before it trains."""
    from ec_sweep import agent_handle

    executor = RayExecutor(Wanted(nodes.address, memory=SMALL), "versions@demo", None)
    executor.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(agent_handle, "code_version", lambda: "9.9.9+other")
            executor.settle()
            (tmp_path / "data").mkdir()
            trials = Trials.__new__(Trials)
            trials.executor, trials.folder = executor, tmp_path
            with pytest.raises(EcsweepError, match=r"the driver has 9\.9\.9\+other"):
                refused(executor, tmp_path)
    finally:
        executor.close()


def refused(executor: RayExecutor, folder: Path) -> None:
    """Submit a task and wait for what becomes of it."""
    from ec_sweep.attempts import Task
    from ec_sweep.hyperparameters import Hyperparameters

    executor.submit(Task("run", folder, "cnn", Hyperparameters(), 0, folder / "data", {}, 2))
    for _ in range(60):
        executor.poll(1)
