"""Trials on a Ray cluster: an agent for each slot, wherever Ray places it.

The driver alone writes databases; agents are told what to train and asked what was said. A node
that goes takes its agents along: their cells are lost and tried elsewhere. An agent dies with the
job of its driver.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ec_sweep import agent_handle, cluster
from ec_sweep.agent_handle import AgentHandle
from ec_sweep.agents import Said
from ec_sweep.attempts import AttemptFolder, Event, Result, Task, now
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.executors import Message, preferred
from ec_sweep.locations import Location
from ec_sweep.membership import Membership, Wanted
from ec_sweep.models import Kind, kind
from ec_sweep.outages import UnavailableError

_LEAVE = 5.0
"""Seconds that agents have to tidy up before they are ended."""
_UNFIT_AT_MOST = 3
"""Trials in a row that a node may fail to begin."""


class RayExecutor:
    """See `Executor`."""

    def __init__(
        self,
        wanted: Wanted,
        study: str,
        location: Location | None,
        *,
        interrupts: Callable[[], int] = lambda: 0,
        silence: float = 1800,
    ) -> None:
        """Take a worker that says nothing for ``silence`` seconds of a trial for hung."""
        self.note: Callable[[str], None] = lambda _: None
        self._study, self._location, self._silence = study, location, silence
        self._members = Membership(wanted, study, location, interrupts)
        self._agents: list[AgentHandle] = []
        self._arrays: dict[Path, dict[str, Any]] = {}
        self._ended: list[Message] = []
        """What is said for trials that never had a place."""
        self._alone = self._stopping = False
        self._unfit: Counter[str] = Counter()
        """Trials in a row that a node took and could not begin, by its ID."""

    def start(self) -> None:
        """See `Executor`; the cluster is reached when it settles."""
        self._members.start()

    def settle(self) -> None:
        """See `Executor`."""
        self._members.settle()

    @property
    def slots(self) -> int:
        """See `Executor`."""
        self.settle()
        return self._members.slots

    @property
    def company(self) -> int:
        """See `Executor`: trials on one GPU, or without any on one node."""
        return self._members.company

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`."""
        idle = [agent.kind for agent in self._agents if not agent.task]
        return preferred(kinds, idle, [agent.kind for agent in self._agents if agent.task])

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        wanted = kind(task.model, task.hyperparameters)
        agent = self._free(task.hyperparameters.deterministic, wanted)
        agent.give(task, self._placed(task.dataset))

    def _free(self, deterministic: bool, wanted: Kind) -> AgentHandle:
        """Return an idle agent, best one that has compiled such a network, else a new one."""
        idle = [own for own in self._agents if not own.task and not own.leaving]
        suiting = [own for own in idle if own.deterministic == deterministic]
        if suiting:
            return max(suiting, key=lambda own: own.kind == wanted)
        for agent in idle[:1]:  # it holds what the new one needs
            self._dismiss(agent)
        return self._new(deterministic)

    def _new(self, deterministic: bool) -> AgentHandle:
        agent = agent_handle.new(
            self._study,
            self._members.whole if self._alone else self._members.share,
            self._location,
            self._members.mark,
            deterministic=deterministic,
            silence=self._silence,
        )
        self._agents.append(agent)
        self._alone = False
        return agent

    def _placed(self, dataset: Path) -> dict[str, Any]:
        """Return references to a dataset's arrays, which are put into the object store once."""
        import numpy as np
        import ray

        if dataset not in self._arrays:
            files = sorted(dataset.glob("*.npy"))
            arrays = {file.name: np.load(file, mmap_mode="r") for file in files}
            self._arrays[dataset] = {name: ray.put(array) for name, array in arrays.items()}
        return self._arrays[dataset]

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`."""
        import ray

        if self._members.review():
            self._follow()
        self._make_room()
        while self._members.said:
            self.note(self._members.said.pop(0))
        said, self._ended = self._ended, []
        busy = {agent.answer: agent for agent in self._agents if agent.task}
        if not busy:
            time.sleep(0 if said else timeout)
            return said
        ready, _ = ray.wait(list(busy), timeout=0 if said else timeout)
        if ready:  # and whatever else is there by now
            ready, _ = ray.wait(list(busy), num_returns=len(busy), timeout=0)
        for answer in ready:
            said += self._receive(busy[answer])
        return said

    def _make_room(self) -> None:
        """Give trials that Ray finds no room for to idle agents, which hold it.

        The driver hands out what waits before it asks for news: who is idle here stays so.
        """
        for agent in [own for own in self._agents if own.unplaced]:
            idle = any(not own.task and not own.leaving for own in self._agents)
            if agent.task and idle and not self._stopping:
                task = agent.task
                self._dismiss(agent)
                self.submit(task)

    def _follow(self) -> None:
        """Leave nodes that are being taken away, and forget idle agents of those that are gone."""
        for agent in [own for own in self._agents if own.node]:
            node = self._members.nodes.get(agent.node or "")
            if not agent.task and (node is None or node.leaving):
                self._dismiss(agent)
            elif node and node.leaving and not agent.leaving:
                agent.leaving = True
                agent.order("leave")

    def _receive(self, agent: AgentHandle) -> Iterator[Message]:
        """Yield what an agent has said; if it is gone, the result of the trial that it left."""
        import ray
        from ray.exceptions import ActorUnavailableError, RayError

        try:
            answer: list[Said] = ray.get(agent.answer)
        except ActorUnavailableError:  # the network, for a moment: what was said is still there
            agent.listen()
            return
        except RayError as error:
            yield from self._bury(agent, error)
            return
        for said in answer:
            agent.arrived += 1
            run_id = agent.task.run_id if agent.task else ""
            content = agent.heard(said, self._members.name, self._location)
            if isinstance(content, Result):
                self._count_unfit(agent.node or "", said, content)
                if content.failure == "lost":
                    content = self._with_cost(agent, content)
            yield Message(run_id, content)
        if agent.task:
            agent.listen()
        elif agent.leaving:
            self._dismiss(agent)

    def _count_unfit(self, node: str, said: Said, result: Result) -> None:
        """Raise an error when a node begins no trial: it would be free for the next one at once."""
        self._unfit[node] = self._unfit[node] + 1 if said.unfit else 0
        if self._unfit[node] >= _UNFIT_AT_MOST:
            raise EcsweepError(
                f"node {self._members.name(node)} cannot begin trials: {result.message}. Mend it, "
                "or take it out of the cluster; the same command goes on."
            )

    def _bury(self, agent: AgentHandle, error: Exception) -> Iterator[Message]:
        """Yield the end of a trial whose agent is gone."""
        from ray.exceptions import OutOfMemoryError

        task, node = agent.task, agent.node
        assert task is not None
        self._dismiss(agent)
        if left := self._left(task):
            yield from left
        elif not node and (reason := _cannot_run(str(error))):
            raise EcsweepError(f"an agent cannot start on the cluster: {reason}")
        elif self._stopping:
            yield Message(task.run_id, Result("interrupted", now()))
        elif isinstance(error, OutOfMemoryError):  # by Ray's own watch over the node's memory
            large = Result("not_available", now(), failure="oom", message=first_line(error))
            yield Message(task.run_id, large)
        elif not agent.began and agent.served:  # it died idle: this trial had not begun
            self._new(agent.deterministic).give(task, self._placed(task.dataset))
        else:
            self._members.review(at_once=True)
            gone = node and node not in self._members.nodes
            message = "its node is gone" if gone else "its agent died"
            lost = Result("interrupted", now(), failure="lost", message=message)
            yield Message(task.run_id, self._with_cost(agent, lost))

    def _left(self, task: Task) -> list[Message]:
        """Return what a trial said that was over before its agent died, its result last."""
        folder = AttemptFolder(task.folder)
        try:
            there = self._location and self._location.pull_attempt(task.run_id, folder.path)
        except UnavailableError:  # it counts as lost
            return []
        result = folder.result() if there else None
        said: list[Event | Result] = [*folder.events(), result] if result else []
        return [Message(task.run_id, content) for content in said]

    def _with_cost(self, agent: AgentHandle, lost: Result) -> Result:
        """Say with a loss that it is whole, where there is no place for checkpoints."""
        if self._location or not agent.progress:
            return lost
        return replace(lost, message=f"{lost.message}; without --artifacts it begins again")

    def release(self) -> None:
        """See `Executor`."""
        for agent in [own for own in self._agents if not own.task]:
            self._dismiss(agent)
        self._alone = True

    def prune(self, run_id: str) -> None:
        """See `Executor`."""
        for agent in self._agents:
            if agent.task and agent.task.run_id == run_id:
                agent.order("prune")

    def stop(self) -> None:
        """See `Executor`; a trial that has no place yet has nothing to keep."""
        self._stopping = True
        for agent in [own for own in self._agents if own.task]:
            if agent.began or agent.served:
                agent.order("stop")
            elif agent.task:
                self._ended.append(Message(agent.task.run_id, Result("interrupted", now())))
                self._dismiss(agent)

    def close(self) -> None:
        """See `Executor`."""
        if self._location and self._members.mark:
            with contextlib.suppress(UnavailableError):  # the next driver removes it
                self._location.remove_mark(self._members.mark)
        if not self._members.connected:
            return
        import ray

        if ray.is_initialized():
            tidied = [agent.actor.close.remote() for agent in self._agents]
            if tidied:
                ray.wait(tidied, num_returns=len(tidied), timeout=_LEAVE)
            for agent in self._agents:
                agent.kill()
            cluster.disconnect()
        self._agents.clear()

    def _dismiss(self, agent: AgentHandle) -> None:
        """End an agent; what it holds of its node is free."""
        self._agents.remove(agent)
        agent.task = None
        agent.actor.close.remote()  # it tidies up, if it still can
        agent.kill()


def _cannot_run(text: str) -> str | None:
    """Return why a node can run no agent at all, ``None`` where another try may help."""
    for line in reversed(text.splitlines()):
        name, _, reason = line.strip().partition(": ")
        if name.endswith("EcsweepError"):
            return reason
        if name.endswith(("OSError", "PermissionError")):
            return f"its files cannot be made there ({reason})."
        if name.endswith(("ModuleNotFoundError", "ImportError")):
            return f"{reason}. Install the driver's ecsweep[ray] on every node."
    return None
