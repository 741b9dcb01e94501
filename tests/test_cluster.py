"""What fits on the nodes of a cluster, and what is told of them; Ray itself: test_ray.py."""

import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from ec_sweep import agents, cluster
from ec_sweep.agents import Agent, AgentOrder, Assignment, Post, Said
from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.cluster import Node, Share
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.locations import Location
from ec_sweep.membership import Membership, Wanted
from ec_sweep.places import by_node
from ec_sweep.ray_executor import RayExecutor
from ec_sweep.stored import TrackedRun
from ec_sweep.versions import code_version

GB = 10**9


def node(name: str = "a", cpus: float = 8, gpus: float = 0, memory: float = 64 * GB) -> Node:
    return Node(name, name, cpus, gpus, memory)


def shared_out(wanted: Wanted, *nodes: Node) -> Membership:
    found = Membership(wanted, "study@demo", None, lambda: 0)
    found._share_out(nodes)
    return found


def test_a_study_alone_on_a_node_is_given_what_is_asked_for() -> None:
    """All of the largest node where nothing is; what no node has is an error, not a wait."""
    large, small = node("large", 16, 2), node("small", 4)
    alone = shared_out(Wanted(exclusive=True, memory=GB), small, large)
    assert (alone.share, alone.slots) == (Share(16, 1.0, GB), 1)
    less = shared_out(Wanted(exclusive=True, cpus=2, gpus=0, memory=GB), small, large)
    assert less.share == Share(2, 0, GB)
    with pytest.raises(EcsweepError, match="no node of the cluster has"):
        shared_out(Wanted(exclusive=True, memory=100 * GB), small, large)


def test_the_cluster_is_reached_when_nothing_else_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray and MLflow import the same packages: in two threads at once one finds half of them."""
    reached = threading.Event()
    monkeypatch.setattr(cluster, "connect", lambda _: reached.set())
    monkeypatch.setattr(cluster, "nodes", lambda: [node()])
    monkeypatch.setattr("ec_sweep.membership._end_orphans", lambda _: None)
    found = Membership(Wanted(), "study@demo", None, lambda: 0)
    found.settle()  # nothing is to run
    found.start()
    assert not reached.wait(0.2)
    assert not found.connected
    found.settle()
    assert reached.is_set()
    assert found.slots == 8


def test_what_was_never_connected_is_not_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of somebody else would be ended, and an error hidden by another."""

    def refuse(_: object) -> None:
        raise EcsweepError("refused")

    monkeypatch.setattr(cluster, "connect", refuse)
    monkeypatch.setattr(cluster, "disconnect", lambda: pytest.fail("was not ours"))
    executor = RayExecutor(Wanted(), "study@demo", None)
    executor.start()
    with pytest.raises(EcsweepError, match="refused"):
        executor.settle()
    executor.close()


def test_a_cluster_that_does_not_answer_is_as_it_was_last_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client's network may be away for a moment, and no look at the nodes may end the study."""
    found = shared_out(Wanted(memory=GB), node())

    def silent() -> list[Node]:
        raise TimeoutError

    monkeypatch.setattr(cluster, "nodes", silent)
    assert not found.review(at_once=True)
    assert (found.slots, found.said[1:]) == (
        8,
        ["No --artifacts: what is lost or interrupted begins again."],
    )


def test_an_agent_that_sees_another_place_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of the same name on its own disk would swallow all that it trains."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Agent, "_serve", lambda _: None)
    monkeypatch.setattr(agents.time, "sleep", lambda _: None)
    location = Location(str(tmp_path / "shared"), "study@demo")
    post = Post(
        "agent", "study@demo", 1, 0, False, 60, location.url, location.check(), code_version(), {}
    )
    Agent(post).close()
    with pytest.raises(EcsweepError, match="does not see what the driver writes to --artifacts"):
        Agent(replace(post, mark=".driver-other"))


def test_a_node_that_begins_no_trial_ends_the_study() -> None:
    """Free again at once, it would be given one cell after the other; a trial that works counts."""
    executor = RayExecutor(Wanted(), "study@demo", None)
    lost = Result("interrupted", 0, failure="lost", message="No space left on device")
    for unfit in (True, True, False, False, False, True, True):  # of a node taken away none is
        executor._count_unfit("n", Said(lost, unfit=unfit), lost)
    with pytest.raises(EcsweepError, match="node n cannot begin trials: No space left"):
        executor._count_unfit("n", Said(lost, unfit=True), lost)


