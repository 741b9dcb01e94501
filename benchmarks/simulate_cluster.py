"""Replay measured trial times through the real driver, for a cluster that nobody has at hand.

    python benchmarks/simulate_cluster.py [--quick] [--slots 1000] [--cells 100000]
        [--recording none|sqlite] [--epochs 10] [--speed 1] [--home DIR] [--lose N]

The driver, its files of each attempt and its plain display are real; trials are events in virtual
time, which jumps from one to the next and also runs while the driver works: slots wait for it as on
a cluster. Trials take as long as complete ones in the database of --home or, without it, so many of
the epochs that the paper prints for a GPU, 5 s (assumed) before them and 5 s after them. --speed
makes cards faster. Files are kept as `RayExecutor` keeps them; what Ray itself costs a driver is
not in it. --lose takes a node of 8 slots away N times, each for five minutes.

--recording none     stand-ins for ledger and tracker, and a home in memory where there is
                     `/dev/shm`: what the loop costs
--recording sqlite   the real ones: what a driver costs. 2,000 cells, unless --cells says otherwise

Prints Markdown for docs/benchmarks.md.
"""

import argparse
import contextlib
import functools
import heapq
import io
import itertools
import os
import random
import resource
import shlex
import sqlite3
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libraries
import numpy as np
import psutil
import recorded_times
from bench_engine import ENVIRONMENT, EPOCH, FINAL

from ec_sweep import machine, published
from ec_sweep.attempts import AttemptFolder, Event, Result, Task
from ec_sweep.cell import Cell
from ec_sweep.datasets import Dataset
from ec_sweep.executors import Message, preferred
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

STUDY = "simulated@paper"
AROUND = 5.0  # seconds before the first epoch and after the last
BATCH = 0.05  # seconds whose events arrive together
NODE, AWAY = 8, 300.0
"""Slots of a node, and seconds until a lost one is replaced."""
CARD = {"name": "enzyme", "fingerprint": "0" * 64, "classes": ["enzyme", "other"],
        "sizes": {"train": 24_839, "valid": 8_578, "test": 8_578}}  # fmt: skip
NETWORKS = ("cnn", "complex-cnn", "lstm", "gru", "cnn-lstm", "cnn-gru")


@dataclass
class Slot:
    """A GPU: the trial on it and, at each of its steps, the seconds to the next message."""

    node: int
    kind: Kind = None
    task: Task | None = None
    gaps: Sequence[float] = ()
    step: int = 0
    began: float = 0.0


