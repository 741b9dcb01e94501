"""The report as a page: of real runs, in a real browser."""

import csv
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ec_sweep import layouts, markup, page, pictures, supplement
from ec_sweep.analysis import Comparison
from ec_sweep.claims import Verdict
from ec_sweep.evidence import Fact, Value
from ec_sweep.layouts import Table
from ec_sweep.origins import Origins
from ec_sweep.report import Report, Row
from ec_sweep.writing import Part
from tests.browser import PHONE, Browser, Tab, browser
from tests.conftest import Ecsweep, new_home
from tests.test_publishing import sweep

__all__ = ["browser"]
HOSTILE = "<script>document.title = 'taken'</script><img src=x> & $y_1$ \"quoted\" {{ 7 * 7 }}"
STUDIES = ("cnn-filters", "single-ec37", "leakage-enzyme", "hostile")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    """A home in which tiny studies have run: of two tables, of three splits, with a bad title."""
    found = new_home(tmp_path_factory.mktemp("page"))
    for study in STUDIES[:3]:
        (found.home / "sweeps" / f"{study}.yaml").write_text(sweep(study))
    hostile = sweep("batch-size").replace("Tiny batch-size", json.dumps(HOSTILE))
    hostile = hostile.replace("study: batch-size", "study: hostile").replace("[0]", "[0, 1]")
    grid = "{filter_size: [2, 3], learning_rate: [0.01, 0.001]}"
    hostile = hostile.replace("{learning_rate: [0.01]}", grid)
    (found.home / "sweeps" / "hostile.yaml").write_text(hostile)
    found.ok("study", *STUDIES, "--executor", "inline")
    found.ok("report", "--all", "--format", "csv,html")
    return found


def folder(home: Ecsweep) -> Path:
    return home.home / "reports" / "demo"


@pytest.fixture
def tab(browser: Browser, home: Ecsweep) -> Iterator[Tab]:
    """The page of all studies on a desktop."""
    with browser.open(folder(home) / "report.html") as opened:
        yield opened


def rows_of(tab: Tab, name: str) -> list[list[str]]:
    """Return the texts of a table's last heading row and of its body."""
    rows: list[list[str]] = tab.run(
        """name => [...document.querySelectorAll(`#table-of-${name} tbody tr`)].map(
            row => [...row.cells].map(cell => cell.textContent))""",
        name,
    )
    return rows


def as_csv(rows: list[list[str]]) -> list[list[str]]:
    """Return texts as the CSV has them: an interval apart, thousands joined."""
    return [[plain(part) for text in row for part in text.split(" ± ")] for row in rows]


def plain(text: str) -> str:
    return text.replace(",", "") if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", text) else text


def test_the_page_has_the_numbers_of_the_other_renderings(home: Ecsweep, tab: Tab) -> None:
    """Every table's rows are those of its CSV, text by text but for cells named in words."""
    by_file = {
        "table1": "table1", "table3": "table3", "table6": "table6",
        "table6-extended": "table6-extended", "leakage-enzyme-splits": "leakage-enzyme",
        "hostile-comparisons": "hostile-comparisons", "cnn-filters-comparisons": None,
        "claims": "claims", "claims-printed": "claims-printed",
    }  # fmt: skip
    for file, name in by_file.items():
        with (folder(home) / f"{file}.csv").open() as lines:
            wanted = list(csv.reader(lines))[1:]
        found = as_csv(rows_of(tab, name or file))
        assert wanted
        if "comparisons" in file:
            values = r"filter size \d(, learning rate [\d.]+)?"
            assert all(re.fullmatch(values, text) for row in found for text in row[:2])
            found = [[re.sub("filter size |learning rate ", "", t) for t in r] for r in found]
        if "claims" in file:  # whose numbers are told in other words
            found, wanted = ([row[:3] for row in rows] for rows in (found, wanted))
        assert [[t for t in row if t] for row in found] == [[t for t in w if t] for w in wanted]
    tidy = list(csv.DictReader((folder(home) / "hostile.csv").open()))
    shown = rows_of(tab, "hostile")
    accuracies = [f"{float(row['test_accuracy']):.4f}" for row in tidy]
    assert [row[2].partition(" ± ")[0] for row in shown] == accuracies


