"""A Ray cluster of several nodes on this machine, as a process that takes orders by lines.

    python -m tests.ray_nodes            # prints the address, then a line for each order done

Orders: ``add NAME CPUS GPUS``, ``kill NAME`` (SIGKILL), ``drain NAME SECONDS`` (as a cloud that is
about to take it), ``end``. It ends with its standard input, too. All of it listens on the loopback
interface alone.
"""

import contextlib
import os
import sys
import time
from typing import Any

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # which makes Ray take 127.0.0.1

MEMORY = 4 * 10**9


def main() -> None:
    """Keep the cluster until told to end it."""
    from ray.cluster_utils import Cluster

    scratch = {"temp_dir": sys.argv[1]} if len(sys.argv) > 1 else {}
    head = {"num_cpus": 0, "include_dashboard": False, "node_name": "head", **scratch}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: dict[str, Any] = {}
    print(cluster.address, flush=True)
    for line in sys.stdin:
        order, *values = line.split()
        if order == "end":
            break
        if order == "add":
            nodes[values[0]] = cluster.add_node(
                node_name=values[0], num_cpus=int(values[1]), num_gpus=int(values[2]), memory=MEMORY
            )
        elif order == "kill":
            cluster.remove_node(nodes.pop(values[0]), allow_graceful=False)
        elif order == "drain":
            drain(nodes[values[0]], float(values[1]))
        print("done", flush=True)
    with contextlib.suppress(Exception):  # nodes that have gone by themselves
        cluster.shutdown()


def drain(node: Any, seconds: float) -> None:
    """Mark a node as one that is about to be taken away, as Ray itself does on SIGTERM."""
    from ray.core.generated import autoscaler_pb2

    deadline = int(1000 * (time.time() + seconds))
    reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    accepted, why = node.get_gcs_client().drain_node(
        node.node_id, reason, "a test takes it", deadline
    )
    assert accepted, why


if __name__ == "__main__":
    main()
