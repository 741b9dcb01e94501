"""An agent: one trial at a time on a node of a Ray cluster, for a driver elsewhere.

An agent is the local executor with a single worker, as a Ray actor: workers are born, watched,
recycled and buried as on one machine. It shares no files with its driver. The dataset comes through
Ray's object store, once for each node; checkpoints and finished attempts go to the study's location
(`ec_sweep.locations`) or, without one, what an attempt leaves goes to the driver as it ends.
"""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from ec_sweep import own_models
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.executors import Message
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.locations import Location
from ec_sweep.node_files import NodeFiles
from ec_sweep.sharing import Layout
from ec_sweep.versions import code_version

_POLL = 0.1
"""Seconds between looks at what the driver wants."""
_TRIES = 5
"""Times that it is tried to reach the location, each after a longer pause, before it is left."""
_T = TypeVar("_T")

Files = Mapping[str, bytes]
"""What an attempt leaves, by path within its folder."""
AgentOrder = Literal["stop", "prune", "leave"]
"""``leave``: the node is being taken away; the trial keeps a checkpoint and is lost."""


@dataclass(frozen=True)
class Post:
    """What an agent is to give its worker, and what it needs to know of the study."""

    name: str
    study: str
    threads: int
    gpu_share: float
    """The part of a GPU that its trials may take; 0: none."""
    deterministic: bool
    silence: float
    location: str | None
    mark: str | None
    """What must be seen in the location: not every folder of that name is the driver's."""
    version: str
    environment: Mapping[str, str]
    """Variables that workers must have as the driver has them, such as ``KERAS_BACKEND``."""


@dataclass(frozen=True)
class Assignment:
    """A task, and where its dataset is to be had."""

    task: Task
    fingerprint: str
    arrays: Mapping[str, Any]
    """References to the dataset's arrays in the object store, by file name."""


@dataclass(frozen=True)
class Said:
    """Something that a trial, or the agent itself, has to say."""

    content: Event | Result | EcsweepError
    files: Files | None = None
    """What a finished attempt leaves, unless it is in the location."""
    unfit: bool = False
    """Whether the trial could not even begin on its node."""


