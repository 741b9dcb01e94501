"""Scores by class and paired tests, from hand-made predictions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ec_sweep import analysis
from ec_sweep.analysis import Predictions
from ec_sweep.report import Report, Row

CARD: dict[str, Any] = {"classes": ["3.1", "3.2", "7.1"]}


def row(name: str, runs: dict[int, str], accuracy: float = 0.5, split: str = "random") -> Row:
    params = {"model": name, "dataset": "ec37", "split": split}
    return Row(params, len(runs), {"val_accuracy": accuracy}, runs=runs)


def made(*rows: Row) -> Report:
    return Report(
        study="s", scale="demo", title="S", table=None, axes=["model"], source="Demo scale: x",
        rows=list(rows), provenance={}, cards={("ec37", "random"): CARD},
    )  # fmt: skip


def answers(right: str, ids: str = "p") -> Predictions:
    """Predictions of which ``1`` are right: labels 0, answers 0 or 1."""
    predicted = np.array([0 if letter == "1" else 1 for letter in right])
    names = np.array([f"{ids}{number}" for number in range(len(right))])
    return Predictions(names, np.zeros(len(right), np.int32), predicted)


def test_scores_by_class_by_hand() -> None:
    """Precision, recall and F1 of each class; one that is never predicted scores 0."""
    labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
    predicted = np.array([0, 0, 1, 1, 0, 0])
    kept = Predictions(np.array(list("abcdef")), labels, predicted)
    found = analysis.look_at(made(), row("cnn", {3: "r"}), {"r": kept}.__getitem__)
    first, second, third = found.classes
    assert (first.precision, first.recall, first.support) == (2 / 4, 2 / 3, 3)
    assert (second.precision, second.recall, second.f1) == (0.5, 0.5, 0.5)
    assert (third.precision, third.recall, third.f1, third.support) == (0, 0, 0, 1)
    assert found.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_mcnemar_looks_at_what_only_one_gets_right() -> None:
    """Two of ten against none: p is that of two heads in two throws, 0.5."""
    kept = {"a": answers("1111111100"), "b": answers("1111110000")}
    (found,) = analysis.compare(made(row("a", {0: "a"}), row("b", {0: "b"})), kept.__getitem__)
    assert found.p == pytest.approx(0.5)
    assert found.difference == pytest.approx(0.2)
    assert found.verdict == "indistinguishable"


def test_clear_differences_are_named() -> None:
    """Thirty sequences that only one gets right are beyond chance, and the better one is named."""
    kept = {"a": answers("1" * 30 + "0" * 10), "b": answers("0" * 40)}
    rows = row("a", {0: "a"}), row("b", {0: "b"})
    (found,) = analysis.compare(made(*rows), kept.__getitem__)
    assert found.verdict == "first better"
    (found,) = analysis.compare(made(*rows[::-1]), kept.__getitem__)
    assert found.verdict == "second better"


def test_a_difference_must_hold_with_every_seed() -> None:
    """The weakest seed counts; seeds that disagree on the winner leave nothing."""
    clear, weak = answers("1" * 30 + "0" * 10), answers("1" * 2 + "0" * 38)
    none = answers("0" * 40)
    kept = {"a0": clear, "a1": weak, "b0": none, "b1": none, "c0": none, "c1": clear}
    two = [row(name, {0: f"{name}0", 1: f"{name}1"}) for name in "abc"]
    found = {(c.first, c.second): c for c in analysis.compare(made(*two), kept.__getitem__)}
    assert found["a", "b"].seeds == 2
    assert found["a", "b"].p == pytest.approx(0.5)
    assert found["a", "c"].p == 1
    assert found["a", "c"].verdict == "indistinguishable"


def test_many_comparisons_are_corrected() -> None:
    """The more pairs, the larger each p: one lucky pair among many proves nothing."""
    kept = {"a": answers("1" * 7 + "0" * 33)} | {f"m{n}": answers("0" * 40) for n in range(12)}
    rows = [row("a", {0: "a"}), *(row(f"m{n}", {0: f"m{n}"}) for n in range(12))]
    (alone,) = analysis.compare(made(*rows[:2]), kept.__getitem__)
    many = analysis.compare(made(*rows), kept.__getitem__)
    assert len(many) == 13 * 12 // 2
    assert alone.p == many[0].p < 0.05
    assert many[0].p_corrected > alone.p_corrected
    assert all(c.p_corrected >= c.p for c in many)


def test_only_the_same_test_sequences_are_compared() -> None:
    """Cells on other datasets or sizes have no pair."""
    kept = {"a": answers("1100"), "b": answers("1100", ids="q"), "c": answers("110")}
    rows = [row(name, {0: name}) for name in "abc"]
    assert analysis.compare(made(*rows), kept.__getitem__) == []
    unrun = replace(row("d", {}), n=0)
    assert analysis.compare(made(rows[0], unrun), kept.__getitem__) == []


def test_rows_of_different_splits_have_no_pair() -> None:
    """Even where they happen to be tested on the same sequences: they learned from others."""
    kept = {"a": answers("1100"), "b": answers("1111")}
    rows = [row("cnn", {0: "a"}), row("gru", {0: "b"}, split="cluster")]
    assert analysis.compare(made(*rows), kept.__getitem__) == []
    same = [row("cnn", {0: "a"}, split="cluster"), rows[1]]
    assert len(analysis.compare(made(*same), kept.__getitem__)) == 1


def test_each_split_has_its_best_cell() -> None:
    """A validation accuracy on one split says nothing of a cell on another."""
    rows = [row("cnn", {0: "a"}, 0.9), row("cnn", {0: "b"}, 0.5, split="cluster")]
    assert analysis.best_of_each_model(made(*rows)) == rows


def test_the_best_cell_of_each_model_is_chosen_on_validation() -> None:
    """Never by its test score, and never one without runs."""
    rows = [
        row("cnn", {0: "a"}, 0.5), row("cnn", {0: "b"}, 0.7), row("gru", {0: "c"}, 0.6),
        row("gru", {}, 0.9),
    ]  # fmt: skip
    assert analysis.best_of_each_model(made(*rows)) == [rows[1], rows[2]]
