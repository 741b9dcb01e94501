"""One driver per study: who holds it, waiting for it, and stopping it from elsewhere."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from ec_sweep import cancelling
from ec_sweep.errors import EcsweepError
from ec_sweep.holders import Holder, process_start
from ec_sweep.locks import StudyLock, holder_of, study_lock
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from tests.conftest import Ecsweep, kill, wait_for

NAME = "scripted@demo"
DRIVER = """
import sys, time
from pathlib import Path
from ec_sweep.app import Interrupts
from ec_sweep.locks import study_lock
from ec_sweep.paths import Home
interrupts = Interrupts()
with study_lock(Home(Path(sys.argv[1])), sys.argv[2], sys.argv[3] or None), interrupts.caught():
    print("holds", flush=True)
    while interrupts() < int(sys.argv[4]):
        time.sleep(0.05)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    home.prepare()
    return home


def driver(
    home: Home, storage: str | None = None, stops: int = 1, name: str = NAME
) -> "subprocess.Popen[str]":
    """Start a process that holds the study until it is asked ``stops`` times to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(home.root), name, storage or "", str(stops)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "holds\n"
    return process


def test_the_second_driver_is_told_who_runs_the_study(home: Home) -> None:
    """Host, process and start, with what to do; a killed one frees it at once."""
    process = driver(home)
    who = rf"process {process.pid} on {socket.gethostname()} since \d{{4}}-"
    with pytest.raises(EcsweepError, match=who), study_lock(home, NAME, None):
        pass
    holder = holder_of(home, NAME, None)
    assert holder
    assert holder.alive
    kill(process)
    assert not holder.alive
    with study_lock(home, NAME, None) as lock:
        assert lock.check()
        assert getattr(holder_of(home, NAME, None), "pid", None) == os.getpid()
    assert holder_of(home, NAME, None) is None


@pytest.mark.parametrize(
    "note",
    [
        "not json",
        '{"pid": 1}',
        json.dumps({"host": socket.gethostname(), "pid": 1, "since": "2020", "started": "0"}),
        json.dumps({"host": socket.gethostname(), "pid": 4_000_000, "since": "", "started": "1"}),
    ],
)
def test_a_note_of_a_driver_that_is_gone_misleads_nobody(
    home: Home, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither who holds the lock now nor what may be stopped is taken from it."""
    monkeypatch.setattr("ec_sweep.locks._UNNAMED", 0.2)
    path = home.study_lock(NAME).with_suffix(".holder.json")
    path.write_text(note)
    assert holder_of(home, NAME, None) is None
    process = driver(home)
    path.write_text(note)
    who = "run by another process"
    with pytest.raises(EcsweepError, match=who), study_lock(home, NAME, None):
        pass
    with pytest.raises(EcsweepError, match="where it runs"):
        cancelling.cancel(Place(home), NAME, 1, print)
    kill(process)


def test_a_lock_whose_file_was_removed_is_lost(home: Home) -> None:
    """Another driver could hold the new file's."""
    with study_lock(home, NAME, None) as lock:
        home.study_lock(NAME).unlink()
        with pytest.raises(EcsweepError, match="was removed"):
            lock.check()


def test_waiting_says_once_for_whom_and_goes_on_when_it_is_free(home: Home) -> None:
    """With --wait a study begins when its driver has ended."""
    process = driver(home)
    said: list[str] = []

    def wait(line: str) -> None:
        said.append(line)
        process.send_signal(signal.SIGTERM)

    with study_lock(home, NAME, None, wait):
        assert process.wait(60) == 0
    assert len(said) == 1
    assert f"run by process {process.pid} on " in said[0]


def test_ctrl_c_ends_the_waiting(ecsweep: Ecsweep) -> None:
    """Exit code 130, and the one waited for goes on."""
    home = Home(ecsweep.home)
    home.prepare()
    process = driver(home, name="tiny@demo")
    waiting = ecsweep.start("study", "tiny", "--wait")
    assert waiting.stdout
    wait_for(lambda: "Waiting for tiny@demo" in waiting.stdout.readline(), process=waiting)
    time.sleep(0.5)
    kill(waiting, signal.SIGINT)
    assert waiting.returncode == 130
    assert process.poll() is None
    kill(process)


def test_cancel_stops_a_driver_and_waits_for_it(home: Home) -> None:
    """Asked once it may take its time; asked again it ends at once."""
    process = driver(home, stops=2)
    said: list[str] = []
    end = cancelling.cancel(Place(home), NAME, 1, said.append)
    assert end == cancelling.Cancelled(Holder(**json.loads(note(home))), stopped=False)
    assert f"Asked process {process.pid} on " in said[0]
    end = cancelling.cancel(Place(home), NAME, 60, said.append)
    assert end
    assert end.stopped
    assert process.wait(60) == 0
    assert cancelling.cancel(Place(home), NAME, 1, said.append) is None


def note(home: Home) -> str:
    return home.study_lock(NAME).with_suffix(".holder.json").read_text()


def test_cancel_on_another_machine_says_where(home: Home) -> None:
    """A shared folder shows the lock of a driver that no signal from here reaches."""
    process = driver(home)
    elsewhere = {**json.loads(note(home)), "host": "gpu-7"}
    home.study_lock(NAME).with_suffix(".holder.json").write_text(json.dumps(elsewhere))
    with pytest.raises(EcsweepError, match="use this command on gpu-7"):
        cancelling.cancel(Place(home), NAME, 1, print)
    assert process.poll() is None
    kill(process)


def test_a_process_that_took_over_the_number_is_not_the_holder() -> None:
    """Its start tells; a zombie is gone."""
    mine = process_start(os.getpid())
    assert mine
    host = socket.gethostname()
    assert Holder(host, os.getpid(), "", mine).alive
    assert not Holder(host, os.getpid(), "", str(int(mine) + 1)).alive
    zombie = subprocess.Popen(["true"])
    wait_for(lambda: process_start(zombie.pid) is None)
    zombie.wait()


def test_cancelling_what_nothing_runs_is_fine(ecsweep: Ecsweep) -> None:
    """It is already as asked for: exit code 0."""
    assert ecsweep.ok("cancel", "tiny") == "Nothing runs tiny@demo.\n"
    assert "no study is named" in ecsweep.fails("cancel", "tyni")


def test_work_files_are_their_owners_alone(home: Home) -> None:
    """Other users of the machine see neither progress nor logs."""
    assert home.work.stat().st_mode & 0o777 == 0o700
    with study_lock(home, NAME, None):
        for path in home.work.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path
    home.work.chmod(0o755)  # as older versions made it
    home.prepare()
    assert home.work.stat().st_mode & 0o777 == 0o700


def test_a_lock_that_is_only_looked_at_refuses_nobody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` looks whether a study is driven; the study that begins then is not turned away."""
    monkeypatch.setattr("ec_sweep.locks._UNNAMED", 30)  # seconds: a look may be slow
    taken = threading.Event()

    def look() -> None:
        with FileLock(home.study_lock(NAME)):
            taken.set()
            time.sleep(0.3)

    threading.Thread(target=look).start()
    taken.wait()
    lock = StudyLock(home, NAME, None)
    assert lock.take() is None
    lock.release()