def test_every_part_of_the_report_is_there(tab: Tab) -> None:
    """Datasets, tables, each kind of figure, conclusions, what is missing and where all is from."""
    headings = tab.run("[...document.querySelectorAll('h1, h2, h3')].map(h => h.textContent)")
    for wanted in (
        "Results, demo scale", "Data", "ec37, random split", "enzyme, cluster split",
        "Table 1. Classes", "Table 3. Tiny cnn-filters", "Table 6. Tiny single-ec37", HOSTILE,
        "The paper's conclusions", "What is not here", "Where the numbers come from",
    ):  # fmt: skip
        assert wanted in headings
    figures = tab.run("[...document.querySelectorAll('figcaption strong')].map(f => f.textContent)")
    for kind in (
        "Sequences of each class", "Learning curves", "Test accuracy against training time",
        "Heat map of the grid", "Confusion matrix", "Test accuracy of each model",
    ):  # fmt: skip
        assert any(text.startswith(kind) for text in figures), kind
    said = tab.run("document.querySelector('#not-here').textContent")
    assert "Table 7 needs combined-enzyme and combined-ec37" in said
    assert "not comparable" in tab.run("document.querySelector('header').textContent")


def test_nothing_is_asked_of_anybody(browser: Browser, home: Ecsweep) -> None:
    """Of all pages: one request, for the file itself; nothing goes wrong; nothing may be loaded."""
    pages = [folder(home) / "report.html"]
    home.ok("report", *STUDIES, "--format", "html", "--out", str(home.home / "single"))
    pages += sorted((home.home / "single").iterdir())
    assert [path.name for path in pages[1:]] == sorted(f"{study}.html" for study in STUDIES)
    for path in pages:
        with browser.open(path) as tab:
            tab.page.wait_for_timeout(200)
            assert tab.requests == [path.as_uri()]
            assert tab.errors == []
            assert tab.failed == []
            blocked = "fetch('http://127.0.0.1:9/').then(() => 'loaded', error => 'blocked')"
            assert tab.run(blocked) == "blocked"
            assert any("Content Security Policy" in error for error in tab.errors)


def test_links_and_ids(tab: Tab) -> None:
    """No id stands twice, and whatever refers to one, in text or drawing, finds it."""
    found = tab.run(
        """() => {
            const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
            const used = new Set();
            for (const element of document.querySelectorAll('*'))
                for (const {name, value} of element.attributes) {
                    if (name === 'href' && value.startsWith('#')) used.add(value.slice(1));
                    if (name.startsWith('aria-labelledby')) used.add(value);
                    for (const match of value.matchAll(/url\\(#([^)]+)\\)/g)) used.add(match[1]);
                }
            return {ids, used: [...used]};
        }"""
    )
    assert len(found["ids"]) == len(set(found["ids"]))
    assert set(found["used"]) <= set(found["ids"])
    assert len(found["used"]) > 100
    leading_out = tab.run("[...document.querySelectorAll('a:not([href^=\"#\"])')].map(a => a.href)")
    assert leading_out
    assert all(
        re.fullmatch(r"http://127\.0\.0\.1:5000/#/runs/[0-9a-f]{32}", a) for a in leading_out
    )


