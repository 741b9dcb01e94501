"""Tables: rows from real runs, renderings of hand-made ones, and a real LaTeX run."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ec_sweep import layouts, published, report, spec, supplement, tables
from ec_sweep.paths import packed
from ec_sweep.report import Report, Row
from ec_sweep.spec import Request
from tests.conftest import Ecsweep, compile_latex

PAPER = Request("paper")
HOSTILE = r"50 % of \alpha_{x} & <b>#1</b> ~ ^ $y$"


def row(size: int, rate: float, **changes: object) -> Row:
    params = {"model": "cnn", "dataset": "enzyme", "split": "random"}
    params |= {"filter_size": size, "learning_rate": rate, "hidden": [512, 512]}
    metrics = {"test_accuracy": 0.8, "test_loss": 0.5}
    return replace(Row(params, 1, metrics), **changes)  # type: ignore[arg-type]


def made(rows: list[Row], **changes: object) -> Report:
    base = Report(
        study="s",
        scale="demo",
        title="Accuracy by filter size",
        table=3,
        axes=["filter_size", "learning_rate"],
        source="Demo scale: dataset enzyme",
        rows=rows,
        provenance={},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


GRID = [row(size, rate) for size in (2, 3) for rate in (0.01, 0.0001)]


def test_table_3_layout() -> None:
    """Filter sizes down, learning rates across, ACC and Loss under each."""
    table = layouts.study_table(made(GRID))
    assert table.row_names == ["Filter size"]
    assert table.rows == [("2",), ("3",)]
    assert (table.groups, table.metrics) == (["0.01", "0.0001"], ["ACC", "Loss"])
    assert table.cells == [["0.8000", "0.5000"] * 2] * 2
    assert "Demo scale" in table.caption


def test_published_values_stand_beside_ours_at_paper_scale() -> None:
    """Ours, the paper's and the difference, one under the other; never at demo scale."""
    ours = [replace(r, published=published.values(3, r.params)) for r in GRID]
    table = layouts.study_table(made(ours, scale="paper"))
    assert table.rows[:3] == [("2", "ours"), ("2", "paper"), ("2", "difference")]
    assert table.cells[0][:2] == ["0.8000", "0.5000"]
    assert table.cells[1][:2] == ["0.7971", "0.4685"]
    assert table.cells[2][:2] == ["+0.0029", "+0.0315"]
    assert "published_test_accuracy" in tables.tidy_csv(made(ours))
    assert "published" not in tables.tidy_csv(made(GRID))
    assert "paper" not in tables.markdown(layouts.study_table(made(GRID)))


def test_every_published_cell_is_found_under_our_names() -> None:
    """The cells of the sweep files at paper scale are those that the paper prints."""
    for table, studies in published.STUDIES.items():
        cells = [
            cell
            for study in studies
            for cell in spec.cells(spec.load(packed("sweeps") / f"{study}.yaml"), PAPER)
        ]
        printed = published.cells(table)
        assert len(cells) == len(printed), table
        for cell in cells:
            (match,) = [p for p in printed if all(cell.params[k] == v for k, v in p.params.items())]
            assert published.values(table, cell.params) == match.metrics
            assert all(cell.params.get(n, v) == v for n, v in match.implied.items())
    assert published.values(3, {"filter_size": 9, "learning_rate": 0.01})["test_accuracy"] == 0.825
    assert published.values(3, {"filter_size": 16, "learning_rate": 0.01}) == {}
    assert published.values(None, {"filter_size": 9, "learning_rate": 0.01}) == {}
    na = {"model": "gru", "units": 20, "depth": 5, "learning_rate": 0.0001}
    assert published.values(2, na) == {}
    own = {"model": "lstm", "learning_rate": 0.00001, "dataset": "enzyme", "units": 50}
    assert published.values(5, own)
    for change in (
        {"units": 300},
        {"dataset": "ec37"},
        {"split": "cluster"},
        {"epochs": 1},
        {"length": 256},
    ):
        assert published.values(5, own | change) == {}, change


def test_published_class_counts_add_up() -> None:
    """Table 1: the columns' sums are the totals that the paper prints; empty means none drawn."""
    counts = published.class_counts()
    totals = {column: sum(by_class.values()) for column, by_class in counts.items()}
    assert totals == {
        "all": 9_447_681, "train_1": 317_477, "train_2": 317_477, "valid": 60_465, "test": 60_445,
    }  # fmt: skip
    assert counts["train_1"]["3.10"] == 0
    assert counts["train_1"]["3.1"] == 77_461


