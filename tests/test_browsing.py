"""A study in a browser: its page in MLflow's UI, and optuna-dashboard on its ledger."""

import contextlib
import json
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from optuna.exceptions import StorageInternalError

from ec_sweep import dashboard as dashboard_module
from ec_sweep import describing, ledger_store
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.layouts import Table
from ec_sweep.paths import Home
from ec_sweep.planning import Place, StudyStatus, resolve, status
from ec_sweep.spec import Request
from ec_sweep.study_page import MOST
from tests.browser import Browser, Tab, browser
from tests.conftest import Ecsweep, Postgres, kill, wait_for
from tests.test_study import NAME, Setup

__all__ = ["browser"]  # a fixture

TITLE = "A study small enough for tests"
CELLS = [f"filter_size={size} learning_rate={rate}" for size in (2, 3) for rate in (0.01, 0.001)]
WIDE = (1600, 1000)
SECRET = "hunter2x"
NOT_OURS = re.compile(r"/users/current: 404|status of 404|ResizeObserver|ERR_ABORTED")
"""MLflow asks who is logged in where nobody can be; what leaves a page ends its requests."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(home: Ecsweep, *command: str, **more: str) -> Iterator[str]:
    """Run a command that serves; yields the address that it prints, and ends it with Ctrl-C."""
    process = home.start(*command, "--port", str(free_port()), **more)
    said: list[str] = []
    try:
        assert process.stdout
        wait_for(
            lambda: (said.append(process.stdout.readline()), " on http" in said[-1])[1],
            process=process,
        )
        (address,) = re.findall(r"http://\S+", said[-1])
        yield address
    finally:
        left = kill(process, signal.SIGINT)
    assert process.returncode == 0, left
    assert "Traceback" not in left


@pytest.fixture(scope="module")
def ui(finished: Ecsweep) -> Iterator[str]:
    """The address that ``ecsweep ui --study tiny`` prints, while it serves."""
    with serving(finished, "ui", "--study", "tiny") as address:
        yield address


@pytest.fixture(scope="module")
def dashboard(finished: Ecsweep) -> Iterator[str]:
    """The address that ``ecsweep dashboard`` prints, while it serves."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    with serving(finished, "dashboard") as address:
        yield address


def client(home: Ecsweep) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home.home}/mlruns/mlflow.db")


def check(tab: Tab, address: str) -> None:
    """Nothing failed but what always does, and nothing was asked of other machines."""
    root = "/".join(address.split("/")[:3])
    assert [error for error in tab.errors if not NOT_OURS.search(error)] == []
    assert [url for url in tab.failed if not NOT_OURS.search(url)] == []
    assert [url for url in tab.requests if not url.startswith((root, "data:", "blob:"))] == []


def shows(tab: Tab, text: str) -> None:
    tab.page.get_by_text(text, exact=True).first.wait_for()


def test_the_ui_lands_on_the_page_of_a_study(ui: str, browser: Browser) -> None:
    """All runs by name, the best by validation accuracy first, with what varies and its metrics."""
    with browser.open(ui, size=WIDE) as tab:
        for name in (*CELLS, "tiny@demo", "filter_size", "learning_rate", "val_accuracy"):
            shows(tab, name)
        check(tab, ui)


def test_children_are_nested_under_their_study(ui: str, browser: Browser) -> None:
    """On the experiment's own page the study is one line, which opens to its runs."""
    plain = f"{ui.partition('?')[0]}?workflowType=machine_learning"
    with browser.open(plain, size=WIDE) as tab:
        shows(tab, "tiny@demo")
        assert tab.page.get_by_text(CELLS[0], exact=True).count() == 0
        tab.page.locator("button[data-component-id*=runnamecellrenderer]").first.click()
        for name in CELLS:
            shows(tab, name)
        check(tab, plain)


def test_the_charts_show_curves(ui: str, browser: Browser) -> None:
    """Validation accuracy by epoch comes first, a line for each run."""
    charts = f"{ui}&compareRunsMode=CHART"
    with browser.open(charts, size=WIDE) as tab:
        shows(tab, "Learning curves")
        shows(tab, "val_accuracy")
        lines = tab.page.locator(".js-plotly-plot .scatterlayer .trace.scatter")
        wait_for(lambda: tab.page.wait_for_timeout(200) or lines.count() >= len(CELLS))
        check(tab, charts)