def test_a_number_leads_to_its_run(home: Ecsweep, browser: Browser) -> None:
    """By a click, by the keyboard, and without scripts; the MLflow UI may be elsewhere."""
    file = json.loads((folder(home) / "table3.provenance.json").read_text())["cells"]
    size_3 = next(o for o in file.values() if o["params"]["filter_size"] == 3)
    cell = next(name for name, origin in file.items() if origin is size_3)
    number = "#table-of-table3 tbody tr:nth-child(2) td:nth-of-type(1) a"
    with browser.open(folder(home) / "report.html") as tab:
        tab.page.click(number)
        box = tab.page.locator("#origin")
        text = box.inner_text()
        (run,) = size_3["runs"]
        for part in (run, cell, size_3["dataset"], "cnn-filters@demo", "Filter size 3", "epochs=2"):
            assert part in text
        assert size_3["environment"]["device"] in text
        tab.page.keyboard.press("Escape")
        assert not box.is_visible()
        assert tab.run("document.activeElement.textContent") == tab.page.inner_text(number)
        tab.page.fill("#mlflow", "https://mlflow.lab:8080/")
        tab.page.press("#mlflow", "Enter")
        tab.page.locator(number).press("Enter")
        href = box.locator("a.run").get_attribute("href")
        assert href == f"https://mlflow.lab:8080/#/runs/{run}"
        tab.page.get_by_role("button", name="Close").click()
        tab.page.fill("#mlflow", "javascript:alert(1)")
        tab.page.press("#mlflow", "Enter")
        assert tab.page.locator("a.run").first.get_attribute("href").startswith("https://mlflow")
    with browser.open(folder(home) / "report.html", scripts=False) as tab:
        tab.page.click(number)
        assert run in tab.page.locator("article:target").inner_text()


def test_numbers_over_seeds_lead_to_all_their_runs(home: Ecsweep, tab: Tab) -> None:
    """A mean names each seed's run."""
    tab.page.click("#table-of-hostile tbody tr:first-child td a")
    runs = tab.page.locator("#origin a.run").all_inner_texts()
    query = "SELECT count(*) FROM tags WHERE key = 'ecsweep.cell' AND run_uuid IN ('{}', '{}')"
    assert len(set(runs)) == 2
    assert home.sql("mlflow.db", query.format(*runs)) == [(2,)]


@pytest.mark.parametrize("name", ["report", "cnn-filters"])
def test_a_phone_shows_all_of_it(browser: Browser, home: Ecsweep, name: str) -> None:
    """At 390 pixels the page does not scroll sideways; wide tables do so within themselves."""
    home.ok("report", "cnn-filters", "--format", "html")
    with browser.open(folder(home) / f"{name}.html", size=PHONE) as tab:
        assert tab.run("document.documentElement.scrollWidth") <= PHONE[0]
        beyond = tab.run(
            """[...document.querySelectorAll('table, .drawing')].filter(e =>
                e.getBoundingClientRect().right > innerWidth && !e.closest('.scroll')).length"""
        )
        assert beyond == 0
        inside = tab.run(
            """[...document.querySelectorAll('.scroll')].filter(e =>
                e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX == 'auto').length"""
        )
        assert inside
        unsaid = tab.run(
            """[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth
                && !getComputedStyle(e, '::before').content.includes('scroll')).length"""
        )
        assert unsaid == 0
        tab.page.locator("td a").first.click()
        width = tab.run("document.querySelector('dialog').getBoundingClientRect().width")
        assert 300 < width <= PHONE[0]


def test_conclusions_stack_on_a_phone(browser: Browser, home: Ecsweep) -> None:
    """Claim, verdict and numbers stand below each other, a comparison a line, nothing aside."""
    with browser.open(folder(home) / "report.html", size=PHONE) as tab:
        boxes = tab.run(
            """[...document.querySelectorAll('.prose tbody tr')].map(row =>
                [...row.cells].map(cell => {
                    const {left, right, top, bottom} = cell.getBoundingClientRect();
                    return [left, right, top, bottom];
                }))"""
        )
        assert len(boxes) > 60
        for cells in boxes:
            assert len({left for left, *_ in cells}) == 1
            assert all(right <= PHONE[0] for _, right, *_ in cells)
            for above, below in itertools.pairwise(cells):
                assert 0 <= below[2] - above[3] < 20
        line = "#table-of-claims-printed .lines li"
        lines = tab.run(f"[...document.querySelectorAll('{line}')].map(l => l.textContent)")
    assert (
        "0.8129 (filter size 7, learning rate 0.01) ≤ 0.8171 (filter size 7, learning rate "
        "0.001)" in lines
    )
    assert not [text for text in lines if "=" in text or "_" in text]


def test_a_small_table_leaves_its_caption_the_width_of_the_text(tab: Tab) -> None:
    """A caption is as wide as a paragraph, however narrow its table."""
    widths = tab.run(
        """[...document.querySelectorAll('table')].map(table => [
            document.getElementById(table.getAttribute('aria-labelledby')), table
        ].map(e => e.getBoundingClientRect().width))"""
    )
    assert min(table for _, table in widths) < 500
    assert {caption for caption, _ in widths} == {736}  # 46 rem


