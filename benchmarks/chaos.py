"""Break a running sweep in every way there is, then let a checker count what was lost.

    python benchmarks/chaos.py [--faults 300] [--seed 0] [--cells 200] [--home DIR] [--quick]

Runs the real command on small real models in three homes (a plain one; one whose MLflow is an
HTTP server; one on a small disk of its own, where root may mount one) and starts it again
whenever it ends, while a seeded sequence of faults hits it: drivers and workers killed and
stopped, databases locked, the server cut, the disk filled, at random instants and right after
observed progress. A fault counts only when it was delivered. At the end `check_home` looks at
what is left. Prints Markdown for docs/reliability.md; exits 1 if any count is not zero.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import check_home
import libraries
import psutil

ROOT = Path(__file__).resolve().parents[1]
STUDY = "chaos@demo"
SESSION_LIMIT = 1800.0
"""Seconds after which a driver that nobody disturbs any more counts as hung."""
DEAF = 75.0
"""Seconds that a driver has to follow a SIGTERM; a worker has 60 of them to stop its trial."""
ORPHANED = 10.0
"""Seconds that a worker has to be gone after its driver."""
PATIENCE = 6.0
"""Seconds to wait for a moment; then the fault strikes at any instant."""
UNDELIVERED = 120.0
"""Seconds to try a fault that finds nothing to hit: a driver takes a while to have workers."""
DISK_MB = 96

DECKS = {
    "plain": {
        "kill driver": 5, "kill driver's group": 2, "terminate driver": 1, "kill worker": 6,
        "stop worker": 3, "lock ledger": 3, "lock MLflow": 3,
    },
    "server": {"cut server": 3, "kill driver": 1, "kill worker": 1},
    "disk": {"fill disk": 3, "kill driver": 1, "kill worker": 1},
}  # fmt: skip
"""How often each fault comes in each of the three homes."""
SHARES = {"plain": 0.7, "server": 0.18, "disk": 0.12}
"""Each home's share of faults and cells."""
ENDS_DRIVER = {"kill driver", "kill driver's group", "terminate driver"}
OUTAGES = {"cut server", "fill disk"}
"""Faults for which a driver may end with one line that says what is the matter."""


@dataclass(frozen=True)
class Fault:
    """One fault to come."""

    kind: str
    moment: str
    delay: float
    """Seconds from the moment to the fault."""
    seconds: float
    """How long it lasts, if it passes."""


def drawn(home: str, count: int, random_: random.Random) -> list[Fault]:
    """Return the sequence of faults of one home."""
    kinds = [kind for kind in DECKS[home] if kind in OUTAGES]  # what this home is there for
    while len(kinds) < count:
        deck = [kind for kind, times in DECKS[home].items() for _ in range(times)]
        random_.shuffle(deck)
        kinds += deck
    faults, fresh = [], True
    for kind in kinds[:count]:
        moments = ["any instant", "any instant", *MOMENTS]
        if fresh and kind in (*ENDS_DRIVER, *OUTAGES, "kill worker"):
            moments += ["starting"] * 3
        moment = random_.choice(moments)
        delay = random_.choice([0, 0, 0.003, 0.01, 0.03, 0.1, 0.3])
        if moment in ("any instant", "starting"):
            delay = random_.uniform(0.2, 3 if moment == "any instant" else 9)
        seconds = 25 if random_.random() < 0.04 else random_.uniform(0.5, 5)
        faults.append(Fault(kind, moment, delay, seconds))
        fresh = kind in ENDS_DRIVER
    return faults


