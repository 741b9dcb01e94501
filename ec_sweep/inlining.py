"""Figures as part of a page: SVG without ids that could meet another's, and without a ground."""

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from ec_sweep.drawing import LINE, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_UNUSED = {"metadata", "style"}
"""What a page has its own of."""
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_COORDINATES = {"d", "x", "y", "width", "height"}


@dataclass(frozen=True)
class Inline:
    """A figure to stand in a page."""

    name: str
    title: str
    svg: str


@styled()
def inline(figure: "Figure", name: str) -> Inline:
    """Return a figure as an ``svg`` element; its title leaves it, to be the page's.

    All ids begin with ``name``. Nothing is painted behind the lines, and black is left to
    the page, so that it may be turned light on dark.
    """
    title = " ".join(figure.get_suptitle().split())
    lines = figure.get_suptitle().count("\n") + 1
    figure.suptitle("").set_in_layout(False)
    figure.set_figheight(figure.get_figheight() - LINE * lines)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(content.getvalue())
    for parent in list(root.iter()):
        for child in [one for one in parent if one.tag.removeprefix(_SVG) in _UNUSED]:
            parent.remove(child)
    _rename(root, name)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        if _LINK in element.attrib:
            element.set("href", element.attrib.pop(_LINK))
        for key in _COORDINATES & element.attrib.keys():
            element.set(key, _LONG.sub(_rounded, element.attrib[key]))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    return Inline(name, title, ElementTree.tostring(root, encoding="unicode"))


def _rename(root: ElementTree.Element, name: str) -> None:
    """Give ids that something refers to a number instead, and remove the others."""
    used: dict[str, str] = {}

    def new(old: str) -> str:
        return used.setdefault(old, f"{name}-{len(used) + 1}")

    for element in root.iter():
        for key, text in element.attrib.items():
            if key == _LINK and text.startswith("#"):
                element.set(key, f"#{new(text[1:])}")
            elif "url(#" in text:
                element.set(key, _REFERENCE.sub(lambda found: f"url(#{new(found[1])})", text))
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in used:
            element.set("id", used[str(old)])


def _rounded(found: "re.Match[str]") -> str:
    return f"{float(found[0]):.2f}"
