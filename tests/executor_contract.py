"""What every executor promises, as tests: subclassed with a fixture for each."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.datasets import Dataset
from ec_sweep.executors import Executor, Message
from ec_sweep.hyperparameters import Hyperparameters

TINY = Hyperparameters(
    length=40, train_size=64, filters=4, filter_size=3, hidden=(8,), batch_size=16, epochs=2
)
LONG = dataclasses.replace(TINY, epochs=100_000, early_stopping="none")


class Trials:
    """Makes tasks for an executor and collects what their trials say."""

    def __init__(
        self,
        executor: Executor,
        folder: Path,
        dataset: Dataset,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.executor, self.folder, self.dataset = executor, folder, dataset
        self.interrupt = interrupt
        """Asks for what `Executor.stop` asks for, where that cannot be called meanwhile."""

    def task(self, name: str, hp: Hyperparameters = TINY, **changes: Any) -> Task:
        """Return a task with a folder of its own, as the driver makes it."""
        folder = AttemptFolder(self.folder / "attempts" / name)
        folder.create()
        sizes = self.dataset.sizes(hp.train_size)
        given = {"cell": name, "checkpoint": self.folder / "checkpoints" / f"{name}.npz", **changes}
        return Task(name, folder.path, "cnn", hp, 0, self.dataset.folder, sizes, 2, **given)

    def until(self, condition: Callable[[list[Message]], Any], limit: float = 180) -> list[Message]:
        """Poll until what has been said meets a condition; returns it all."""
        said: list[Message] = []
        deadline = time.monotonic() + limit
        while not condition(said):
            assert time.monotonic() < deadline, said
            said += self.executor.poll(0.5)
        return said

    def end(self, *tasks: Task) -> dict[str, list[Event | Result]]:
        """Run tasks to their ends, as many at once as there are slots; returns what each said."""
        waiting, said, running = list(tasks), [], 0
        while waiting or running:
            while waiting and running < self.executor.slots:
                self.executor.submit(waiting.pop(0))
                running += 1
            some = self.until(lambda found: any(isinstance(m.content, Result) for m in found))
            running -= sum(isinstance(message.content, Result) for message in some)
            said += some
        return {
            task.run_id: [own.content for own in said if own.run_id == task.run_id]
            for task in tasks
        }


def has_epoch(said: list[Message]) -> bool:
    return any(isinstance(own.content, Event) and own.content.epoch for own in said)


def epochs(said: list[Event | Result]) -> list[int]:
    return [own.epoch for own in said if isinstance(own, Event) and own.epoch]


def result_of(said: list[Event | Result]) -> Result:
    (result,) = [own for own in said if isinstance(own, Result)]
    assert said[-1] is result, "nothing is said after the result"
    return result


class ExecutorContract:
    """Tests in the order in which they share one executor, so that workers start once."""

    @pytest.fixture(scope="class")
    @classmethod
    def trials(cls) -> Trials:
        raise NotImplementedError("each executor has its own")

    def test_every_trial_says_its_epochs_and_then_its_result(self, trials: Trials) -> None:
        """Each once and in order, and what it leaves is in its folder before it is said."""
        trials.executor.settle()
        assert trials.executor.slots >= 1
        assert trials.executor.company >= 1
        tasks = [trials.task("one"), trials.task("two", dataclasses.replace(TINY, epochs=1))]
        said = trials.end(*tasks)
        assert {name: epochs(own) for name, own in said.items()} == {"one": [1, 2], "two": [1]}
        for task in tasks:
            result, folder = result_of(said[task.run_id]), AttemptFolder(task.folder)
            assert result.outcome == "complete", result.message + result.traceback
            assert 0 <= result.metrics["test_accuracy"] <= 1
            assert folder.result() == result
            assert folder.predictions.exists()
            assert [event.epoch for event in folder.events() if event.epoch] == epochs(
                said[task.run_id]
            )

    def test_a_failure_is_a_result(self, trials: Trials) -> None:
        """A trial that fails ends like any other, with its reason; the next one runs."""
        said = trials.end(trials.task("late", LONG, timeout=0.01), trials.task("next"))
        late = result_of(said["late"])
        assert (late.outcome, late.failure) == ("failed", "timeout")
        assert AttemptFolder(trials.folder / "attempts" / "late").result() == late
        assert result_of(said["next"]).outcome == "complete"

    def test_a_task_is_preferred_whose_network_is_at_hand(self, trials: Trials) -> None:
        """An idle worker's kind comes first; without any the first task does."""
        from ec_sweep.models import kind

        known, other = kind("cnn", TINY), kind("cnn", dataclasses.replace(TINY, filters=5))
        assert trials.executor.prefer([other, known]) == 1
        assert trials.executor.prefer([other]) == 0

    def test_the_next_trial_runs_alone_after_a_release(self, trials: Trials) -> None:
        """Idle workers give back what they hold; a task is taken as before."""
        trials.executor.release()
        assert result_of(trials.end(trials.task("alone"))["alone"]).outcome == "complete"

    def test_a_pruned_trial_ends_soon(self, trials: Trials) -> None:
        """An order of the driver reaches a trial under way; inline it has ended before that."""
        trials.executor.submit(trials.task("pruned", TINY if trials.interrupt else LONG))
        if not trials.interrupt:
            trials.until(has_epoch)
        trials.executor.prune("pruned")
        said = trials.until(lambda found: any(isinstance(m.content, Result) for m in found))
        outcome = "complete" if trials.interrupt else "pruned"
        assert result_of([message.content for message in said]).outcome == outcome

    def test_a_stopped_trial_goes_on_from_its_checkpoint(self, trials: Trials) -> None:
        """It ends as interrupted; another attempt at its cell says its epochs again and goes on."""
        task = trials.task("stopped", LONG)
        trials.executor.submit(task)
        if trials.interrupt:
            trials.interrupt()
        else:
            trials.until(has_epoch)
            trials.executor.stop()
        said = trials.until(lambda found: any(isinstance(m.content, Result) for m in found))
        result = result_of([message.content for message in said])
        assert (result.outcome, result.failure) == ("interrupted", None)
        assert not AttemptFolder(task.folder).result()
        assert any(isinstance(m.content, Event) and m.content.checkpoint for m in said)
        again = trials.task("again", LONG, cell=task.cell, checkpoint=task.checkpoint)
        trials.executor.submit(again)
        if trials.interrupt:
            trials.interrupt()
        said = trials.until(
            lambda found: any("resumed" in getattr(m.content, "environment", {}) for m in found)
        )
        trials.executor.stop()
        if not any(isinstance(m.content, Result) for m in said):
            trials.until(lambda found: any(isinstance(m.content, Result) for m in found))

    def test_closing_twice_does_no_harm(self, trials: Trials) -> None:
        """Whatever ends a study closes its executor, sometimes again."""
        trials.executor.close()
        trials.executor.close()
