"""What a study costs, counted: nothing here looks at a clock, so that it fails only for a reason.

Two real studies run through the command line, one of half the cells of the other.
`counting/sitecustomize.py` counts from within their driver and their worker. Each
ceiling below is what is needed today: one that can be lowered should be, and one
that has to be raised needs a reason.
"""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Ecsweep

BATCH, LENGTH = 16, 40
SWEEP = f"""\
study: STUDY
title: Counted
dataset: enzyme
fixed: {{model: cnn, filters: 4, hidden: [8], batch_size: {BATCH}, epochs: 2}}
grid: {{filter_size: SIZES, learning_rate: [0.01, 0.001, 0.0001]}}
scales: {{demo: {{length: {LENGTH}, train_size: 72}}}}
"""
WHOLE, HALF = 6, 3  # cells
ARCHITECTURES = 2

FUNCTIONS_OF_NETWORK = 8
"""Of an architecture; cells that differ in their learning rate share them. First weights; step and
loop of training and validation; predictions of many, the rest, one."""
FUNCTIONS_OF_INPUT = 8
"""Of a cell: TensorFlow takes batches from Python, to train and to validate."""
STATEMENTS = {"mlflow.db": 96, "studies.db": 28}
"""In a cell of two epochs that are written one by one, as they are unless the driver is behind; of
MLflow's more than half only set up its sessions."""
COMMITS = {"mlflow.db": 16, "studies.db": 3}
CALLS_OF_MLFLOW = 8
"""The run begins, params, two epochs, result, predictions, is it the best model, the run ends."""
OF_DRIVER = frozenset(
    ("alembic", "fastapi", "mlflow", "optuna", "pandas", "pyarrow", "scipy", "sqlalchemy")
)
"""Optuna, and what MLflow imports."""
OF_WORKER = frozenset(("h5py", "jax", "keras", "scipy", "tensorflow"))
"""Keras and what TensorFlow imports; jax is TensorFlow Lite's, where it is installed."""
HEAVY = OF_DRIVER | OF_WORKER | {"matplotlib", "psycopg", "ray", "sklearn", "torch"}
"""Packages that take tens of milliseconds and more to import."""
MODULES_OF_HELP = 175
"""167 with 5 % air: Python's own differ from version to version."""

SAVING = {"logged_models._log", "logged_models.remove"}
"""What a model that beats the others costs is left out: training decides how often that is."""
UPDATES = "UPDATE latest_metrics"
"""As are these: metrics that keep their value are updated by a statement of their own."""

Note = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """What was noted in the processes of one study, in order."""

    driver: list[Note]
    workers: list[Note]

    @classmethod
    def read(cls, folder: Path) -> "Counts":
        """Tell the processes apart by what only one kind does."""
        found = [
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in folder.glob("*.jsonl")
        ]
        (driver,) = (notes for notes in found if kinds(notes)["begins driving"])
        workers = [notes for notes in found if kinds(notes)["begins getting ready"]]
        return cls(driver, [note for notes in workers for note in notes])


def modules(notes: list[Note], *kinds: str) -> set[str]:
    return {name for note in notes if note["kind"] in kinds for name in note["modules"]}


def kinds(notes: list[Note]) -> Counter[str]:
    return Counter(note["kind"] for note in notes)


@dataclass(frozen=True)
class Counted:
    """A study, and one of half the cells."""

    whole: Counts
    half: Counts

    def per_cell(self, kind: str, of: Callable[[Note], bool] = lambda _: True) -> float:
        """Count in the driver: all while it drives, elsewhere what grows with the cells."""
        inside, outside = split(self.whole.driver, kind, of)
        _, outside_half = split(self.half.driver, kind, of)
        return len(inside) / WHOLE + (len(outside) - len(outside_half)) / (WHOLE - HALF)

    def most(self, kind: str, what: Callable[[Note], object]) -> str:
        """List what is counted most in a cell, to show what has grown."""
        inside, _ = split(self.whole.driver, kind, lambda _: True)
        found = Counter(what(note) for note in inside).most_common(25)
        return "".join(f"\n{count / WHOLE:6.1f}  {name}" for name, count in found)


def split(
    notes: list[Note], kind: str, of: Callable[[Note], bool]
) -> tuple[list[Note], list[Note]]:
    """Return the notes of a kind that were made while the driver drives, and the others."""
    sides: tuple[list[Note], list[Note]] = [], []
    driving = False
    for note in notes:
        if note["kind"] in ("begins driving", "ends driving"):
            driving = note["kind"] == "begins driving"
        elif note["kind"] == kind and of(note) and not left_out(note):
            sides[0 if driving else 1].append(note)
    return sides


def left_out(note: Note) -> bool:
    return bool(SAVING & set(note["callers"])) or note.get("statement", "").startswith(UPDATES)