CONTRASTS = """() => {
    const light = ([r, g, b]) => {
        const part = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const found = numbers(getComputedStyle(at).backgroundColor);
            if (found.length < 4 || found[3] > 0) return found;
        }
    };
    const found = {};
    for (const element of document.querySelectorAll('body *:not(svg *, script)')) {
        const own = [...element.childNodes].some(n => n.nodeType == 3 && n.textContent.trim());
        if (!own) continue;
        const pair = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        found[element.tagName + '.' + element.className] = ratio;
    }
    return found;
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_legible_in_both_schemes(
    browser: Browser, home: Ecsweep, tmp_path: Path, dark: bool
) -> None:
    """Text has the contrast that WCAG asks for, and figures take the scheme's ground."""
    with browser.open(folder(home) / "report.html", dark=dark) as tab:
        contrasts = tab.run(CONTRASTS)
        assert len(contrasts) > 15
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
        ground = tab.run("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", ground))) < 60) is dark
        drawing = tab.page.locator("#study-cnn-filters .drawing").first
        drawing.screenshot(path=tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        grey = image.convert("L")
    shades = grey.histogram()
    total = sum(shades)
    on_ground = sum(shades[:60]) if dark else sum(shades[200:])
    assert on_ground > 0.6 * total
    assert (grey.getextrema()[1] > 200) if dark else (grey.getextrema()[0] < 50)


def test_on_paper_nothing_is_cut_off(browser: Browser, home: Ecsweep, tmp_path: Path) -> None:
    """Printed on A4 every table fits the width, in dark schemes too on white."""
    with browser.open(folder(home) / "report.html", size=(688, 1000), dark=True) as tab:
        tab.page.emulate_media(media="print", color_scheme="dark")
        wide = tab.run(
            """[...document.querySelectorAll('table, .drawing')].filter(e =>
                e.getBoundingClientRect().right > innerWidth + 1).map(e => e.id)"""
        )
        assert wide == []
        assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not tab.page.locator("nav").is_visible()
        tab.page.pdf(path=tmp_path / "report.pdf", format="A4")
        captions = tab.run("[...document.querySelectorAll('.caption')].map(c => c.textContent)")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")
    if shutil.which("pdftotext"):
        read = ["pdftotext", "-layout", str(tmp_path / "report.pdf"), "-"]
        text = subprocess.run(read, capture_output=True, text=True, check=True).stdout
        words = " ".join(text.split())
        for caption in captions:
            assert " ".join(caption.split()[:6]) in words


def test_a_title_of_others_is_only_text(home: Ecsweep, browser: Browser) -> None:
    """What looks like markup, script or template is shown letter by letter, in figures too."""
    home.ok("report", "hostile", "--format", "html")
    with browser.open(folder(home) / "hostile.html") as tab:
        assert tab.page.inner_text("h1") == f"{HOSTILE}, demo scale"
        assert tab.page.title() == f"{HOSTILE}, demo scale"
        assert tab.run("document.images.length") == 0
        assert tab.run("document.scripts.length") == 1
        captions = tab.run("[...document.querySelectorAll('figcaption')].map(c => c.textContent)")
        assert sum(" ".join(HOSTILE.split()) in text for text in captions) >= 3
        assert tab.errors == []


def test_one_file_for_whatever_is_asked(home: Ecsweep, tmp_path: Path) -> None:
    """A table of the paper and the conclusions have pages of their own; the page alone is alone."""
    for arguments, name in (
        (["--table", "3"], "table3.html"),
        (["--table", "1"], "table1.html"),
        (["--claims"], "claims.html"),
        (["--all"], "report.html"),
    ):
        out = tmp_path / name
        home.ok("report", *arguments, "--format", "html", "--out", str(out))
        assert [path.name for path in out.iterdir()] == [name]
    text = (tmp_path / "table3.html" / "table3.html").read_text()
    assert "table-of-table3" in text
    assert "enzyme, random split" in text
    assert "single-ec37" not in text


def test_the_same_runs_make_the_same_page(home: Ecsweep, tmp_path: Path) -> None:
    """Nothing in it depends on when it was made."""
    for name in ("one", "two"):
        home.ok("report", "cnn-filters", "--format", "html", "--out", str(tmp_path / name))
    one, two = ((tmp_path / name / "cnn-filters.html").read_bytes() for name in ("one", "two"))
    assert one == two


def row(size: int, scale: str) -> Row:
    params = {"model": "cnn", "dataset": "enzyme", "split": "random", "filter_size": size}
    theirs = {"test_accuracy": 0.81, "test_loss": 0.45} if scale == "paper" else {}
    metrics = {"test_accuracy": 0.8, "test_loss": 0.5}
    return Row(params | {"learning_rate": 0.01}, 1, metrics, published=theirs, runs={0: f"r{size}"})


def made(scale: str, rows: list[Row]) -> Report:
    cells = {
        f"c{row.params['filter_size']}": {
            "params": row.params, "seed": 0, "runs": list(row.runs.values()), "dataset": "f" * 64,
            "code": "1", "concurrency": "2", "environment": {"device": "<b>GPU</b>"},
        }
        for row in rows
    }  # fmt: skip
    return Report(
        study="cnn-filters", scale=scale, title="T", table=3, source="Source",
        axes=["filter_size", "learning_rate"], rows=rows, provenance={"cells": cells},
        cards={("enzyme", "random"): {}},
    )  # fmt: skip


def test_published_values_stand_beside_ours_at_paper_scale_alone() -> None:
    """Ours, the paper's and the difference share a heading; the paper's numbers lead nowhere."""
    for scale in ("paper", "demo"):
        found = made(scale, [row(2, scale), row(3, scale)])
        sources = Origins({"cnn-filters": found}, "http://host")
        laid_out = markup.lay_out("t", layouts.study_table(found), sources)
        texts = [[cell.text for cell in line.cells] for line in laid_out.body]
        if scale == "demo":
            assert texts == [["2", "0.8000", "0.5000"], ["3", "0.8000", "0.5000"]]
            continue
        assert texts == [
            ["2", "ours", "0.8000", "0.5000"], ["paper", "0.8100", "0.4500"],
            ["difference", "-0.0100", "+0.0500"],
            ["3", "ours", "0.8000", "0.5000"], ["paper", "0.8100", "0.4500"],
            ["difference", "-0.0100", "+0.0500"],
        ]  # fmt: skip
        first, paper = laid_out.body[0].cells, laid_out.body[1].cells
        assert (first[0].scope, first[0].rows) == ("rowgroup", 3)
        assert [cell.link for cell in first] == ["", "", "origin-1", "origin-1"]
        assert {cell.link for cell in paper} == {""}
        assert [line.apart for line in laid_out.body] == [False, False, False, True, False, False]


def test_long_tables_say_what_they_leave_out() -> None:
    """A page does not grow without end: the CSV has every row."""
    table = Table(
        ["Row"], [(str(n),) for n in range(700)], ["ACC"], [["0.5"]] * 700, "Long", "", ["Note."]
    )
    laid_out = markup.lay_out("long", table, Origins({}, ""))
    assert len(laid_out.body) == 500
    assert laid_out.notes == ["The first 500 of 700 rows; the CSV has all.", "Note."]


def test_numbers_of_conclusions_are_told_a_line_each() -> None:
    """With names of hyperparameters and models as words; what is no comparison stays a sentence."""

    def value(metric: str, name: str, mean: float) -> Value:
        return Value(metric, name, mean, None)

    def told(*facts: Fact, said: Sequence[str] = ()) -> tuple[str, list[str]]:
        holds = all(fact.holds for fact in facts) if facts else None
        table = supplement.claims_table([Verdict("1", "text", holds, said, facts)], "demo")
        cell = markup.lay_out("t", table, Origins({}, "")).body[0].cells[-1]
        return cell.text, list(cell.lines)

    accuracy, loss = "test_accuracy", "test_loss"
    depth = value(accuracy, "lstm units=20 depth=4", 0.6225)
    other = value(accuracy, "gru units=20 depth=4", 0.6797)
    sizes = value(accuracy, "sizes 2-4 at 0.01", 0.5)
    assert told(
        depth.over(other),
        other.over(depth),
        *sizes.near(0.8, 0.01)[:1],
        said=["left out, without a result: gru units=20 depth=5"],
    ) == (
        "1 of 3 comparisons of accuracy hold. Not these:",
        [
            "0.6225 (LSTM, units 20, depth 4) ≤ 0.6797 (GRU, units 20, depth 4)",
            "0.5 (sizes 2, 4 at 0.01) + 0.01 ≤ 0.8",
            "left out, without a result: GRU, units 20, depth 5",
        ],
    )
    complex_cnn = value(loss, "complex-cnn", 0.58667).times(0.9)
    less = value(accuracy, "dataset=ec37 cnn-lstm less dataset=ec37 cnn-gru", 0.02)
    assert told(
        complex_cnn.over(value(loss, "lstm", 0.4798)), less.over(value(accuracy, "level", -1e-5))
    ) == (
        "2 of 2 comparisons hold:",
        [
            "Loss: 0.528 (0.9 \u00d7 Complex CNN) > 0.4798 (LSTM)",
            "Accuracy: 0.02 (dataset ec37, CNN-LSTM less dataset ec37, CNN-GRU) > -1e-05",
        ],
    )
    undecided = "rnn-units (not run): no rows"
    assert told(said=[undecided]) == (undecided, [])


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        (["filter_size", "learning_rate"], "filter size 2, learning rate 0.01"),
        (["model", "split"], "Single CNN, random split"),
        (["dataset", "depth"], "enzyme"),
        ([], "Single CNN"),
    ],
)
def test_cells_are_named_in_words(axes: list[str], name: str) -> None:
    """What varies, by the headings of the tables; what a cell does not have is left out."""
    found = replace(made("demo", [row(2, "demo")]), axes=axes)
    assert supplement.named(found, found.rows[0]) == name


