"""Measure how the cost of a study grows: with workers, with data, and with the size of its grid.

    python benchmarks/bench_scaling.py [--from FILE] [--quick] [--out DIR]

Each row is the real `ecsweep study` in a new home folder, its start included:

- workers: 12 cells of the single CNN (cnn-filters at demo scale) by 1, 2 and 4 workers.
- data x 10: two cells of it side by side on 480 and on 4,800 training sequences of the embedded
  sample; with --from FILE on 1,200 and 12,000 of FILE's.
- grid x 100: 20 and 2,000 cells of `composition`, which train in milliseconds: what the engine and
  the commands that read a home need. More of it: bench_engine.py.

--quick: a few small cells, to see that it works. Prints Markdown for docs/benchmarks.md; the last
line names the folder of all homes and logs.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_engine
import numpy as np
import recorded_times
import yaml
from bench_sweep import about, timed

from ec_sweep import machine

READERS = ("status load --json", "plan load", "report load --format csv")
"""Commands that read a home; all must bear a large grid."""


def main() -> None:
    """Measure all three, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="proteins")
    parser.add_argument("--quick", action="store_true", help="a few small cells")
    parser.add_argument("--out", type=Path, help="default: a new temporary folder")
    options = parser.parse_args()
    folder = (options.out or Path(tempfile.mkdtemp(prefix="bench-scaling-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print(by_workers(folder, quick=options.quick), end="\n\n", flush=True)
    print(by_data(folder, options.source, quick=options.quick), end="\n\n", flush=True)
    print(by_grid(folder, quick=options.quick), end="\n\n", flush=True)
    print(f"{about()}\n\nFiles: {folder}")


@dataclass(frozen=True)
class Study:
    """A study that has run."""

    wall: float
    cpu: float
    runs: Sequence[recorded_times.Run]

    @property
    def training(self) -> float:
        """Seconds from the first begin of training to the last result."""
        ended: float = max(run.ended for run in self.runs)
        return ended - min(run.began for run in self.runs)

    def mean(self, metric: str) -> float:
        """Return the mean of a final metric."""
        return float(statistics.mean(run.final[metric] for run in self.runs))


def study(home: Path, *arguments: str) -> Study:
    """Run a study in a home folder."""
    home.mkdir(exist_ok=True)
    began, ended, cpu = timed(bench_engine.command("study", *arguments), home)
    found = Study(ended - began, cpu, recorded_times.read(home / "mlruns" / "mlflow.db"))
    print(f"{home.name}: {found.wall:.1f} s", file=sys.stderr, flush=True)
    return found


def by_workers(folder: Path, quick: bool) -> str:
    """Return the table of cells an hour by the number of workers."""
    sizes, epochs = ([9], 1) if quick else ([2, 4, 6, 8], 3)
    rows = [
        "| workers | cells | wall time, s | cells an hour | without start and end | x one worker "
        "| CPU a cell, s | a worker's peak, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone = 0.0
    for workers in (1, 2) if quick else (1, 2, 4):
        found = study(
            folder / f"workers-{workers}", "cnn-filters", "--workers", str(workers),
            "--set", f"filter_size={sizes}", "--set", f"epochs={epochs}",
        )  # fmt: skip
        cells = len(found.runs)
        hourly = 3600 * cells / found.training
        alone = alone or hourly
        rows.append(
            f"| {workers} | {cells} | {found.wall:.1f} | {3600 * cells / found.wall:.0f} "
            f"| {hourly:.0f} | {hourly / alone:.2f} | {found.cpu / cells:.1f} "
            f"| {max(run.final['peak_memory_mb'] for run in found.runs):,.0f} |"
        )
    return "\n".join([f"{machine.usable_cores()} cores, {epochs} epochs a cell:", "", *rows])


def by_data(folder: Path, source: Path | None, quick: bool) -> str:
    """Return the table of what ten times the data cost."""
    first = 120 if quick else 1200 if source else 480
    sweep = {
        "study": "data", "dataset": "enzyme",
        "fixed": {"model": "cnn", "length": 256, "epochs": 3},
        "grid": {"learning_rate": [0.001, 0.0001]},
    }  # fmt: skip
    rows = [
        "| training sequences | steps | wall time, s | training a cell, s | ms a step "
        "| test, µs a sequence | CPU a cell, s | a worker's peak, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for train_size in (first, 10 * first):
        home = folder / f"data-{train_size}"
        home.mkdir()
        scale = ["--scale", "paper" if source else "demo"]
        if source:
            building = bench_engine.command(
                "data", "build", "enzyme", "--from", str(source.resolve())
            )
            subprocess.run(building, cwd=home, env=bench_engine.environment(home), check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        (home / "data.yaml").write_text(yaml.safe_dump(sweep))
        found = study(
            home, "data.yaml", "--workers", "2", *scale, "--set", f"train_size={train_size}"
        )
        batches = -(-train_size // 32)
        tested = np.load(next(home.glob("mlruns/artifacts/**/predictions.npz")))["ids"]
        rows.append(
            f"| {train_size:,} | {3 * batches} | {found.wall:.1f} "
            f"| {found.mean('fit_seconds'):.1f} "
            f"| {1000 * found.mean('epoch_seconds_median') / batches:.1f} "
            f"| {1e6 * found.mean('test_seconds') / len(tested):.0f} "
            f"| {found.cpu / len(found.runs):.1f} "
            f"| {max(run.final['peak_memory_mb'] for run in found.runs):,.0f} |"
        )
    return "\n".join(["Two cells side by side, length 256, 3 epochs:", "", *rows])


def by_grid(folder: Path, quick: bool) -> str:
    """Return the table of what a hundred times the cells cost."""
    rows = [
        "| cells | wall time, s | ms a cell, from the first start to the last end "
        "| driver's CPU a cell, ms | driver's peak, MiB | MLflow's database, KiB a cell "
        + "".join(f"| `{reader}`, s " for reader in READERS)
        + "|",
        "|---" * (6 + len(READERS)) + "|",
    ]
    for cells in (20, 60) if quick else (20, 2000):
        home = folder / f"grid-{cells}"
        (home / "sweeps").mkdir(parents=True)
        lengths = bench_engine.LENGTHS
        values = [float(f"{v:.6g}") for v in np.geomspace(1e-3, 1e3, cells // len(lengths))]
        (home / "sweeps" / "load.yaml").write_text(
            "study: load\ndataset: enzyme\nfixed: {model: composition, train_size: 64}\n"
            f"grid: {{inverse_regularization: {values}, length: {lengths}}}\n"
        )
        wall, cpu, memory = bench_engine.run_study(home, workers=2)
        size = (home / "mlruns" / "mlflow.db").stat().st_size / 1024
        reading = []
        for reader in READERS:
            began = time.perf_counter()
            bench_engine.ecsweep(home, *reader.split())
            reading.append(time.perf_counter() - began)
        rows.append(
            f"| {cells:,} | {wall:.1f} | {statistics.mean(bench_engine.recorded(home)):.1f} "
            f"| {1000 * cpu / cells:.1f} | {max(memory):.0f} | {size / cells:.1f} "
            + "".join(f"| {seconds:.1f} " for seconds in reading)
            + "|"
        )
        print(f"grid-{cells}: {wall:.1f} s", file=sys.stderr, flush=True)
    return "\n".join(rows)


if __name__ == "__main__":
    main()
