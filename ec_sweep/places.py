"""Where the cells of a study run and ran: by the nodes of a cluster."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ec_sweep.stored import TrackedRun


@dataclass
class NodeUse:
    """What a node has done for a study."""

    running: int = 0
    done: int = 0
    """Attempts that ended by themselves: complete, pruned, failed or not available."""
    gpus: set[str] = field(default_factory=set)
    """The GPUs that its trials were given."""

    def to_json(self) -> dict[str, Any]:
        """Return the use as ``status --json`` prints it."""
        return {"running": self.running, "done": self.done, "gpus": sorted(self.gpus)}

    def __str__(self) -> str:
        parts = [f"{self.running} running"] * bool(self.running) + [f"{self.done} done"]
        gpus = f" on GPU {', '.join(sorted(self.gpus))}" if self.gpus else ""
        return f"{', '.join(parts)}{gpus}"


def by_node(runs: Sequence[TrackedRun]) -> dict[str, NodeUse]:
    """Return the use of each node by name; none where a study ran on one machine."""
    found: dict[str, NodeUse] = {}
    for run in runs:
        node = run.tags.get("ecsweep.environment.node")
        if node is None:
            continue
        use = found.setdefault(node, NodeUse())
        use.running += run.status == "RUNNING"
        use.done += run.status in ("FINISHED", "FAILED")
        use.gpus |= set(filter(None, run.tags.get("ecsweep.environment.gpu", "").split(",")))
    return dict(sorted(found.items()))
