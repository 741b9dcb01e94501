"""Check the drawing of Table 1 at the paper's size, and the paper's own columns.

    python benchmarks/table1.py [SEEDS]

Makes 9,447,681 accessions with the class sizes of Table 1's "All" column (no sequences are
needed), splits and draws them as `ecsweep data build ec37 --fractions 0.056,0.032,0.032` does,
and compares the class counts of every seed with their expectation: fraction x class size.
"""

import sys
import time

import numpy as np
import numpy.typing as npt

from ec_sweep import claims, published, splits

Array = npt.NDArray[np.float64]
FRACTIONS = {"train": 0.056, "valid": 0.032, "test": 0.032}


ENOUGH = 5
"""Expected sequences from which a count's deviation is near enough to normal."""


def main(seeds: int) -> None:
    """Print the deviations of the drawn counts, then the outliers of the printed ones."""
    sizes = published.class_counts()["all"]
    names = list(sizes)
    labels = np.repeat(np.arange(len(names)), list(sizes.values()))
    accessions = np.array([f"S{number:07}" for number in range(len(labels))], dtype=object)
    found: dict[str, list[Array]] = {part: [] for part in FRACTIONS}
    start = time.perf_counter()
    for seed in range(seeds):
        parts = splits.assign("random", accessions, labels, seed=seed)
        for place, part in enumerate(splits.PARTS):
            members = np.flatnonzero(parts == place)
            size = round(FRACTIONS[part] * len(members))
            drawn = members[splits.draw(accessions[members], size, seed)]
            found[part].append(compared(labels, members, drawn, len(names)))
        print(f"seed {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    for part, rows in found.items():
        z = z_scores(np.array(rows))
        pooled = z_scores(np.sum(rows, axis=0))
        print(
            f"{part}: {z.size} counts, |z| at most {np.abs(z).max():.2f}, "
            f"{(np.abs(z) > 2).mean():.1%} above 2 (chance: 4.6%); "
            f"{pooled.size} classes over all seeds: |z| at most {np.abs(pooled).max():.2f}"
        )
    columns = {name: counts for name, counts in published.class_counts().items() if name != "all"}
    drawn = {name: n for name, n in sizes.items() if any(c[name] for c in columns.values())}
    for outlier in claims.share_outliers(drawn, columns):
        print(
            f"printed: {outlier.name} in {outlier.column}: {outlier.count}, expected "
            f"{outlier.expected:.1f}, z {outlier.z:+.2f}"
        )


def compared(
    labels: splits.Indices, members: splits.Indices, drawn: splits.Indices, classes: int
) -> Array:
    """Return of each class its count, expectation (fraction x class size) and variance: [3, n].

    A draw without replacement is hypergeometric.
    """
    n, total = len(drawn), len(members)
    counts = np.bincount(labels[drawn], minlength=classes)
    shares = np.bincount(labels[members], minlength=classes) / total
    variance = n * shares * (1 - shares) * (total - n) / (total - 1)
    return np.stack([counts, n * shares, variance])


def z_scores(found: Array) -> Array:
    """Return deviations in standard deviations, of the classes with enough expected sequences."""
    counts, expected, variance = np.moveaxis(found, -2, 0)
    enough = expected >= ENOUGH
    return np.asarray((counts - expected)[enough] / np.sqrt(variance[enough]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
