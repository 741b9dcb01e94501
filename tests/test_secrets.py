"""Passwords of databases are shown nowhere; the UI is reached from where it is meant to be."""

import signal
import socket
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from ec_sweep import databases, ui
from ec_sweep.errors import EcsweepError
from tests.conftest import Ecsweep, Postgres, kill, wait_for

SECRET = "hunter2x"
URLS = {
    "plain": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:1/db",
    "encoded": f"postgresql+psycopg://me:{SECRET}%40%2F%3A@127.0.0.1:1/db",
    "slash": f"postgresql+psycopg://me:{SECRET}/x@127.0.0.1:1/db",
    "at": f"postgresql+psycopg://me:{SECRET}@y@127.0.0.1:1/db",
    "at and slash": f"postgresql+psycopg://me:a@b/{SECRET}@127.0.0.1:1/db",
    "colon": f"postgresql+psycopg://me:x:{SECRET}@127.0.0.1:1/db",
    "query": f"postgresql+psycopg://me@127.0.0.1:1/db?password={SECRET}",
    "query encoded": f"postgresql+psycopg://me@127.0.0.1:1/db?x=1&password={SECRET}%26z",
    "ssl": f"postgresql+psycopg://me@127.0.0.1:1/db?sslpassword={SECRET}",
    "no such kind": f"nosuch://me:{SECRET}@127.0.0.1:1/db",
    "bad port": f"postgresql+psycopg://me:{SECRET}@127.0.0.1:port/db",
    "no address": f"postgresql+psycopg:/me:{SECRET}@127.0.0.1/db?password={SECRET}",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_no_message_shows_a_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in what drivers and libraries say of an address, nor in a traceback."""
    assert SECRET not in databases.masked(url)
    monkeypatch.setenv("ECSWEEP_STORAGE", url)
    said = f"Traceback\n  OperationalError: cannot connect to {url}: {SECRET} is wrong\n"
    assert SECRET not in databases.without_secrets(said)
    with pytest.raises(EcsweepError) as failed, databases.connection(url):
        pass
    assert SECRET not in databases.without_secrets(str(failed.value))
    monkeypatch.delenv("ECSWEEP_STORAGE")
    monkeypatch.setattr(sys, "argv", ["ecsweep", "status", "tiny", "--storage", url])
    assert SECRET not in databases.without_secrets(said)
    monkeypatch.setattr(sys, "argv", ["ecsweep", "status", "tiny", f"--storage={url}"])
    assert SECRET not in databases.without_secrets(said)


def test_addresses_keep_what_is_no_secret() -> None:
    """User, host and database are needed to see what is wrong."""
    url = "postgresql+psycopg://me:secret@db.example:5433/ledger?sslmode=require&password=x"
    shown = "postgresql+psycopg://me:***@db.example:5433/ledger?sslmode=require"
    assert databases.masked(url) == shown
    assert databases.without_secrets(shown) == shown
    said = "sqlite:////home/me@work/studies.db: cannot be opened; see http://127.0.0.1:5000"
    assert databases.without_secrets(said) == said


@pytest.mark.parametrize("variable", ["ECSWEEP_STORAGE", "MLFLOW_TRACKING_URI"])
def test_a_server_that_does_not_answer_is_one_line_at_once(ecsweep: Ecsweep, variable: str) -> None:
    """Without its password, and without MLflow's two minutes of trying again."""
    line = ecsweep.fails("status", "tiny", **{variable: URLS["encoded"]})
    assert "postgresql+psycopg://me:***@127.0.0.1:1/db: the database cannot be used" in line
    assert SECRET not in line


def test_a_password_on_the_command_line_is_warned_of(postgres: Postgres, ecsweep: Ecsweep) -> None:
    """The list of processes shows it to other users; the environment does not."""
    address = postgres.new()
    url = address.replace("postgres:@", f"postgres:{SECRET}@")
    done = ecsweep.run("status", "tiny", "--storage", url)
    assert done.returncode == 0
    assert done.stderr.startswith("Warning: other users of this machine can see the password")
    assert "ECSWEEP_STORAGE" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert ecsweep.run("status", "tiny", "--storage", address).stderr == ""
    assert ecsweep.run("status", "tiny", ECSWEEP_STORAGE=url).stderr == ""


@pytest.mark.parametrize("storage", ["mlruns/mlflow.db", "mlruns/../mlruns/mlflow.db"])
def test_one_sqlite_file_for_both_is_refused(ecsweep: Ecsweep, storage: str) -> None:
    """However it is spelled."""
    url = f"sqlite:///{ecsweep.home}/{storage}"
    assert "two databases" in ecsweep.fails("study", "tiny", "--storage", url)
    assert not (ecsweep.home / "mlruns").exists()


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        *((host, False) for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2")),
        *((host, True) for host in ("0.0.0.0", "::", "10.1.2.3", "gpu.example")),
    ],
)
def test_an_address_that_others_reach_is_warned_of(host: str, warned: bool) -> None:
    """With what to do instead."""
    warning = ui.warning(host, 5001)
    assert (warning is not None) == warned
    assert warning is None or "ssh -L 5001:127.0.0.1:5001" in warning


def test_the_ui_on_another_address_answers_to_its_own_names_only(
    postgres: Postgres, ecsweep: Ecsweep
) -> None:
    """MLflow refuses other names than its own: ours are given to it, and a password is not seen."""
    tracking = postgres.new().replace("postgres:@", f"postgres:{SECRET}@")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    from mlflow import MlflowClient

    empty = ecsweep.fails("ui", MLFLOW_TRACKING_URI=tracking)
    assert "holds no runs yet" in empty
    MlflowClient(tracking).create_experiment("x@demo")
    process = ecsweep.start(
        "ui", "--host", "0.0.0.0", "--port", str(port), MLFLOW_TRACKING_URI=tracking
    )

    def ask(host: str, origin: str = "") -> int:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search",
            data=b'{"max_results": 5}',
            headers={"Host": host, "Content-Type": "application/json"}
            | ({"Origin": origin} if origin else {}),
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert b"x@demo" in answer.read()
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    try:
        assert process.stdout
        lines = []
        wait_for(
            lambda: (lines.append(process.stdout.readline()), "MLflow UI on" in lines[-1])[1],
            process=process,
        )
        assert "can read, change and delete all runs" in lines[0]
        name = f"{socket.gethostname()}:{port}"
        assert f"http://{name}" in lines[-1]
        assert ask(name, f"http://{name}") == 200
        assert ask(f"127.0.0.1:{port}") == 200
        assert ask("evil.example") == 403
        assert ask(name, "http://evil.example") == 403
        for child in psutil.Process(process.pid).children(recursive=True):
            assert SECRET not in " ".join(child.cmdline())
        log = ecsweep.home / "mlruns" / "work" / f"ui-{port}.log"
        assert log.stat().st_mode & 0o777 == 0o600
        assert SECRET not in log.read_text() + "".join(lines)
    finally:
        kill(process, signal.SIGINT)
