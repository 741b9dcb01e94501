"""Trials on a Ray cluster: an agent for each slot, wherever Ray places it.

The driver alone writes databases; agents are told what to train and asked what was said. A node
that goes takes its agents along: their cells are lost and tried elsewhere. An agent dies with the
job of its driver.
"""

import contextlib
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ec_sweep import cluster
from ec_sweep.agents import Agent, AgentOrder, Assignment, Files, Post, Said
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.cluster import Node, Share
from ec_sweep.errors import EcsweepError
from ec_sweep.executors import Message, preferred
from ec_sweep.locations import Location
from ec_sweep.models import Kind, kind
from ec_sweep.paths import write_atomically
from ec_sweep.versions import code_version

_TICK = 0.2
"""Seconds between looks at Ctrl-C while the cluster is being reached."""
_REVIEW = 2.0
"""Seconds from one look at the cluster's nodes to the next."""
_PATIENCE = 10.0
"""Seconds after which an agent that has nothing to say answers all the same."""
_LEAVE = 5.0
"""Seconds that idle agents have to tidy up before they are ended."""
_MOST_OF = 0.9
"""The part of a node's memory that a trial is given which shall have the node to itself."""
_ORPHANED = 30.0
"""Seconds that the agents of a dead driver have to be gone."""
_TOLD_ELSEWHERE = {"events.jsonl", "result.json"}
"""What the driver writes itself from what it is told."""


@dataclass(frozen=True)
class Wanted:
    """What the user asks of a cluster; ``None`` follows from what it has."""

    address: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    memory: int | None = None
    trials: int | None = None
    """Trials side by side, whatever the cluster holds now: one that scales itself makes room."""
    exclusive: bool = False
    """Whether a trial is to have its node to itself; then one runs at a time."""


@dataclass
class _Agent:
    """An agent as the driver sees it."""

    handle: Any
    name: str
    deterministic: bool
    task: Task | None = None
    kind: Kind = None
    listening: Any = None
    """The answer that is being waited for."""
    arrived: int = 0
    """Things said that have arrived."""
    node: str | None = None
    """The ID of its node, once it has said it."""
    began: bool = False
    """Whether it has said anything of its task."""
    served: int = 0
    """Trials that it has ended."""
    progress: bool = False
    """Whether an epoch of its task has ended that a loss would cost."""
    leaving: bool = False

    def listen(self) -> None:
        """Ask for what it says next."""
        self.listening = self.handle.said.remote(self.arrived, _PATIENCE)


@dataclass
class _View:
    """The cluster as last looked at."""

    nodes: dict[str, Node] = field(default_factory=dict)
    looked: float = 0.0


