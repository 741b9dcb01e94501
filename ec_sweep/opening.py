"""Files opened whatever compresses them, and read in blocks of whole entries."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """Some whole entries of a file, its lines ending with LF, and the number of the first line."""

    data: bytes  # ends with LF, except at the end of a file that does not
    line: int


class Opened:
    """A file being read: where it is, for progress."""

    path: Path
    size: int  # bytes on disk
    position: int  # bytes on disk read so far

    def blocks(self, separator: bytes, *, kept: int = 0, skip: int = 0) -> Iterator[Block]:
        """Yield blocks which end behind ``separator``, less its last ``kept`` bytes."""
        raise NotImplementedError
