"""EC numbers: every form in which files give them, in order, and cut to a level."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

LEVELS = 4
MAIN_CLASSES = range(1, 8)

_HIGHEST = 9999  # the longest list, 1.1.1, has below 500
_LONGEST = 100  # characters of one number, spaces and prefix included
_PREFIX = re.compile(r"\bEC(?: ?[:=] ?| |(?=\d))", re.ASCII | re.IGNORECASE)
_BETWEEN = re.compile(r"[;,| ]+")
_NUMBER = re.compile(r"[1-9]\d*", re.ASCII)
_SERIES = re.compile(r"(n|b)([1-9]\d*)", re.ASCII | re.IGNORECASE)
_OPEN = frozenset({"-", "n", "N"})  # n alone: a number is still to be given (INSDC)


class InvalidEcNumber(ValueError):  # noqa: N818 - a verdict on a text, which the caller counts
    """A text that is no EC number; the message says why."""


@dataclass(frozen=True, order=True, slots=True)
class EcNumber:
    """An EC number, or a class of them; ordered by its parts, a class before what it contains."""

    parts: tuple[int, ...]
    """Class, sub-class and sub-sub-class, as far as they are named."""
    series: str = ""
    """Whose serial number it is: ``""`` the list's, ``B`` BRENDA's, ``n`` a preliminary one."""
    serial: int = 0
    """The serial number; 0 where it is open."""

    def __str__(self) -> str:
        named = [*map(str, self.parts), *([f"{self.series}{self.serial}"] if self.serial else [])]
        return ".".join([*named, *["-"] * (LEVELS - len(named))])

    @property
    def level(self) -> int:
        """How many of its four parts are named."""
        return len(self.parts) + bool(self.serial)

    @property
    def main(self) -> int:
        """Its main class: 3 of 3.1.1.1."""
        return self.parts[0]

    @property
    def short(self) -> str:
        """The text without its open parts: 3.1 of 3.1.-.-."""
        return str(self).partition(".-")[0]

    def truncated(self, level: int) -> "EcNumber":
        """Return the class of a level from 1 to 4 that it belongs to; itself if it names less."""
        if not 1 <= level <= LEVELS:
            raise ValueError(f"EC numbers have levels 1 to {LEVELS}, not {level}")
        return self if level >= self.level else EcNumber(self.parts[:level])

    def contains(self, other: "EcNumber") -> bool:
        """Say whether another number is this one or belongs to this class."""
        return other.truncated(self.level) == self


@lru_cache(maxsize=1 << 16)
def parse(text: str) -> EcNumber:
    """Return the EC number that a text gives in any of these forms.

    Full (3.1.1.1), partial (3.1.-.-, 3.1.n.n), short (3.1), with EC before it
    (EC 3.1.1.1, EC:3.1.1.1), spaced (3. 1. -.-), preliminary (3.4.21.n1) and
    BRENDA's own (3.5.1.B15).

    Raises:
        InvalidEcNumber: it is none of them.
    """
    if len(text) > _LONGEST:
        raise InvalidEcNumber(f"{len(text)} characters: it has up to {_LONGEST}")
    tight = _tight(text)
    prefix = _PREFIX.match(tight)
    texts = tight[prefix.end() if prefix else 0 :].split(".")
    if len(texts) > LEVELS:
        raise InvalidEcNumber(f"{len(texts)} parts: it has up to {LEVELS}")
    named = texts
    while named and named[-1] in _OPEN:
        named = named[:-1]
    if not named:
        raise InvalidEcNumber("it names no main class")
    match = _SERIES.fullmatch(named[-1]) if len(named) == LEVELS else None
    if match is None:
        numbers = tuple(_number(part) for part in named)
        series, serial = "", numbers[3] if len(numbers) == LEVELS else 0
    else:
        numbers = tuple(_number(part) for part in named[:-1])
        series = "n" if match[1] in "nN" else "B"
        serial = _number(match[2])
    if numbers[0] not in MAIN_CLASSES:
        raise InvalidEcNumber(f"main class {numbers[0]}: they are 1 to {MAIN_CLASSES[-1]}")
    return EcNumber(numbers[: LEVELS - 1], series, serial)


def _tight(text: str) -> str:
    """Return a text with single spaces, and none around dots."""
    return " ".join(text.split()).replace(" .", ".").replace(". ", ".")


def _number(part: str) -> int:
    if not part:
        raise InvalidEcNumber("a part is empty")
    if part in _OPEN:
        raise InvalidEcNumber("a part is open before one that is named")
    if not _NUMBER.fullmatch(part):
        raise InvalidEcNumber(f"the part {part[:20]!r} is no number from 1")
    if len(part) > len(str(_HIGHEST)):
        raise InvalidEcNumber(f"the part {part[:20]!r} is above {_HIGHEST}")
    return int(part)


def split(field: str) -> tuple[str, ...]:
    """Return the numbers of a field, each once, in order and in canonical form.

    They may be separated by ``;``, ``,``, ``|`` and white space.

    Raises:
        InvalidEcNumber: one of them is no EC number; the message begins with it.
    """
    numbers = set()
    for text in _BETWEEN.split(_PREFIX.sub(" ", _tight(field))):
        if text:
            try:
                numbers.add(parse(text))
            except InvalidEcNumber as error:
                raise InvalidEcNumber(f"{text[:40]!r}: {error}") from None
    return tuple(map(str, sorted(numbers)))


def in_order(classes: Iterable[str]) -> list[str]:
    """Return classes in the order of their numbers: 3.9 before 3.10."""
    return sorted(classes, key=parse)