def at_paper_scale(study: str, seeds: int = 1) -> Report:
    """A hand-made report of a packed sweep, as its runs at paper scale would give it."""
    sweep = spec.load(packed("sweeps") / f"{study}.yaml")
    rows = []
    for number, cell in enumerate(spec.cells(sweep, PAPER)):
        metrics = dict.fromkeys(report.METRICS, 0.5 + number / 1000)
        ci95 = dict.fromkeys(report.METRICS, 0.0123) if seeds > 1 else {}
        found = published.values(sweep.table, cell.params)
        by_seed = dict.fromkeys(range(seeds), metrics)
        rows.append(Row(cell.params, seeds, metrics, ci95, found, by_seed=by_seed))
    varied = [a for a in sweep.axes if len({str(r.params.get(a)) for r in rows}) > 1]
    return Report(
        study=study, scale="paper", title=sweep.title, table=sweep.table, axes=varied,
        source=f"Paper scale: dataset {study}", rows=rows, provenance={"cells": {}},
        timing=sweep.timing,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "names", "heads", "count"),
    [
        (2, ["Units", "Depth"], ["ACC"], 11),
        (3, ["Filter size"], ["ACC", "Loss"], 8),
        (4, ["Filter sizes"], ["ACC", "Loss"], 3),
        (5, ["Model", "Learning rate"], ["ACC", "Loss", "Train s", "Test s"], 4),
        (6, ["Model", "Learning rate"], ["ACC", "Loss", "Train s", "Test s"], 4),
        (7, ["Dataset", "Model", "Learning rate"], ["ACC", "Loss", "Train s", "Test s"], 4),
    ],
)
def test_the_papers_layouts(number: int, names: list[str], heads: list[str], count: int) -> None:
    """Each table as the paper prints it, at paper scale with its values and the difference."""
    parts = [at_paper_scale(study) for study in published.STUDIES[number]]
    whole = report.joined(parts, parts[0].title, number)
    table = layouts.paper_table(whole)
    assert table.row_names == [*names, ""]
    assert table.metrics[: len(heads)] == heads
    assert len(table.rows) == 3 * count
    assert len({row[:-1] for row in table.rows}) == count
    assert f"(Table {number} of the paper)" in table.caption
    texts = [text for row in table.cells[1::3] for text in row]
    printed = [value for cell in published.cells(number) for value in cell.metrics.values()]
    assert len([text for text in texts if text != "N/A"]) == len(printed)
    assert texts.count("N/A") == (1 if number == 2 else 0)  # GRU, 20 units, depth 5
    if number >= 5:
        assert any("GTX 1660" in note for note in table.notes)


def test_a_users_axis_is_never_folded_away() -> None:
    """A sweep that names a table of the paper but varies more gets a layout with all its axes."""
    grid = [
        replace(row(size, rate), params=row(size, rate).params | {"dataset": dataset})
        for size in (2, 3)
        for rate in (0.01, 0.001)
        for dataset in ("enzyme", "ec37")
    ]
    own = made(grid, table=3, axes=["filter_size", "learning_rate", "dataset"])
    table = layouts.study_table(own)
    assert sum(map(len, table.cells)) == 2 * len(grid)
    with pytest.raises(AssertionError, match="share a place"):
        layouts.paper_table(own)


def test_a_papers_table_tells_its_splits_apart() -> None:
    """Studies of one table that ran on different splits get a column of splits."""
    first, second = at_paper_scale("combined-enzyme"), at_paper_scale("combined-ec37")
    moved = [replace(row, params=row.params | {"split": "cluster"}) for row in second.rows]
    whole = report.joined([first, replace(second, rows=moved)], "Combined", 7)
    table = layouts.paper_table(whole)
    assert table.row_names == ["Dataset", "Model", "Learning rate", "Split", ""]
    assert {row[-2] for row in table.rows if row[0] == "ec37"} == {"cluster"}
    extended = supplement.extended_table(whole, [])
    assert extended.row_names[-1] == "Split"


def test_packed_sweeps_ask_for_the_papers_values() -> None:
    """At paper scale: 30 epochs at most, batches of 32, length 1,000, the paper's stopping."""
    for path in packed("sweeps").glob("*.yaml"):
        for cell in spec.cells(spec.load(path), PAPER):
            said = {"epochs": 30, "length": 1000, "early_stopping": "paper", "hidden": [512, 512]}
            if path.stem != "batch-size":
                said["batch_size"] = 32
            assert all(cell.params.get(n, v) == v for n, v in said.items()), path


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("study", [name for names in published.STUDIES.values() for name in names])
def test_terminals_of_80_columns_show_every_number(study: str, seeds: int) -> None:
    """At paper scale, with intervals too: names whole, no number cut."""
    table = layouts.study_table(at_paper_scale(study, seeds))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.terminal(table))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for name in {name for line in table.rows for name in line} - {"difference"}:
        assert name in text


