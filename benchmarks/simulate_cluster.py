"""Replay measured trial times through the real driver, for a cluster that nobody has at hand.

    python benchmarks/simulate_cluster.py [--quick] [--recording none|sqlite] [--slots 1000]
        [--cells 100000] [--epochs 10] [--speed 1] [--home DIR] [--lose N]

Driver, its files and its plain display are real; trials are events in virtual time, which jumps
from one to the next and runs while the driver works: slots wait for it, as on a cluster. Trials are
complete ones of --home or, without it, so many of the epochs that the paper prints for a GPU, and
5 s (assumed) before and after; --speed makes cards faster. --lose takes away a node of 8 slots N
times. Recording: stand-ins that keep nothing, with files in memory where there is /dev/shm, or
SQLite (2,000 cells by default). Not in it: what Ray itself costs a driver.
"""

import argparse
import contextlib
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libraries
import recorded_times
from bench_engine import ENVIRONMENT, EPOCH, FINAL

from ec_sweep import machine, published
from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.cell import Cell
from ec_sweep.datasets import Dataset
from ec_sweep.executors import InlineExecutor, Message, preferred
from ec_sweep.experiments import open_tracker
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.ledger import Attempt
from ec_sweep.ledger_store import open_ledger
from ec_sweep.models import Kind, kind
from ec_sweep.paths import Home, write_atomically
from ec_sweep.plan import Plan
from ec_sweep.progress import PlainProgress, duration
from ec_sweep.sampling import Known, Proposer
from ec_sweep.study import Driver

STUDY, DATA, FULL = "simulated@paper", ("enzyme", "random"), 100_000
NODE, BATCH, AROUND = 8, 0.05, 5.0  # slots; seconds of events that arrive together, beside epochs
CARD = {"classes": ["no", "yes"], "sizes": {"train": 24_839, "valid": 8_578, "test": 8_578}}
PRINTED = [*published.cells(5), *published.cells(7)[:2]]  # six networks on this dataset
PREDICTIONS = os.urandom(60_000)  # about as large as those of 8,578 proteins, compressed


def clock() -> float:
    """Return seconds, without those in which other programs had the processor, if Linux says so."""
    with contextlib.suppress(OSError), open("/proc/self/schedstat") as file:
        return time.perf_counter() - int(file.read().split()[1]) / 1e9
    return time.perf_counter()


