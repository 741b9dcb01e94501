"""Figures: what is drawn is what was given, the files are valid and always the same bytes."""

import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ec_sweep import drawing, figures, heatmaps, inlining
from ec_sweep.errors import EcsweepError
from ec_sweep.figures import Confusion, Curve, Point
from ec_sweep.heatmaps import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HOSTILE = ["$x_{", "a & b", "<b>1</b>", "50 % of $y$", r"\alpha_{x}", "_hidden", "#~^"]
POINTS = [
    Point("slow and best", 900, 0.92, 0.01),
    Point("fast", 10, 0.8),
    Point("beaten", 500, 0.7, 0.02),
    Point("good", 90, 0.9),
]
SAMPLES = {
    "1st training sample": {"3.1": 77461, "3.9": 16, "3.12": 0},
    "2nd training sample": {"3.1": 77695, "3.9": 12},
    "Test sample": {"3.1": 14812, "3.9": 3, "7.1": 20019},
}


def curve(label: str, epochs: int = 5) -> Curve:
    falls = [1 / (epoch + 1) for epoch in range(epochs)]
    rises = [1 - value for value in falls]
    return Curve(label, falls, [v + 0.1 for v in falls], rises, [v - 0.1 for v in rises])


def confusion(label: str, counts: list[list[int]], classes: list[str] | None = None) -> Confusion:
    names = classes or [f"3.{number + 1}" for number in range(len(counts))]
    return Confusion(label, names, np.array(counts, np.int64))


def grid(label: str, names: list[str] | None = None) -> Grid:
    down = names or ["20", "50"]
    accuracies = np.linspace(0.5, 0.9, 3 * len(down)).reshape(-1, 3)
    accuracies[0, 2] = np.nan
    return Grid(label, down, [*down, "1", "2"][-3:], accuracies)


def points() -> "Figure":
    return figures.accuracy_over_time("Accuracy against time", POINTS, "Training time (s)")


ALL: dict[str, Callable[[], "Figure"]] = {
    "curves": lambda: figures.learning_curves("Curves", [curve("a"), curve("b")]),
    "points": points,
    "matrices": lambda: figures.confusion_matrices("Matrices", [confusion("a", [[5, 1], [2, 7]])]),
    "shares": lambda: figures.class_shares("Shares", SAMPLES),
    "grids": lambda: heatmaps.accuracy_grids("Grid", "Units", "Depth", [grid("a"), grid("b")]),
}


def texts(figure: "Figure", folder: Path) -> list[str]:
    """Return every text of the figure's SVG file."""
    (file,) = drawing.save(figure, folder / "figure", ["svg"])
    return ["".join(e.itertext()) for e in ElementTree.parse(file).iter() if e.tag.endswith("text")]


@pytest.mark.parametrize("kind", ALL)
def test_every_format_is_written_and_valid(kind: str, tmp_path: Path) -> None:
    """SVG is XML with its text kept, PNG and PDF are what they say; dots in names survive."""
    files = drawing.save(ALL[kind](), tmp_path / "new" / "ec3.7", drawing.FORMATS)
    assert [file.name for file in files] == ["ec3.7.svg", "ec3.7.png", "ec3.7.pdf"]
    svg, png, pdf = (file.read_bytes() for file in files)
    assert ElementTree.fromstring(svg).get("width") == "453.6pt"  # 16 cm
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(png[16:20], "big") == 1260
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")


@pytest.mark.parametrize("kind", ALL)
def test_files_are_the_same_bytes_every_time(kind: str, tmp_path: Path) -> None:
    """A figure drawn anew is the same file."""
    first = drawing.save(ALL[kind](), tmp_path / "1", drawing.FORMATS)
    second = drawing.save(ALL[kind](), tmp_path / "2", drawing.FORMATS)
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]


def test_other_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Neither the hash seed nor the user's matplotlib settings change a figure."""
    here = drawing.save(points(), tmp_path / "here", drawing.FORMATS)
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 20\naxes.facecolor: black\nsvg.fonttype: path\n")
    code = (
        "from pathlib import Path; from ec_sweep import drawing; from tests.test_figures import *;"
        f"drawing.save(points(), Path({str(tmp_path / 'there')!r}), drawing.FORMATS)"
    )
    environment = {"MATPLOTLIBRC": str(settings), "PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"}
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=root)
    for file in here:
        assert file.read_bytes() == (tmp_path / f"there{file.suffix}").read_bytes()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EcsweepError, match=r"file/figure\.svg: cannot be written"):
        drawing.save(points(), tmp_path / "file" / "figure", ["svg"])