def test_table_1_at_paper_scale() -> None:
    """The card's counts, the paper's and the difference; an undrawn sample stays empty."""
    card = {
        "name": "ec37", "source": "mine.tsv (file)", "filters": {"smallest_class": 100},
        "all_counts": {"3": 9, "3.1": 1000, "9.9": 200}, "classes_left_out": {"3": 9},
        "samples": [{"3.1": 600, "9.9": 120}], "drawing": None,
        "class_counts": {part: {"3.1": 200, "9.9": 40} for part in ("valid", "test")},
    }  # fmt: skip
    table = supplement.class_table(card, "paper", "random", compared=True)
    cells = dict(zip(table.rows, table.cells, strict=True))
    assert cells["3.1", "ours"] == ["1,000", "600", "", "200", "200"]
    assert cells["3.1", "paper"] == ["2,314,776", "77,461", "77,695", "14,779", "14,812"]
    assert cells["3.1", "difference"][0] == "-2,313,776"
    assert cells["3.1", "difference"][2] == ""
    assert cells["Total", "paper"][1] == "317,477"
    assert cells["9.9", "ours"][0] == "200"
    assert "Nothing was drawn" in table.notes[1]
    assert "longtable" in tables.latex(table)
    lines = list(csv.DictReader(io.StringIO(tables.plain_csv(table))))
    assert lines[1]["All"].isdigit()  # a number for programs: no thousands separators


def test_a_missing_cell_is_na_with_its_reason_below() -> None:
    """Failed cells do not vanish from the table."""
    broken = row(3, 0.0001, n=0, metrics={}, failure="diverged: loss nan in epoch 2")
    table = layouts.study_table(made([*GRID[:3], broken]))
    assert table.cells[1][2:] == ["N/A", "N/A"]
    assert table.notes == [
        "N/A at filter size 3, learning rate 0.0001: diverged: loss nan in epoch 2."
    ]
    for text in (tables.latex(table), tables.markdown(table)):
        assert "N/A" in text
        assert "diverged" in text


def test_seeds_give_mean_and_interval() -> None:
    """Mean ± half of the 95 % interval, its method stated."""
    values = [0.7, 0.8, 0.9]
    half = report.half_interval(values)
    assert half == pytest.approx(4.302653 * np.std(values, ddof=1) / np.sqrt(3), rel=1e-6)
    several = row(2, 0.01, n=3, ci95={"test_accuracy": half})
    table = layouts.study_table(made([several]))
    assert table.cells[0][0] == "0.8000 ± 0.2484"
    assert "Student's t) over 3 seeds" in table.notes[0]
    assert next(csv.DictReader(io.StringIO(tables.tidy_csv(made([several])))))["n"] == "3"


def test_csv_is_tidy() -> None:
    """One line a cell: its params, n, every metric; lists as the paper writes them."""
    lines = list(csv.DictReader(io.StringIO(tables.tidy_csv(made(GRID)))))
    assert len(lines) == 4
    assert lines[1]["learning_rate"] == "0.0001"
    assert lines[1]["hidden"] == "512-512"
    assert lines[1]["test_accuracy"] == "0.8"
    assert lines[1]["epoch_seconds_median"] == ""


def test_one_axis_and_three_axes_have_a_layout_too() -> None:
    """The layout is for any grid, not for Table 3 alone."""
    one = layouts.study_table(made(GRID[:1] + GRID[2:3], axes=["filter_size"]))
    assert (one.rows, one.groups) == ([("2",), ("3",)], [""])
    assert "multicolumn" not in tables.latex(one)
    axes = ["model", "filter_size", "learning_rate"]
    three = layouts.study_table(made(GRID, table=None, axes=axes))
    assert three.rows == [("Single CNN", "2"), ("Single CNN", "3")]


def test_the_terminal_table_fits_80_columns() -> None:
    """Three learning rates fit a plain terminal."""
    rows = [row(size, rate) for size in range(2, 10) for rate in (0.01, 0.001, 0.0001)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.terminal(layouts.study_table(made(rows))))
    text = console.export_text()
    assert text.count("0.8000") == 24
    assert max(map(len, text.splitlines())) <= 80