class VirtualExecutor(InlineExecutor):
    """See `Executor`; never sleeps. Nobody starts or stops it here, or prunes: that is inline's."""

    def __init__(self, home: Home, slots: int, draw: Callable[[], Sequence[float]]) -> None:
        super().__init__(1, lambda: 0)
        self.slots, self.company, self.messages, self.tenth = slots, 1, 0, 1
        self.now = self.own = 0.0  # virtual time; the seconds that the simulation itself took
        self.trials: list[float] = []  # seconds of each that has ended
        self.losses: list[int] = []  # after how many trials nodes vanish, last first
        self.tenths: list[tuple[int, float]] = []  # bytes held and CPU seconds after each
        self._home, self._draw, self._left = home, draw, clock()
        self._slots = [SimpleNamespace(node=n // NODE, kind=None, task=None) for n in range(slots)]
        self._agenda: list[Any] = []  # when, order, slot, task, what it says, what it says then
        self._order, self._random = itertools.count(), random.Random(1)

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`; as `RayExecutor` does."""
        idle = [slot.kind for slot in self._slots if not slot.task]
        return preferred(kinds, idle, [slot.kind for slot in self._slots if slot.task])

    def submit(self, task: Task) -> None:
        """See `Executor`; as `RayExecutor` does."""
        wanted = kind(task.model, task.hyperparameters)
        slot = max((own for own in self._slots if not own.task), key=lambda s: s.kind == wanted)
        slot.kind, slot.task = wanted, task
        slot.began = self.now + clock() - self._left
        self._follow(slot, task, self._story(slot))

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`; what the driver took since the last call has passed in virtual time."""
        start = clock()
        self.now += start - self._left
        self.now = max(self.now, self._agenda[0][0] if self._agenda else self.now + timeout)
        while self.losses and self.losses[-1] <= len(self.trials):
            self._lose()
        said = []
        while self._agenda and self._agenda[0][0] <= self.now + BATCH:
            at, _, slot, task, content, story = heappop(self._agenda)
            if slot.task is task:  # else it was lost
                said.append(Message(task.run_id, content))
                if isinstance(content, Result):
                    self._free(slot, at)
                else:
                    self._follow(slot, task, story)
        self.messages += len(said)
        self._left = clock()
        self.own += self._left - start
        for run_id, content in said:  # kept in the driver's home, as `RayExecutor` does
            folder = AttemptFolder(self._home.attempt(run_id))
            if isinstance(content, Event):
                folder.append(content)
            elif content.outcome == "complete":
                write_atomically(folder.predictions, PREDICTIONS)
                folder.write_result(content)
        return said

    def _follow(self, slot: SimpleNamespace, task: Task, story: Iterator[Any]) -> None:
        at, content = next(story)
        heappush(self._agenda, (at, next(self._order), slot, task, content, story))

    def _story(self, slot: SimpleNamespace) -> Iterator[Any]:
        """Yield when a trial says something, and what: its node, environment, epochs, result."""
        gaps = self._draw()
        about = {f"environment{number}": "0" * 12 for number in range(ENVIRONMENT)}
        for epoch, at in enumerate(itertools.accumulate(gaps[:-1], initial=slot.began), -1):
            metrics = {name: self._random.random() for name in EPOCH if epoch > 0}
            said = about if epoch == 0 else {"node": f"node-{slot.node}"} if epoch < 0 else {}
            yield at, Event(int(1000 * at), max(epoch, 0), metrics, said)
        end = at + gaps[-1]
        final = {name: self._random.random() for name in FINAL}
        yield end, Result("complete", int(1000 * end), final, final["test_accuracy"])

    def _free(self, slot: SimpleNamespace, at: float) -> None:
        slot.task = None
        self.trials.append(at - slot.began)
        if len(self.trials) % self.tenth == 0:
            self.tenths.append((machine.memory_of(os.getpid()), time.process_time() - self.own))

    def _lose(self) -> None:
        """Lose a node for ever; its trials say so next."""
        self.losses.pop()
        node, lost = self._random.choice(self._slots).node, Result("interrupted", 0, failure="lost")
        for slot in [own for own in self._slots if own.node == node and own.task]:
            self._follow(slot, slot.task, iter([(self.now, lost)]))
        self._slots = [own for own in self._slots if own.node != node]
        self.slots = len(self._slots)


def stand_ins() -> tuple[Any, Any]:
    """Return what Driver and Recorder call of a ledger and a tracker; nothing is kept."""
    numbers, names = itertools.count(), map("{:032x}".format, itertools.count())
    quiet = dict.fromkeys(("finish", "log", "open_parent", "record"), lambda *_: None)
    ledger, tracker = SimpleNamespace(attempts=dict, **quiet), SimpleNamespace(**quiet)
    ledger.start = lambda cell, number, run_id, *_: Attempt(
        next(numbers), str(cell.id), number, run_id, "running", None
    )
    tracker.start, tracker.models = lambda *_: next(names), tracker
    return ledger, tracker


def make_plan(count: int, dataset: Dataset) -> Plan:
    """Return cells of 48 networks in a random order, as a sampler draws them."""
    networks, sizes = [cell.params["model"] for cell in PRINTED], range(1, 9)
    rates = [1e-6 * (1 + n) for n in range(1 + count // 48)]
    cells = [
        Cell(model, *DATA, Hyperparameters(filters=n, units=n, learning_rate=rate), 0, "0" * 64)
        for rate, n, model in itertools.product(rates, sizes, networks)
    ]
    random.Random(0).shuffle(cells)
    axes = {"model": networks, "filters": [*sizes], "learning_rate": rates}
    return Plan(STUDY, cells[:count], {DATA: dataset}, axes)


def drawing(home: Path | None, epochs: int, speed: float) -> Callable[[], Sequence[float]]:
    """Return what draws a trial's seconds: to the first epoch, each epoch, and to the result."""
    chance = random.Random(2)
    gaps = [[AROUND, *[c.metrics["epoch_seconds_median"]] * epochs, AROUND] for c in PRINTED]
    if home:
        runs = recorded_times.read(home / "mlruns" / "mlflow.db")
        marks = [[r.created, r.began, *(at for at, _ in r.epochs.values()), r.ended] for r in runs]
        gaps = [[later - at for at, later in itertools.pairwise(mark)] for mark in marks]
    return lambda: [gap / speed * chance.uniform(0.9, 1.1) for gap in chance.choice(gaps)]


def simulate(root: Path, asked: argparse.Namespace) -> dict[str, str]:
    """Run all cells with a home in ``root``; returns what was measured, by what it is."""
    home, plan = Home(root), make_plan(asked.cells, Dataset(root, CARD))
    home.prepare()
    ledger, tracker = stand_ins()
    if asked.recording == "sqlite":
        ledger, tracker = open_ledger(home, None, STUDY), open_tracker(home, STUDY)
    ran = VirtualExecutor(home, asked.slots, drawing(asked.home, asked.epochs, asked.speed))
    ran.losses = [asked.cells * n // (asked.lose + 1) for n in range(asked.lose, 0, -1)]
    ran.tenth = asked.cells // 10
    proposer = Proposer([Known(cell) for cell in plan.cells], None, None, (), {}, "")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        display = PlainProgress(asked.cells, 0, asked.slots, plan.label)
        driver = Driver(home, plan, ledger, tracker, ran, display, proposer)
        ran.tenths.append((machine.memory_of(os.getpid()), time.process_time()))
        start = clock()
        driver.run(plan.cells, tracker.open_parent(""), lambda: 0)
        spent = clock() - start - ran.own
    cpu = time.process_time() - ran.own - ran.tenths[0][1]
    count, slots, ms, busy = asked.cells, asked.slots, 1000 * spent / asked.cells, sum(ran.trials)
    mean, (memory, marks) = busy / len(ran.trials), zip(*ran.tenths, strict=True)
    tenths = [f"{1000 * (b - a) / ran.tenth:.1f}" for a, b in itertools.pairwise(marks)]
    return {"what": "measured", "---": "---",
        f"{count:,} cells, {slots:,} slots, recording: {asked.recording}":
            f"trials of {mean:.0f} s in the mean, {ran.messages / len(ran.trials):.1f} messages; "
            f"{duration(spent)} of the driver, {duration(ran.own)} of the simulation not counted",
        "the driver, a cell": f"{1000 * cpu / count:.1f} ms CPU (by tenths: {', '.join(tenths)}), "
            f"{ms:.1f} ms with the disk; {ran.messages / cpu:,.0f} messages a CPU second",
        "memory": f"{memory[0] >> 20} MiB before, {memory[1] >> 20} after a tenth of the trials, "
            f"{memory[9] >> 20} after nine, {machine.peak_memory_mb():.0f} at most",
        "virtual time": f"{duration(ran.now)}, slots busy for {100 * busy / slots / ran.now:.1f} % "
            f"of it; lost: {asked.lose} nodes of {NODE} slots, {len(ran.trials) - count} trials",
        "where it breaks": f"one driver keeps **{1000 * mean / ms:,.0f} slots** busy ({mean:.0f} s "
            f"/ {ms:.1f} ms); {slots:,} slots send {slots * ran.messages / busy:.1f} messages a "
            f"second, it takes {ran.messages / spent:,.0f}; slots wait where trials with as many "
            f"messages are shorter than {slots * ms / 1000:.1f} s",
        f"extrapolated to {FULL:,} cells": f"{duration(FULL * ms / 1000)} of the driver, "
            f"{duration(FULL * mean / slots)} of the slots",
    }  # fmt: skip


def main() -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recording", choices=("none", "sqlite"), default="none")
    for name, usual in {"slots": 1000, "cells": 0, "epochs": 10, "speed": 1.0, "lose": 0}.items():
        parser.add_argument(f"--{name}", type=type(usual), default=usual)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--quick", action="store_true", help="100 slots, 500 cells")
    asked = parser.parse_args()
    asked.cells = asked.cells or (FULL if asked.recording == "none" else 2000)
    if asked.quick:
        asked.slots, asked.cells = 100, 500
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    memory = "/dev/shm" if asked.recording == "none" and Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as root:
        rows = simulate(Path(root).resolve(), asked)
    how = f"{time.strftime('%Y-%m-%d')}, files {'in memory' if memory else 'on disk'}"
    print(f"`python benchmarks/simulate_cluster.py {' '.join(sys.argv[1:])}`, {how}:\n")
    print(*(f"| {what} | {measured} |" for what, measured in rows.items()), sep="\n")
    print(f"\n{machine.description()}; {libraries.versions('mlflow', 'optuna', 'sqlalchemy')}")


if __name__ == "__main__":
    main()
