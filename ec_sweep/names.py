"""Names of the classes of EC numbers: built in for classes and sub-classes, deeper from a file."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ec_sweep import enzyme_files
from ec_sweep.ec import EcNumber, InvalidEcNumber, parse
from ec_sweep.paths import packed

CLASSES = "ec-classes.tsv"


@cache
def built_in() -> Mapping[EcNumber, str]:
    """Return the names of the main classes and their sub-classes."""
    lines = (packed("data") / CLASSES).read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines[2:])  # under a comment and a head
    return {parse(number): name for number, name in rows}


def read(path: Path) -> Mapping[EcNumber, str]:
    """Return the built-in names and those of a file like ENZYME's ``enzclass.txt``, which win.

    Raises:
        EcsweepError: the file cannot be read, or is no such file.
    """
    return {**built_in(), **enzyme_files.class_names(path)}


def name_of(number: str | EcNumber, names: Mapping[EcNumber, str] | None = None) -> str | None:
    """Return the name of a class, such as 3.1 or 3.1.-.-; ``None`` of what has none."""
    if isinstance(number, str):
        try:
            number = parse(number)
        except InvalidEcNumber:  # another class of a dataset, such as non-enzyme
            return None
    return (built_in() if names is None else names).get(number)