def test_numbers_in_the_tables_are_those_in_mlflow(finished: Ecsweep) -> None:
    """Through the provenance file each number is found again, by SQL alone."""
    folder = finished.home / "reports" / "demo"
    origin = json.loads((folder / "tiny.provenance.json").read_text())["cells"]
    with (folder / "tiny.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(origin) == 4
    for line, (cell, source) in zip(lines, origin.items(), strict=True):
        (run_id,) = source["runs"]
        query = f"SELECT key, value FROM latest_metrics WHERE run_uuid = '{run_id}'"
        stored = dict(finished.sql("mlflow.db", query))
        assert float(line["test_accuracy"]) == stored["test_accuracy"]
        assert float(line["test_loss"]) == stored["test_loss"]
        assert line["epoch_seconds_median"] == ""  # two workers: times mean nothing
        assert line["filter_size"] == str(source["params"]["filter_size"])
        tags = dict(
            finished.sql("mlflow.db", f"SELECT key, value FROM tags WHERE run_uuid = '{run_id}'")
        )
        assert tags["ecsweep.cell"] == cell
        assert source["environment"]["backend"] == "tensorflow"
        assert len(source["dataset"]) == 64


def test_reports_go_where_asked(finished: Ecsweep, tmp_path: Path) -> None:
    """--out and --format choose folder and files."""
    finished.ok("report", "tiny", "--format", "csv", "--out", str(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {
        f"{stem}.{kind}"
        for stem in ("tiny", "tiny-classes", "tiny-comparisons")
        for kind in ("csv", "provenance.json")
    }


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_latex_compiles(finished: Ecsweep, tmp_path: Path) -> None:
    """Real tables and hostile texts go through a real LaTeX run."""
    broken = row(3, 0.0001, n=0, metrics={}, failure=HOSTILE)
    several = row(2, 0.01, ci95={"test_accuracy": 0.01})
    hostile = made([several, GRID[1], GRID[2], broken], title=HOSTILE)
    compared = made([replace(r, published=published.values(3, r.params)) for r in GRID])
    texts = [
        (finished.home / "reports" / "demo" / "tiny.tex").read_text(),
        tables.latex(layouts.study_table(hostile)),
        tables.latex(layouts.study_table(compared)),
        tables.latex(layouts.study_table(made(GRID[:1], axes=["filter_size"]))),
    ]
    compile_latex(tmp_path, *texts)
    assert (tmp_path / "tables.pdf").stat().st_size > 10_000


NASTY = [
    r"\input{/etc/passwd}", "$(rm -rf ~)", "`id`", "<script>alert(1)</script>", "a | b", "100 %",
    "=HYPERLINK(1)", "two\nlines\r\n", "\x1b[31mred\x1b[0m", "\x9b2J", "\u202egnp", "a--b ``c''",
    "[0]*x*", "caf\xe9 \u2192 \U0001f9ec", "$x_{", r"\\", "\x00\x07", "x" * 3000, "\ud800",
]  # fmt: skip
"""Titles, labels and failures as nobody means them well."""


def nasty_table(text: str) -> layouts.Table:
    return layouts.Table(
        row_names=["Cell", text],
        rows=[(text, "b"), ("c", text)],
        metrics=["ACC", text],
        cells=[["0.5", text], [text, "0.5"]],
        caption=text,
        label="tab:s",
        notes=[text],
    )


@pytest.mark.parametrize("text", NASTY)
def test_hostile_texts_are_text_in_markdown_csv_and_terminal(text: str) -> None:
    """Columns stay columns, and no control character, markup or HTML gets through."""
    table = nasty_table(text)
    written = tables.markdown(table)
    lines = [line for line in written.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {5}
    assert written.replace("\n", "").isprintable()
    assert "<script" not in written
    read = list(csv.reader(io.StringIO(tables.plain_csv(table), newline="")))
    assert [len(line) for line in read] == [4, 4, 4]
    console = Console(width=100, file=io.StringIO())
    console.print(tables.terminal(table))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().replace("\n", "").isprintable()


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.skipif(not shutil.which("pdftotext"), reason="pdftotext is not installed")
def test_hostile_texts_are_text_in_latex(tmp_path: Path) -> None:
    """They compile, and stand on the page as they are; nothing is read or run."""
    said = compile_latex(tmp_path, *(tables.latex(nasty_table(text[:300])) for text in NASTY))
    assert "passwd" not in said
    page = ["pdftotext", "-layout", "tables.pdf", "-"]
    shown = subprocess.run(page, cwd=tmp_path, capture_output=True).stdout.decode()
    for literal in (
        NASTY[0],
        "$(rm -rf",
        "<script>",
        "a | b",
        "100 %",
        "[0]*x*",
        "a--b",
        "U+1F9EC",
    ):
        assert literal in shown, literal