def test_one_comparison_is_not_said_to_be_several() -> None:
    """Singular and plural, and what the names of cells are made of."""
    found = made("demo", [row(2, "demo"), row(3, "demo")])
    pair = Comparison("2, 0.01", "3, 0.01", 1, 0.1, 0.5, 0.5)
    (one,) = supplement.comparison_table(found, [pair]).notes
    (two,) = supplement.comparison_table(found, [pair] * 2).notes
    assert "One comparison needs no correction." in one
    assert "Corrected for 2 comparisons (" in two
    assert two.endswith("Cells are named by filter size, learning rate.")


def test_facts_of_others_are_only_text() -> None:
    """Neither cells, notes, sentences nor environments are taken for markup."""
    found = made("paper", [row(2, "paper")])
    bad = "<i>\x1b[31m</i>"
    table = Table(["A"], [(bad,)], [bad], [[bad]], bad, "", [bad], runs=[[(), ("r2",)]])
    parts = {"cnn-filters": Part({"cnn-filters": table})}
    text = page.render("cnn-filters", "paper", parts, {"cnn-filters": found}, [], [bad], bad)
    assert "<i>" not in text
    assert "<b>GPU" not in text
    assert "\x1b" not in text
    assert text.count("&lt;i&gt;\\x1b[31m&lt;/i&gt;") >= 6
    assert "&lt;b&gt;GPU&lt;/b&gt;" in text


def test_heat_maps_are_drawn_of_grids_alone() -> None:
    """Two hyperparameters with values for most places; nothing of one, or of what was sampled."""

    def names(found: Report) -> list[str]:
        return [one.name for one in pictures._grid(found, ("enzyme", "random"))]

    square = [row(size, "demo") for size in (2, 3)]
    more = [
        Row(one.params | {"learning_rate": 0.1}, 1, one.metrics, runs=one.runs) for one in square
    ]
    assert names(made("demo", square)) == []
    assert names(made("demo", square + more)) == ["cnn-filters-grid"]
    assert names(made("demo", square + more[1:])) == ["cnn-filters-grid"]
    assert names(made("demo", [square[0], more[1]])) == []