def test_what_was_finished_when_its_agent_died_counts(tmp_path: Path) -> None:
    """Result and epochs come from the place; what has left nothing there is lost."""
    location = Location(str(tmp_path / "shared"), "study@demo")
    location.check()
    executor = RayExecutor(Wanted(), "study@demo", location)
    elsewhere = AttemptFolder(tmp_path / "elsewhere")
    elsewhere.create()
    epoch, result = Event(1000, 1, {"val_loss": 0.5}), Result("complete", 2000, value=0.5)
    elsewhere.append(epoch)
    hp = Hyperparameters()
    task = Task("run", tmp_path / "run", "cnn", hp, 0, tmp_path / "data", {}, 2)
    assert executor._left(task) == []
    elsewhere.write_result(result)
    location.push_attempt("run", elsewhere.path)
    assert [message.content for message in executor._left(task)] == [epoch, result]


def test_what_an_agent_is_told_has_its_turn_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray's calls overtake each other and are made again: no stop comes before its trial."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(Agent, "_serve", lambda _: None)  # nobody takes what is heard
    agent = Agent(Post("agent", "study@demo", 1, 0, False, 60, None, None, code_version(), {}))
    first, second = (cast("Assignment", name) for name in ("first", "second"))
    turns: list[Assignment | AgentOrder] = [first, "stop", second, "prune"]
    for number in (2, 1, 2, 1, 4, 3, 3):
        agent.hear(number, turns[number - 1])
    assert [agent._orders.get_nowait() for _ in turns] == turns
    assert agent._orders.empty()
    agent.close()


@pytest.mark.parametrize(
    ("share", "held"),
    [
        (Share(1, 0, GB), 8),
        (Share(3, 0, GB), 2),
        (Share(1, 0, 30 * GB), 2),
        (Share(1, 0.25, GB), 8),
        (Share(1, 1, GB), 2),
        (Share(1, 0.1, GB), 8),
        (Share(16, 0, GB), 0),
    ],
)
def test_a_node_holds_what_its_scarcest_resource_allows(share: Share, held: int) -> None:
    """CPUs, GPUs in parts, and memory; a tenth of a GPU fits ten times in spite of rounding."""
    assert node(gpus=2).holds(share) == held
    assert Node("a", "a", 16, 1, 64 * GB).holds(Share(1, 0.1, GB)) == 10
    assert Node("a", "a", 16, 2, 64 * GB).holds(Share(1, 0.4, GB)) == 4  # a part is of one card


def test_nothing_new_begins_on_a_node_that_is_being_taken_away() -> None:
    """Whatever it has."""
    assert Node("a", "a", 8, 0, 64 * GB, leaving=True).holds(Share(1, 0, GB)) == 0


def test_a_trial_is_given_a_gpu_where_there_are_any() -> None:
    """Beside it up to four CPUs, as far as the node has them for each GPU's part."""
    assert cluster.usual_share([node()], None, None, None).gpus == 0
    assert cluster.usual_share([node()], None, None, None).cpus == 1
    many = cluster.usual_share([node(), node(cpus=64, gpus=8)], None, None, None)
    assert (many.gpus, many.cpus) == (1, 4)
    packed = cluster.usual_share([node(cpus=16, gpus=2)], None, 0.25, None)
    assert (packed.gpus, packed.cpus) == (0.25, 2)
    asked = cluster.usual_share([node(gpus=1)], 3, 0, GB)
    assert asked == Share(3, 0, GB)


def test_nodes_that_share_a_name_are_told_apart() -> None:
    """A name that was given counts, else the machine's; dead nodes are left out."""

    def row(own: str, name: str, host: str = "host", alive: bool = True) -> dict[str, object]:
        return {
            "Alive": alive, "NodeID": own, "NodeName": name, "NodeManagerAddress": "10.0.0.1",
            "NodeManagerHostname": host, "Resources": {"CPU": 2.0},
        }  # fmt: skip

    table = [row("aaaa1", "10.0.0.1"), row("bbbb2", "10.0.0.1"), row("cccc3", "named")]
    found = cluster._named([*table, row("dddd4", "gone", alive=False)], {"cccc3": 1})
    assert [own.name for own in found] == ["host#aaaa", "host#bbbb", "named"]
    assert [own.leaving for own in found] == [False, False, True]


def test_the_use_of_nodes_is_counted_from_runs() -> None:
    """Running, and ended by themselves; interrupted ones count nowhere."""

    def run(status: str, **tags: str) -> TrackedRun:
        named = {f"ecsweep.environment.{key}": value for key, value in tags.items()}
        return TrackedRun("r", "c", 0, status, {}, {}, named)

    runs = [
        run("FINISHED", node="b", gpu="0"), run("FAILED", node="b", gpu="1"),
        run("RUNNING", node="a"), run("KILLED", node="a"), run("FINISHED"),
    ]  # fmt: skip
    found = {name: str(use) for name, use in by_node(runs).items()}
    assert found == {"a": "1 running, 0 done", "b": "2 done on GPU 0, 1"}
    assert by_node(runs)["b"].to_json() == {"running": 0, "done": 2, "gpus": ["0", "1"]}
