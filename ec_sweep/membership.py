"""A cluster over time: reached in the background, its nodes coming and going, what fits on them."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ec_sweep import cluster
from ec_sweep.cluster import Node, Share
from ec_sweep.errors import EcsweepError, plural
from ec_sweep.locations import Location

_TICK = 0.2
"""Seconds between looks at Ctrl-C while the cluster is being reached."""
_REVIEW = 2.0
"""Seconds from one look at the nodes to the next."""
_MOST_OF = 0.9
"""The part of a node's memory that a trial is given which shall have the node to itself."""
_NAMED = 8
"""Nodes that a line names at most."""
_ORPHANED = 30.0
"""Seconds that the agents of a dead driver have to be gone."""


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


class Membership:
    """The nodes of a cluster as one study sees them."""

    def __init__(
        self, wanted: Wanted, study: str, location: Location | None, interrupts: Callable[[], int]
    ) -> None:
        self._wanted, self._study, self._location = wanted, study, location
        self._interrupts = interrupts
        self._failure: Exception | None = None
        self._looked, self._capacity = 0.0, 0
        self._signals_are_ours = False
        self._asked = False
        self._connecting = threading.Thread(target=self._connect, daemon=True)
        self._connected = False
        self.mark: str | None = None
        """What agents must see in the location (`Location.check`)."""
        self.nodes: Mapping[str, Node] = {}
        """Those that live, by ID, as last looked at."""
        self.share = Share()
        """What each trial is given."""
        self.said: list[str] = []
        """Lines for the user; who shows them empties it."""

    def start(self) -> None:
        """Have `settle` connect.

        It waits until the driver has opened its databases: Ray and MLflow import some of the same
        packages, and where two threads do that at once one may find half of a package.
        """
        self._asked = True

    def settle(self) -> None:
        """Wait until the cluster is reached and agents of an earlier driver are gone.

        Raises:
            EcsweepError: it cannot be reached, or is too small.
            KeyboardInterrupt: the user does not want to wait.
        """
        if not self._asked:
            return  # there was nothing to run
        if self._connecting.ident is None:
            self._connecting.start()  # a thread, since Ctrl-C does not reach Ray's own code
        while self._connecting.is_alive():
            if self._interrupts():
                raise KeyboardInterrupt
            self._connecting.join(_TICK)
        if not self._signals_are_ours:
            # Ray has put a handler of its own below Python's, which aborts 3 s after a SIGTERM.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
            self._signals_are_ours = True
        if self._failure:
            raise self._failure

    @property
    def connected(self) -> bool:
        """Whether there is a connection to end."""
        return self._connected and not self._connecting.is_alive()

    def _connect(self) -> None:
        try:
            if self._location:
                self.mark = self._location.check()
            cluster.connect(self._wanted.address)
            self._connected = True
            _end_orphans(self._study)
            self._share_out(cluster.nodes())
        except TimeoutError:
            self._failure = EcsweepError("the Ray cluster does not answer. Is its head away?")
        except Exception as error:  # raised again where it is waited for
            self._failure = error

    def _share_out(self, found: Sequence[Node]) -> None:
        """Decide what each trial is given, and say how many there can be."""
        wanted = self._wanted
        share = cluster.usual_share(found, wanted.cpus, wanted.gpus, wanted.memory)
        if wanted.exclusive:
            largest = max(found, key=lambda node: (node.gpus, node.cpus))
            cpus = wanted.cpus or max(1, int(largest.cpus))
            gpus = min(1.0, largest.gpus) if wanted.gpus is None else wanted.gpus
            share = Share(cpus, gpus, share.memory)
        self.share = share
        self._take_in(found)
        if not (wanted.trials or self._capacity):
            raise EcsweepError(
                f"no node of the cluster has {share} for a trial. There are: {_in_words(found)}. "
                "Ask for less (--threads-per-worker, --gpus-per-trial, --memory-per-trial), or "
                "give --workers where the cluster makes room itself."
            )
        self.said.append(f"Cluster: {_in_words(found)}. {self._side_by_side}, each with {share}.")
        if not self._location:
            self.said.append("No --artifacts: what is lost or interrupted begins again.")

    @property
    def slots(self) -> int:
        """Trials that may run side by side now."""
        return 1 if self._wanted.exclusive else self._wanted.trials or self._capacity

    @property
    def company(self) -> int:
        """Trials that share a GPU, or without any a node."""
        if self._wanted.exclusive:
            return 1
        if self.share.gpus:
            return max(1, int((1 + 1e-6) / self.share.gpus))
        most = max((node.holds(self.share) for node in self.nodes.values()), default=1)
        return max(1, min(most, self.slots))

    @property
    def whole(self) -> Share:
        """What a trial is given that was too large for its share: a card, and a node's memory."""
        share = self.share
        able = [node.memory for node in self.nodes.values() if node.holds(share)]
        memory = max(able, default=0.0)
        gpus = 1.0 if share.gpus else 0.0
        return Share(share.cpus, gpus, max(share.memory, int(_MOST_OF * memory)))

    @property
    def _side_by_side(self) -> str:
        return f"{self.slots} {plural('trial', self.slots)} side by side"

    def review(self, *, at_once: bool = False) -> bool:
        """Look at the nodes when it is time; returns whether that was done. Says what changed."""
        if not at_once and time.monotonic() - self._looked < _REVIEW:
            return False
        before = self.nodes
        try:
            self._take_in(cluster.nodes())
        except TimeoutError:  # a client far away: what is known holds until it answers
            self._looked = time.monotonic()
            return False
        news = {
            "joined": [node for key, node in self.nodes.items() if key not in before],
            "is gone": [node for key, node in before.items() if key not in self.nodes],
            "is being taken away": [
                node for key, node in self.nodes.items()
                if node.leaving and key in before and not before[key].leaving
            ],
        }  # fmt: skip
        for what, some in news.items():
            for node in some:
                self.said.append(f"Node {node.name} {what}: {self._side_by_side} now.")
        return True

    def _take_in(self, found: Sequence[Node]) -> None:
        self.nodes = {node.id: node for node in found}
        self._capacity = sum(node.holds(self.share) for node in found)
        self._looked = time.monotonic()

    def name(self, node: str) -> str:
        """Return the name of a node by its ID."""
        return self.nodes[node].name if node in self.nodes else node[:8]


def _end_orphans(study: str) -> None:
    """End the agents of a driver of this study that died, whose lock this one holds now.

    ``study`` has the key of the ledger in it: one of another home goes on undisturbed.
    """
    import ray
    from ray.util import list_named_actors

    deadline = time.monotonic() + _ORPHANED
    while names := [name for name in list_named_actors() if name.startswith(f"{study}:")]:
        if time.monotonic() > deadline:
            raise EcsweepError(
                f"agents of an earlier driver of {study} are still on the cluster "
                f"({', '.join(names[:3])}). See: ray list actors"
            )
        for name in names:
            with contextlib.suppress(ValueError):  # gone meanwhile
                ray.kill(ray.get_actor(name))
        time.sleep(_TICK)


def _in_words(nodes: Sequence[Node]) -> str:
    """Return what nodes have, in a line; those that only keep the cluster together are left out."""
    words = [
        f"{node.name} (CPU {node.cpus:g}, GPU {node.gpus:g}, {node.memory / 1e9:.1f} GB)"
        for node in nodes
        if node.cpus or node.gpus
    ]
    more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
    return f"{'; '.join(words[:_NAMED])}{more}" if words else "none"
