"""The contract of executors, in this process and in worker processes; on Ray: test_ray.py."""

import math
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from ec_sweep.attempts import Result
from ec_sweep.datasets import Dataset
from ec_sweep.executors import InlineExecutor
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.sharing import Layout
from tests.executor_contract import ExecutorContract, Trials


class TestInline(ExecutorContract):
    """Trials in the process of the tests."""

    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls, tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Trials:
        left = [math.inf]

        def interrupts() -> int:
            """Count a Ctrl-C that comes while a trial trains: after so many of its batches."""
            left[0] -= 1
            return int(left[0] < 0)

        executor = InlineExecutor(1, interrupts)
        executor.start()
        folder = tmp_path_factory.mktemp("inline")
        return Trials(executor, folder, dataset, interrupt=lambda: left.insert(0, 10))


def test_a_process_that_has_computed_keeps_its_threads() -> None:
    """TensorFlow's threads are set once: a notebook that has used it can train all the same."""
    tf.reduce_sum(tf.zeros(2))
    said: list[str] = []
    executor = InlineExecutor(97, lambda: 0)
    executor.note = said.append
    executor.start()
    executor.poll(0)
    executor.poll(0)
    assert len(said) == 1
    assert "threads" in said[0]


def test_a_worker_that_dies_idle_costs_no_trial(tmp_path: Path, dataset: Dataset) -> None:
    """A trial that it had not begun is given to another, and is not counted as lost."""
    executor = LocalExecutor(Layout(1, 1, fixed=True), tmp_path, "idle")
    executor.start()
    trials = Trials(executor, tmp_path, dataset)
    trials.end(trials.task("first"))
    (worker,) = multiprocessing.active_children()
    assert worker.pid
    os.kill(worker.pid, signal.SIGSTOP)
    executor.submit(trials.task("second"))
    worker.kill()
    said = trials.until(lambda found: any(isinstance(m.content, Result) for m in found))
    executor.close()
    result = said[-1].content
    assert isinstance(result, Result)
    assert result.outcome == "complete", result.message


class TestLocal(ExecutorContract):
    """Two worker processes on this machine."""

    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls, tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Iterator[Trials]:
        folder: Path = tmp_path_factory.mktemp("local")
        executor = LocalExecutor(Layout(2, 1, fixed=True), folder, "contract")
        executor.start()
        yield Trials(executor, folder, dataset)
        executor.close()
