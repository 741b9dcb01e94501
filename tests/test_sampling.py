"""What samplers propose and pruners end: scripted values, no TensorFlow."""

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from ec_sweep import sampling, spec
from ec_sweep.attempts import Result
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.ledger import Attempt
from ec_sweep.sampling import Proposer
from ec_sweep.spec import Cell, Data, Request, Sampled, Sweep
from ec_sweep.tracking import TrackedRun, Tracker

RANGES = {
    "learning_rate": {"low": 1e-5, "high": 1.0, "log": True},
    "dropout": {"low": 0.0, "high": 0.9},
    "filters": {"low": 4, "high": 64, "step": 4},
    "hidden": [[8], [16], [8, 8]],
}


def sampled(**changes: object) -> Sampled:
    document = {
        "study": "s",
        "dataset": "enzyme",
        "fixed": {"model": "cnn", "epochs": 27},
        "grid": RANGES,
        "sampler": "random",
        "trials": 12,
        **changes,
    }
    found = spec.sampled(Sweep.model_validate(document), Request())
    assert found is not None
    return replace(found, fingerprints={("enzyme", "random"): "f" * 64})


@dataclass
class Memory:
    """What ledger and tracker would hold, as plain values: kept over sessions."""

    of: Sampled
    pruner: str | None = None
    grid: Sequence[Cell] = ()
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    tracked: dict[str, TrackedRun] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)

    def open(self) -> Proposer:
        """Begin a session that knows what is kept, and nothing else."""
        of = None if self.grid else self.of
        tracker = cast(Tracker, self)
        return sampling.open_proposer(self.grid, of, self.pruner, self.attempts, tracker, {}, "p")

    def runs(self) -> list[TrackedRun]:
        return list(self.tracked.values())

    def history(self, run_id: str, metric: str) -> list[float]:
        assert metric == "val_loss"
        return self.losses[run_id]

    def start(self, proposer: Proposer, cell: Cell) -> None:
        """Enter an attempt, with its point as the ledger keeps it."""
        number = sum(map(len, self.attempts.values()))
        point = json.loads(json.dumps(proposer.point(cell)))
        tries = self.attempts.setdefault(str(cell.id), [])
        run = f"run{number}"
        attempt = Attempt(number, str(cell.id), 1 + len(tries), run, "running", None, point=point)
        tries.append(attempt)

    def end(self, proposer: Proposer, cell: Cell, result: Result, losses: Sequence[float]) -> None:
        tries = self.attempts[str(cell.id)]
        tries[-1] = replace(tries[-1], state=result.outcome, failure=result.failure)
        metrics = {"val_loss": losses[-1]} if losses else {}
        if result.value is not None:
            metrics["val_accuracy"] = result.value
        run = tries[-1].run_id
        self.losses[run] = list(losses)
        self.tracked[run] = TrackedRun(run, str(cell.id), 0, "FINISHED", metrics, {}, {})
        proposer.ended(cell, result)

    def crash(self) -> None:
        """Lose the driver: what runs is interrupted, and the proposer is gone."""
        for tries in self.attempts.values():
            if tries[-1].state == "running":
                tries[-1] = replace(tries[-1], state="interrupted")


Objective = Callable[[Cell], Result]


def toy(cell: Cell) -> Result:
    """Score best, 1, at a learning rate of 0.001 with 32 filters and no dropout."""
    hp = cell.hyperparameters
    far = abs(math.log10(hp.learning_rate) + 3) / 3 + abs(hp.filters - 32) / 32 + hp.dropout
    return Result("complete", 1, value=max(0.0, 1 - far / 3))


def run(memory: Memory, objective: Objective = toy, stop_after: int | None = None) -> list[Cell]:
    """Run a study, one cell at a time, until it ends or so many were begun."""
    proposer, cells = memory.open(), []
    while stop_after is None or len(cells) < stop_after:
        cell = proposer.propose()
        if cell is None:
            break
        memory.start(proposer, cell)
        cells.append(cell)
        if stop_after == len(cells):
            break
        memory.end(proposer, cell, objective(cell), [1.0])
    return cells


def ids(cells: Sequence[Cell]) -> list[str]:
    return [str(cell.id) for cell in cells]


def test_random_proposes_the_same_points_after_an_interruption_at_any_of_them() -> None:
    """A driver killed after any proposal, before or after it was entered, changes nothing."""
    whole = ids(run(Memory(sampled())))
    assert len(set(whole)) == 12
    for first in range(12):
        memory = Memory(sampled())
        run(memory, stop_after=first)
        memory.open().propose()  # not entered: as if never proposed
        memory.crash()
        run(memory)
        assert list(memory.attempts) == whole
    assert ids(run(Memory(sampled(seeds=[1])))) != whole