def write_sweep(path: Path, count: int) -> None:
    """Write a study of so many small real models; a longer one has the cells of a shorter."""
    small = {"filters": 2, "hidden": [4], "epochs": 3}
    mix: list[dict[str, Any]] = [
        {"model": "cnn", **small},
        {"model": "composition"},
        {"model": "lstm", "units": 3, "depth": 1, "hidden": [4], "epochs": 3},
        {"model": "cnn", **small, "epochs": 120, "train_size": 200},  # caught in the middle
        {"model": "composition"},
        {"model": "cnn", **small, "filter_size": 3},
        {"model": "composition"},
        {"model": "lstm", "units": 3, "depth": 1, "hidden": [4], "epochs": 60},
        {"model": "composition"},
        {"model": "cnn", **small, "epochs": 12},
    ]
    grid = []
    for number in range(count):
        cell = dict(mix[number % len(mix)])
        varied = "inverse_regularization" if cell["model"] == "composition" else "learning_rate"
        grid.append({"train_size": 96, **cell, varied: round(0.001 + number * 1e-5, 6)})
    sweep = {
        "study": "chaos",
        "title": "Small real models under faults",
        "dataset": "enzyme",
        "fixed": {"batch_size": 16, "early_stopping": "none", "length": 40},
        "grid": grid,
        "scales": {"demo": {}},
    }
    path.write_text(json.dumps(sweep, indent=1))  # which is YAML, too


class Progress:
    """What can be seen of a running study from outside, a few milliseconds after it happens."""

    def __init__(self, home: Path) -> None:
        self._work = home / "mlruns" / "work"
        self._databases = {name: home / "mlruns" / f"{name}.db" for name in ("studies", "mlflow")}

    def ask(self, database: str, query: str) -> Any:
        """Return the first row of a query, ``None`` where that cannot be had."""
        uri = f"file:{self._databases[database]}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
                return connection.execute(query).fetchone()
        except sqlite3.Error:
            return None

    def files(self, pattern: str) -> set[tuple[str, int]]:
        """Return the files of the work folder that match a pattern, with their times."""
        found = set()
        for path in self._work.glob(pattern):
            with contextlib.suppress(OSError):
                found.add((str(path), path.stat().st_mtime_ns))
        return found


Look = Callable[[Progress], Any]
MOMENTS: dict[str, Look] = {
    "run made": lambda seen: seen.ask("mlflow", "SELECT MAX(rowid) FROM runs"),
    "trial made": lambda seen: seen.ask("studies", "SELECT MAX(trial_id) FROM trials"),
    "epoch logged": lambda seen: seen.ask("mlflow", "SELECT MAX(rowid) FROM metrics"),
    "checkpoint written": lambda seen: seen.files("checkpoints/*/*"),
    "result written": lambda seen: seen.files("*/result.json"),
    "run finished": lambda seen: seen.ask(
        "mlflow", "SELECT COUNT(*) FROM runs WHERE status = 'FINISHED'"
    ),
    "trial told": lambda seen: seen.ask(
        "studies", "SELECT COUNT(*) FROM trials WHERE state <> 'RUNNING'"
    ),
}
"""Progress after which faults strike, and where it shows."""


def progressed(before: Any, now: Any) -> bool:
    """Say whether something new has come since an earlier look."""
    if isinstance(now, set):
        return bool(now - before)
    return None not in (before, now) and bool(now != before)


