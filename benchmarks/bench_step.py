"""Measure one training step of every network on one core, next to the least it could take.

    python benchmarks/bench_step.py [--quick] [--models cnn,lstm] [--lengths 256,1000]
        [--ways product,fit] [--rounds 4]

Each network is trained at the paper's hyperparameters and batch 32 on random tokens in these ways,
each in a process of its own that is pinned to one core:

product   a worker's own `trial.run`, as `ecsweep study` calls it
fit       Keras' `fit` with Keras' own layers and Adam, on arrays of tokens
fit xla   the same with ``jit_compile``
loop      a `tf.function` of our own with the same layers and Adam, which keeps no metrics
loop xla  the same with ``jit_compile``
jax       as "fit", on the JAX backend, which compiles by XLA as a rule
jax product  as "product", on the JAX backend; only when asked for

A network's ways follow each other. A round is an epoch of as many steps for every way; the first
one, which traces and compiles, is told apart. Prints Markdown for docs/benchmarks.md.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import floors
import libraries
import numpy as np
import synthetic

from ec_sweep import machine, models
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

NETWORKS = [name for name, model in MODELS.items() if model.is_network]
BATCH, CLASSES = 32, 2
LIMIT = 600
"""Seconds that a case may take: some compilations would take longer than they are worth."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What one process measures."""

    model: str
    length: int
    way: str
    steps: int
    """Of a round."""
    rounds: int
    filters: int
    units: int

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The paper's, but for what a quick check makes smaller."""
        return Hyperparameters(
            length=self.length, batch_size=BATCH, filters=self.filters, units=self.units,
            epochs=self.rounds + 1, early_stopping="none",
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of each round of a case, the first one first."""

    wall: list[float]
    cpu: list[float]
    steps: int

    def ms(self, kind: str) -> list[float]:
        """Return milliseconds a step of all rounds but the first."""
        return [1000 * seconds / self.steps for seconds in getattr(self, kind)[1:]]

    @property
    def first(self) -> float:
        """Seconds that the first round took longer than others: tracing and compiling."""
        return self.wall[0] - statistics.median(self.wall[1:])


class Rounds:
    """Clocks of wall and CPU time; the CPU's counts all threads of this process."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, job: Callable[[], Any]) -> None:
        """Time one round."""
        start, cpu = time.perf_counter(), time.process_time()
        job()
        self.wall.append(time.perf_counter() - start)
        self.cpu.append(time.process_time() - cpu)


def product(case: Case) -> Rounds:
    """Train by the product's own way: the seconds of its epochs are its own measurement.

    Validation, of one batch, is not in them; the share of CPU time is that of epoch and
    validation together.
    """
    from ec_sweep import trial

    sizes = {"train": case.steps * BATCH, "valid": BATCH, "test": BATCH}
    found, marks = Rounds(), [(time.perf_counter(), time.process_time())]

    def emit(event: Any) -> None:
        if event.epoch:
            marks.append((time.perf_counter(), time.process_time()))
            found.wall.append(event.metrics["epoch_seconds"])

    with tempfile.TemporaryDirectory() as folder:
        dataset = synthetic.write(Path(folder) / "data", sizes, case.length, CLASSES)
        task = synthetic.task(
            "step", case.model, case.hyperparameters, dataset, sizes, CLASSES
        )  # fmt: skip
        result = trial.run(task, emit, lambda: None)
    if result.outcome != "complete":
        raise SystemExit(f"{result.message}\n{result.traceback}")
    for wall, (before, after) in zip(found.wall, itertools.pairwise(marks), strict=True):
        found.cpu.append(wall * (after[1] - before[1]) / (after[0] - before[0]))
    return found


def compiled(case: Case, xla: bool | str) -> Any:
    """Return the network without its softmax, compiled by Keras: scores have better gradients."""
    import keras

    # Keras' own layers, where ecsweep has faster ones for this machine.
    own = unittest.mock.patch.object(models, "_fastest", lambda kind: getattr(keras.layers, kind))
    with own:
        network = MODELS[case.model].build(case.hyperparameters, CLASSES)
    trained = keras.Model(network.input, network.layers[-1].input)
    trained.compile(
        optimizer=keras.optimizers.Adam(case.hyperparameters.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=xla,
    )
    return trained


def arrays(case: Case) -> tuple[Any, Any]:
    """Return the tokens and labels of a round."""
    generator = np.random.default_rng(0)
    size = case.steps * BATCH
    tokens = generator.integers(20, size=(size, case.length), dtype=np.uint8)
    return tokens, generator.integers(CLASSES, size=size, dtype=np.int32)


def fit(case: Case, xla: bool | str) -> Rounds:
    """Train by Keras' `fit`, in one call: a round is an epoch."""
    import keras

    found = Rounds()

    class Clock(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.start = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            found.wall.append(time.perf_counter() - self.start[0])  # metrics are read: all is done
            found.cpu.append(time.process_time() - self.start[1])

    compiled(case, xla).fit(
        *arrays(case), batch_size=BATCH, epochs=case.rounds + 1, callbacks=[Clock()], verbose=0
    )
    return found


def loop(case: Case, xla: bool) -> Rounds:
    """Train by a compiled step of our own."""
    import tensorflow as tf

    network = compiled(case, xla)
    network.optimizer.build(network.trainable_variables)

    @tf.function(jit_compile=xla)  # type: ignore[untyped-decorator, unused-ignore]
    def step(tokens: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = network.loss(labels, network(tokens, training=True))
        gradients = tape.gradient(loss, network.trainable_variables)
        network.optimizer.apply(gradients)
        return loss

    tokens, labels = map(tf.constant, arrays(case))
    batches = [slice(first, first + BATCH) for first in range(0, len(labels), BATCH)]

    def one_round() -> None:
        for rows in batches:
            loss = step(tokens[rows], labels[rows])
        loss.numpy()

    found = Rounds()
    for _ in range(case.rounds + 1):
        found.time(one_round)
    return found


WAYS: dict[str, Callable[[Case], Rounds]] = {
    "product": product,
    "fit": lambda case: fit(case, xla=False),
    "fit xla": lambda case: fit(case, xla=True),
    "loop": lambda case: loop(case, xla=False),
    "loop xla": lambda case: loop(case, xla=True),
    "jax": lambda case: fit(case, xla="auto"),
    "jax product": product,
}


def measure_here(case: Case) -> None:
    """Measure a case in this process and print its times as JSON."""
    from ec_sweep import trial

    trial.configure(1, deterministic=False)
    found = WAYS[case.way](case)
    print(json.dumps({"wall": found.wall, "cpu": found.cpu}))


def rates_here(cases: list[Case]) -> None:
    """Print the floor of each network at each length as JSON."""
    from ec_sweep import trial

    trial.configure(1, deterministic=False)
    rates, words = floors.cpu_rates()
    works = [floors.of_model(case.model, case.hyperparameters, CLASSES) for case in cases]
    print(json.dumps({
        "words": words,
        "floors": [[1000 * floors.seconds(work, rates), floors.in_words(work, rates)]
                   for work in works],
    }))  # fmt: skip


def child(core: int, backend: str, *arguments: str) -> Any:
    """Run this script in a process pinned to one core; returns what it prints, or its failure."""
    os.sched_setaffinity(0, {core})  # before the libraries count their threads
    try:
        done = subprocess.run(
            [sys.executable, __file__, *arguments], check=False, timeout=LIMIT,
            capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": backend},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"over {LIMIT} s"
    finally:
        os.sched_setaffinity(0, CORES)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return "failed"
    return json.loads(done.stdout.splitlines()[-1])


CORES = os.sched_getaffinity(0)


def measure(cases: list[list[Case]]) -> None:
    """Measure everything and print it, network after network."""
    core = max(CORES)
    encoded = json.dumps([dataclasses.asdict(some[0]) for some in cases])
    rates = child(core, "tensorflow", "--rates", encoded)
    if isinstance(rates, str):
        raise SystemExit(f"the machine's rates: {rates}")
    versions = libraries.versions("tensorflow", "keras", "jax", "numpy")
    print(f"## Training steps ({date.today()})\n\n{machine.description()}; {versions}.")
    print(f"Rates of {rates['words']}.\n")
    print("| network | length | floor, ms | way | CPU ms a step: median (least to most) "
          "| wall ms a step | CPU over floor | first round adds, s |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    best = []
    for some, (floor, layers) in zip(cases, rates["floors"], strict=True):
        found: dict[str, float] = {}
        for case in some:
            backend = "jax" if case.way.startswith("jax") else "tensorflow"
            times = child(core, backend, "--case", json.dumps(dataclasses.asdict(case)))
            start = f"| {case.model} | {case.length} | {floor:.1f} | {case.way} "
            if isinstance(times, str):
                print(f"{start}| {times} | | | |", flush=True)
                continue
            taken = Times(times["wall"], times["cpu"], case.steps)
            found[case.way] = statistics.median(taken.ms("cpu"))
            print(f"{start}| {_row(taken.ms('cpu'))} | {_row(taken.ms('wall'))} "
                  f"| {found[case.way] / floor:.2f} | {taken.first:.1f} |", flush=True)  # fmt: skip
        best.append((some[0], floor, layers, found))
    _print_best(best)


def _print_best(best: list[tuple[Case, float, str, dict[str, float]]]) -> None:
    """Print one row a network: the product and the best other way, against the floor."""
    print("\n| network | length | floor, ms (by kind of layer) | product: CPU ms, over floor "
          "| best other way: CPU ms, over floor |")  # fmt: skip
    print("|---|---|---|---|---|")
    for case, floor, layers, found in best:
        ours = found.get("product")
        others = {way: ms for way, ms in found.items() if "product" not in way}
        other = min(others.items(), key=lambda item: item[1], default=None)
        print(
            f"| {case.model} | {case.length} | {floor:.1f} ({layers}) "
            f"| {f'{ours:.1f}, {ours / floor:.2f}' if ours else '-'} "
            f"| {f'{other[0]}: {other[1]:.1f}, {other[1] / floor:.2f}' if other else '-'} |"
        )


def _row(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--lengths", default="256,1000")
    parser.add_argument("--ways", default=",".join(list(WAYS)[:-1]))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--rates", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        measure_here(Case(**json.loads(options.case)))
    elif options.rates:
        rates_here([Case(**case) for case in json.loads(options.rates)])
    else:
        if options.quick:
            print("Tiny sizes: figures mean nothing.\n")
        measure(chosen(options))


def chosen(options: argparse.Namespace) -> list[list[Case]]:
    """Return the cases, those of one network and length together."""
    lengths = [16] if options.quick else [int(length) for length in options.lengths.split(",")]
    rounds, filters, units = (1, 4, 4) if options.quick else (options.rounds, 128, 50)
    return [
        [
            Case(model, length, way, 2 if options.quick else max(12, 7680 // length),
                 rounds, filters, units)
            for way in options.ways.split(",")
        ]
        for length in lengths
        for model in options.models.split(",")
    ]  # fmt: skip


if __name__ == "__main__":
    main()
