"""Measure how many sequences a second `ecsweep predict` classifies.

    python benchmarks/predict.py [SEQUENCES]

For the single CNN at demo and paper length and batches of several sizes: saves a model of untrained
weights (their values cost nothing), and classifies the embedded sample's proteins, repeated, from
FASTA to TSV in this process. The first batch, which compiles, is counted in "start"; the rate is
that of the rest. Peak memory is the process's.
"""

import gzip
import io
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from ec_sweep import machine, predicting, saving, sequences, serving
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS
from ec_sweep.paths import packed
from ec_sweep.saving import About

CASES = list(itertools.product((256, 1000), (1, 32, 64, 256)))
"""Residues that the model reads, and sequences at a time."""


def main(count: int) -> None:
    """Print a table's row for each case, each measured in a process of its own."""
    print("| length | batch | start, s | sequences a second | peak memory, MB |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for length, batch_size in CASES:
        some = count // 8 if batch_size == 1 else count
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row = pool.apply(measure, (length, batch_size, some))
        print("| " + " | ".join(row) + " |", flush=True)


def measure(length: int, batch_size: int, count: int) -> list[str]:
    """Classify so many proteins; returns the row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        classifier = serving.load(model(Path(folder), length))
        run(classifier, batch_size, batch_size)
        middle = time.perf_counter()
        run(classifier, batch_size, count)
        seconds = time.perf_counter() - middle
    memory = f"{machine.peak_memory_mb():,.0f}"
    return [
        str(length),
        str(batch_size),
        f"{middle - start:.1f}",
        f"{count / seconds:,.0f}",
        memory,
    ]


def run(classifier: serving.Classifier, batch_size: int, count: int) -> None:
    """Classify the first so many proteins of the repeated sample."""
    stream = io.BufferedReader(io.BytesIO(fasta(count)))  # type: ignore[arg-type]
    length = classifier.about.hyperparameters.length
    entries = sequences.read(stream, "sample", length)
    tally = predicting.classify(entries, classifier, io.BytesIO(), batch_size=batch_size)
    assert tally.sequences == count


def fasta(count: int) -> bytes:
    """Return so many proteins of the embedded sample, again from its start when it ends."""
    with gzip.open(packed("data") / "swissprot-sample.tsv.gz", "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    some = itertools.islice(itertools.cycle(rows), count)
    return "".join(f">{row[0]}\n{row[4]}\n" for row in some).encode()


def model(folder: Path, length: int) -> Path:
    """Save the paper's single CNN with untrained weights."""
    hp = Hyperparameters(length=length)
    about = About(
        model="cnn",
        hyperparameters=hp,
        classes=("non-enzyme", "enzyme"),
        dataset=dict.fromkeys(("name", "fingerprint", "split", "source"), "none"),
        shortest=50,
        longest=1000,
        study="benchmark@demo",
        cell="0" * 12,
        seed=0,
        keep="best",
        ecsweep="",
    )
    saving.write(folder, about, MODELS["cnn"].build(hp, 2).get_weights())
    return folder


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4096)
