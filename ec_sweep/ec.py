"""EC numbers at the level of sub-classes, such as 3.1 of 3.1.1.1."""

from collections.abc import Iterable


def main_class(number: str) -> str:
    """Return the main class of an EC number: 3 of 3.1.1.1 and of 3.-.-.-."""
    return number.partition(".")[0]


def sub_class(number: str) -> str | None:
    """Return the sub-class of an EC number, ``None`` where it names only its main class.

    Partial (3.1.-.-), preliminary (3.1.1.n1) and BRENDA's own numbers (3.1.1.B15)
    name their sub-class as full ones do; one whose second part is itself missing
    or preliminary does not.
    """
    main, second, *_ = [*number.split("."), ""]
    return f"{main}.{second}" if second.isdigit() else None


def is_partial(number: str) -> bool:
    """Say whether an EC number leaves its last parts open, as 3.1.-.- does."""
    return "-" in number


def is_preliminary(number: str) -> bool:
    """Say whether an EC number has a part of its own making, as 3.1.1.n1 and 3.5.1.B15 do."""
    return any(part[:1].isalpha() for part in number.split("."))


def in_order(classes: Iterable[str]) -> list[str]:
    """Return classes in the order of their numbers: 3.9 before 3.10."""
    return sorted(classes, key=lambda name: [int(part) for part in name.split(".")])
