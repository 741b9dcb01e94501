"""What agents keep on a node: a dataset once for all, removed by whoever leaves last."""

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from ec_sweep.errors import EcsweepError
from ec_sweep.node_files import NodeFiles

ARRAYS = {"train_tokens.npy": np.arange(12, dtype=np.uint8).reshape(3, 4)}


def agent(root: Path, name: str, connection: Connection) -> None:
    """Be an agent that holds a dataset until it is told to leave, or killed."""
    files = NodeFiles(name, root)
    files.dataset("print", ARRAYS, lambda array: array)
    files.attempt("run").mkdir()
    connection.send("holds")
    connection.recv()
    files.leave()
    connection.send("left")


def test_a_dataset_is_fetched_once_for_all_agents_of_a_node(tmp_path: Path) -> None:
    """Later agents map the same files; the last to leave removes them."""
    fetched = []

    def fetch(array: object) -> object:
        fetched.append(array)
        return array

    one, two = NodeFiles("one", tmp_path / "node"), NodeFiles("two", tmp_path / "node")
    folders = {files.dataset("print", ARRAYS, fetch) for files in (one, two, one)}
    (folder,) = folders
    assert len(fetched) == 1
    found = np.load(folder / "train_tokens.npy", mmap_mode="r")
    assert (found == ARRAYS["train_tokens.npy"]).all()
    assert (tmp_path / "node").stat().st_mode & 0o077 == 0
    one.leave()
    assert (folder / "train_tokens.npy").exists()
    two.leave()
    assert [path.name for path in (tmp_path / "node").iterdir()] == [".lock"]


def test_a_dataset_that_could_not_be_fetched_is_fetched_again(tmp_path: Path) -> None:
    """By the same agent, which goes on after the trial that this cost."""

    def fail(_: object) -> object:
        raise OSError("the object store is away")

    files = NodeFiles("one", tmp_path / "node")
    with pytest.raises(OSError, match="away"):
        files.dataset("print", ARRAYS, fail)
    folder = files.dataset("print", ARRAYS, lambda array: array)
    assert np.load(folder / "train_tokens.npy").shape == (3, 4)
    files.leave()


def test_what_a_killed_agent_left_goes_with_the_next(tmp_path: Path) -> None:
    """The system frees its locks; the dataset stays while another agent holds it."""
    root, context = tmp_path / "node", multiprocessing.get_context("spawn")
    processes = {}
    for name in ("killed", "staying"):
        ours, theirs = context.Pipe()
        process = context.Process(target=agent, args=(root, name, theirs))
        process.start()
        assert ours.recv() == "holds"
        processes[name] = process, ours
    killed, _ = processes["killed"]
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join()
    NodeFiles("next", root).leave()
    assert {path.name for path in root.iterdir() if path.is_dir()} == {
        "agent-staying",
        "data-print",
    }
    staying, ours = processes["staying"]
    ours.send("leave")
    assert ours.recv() == "left"
    staying.join()
    assert not [path for path in root.iterdir() if path.is_dir()]


def test_what_a_worker_wrote_after_its_agent_had_left_goes_with_the_next(tmp_path: Path) -> None:
    """Nobody holds such a folder: it has no lock."""
    files = NodeFiles("one", tmp_path)
    late = files.checkpoint("cell")
    files.leave()
    late.parent.mkdir(parents=True)
    late.write_bytes(b"late")
    NodeFiles("two", tmp_path).leave()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it could read and replace what lies there."""
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(EcsweepError, match="belongs to another user"):
        NodeFiles("one", tmp_path / "node")
