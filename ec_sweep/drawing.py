"""How every figure looks and is kept: 16 cm wide, legible without colour, the same bytes."""

import io
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ec_sweep.errors import EcsweepError
from ec_sweep.paths import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")

WIDTH = 6.3  # inches: 16 cm
# Okabe and Ito's colours without yellow, which is lost on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999"]
MARKERS = "os^DvPX<>ph*"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 8,
    "figure.titlesize": 9.5, "axes.titlesize": 8.5, "axes.labelsize": 8,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "legend.fontsize": 7.5,
    "legend.frameon": False, "legend.columnspacing": 1.2,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7,
    "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.25, "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5, "patch.linewidth": 0.5, "savefig.dpi": 200, "pdf.fonttype": 42,
    "svg.fonttype": "none", "svg.hashsalt": "ecsweep",
    "text.parse_math": False,  # a label such as '$x_{' is a label, not a formula
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@styled()
def save(figure: "Figure", path: Path, formats: Sequence[str]) -> list[Path]:
    """Write ``path`` (without suffix) in each format, the same bytes every time; returns files."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    files = {suffix: path.with_name(f"{path.name}.{suffix}") for suffix in formats}
    for suffix, file in files.items():
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata=undated.get(suffix))
        try:
            write_atomically(file, content.getvalue())
        except OSError as error:
            raise EcsweepError(f"{file}: cannot be written ({error.strerror}).") from error
    return list(files.values())


LINE = 0.16
"""Inches that a line of text takes."""


def new_figure(title: str, height: float) -> "Figure":
    """Return an empty figure ``height`` inches high, under a title that wraps."""
    from matplotlib.figure import Figure

    text = wrapped(title, 88)
    figure = Figure((WIDTH, height + LINE * len(text.split("\n"))), layout="constrained")
    figure.suptitle(text)
    return figure


def wrapped(text: str, width: int) -> str:
    """Wrap a text, with spaces for what neither XML nor a font can show."""
    return textwrap.fill("".join(a if a.isprintable() else " " for a in text), width)


def add_legend(figure: "Figure", handles: Sequence[Any], texts: Sequence[str]) -> None:
    """Put a legend under a figure, in columns, and make the figure higher by as much."""
    labels = [wrapped(text, 50) for text in texts]
    lines = [line for label in labels for line in label.split("\n")]
    columns = max(1, min(4, len(labels), 92 // (max(map(len, lines), default=0) + 6)))
    figure.set_figheight(figure.get_figheight() + LINE * math.ceil(len(lines) / columns))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def make_logarithmic(axes: "Axes", which: str, values: Iterable[float], span: float) -> bool:
    """Make an axis logarithmic if its values span more; says whether it did."""
    from matplotlib.ticker import LogLocator, NullLocator

    positive = [value for value in values if 0 < value < math.inf] or [1]
    ratio, axis = max(positive) / min(positive), getattr(axes, f"{which}axis")
    if ratio > span:
        axes.set(**{f"{which}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,)))
        axis.set_minor_locator(NullLocator())
    if ratio > span or max(positive) >= 1000:
        axis.set_major_formatter(lambda v, _: f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.5g}")
    return ratio > span