class RayExecutor:
    """See `Executor`."""

    def __init__(
        self,
        wanted: Wanted,
        study: str,
        location: Location | None,
        *,
        interrupts: Callable[[], int] = lambda: 0,
        deterministic: bool = False,
        silence: float = 1800,
    ) -> None:
        """Take a worker that says nothing for ``silence`` seconds of a trial for hung."""
        self.note: Callable[[str], None] = lambda _: None
        self._wanted, self._study, self._location = wanted, study, location
        self._interrupts = interrupts
        self._deterministic, self._silence = deterministic, silence
        self._agents: list[_Agent] = []
        self._arrays: dict[Path, dict[str, Any]] = {}
        self._view = _View()
        self._share = Share()
        self._alone = self._stopping = False
        self._waiting: list[Message] = []
        self._failure: EcsweepError | None = None
        self._connecting = threading.Thread(target=self._connect, daemon=True)

    def start(self) -> None:
        """See `Executor`; connecting takes seconds, in which the driver opens its databases."""
        self._connecting.start()

    def _connect(self) -> None:
        # Not in the main thread: there Ray would take SIGTERM, which is the driver's to count.
        try:
            if self._location:
                self._location.check()
            cluster.connect(self._wanted.address)
            self._end_orphans()
            found = cluster.nodes()
            asked = self._wanted
            self._share = cluster.usual_share(found, asked.cpus, asked.gpus, asked.memory)
            self._view = _View({node.id: node for node in found}, time.monotonic())
            if asked.exclusive:
                largest = max(found, key=lambda node: (node.gpus, node.cpus))
                self._share = Share(
                    max(1, int(largest.cpus)), min(1.0, largest.gpus), self._share.memory
                )
            if not self._capacity and not asked.trials:
                raise EcsweepError(
                    f"no node of the cluster has {self._share} for a trial. There are: "
                    f"{_in_words(found)}. Ask for less (--threads-per-worker, --gpus-per-trial, "
                    "--memory-per-trial), or give --workers where the cluster makes room itself."
                )
        except EcsweepError as error:
            self._failure = error

    def settle(self) -> None:
        """See `Executor`.

        Raises:
            EcsweepError: the cluster cannot be reached, or is too small.
        """
        if self._connecting.ident is None:
            return  # there was nothing to run
        while self._connecting.is_alive():
            if self._interrupts():
                raise KeyboardInterrupt
            self._connecting.join(_TICK)
        if self._failure:
            raise self._failure

    @property
    def _capacity(self) -> int:
        return sum(node.holds(self._share) for node in self._view.nodes.values())

    @property
    def slots(self) -> int:
        """See `Executor`."""
        self.settle()
        return 1 if self._wanted.exclusive else self._wanted.trials or self._capacity

    @property
    def company(self) -> int:
        """See `Executor`: trials on one GPU, or without any on one node."""
        self.settle()
        if self._wanted.exclusive:
            return 1
        if self._share.gpus:
            return max(1, int((1 + 1e-6) / self._share.gpus))
        held = max((node.holds(self._share) for node in self._view.nodes.values()), default=1)
        return max(1, min(held, self.slots))

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`."""
        idle = [agent.kind for agent in self._agents if not agent.task]
        return preferred(kinds, idle, [agent.kind for agent in self._agents if agent.task])

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        self.settle()
        wanted = kind(task.model, task.hyperparameters)
        self._give(self._free(task.hyperparameters.deterministic, wanted), task, wanted)

    def _free(self, deterministic: bool, wanted: Kind) -> _Agent:
        """Return an idle agent, best one that has compiled such a network, else a new one."""
        idle = [own for own in self._agents if not own.task and not own.leaving]
        suiting = [own for own in idle if own.deterministic == deterministic]
        if suiting and not self._alone:
            return max(suiting, key=lambda own: own.kind == wanted)
        for agent in idle[:1]:  # it holds what the new one needs
            self._dismiss(agent)
        return self._new(deterministic)

    @property
    def _whole(self) -> Share:
        """What a trial is given that was too large for its share: a card, and a node's memory."""
        memory = max((node.memory for node in self._view.nodes.values()), default=0.0)
        return Share(
            self._share.cpus,
            1.0 if self._share.gpus else 0.0,
            max(self._share.memory, int(_MOST_OF * memory)),
        )

    def _new(self, deterministic: bool) -> _Agent:
        import ray

        name = f"{self._study}:{uuid.uuid4().hex[:12]}"
        share = self._whole if self._alone else self._share
        passed = {key: os.environ[key] for key in ("KERAS_BACKEND",) if key in os.environ}
        post = Post(
            name=name.replace(":", "-"),
            study=self._study,
            threads=share.cpus,
            gpu_share=share.gpus,
            deterministic=deterministic,
            silence=self._silence,
            location=self._location.url if self._location else None,
            version=code_version(),
            environment=passed,
        )
        actor = ray.remote(
            num_cpus=share.cpus, num_gpus=share.gpus, memory=share.memory, max_concurrency=4,
            max_restarts=0, max_task_retries=0,
        )(Agent)  # fmt: skip
        agent = _Agent(actor.options(name=name).remote(post), name, deterministic)
        self._agents.append(agent)
        self._alone = False
        return agent

    def _give(self, agent: _Agent, task: Task, wanted: Kind) -> None:
        agent.task, agent.kind = task, wanted
        agent.began = agent.progress = False
        arrays = self._placed(task.dataset)
        agent.handle.take.remote(Assignment(task, task.dataset.name, arrays))
        agent.listen()

    def _placed(self, dataset: Path) -> dict[str, Any]:
        """Return references to a dataset's arrays, which are put into the object store once."""
        import numpy as np
        import ray

        if dataset not in self._arrays:
            files = sorted(dataset.glob("*.npy"))
            self._arrays[dataset] = {
                file.name: ray.put(np.load(file, mmap_mode="r")) for file in files
            }
        return self._arrays[dataset]

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`."""
        import ray

        self._review()
        said, self._waiting = self._waiting, []
        busy = {agent.listening: agent for agent in self._agents if agent.task}
        if not busy:
            time.sleep(0 if said else timeout)
            return said
        ready, _ = ray.wait(list(busy), timeout=0 if said else timeout)
        if ready:  # and whatever else is there by now
            ready, _ = ray.wait(list(busy), num_returns=len(busy), timeout=0)
        for answer in ready:
            said += self._receive(busy[answer])
        return said

    def _receive(self, agent: _Agent) -> Iterator[Message]:
        """Yield what an agent has said; if it is gone, the result of the trial that it left."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        try:
            answer: list[Said] = ray.get(agent.listening)
        except ActorUnavailableError:  # the network, for a moment: what was said is still there
            agent.listen()
            return
        except RayError as error:
            yield from self._bury(agent, error)
            return
        for said in answer:
            agent.arrived += 1
            yield from self._hear(agent, said)
        if agent.task:
            agent.listen()
        elif agent.leaving:
            self._dismiss(agent)

    def _hear(self, agent: _Agent, said: Said) -> Iterator[Message]:
        """Keep what was said in the attempt's folder, for the next driver; pass it on."""
        content, task = said.content, agent.task
        if isinstance(content, EcsweepError):
            raise content
        assert task is not None
        folder = AttemptFolder(task.folder)
        if isinstance(content, Event):
            agent.began = True
            content = self._with_node(agent, content)
            agent.progress = agent.progress or bool(content.epoch)
            folder.append(content)
        else:
            agent.task, agent.served = None, agent.served + 1
            content = self._stored(task, folder, content, said.files)
            if content.failure == "lost":
                content = self._told(agent, content)
        yield Message(task.run_id, content)

    def _with_node(self, agent: _Agent, event: Event) -> Event:
        """Return an event with the name of the node in the place of its ID."""
        if "node" not in event.environment:
            return event
        agent.node = event.environment["node"]
        node = self._view.nodes.get(agent.node)
        named = {**event.environment, "node": node.name if node else agent.node[:8]}
        return Event(event.timestamp, event.epoch, event.metrics, named, event.checkpoint)

    def _stored(
        self, task: Task, folder: AttemptFolder, result: Result, files: Files | None
    ) -> Result:
        """Bring what a finished attempt left to its folder; its result comes last."""
        if result.outcome == "interrupted" or not folder.path.exists():
            return result
        for name, content in (files or {}).items():
            if name not in _TOLD_ELSEWHERE:
                write_atomically(folder.path / name, content)
        location = self._location
        if result.outcome == "complete" and files is None and location:
            try:
                location.pull_attempt(task.run_id, folder.path)
            except Exception as error:  # each file system has errors of its own
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                raise EcsweepError(
                    f"--artifacts {location.url} cannot be read ({reason}). "
                    "The same command goes on once it can."
                ) from error
        folder.write_result(result)
        return result

    def _bury(self, agent: _Agent, error: Exception) -> Iterator[Message]:
        """Yield the end of a trial whose agent is gone."""
        from ray.exceptions import GetTimeoutError, RayTaskError

        assert not isinstance(error, GetTimeoutError)
        task = agent.task
        assert task is not None
        self._dismiss(agent)
        cause = error.cause if isinstance(error, RayTaskError) else error
        never = not agent.began and not agent.served
        if never and (reason := _cannot_run(str(cause))):
            raise EcsweepError(f"an agent cannot start on the cluster: {reason}")
        if self._stopping:
            yield Message(task.run_id, Result("interrupted", now()))
        elif not agent.began and agent.served:  # it died idle: this trial had not begun
            self._give(self._new(agent.deterministic), task, agent.kind)
        else:
            gone = agent.node is not None and self._gone(agent.node)
            message = "its node is gone" if gone else "its agent died"
            lost = Result("interrupted", now(), failure="lost", message=message)
            yield Message(task.run_id, self._told(agent, lost))

    def _told(self, agent: _Agent, lost: Result) -> Result:
        """Return a loss with its cost, where there is no place for checkpoints."""
        if self._location or not agent.progress:
            return lost
        message = f"{lost.message}; without --artifacts it begins again"
        return Result("interrupted", lost.timestamp, failure="lost", message=message,
                      traceback=lost.traceback)  # fmt: skip

    def _gone(self, node: str) -> bool:
        self._review(at_once=True)
        return node not in self._view.nodes

    def _review(self, at_once: bool = False) -> None:
        """Look at the nodes: say which came and went, and leave those that are being taken away."""
        if not at_once and time.monotonic() - self._view.looked < _REVIEW:
            return
        before, found = self._view.nodes, {node.id: node for node in cluster.nodes()}
        self._view = _View(found, time.monotonic())
        came = [node for key, node in found.items() if key not in before]
        went = [node for key, node in before.items() if key not in found]
        leaving = [
            node for key, node in found.items()
            if node.leaving and not (key in before and before[key].leaving)
        ]  # fmt: skip
        for what, some in (("joined", came), ("is gone", went), ("is being taken away", leaving)):
            for node in some:
                self.note(f"Node {node.name} {what}: {self.slots} trials side by side now.")
        for agent in list(self._agents):
            own = found.get(agent.node or "")
            if agent.node and own is None and not agent.task:
                self._dismiss(agent)
            elif own and own.leaving and not agent.leaving:
                agent.leaving = True
                if agent.task:
                    self._order(agent, "leave")
                else:
                    self._dismiss(agent)

    @property
    def places(self) -> dict[str, int]:
        """Trials under way by the name of their node."""
        names = {key: node.name for key, node in self._view.nodes.items()}
        return dict(Counter(
            names.get(agent.node or "", "waiting for a place")
            for agent in self._agents if agent.task
        ))  # fmt: skip

    def release(self) -> None:
        """See `Executor`."""
        for agent in list(self._agents):
            if not agent.task:
                self._dismiss(agent)
        self._alone = True

    def prune(self, run_id: str) -> None:
        """See `Executor`."""
        for agent in self._agents:
            if agent.task and agent.task.run_id == run_id:
                self._order(agent, "prune")

    def stop(self) -> None:
        """See `Executor`; a trial that has no place yet has nothing to keep."""
        self._stopping = True
        for agent in [own for own in self._agents if own.task]:
            if agent.began or agent.served:
                self._order(agent, "stop")
            elif agent.task:
                self._waiting.append(Message(agent.task.run_id, Result("interrupted", now())))
                self._dismiss(agent)

    def close(self) -> None:
        """See `Executor`."""
        if not self._connecting.is_alive() and self._connecting.ident is None:
            return  # it was never started
        self._connecting.join()
        import ray

        if not ray.is_initialized():
            return
        idle = [agent.handle.close.remote() for agent in self._agents if not agent.task]
        if idle:
            ray.wait(idle, num_returns=len(idle), timeout=_LEAVE)
        for agent in list(self._agents):
            self._kill(agent)
        self._agents.clear()
        cluster.disconnect()

    def _order(self, agent: _Agent, order: AgentOrder) -> None:
        agent.handle.order.remote(order)

    def _dismiss(self, agent: _Agent) -> None:
        """End an agent; what it holds of its node is free."""
        self._agents.remove(agent)
        agent.task = None
        self._kill(agent)

    def _kill(self, agent: _Agent) -> None:
        import ray

        with contextlib.suppress(ray.exceptions.RayError, ValueError):  # it is gone already
            ray.kill(agent.handle)

    def _end_orphans(self) -> None:
        """End the agents of a driver of this study that died, whose lock this one holds now."""
        import ray
        from ray.util import list_named_actors

        deadline = time.monotonic() + _ORPHANED
        while names := [n for n in list_named_actors() if n.startswith(f"{self._study}:")]:
            if time.monotonic() > deadline:
                raise EcsweepError(
                    f"agents of an earlier driver of {self._study} are still on the cluster "
                    f"({', '.join(names[:3])}). See: ray list actors"
                )
            for name in names:
                with contextlib.suppress(ValueError):  # gone meanwhile
                    ray.kill(ray.get_actor(name))
            time.sleep(0.2)


def _in_words(nodes: Sequence[Node]) -> str:
    """Return what nodes have, in a line."""
    return "; ".join(
        f"{node.name} ({node.cpus:g} CPUs, {node.gpus:g} GPUs, {node.memory / 1e9:.1f} GB)"
        for node in nodes
    ) or "none"  # fmt: skip


def _cannot_run(text: str) -> str | None:
    """Return why a node can run no agent at all, ``None`` where another try may help."""
    for line in reversed(text.splitlines()):
        name, _, reason = line.strip().partition(": ")
        if name.endswith("EcsweepError"):
            return reason
        if name.endswith(("ModuleNotFoundError", "ImportError")):
            return f"{reason}. Install the driver's ecsweep[ray] on every node."
    return None