def test_hostile_labels_appear_letter_by_letter(tmp_path: Path) -> None:
    """No label is a formula, markup, or hidden, wherever it stands."""
    drawn = [
        figures.learning_curves(HOSTILE[0], [curve(label) for label in HOSTILE]),
        figures.accuracy_over_time(
            HOSTILE[0], [Point(label, n + 1, n / 10) for n, label in enumerate(HOSTILE)], "$s"
        ),
        figures.confusion_matrices(
            HOSTILE[0],
            [confusion(label, np.eye(7, dtype=int).tolist(), HOSTILE) for label in HOSTILE],
        ),
        figures.class_shares(HOSTILE[0], {label: dict.fromkeys(HOSTILE, 1) for label in HOSTILE}),
        heatmaps.accuracy_grids(
            HOSTILE[0], HOSTILE[1], HOSTILE[2], [grid(label, HOSTILE) for label in HOSTILE]
        ),
    ]
    for figure in drawn:
        assert set(HOSTILE) <= set(texts(figure, tmp_path))


def test_what_xml_cannot_hold_becomes_a_space(tmp_path: Path) -> None:
    """A control character in a label never makes a broken file."""
    assert "a b" in texts(figures.learning_curves("t", [curve("a\x00b")]), tmp_path)


def test_long_titles_wrap(tmp_path: Path) -> None:
    """Every word of a long title is there, on lines that fit."""
    title = " ".join(["Accuracy"] * 30)
    lines = [t for t in texts(figures.learning_curves(title, []), tmp_path) if "Accuracy A" in t]
    assert " ".join(lines) == title
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("count", [1, 8, 10])
def test_curves_are_drawn_as_given(count: int, tmp_path: Path) -> None:
    """Each run has training and validation in both panels, in a colour of its own."""
    curves = [curve(f"run {number}") for number in range(count)]
    figure = figures.learning_curves("Learning curves", curves)
    for panel, name in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for place, given in enumerate(curves):
            train, validation = panel.lines[2 * place : 2 * place + 2]
            assert list(train.get_ydata()) == list(getattr(given, f"train_{name}"))
            assert list(validation.get_ydata()) == list(getattr(given, f"val_{name}"))
            assert list(validation.get_xdata()) == [1, 2, 3, 4, 5]
            assert (train.get_linestyle(), validation.get_linestyle()) == ("--", "-")
        assert len({str(line.get_color()) for line in panel.lines}) == count
    assert {given.label for given in curves} <= set(texts(figure, tmp_path))


def test_of_many_curves_the_best_stand_out(tmp_path: Path) -> None:
    """The six that end with the best validation accuracy are in colour and named, others grey."""
    last = [0.5, float("nan"), *(number / 100 for number in range(46))]
    curves = [Curve(f"run {n}", [1, 1], [1, 1], [0.1, 0.1], [0.9, v]) for n, v in enumerate(last)]
    figure = figures.learning_curves("Many", curves)
    best = [curves[0], *curves[:-6:-1]]
    for panel in figure.axes:
        assert len(panel.lines) == 2 * 6 + 42
        coloured, grey = panel.lines[:12], panel.lines[12:]
        assert len({str(line.get_color()) for line in coloured}) == 6
        assert {(line.get_color(), line.get_linestyle()) for line in grey} == {("0.72", "-")}
        orders = [line.get_zorder() for line in (*grey, *coloured)]
        assert max(orders[:42]) < min(orders[42:])
    shown = [list(line.get_ydata()) for line in figure.axes[1].lines[1:12:2]]
    assert shown == [list(curve.val_accuracy) for curve in best]
    written = texts(figure, tmp_path)
    assert [text for text in written if text.startswith("run")] == [c.label for c in best]
    assert "42 others, validation alone" in written