def test_more_trials_go_on_where_fewer_ended() -> None:
    """The first cells of a longer random study are those of a shorter one."""
    memory = Memory(sampled(trials=4))
    short = ids(run(memory))
    memory.of = sampled(trials=9)
    assert short + ids(run(memory)) == ids(run(Memory(sampled(trials=9))))
    memory.of = sampled(trials=4)
    assert list(sampling.drawn(memory.of, memory.attempts)) == short


def test_tpe_proposes_the_same_from_the_same_history() -> None:
    """A new session proposes what the old one would have, running cells included."""
    of = sampled(sampler="tpe", trials=30)
    memory = Memory(of)
    run(memory, stop_after=20)
    last = list(memory.attempts)[-1]
    assert memory.attempts[last][-1].state == "running"
    proposals = []
    for _ in range(2):
        proposer = memory.open()
        proposals.append([proposer.propose() for _ in range(3)])
    assert proposals[0] == proposals[1]
    assert len(set(proposals[0])) == 3


def test_tpe_beats_random_on_a_toy_objective() -> None:
    """It learns from the values: the better mean of what it tries, and the better best."""

    def scores(sampler: str) -> list[float]:
        memory = Memory(sampled(sampler=sampler, trials=40))
        return [cast(float, toy(cell).value) for cell in run(memory)]

    random, tpe = scores("random"), scores("tpe")
    assert max(tpe) > max(random)
    assert sum(tpe[15:]) / 25 > sum(random[15:]) / 25 + 0.05


def test_tpe_minimizes_a_loss() -> None:
    """With metric val_loss, low is good."""

    def objective(cell: Cell) -> Result:
        loss = abs(math.log10(cell.hyperparameters.learning_rate) + 3)
        return Result("complete", 1, {"val_loss": loss}, value=0.5)

    rates = {"learning_rate": RANGES["learning_rate"]}
    of = sampled(sampler="tpe", trials=40, metric="val_loss", grid=rates)
    found = [objective(cell).metrics["val_loss"] for cell in run(Memory(of), objective)]
    assert sum(found[20:]) / 20 < sum(found[:10]) / 10


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_exactly_n_distinct_cells_whatever_crashes(sampler: str) -> None:
    """Failures, divergence and a driver lost after each second cell: N cells, no more."""
    endings = [
        toy,
        lambda _: Result("failed", 1, failure="error"),
        lambda _: Result("not_available", 1, failure="diverged"),
        lambda _: Result("interrupted", 1),
    ]
    count = iter(range(1000))

    def objective(cell: Cell) -> Result:
        return endings[next(count) % 4](cell)

    memory = Memory(sampled(sampler=sampler, trials=18))
    for _ in range(30):
        run(memory, objective, stop_after=2)
        memory.crash()
    assert len(memory.attempts) == 18
    assert run(memory) == []


def test_a_diverged_cell_keeps_tpe_away() -> None:
    """Where the loss is not a number, TPE draws less than random does."""

    def objective(cell: Cell) -> Result:
        if cell.hyperparameters.learning_rate > 1e-3:
            return Result("not_available", 1, failure="diverged")
        return Result("complete", 1, value=0.7)

    found = run(Memory(sampled(sampler="tpe", trials=40)), objective)
    bad = [cell.hyperparameters.learning_rate > 1e-3 for cell in found]
    assert sum(bad[15:]) < 8  # of 25, of which chance would draw 15


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_small_space_is_drawn_to_its_last_cell(sampler: str) -> None:
    """Duplicates are drawn again; every cell of a space of 24 comes once."""
    grid = {"filter_size": {"low": 2, "high": 9}, "activation": ["relu", "elu", "tanh"]}
    found = run(Memory(sampled(sampler=sampler, grid=grid, trials=24)))
    assert len(set(ids(found))) == 24


def test_models_that_ignore_an_axis_share_cells() -> None:
    """What a model does not declare makes no second cell, and the space still fills up."""
    grid = {"model": ["cnn", "lstm"], "filter_size": [2, 3, 4], "units": [8, 16]}
    found = run(Memory(sampled(grid=grid, fixed={"epochs": 3}, trials=5)))
    assert len(set(ids(found))) == 5