class Server:
    """MLflow over HTTP, on the database of a home folder."""

    def __init__(self, home: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        mlruns = home / "mlruns"
        mlruns.mkdir(parents=True)
        self._command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self._port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{mlruns / 'mlflow.db'}",
            "--artifacts-destination", str(mlruns / "artifacts"),
        ]  # fmt: skip
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.up = threading.Event()

    def start(self) -> None:
        """Start it and wait until it answers."""
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    self.up.set()
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the MLflow server does not start: see {self._log}")

    def cut(self) -> None:
        """Kill it with all its processes."""
        self.up.clear()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Driver:
    """One session: the command at work, from its start to its end."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        self.started = time.monotonic()
        self.outage = False
        """Whether something was away meanwhile for which it may end."""

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def workers(self) -> list[psutil.Process]:
        """Return its living worker processes."""
        found = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "spawn_main" in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def said(self) -> str:
        """Return what it has printed."""
        with self._log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")


class Target:
    """A study in a home of its own, the faults that hit it, and what was seen of it meanwhile."""

    def __init__(
        self,
        name: str,
        base: Path,
        cells: int,
        options: Sequence[str],
        random_: random.Random,
        log: TextIO,
    ) -> None:
        self.name, self.home = name, base / name
        self.random = random_
        self.progress = Progress(self.home)
        self.server = Server(self.home, base / f"{name}-server.log") if name == "server" else None
        self.counts: Counter[tuple[str, str]] = Counter()
        self.trouble: list[str] = []
        self.refusals: list[str] = []
        """How sessions ended while the server was away or the disk full."""
        self.sessions, self.seconds, self.cells = 0, 0.0, cells
        self.given_up = 0
        self._sweep = base / f"{name}.yaml"
        self._options = options
        self._output = base / f"{name}.log"
        self._log = log
        self._began = time.monotonic()
        self._passing: list[threading.Thread] = []
        self._bereaved: list[tuple[float, list[psutil.Process]]] = []
        self.driver: Driver

    def run(self, faults: Sequence[Fault]) -> None:
        """Run the study under faults, then let it end."""
        self._began = time.monotonic()
        write_sweep(self._sweep, self.cells)
        if self.server:
            self.server.start()
        try:
            self.start()
            self._strike(deque(faults))
            for thread in self._passing:
                thread.join()
            self._finish()
            errors = self.progress.ask(
                "studies",
                "SELECT COUNT(*) FROM trial_user_attributes "
                "WHERE key = 'failure' AND value_json = '\"error\"'",
            )
            if errors and errors[0]:  # no fault of ours is an error of a cell
                self.trouble.append(f"{errors[0]} attempts are said to have failed by themselves")
        finally:
            self.seconds = time.monotonic() - self._began
            self.end_everything()

    def start(self, *options: str) -> None:
        """Start a session."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ECSWEEP", "MLFLOW"))}
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **kept,
            "ECSWEEP_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
        }
        if self.server:
            environment["MLFLOW_TRACKING_URI"] = self.server.address
        command = [
            sys.executable, "-m", "ec_sweep.cli", "study", str(self._sweep),
            *self._options, *options,
        ]  # fmt: skip
        self.driver = Driver(command, environment, self._output)
        self.driver.outage = (self.home / "filler").exists() or bool(
            self.server and not self.server.up.is_set()
        )
        self.sessions += 1

    def _strike(self, faults: deque[Fault]) -> None:
        missed_since = None
        while faults:
            if not self.driver.alive:
                self._restart()
                continue
            moment = self._wait(faults[0])
            hit = KINDS[faults[0].kind](self, faults[0]) if moment else None
            if moment and hit:
                fault, missed_since = faults.popleft(), None
                self.counts[fault.kind, moment] += 1
                self._note(fault=fault.kind, moment=moment, hit=hit)
                if fault.kind in ENDS_DRIVER:
                    time.sleep(self.random.choice([0, 0, 0.5]))
                    self._restart()
            else:
                missed_since = missed_since or time.monotonic()
                if time.monotonic() - missed_since > UNDELIVERED:
                    said = "\n".join(self.trouble[-3:])
                    raise RuntimeError(f"{faults[0]} cannot be delivered in {self.home}\n{said}")
            self._check_bereaved()

    def _wait(self, fault: Fault) -> str | None:
        """Wait for a fault's moment; returns what it was, ``None`` if the driver has ended."""
        moment = fault.moment
        if moment in MOMENTS:
            look, until = MOMENTS[moment], time.monotonic() + PATIENCE
            before = look(self.progress)
            while not progressed(before, now := look(self.progress)):
                before = now if before is None else before
                if not self.driver.alive:
                    return None
                if time.monotonic() > until:
                    moment = "any instant"
                    break
                time.sleep(0.002)
        time.sleep(fault.delay)
        return moment if self.driver.alive else None

    def _restart(self) -> None:
        """Look at how a session ended, and start the next."""
        ended = self._judge_end()
        if ended == 0:  # before all faults have struck: more cells join the study
            self.cells += max(2, self.cells // 10)
            write_sweep(self._sweep, self.cells)
        elif ended > 0:
            time.sleep(0.5)
        self.start()

    def _judge_end(self) -> int:
        """Wait for the driver's end and note what is wrong with it; returns its exit code."""
        code = self.driver.process.wait()
        said = self.driver.said()
        last = (said.strip().splitlines() or ["(nothing)"])[-1]
        by_signal = code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGINT)
        self._note(session=self.sessions, ended=code, said=last[:300])
        outage = self.driver.outage
        if "Traceback" in said or (code not in (0, 1) and not by_signal and not outage):
            what = "printed a traceback and " if "Traceback" in said else ""
            self.trouble.append(
                f"session {self.sessions} {what}ended with code {code}: {last[:300]}"
            )
        elif code not in (0, 1) and not by_signal:
            self.refusals.append(last)
        return code

    def _finish(self) -> None:
        """Let the study end in peace; cells given up for too many lost workers run again."""
        for _ in range(20):
            try:
                self.driver.process.wait(SESSION_LIMIT)
            except subprocess.TimeoutExpired:
                self.trouble.append(f"the driver of session {self.sessions} hangs")
                return
            self._check_bereaved()
            code, unfinished = self._judge_end(), self._given_up()
            if code == 0 and not unfinished:
                return
            self.given_up = max(self.given_up, unfinished)
            self.start(*(["--retry-failed"] if code in (0, 1) else []))
        self.trouble.append("the study does not come to its end")

    def _given_up(self) -> int:
        row = self.progress.ask(
            "studies",
            """SELECT COUNT(DISTINCT cell.value_json) FROM trial_user_attributes cell
               JOIN trial_user_attributes outcome ON outcome.trial_id = cell.trial_id
                    AND outcome.key = 'outcome'
                    AND outcome.value_json IN ('"failed"', '"not_available"')
               WHERE cell.key = 'cell' AND cell.value_json NOT IN (
                   SELECT value_json FROM trial_user_attributes
                   JOIN trials USING (trial_id) WHERE key = 'cell' AND state = 'COMPLETE')""",
        )
        return row[0] if row else 0

    def bereave(self, workers: list[psutil.Process]) -> None:
        """Remember the workers of a driver that is dying: they must go with it."""
        self._bereaved.append((time.monotonic() + ORPHANED, workers))

    def _check_bereaved(self) -> None:
        due = [entry for entry in self._bereaved if entry[0] < time.monotonic()]
        for entry in due:
            self._bereaved.remove(entry)
            for worker in entry[1]:
                with contextlib.suppress(psutil.Error):
                    if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
                        self.trouble.append(f"worker {worker.pid} outlives its driver")

    def passing(self, seconds: float, end: Callable[[], None]) -> None:
        """End a fault that passes after some seconds."""

        def wait() -> None:
            time.sleep(seconds)
            end()

        thread = threading.Thread(target=wait)
        self._passing = [old for old in self._passing if old.is_alive()] + [thread]
        thread.start()

    def end_everything(self) -> None:
        """Leave no process of ours behind, whatever happened."""
        for thread in self._passing:
            thread.join()
        if self.sessions and self.driver.alive:
            self.driver.process.kill()
            self.driver.process.wait()
            time.sleep(1)
        if self.server:
            self.server.cut()

    def _note(self, **what: Any) -> None:
        at = round(time.monotonic() - self._began, 3)
        print(json.dumps({"home": self.name, "seconds": at, **what}), file=self._log, flush=True)


