"""The home's own databases, read without their libraries: the same answers, only sooner."""

import json
import math
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec_sweep import building, experiments, ledger, ledger_store, planning, publishing, stored
from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.errors import EcsweepError
from ec_sweep.mlflow_store import connect
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.spec import Request
from ec_sweep.stored import StoredStudy, TrackedRun
from ec_sweep.tracking import Tracker
from tests.test_study import DONE, ERROR, NAME, Setup

SWEEP = """\
study: scripted
dataset: enzyme
fixed: {model: cnn}
grid: {filter_size: [2, 3, 4, 5]}
"""
VALUES = {2: 0.6, 3: 0.9, 4: 0.8, 5: 0.7}
"""Validation accuracy after the second epoch, by filter size."""


def script(task: Task) -> Result:
    """Answer at random; filter size 5 fails."""
    size = task.hyperparameters.filter_size
    draw = np.random.default_rng(size)
    np.savez_compressed(
        AttemptFolder(task.folder).predictions,
        ids=np.array([f"P{number}" for number in range(40)]),
        labels=np.arange(40, dtype=np.int32) % 2,
        probabilities=draw.random((40, 2), np.float32),
    )
    return ERROR if size == 5 else DONE


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """A home with a study of which a cell failed and was tried again, and one was forgotten."""
    home = Home(tmp_path_factory.mktemp("stored"))
    home.prepare()
    setup = Setup(home.root, building.build_embedded(home, "enzyme"))
    (home.root / "sweeps").mkdir()
    (home.root / "sweeps" / "scripted.yaml").write_text(SWEEP)
    setup.drive(script)
    forgotten = setup.ledger.forget({str(setup.cells[0].id)})
    setup.tracker.forget([attempt.run_id for attempt in forgotten])
    setup.drive(lambda task: replace(script(task), outcome="complete"), retry_failed=True)
    resolved = planning.resolve(
        Place(home), str(home.root / "sweeps" / "scripted.yaml"), Request(seeds=1), build=True
    )
    tracker = setup.tracker
    parent = tracker.open_parent("")
    tracker.store_plan(parent, planning.plan_document(resolved))
    for dataset in resolved.datasets.values():
        tracker.store_card(parent, dataset.card)
    for run in tracker.runs():
        size = int(run.params["filter_size"])
        later = {"val_accuracy": VALUES[size], "val_loss": math.nan if size == 3 else 0.5}
        tracker.log(run.run_id, [Event(3000, 2, later)])
    return setup


def through_mlflow(home: Home) -> Tracker:
    client = connect(home)
    return Tracker(client, client.get_experiment_by_name(NAME).experiment_id, NAME)


def shown(run: TrackedRun) -> tuple[Any, ...]:
    """Return all of a run, in an order of its own, NaN as text."""
    parts = [sorted(part.items()) for part in (run.metrics, run.params, run.tags)]
    return run.run_id, run.cell, run.seed, run.status, repr(parts)


def test_a_study_reads_the_same_without_mlflow(studied: Setup) -> None:
    """Plan, cards, runs, epochs and predictions; and MLflow's schema is the one known."""
    direct, slow = experiments.find_tracker(studied.home, NAME), through_mlflow(studied.home)
    assert isinstance(direct, StoredStudy)
    assert [shown(run) for run in direct.runs()] == [shown(run) for run in slow.runs()]
    assert len(direct.runs()) == 5  # the forgotten one is not among them
    assert direct.plan() == slow.plan() is not None
    assert direct.parent_id() == slow.parent_id() is not None
    assert direct.asked
    assert direct.any_run
    fingerprint = {str(studied.cells[0].fingerprint)}
    assert direct.cards(fingerprint) == slow.cards(fingerprint) != {}
    assert direct.cards(set()) == {}
    for run in direct.runs():
        losses = direct.history(run.run_id, "val_loss"), slow.history(run.run_id, "val_loss")
        assert repr(losses[0]) == repr(losses[1])
        assert len(direct.history(run.run_id, "val_accuracy")) == 2
        if run.status == "FINISHED":
            found = [read.predictions(run.run_id) for read in (direct, slow)]
            assert found[0] == found[1] != b""


