"""The formats that sources come in: recognised from the content, each with its reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ec_sweep.fields import Fields


@dataclass(frozen=True)
class Options:
    """What the user says about files beyond their content."""

    format: str | None = None  # a key of FORMATS; None: recognised
    labels: Path | None = None  # a table of accessions and EC numbers
    pattern: str | None = None  # a regular expression with the groups accession and ec
    split_column: str | None = None
    family_column: str | None = None


class Reading:
    """A file about to be read: ``parse(block)`` may run in threads, ``blocks()`` in one."""

    path: Path
    format: str  # as people say it: "UniProt TSV"
    parse: Callable[[Any], Fields]

    @property
    def size(self) -> int:
        """Bytes of the file on disk."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """Bytes of the file on disk read so far."""
        raise NotImplementedError

    def blocks(self) -> Iterator[Any]:
        """Yield the blocks of the file, each whole entries, in bounded memory; once."""
        raise NotImplementedError


def open_file(path: Path, options: Options = Options()) -> Reading:  # noqa: B008 - frozen
    """Recognise the format of a file; an EcsweepError says what is wrong with it."""
    raise NotImplementedError


def open_labels(path: Path, options: Options = Options()) -> Reading:  # noqa: B008 - frozen
    """Open a table of labels: its fields have a null sequence."""
    raise NotImplementedError