def test_a_wider_range_keeps_what_was_drawn() -> None:
    """Cells stay where they fit the space and fixed values of now; others are left alone."""
    rates = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    memory = Memory(sampled(grid=rates, trials=6))
    narrow = ids(run(memory))
    memory.of = sampled(
        grid={"learning_rate": {"low": 1e-6, "high": 1, "log": True}}, trials=8, sampler="tpe"
    )
    assert list(sampling.drawn(memory.of, memory.attempts)) == narrow
    assert len(run(memory)) == 2
    other = sampled(grid=rates, trials=6, fixed={"model": "cnn", "epochs": 4})
    assert sampling.drawn(other, memory.attempts) == {}
    changed = replace(memory.of, fingerprints={("enzyme", "random"): "0" * 64})
    assert sampling.drawn(changed, memory.attempts) == {}
    few = replace(memory.of, axes=sampled(grid=rates).axes)
    assert set(narrow) <= set(sampling.drawn(few, memory.attempts))


def test_a_choice_may_grow() -> None:
    """A value added to a list, which Optuna's own storage refuses, joins."""
    memory = Memory(sampled(sampler="tpe", grid={**RANGES, "hidden": [[8], [16]]}, trials=12))
    before = ids(run(memory))
    memory.of = sampled(sampler="tpe", trials=20)
    found = run(memory)
    assert len(found) == 8
    assert list(memory.attempts)[:12] == before
    assert any(cell.hyperparameters.hidden == (8, 8) for cell in found)


def test_cells_of_a_former_grid_count() -> None:
    """A finite sweep that was a grid before never trains those cells again."""
    grid = {"filter_size": [2, 3, 4]}
    of = sampled(grid=grid, trials=3)
    memory = Memory(of)
    cell = of.cell({"filter_size": 3})
    memory.attempts[str(cell.id)] = [Attempt(0, str(cell.id), 1, "r", "complete", None)]
    memory.losses["r"] = []
    found = run(memory)
    assert sorted(cell.hyperparameters.filter_size for cell in found) == [2, 4]
    assert len(sampling.drawn(of, memory.attempts)) == 3


def test_drawn_numbers_can_be_typed() -> None:
    """Few digits, and inside of the range to its ends."""
    memory = Memory(sampled(trials=30))
    for cell in run(memory):
        hp = cell.hyperparameters
        assert float(f"{hp.learning_rate:.5g}") == hp.learning_rate
        assert 1e-5 <= hp.learning_rate <= 1
        assert hp.filters in range(4, 65, 4)
        assert hp.hidden in ((8,), (16,), (8, 8))


def test_gp_without_torch_says_what_to_install() -> None:
    """The extra is named; nothing is proposed."""
    if importlib.util.find_spec("torch"):
        sampling.check_sampler("gp")
        return
    with pytest.raises(EcsweepError, match=r"pip install 'ecsweep\[gp\]'"):
        sampling.check_sampler("gp")


def test_gp_proposes_the_same_from_the_same_history() -> None:
    """As TPE does."""
    pytest.importorskip("torch", reason="needs the extra gp")
    memory = Memory(sampled(sampler="gp", trials=20))
    run(memory, stop_after=15)
    assert memory.open().propose() == memory.open().propose()


def curve(quality: float) -> list[float]:
    """Return 27 epochs of validation loss that end the lower the better the cell is."""
    return [1 + (1 - quality) - 0.02 * epoch * quality for epoch in range(27)]


def prune_all(
    memory: Memory, cells: Sequence[Cell], quality: Mapping[str, float]
) -> dict[str, int]:
    """Train cells, half of them in a second session; returns after how many epochs each ended."""
    ended: dict[str, int] = {}
    proposer = memory.open()
    for number, cell in enumerate(cells):
        if number == len(cells) // 2:
            proposer = memory.open()
        memory.start(proposer, cell)
        losses: list[float] = []
        outcome: Any = "complete"
        for epoch, loss in enumerate(curve(quality[str(cell.id)]), 1):
            losses.append(loss)
            if proposer.observe(cell, epoch, {"val_loss": loss, "val_accuracy": 1 - loss / 3}):
                outcome = "pruned"
                break
        memory.end(proposer, cell, Result(outcome, 1, value=1 - losses[-1] / 3), losses)
        ended[str(cell.id)] = len(losses)
    return ended


