"""A Ray cluster as a driver sees it: how it is reached, its nodes, what fits on them."""

import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ec_sweep.errors import EcsweepError, first_line, plural
from ec_sweep.sharing import GPU_THREADS, UNMEASURED

NAMESPACE = "ecsweep"
"""Of the names of actors."""
_ANSWERED = 30.0
"""Seconds that a cluster has to say which nodes it has."""
_REACHED = 15.0
"""Seconds that a cluster has to take a connection."""


@dataclass(frozen=True)
class Share:
    """What each trial is given of a node; Ray counts it, and holds no process to it."""

    cpus: int = 1
    gpus: float = 0
    memory: int = UNMEASURED

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus} {plural('CPU', self.cpus)}{gpus} and {self.memory / 1e9:.1f} GB"


@dataclass(frozen=True)
class Node:
    """A living node."""

    id: str
    name: str
    cpus: float
    gpus: float
    memory: float
    leaving: bool = False
    """Whether it is being taken away: nothing new is begun there."""

    def holds(self, share: Share) -> int:
        """Return how many trials fit, if nobody else uses the node."""
        if self.leaving:
            return 0
        fits = [int(self.cpus // share.cpus), int(self.memory // share.memory)]
        if share.gpus:
            fits.append(int(self.gpus) * int((1 + 1e-6) / share.gpus))  # a part is of one card
        return min(fits)


def connect(address: str | None) -> None:
    """Connect to a cluster, or start one on this machine that ends with this process.

    Where it is started here, it listens on the loopback interface alone, and Ray's token is asked
    for. Of a cluster that runs already nothing is changed.

    Raises:
        EcsweepError: Ray is not installed, or the cluster cannot be reached or refuses us.
    """
    if address is None:  # before Ray is imported, which looks once
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # Ray would make a file that others can read
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 0: loopback alone
    try:
        import ray
    except ImportError as error:
        raise EcsweepError(
            "--executor ray needs Ray. Install it with: pip install 'ecsweep[ray]'"
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        raise EcsweepError(
            "this process is connected to Ray already. Call ray.shutdown() before, or run the "
            "study in a process of its own."
        )
    try:
        if address is None:
            ray.init("local", namespace=NAMESPACE, include_dashboard=False, **quiet)
        else:
            _check_listens(address)
            ray.init(address, namespace=NAMESPACE, **quiet)
    except Exception as error:  # Ray raises errors of many kinds here, all of the connection
        where = "started here" if address is None else f"reached at {address}"
        raise EcsweepError(
            f"no Ray cluster can be {where} ({first_line(error)}). Is it there, of this version "
            "of Ray, and its token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token?"
        ) from error


def _check_listens(address: str) -> None:
    """Raise an error when nothing listens at an address: Ray itself would try for minutes."""
    from ray._private.services import canonicalize_bootstrap_address_or_die as resolved

    at = address.partition("://")[2] if "://" in address else resolved(address)
    host, _, port = at.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _REACHED).close()


def disconnect() -> None:
    """Leave the cluster; what this driver has begun there ends with it."""
    import ray

    _remote_look.cache_clear()  # it belongs to this connection
    ray.shutdown()


def nodes() -> list[Node]:
    """Return the living nodes; of those that share a name each has a part of its ID in it.

    Asked from within the cluster where the driver is only its client: a client cannot see
    which nodes are being taken away.

    Raises:
        EcsweepError: there, where ecsweep is not installed.
        TimeoutError: the cluster does not answer.
    """
    import ray
    from ray.util.client import ray as client

    if client.is_connected():
        try:
            return _named(*ray.get(_remote_look().remote(), timeout=_ANSWERED))
        except ray.exceptions.RayTaskError as error:  # it cannot be loaded there
            raise EcsweepError(
                f"the cluster's nodes cannot run ecsweep ({_last_line(error)}). "
                "Install the driver's ecsweep[ray] on every node."
            ) from error
    return _named(*_look())


@cache
def _remote_look() -> Any:
    """Return `_look` as a task of the cluster, which keeps every function it has ever been sent."""
    import ray

    return ray.remote(num_cpus=0)(_look)


def _last_line(error: Exception) -> str:
    """Return what an error of a task came to; Ray's text has the traceback before it."""
    return [line for line in str(error).splitlines() if line.strip()][-1].strip()


def _look() -> tuple[list[dict[str, Any]], dict[str, int]]:
    import ray
    from ray._private.state import state  # no public call tells which nodes are leaving

    return ray.nodes(), state.get_draining_nodes()


def _named(table: Sequence[Mapping[str, Any]], leaving: Mapping[str, int]) -> list[Node]:
    alive = [row for row in table if row["Alive"]]
    names = [_name(row) for row in alive]
    times = Counter(names)
    found = []
    for row, name in zip(alive, names, strict=True):
        own, resources = str(row["NodeID"]), row["Resources"]
        found.append(
            Node(
                id=own,
                name=name if times[name] == 1 else f"{name}#{own[:4]}",
                cpus=resources.get("CPU", 0.0),
                gpus=resources.get("GPU", 0.0),
                memory=resources.get("memory", 0.0),
                leaving=own in leaving,
            )
        )
    return found


def _name(row: Mapping[str, Any]) -> str:
    """Return the name that a node was given, else that of its machine."""
    given = row.get("NodeName")
    return str(
        given if given and given != row["NodeManagerAddress"] else row["NodeManagerHostname"]
    )


def usual_share(
    found: Sequence[Node], cpus: int | None, gpus: float | None, memory: int | None
) -> Share:
    """Return what trials are given where nothing else is asked for: a GPU each, if there are any.

    Beside a GPU a trial needs few CPUs: at most 4, fewer where the nodes have fewer to a GPU.
    """
    if gpus is None:
        gpus = 1.0 if any(node.gpus for node in found) else 0.0
    if cpus is None:
        beside = [int(node.cpus // (node.gpus / gpus)) for node in found if gpus and node.gpus]
        cpus = max(1, min([GPU_THREADS, *beside])) if gpus else 1
    return Share(cpus, gpus, memory or UNMEASURED)