class VirtualExecutor:
    """See `Executor`; never sleeps. ``draw`` gives the seconds between a trial's messages."""

    def __init__(
        self, home: Home, slots: int, draw: Callable[[], list[float]], predictions: bytes
    ) -> None:
        self.note: Callable[[str], None] = lambda _: None
        self.company, self.slots, self.own = 1, slots, 0.0
        self.began, self.ended = array("d"), array("d")
        self.messages = self.complete = self.lost = 0
        self.memory: list[tuple[int, float]] = []
        self.marks: set[int] = set()
        self._home, self._draw, self._predictions = home, draw, predictions
        self._slots = [Slot(number // NODE) for number in range(slots)]
        self._gone: set[int] = set()
        self._agenda: list[tuple[float, int, Callable[[float], list[Message]]]] = []
        self._order, self._random = itertools.count(), random.Random(1)
        self._now, self._left = 0.0, time.perf_counter()

    def start(self) -> None:
        """See `Executor`."""
        self._left = time.perf_counter()

    def settle(self) -> None:
        """See `Executor`; there was none."""

    def release(self) -> None:
        """See `Executor`; slots hold nothing."""

    def prefer(self, kinds: Sequence[Kind]) -> int:
        """See `Executor`; as `RayExecutor` does."""
        idle = [slot.kind for slot in self._slots if not slot.task]
        return preferred(kinds, idle, [slot.kind for slot in self._slots if slot.task])

    def submit(self, task: Task) -> None:
        """See `Executor`."""
        wanted = kind(task.model, task.hyperparameters)
        idle = [own for own in self._slots if not own.task and own.node not in self._gone]
        slot = max(idle, key=lambda own: own.kind == wanted)
        slot.kind, slot.task, slot.gaps, slot.step = wanted, task, self._draw(), 0
        slot.began = self._now + time.perf_counter() - self._left
        self._plan(slot.began + slot.gaps[0], functools.partial(self._say, slot, task))

    def poll(self, timeout: float) -> list[Message]:
        """See `Executor`; what the driver took since the last call has passed in virtual time."""
        start = time.perf_counter()
        self._now += start - self._left
        self._now = max(self._now, self._agenda[0][0] if self._agenda else self._now + timeout)
        said: list[Message] = []
        while self._agenda and self._agenda[0][0] <= self._now + BATCH:
            at, _, happens = heapq.heappop(self._agenda)
            said += happens(at)
        self.messages += len(said)
        self._left = time.perf_counter()
        self.own += self._left - start
        for message in said:
            self._keep(message)
        return said

    def prune(self, run_id: str) -> None:
        """See `Executor`."""
        for slot in self._slots:
            if slot.task and slot.task.run_id == run_id:
                self._plan(self._now, functools.partial(self._end, slot, "pruned"))

    def stop(self) -> None:
        """See `Executor`."""
        for slot in [own for own in self._slots if own.task]:
            self._plan(self._now, functools.partial(self._end, slot, "interrupted"))

    def close(self) -> None:
        """See `Executor`."""
        self._agenda.clear()

    def lose(self, at: float) -> list[Message]:
        """Take a node away, and plan its return."""
        node = self._random.choice(sorted({s.node for s in self._slots} - self._gone))
        own = [slot for slot in self._slots if slot.node == node]
        self._gone.add(node)
        self.slots -= len(own)
        self._plan(at + AWAY, lambda _: self._replace(node, len(own)))
        busy = [slot for slot in own if slot.task]
        self.lost += len(busy)
        return [message for s in busy for message in self._end(s, "interrupted", at, "lost")]

    def plan_losses(self, times: Sequence[float]) -> None:
        """Lose a node at each of these times."""
        for at in times:
            self._plan(at, self.lose)

    def _replace(self, node: int, slots: int) -> list[Message]:
        self._gone.remove(node)
        self.slots += slots
        return []

    def _plan(self, at: float, happens: Callable[[float], list[Message]]) -> None:
        heapq.heappush(self._agenda, (at, next(self._order), happens))

    def _say(self, slot: Slot, task: Task, at: float) -> list[Message]:
        """Return what a trial says next: its node, what it runs on, its epochs, its result."""
        if slot.task is not task:
            return []
        slot.step += 1
        if slot.step == len(slot.gaps):
            return self._end(slot, "complete", at)
        self._plan(at + slot.gaps[slot.step], functools.partial(self._say, slot, task))
        event = Event(int(1000 * at), environment={"node": f"node-{slot.node}", "gpu": "0"})
        if slot.step == 2:
            about = {f"environment{number}": "0" * 12 for number in range(ENVIRONMENT)}
            event = Event(int(1000 * at), environment=about)
        elif slot.step > 2:
            metrics = {name: self._random.random() for name in EPOCH}
            event = Event(int(1000 * at), slot.step - 2, metrics)
        return [Message(task.run_id, event)]

    def _end(self, slot: Slot, outcome: Any, at: float, failure: Any = None) -> list[Message]:
        task, slot.task = slot.task, None
        if task is None:
            return []
        self.began.append(slot.began)
        self.ended.append(at)
        metrics = {name: self._random.random() for name in (*FINAL, "test_accuracy")}
        if outcome != "complete":
            return [Message(task.run_id, Result(outcome, int(1000 * at), failure=failure))]
        self.complete += 1
        if self.complete in self.marks:
            self.memory.append((self.complete, psutil.Process().memory_info().rss / 2**20))
        value = self._random.random()
        return [Message(task.run_id, Result("complete", int(1000 * at), metrics, value))]

    def _keep(self, message: Message) -> None:
        """Keep what was said in the attempt's folder, which `RayExecutor` does in the driver."""
        folder = AttemptFolder(self._home.attempt(message.run_id))
        if isinstance(message.content, Event):
            folder.append(message.content)
        elif message.content.outcome == "complete":
            if self._predictions:
                write_atomically(folder.predictions, self._predictions)
            folder.write_result(message.content)