def caller(note: Note) -> str:
    return " from ".join(note["callers"][:3])


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Counted:
    """Both studies, run side by side: what is counted does not depend on the time it takes."""
    homes = []
    for study, sizes in (("whole", "[2, 3]"), ("half", "[2]")):
        folder = tmp_path_factory.mktemp(study)
        (folder / "sweeps").mkdir()
        (folder / "counts").mkdir()
        text = SWEEP.replace("STUDY", study).replace("SIZES", sizes)
        (folder / "sweeps" / f"{study}.yaml").write_text(text)
        command = ("study", study, "--workers", "1")
        homes.append((folder, Ecsweep(folder).start(*command, **hooked(folder / "counts"))))
    for _, process in homes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    whole, half = (Counts.read(folder / "counts") for folder, _ in homes)
    return Counted(whole, half)


def hooked(counts: Path) -> dict[str, str]:
    """Return the environment in which every Python process counts."""
    path = [str(Path(__file__).parent / "counting"), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path)), "COUNTS": str(counts)}


def traces(counts: Counts, of_network: bool) -> list[Note]:
    notes = [note for note in counts.workers if note["kind"] == "trace"]
    return [note for note in notes if note["of_network"] == of_network]


@pytest.mark.parametrize(
    ("of_network", "most"),
    [(True, ARCHITECTURES * FUNCTIONS_OF_NETWORK), (False, WHOLE * FUNCTIONS_OF_INPUT)],
)
def test_tensorflow_traces_no_more_functions(counted: Counted, of_network: bool, most: int) -> None:
    """Each trace is a compilation: those of a network, and those that bring it its batches."""
    found = Counter(note["name"] for note in traces(counted.whole, of_network))
    assert found
    assert found.total() <= most, (
        f"{found.total()} functions traced in {WHOLE} cells of {ARCHITECTURES} architectures: "
        f"{dict(found.most_common())}"
    )


def test_batches_reach_the_step_as_tokens(counted: Counted) -> None:
    """A byte a residue and a label of four bytes a sequence; nothing is one-hot on the way."""
    fed = {}
    for note in traces(counted.whole, True):
        sizes = [kind_size * width(shape) for _, kind_size, shape in note["fed"]]
        fed[note["name"], str(note["fed"])] = sum(sizes)
    most = max(fed, key=lambda name: fed[name])
    assert 0 < fed[most] <= BATCH * (LENGTH + 4), f"{fed[most]} bytes a batch go to {most}"
    floats = [
        (note["name"], tensor)
        for note in (*traces(counted.whole, True), *traces(counted.whole, False))
        for tensor in note["fed"]
        if tensor[0].startswith(("float", "bfloat")) and (tensor[2] is None or len(tensor[2]) > 1)
    ]
    assert not floats


def width(shape: list[int | None]) -> int:
    """Return the elements of a batch; its size is the one dimension that may be open."""
    return math.prod(BATCH if size is None else size for size in shape)


@pytest.mark.parametrize("database", ["mlflow.db", "studies.db"])
def test_a_cell_takes_no_more_sql(counted: Counted, database: str) -> None:
    """Statements and commits that each cell adds to what a study takes."""
    for kind, ceilings in (("sql", STATEMENTS), ("commit", COMMITS)):
        found = counted.per_cell(kind, lambda note: note["database"] == database)
        assert 0 < found <= ceilings[database], f"{found:.1f} {kind} a cell:" + counted.most(
            kind, lambda n: (n["database"], caller(n), n.get("statement", "")[:70])
        )


def test_a_cell_takes_no_more_calls_of_mlflow(counted: Counted) -> None:
    """On a server each call is a request."""
    found = counted.per_cell("mlflow")
    assert 0 < found <= CALLS_OF_MLFLOW, f"{found:.1f} calls a cell:" + counted.most(
        "mlflow", lambda note: (note["name"], caller(note))
    )


def test_driver_and_worker_import_no_more(counted: Counted) -> None:
    """A driver trains nothing, a worker records nothing: neither imports what only that needs."""
    for counts in (counted.whole, counted.half):
        driver = modules(counts.driver, "ends driving")
        worker = modules(counts.workers, "ends getting ready", "ends training")
        assert "mlflow" in driver
        assert "keras" in worker
        assert driver & HEAVY <= OF_DRIVER
        assert worker & HEAVY <= OF_WORKER


def test_help_imports_no_more() -> None:
    """Every module that the command line imports at start delays every command."""
    script = (
        "import sys; from ec_sweep import cli; sys.argv = ['ecsweep', '--help']\n"
        "try: cli.main()\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    found = done.stdout.splitlines()[-1].split()
    outside = [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]
    assert len(found) <= MODULES_OF_HELP, f"{len(found)} modules, of others: {outside}"
