"""Studies from Python: what the commands do, with data frames and without a terminal."""

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ec_sweep
from ec_sweep import EcsweepError, Study, frames, hints
from tests.conftest import Ecsweep

SWEEP: Mapping[str, Any] = {
    "study": "from-python",
    "title": "A study small enough for tests",
    "dataset": "enzyme",
    "fixed": {"model": "cnn", "filters": 4, "hidden": (8,), "batch_size": 16, "epochs": 1},
    "grid": {"filter_size": [2, 3], "learning_rate": [1e-5, 0.01]},
    "scales": {"demo": {"length": 40, "train_size": 64}},
}


@pytest.fixture(autouse=True)
def _as_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [n for n in os.environ if n.startswith(("ECSWEEP", "MLFLOW"))]:
        monkeypatch.delenv(name)
    yield
    hints.repeat({})  # a process of tests advises other studies, too


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Ecsweep, str]:
    """A study given as a mapping that has run, its home, and what was printed."""
    home = Ecsweep(tmp_path_factory.mktemp("python"))
    study = Study(SWEEP, home=home.home)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        cells = study.run(workers=1)
    assert cells["state"].tolist() == ["complete"] * 4
    return study, home, said.getvalue()


def test_importing_the_package_is_light() -> None:
    """Commands and workers import it first of all."""
    code = (
        "import sys, ec_sweep\nheavy = ('pandas', 'mlflow', 'optuna', 'tensorflow', 'typer')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "ec_sweep.Study\nprint([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n[]\n", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        _ = ec_sweep.Studdy  # type: ignore[attr-defined]


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    """A row for each cell, its values as they are; the home stays as empty as it was."""
    study = Study(SWEEP, home=tmp_path / "home")
    plan = study.plan(seeds=2, overrides={"learning_rate": [0.1], "hidden": [4, 4]})
    assert plan["filter_size"].tolist() == [2, 2, 3, 3]
    assert plan["seed"].tolist() == [0, 1, 0, 1]
    assert set(plan["learning_rate"]) == {0.1}
    assert plan["hidden"].tolist() == [[4, 4]] * 4
    assert set(plan["state"]) == {"waiting"}
    assert study.plan()["learning_rate"].tolist() == [1e-5, 0.01] * 2
    assert list(tmp_path.iterdir()) == []


def test_results_are_those_of_the_command(ran: tuple[Study, Ecsweep, str]) -> None:
    """Tidy rows, the study's table, and the states: from the same runs as the files."""
    study, home, said = ran
    assert "[4/4]" in said
    tidy = study.results()
    assert tidy["filter_size"].tolist() == [2, 2, 3, 3]
    assert tidy["learning_rate"].tolist() == [1e-5, 0.01] * 2
    assert tidy["n"].tolist() == [1] * 4
    assert tidy["test_accuracy"].between(0, 1).all()
    assert "ACC" in " ".join(study.table().columns)
    written = pd.read_csv(home.home / "reports" / "demo" / "from-python.csv")
    assert written["test_accuracy"].tolist() == tidy["test_accuracy"].tolist()
    assert study.status()["state"].tolist() == ["complete"] * 4
    assert study.name == "from-python"


def test_commands_find_a_study_that_was_given_in_python(ran: tuple[Study, Ecsweep, str]) -> None:
    """By its name, with the same cells; and Python finds it so."""
    study, home, _ = ran
    cells = home.cells("from-python")
    assert [cell["cell"] for cell in cells] == study.status()["cell"].tolist()
    by_name = Study("from-python", home=home.home)
    assert by_name.plan()["cell"].tolist() == study.status()["cell"].tolist()
    assert by_name.run()["state"].tolist() == ["complete"] * 4  # nothing is left to run


def test_reports_and_predictions(ran: tuple[Study, Ecsweep, str], tmp_path: Path) -> None:
    """The files that were written; a row for each sequence, however it is given."""
    study, _, _ = ran
    files = study.report(["csv", "markdown"], out=tmp_path / "out")
    assert all(file.is_file() for file in files)
    assert {file.suffix for file in files} == {".csv", ".md", ".json"}
    letters = "MKTAYIAKQR" * 6
    named = study.predict({"one": letters, "NA": "MK-T"})
    assert named["id"].tolist() == ["one", "NA"]
    assert named["flags"].tolist() == ["cut", "invalid_sequence"]
    assert named["predicted"][0] in ("enzyme", "non-enzyme")
    assert named["enzyme"][0] + named["non-enzyme"][0] == pytest.approx(1)
    assert pd.isna(named["enzyme"][1])
    (tmp_path / "some.fasta").write_text(f">one\n{letters}\n")
    from_file = study.predict(tmp_path / "some.fasta")
    assert from_file["enzyme"][0] == named["enzyme"][0]
    best = study.predict([letters], top=1)
    assert best["id"].tolist() == ["1"]
    assert best["predicted"][0] == named["predicted"][0]
    with pytest.raises(EcsweepError, match="under names without blanks"):
        study.predict({"two words": letters})
    with ThreadPoolExecutor(1) as pool:  # as a web application does
        second = pool.submit(study.predict, [letters], top=2).result()
    assert {second["predicted"][0], second["class_2"][0]} == {"enzyme", "non-enzyme"}


def test_classes_that_look_like_numbers_stay_text() -> None:
    """3.10 is another class than 3.1."""
    names = ("predicted", "class_2", "class_3")
    found = frames.of_table("predicted\tclass_2\tprobability_2\n3.1\t3.10\t0.5\n", "\t", names)
    assert found["class_2"][0] == "3.10"
    assert found["probability_2"][0] == 0.5


def test_a_study_stays_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its home and its file are not looked for anew where a notebook has changed its folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(json.dumps(SWEEP))
    study = Study("./own.yaml")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(study.status()) == 4
    assert repr(study).endswith(f"home={str(tmp_path)!r})")


def test_values_are_given_as_python_has_them(tmp_path: Path) -> None:
    """Ranges and NumPy's numbers in overrides; what is no value is told by its name."""
    study = Study(SWEEP, home=tmp_path)
    cells = study.plan(overrides={"filter_size": range(2, 5), "filters": np.int64(3)})
    assert sorted(set(cells["filter_size"])) == [2, 3, 4]
    assert set(cells["filters"]) == {3}
    with pytest.raises(EcsweepError, match="overrides: filters must be a number"):
        study.plan(overrides={"filters": object()})
    with pytest.raises(EcsweepError, match="must be a time such as"):
        study.run(checkpoint_every=-1)


def test_one_cell_is_forgotten_and_trained_again(ran: tuple[Study, Ecsweep, str]) -> None:
    """Nobody is asked; the other cells stay; nothing runs that could be cancelled."""
    study, _, _ = ran
    cell = str(study.status()["cell"][0])
    assert study.forget(cell) == 1
    assert study.forget(cell) == 0
    assert study.status()["state"].tolist() == ["waiting", *["complete"] * 3]
    assert study.cancel()
    assert study.run(workers=1)["state"].tolist() == ["complete"] * 4


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ("no-such-study", "no study is named 'no-such-study'"),
        ({"study": "Bad Name"}, r"^Study\(...\): study must be a name"),
        ({**SWEEP, "grids": 3}, r"^Study\(...\): unknown key 'grids'. Did you mean 'grid'"),
        ({**SWEEP, "title": object()}, r"^Study\(...\): "),
        (Path("nothing"), "nothing: cannot be read"),
    ],
)
def test_what_cannot_be_a_study_is_told(study: Any, said: str, tmp_path: Path) -> None:
    """As the commands tell it, of the argument and not of a file that the user does not know."""
    with pytest.raises(EcsweepError, match=said):
        Study(study, home=tmp_path)


def test_bad_arguments_are_told(tmp_path: Path) -> None:
    """In one line, and nothing is written."""
    study = Study(SWEEP, home=tmp_path / "home")
    for call, said in (
        (lambda: study.run(workers=0), "--workers must be from 1 to 1024"),
        (lambda: study.run(executor="elsewhere"), "executor must be one of local, inline, ray"),  # type: ignore[arg-type]
        (lambda: study.run(overrides={"filter": 3}), "Did you mean 'filters'"),
        (lambda: study.run(seeds=2, defaults=True), "--defaults asks for the file as it is"),
        (lambda: study.report("csv"), "formats must be a list"),
        (lambda: study.report(["gif"]), "formats must be a list"),
        (lambda: study.results(), "has not been run at demo scale"),
        (lambda: study.predict(["MKT"]), "no model of from-python@demo is saved"),
        (lambda: Study(SWEEP, scale="mine"), "scale must be one of demo, paper"),  # type: ignore[arg-type]
        (lambda: Study(SWEEP, models=tmp_path / "x.py"), "cannot be read"),
    ):
        with pytest.raises(EcsweepError, match=said):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_run_from_the_main_thread(tmp_path: Path) -> None:
    """Elsewhere Ctrl-C could not be heeded: that is said."""
    study, said = Study(SWEEP, home=tmp_path), []

    def run() -> None:
        try:
            study.run()
        except EcsweepError as error:
            said.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == ["a study is run from the main thread, which Ctrl-C reaches."]


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    """Workers do not run it again, as Python's own pools would: it prints once, and ends."""
    (tmp_path / "script.py").write_text(
        "from ec_sweep import Study\nprint('begin')\n"
        f"study = Study({json.dumps({**SWEEP, 'grid': {'filter_size': [2]}})}, home='home')\n"
        "print(study.run(workers=1)['state'].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=Ecsweep(tmp_path).environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begin") == 1
    assert done.stdout.splitlines()[-1] == "['complete']"
    logs = "".join(path.read_text() for path in (tmp_path / "home").rglob("*.log"))
    assert "begin" not in logs


def test_advised_commands_lead_to_the_study_that_is_meant(tmp_path: Path) -> None:
    """With the home and the models that Python was given."""
    Study(SWEEP, home=tmp_path)
    assert hints.command("status", "from-python").endswith(f"--home {tmp_path}")
