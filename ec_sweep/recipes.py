"""What makes a dataset of a name: which class a protein has, and which proteins are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from ec_sweep.ec import LEVELS, EcNumber


@dataclass(frozen=True)
class Label:
    """What a recipe makes of one protein."""

    name: str | None
    """Its class; ``None`` leaves the protein out."""
    reason: str = ""
    """Why it is left out."""
    cases: tuple[str, ...] = ()
    """What was met on the way to the class; counted on the card."""


@dataclass(frozen=True)
class Drawing:
    """How many sequences are drawn at random from each part, whatever their class."""

    fractions: tuple[float, float, float] | None = None
    """Of train, valid and test."""
    sizes: tuple[int, int, int] | None = None
    """Sequences of train, valid and test."""
    samples: int = 3
    """Independent samples of train; the first trains, the others are counted for comparison."""

    def size(self, part: int, available: int) -> int:
        """Return how many sequences of a part, numbered from 0, are drawn."""
        if self.sizes is not None:
            return self.sizes[part]
        return available if self.fractions is None else round(self.fractions[part] * available)


@dataclass(frozen=True)
class Recipe:
    """How records become the classes and parts of a dataset."""

    label: Callable[[tuple[EcNumber, ...]], Label] | None
    """Of a protein's EC numbers; ``None``: its class is the one that its source names."""
    classes: tuple[str, ...] | None = None
    """Fixed classes; ``None`` where they are those found with enough support."""
    balanced: bool = False
    """Whether each part holds as many of each class as it has of the rarest."""
    smallest_class: int = 5
    """Proteins that a class needs not to be left out: each part is to have one."""
    embedded_drawing: Drawing | None = None
    """What is drawn of the embedded sample."""


def _enzyme(numbers: tuple[EcNumber, ...]) -> Label:
    """Any EC number, a partial one too, makes an enzyme."""
    return Label("enzyme" if numbers else "non-enzyme")


EC37_MAIN_CLASSES = (3, 7)


def _ec37(numbers: tuple[EcNumber, ...]) -> Label:
    """Return the one sub-class of EC 3 or EC 7 that the protein's numbers name.

    A protein that names several has no one label and is left out. Numbers of
    other main classes, and numbers that name no sub-class beside one that does,
    change nothing. Main class only is a class of its own, which is always left
    out, as in the paper (3.1, Table 1).
    """
    if not numbers:
        return Label(None, "no_ec_number")
    wanted = [number for number in numbers if number.main in EC37_MAIN_CLASSES]
    if not wanted:
        return Label(None, "other_main_class")
    named = {number.truncated(2).short for number in wanted if number.level > 1}
    found = named or {str(number.main) for number in wanted}
    if len(found) > 1:
        return Label(None, "several_sub_classes" if named else "several_main_classes")
    cases = {
        "one_number": len(numbers) == 1,
        "several_numbers": len(numbers) > 1,
        "also_other_main_class": len(wanted) < len(numbers),
        "also_main_class_only": bool(named) and any(number.level == 1 for number in wanted),
        "partial_number": any(number.level < LEVELS for number in wanted),
        "preliminary_number": any(number.series for number in wanted),
    }
    return Label(found.pop(), cases=tuple(name for name, met in cases.items() if met))


OWN = Recipe(None)
"""Of a dataset under a name of the user's own: the classes that a column of the source names."""

RECIPES = {
    # Paper 3.1, dataset 1: both groups split 6:2:2, then enzymes drawn down to the non-enzymes.
    "enzyme": Recipe(_enzyme, ("non-enzyme", "enzyme"), balanced=True),
    # Paper 3.1, dataset 2: sub-classes of EC 3 and EC 7, each part drawn from, unbalanced. On the
    # paper's counts any threshold from 54 to 374 leaves out the four labels that it ignores.
    "ec37": Recipe(
        _ec37, smallest_class=100, embedded_drawing=Drawing(sizes=(1800, 600, 600), samples=3)
    ),
}
