"""The place that all machines of a cluster reach: what is kept there, replaced, and tidied up."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from ec_sweep.agent_handle import _stored
from ec_sweep.attempts import AttemptFolder, Result
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Attempt
from ec_sweep.locations import Location
from ec_sweep.outages import UnavailableError
from ec_sweep.paths import Home
from ec_sweep.recording import Recorder

fsspec = pytest.importorskip("fsspec", reason="the extra ecsweep[ray] is not installed")


@pytest.fixture(params=["folder", "file", "memory"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A shared folder, its address, and a file system that is none of the operating system's."""
    urls = {
        "folder": str(tmp_path / "shared"),
        "file": f"file://{tmp_path}/shared",
        "memory": f"memory://{tmp_path.name}",
    }
    found = Location(urls[request.param], "tiny@demo")
    found.remove_mark(found.check())  # as a driver does, before and after
    return found


def attempt(folder: Path) -> Path:
    (folder / "model").mkdir(parents=True)
    for name in ("predictions.npz", "model/weights.npz", "result.json"):
        (folder / name).write_bytes(name.encode())
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def test_a_checkpoint_is_replaced_and_removed(location: Location, tmp_path: Path) -> None:
    """The newest is found; where there is none, no file is made."""
    path, found = tmp_path / "own.npz", tmp_path / "found" / "cell.npz"
    for text in ("first", "second"):
        path.write_text(text)
        location.push_checkpoint("cell", path)
        location.pull_checkpoint("cell", found)
        assert found.read_text() == text
    location.remove_checkpoint("cell")
    location.remove_checkpoint("cell")
    found.unlink()
    location.pull_checkpoint("cell", found)
    assert not found.exists()
    assert not [p for p in (tmp_path / "shared").rglob("*") if p.is_file()]


def test_an_attempt_counts_once_its_result_is_there(location: Location, tmp_path: Path) -> None:
    """All that it left comes back; without a result nothing does."""
    folder = attempt(tmp_path / "run")
    whole = contents(folder)
    (folder / "result.json").rename(tmp_path / "later")
    location.push_attempt("run", folder)
    assert not location.pull_attempt("run", tmp_path / "early")
    assert not contents(tmp_path / "early") if (tmp_path / "early").exists() else True
    (tmp_path / "later").rename(folder / "result.json")
    location.push_attempt("run", folder)
    assert location.pull_attempt("run", tmp_path / "back")
    assert contents(tmp_path / "back") == whole
    location.remove_attempt("run")
    assert not location.pull_attempt("run", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_a_result_without_its_files_is_none(location: Location, tmp_path: Path) -> None:
    """Who removed them from the place has lost the trial; nothing is recorded as complete."""
    folder = AttemptFolder(tmp_path / "run")
    folder.create()
    result = Result("complete", 1, value=0.5)
    lost = _stored(folder, "run", result, None, location)
    assert (lost.outcome, lost.failure) == ("interrupted", "lost")
    assert folder.result() is None
    location.push_attempt("run", attempt(tmp_path / "elsewhere"))
    assert _stored(folder, "run", result, None, location) == result == folder.result()
    assert (folder.path / "predictions.npz").read_bytes() == b"predictions.npz"


def test_the_checkpoint_of_a_cell_lost_too_often_stays(location: Location, tmp_path: Path) -> None:
    """Its cell goes on from it when it is tried again; that of a cell that failed goes."""
    path = tmp_path / "own.npz"
    path.write_text("x")
    attempts = {
        name: [Attempt(0, name, 1, f"run-{name}", "running", None)] for name in ("lost", "diverged")
    }
    ledger = SimpleNamespace(
        finish=lambda *_: None, attempts=lambda: attempts, forgotten_runs=lambda: []
    )
    tracker = Mock(runs=lambda: [], unfinished=lambda: [])
    recorder = Recorder(Home(tmp_path), "tiny@demo", cast("Any", ledger), tracker, location)
    for name, (attempt,) in attempts.items():
        location.push_checkpoint(name, path)
        recorder.record(attempt, Result("not_available", 1, failure=name))
        attempts[name] = [replace(attempt, state="not_available", failure=name)]
    recorder.repair()
    for name in attempts:
        location.pull_checkpoint(name, tmp_path / f"{name}.npz")
    assert [(tmp_path / f"{name}.npz").exists() for name in attempts] == [True, False]


def test_what_nobody_needs_is_tidied_up(location: Location, tmp_path: Path) -> None:
    """Kept are attempts that live and checkpoints of unfinished cells; other studies' too."""
    folder = attempt(tmp_path / "run")
    path = tmp_path / "own.npz"
    path.write_text("x")
    other = Location(location.url, "other@demo")
    other.push_checkpoint("theirs", path)
    for name in ("alive", "dead"):
        location.push_attempt(name, folder)
        location.push_checkpoint(name, path)
    location.tidy({"alive"}, {"alive"})
    left = []
    for name in ("alive", "dead"):
        location.pull_attempt(name, tmp_path / f"back-{name}")
        location.pull_checkpoint(name, tmp_path / f"{name}.npz")
        left += [(tmp_path / f"back-{name}").exists(), (tmp_path / f"{name}.npz").exists()]
    assert left == [True, True, False, False]
    other.pull_checkpoint("theirs", tmp_path / "theirs.npz")
    assert (tmp_path / "theirs.npz").exists()


def test_a_mark_tells_one_place_from_another(location: Location, tmp_path: Path) -> None:
    """It is seen until it is removed; one that a killed driver left goes with the next."""
    left = location.check()
    mark = location.check()
    assert (location.sees(left), location.sees(mark)) == (False, True)
    assert not Location(str(tmp_path / "other"), "tiny@demo").sees(mark)
    location.remove_mark(mark)
    assert not location.sees(mark)


def test_a_folder_that_is_away_is_no_empty_one(tmp_path: Path) -> None:
    """A mount that failed: a checkpoint and a finished attempt are not gone for that."""
    location = Location(str(tmp_path / "shared"), "tiny@demo")
    location.check()
    location.pull_checkpoint("cell", tmp_path / "cell.npz")  # there is none, and that is fine
    (tmp_path / "shared").rename(tmp_path / "away")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        location.pull_checkpoint("cell", tmp_path / "cell.npz")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        location.check_mounted()


def test_what_cannot_be_looked_at_is_not_taken_for_absent(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the file system is an outage; the finished attempt is still there after it."""
    location.push_attempt("run", attempt(tmp_path / "run"))
    system, _ = location._files

    def broken(*_: object, **__: object) -> None:
        raise OSError("stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(system, "info", broken)
        with pytest.raises(UnavailableError, match="stale file handle"):
            location.pull_attempt("run", tmp_path / "back")
    assert location.pull_attempt("run", tmp_path / "back")


def test_a_place_that_cannot_be_used_is_told_in_a_line(tmp_path: Path) -> None:
    """No such kind of address; a file in the way; an outage is told from bad input."""
    (tmp_path / "file").write_text("")
    for url in ("nope://bucket", str(tmp_path / "file")):
        with pytest.raises(EcsweepError) as refused:
            Location(url, "tiny@demo").check()
        assert url in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Location(str(tmp_path / "file"), "tiny@demo").push_checkpoint("cell", tmp_path / "file")