def kill_driver(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGKILL the driver alone: its workers must die with it."""
    workers = target.driver.workers()
    target.driver.process.kill()
    return killed(target, workers)


def kill_group(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGKILL the driver and its workers at once, as a power cut does."""
    workers = target.driver.workers()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(target.driver.pid, signal.SIGKILL)
    return killed(target, workers)


def killed(target: Target, workers: list[psutil.Process]) -> str | None:
    """Say what was hit if it was our signal that ended the driver."""
    code = target.driver.process.wait()
    target.bereave(workers)
    return f"driver {target.driver.pid}" if code == -signal.SIGKILL else None


def terminate_driver(target: Target, fault: Fault) -> str | None:
    """SIGTERM the driver; some lose patience and kill it while it stops."""
    workers, process = target.driver.workers(), target.driver.process
    process.terminate()
    impatient = fault.seconds < 2
    try:
        process.wait(fault.seconds if impatient else DEAF)
    except subprocess.TimeoutExpired:
        process.kill()
        if not impatient:
            target.trouble.append(f"driver {process.pid} does not follow SIGTERM")
    process.wait()
    target.bereave(workers)
    return f"driver {process.pid}"


def kill_worker(target: Target, fault: Fault) -> str | None:  # noqa: ARG001
    """SIGKILL one worker."""
    workers = target.driver.workers()
    if not workers:
        return None
    worker = target.random.choice(workers)
    with contextlib.suppress(psutil.Error):
        worker.kill()
        return f"worker {worker.pid}"
    return None


def stop_worker(target: Target, fault: Fault) -> str | None:
    """SIGSTOP one worker, and let it go on some seconds later."""
    workers = target.driver.workers()
    if not workers:
        return None
    worker = target.random.choice(workers)

    def resume() -> None:
        with contextlib.suppress(psutil.Error):
            worker.resume()

    with contextlib.suppress(psutil.Error):
        worker.suspend()
        target.passing(fault.seconds, resume)
        return f"worker {worker.pid} for {fault.seconds:.1f} s"
    return None


def locks(database: str) -> Callable[[Target, Fault], str | None]:
    """Return the fault that locks a database for some seconds."""

    def lock(target: Target, fault: Fault) -> str | None:
        uri = f"file:{target.home / 'mlruns' / database}?mode=rw"
        try:
            connection = sqlite3.connect(
                uri, uri=True, timeout=3, isolation_level=None, check_same_thread=False
            )
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            return None
        target.passing(fault.seconds, connection.close)
        return f"{database} for {fault.seconds:.1f} s"

    return lock


def cut_server(target: Target, fault: Fault) -> str | None:
    """SIGKILL the tracking server, and start it again some seconds later."""
    server = target.server
    assert server is not None
    if not server.up.wait(120):
        return None
    server.cut()
    target.driver.outage = True
    target.passing(fault.seconds, server.start)
    return f"MLflow server for {fault.seconds:.1f} s and its start"


def fill_disk(target: Target, fault: Fault) -> str | None:
    """Fill the disk to its last byte, and free it some seconds later."""
    filler = target.home / "filler"
    if filler.exists():
        time.sleep(1)
        return None
    target.driver.outage = True
    size = 1 << 20
    with filler.open("wb", buffering=0) as file:
        while size:
            try:
                if file.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2
    target.passing(fault.seconds, filler.unlink)
    return f"disk for {fault.seconds:.1f} s"


KINDS: dict[str, Callable[[Target, Fault], str | None]] = {
    "kill driver": kill_driver,
    "kill driver's group": kill_group,
    "terminate driver": terminate_driver,
    "kill worker": kill_worker,
    "stop worker": stop_worker,
    "lock ledger": locks("studies.db"),
    "lock MLflow": locks("mlflow.db"),
    "cut server": cut_server,
    "fill disk": fill_disk,
}
"""Each fault delivers itself and says what it hit, or returns ``None``."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[str | None]:
    """Mount a small disk on a folder; yields the reason where that cannot be."""
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        yield "mounting a small disk needs root on Linux"
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"mount: {done.stderr.strip()}"
        return
    try:
        yield None
    finally:
        shutil.copytree(folder, folder.with_name(f"{folder.name}-kept"))
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def study_options() -> list[str]:
    """Return the options of every session: checkpoints come often enough to matter here."""
    help_ = subprocess.run(
        [sys.executable, "-m", "ec_sweep.cli", "study", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = ["--checkpoint-every", "1"] if "--checkpoint-every" in help_ else []
    return ["--workers", "2", *known]


def report(
    targets: Sequence[tuple[Target, check_home.Found]], skipped: str | None, options: Any
) -> str:
    """Return the Markdown for docs/reliability.md."""
    names = [target.name for target, _ in targets]

    def line(*cells: str) -> str:
        return f"| {' | '.join(cells)} |"

    def row(name: str, values: Sequence[float]) -> str:
        return line(name, *(f"{value:,.0f}" for value in (*values, sum(values))))

    heads = [line("", *names, "all"), line("---", *["---:"] * (len(names) + 1))]
    lines = [f"{sum(sum(t.counts.values()) for t, _ in targets)} faults, seed {options.seed}."]
    lines += [machine(), ""]
    if skipped:
        lines += [f"No small disk: {skipped}.", ""]
    lines += heads
    lines += [row("cells", [t.cells for t, _ in targets])]
    lines += [row("faults delivered", [sum(t.counts.values()) for t, _ in targets])]
    lines += [row("starts of the command", [t.sessions for t, _ in targets])]
    lines += [row("wall time, s", [t.seconds for t, _ in targets])]
    for kind in KINDS:
        lines += [row(f"fault: {kind}", [by_kind(t, kind) for t, _ in targets])]
    for moment in ("any instant", "starting", *MOMENTS):
        lines += [row(f"moment: {moment}", [by_moment(t, moment) for t, _ in targets])]
    lines += [row("ends that named an outage", [len(t.refusals) for t, _ in targets])]
    lines += [row("cells given up, then retried", [t.given_up for t, _ in targets])]
    for note in check_home.NOTES[1:]:
        lines += [row(note, [found.notes[note] for _, found in targets])]
    lines += [row("**trouble seen meanwhile**", [len(t.trouble) for t, _ in targets])]
    for promise in check_home.PROMISES:
        lines += [row(f"**{promise}**", [len(found.broken[promise]) for _, found in targets])]
    return "\n".join(lines)


def by_kind(target: Target, kind: str) -> int:
    """Count the faults of a kind."""
    return sum(n for (own, _), n in target.counts.items() if own == kind)


def by_moment(target: Target, moment: str) -> int:
    """Count the faults at a moment."""
    return sum(n for (_, own), n in target.counts.items() if own == moment)


def machine() -> str:
    """Say on what machine and with which versions this was run."""
    versions = libraries.versions("tensorflow", "keras", "optuna", "mlflow", "sqlalchemy")
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.platform()}, "
        f"{versions}, SQLite {sqlite3.sqlite_version}."
    )


def main() -> int:
    """Break, check and report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="a new folder, kept (default: a temporary one)")
    parser.add_argument("--only", choices=[*SHARES], help="one of the three homes alone")
    parser.add_argument("--quick", action="store_true", help="12 faults on 12 cells")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unmounts and ends all, as Ctrl-C
    if options.quick:
        options.faults, options.cells = 12, 12
    base = (options.home or Path(tempfile.mkdtemp(prefix="ecsweep-chaos-"))).resolve()
    base.mkdir(parents=True, exist_ok=True)
    print(f"homes and logs: {base}", file=sys.stderr)
    with (base / "faults.jsonl").open("w") as log, small_disk(base / "disk") as no_disk:
        shares = {options.only: 1.0} if options.only else dict(SHARES)
        if no_disk and shares.pop("disk", None):
            shares = {name: share / sum(shares.values()) for name, share in shares.items()}
        common, done = study_options(), []
        for name, share in shares.items():
            random_ = random.Random(f"{options.seed} {name}")
            cells, count = (max(2, round(share * n)) for n in (options.cells, options.faults))
            target = Target(name, base, cells, common, random_, log)
            target.run(drawn(name, count, random_))
            done.append((target, check_home.check(target.home, STUDY)))
    print(report(done, no_disk, options))
    for target, found in done:
        for name, lines in {"trouble seen": target.trouble, **found.broken}.items():
            for line in lines:
                print(f"{target.name}: {name}: {line}")
    return 0 if all(found.kept and not target.trouble for target, found in done) else 1


if __name__ == "__main__":
    sys.exit(main())
