"""What crashes, hands and older versions leave: found, repaired, found no more, nothing lost."""

import io
import json
import os
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec_sweep import doctor, gone
from ec_sweep.attempts import AttemptFolder, Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.doctor_tracking import Runs
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Ledger, state_of
from ec_sweep.locks import study_lock
from ec_sweep.mlflow_store import connect
from ec_sweep.planning import Place
from ec_sweep.tracking import Tracker
from tests import test_study
from tests.conftest import Ecsweep, alive, kill, wait_for
from tests.test_study import DONE, ERROR, LOST, NAME, Setup, by_size, crash_at

OLD = time.time() - 86_400


def predictions() -> bytes:
    file = io.BytesIO()
    np.savez(file, ids=np.array(["P1"]), labels=np.array([1]), probabilities=np.array([[0.1, 0.9]]))
    return file.getvalue()


def with_predictions(
    endings: Callable[[Task], Result] = lambda _: DONE, trained: list[str] | None = None
) -> Callable[[Task], Result]:
    """Script endings, leaving predictions as real trials do, and say what was trained."""

    def script(task: Task) -> Result:
        (task.folder / "predictions.npz").write_bytes(predictions())
        if trained is not None:
            trained.append(task.run_id)
        return endings(task)

    return script


class Home(Setup):
    """Cells complete, complete, failed, and complete after a lost worker."""

    def train(self, trained: list[str] | None = None) -> None:
        """Run the study like the ``study`` command does, to the end."""
        endings = by_size({4: [ERROR], 5: [LOST]})
        self.drive(with_predictions(endings, [] if trained is None else trained))
        tracker = self.tracker
        tracker.open_parent("")
        tracker.close_parent("FAILED")

    def examine(self, fix: bool = False, deep: bool = False) -> doctor.Examination:
        return doctor.examine(Place(self.home), fix, deep)

    def kinds(self, **how: bool) -> list[str]:
        return [finding.kind for finding in self.examine(**how).findings]

    def cell(self, place: int) -> str:
        return str(self.cells[place].id)

    def run(self, place: int) -> str:
        """Return the run of the last attempt at a cell."""
        return self.ledger.attempts()[self.cell(place)][-1].run_id

    def runs(self) -> Runs:
        return Runs(connect(self.home), self.tracker._experiment_id)

    def sql(self, database: str, *statements: str) -> None:
        with closing(sqlite3.connect(self.home.root / "mlruns" / database)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def erase(self, run_id: str) -> None:
        """Delete a run for good, as ``mlflow gc`` does."""
        self.sql(
            "mlflow.db",
            *(
                f"DELETE FROM {table} WHERE run_uuid = '{run_id}'"
                for table in ("metrics", "latest_metrics", "params", "tags", "runs")
            ),
        )

    def check_consistent(self) -> None:
        checkpoints = self.home.work / "checkpoints"
        assert not list(checkpoints.glob("*/*"))
        shutil.rmtree(checkpoints, ignore_errors=True)
        super().check_consistent()

    def results(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return state and numbers of each cell that is complete."""
        attempts = self.ledger.attempts()
        runs = {run.run_id: run for run in self.tracker.runs()}
        return {
            cell: (own[-1].run_id, runs[own[-1].run_id].metrics)
            for cell, own in attempts.items()
            if state_of(own) == "complete" and own[-1].run_id in runs
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    root = tmp_path_factory.mktemp("trained")
    Home(root, dataset).train()
    return root


@pytest.fixture
def home(tmp_path: Path, dataset: Dataset, trained: Path) -> Home:
    """A finished study, in a home that was copied and told so."""
    shutil.copytree(trained, tmp_path / "home")
    home = Home(tmp_path / "home", dataset)
    moved = home.examine(fix=True)
    assert [finding.kind for finding in moved.findings] == ["home-moved"]
    assert moved.healthy
    return home


Damage = Callable[[Home], None]


def run_deleted(home: Home) -> None:
    home.runs().client.delete_run(home.run(0))


def run_gone(home: Home) -> None:
    home.erase(home.run(0))


def trial_gone(home: Home) -> None:
    home.sql(
        "studies.db",
        "DELETE FROM trials WHERE trial_id = 5",  # the last: a power cut may take it back
        "DELETE FROM trial_values WHERE trial_id = 5",
        "DELETE FROM trial_user_attributes WHERE trial_id = 5",
        "DELETE FROM trial_params WHERE trial_id = 5",
    )


def run_not_finished(home: Home) -> None:
    home.runs().end(home.run(0), "KILLED")


def run_of_failed_finished(home: Home) -> None:
    home.runs().end(home.run(2), "FINISHED")


def run_again_running(home: Home) -> None:
    home.runs().client.update_run(home.run(0), status="RUNNING")


def numbers_gone(home: Home) -> None:
    home.sql("mlflow.db", f"DELETE FROM latest_metrics WHERE run_uuid = '{home.run(0)}'")


def parent_running(home: Home) -> None:
    home.tracker.open_parent("")


def driver_died(home: Home) -> None:
    """Its attempt at the failed cell is RUNNING everywhere, with a result in its folder."""
    with crash_at("tracker", "finish", "before", call=1):
        home.drive(with_predictions(), retry_failed=True)


def driver_died_and_its_run_is_gone(home: Home) -> None:
    with crash_at("executor", "submit", "before", call=1):
        home.drive(retry_failed=True)
    home.erase(home.run(2))


def driver_died_and_its_run_was_deleted(home: Home) -> None:
    with crash_at("executor", "submit", "before", call=1):
        home.drive(retry_failed=True)
    home.runs().client.delete_run(home.run(2))


def driver_died_before_the_trial(home: Home) -> None:
    with crash_at("ledger", "start", "before", call=1):
        home.drive(retry_failed=True)


def trial_waits(home: Home) -> None:
    ledger = home.ledger
    import optuna

    waiting = optuna.create_trial(state=optuna.trial.TrialState.WAITING)
    ledger._storage.create_new_trial(ledger._study_id, waiting)


def folder_of_an_ended_attempt(home: Home) -> None:
    AttemptFolder(home.home.attempt(home.run(0))).create()


def folder_of_nobody(home: Home) -> None:
    AttemptFolder(home.home.attempt("0" * 32)).create()


def forgotten_run_not_deleted(home: Home) -> None:
    home.ledger.forget({home.cell(0)})


def experiment_deleted(home: Home) -> None:
    runs = home.runs()
    runs.client.delete_experiment(runs.experiment_id)


def ledger_gone(home: Home) -> None:
    home.home.studies_db.unlink()


def checkpoint_left(home: Home) -> None:
    path = home.home.checkpoints(NAME) / f"{home.cell(0)}.npz"
    path.parent.mkdir(parents=True)
    path.touch()


def files_of_dead_processes(home: Home) -> None:
    for name in (
        "mlruns/.mlflow.db.new-journal",
        "mlruns/.studies.db.migrating",
        "mlruns/work/.scripted@demo.holder.json.4194305-k3_x9abz",
        "reports/demo/.tiny.csv.4194305-k3_x9abz",
        "mlruns/work/scripted@demo-worker-0.log",
        "mlruns/work/ui-1.log",
        "mlruns/work/scripted@demo.holder.json",
    ):
        path = home.home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (OLD, OLD))


def open_to_all(home: Home) -> None:
    home.home.work.chmod(0o755)


def half_built(home: Home) -> None:
    (home.home.data / "enzyme" / ".building-x").mkdir(parents=True)


DAMAGES: dict[Damage, list[str]] = {
    run_deleted: ["run-deleted"],
    run_gone: ["run-lost"],
    trial_gone: ["run-without-trial"],
    run_not_finished: ["run-status"],
    run_of_failed_finished: ["run-status"],
    run_again_running: ["run-status"],
    numbers_gone: ["run-lost"],
    parent_running: ["parent-running"],
    driver_died: ["trial-running", "parent-running"],
    driver_died_and_its_run_is_gone: ["trial-running", "work-folder", "parent-running"],
    driver_died_and_its_run_was_deleted: ["run-deleted", "trial-running", "parent-running"],
    driver_died_before_the_trial: ["run-running", "parent-running"],
    trial_waits: ["trial-stray"],
    folder_of_an_ended_attempt: ["work-folder"],
    folder_of_nobody: ["work-folder"],
    forgotten_run_not_deleted: ["run-forgotten"],
    experiment_deleted: ["experiment-deleted"],
    ledger_gone: ["ledger-missing"] + ["run-without-trial"] * 4,
    checkpoint_left: ["checkpoint"],
    files_of_dead_processes: ["database-half-made"] * 2
    + ["temporary-file"] * 2
    + ["log", "holder"],
    open_to_all: ["permissions"],
    half_built: ["dataset-half-built"],
}
TRAINED_AGAIN = {run_gone: 0, numbers_gone: 0, forgotten_run_not_deleted: 0}
"""Damages after which a cell has no numbers, with the cell."""


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_left_is_found_and_repaired_and_nothing_finished_is_lost(
    home: Home, damage: Damage
) -> None:
    """Found without a change, repaired once; cells are trained again only without numbers."""
    before = home.results()
    damage(home)
    looked = home.examine()
    assert looked.findings
    assert not looked.healthy
    assert home.kinds() == [finding.kind for finding in looked.findings]  # it changed nothing
    fixed = home.examine(fix=True)
    assert fixed.healthy, [finding for finding in fixed.findings if not finding.fixed]
    found = [finding.kind for finding in fixed.findings]
    assert set(found) == set(DAMAGES[damage])
    assert home.kinds() == []
    lost = TRAINED_AGAIN.get(damage)
    kept = {cell: own for cell, own in before.items() if lost is None or cell != home.cell(lost)}
    assert kept.items() <= home.results().items()
    left = [state for state in home.states() if state in ("waiting", "interrupted")]
    trained: list[str] = []
    home.train(trained)
    assert len(trained) == len(left) <= 1
    if damage is not driver_died_and_its_run_is_gone:  # of which one trial is left
        home.check_consistent()


def test_what_a_driver_had_finished_when_it_died_is_recorded(home: Home) -> None:
    """Doctor repairs what the next driver would, by the same means."""
    driver_died(home)
    home.examine(fix=True)
    assert home.states() == ["complete"] * 4


def test_a_lost_ledger_is_made_again_from_the_runs(home: Home) -> None:
    """With what MLflow knows: states, failures, attempts, values."""
    before = {cell: own[-1] for cell, own in home.ledger.attempts().items()}
    ledger_gone(home)
    home.examine(fix=True)
    after = {cell: own[-1] for cell, own in home.ledger.attempts().items()}
    assert after.keys() == before.keys()
    for cell, own in before.items():
        assert (after[cell].state, after[cell].failure) == (own.state, own.failure)
        assert (after[cell].run_id, after[cell].attempt) == (own.run_id, own.attempt)
    ledger = home.ledger
    values = [t.value for t in ledger._storage.get_all_trials(ledger._study_id) if t.values]
    assert values == [0.7] * 3


def test_a_lost_tracking_database_is_never_made_worse(home: Home) -> None:
    """Only a backup helps: nothing is forgotten, and no empty database takes its place."""
    kept = home.home.mlflow_db.with_name("kept")
    home.home.mlflow_db.rename(kept)
    looked = home.examine(fix=True)
    (finding,) = looked.findings
    assert (finding.kind, finding.fixed) == ("database-missing", False)
    assert "4 cells" in finding.problem
    assert not home.home.mlflow_db.exists()
    with pytest.raises(EcsweepError, match="ecsweep doctor"):  # as `report` and `ui` look
        gone.check_tracking(home.home)
    assert "the measurements of 4 cells" in str(gone.of_study(Place(home.home), NAME, 4))
    ledger = home.home.studies_db.read_bytes()
    home.home.studies_db.write_bytes(b"no database at all" * 100)
    assert home.kinds(fix=True) == ["database-unreadable", "database-missing"]
    home.home.studies_db.write_bytes(ledger)
    kept.rename(home.home.mlflow_db)
    assert home.kinds() == []
    gone.check_tracking(home.home)
    for database in (home.home.mlflow_db, home.home.studies_db):
        database.unlink()
    assert home.kinds(fix=True) == ["database-missing"]


def test_a_lost_ledger_is_said_before_anything_is_trained_again(home: Home) -> None:
    """MLflow's runs tell a study that nobody knows from one that has not been run."""
    place = Place(home.home)
    assert gone.of_study(place, "other@demo", 0) is None
    home.ledger.forget({home.cell(n) for n in range(4)})
    assert gone.of_study(place, NAME, 0) is None  # its runs are to follow
    home.home.studies_db.unlink()
    said = str(gone.of_study(place, NAME, 0))
    assert "of which MLflow holds 4 runs" in said
    assert said.endswith("ecsweep doctor")


def test_an_experiment_that_is_gone_takes_its_cells_along(home: Home) -> None:
    """No number of them is left: they are forgotten, to be trained again."""
    for run in home.tracker.runs():
        home.erase(run.run_id)
    home.erase(str(home.tracker.parent_id()))
    home.sql(
        "mlflow.db", "DELETE FROM experiment_tags", "DELETE FROM experiments WHERE name LIKE '%@%'"
    )
    assert home.kinds() == ["experiment-missing"]
    assert home.examine(fix=True).healthy
    assert home.kinds() == []
    assert home.states() == ["waiting"] * 4


def test_predictions_that_cannot_be_read_are_left_to_the_user(home: Home) -> None:
    """The cell's other numbers are whole: it is not forgotten."""
    paths = [home.home.artifacts / home.run(n) / "artifacts" / "predictions.npz" for n in (0, 1, 3)]
    paths[0].unlink()
    paths[1].write_bytes(b"torn")
    whole = bytearray(paths[2].read_bytes())
    whole[whole.index(b"NUMPY") + 60] ^= 1
    paths[2].write_bytes(whole)
    assert home.kinds() == ["predictions"] * 2
    looked = home.examine(fix=True, deep=True)
    assert [finding.kind for finding in looked.findings] == ["predictions"] * 3
    assert not looked.healthy
    assert f"--cell {home.cell(0)}" in looked.findings[0].remedy
    assert home.states() == ["complete", "complete", "failed", "complete"]
    with zipfile.ZipFile(paths[2], "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("ids.npy", "labels.npy", "probabilities.npy"):
            packed.writestr(name, bytes(1000))
    torn = bytearray(paths[2].read_bytes())
    torn[30 + len("ids.npy")] = 0xFF  # no kind of block that zlib knows
    paths[2].write_bytes(torn)
    assert home.kinds(deep=True) == ["predictions"] * 3


def test_a_second_result_of_a_cell_does_not_stand_beside_the_first(home: Home) -> None:
    """A run that the ledger does not know is no result where another one is."""
    ledger_gone(home)
    trained: list[str] = []
    home.train(trained)
    assert len(trained) == 5
    fixed = home.examine(fix=True)
    assert {finding.kind for finding in fixed.findings} == {"run-without-trial"}
    assert fixed.healthy
    finished = [run.cell for run in home.tracker.runs() if run.status == "FINISHED"]
    assert len(finished) == len(set(finished)) == 3
    home.check_consistent()


def test_a_worker_that_lives_keeps_its_attempt(home: Home, monkeypatch: Any) -> None:
    """It is reported as not repaired, and repaired when the worker is gone."""
    monkeypatch.setattr("ec_sweep.recording._ORPHAN_WAIT", 0.1)
    with crash_at("executor", "submit", "before", call=1):
        home.drive(retry_failed=True)
    folder = AttemptFolder(home.home.attempt(home.run(2)))
    with folder.lock():
        looked = home.examine(fix=True)
        assert [(f.kind, f.fixed) for f in looked.findings] == [
            ("trial-running", False),
            ("parent-running", True),
        ]
        assert "still being trained" in looked.findings[0].problem
    assert home.examine(fix=True).healthy


def test_a_study_that_is_being_run_is_left_alone(home: Home) -> None:
    """And said so; it is no finding."""
    driver_died(home)
    with study_lock(home.home, NAME, None):
        for fix in (False, True):
            looked = home.examine(fix=fix)
            assert looked.left_alone == [NAME]
            assert looked.findings == []
    assert home.kinds() == ["trial-running", "parent-running"]


def test_files_of_living_processes_are_left_alone(home: Home) -> None:
    """A temporary file names its writer; a dataset's builder holds its lock. Others are users'."""
    from filelock import FileLock

    path = home.home.work / f".x.json.{os.getpid()}-k3_x9abz"
    own = home.home.root / "reports" / ".notes.markdown"
    for file in (path, own):
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, (OLD, OLD))
    half_built(home)
    with FileLock(home.home.data / "enzyme" / ".lock"):
        assert home.kinds(fix=True) == []
    assert path.exists()
    assert own.exists()


def test_damaged_datasets_are_reported(home: Home, dataset: Dataset) -> None:
    """Cards and arrays at once, changed content with --deep."""
    enzyme = home.home.data / "enzyme"
    shutil.copytree(dataset.folder, enzyme / dataset.fingerprint)
    shutil.copytree(dataset.folder, enzyme / "torn")
    (enzyme / "torn" / "dataset.json").write_text("{")
    shutil.copytree(dataset.folder, enzyme / "short")
    (enzyme / "short" / "valid_labels.npy").write_bytes(b"")
    assert home.kinds() == ["dataset-damaged"] * 2
    shutil.rmtree(enzyme / "torn")
    shutil.rmtree(enzyme / "short")
    assert home.kinds(deep=True) == []
    labels = np.load(enzyme / dataset.fingerprint / "test_labels.npy")
    np.save(enzyme / dataset.fingerprint / "test_labels.npy", 1 - labels)
    assert home.kinds() == []
    assert home.kinds(deep=True) == ["dataset-changed"]


def test_databases_that_cannot_be_read_are_left_as_they_are(home: Home) -> None:
    """No repair could tell what was in them."""
    content = bytearray(home.home.studies_db.read_bytes())
    content[8192:12288] = os.urandom(4096)
    home.home.studies_db.write_bytes(content)
    assert home.kinds(fix=True) == ["database-damaged"]
    assert home.home.studies_db.read_bytes() == content
    home.home.studies_db.write_bytes(b"no database at all, whatever it may be called" * 100)
    assert home.kinds(fix=True) == ["database-unreadable"]


def test_artifacts_that_did_not_move_along_are_not_pointed_to(home: Home, tmp_path: Path) -> None:
    """A path is changed only where the files are."""
    home.home.root.rename(tmp_path / "moved")
    moved = Home(tmp_path / "moved", home.plan.datasets["enzyme", "random"])
    shutil.move(moved.home.artifacts, tmp_path / "elsewhere")
    moved.home.artifacts.mkdir()
    (finding,) = moved.examine(fix=True).findings
    assert (finding.kind, finding.fixed) == ("home-moved", False)
    shutil.rmtree(moved.home.artifacts)
    shutil.move(tmp_path / "elsewhere", moved.home.artifacts)
    assert moved.examine(fix=True).healthy
    assert moved.tracker.predictions(moved.run(0)) == predictions()


STEPS = [
    (Runs, "end"),
    (Runs, "restore"),
    (Ledger, "adopt"),
    (Ledger, "finish"),
    (Ledger, "forget"),
    (Tracker, "finish"),
    (Tracker, "forget"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=lambda step: str(step))
def test_a_repair_that_is_killed_is_done_by_the_next(
    home: Home, owner: type, step: str, when: str
) -> None:
    """Whatever was done when it died: the next repair ends with all well."""
    before = home.results()
    run_deleted(home)
    numbers_lost = home.run(1)
    home.sql("mlflow.db", f"DELETE FROM latest_metrics WHERE run_uuid = '{numbers_lost}'")
    driver_died(home)
    home.sql(
        "studies.db",
        "DELETE FROM trials WHERE trial_id = 6",  # of the driver that died
        "DELETE FROM trial_user_attributes WHERE trial_id = 6",
        "DELETE FROM trial_params WHERE trial_id = 6",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(test_study.OWNERS, "doctor", owner)
        with crash_at("doctor", step, when, call=1):
            home.examine(fix=True)
    assert home.examine(fix=True).healthy
    assert home.kinds() == []
    assert home.states() == ["complete", "waiting", "complete", "complete"]
    after = home.results()
    assert {before[home.cell(n)] == after[home.cell(n)] for n in (0, 3)} == {True}
    home.train()
    home.check_consistent()


def test_the_command_says_what_it_found_and_did(ecsweep: Ecsweep, home: Home) -> None:
    """As lines and as one document; 1 when something is left, 0 when all is repaired."""
    missing = ecsweep.run("doctor", "--home", str(ecsweep.home / "nowhere"))
    assert missing.returncode == 2
    assert "no home folder" in missing.stderr
    assert not (ecsweep.home / "nowhere").exists()
    assert "as it should be" in ecsweep.ok("doctor")
    driver_died(home)
    there = ("--home", str(home.home.root))
    looked = ecsweep.run("doctor", "--json", *there)
    assert (looked.returncode, looked.stderr) == (1, "")
    document = json.loads(looked.stdout)
    assert document["home"] == str(home.home.root)
    assert [found["kind"] for found in document["findings"]] == ["trial-running", "parent-running"]
    keys = {"kind", "study", "where", "problem", "remedy", "fixed"}
    assert all(found.keys() == keys for found in document["findings"])
    assert "2 left. Repair with" in ecsweep.run("doctor", *there).stdout
    fixed = ecsweep.ok("doctor", "--fix", *there)
    assert fixed.count("repaired (") == 2
    assert "2 repaired, 0 left" in fixed


def test_nothing_is_written_where_a_home_is_gone(ecsweep: Ecsweep) -> None:
    """Commands that read say so; none makes the folder again."""
    gone = ("--home", str(ecsweep.home / "gone"))
    reading = ("status tiny", "forget tiny --yes", "data list", "report tiny", "ui", "doctor")
    for command in reading:
        assert "no home folder" in ecsweep.fails(*command.split(), *gone)
    assert not (ecsweep.home / "gone").exists()


def test_a_study_whose_driver_was_killed_is_repaired(ecsweep: Ecsweep) -> None:
    """With real workers: everything ends as interrupted, and the study goes on."""
    import psutil

    long = ("--set", "epochs=2000", "--set", "early_stopping=none")
    driver = ecsweep.start("study", "tiny", "--workers", "1", *long)
    path = ecsweep.home / "mlruns" / "work"
    wait_for(lambda: list(path.glob("*/events.jsonl")), process=driver)
    workers = [child.pid for child in psutil.Process(driver.pid).children(recursive=True)]
    left_alone = json.loads(ecsweep.ok("doctor", "--fix", "--json"))
    assert left_alone["left_alone"] == ["tiny@demo"]
    assert left_alone["findings"] == []
    kill(driver)
    wait_for(lambda: not any(alive(pid) for pid in workers))
    kinds = {f["kind"] for f in json.loads(ecsweep.run("doctor", "--json").stdout)["findings"]}
    assert {"trial-running", "parent-running", "log", "holder"} <= kinds
    ecsweep.ok("doctor", "--fix")
    assert "as it should be" in ecsweep.ok("doctor")
    states = [cell["state"] for cell in ecsweep.cells("tiny")]
    assert "running" not in states
