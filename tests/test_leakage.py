"""What random splitting is worth: the table and the figure of a study with several splits."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from scipy import stats

from ec_sweep import drawing, figures, layouts, leakage, tables
from ec_sweep.publishing import Publisher
from ec_sweep.report import Report, Row
from tests.conftest import compile_latex

ACCURACIES = {
    "cnn": {"random": 0.80, "identical": 0.78, "cluster": 0.70},
    "kmer-nn": {"random": 0.90, "identical": 0.85, "cluster": 0.60},
}


def row(model: str, split: str, *accuracies: float, dataset: str = "enzyme") -> Row:
    """A row with one accuracy a seed."""
    by_seed = {seed: {"test_accuracy": value} for seed, value in enumerate(accuracies)}
    mean = {"test_accuracy": sum(accuracies) / len(accuracies)} if accuracies else {}
    several = len(accuracies) > 1
    return Row(
        {"model": model, "dataset": dataset, "split": split},
        len(accuracies),
        mean,
        {"test_accuracy": leakage.half_interval(accuracies)} if several else {},
        failure="" if accuracies else "oom: too large",
        by_seed=by_seed,
        sizes={"train": 300, "valid": 100, "test": 100},
    )


def card(leaked: int, in_families: int | None = None, test: int = 100) -> dict[str, Any]:
    found = {"sizes": {"test": test}, "test_sequences_also_in_train": leaked}
    return (
        found if in_families is None else {**found, "test_sequences_in_train_families": in_families}
    )


CARDS = {
    ("enzyme", "random"): card(12, 40),
    ("enzyme", "identical"): card(0, 38),
    ("enzyme", "cluster"): card(0, 0),
}


def made(rows: list[Row] | None = None, **changes: Any) -> Report:
    rows = rows or [
        row(model, split, value)
        for model, values in ACCURACIES.items()
        for split, value in values.items()
    ]
    base = Report(
        study="s", scale="demo", title="Worth", table=None, axes=["model", "split"],
        source="Demo scale: dataset enzyme", rows=rows, provenance={}, cards=CARDS,
    )  # fmt: skip
    return replace(base, **changes)


def test_each_split_has_a_column_of_its_own() -> None:
    """Models down, splits across, what random splitting adds, and below it what leaks."""
    table = leakage.splits_table(made())
    assert table.row_names == ["Model"]
    assert table.metrics == ["random", "identical", "cluster", "random - cluster"]
    lines = dict(zip([names[0] for names in table.rows], table.cells, strict=True))
    assert lines == {
        "Single CNN": ["0.8000", "0.7800", "0.7000", "+0.1000"],
        "k-mer neighbour": ["0.9000", "0.8500", "0.6000", "+0.3000"],
        "Test sequences": ["100", "100", "100", ""],
        "also in train": ["12", "0", "0", ""],
        "family in train": ["40", "38", "0", ""],
    }
    assert table.apart == 3
    assert any("± 0.098" in note for note in table.notes)  # 1.96 * sqrt(0.25 / 100)


def test_what_is_not_known_is_not_a_zero() -> None:
    """A cell that failed, and a card without families, have no number; nor has the difference."""
    rows = [row("cnn", "random", 0.8), row("cnn", "cluster")]
    cards = {("enzyme", "random"): card(12), ("enzyme", "cluster"): card(0, 0)}
    table = leakage.splits_table(made(rows, cards=cards))
    assert table.cells == [
        ["0.8000", "N/A", ""],
        ["100", "100", ""],
        ["12", "0", ""],
        ["N/A", "0", ""],
    ]
    assert any("oom: too large" in note and "cluster" in note for note in table.notes)


@pytest.mark.parametrize("key", ["source_sha256", "filters", "transfers"])
def test_what_was_built_of_other_proteins_is_not_compared(key: str) -> None:
    """Datasets of different sources or filters differ by more than their split."""
    cards = {
        (name, split): {**found, key: f"of {split}", "source": f"{split}.tsv (file)"}
        for (name, split), found in CARDS.items()
    }
    table = leakage.splits_table(made(cards=cards))
    assert [cells[-1] for cells in table.cells[:2]] == ["N/A", "N/A"]
    assert any("random.tsv (file) and cluster.tsv (file)" in note for note in table.notes)


def test_a_difference_has_an_interval_where_seeds_repeat_it() -> None:
    """Over the seeds that both have; the mean difference with Student's t."""
    table = leakage.splits_table(
        made([row("cnn", "random", 0.80, 0.82, 0.84), row("cnn", "cluster", 0.70, 0.73, 0.73)])
    )
    gaps = [0.10, 0.09, 0.11]
    half = stats.t.ppf(0.975, 2) * stats.sem(gaps)
    assert table.cells[0][2] == f"+0.1000 ± {half:.4f}"
    assert not math.isclose(half, 0)


def test_leaks_of_a_dataset_that_is_used_in_part_say_so() -> None:
    """Accuracies rest on 100 test sequences, the card's counts on 400: both stand there."""
    cards = {data: {**found, "sizes": {"test": 400}} for data, found in CARDS.items()}
    table = leakage.splits_table(made(cards=cards))
    assert [row for row, *_ in table.rows[-4:]] == [
        "Test sequences", "of so many", "also in train", "family in train",
    ]  # fmt: skip
    assert table.cells[-3] == ["400", "400", "400", ""]
    assert any("counted in all of it" in note for note in table.notes)