def test_artifacts_from_elsewhere_leave_no_copies(
    studied: Setup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What MLflow downloads, as from every store that is no folder of this machine, goes again."""
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    direct, slow = experiments.find_tracker(studied.home, NAME), through_mlflow(studied.home)
    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    download = ArtifactRepository.download_artifacts
    monkeypatch.setattr(LocalArtifactRepository, "download_artifacts", download)
    fingerprint = {str(studied.cells[0].fingerprint)}
    assert direct is not None
    assert slow.plan() == direct.plan()
    assert slow.cards(fingerprint) == direct.cards(fingerprint) != {}
    run_id = next(run.run_id for run in slow.runs() if run.status == "FINISHED")
    assert slow.predictions(run_id) == direct.predictions(run_id) != b""
    assert not [*(tmp_path / "copies").iterdir()]


def test_attempts_read_the_same_without_optuna(studied: Setup) -> None:
    """States, failures, times and what was forgotten; and Optuna's schema is the one known."""
    slow = studied.ledger
    slow._database = None
    direct = ledger.read_attempts(studied.home.studies_db, NAME)
    assert direct == slow.attempts() == ledger_store.known_attempts(studied.home, None, NAME)
    assert sorted(len(attempts) for attempts in direct.values()) == [1, 1, 1, 2]
    assert ledger.read_attempts(studied.home.studies_db, "other@demo") == {}


def test_other_schemas_are_left_to_their_libraries(
    studied: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of another version is never guessed at."""
    monkeypatch.setattr(stored, "MLFLOW_SCHEMA", "other")
    monkeypatch.setattr(ledger, "OPTUNA_SCHEMA", "other")
    assert isinstance(experiments.find_tracker(studied.home, NAME), Tracker)
    assert [*experiments.tracked_studies(studied.home, "demo")] == ["scripted"]
    assert ledger.read_attempts(studied.home.studies_db, NAME) is None
    assert len(ledger_store.known_attempts(studied.home, None, NAME)) == 4


@pytest.mark.parametrize(
    "command", ["status scripted", "plan scripted --json", "report scripted --format csv"]
)
def test_what_only_reads_needs_neither_mlflow_nor_optuna(studied: Setup, command: str) -> None:
    """Their imports alone would take longer than the command."""
    code = (
        "import sys; from ec_sweep import cli; sys.argv = ['ecsweep', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "finally: print({'mlflow', 'optuna', 'sqlalchemy'} & {*sys.modules} or 'light')"
    )
    place = ["--home", str(studied.home.root)]
    done = subprocess.run(
        [sys.executable, "-c", code, *command.split(), *place],
        cwd=studied.home.root, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "light"


def test_a_damaged_database_is_an_error_in_one_line(studied: Setup, tmp_path: Path) -> None:
    """Not a traceback, and not an empty study."""
    path = tmp_path / "mlflow.db"
    whole, damaged = map(sqlite3.connect, (studied.home.mlflow_db, path))
    with closing(whole), closing(damaged):
        whole.backup(damaged)
        damaged.execute("DROP TABLE latest_metrics")
    with pytest.raises(EcsweepError, match=r"mlflow.db: cannot be read \(no such table"):
        StoredStudy(path, 1, NAME).runs()


def test_of_too_many_rows_the_best_are_looked_at(
    studied: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen by validation accuracy, and said; the study's own table has every row."""

    def report(most: int) -> tuple[publishing.Publisher, Callable[[str], int]]:
        monkeypatch.setattr(publishing, "_MOST_ROWS", most)
        folder = tmp_path / str(most)
        trackers = experiments.tracked_studies(studied.home, "demo", ["scripted"])
        publisher = publishing.Publisher(trackers, "demo", ["csv"], folder)
        publisher.study("scripted")
        return publisher, lambda name: len((folder / name).read_text().splitlines()) - 1

    publisher, lines = report(most=2)
    assert lines("scripted.csv") == 4
    assert lines("scripted-comparisons.csv") == 1
    assert "the 2 of 4 rows with the best validation accuracy" in publisher.left_out["scripted"]
    cells = json.loads((tmp_path / "2" / "scripted-comparisons.provenance.json").read_text())
    assert [*cells["runs"]] == ["3", "4"]
    publisher, lines = report(most=4)
    assert lines("scripted-comparisons.csv") == 6
    assert publisher.left_out == {}


def test_what_a_run_is_on_is_kept_even_without_metrics(studied: Setup) -> None:
    """It waits for the next write, and the last write of a run is its end."""
    tracker = studied.tracker
    run_id = tracker.start(studied.cells[1], 9, "0" * 32, "", 1)
    tracker.log(run_id, [Event(1000, environment={"backend": "none"})])
    folder = AttemptFolder(studied.home.attempt(run_id))
    tracker.finish(run_id, Result("failed", 2000, failure="error"), folder)
    (run,) = [run for run in tracker.runs() if run.run_id == run_id]
    assert run.tags["ecsweep.environment.backend"] == "none"
    assert run.tags["ecsweep.failure"] == "error"
    tracker.forget([run_id])