class Agent:
    """The class of the Ray actor; all its methods but `said` return at once."""

    def __init__(self, post: Post) -> None:
        """Begin to start the worker.

        Raises:
            EcsweepError: the node has another version of ecsweep, does not see the driver's
                location, or its files cannot be used.
        """
        if post.version != code_version():
            raise EcsweepError(
                f"node {socket.gethostname()} has ecsweep {code_version()}, the driver has "
                f"{post.version}. Install the driver's version on every node."
            )
        os.environ.update(post.environment)
        self._post = post
        self._location = Location(post.location, post.study) if post.location else None
        if self._location and post.mark:
            self._check_sight(self._location, post.mark)
        self._files = NodeFiles(post.name)
        self._orders: queue.SimpleQueue[Assignment | AgentOrder] = queue.SimpleQueue()
        self._heard = 0
        """The number of what was told last and in turn."""
        self._early: dict[int, Assignment | AgentOrder] = {}
        self._turn = threading.Lock()
        self._said: list[Said] = []
        self._arrived = 0
        """How many things said before those in `_said` the driver has."""
        self._news = threading.Condition()
        self._assignment: Assignment | None = None
        self._leaving = False
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def _check_sight(location: Location, mark: str) -> None:
        if not insist(lambda: location.sees(mark)):
            raise EcsweepError(
                f"node {socket.gethostname()} does not see what the driver writes to --artifacts "
                f"{location.url}. Name a place that every node reaches under that name."
            )

    def hear(self, number: int, told: Assignment | AgentOrder) -> None:
        """Begin a trial, or pass an order on to the one under way.

        Calls of an actor that serves several at once overtake each other, and are made again where
        a network fails: a ``number`` from 1 brings each into its turn, once.
        """
        with self._turn:
            if number > self._heard:
                self._early[number] = told
            while self._heard + 1 in self._early:
                self._heard += 1
                self._orders.put(self._early.pop(self._heard))

    def said(self, arrived: int, wait: float) -> list[Said]:
        """Return what has been said after the first ``arrived`` things; waits for some.

        Those have arrived and are forgotten: an answer that is lost on its way can be asked
        for again.
        """
        with self._news:
            del self._said[: max(0, arrived - self._arrived)]
            self._arrived = max(self._arrived, arrived)
            self._news.wait_for(lambda: bool(self._said), wait)
            return list(self._said)

    def close(self) -> None:
        """Remove what lies on the node for this agent alone."""
        self._files.leave()

    def _say(
        self,
        content: Event | Result | EcsweepError,
        files: Files | None = None,
        unfit: bool = False,
    ) -> None:
        with self._news:
            self._said.append(Said(content, files, unfit))
            self._news.notify_all()

    def _serve(self) -> None:
        """Own the worker: start it, give it what arrives, pass on what it says."""
        try:
            executor = self._executor()
            executor.start()
            while True:
                self._obey(executor)
                for message in executor.poll(_POLL) if self._assignment else ():
                    self._pass_on(message)
        except EcsweepError as error:
            self._say(error)
        except Exception as error:  # a bug here has to reach the driver, which else would wait
            self._say(EcsweepError(f"an agent broke: {type(error).__name__}: {first_line(error)}."))
            raise

    def _executor(self) -> LocalExecutor:
        gpus = _gpus() if self._post.gpu_share else ()
        share = self._post.gpu_share if gpus and self._post.gpu_share < 1 else None
        frame = Layout(1, self._post.threads, gpus, fixed=True, card_share=share)
        return LocalExecutor(
            frame,
            self._files.logs,
            self._post.name,
            deterministic=self._post.deterministic,
            silence=self._post.silence,
        )

    def _obey(self, executor: LocalExecutor) -> None:
        """Do what the driver wants; without a trial, wait for one."""
        while self._assignment is None or not self._orders.empty():
            order = self._orders.get()
            if isinstance(order, Assignment):
                self._begin(order, executor)
            elif order == "prune":
                executor.prune(self._assignment.task.run_id if self._assignment else "")
            else:
                self._leaving = self._leaving or order == "leave"
                executor.stop()

    def _begin(self, assignment: Assignment, executor: LocalExecutor) -> None:
        """Bring what a trial needs to this node, and begin it."""
        import ray

        self._assignment = assignment
        if assignment.task.own:
            own_models.know(assignment.task.own)
        task, cell, location = assignment.task, assignment.task.cell, self._location
        gpu = {"gpu": ",".join(_gpus())} if self._post.gpu_share else {}
        node = ray.get_runtime_context().get_node_id()
        self._say(Event(now(), environment={"node": node, **gpu}))
        checkpoint = self._files.checkpoint(cell) if location else None
        folder = AttemptFolder(self._files.attempt(task.run_id))
        try:
            folder.create()
            if location and checkpoint:
                insist(lambda: location.pull_checkpoint(cell, checkpoint))
            dataset = self._files.dataset(assignment.fingerprint, assignment.arrays, ray.get)
        except Exception as error:  # object stores and file systems have errors of their own
            what = f"{type(error).__name__}: {first_line(error)}"
            message = f"its node could not get what it needs ({what})"
            self._end(Result("interrupted", now(), failure="lost", message=message), unfit=True)
            return
        executor.submit(replace(task, folder=folder.path, dataset=dataset, checkpoint=checkpoint))

    def _pass_on(self, message: Message) -> None:
        """Tell the driver what the trial says; what that speaks of is safe before."""
        content = message.content
        if isinstance(content, Result):
            self._end(content)
        elif not content.checkpoint or self._push_checkpoint():
            self._say(content)

    def _push_checkpoint(self) -> bool:
        """Bring the checkpoint just written to the location; returns whether it is there."""
        location, assignment = self._location, self._assignment
        assert location is not None
        assert assignment is not None
        path = self._files.checkpoint(assignment.task.cell)
        try:
            insist(lambda: location.push_checkpoint(assignment.task.cell, path))
        except Exception as error:  # the trial goes on: the next checkpoint may get there
            self._say(Event(now(), environment={"checkpoint_error": first_line(error)}))
            return False
        return True

    def _end(self, result: Result, unfit: bool = False) -> None:
        """Say how the trial ended, with what it left."""
        assert self._assignment
        run_id = self._assignment.task.run_id
        folder = AttemptFolder(self._files.attempt(run_id))
        if result.outcome == "interrupted" and self._leaving:
            result = replace(result, failure="lost", message="its node is being taken away")
        files = None
        if result.outcome == "complete" and not self._push_attempt(run_id, folder.path):
            files = _contents(folder.path)
        folder.remove()
        if result.outcome != "interrupted":
            self._files.checkpoint(self._assignment.task.cell).unlink(missing_ok=True)
        self._assignment = None
        self._say(result, files, unfit)

    def _push_attempt(self, run_id: str, folder: Path) -> bool:
        """Bring what an attempt left to the location; returns whether it is there."""
        location = self._location
        if not location:
            return False
        try:
            insist(lambda: location.push_attempt(run_id, folder))
        except Exception:  # it goes to the driver, as without a location: nothing is lost
            return False
        return True


def _gpus() -> tuple[str, ...]:
    """Return the GPU that Ray has given to this actor, as CUDA knows it."""
    import ray

    return tuple(map(str, ray.get_runtime_context().get_accelerator_ids().get("GPU", [])))


def insist(action: Callable[[], _T]) -> _T:
    """Do something that a network may fail, again after 1, 2, 4 and 8 s."""
    for attempt in range(_TRIES - 1):
        try:
            return action()
        except Exception:  # whatever the file system makes of an outage
            time.sleep(2**attempt)
    return action()


def _contents(folder: Path) -> Files:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
