"""An agent as its driver sees it: made, given trials, listened to, ended."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ec_sweep.agents import Agent, AgentOrder, Assignment, Files, Post, Said, insist
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.cluster import Share
from ec_sweep.locations import Location
from ec_sweep.models import Kind, kind
from ec_sweep.outages import UnavailableError
from ec_sweep.paths import write_atomically
from ec_sweep.versions import code_version

_PATIENCE = 10.0
"""Seconds after which an agent that has nothing to say answers all the same."""
_PLACED = 10.0
"""Seconds in which an agent is there as a rule, if there is room for it."""
_PASSED_ON = ("KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS")
"""Variables of the driver that workers are to have, too."""
_TOLD_ELSEWHERE = {"events.jsonl", "result.json"}
"""What the driver writes itself from what it is told."""


@dataclass
class AgentHandle:
    """An agent, and the trial that it is at."""

    actor: Any
    name: str
    deterministic: bool
    task: Task | None = None
    kind: Kind = None
    """Of its last task: its worker has compiled that network."""
    answer: Any = None
    """A reference to what it says next."""
    arrived: int = 0
    """Things said that have arrived."""
    told: int = 0
    """Tasks and orders that it was sent."""
    node: str | None = None
    """The ID of its node, once it has said it."""
    given: float = 0.0
    """When it was sent its task, by the monotonic clock."""
    began: bool = False
    """Whether it has said anything of its task."""
    served: int = 0
    """Trials that it has ended."""
    progress: bool = False
    """Whether an epoch of its task has ended that a loss would cost."""
    leaving: bool = False
    """Whether its node is being taken away."""

    def give(self, task: Task, arrays: Mapping[str, Any]) -> None:
        """Send a task; of its dataset go references to ``arrays`` in the object store."""
        self.task, self.kind = task, kind(task.model, task.hyperparameters)
        self.given = time.monotonic()
        self.began = self.progress = False
        self._tell(Assignment(task, task.dataset.name, arrays))
        self.listen()

    @property
    def unplaced(self) -> bool:
        """Whether Ray seems to find no room for it: it has never said anything."""
        late = time.monotonic() - self.given > _PLACED
        return self.task is not None and not (self.began or self.served) and late

    def listen(self) -> None:
        """Ask for what it says next; what has arrived is confirmed by that."""
        self.answer = self.actor.said.remote(self.arrived, _PATIENCE)

    def order(self, order: AgentOrder) -> None:
        """Send an order for the trial under way."""
        self._tell(order)

    def _tell(self, what: Assignment | AgentOrder) -> None:
        self.told += 1
        self.actor.hear.options(max_task_retries=-1).remote(self.told, what)

    def heard(
        self, said: Said, name: Callable[[str], str], location: Location | None
    ) -> Result | Event:
        """Keep what was said in the attempt's folder, for the next driver, and return it.

        ``name`` gives the name of a node by its ID.

        Raises:
            EcsweepError: the agent cannot go on, or what a trial left cannot be fetched.
        """
        content, task = said.content, self.task
        if isinstance(content, Exception):
            raise content
        assert task is not None
        folder = AttemptFolder(task.folder)
        if isinstance(content, Event):
            self.began = True
            self.progress = self.progress or bool(content.epoch)
            content = self._with_node(content, name)
            folder.append(content)
            return content
        self.task, self.served = None, self.served + 1
        if content.outcome != "interrupted" and folder.path.exists():
            return _stored(folder, task.run_id, content, said.files, location)
        return content

    def _with_node(self, event: Event, name: Callable[[str], str]) -> Event:
        """Return an event with the name of the node in the place of its ID."""
        if "node" not in event.environment:
            return event
        self.node = event.environment["node"]
        return replace(event, environment={**event.environment, "node": name(self.node)})

    def kill(self) -> None:
        """End it at once."""
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it is gone already
            ray.kill(self.actor)


def new(
    study: str,
    share: Share,
    location: Location | None,
    mark: str | None,
    *,
    deterministic: bool,
    silence: float,
) -> AgentHandle:
    """Have Ray start an agent wherever there is room; it is named after its study."""
    import ray

    name = f"{study}:{uuid.uuid4().hex[:12]}"
    post = Post(
        name=name.replace(":", "-"),
        study=study,
        threads=share.cpus,
        gpu_share=share.gpus,
        deterministic=deterministic,
        silence=silence,
        location=location.url if location else None,
        mark=mark,
        version=code_version(),
        environment={key: os.environ[key] for key in _PASSED_ON if key in os.environ},
    )
    # An order has to reach an agent that is being listened to.
    made = ray.remote(Agent).options(
        name=name, num_cpus=share.cpus, num_gpus=share.gpus, memory=share.memory,
        max_concurrency=4, max_restarts=0, max_task_retries=0,
    )  # fmt: skip
    return AgentHandle(made.remote(post), name, deterministic)


def _stored(
    folder: AttemptFolder,
    run_id: str,
    result: Result,
    files: Files | None,
    location: Location | None,
) -> Result:
    """Bring what a finished attempt left to its folder, its result last; returns that.

    Without its files it is no result: the trial counts as lost.
    """
    for name, content in (files or {}).items():
        if name not in _TOLD_ELSEWHERE:
            write_atomically(folder.path / name, content)
    if result.outcome == "complete" and files is None and location:
        try:
            if not insist(lambda: location.pull_attempt(run_id, folder.path)):
                location.check_mounted()
                message = f"what it left is gone from {location.url}"
                return Result("interrupted", now(), failure="lost", message=message)
        except UnavailableError as error:
            raise UnavailableError(f"{error} The same command goes on once it can.") from error
    folder.write_result(result)
    return result