def grid_of(count: int) -> list[Cell]:
    document = {
        "study": "s",
        "dataset": "enzyme",
        "fixed": {"model": "cnn", "epochs": 27},
        "grid": {"filters": list(range(1, count + 1))},
        "pruner": "median",
    }
    cells = spec.cells(Sweep.model_validate(document), Request())
    return [cell.on({("enzyme", "random"): "f" * 64}) for cell in cells]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners_end_the_worse_cells(pruner: str) -> None:
    """Of a grid too, over two sessions: fewer epochs, and the best cell trains to its end."""
    cells = grid_of(24)
    quality = {str(cell.id): (7 * n % 24) / 24 for n, cell in enumerate(cells)}
    memory = Memory(sampled(), pruner, cells)
    assert memory.open().propose() is None
    ended = prune_all(memory, cells, quality)
    pruned = [name for name, epochs in ended.items() if epochs < 27]
    kept = [name for name in ended if name not in pruned]
    assert len(pruned) >= 6
    assert max(quality, key=lambda name: quality[name]) in kept
    mean = {len(some): sum(quality[name] for name in some) / len(some) for some in (pruned, kept)}
    assert mean[len(pruned)] < mean[len(kept)]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_resumed_session_prunes_as_the_first_would_have(pruner: str) -> None:
    """What MLflow holds of earlier cells is all that a pruner needs."""
    cells = grid_of(16)
    quality = {str(cell.id): (5 * n % 16) / 16 for n, cell in enumerate(cells)}
    whole = prune_all(Memory(sampled(), pruner, cells), cells, quality)
    memory = Memory(sampled(), pruner, cells)
    again: dict[str, int] = {}
    for cell in cells:  # a session for each
        again |= prune_all(memory, [cell], quality)
    assert again == whole


def with_seven_trained() -> tuple[Proposer, Cell]:
    """A median pruner that has seen seven cells of 27 epochs, each at a loss of 1; and the next."""
    cells = grid_of(8)
    memory = Memory(sampled(), "median", cells)
    proposer = memory.open()
    for cell in cells[:7]:
        memory.start(proposer, cell)
        for epoch in range(1, 28):
            proposer.observe(cell, epoch, {"val_loss": 1.0})
        memory.end(proposer, cell, Result("complete", 1, value=0.5), [1.0] * 27)
    return proposer, cells[7]


def test_a_cell_is_never_pruned_after_its_last_epoch() -> None:
    """There is nothing to save by it."""
    proposer, last = with_seven_trained()
    for epoch in range(1, 27):
        assert proposer.observe(last, epoch, {"val_loss": 9.0})
    assert not proposer.observe(last, 27, {"val_loss": 9.0})


def test_an_attempt_from_the_start_forgets_the_epochs_of_the_one_before() -> None:
    """A cell that begins again is compared by what it has now, not by what it had."""
    proposer, last = with_seven_trained()
    assert not proposer.observe(last, 1, {"val_loss": 0.9})
    assert not proposer.observe(last, 2, {"val_loss": 0.5})
    proposer.ended(last, Result("interrupted", 1))
    assert proposer.observe(last, 1, {"val_loss": 9.0})


def test_a_pruned_cell_counts_for_tpe() -> None:
    """Its point is known and not drawn again, in the next session neither."""
    memory = Memory(sampled(sampler="tpe", trials=20), "median")
    proposer, cells = memory.open(), []
    for number in range(20):
        if number == 12:
            proposer = memory.open()
        cell = proposer.propose()
        assert cell is not None
        cells.append(cell)
        memory.start(proposer, cell)
        outcome: Any = "pruned" if number % 2 else "complete"
        memory.end(proposer, cell, Result(outcome, 1, value=0.1 * (number % 3)), [1.0, 0.9])
    assert proposer.propose() is None
    assert len(set(ids(cells))) == 20


def test_tags_hold_what_a_report_needs_of_a_drawn_cell() -> None:
    """Sizes, parameters and the plan's name; nothing for a grid."""

    class Sized:
        def sizes(self, train_size: int | None) -> dict[str, int]:  # noqa: ARG002
            return {"train": 8, "valid": 1, "test": 1}

    datasets = cast(Mapping[Data, Dataset], {("enzyme", "random"): Sized()})
    proposer = Proposer((), sampled(), None, (), datasets, "plans/x.json")
    cell = proposer.propose()
    assert cell is not None
    tags = proposer.tags(cell)
    assert tags["ecsweep.plan"] == "plans/x.json"
    assert json.loads(tags["ecsweep.document"])["params"] == cell.params
    assert Memory(sampled(), None, grid_of(2)).open().tags(grid_of(2)[0]) == {}