def test_the_description_tells_the_sweep_and_its_result(ui: str, browser: Browser) -> None:
    """Title, data, grid and result table, as a table, on the study's own run."""
    home = ui.partition("/runs")[0]
    root = ui.partition("/#")[0]
    asked = urllib.request.Request(
        f"{root}/ajax-api/2.0/mlflow/runs/search",
        data=json.dumps(
            {
                "experiment_ids": [home.rpartition("/")[2]],
                "filter": "tags.`ecsweep.role` = 'study'",
            }
        ).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:
        (run,) = json.load(answer)["runs"]
    with browser.open(f"{home}/runs/{run['info']['run_id']}", size=WIDE) as tab:
        shows(tab, TITLE)
        tables = tab.page.locator("table", has_text="learning_rate")
        tables.first.wait_for()
        text = tab.page.inner_text("body")
        assert "0.01, 0.001" in text
        assert "4 cells: 4 complete." in text
        assert tab.page.locator("table", has_text="ACC").count() > 0
        assert "[//]" not in text  # the signature is not shown
        check(tab, ui)


def test_a_description_that_somebody_changed_stays(copied: Ecsweep) -> None:
    """Ours is written anew with each end of the study; theirs is left."""
    found = client(copied).get_experiment_by_name("tiny@demo")
    note = found.tags["mlflow.note.content"]
    assert "4 cells: 4 complete" in note
    changed = note.replace(TITLE, "Mine")
    client(copied).set_experiment_tag(found.experiment_id, "mlflow.note.content", changed)
    said = copied.ok("study", "tiny", "--set", "filter_size=[2]")  # which has run already
    assert "started" not in said
    tags = client(copied).get_experiment(found.experiment_id).tags
    assert tags["mlflow.note.content"] == changed
    (parent,) = client(copied).search_runs([found.experiment_id], "tags.`ecsweep.role` = 'study'")
    assert "2 cells: 2 complete" in parent.data.tags["mlflow.note.content"]


def tiny(home: Ecsweep, monkeypatch: pytest.MonkeyPatch) -> StudyStatus:
    monkeypatch.chdir(home.home)
    place = Place(Home(home.home))
    return status(place, resolve(place, "tiny", Request()))


def test_a_long_table_is_cut_to_what_mlflow_keeps(
    finished: Ecsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first rows stay, whole, and how many there are is said."""
    rows = [(str(number),) for number in range(5000)]
    table = Table(["Filter size"], rows, ["ACC"], [["0.5000"]] * 5000, "Long", "tab:long", [])
    text = describing.text(tiny(finished, monkeypatch), table)
    assert MOST * 0.7 < len(text) <= MOST
    assert re.search(r"The first \d+ of 5,000 rows", text)
    assert "| 0 | 0.5000 |" in text
    rows = [(str(number // 3), name) for number in range(60) for name in ("ours", "paper", "diff.")]
    compared = replace(table, row_names=["Filter size", ""], rows=rows, cells=[["x" * 90]] * 180)
    text = describing.text(tiny(finished, monkeypatch), compared)
    kept = re.search(r"The first (\d+) of 180 rows", text)
    assert kept
    assert int(kept[1]) % 3 == 0  # ours is never shown without the paper's
    monkeypatch.setattr(describing, "MOST", 100)  # less than what comes before the table
    assert "The first 3 of 180 rows" in describing.text(tiny(finished, monkeypatch), compared)


def test_names_in_a_description_are_no_markup(ecsweep: Ecsweep, monkeypatch: Any) -> None:
    """A title is shown as it was written."""
    path = ecsweep.home / "sweeps" / "tiny.yaml"
    path.write_text(path.read_text().replace(TITLE, "'<b>A*B*C</b> | $x$'"))
    text = describing.text(tiny(ecsweep, monkeypatch))
    assert r"**&lt;b&gt;A\*B\*C&lt;/b&gt; \| \$x\$**" in text


def test_mlflow_knows_data_and_model(finished: Ecsweep) -> None:
    """The study's run has its dataset, the model its run's last metrics, measured on that."""
    mlflow = client(finished)
    number = mlflow.get_experiment_by_name("tiny@demo").experiment_id
    (parent,) = mlflow.search_runs([number], "tags.`ecsweep.role` = 'study'")
    (data,) = (given.dataset for given in parent.inputs.dataset_inputs)
    assert data.name == "enzyme, random split"
    assert json.loads(data.profile)["train_sequences"] > 64
    (model,) = mlflow.search_logged_models([number])
    run = mlflow.get_run(model.source_run_id)
    assert data.digest == run.data.tags["ecsweep.dataset"][:12]
    assert model.params == run.data.params
    assert {metric.key: metric.value for metric in model.metrics} == run.data.metrics
    assert {(metric.dataset_name, metric.dataset_digest) for metric in model.metrics} == {
        (data.name, data.digest)
    }
    for metric in ("val_accuracy", "train_loss"):  # the curve has each epoch once
        history = mlflow.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in history] == [1, 2]


def test_a_study_that_has_no_page_is_one_line(finished: Ecsweep) -> None:
    """Unknown, or never run at that scale."""
    assert "no study is named 'nope'" in finished.fails("ui", "--study", "nope")
    line = finished.fails("ui", "--study", "cnn-filters")
    assert "cnn-filters has not been run at demo scale. Run it with: ecsweep study" in line
    line = finished.fails("ui", "--study", "tiny", "--scale", "paper")
    assert "tiny has not been run at paper scale" in line


def test_the_page_opens_in_the_users_browser_when_asked(finished: Ecsweep, tmp_path: Path) -> None:
    """With --open alone; the address is the one that is printed."""
    opened = tmp_path / "opened"
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\nprintf %s "$1" >{opened}\n')
    program.chmod(0o755)
    with serving(finished, "ui", "--study", "tiny", "--open", BROWSER=f"{program} %s") as address:
        wait_for(opened.exists)
        assert opened.read_text() == address
    with serving(finished, "ui", "--study", "tiny", "--open", BROWSER="/nowhere/browser") as other:
        assert other.endswith(address.partition("/#")[2])


def test_studies_on_an_mlflow_server_are_found_there(finished: Ecsweep, ui: str) -> None:
    """Nothing is served; the address on the server is printed."""
    root = ui.partition("/#")[0]
    said = finished.ok("ui", "--study", "tiny", MLFLOW_TRACKING_URI=root)
    assert said.strip() == f"tiny@demo: {ui}"


def test_the_dashboard_shows_the_ledger(dashboard: str, browser: Browser) -> None:
    """The study is listed, and its trials are drawn."""
    with browser.open(dashboard, size=WIDE) as tab:
        shows(tab, "1. tiny@demo")
        tab.page.get_by_text("1. tiny@demo", exact=True).first.click()
        tab.page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
        check(tab, dashboard)


def ask(address: str, method: str, body: object = None, host: str = "") -> int:
    request = urllib.request.Request(
        address,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"} | ({"Host": host} if host else {}),
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_dashboard_changes_nothing(finished: Ecsweep, dashboard: str) -> None:
    """Its buttons would delete, rename, make and annotate studies."""
    root = dashboard.removesuffix("/dashboard")
    before = finished.cells("tiny")
    assert ask(f"{root}/api/studies/1", "GET") == 200
    assert ask(f"{root}/api/studies/1", "DELETE", {}) == 405
    assert ask(f"{root}/api/studies/1/rename", "POST", {"study_name": "x"}) == 405
    new = {"study_name": "x", "directions": ["minimize"]}
    assert ask(f"{root}/api/studies", "POST", new) == 405
    assert ask(f"{root}/api/studies/1/note", "PUT", {"version": 1, "body": "x"}) == 405
    assert finished.cells("tiny") == before
    assert finished.sql("studies.db", "SELECT study_name FROM studies") == [("tiny@demo",)]


def test_the_dashboard_answers_to_this_machines_name_alone(dashboard: str) -> None:
    """A page elsewhere cannot make a browser ask in its stead."""
    root = dashboard.removesuffix("/dashboard")
    assert ask(f"{root}/api/studies", "GET", host="evil.example") == 403
    assert ask(f"{root}/api/studies", "GET", host="localhost:9000") == 200  # as through ssh


def refuses(home: Ecsweep, storage: str | None, study: str) -> None:
    """The database itself refuses to delete, whoever asks."""
    opened = ledger_store.open_to_read(Home(home.home), storage)
    number = opened.get_study_id_from_name(study)
    trials = len(opened.get_all_trials(number))
    assert trials
    with pytest.raises(StorageInternalError) as refused:
        opened.delete_study(number)
    assert re.search("read-?only", str(refused.value.__cause__))
    assert len(opened.get_all_trials(number)) == trials
    opened.engine.dispose()


def test_sqlite_refuses_what_the_dashboard_would_write(finished: Ecsweep) -> None:
    """Were the server to let it through."""
    refuses(finished, None, "tiny@demo")


def test_postgresql_refuses_what_the_dashboard_would_write(
    postgres: Postgres, ecsweep: Ecsweep, dataset: Dataset
) -> None:
    """And the password of the ledger's address is shown by no message and no process."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    storage = postgres.new().replace("postgres:@", f"postgres:{SECRET}@")
    line = ecsweep.fails("dashboard", ECSWEEP_STORAGE=storage)
    assert "no ledger" in line
    assert SECRET not in line
    Setup(ecsweep.home, dataset, storage).drive()
    refuses(ecsweep, storage, NAME)
    with serving(ecsweep, "dashboard", ECSWEEP_STORAGE=storage) as address:
        root = address.removesuffix("/dashboard")
        assert ask(f"{root}/api/studies/1", "GET") == 200
        assert ask(f"{root}/api/studies/1", "DELETE", {}) == 405


def test_a_ledger_that_cannot_be_kept_from_writing_is_not_shown(ecsweep: Ecsweep) -> None:
    """Of other databases it is not known how to."""
    with pytest.raises(EcsweepError, match="only SQLite and PostgreSQL") as error:
        ledger_store.open_to_read(Home(ecsweep.home), f"mysql://me:{SECRET}@127.0.0.1/ledger")
    assert SECRET not in str(error.value)


def test_a_missing_dashboard_names_its_cure(
    finished: Ecsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EcsweepError, match=r"pip install 'ecsweep\[dashboard\]'"):
        dashboard_module.serve(Place(Home(finished.home)), 8080, print)


def test_bad_ports_and_no_ledger_are_one_line(finished: Ecsweep, ecsweep: Ecsweep) -> None:
    """Before anything is served."""
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    assert "--port must be from 1 to 65535" in finished.fails("dashboard", "--port", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 is not free" in finished.fails(
            "dashboard", "--port", port
        )
    assert "no ledger" in ecsweep.fails("dashboard", "--port", str(free_port()))
    assert not (ecsweep.home / "mlruns").exists()