def test_datasets_are_kept_apart_too() -> None:
    """With two datasets in the grid each has rows, and leaks, of its own."""
    names = "enzyme", "ec37"
    rows = [row("cnn", s, 0.7, dataset=name) for name in names for s in ("random", "cluster")]
    cards = {
        (name, s): card(n, n) for n, name in enumerate(names, 1) for s in ("random", "cluster")
    }
    table = leakage.splits_table(made(rows, axes=["dataset", "model", "split"], cards=cards))
    assert table.rows[:2] == [("enzyme", "Single CNN"), ("ec37", "Single CNN")]
    assert ("also in train, ec37", "") in table.rows
    assert table.cells[table.rows.index(("also in train, ec37", ""))] == ["2", "2", ""]


@pytest.mark.parametrize(
    ("splits", "against"),
    [
        (["random", "cluster", "identical"], "cluster"),
        (["random", "identical"], "identical"),
        (["given", "random"], "given"),
        (["identical", "cluster"], None),
    ],
)
def test_random_is_compared_with_the_split_that_keeps_most_apart(
    splits: list[str], against: str | None
) -> None:
    """Without a random split there is nothing to be worth something."""
    rows = [row("cnn", split, 0.7) for split in splits]
    cards = {("enzyme", split): card(0) for split in splits}
    table = leakage.splits_table(made(rows, cards=cards))
    assert table.metrics == splits + ([f"random - {against}"] if against else [])


def test_a_study_with_one_split_keeps_its_layout() -> None:
    """Only several splits make columns of splits; a sampled study stays a ranking."""
    one = made([row("cnn", "random", 0.8)], axes=["model"])
    several = made()
    publisher = Publisher({}, "demo", [], Path())
    publisher._made = {"one": one, "several": several, "drawn": replace(several, metric="val_loss")}
    assert publisher.table("one") == layouts.study_table(one)
    assert publisher.table("several") == leakage.splits_table(several)
    assert publisher.table("drawn").apart == 0


def test_the_table_fits_a_terminal_and_a_page(tmp_path: Path) -> None:
    """80 columns show every number, with seeds too; LaTeX typesets it without an overfull line."""
    rows = [
        row(model, split, value, value + 0.01)
        for model, values in ACCURACIES.items()
        for split, value in values.items()
    ]
    table = leakage.splits_table(made(rows))
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(tables.terminal(table))
    shown = console.export_text()
    assert "…" not in shown
    lines = [line.strip() for line in shown.splitlines()]
    (at,) = [n for n, line in enumerate(lines) if line.startswith("Test sequences")]
    assert not lines[at - 1]  # set apart
    assert all(text.partition(" ±")[0] in shown for line in table.cells for text in line)
    said = compile_latex(tmp_path, tables.latex(table))
    assert "Overfull" not in said
    assert tables.latex(table).count("\\midrule") == 2


def test_marks_have_the_interval_of_a_share_of_the_test_set() -> None:
    """With one seed Wilson's interval: 80 of 100 lies between 0.7112 and 0.8666."""
    found, what = leakage.estimates(made())
    assert list(found) == ["random", "identical", "cluster"]
    assert found["random"]["Single CNN"] == pytest.approx((0.80, 0.7112, 0.8666), abs=1e-4)
    assert "test sequences" in what


def test_marks_have_the_interval_over_seeds_where_there_are_several() -> None:
    """The same interval as the table's."""
    rows = [row("cnn", s, 0.7, 0.8, 0.9) for s in ("random", "cluster")]
    found, what = leakage.estimates(made(rows))
    half = rows[0].ci95["test_accuracy"]
    assert found["cluster"]["Single CNN"] == pytest.approx((0.8, 0.8 - half, 0.8 + half))
    assert "3 seeds" in what


def test_the_figure_has_one_mark_a_split_and_model(tmp_path: Path) -> None:
    """Marks stand at the accuracies, in the models' rows, and the legend names the splits."""
    splits = {
        split: {
            model: figures.Estimate(values[split], 0.5, 0.95)
            for model, values in ACCURACIES.items()
        }
        for split in ("random", "identical", "cluster")
    }
    del splits["cluster"]["cnn"]
    figure = figures.accuracy_by_split("Worth", splits, "95 % interval")
    (axes,) = figure.axes
    marks = [line for line in axes.lines if line.get_marker() in ("o", "s", "^")]
    assert [list(line.get_xdata()) for line in marks] == [[0.80, 0.90], [0.78, 0.85], [0.60]]
    assert [round(float(y)) for line in marks for y in line.get_ydata()] == [0, 1, 0, 1, 1]
    assert len({line.get_marker() for line in marks}) == 3
    (file,) = drawing.save(figure, tmp_path / "figure", ["svg"])
    for text in ("random", "identical", "cluster", "kmer-nn", "bars: 95 % interval"):
        assert text in file.read_text()
