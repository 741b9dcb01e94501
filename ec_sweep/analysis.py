"""What the kept predictions say: scores by class, confusion, and which cells truly differ."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep.cell import Data
from ec_sweep.plan import pretty
from ec_sweep.report import Report, Row

_LEVEL = 0.05
"""Share of false differences, among those found, that the correction admits."""


@dataclass(frozen=True)
class Predictions:
    """What one run answered on the test set, in the order of the ids."""

    ids: npt.NDArray[np.str_]
    labels: npt.NDArray[np.int32]
    predicted: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each answer is right: ``bool[n]``."""
        return np.equal(self.predicted, self.labels)


Load = Callable[[str], Predictions]
"""From a run's id to its predictions."""


@dataclass(frozen=True)
class ClassScores:
    """How well one class is found."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    """Test sequences of the class."""


@dataclass(frozen=True)
class Selected:
    """The first complete run of a row, looked at class by class."""

    label: str
    data: Data
    classes: list[ClassScores]
    confusion: npt.NDArray[np.int64]
    """Test sequences by true, then predicted class."""
    run: str = ""
    """The run."""


@dataclass(frozen=True)
class Comparison:
    """Two rows on the same test sequences."""

    first: str
    second: str
    seeds: int
    difference: float
    """Mean accuracy of the first less that of the second."""
    p: float
    p_corrected: float

    @property
    def verdict(self) -> str:
        """Which is better, where that is beyond chance."""
        if self.p_corrected >= _LEVEL:
            return "indistinguishable"
        return "first better" if self.difference > 0 else "second better"


def load(content: bytes) -> Predictions:
    """Return the predictions that a run's ``predictions.npz`` holds."""
    with np.load(io.BytesIO(content)) as kept:
        return Predictions(kept["ids"], kept["labels"], kept["probabilities"].argmax(axis=1))


def label_of(report: Report, row: Row) -> str:
    """Return what tells a row from the others, such as ``9, 0.01``.

    By it programs find a row of the CSV in its provenance; people read `supplement.named`.
    """
    values = [pretty(row.params[axis]) for axis in report.axes if axis in row.params]
    return ", ".join(values) or str(row.params["model"])


def best_of_each_model(report: Report) -> list[Row]:
    """Return of each dataset, split and model the row with the best validation accuracy."""
    best: dict[tuple[Data, str], Row] = {}
    for row in report.rows:
        if row.runs:
            key = (row.data, row.params["model"])
            best[key] = max(best.get(key, row), row, key=lambda r: r.metrics["val_accuracy"])
    return list(best.values())


def look_at(report: Report, row: Row, predictions: Load) -> Selected:
    """Return a row's scores by class and its confusion matrix, of its first complete seed."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    names: list[str] = report.cards[row.data]["classes"]
    found = predictions(row.runs[min(row.runs)])
    numbers = np.arange(len(names))
    scores = precision_recall_fscore_support(
        found.labels, found.predicted, labels=numbers, zero_division=0
    )
    return Selected(
        label=label_of(report, row),
        data=row.data,
        classes=[
            ClassScores(name, float(precision), float(recall), float(f1), int(support))
            for name, precision, recall, f1, support in zip(names, *scores, strict=True)
        ],
        confusion=confusion_matrix(found.labels, found.predicted, labels=numbers),
        run=row.runs[min(row.runs)],
    )


def compare(report: Report, predictions: Load) -> list[Comparison]:
    """Compare every two rows that were trained and tested on the same dataset and split.

    McNemar's exact test on the sequences that only one of the two gets right.
    With several seeds each common one is tested; the largest p counts, so that
    a difference must show with every seed, and in one direction. The p values
    are corrected for the number of pairs after Benjamini and Yekutieli, which
    holds for tests that depend on each other as these do.
    """
    from scipy.stats import false_discovery_control

    answers = {
        run: predictions(run) for row in report.rows for run in row.runs.values()
    }  # fmt: skip
    pairs = []
    for a, b in combinations(report.rows, 2):
        seeds = sorted(a.runs.keys() & b.runs.keys()) if a.data == b.data else []
        both = [(answers[a.runs[seed]], answers[b.runs[seed]]) for seed in seeds]
        if both and all(np.array_equal(one.ids, other.ids) for one, other in both):
            pairs.append((a, b, both))
    if not pairs:
        return []
    ps = [_p(both) for _, _, both in pairs]
    corrected: Sequence[Any] = false_discovery_control(ps, method="by")
    return [
        Comparison(
            first=label_of(report, a),
            second=label_of(report, b),
            seeds=len(both),
            difference=float(np.mean([x.right.mean() - y.right.mean() for x, y in both])),
            p=p,
            p_corrected=float(p_corrected),
        )
        for (a, b, both), p, p_corrected in zip(pairs, ps, corrected, strict=True)
    ]


def _p(both: Sequence[tuple[Predictions, Predictions]]) -> float:
    """Return McNemar's exact p, the largest over the seeds; 1 when they disagree on who wins."""
    from scipy.stats import binomtest

    ps, winners = [], set()
    for a, b in both:
        only_a, only_b = int((a.right & ~b.right).sum()), int((b.right & ~a.right).sum())
        winners.add(np.sign(only_a - only_b))
        ps.append(float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0)
    return max(ps) if len(winners) == 1 else 1.0
