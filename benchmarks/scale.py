"""Measure `ecsweep data build ec37` on files of up to the paper's size.

    python benchmarks/make_corpus.py corpus.tsv
    python benchmarks/scale.py corpus.tsv [FILE...] [--processors 1,2] [--check]

Each build runs in a process of its own and a new home folder beside the file. Printed: the time of
the whole command, processor time, the largest memory of the process (resident, all threads; it
starts no others) and the fingerprint. --check compares the class counts with Table 1's.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ec_sweep import published

DRAWING = "0.056,0.032,0.032"  # the paper's


def main() -> None:
    """Build from every file with every number of processors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--processors", default=str(len(os.sched_getaffinity(0))))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    print(
        "| file | records | MB | processors | s | CPU s | peak, MiB | µs a record | fingerprint |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for path in options.files:
        for processors in map(int, options.processors.split(",")):
            card = measured(path, processors)
            if options.check:
                check(card)


def measured(path: Path, processors: int) -> dict[str, Any]:
    """Build once, print a row of the table and return the card."""
    home = Path(tempfile.mkdtemp(dir=path.parent, prefix="scale-"))
    chosen = sorted(os.sched_getaffinity(0))[:processors]
    command = [sys.executable, "-m", "ec_sweep.cli", "data", "build", "ec37", "--from", str(path),
               "--fractions", DRAWING, "--home", str(home)]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, chosen)
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{path}: the build failed")
    (file,) = home.glob("data/ec37/*/dataset.json")
    card: dict[str, Any] = json.loads(file.read_text())
    shutil.rmtree(home)
    print(
        f"| {path.name} | {card['records_in']:,} | {path.stat().st_size / 1e6:,.0f} | {processors} "
        f"| {seconds:.1f} | {used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1024:,.0f} "
        f"| {seconds / card['records_in'] * 1e6:.1f} | {card['fingerprint'][:12]} |",
        flush=True,
    )
    return card


def check(card: dict[str, Any]) -> None:
    """Raise an error if proteins of a class are not as many as Table 1 says."""
    expected = {name: n for name, n in published.class_counts()["all"].items() if n}
    if card["all_counts"] != expected:
        raise SystemExit(f"not Table 1's counts: {card['all_counts']}")


if __name__ == "__main__":
    main()