def test_one_epoch_is_visible() -> None:
    """A single epoch is drawn by markers, for a line needs two."""
    figure = figures.learning_curves("One epoch", [curve("a", 1), curve("b", 1)])
    for panel in figure.axes:
        assert all(line.get_marker() not in ("", "None", None) for line in panel.lines)
        assert [line.get_markevery() for line in panel.lines[1::2]] == [(0, 1)] * 2
        assert [t for t in panel.get_xticks() if 0.5 <= t <= 1.5] == [1]


def test_diverging_losses_get_a_logarithmic_axis() -> None:
    """One run that diverges does not flatten the others; infinity and NaN break nothing."""
    wild = Curve("wild", [1, 1e6, np.inf], [1, 1e6, np.nan], [0.5] * 3, [0.5] * 3)
    loss, accuracy = figures.learning_curves("t", [curve("tame"), wild]).axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")


def test_pareto_front_is_the_fast_and_accurate() -> None:
    """Beaten points are out, ties stay, order of input is no matter."""
    assert [p.label for p in figures.pareto_front(POINTS)] == ["fast", "good", "slow and best"]
    equal = [Point("a", 1, 0.5), Point("b", 1, 0.5), Point("c", 1, 0.4), Point("d", 2, 0.5)]
    assert [p.label for p in figures.pareto_front(equal)] == ["a", "b"]
    assert figures.pareto_front([]) == []


def test_points_have_names_intervals_and_the_front(tmp_path: Path) -> None:
    """Every model is named once, the front joins the best, intervals are where they are known."""
    figure = points()
    (axes,) = figure.axes
    front = axes.lines[0]
    assert list(front.get_xdata()) == [10, 90, 900]
    assert list(front.get_ydata()) == [0.8, 0.9, 0.92]
    drawn = texts(figure, tmp_path)
    assert all(drawn.count(point.label) == 1 for point in POINTS)
    assert {"Training time (s)", "Accuracy", "95 % interval"} <= set(drawn)
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)  # itself


def test_a_point_without_numbers_is_left_out(tmp_path: Path) -> None:
    """A model that failed, or took no time at all, breaks nothing."""
    odd = [Point("failed", float("nan"), 0.5), Point("instant", 0, 0.3), *POINTS]
    drawn = texts(figures.accuracy_over_time("t", odd, "s"), tmp_path)
    assert "failed" not in drawn
    assert "instant" in drawn


@pytest.mark.parametrize("classes", [3, 5])
def test_a_few_classes_show_counts_that_fit_their_cells(classes: int, tmp_path: Path) -> None:
    """Counts with shares of the row, in letters that neither meet a neighbour's nor are tiny."""
    counts = (np.eye(classes, dtype=int) * 60_000 + 15_000).tolist()
    figure = figures.confusion_matrices("t", [confusion(m, counts) for m in "abcd"])
    written = texts(figure, tmp_path)
    assert written.count("75,000") == written.count(f"{100 * 75 / (60 + 15 * classes):.1f} %")
    assert any("test sequences, and their share" in text for text in written)
    for axes in figure.axes:
        width = axes.get_window_extent().width / classes
        assert all(text.get_window_extent().width < width for text in axes.texts)
        assert all(text.get_fontsize() > 5.5 for text in axes.texts)


def test_two_classes_show_counts(tmp_path: Path) -> None:
    """Counts and shares of the row stand in the cells, the classes along the sides."""
    matrix = confusion("CNN", [[27161, 3055], [0, 40]], ["non-enzyme", "enzyme"])
    drawn = texts(figures.confusion_matrices("t", [matrix]), tmp_path)
    assert {"27,161", "89.9 %", "3,055", "10.1 %", "0", "40", "100.0 %"} <= set(drawn)
    assert drawn.count("enzyme") == 2


def test_many_classes_show_per_cent(tmp_path: Path) -> None:
    """Rows are normalised; every model and class is named, and what the numbers are is said."""
    counts = (np.eye(12, dtype=int) * 90 + 1).tolist()
    drawn = texts(
        figures.confusion_matrices("t", [confusion(m, counts) for m in ("CNN", "RNN", "GRU")]),
        tmp_path,
    )
    assert drawn.count("89") == 3 * 12
    assert any("per cent of the true class" in text for text in drawn)
    assert {"CNN", "RNN", "GRU", *(f"3.{n}" for n in range(1, 13))} <= set(drawn)


