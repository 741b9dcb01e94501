"""Sequences of a FASTA file or stream to predict on: none is lost, whatever is wrong with it.

Memory does not grow with the file, nor with its longest entry: of each only as
many letters are kept as the model reads.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from ec_sweep.encoding import RESIDUES
from ec_sweep.errors import EcsweepError, printable, quoted
from ec_sweep.opening import seems

_PIECE = 1 << 20
"""Bytes of a line that are looked at at once."""
_LONGEST_ID = 1000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_NOT_LETTERS = re.compile(rb"[^A-Z]")
_OTHER_LETTERS = re.compile(f"[^{RESIDUES}]")


@dataclass
class Entry:
    """A sequence, as far as the model reads it, and what is to be said of it."""

    id: str
    sequence: str = ""
    """The first letters, upper-case."""
    length: int = 0
    """Residues of the whole."""
    invalid: bool = False
    """Whether anything but letters is in it."""
    ended: bool = False
    """Whether the ``*`` that ends a translation has come."""

    def add(self, piece: bytes, most: int) -> None:
        """Take a piece of the sequence in, of which ``most`` letters are kept in all."""
        letters = b"".join(piece.split()).upper()
        if not letters:
            return
        if self.ended:
            self.invalid = True
        if letters.endswith(b"*"):
            letters, self.ended = letters[:-1], True
        self.invalid = self.invalid or _NOT_LETTERS.search(letters) is not None
        self.length += len(letters)
        if not self.invalid:
            self.sequence += letters[: max(0, most - len(self.sequence))].decode()

    @property
    def problem(self) -> str:
        """Why nothing can be predicted, ``""`` where it can; in words of the dataset's card."""
        if self.invalid:
            return "invalid_sequence"
        return "" if self.length else "no_sequence"

    def flags(self, length: int, shortest: int, longest: int) -> list[str]:
        """Return what sets it apart from what the model saw in training."""
        found = {
            "cut": self.length > length,
            "short": self.length < shortest,
            "long": self.length > longest,
            "nonstandard": _OTHER_LETTERS.search(self.sequence) is not None,
        }
        return [name for name, met in found.items() if met]


def examine(text: str, most: int) -> Entry:
    """Return the entry of a sequence that stands alone."""
    entry = Entry("")
    entry.add(text.encode("utf-8", "surrogatepass"), most)
    return entry


def open_stream(path: Path) -> BufferedReader:
    """Open a file, ``-`` for standard input."""
    import sys

    if str(path) == "-":
        return open(sys.stdin.fileno(), "rb", closefd=False)
    try:
        return path.open("rb")
    except OSError as error:
        raise EcsweepError(f"{path}: cannot be read ({error.strerror}).") from error


def read(stream: BufferedReader, name: str, most: int) -> Iterator[Entry]:
    """Yield the entries of FASTA, plain or gzipped, in their order.

    Raises:
        EcsweepError: it is not FASTA, or cut off.
    """
    count, entry = 0, None
    try:
        for number, line, begins in _pieces(stream):
            if begins and line.startswith(b">"):
                if entry:
                    count += 1
                    yield entry
                if b"\r" in line.rstrip():
                    raise EcsweepError(
                        f"{name}: line {number}: lines end with CR alone. Convert them: mac2unix"
                    )
                entry = Entry(_id(line))
            elif entry is None:
                if line.strip():
                    raise EcsweepError(
                        f"{name}: line {number}: FASTA begins with '>' and a name. "
                        f"Received: {quoted(_text(line.strip()[:40]))}.{seems(line)}"
                    )
            elif begins is not None:
                entry.add(line, most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EcsweepError(
            f"{name}: cut off or damaged gzip file ({error}), after {count:,} whole entries."
        ) from error
    except OSError as error:
        raise EcsweepError(f"{name}: cannot be read ({error.strerror or error}).") from error
    if entry is None:
        raise EcsweepError(f"{name}: there is no sequence in it. FASTA begins with '>' and a name.")
    yield entry


def _pieces(stream: BufferedReader) -> Iterator[tuple[int, bytes, bool | None]]:
    """Yield lines in pieces: number, bytes, and whether it begins a line.

    ``None``: it goes on a line that is a header.
    """
    zipped = stream.peek(2)[:2] == _GZIP
    readline = gzip.GzipFile(fileobj=stream).readline if zipped else stream.readline
    number, begins, header = 1, True, False
    while piece := readline(_PIECE):
        piece = piece.removeprefix(_BYTE_ORDER_MARK) if number == 1 and begins else piece
        header = piece.startswith(b">") if begins else header
        yield number, piece, begins if begins or not header else None
        begins = piece.endswith(b"\n")
        number += begins


def _id(line: bytes) -> str:
    """Return the first word of a header, which no terminal or table can be broken by."""
    words = line[1:].split(None, 1)
    return printable(_text(words[0][:_LONGEST_ID])) if words else ""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
