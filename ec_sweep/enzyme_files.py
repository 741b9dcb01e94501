"""Tables of EC numbers: ENZYME's enzclass.txt and enzyme.dat, and transfers in two columns."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ec_sweep import ec
from ec_sweep.ec import EcNumber
from ec_sweep.errors import EcsweepError, printable
from ec_sweep.opening import Opened

DELETED, KEPT = "deleted", "kept"

_KIND = "table of EC numbers"
_LARGEST = 64_000_000  # bytes; ENZYME's largest file has 10 million
_LONGEST_LINE = 10_000
_CLASS_LINE = re.compile(r"(\d+\s*\.[\s\d.-]*?(?:\d|-))(?:\s+(\S.*))?")
_MOVED = re.compile(r"transferred\s+entry\s*:?", re.IGNORECASE)
_REMOVED = re.compile(r"deleted\s+entry\b", re.IGNORECASE)
_FILLING = re.compile(r"\b(?:and|now|to)\b", re.IGNORECASE)


class Move(NamedTuple):
    """What a table says of an EC number."""

    targets: tuple[EcNumber, ...] | None
    """The numbers that stand for it now, none if it is deleted; ``None`` if it stays."""
    line: int
    """Where the table says so."""


def class_names(path: Path) -> dict[EcNumber, str]:
    """Read the names of classes from a file like ENZYME's ``enzclass.txt``, compressed or not.

    Lines that begin with no number are the file's own head and foot, and what
    is indented under a class goes on with its name.

    Raises:
        EcsweepError: the file cannot be read, or is no such file.
    """
    names: dict[EcNumber, str] = {}
    last: EcNumber | None = None
    for number, line in _lines(path):
        if not line[:1].isdigit():
            if last and line[:1] in (" ", "\t") and line.strip():
                names[last] += f" {line.strip()}"
            else:
                last = None
            continue
        match = _CLASS_LINE.fullmatch(line.rstrip())
        if not match:
            raise _wrong(path, number, line, "a class and its name, such as '3. 1. -.-  Name.'")
        last = _number(match[1], path, number)
        if not match[2]:
            raise _wrong(path, number, line, "a class and its name: the name is missing")
        if last in names:
            raise EcsweepError(f"{path}: line {number}: the class {last} stands there twice.")
        names[last] = match[2]
    if not names:
        raise EcsweepError(
            f"{path}: holds no class of EC numbers. ENZYME's enzclass.txt has lines such as "
            "'3. 1. -.-  Acting on ester bonds.'."
        )
    return {number: name.removesuffix(".") for number, name in names.items()}


def moves(path: Path) -> dict[EcNumber, Move]:
    """Read what became of EC numbers, compressed or not: ENZYME's ``enzyme.dat``, or a table.

    A table has two columns separated by a tab: the old number, and the new ones
    joined by commas, ``deleted``, or ``kept``. Its head and lines that begin
    with ``#`` are passed over. In an ``enzyme.dat`` the entries in use are kept.

    Raises:
        EcsweepError: the file cannot be read, or is neither.
    """
    lines = list(_lines(path))
    flat = any(re.match(r"(ID|CC|DE)   ", line) for _, line in lines[:100])
    found: dict[EcNumber, Move] = {}
    for old, move in (_entries if flat else _rows)(lines, path):
        if old in found:
            raise EcsweepError(
                f"{path}: line {move.line}: {old} stands on line {found[old].line} too. "
                "Give it one line, with all its new numbers."
            )
        found[old] = move
    if not any(move.targets is not None for move in found.values()):
        raise EcsweepError(
            f"{path}: says of no EC number that it was transferred or deleted. Needed: ENZYME's "
            "enzyme.dat, or a table with the old and the new number separated by a tab."
        )
    return found


def _rows(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[tuple[EcNumber, Move]]:
    """Yield what the lines of a table say."""
    head = True
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.rstrip().split("\t")]
        if head and not re.search(r"\d", line):
            head = False
            continue
        head = False
        if len(fields) != 2 or not all(fields):
            raise _wrong(
                path, number, line, "an old EC number, a tab, and new ones joined by commas"
            )
        old, new = _number(fields[0], path, number), fields[1].lower()
        if new in (DELETED, KEPT):
            yield old, Move(() if new == DELETED else None, number)
        else:
            yield old, Move(_numbers(fields[1], path, number), number)


def _entries(lines: Iterable[tuple[int, str]], path: Path) -> Iterator[tuple[EcNumber, Move]]:
    """Yield what the entries of an ``enzyme.dat`` say."""
    old: EcNumber | None = None
    description: list[str] = []
    begin = number = 0
    for number, line in lines:
        code, value = line[:5].rstrip(), line[5:].strip()
        if code == "ID":
            if old:
                raise EcsweepError(f"{path}: line {number}: the entry {old} above has no end, //.")
            old, begin = _number(value, path, number), number
        elif code == "DE":
            description.append(value)
        elif code == "//":
            if old:
                yield old, _move(" ".join(description), path, begin)
            old, description = None, []
    if old:
        raise EcsweepError(
            f"{path}: line {number}: the file ends in the middle of the entry {old}. Get it again."
        )


def _move(description: str, path: Path, line: int) -> Move:
    """Return what an entry's description says of its number."""
    if _REMOVED.match(description):
        return Move((), line)
    match = _MOVED.match(description)
    if not match:
        return Move(None, line)
    return Move(
        _numbers(_FILLING.sub(" ", description[match.end() :].rstrip(" .")), path, line), line
    )


def _numbers(text: str, path: Path, line: int) -> tuple[EcNumber, ...]:
    """Return the EC numbers of a text, which has at least one."""
    try:
        numbers = tuple(map(ec.parse, ec.split(text)))
        if numbers:
            return numbers
        reason = "there is none"
    except ec.InvalidEcNumber as error:
        reason = str(error)
    raise EcsweepError(
        f"{path}: line {line}: needs EC numbers such as 3.1.1.1 or 3.1.-.-. "
        f"Received: {text[:60]!r} ({reason})."
    )


def _number(text: str, path: Path, line: int) -> EcNumber:
    number, *more = _numbers(text, path, line)
    if more:
        raise _wrong(path, line, text, "one EC number")
    return number


def _wrong(path: Path, line: int, received: str, wanted: str) -> EcsweepError:
    return EcsweepError(
        f"{path}: line {line}: must be {wanted}. Received: {printable(received.rstrip()[:80])!r}."
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a small text file with their numbers from 1."""
    opened = Opened(path, _KIND)
    opened.head()  # what is no text at all is said
    content = bytearray()
    for block in opened.blocks(b"\n"):
        content += block.data
        if len(content) > _LARGEST:
            raise EcsweepError(f"{path}: holds more than {_LARGEST:,} bytes: no {_KIND}.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # names of older releases
    # Not splitlines: it also splits at characters that stand inside lines.
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _LONGEST_LINE:
            raise EcsweepError(f"{path}: line {number}: has {len(line):,} characters: no {_KIND}.")
        yield number, line