def test_numbers_contrast_with_their_cells() -> None:
    """White on dark, black on light."""
    axes = figures.confusion_matrices("t", [confusion("a", [[99, 1], [2, 98]])]).axes[0]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black", "white"]


def test_a_class_without_sequences_is_an_empty_row() -> None:
    """No division by zero, no number in the row."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = confusion("a", [[4, 1, 0], [0, 0, 0], [1, 1, 8]])
        axes = figures.confusion_matrices("t", [matrix]).axes[0]
    assert not [text for text in axes.texts if 1 < text.get_position()[1] < 2]
    shares = [text.get_text().split("\n")[1] for text in axes.texts]
    assert shares == ["80.0 %", "20.0 %", "0.0 %", "10.0 %", "10.0 %", "80.0 %"]


def test_bars_have_the_heights_of_the_counts(tmp_path: Path) -> None:
    """One bar for each class and sample, its number above; zero is written too."""
    figure = figures.class_shares("Shares", SAMPLES)
    (axes,) = figure.axes
    classes = ["3.1", "3.9", "3.12", "7.1"]
    for bars, counts in zip(axes.containers, SAMPLES.values(), strict=True):
        assert [bar.get_height() for bar in bars] == [counts.get(name, 0) for name in classes]
    drawn = texts(figure, tmp_path)
    assert {*classes, *SAMPLES} <= set(drawn)
    numbers = [f"{counts.get(name, 0):,}" for counts in SAMPLES.values() for name in classes]
    assert all(drawn.count(number) == numbers.count(number) for number in {*numbers})
    assert axes.get_yscale() == "log"


def test_like_counts_get_a_linear_axis() -> None:
    """A balanced data set starts at zero."""
    (axes,) = figures.class_shares("t", {"a": {"enzyme": 500, "non-enzyme": 700}}).axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0


def test_very_many_bars_take_several_rows(tmp_path: Path) -> None:
    """All numbers are written even for a hundred classes."""
    counts = {f"1.{number}": 1000 + number for number in range(100)}
    figure = figures.class_shares("t", {"a": counts, "b": counts})
    assert len(figure.axes) == 4
    assert {*counts, *(f"{n:,}" for n in counts.values())} <= set(texts(figure, tmp_path))


def test_nothing_to_draw_is_an_empty_figure(tmp_path: Path) -> None:
    """An empty report has figures without content, not errors."""
    for figure in (
        figures.learning_curves("Empty", []),
        figures.accuracy_over_time("Empty", [], "s"),
        figures.confusion_matrices("Empty", []),
        figures.class_shares("Empty", {}),
    ):
        assert "Empty" in texts(figure, tmp_path)


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    """Our style and no other's: global settings stay, pyplot is never imported."""
    code = (
        "import sys, ec_sweep.figures as f; assert 'matplotlib' not in sys.modules;"
        "import matplotlib as m; m.rcParams['font.size'] = 3; f.class_shares('t', {});"
        "assert m.rcParams['font.size'] == 3; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ALL)
def test_figures_of_a_page_keep_out_of_each_others_way(kind: str) -> None:
    """Every id has the figure's name and is used; the title is the page's; there is no ground."""
    found = inlining.inline(ALL[kind](), "one")
    root = ElementTree.fromstring(found.svg)
    ids = [element.get("id") for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))
    for name in ids:
        assert name is not None
        assert name.startswith("one-")
        assert f"#{name})" in found.svg or f'"#{name}"' in found.svg
    written = ["".join(e.itertext()) for e in root.iter() if e.tag == "text"]
    assert found.title
    assert found.title not in written
    assert written
    assert root.get("viewBox")
    assert "http://www.w3.org/1999/xlink" not in found.svg


def test_heat_maps_show_every_value(tmp_path: Path) -> None:
    """Each accuracy stands in its place, light on dark and dark on light; none where none is."""
    figure = heatmaps.accuracy_grids("t", "Units", "Depth", [grid("first"), grid("second")])
    found = texts(figure, tmp_path)
    assert {"first", "second", "Units", "Depth", "Test accuracy"} <= set(found)
    for value in np.linspace(0.5, 0.9, 6)[[0, 1, 3, 4, 5]]:
        assert found.count(f"{value:.4f}") == 2
    assert found.count("N/A") == 2
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (colours["0.5000"], colours["0.9000"]) == ("white", "black")
