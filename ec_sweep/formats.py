"""The formats that sources come in: recognised from the content, each with its reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ec_sweep import fasta, flatfile, headers, tabular
from ec_sweep.errors import EcsweepError, nearest, quoted
from ec_sweep.fields import Fields
from ec_sweep.headers import FORMATS
from ec_sweep.opening import BLOCK, Block, Opened
from ec_sweep.parquet import ParquetTable

_PARQUET = b"PAR1"
_FASTA = ("uniprot-fasta", "brenda-fasta", "fasta")


@dataclass(frozen=True)
class Options:
    """What the user says about files beyond their content."""

    format: str | None = None  # a key of FORMATS; None: recognised
    labels: Path | None = None  # a table of accessions and EC numbers
    pattern: str | None = None  # a regular expression with the groups accession and ec
    split_column: str | None = None
    family_column: str | None = None
    class_column: str | None = None

    @property
    def named(self) -> dict[str, str]:
        """The columns that the user named, by what they hold.

        With a table of labels they are columns of that table, else of the files.
        """
        every = {
            "part": self.split_column, "family": self.family_column, "label": self.class_column,
        }  # fmt: skip
        return {role: name for role, name in every.items() if name is not None}

    @property
    def of_files(self) -> dict[str, str]:
        """The named columns that the files must have."""
        return {} if self.labels else self.named


class Reading:
    """A file about to be read: ``parse(block)`` may run in threads, ``blocks()`` in one."""

    def __init__(
        self,
        opened: Opened | ParquetTable,
        name: str,
        parse: Callable[[Any], Fields],
        blocks: Callable[..., Iterator[Any]],
    ) -> None:
        self.path = opened.path
        self.format = name  # as people say it: "UniProt TSV"
        self.parse = parse
        self._blocks = blocks
        self._opened = opened

    @property
    def size(self) -> int:
        """Bytes of the file on disk."""
        return self._opened.size

    @property
    def position(self) -> int:
        """Bytes of the file on disk read so far."""
        return self._opened.position

    def blocks(self, size: int = BLOCK) -> Iterator[Any]:
        """Yield the blocks of the file, each whole entries, some ``size`` bytes; once.

        Raises:
            EcsweepError: the file is damaged, or holds no records.
        """
        empty = True
        for block in self._blocks(size=size):
            empty = empty and not _holds_something(block)
            yield block
        if empty:
            raise EcsweepError(f"{self.path}: has a header but no records.")


def open_file(path: Path, options: Options = Options()) -> Reading:
    """Recognise the format of a file, and say how it is read.

    Raises:
        EcsweepError: it is missing, empty, damaged, of no known format, or not
            of the one that the user named.
    """
    if options.format is not None and options.format not in FORMATS:
        raise EcsweepError(
            f"--format must be one of {', '.join(FORMATS)}. Received: {options.format!r}."
            f"{nearest(options.format, FORMATS)}"
        )
    opened = Opened(path)
    is_parquet = opened.start.startswith(_PARQUET)
    head = b"" if is_parquet or options.format == "parquet" else opened.head()
    key = options.format or ("parquet" if is_parquet else headers.recognise(path, head))
    if is_parquet and key != "parquet":
        raise EcsweepError(f"{path}: is Parquet. Received: --format {key}.")
    if options.pattern is not None and key not in _FASTA:
        raise EcsweepError(f"{path}: --pattern reads headers of FASTA. Received: {FORMATS[key]}.")
    if key == "parquet":
        table = ParquetTable(path, options.of_files, options.labels is not None)
        return Reading(table, FORMATS[key], table.parse, table.blocks)
    if key in _FASTA:
        return _open_fasta(opened, head, key, options)
    if key == "uniprot-dat":
        _reject_columns(path, key, options)
        return _reading(opened, FORMATS[key], partial(flatfile.parse, path=path), flatfile.END)
    layout = headers.layout(path, head, key, options.of_files, options.labels is not None)
    parse = partial(tabular.parse, layout=layout, path=path)
    return _reading(opened, FORMATS[key], parse, b"\n", skip=layout.header)


def open_labels(path: Path, options: Options = Options()) -> Reading:
    """Open a table of labels: its fields have a null sequence.

    Tabs, commas or semicolons separate its columns. Without a header, the
    column that looks like EC numbers has them, and the first other one the accessions.

    Raises:
        EcsweepError: it is missing, empty, damaged, or has no such columns.
    """
    opened = Opened(path)
    if opened.start.startswith(_PARQUET):
        raise EcsweepError(f"{path}: labels come as a TSV or CSV table. Received: Parquet.")
    layout = headers.label_layout(path, opened.head(), options.named)
    parse = partial(tabular.parse, layout=layout, path=path, sequences=False)
    return _reading(opened, "table of labels", parse, b"\n", skip=layout.header)


def _reading(
    opened: Opened, name: str, parse: Callable[[Block], Fields], separator: bytes, **cut: int
) -> Reading:
    return Reading(opened, name, parse, partial(opened.blocks, separator, **cut))


def _open_fasta(opened: Opened, head: bytes, key: str, options: Options) -> Reading:
    path = opened.path
    _reject_columns(path, key, options)
    header: fasta.HeaderParser = fasta.named
    if options.pattern is not None:
        key, header = "fasta", fasta.patterned(options.pattern)
    elif key == "brenda-fasta":
        header = fasta.brenda
    elif options.labels is None:
        title = quoted((fasta.titles(head) or [b""])[0][:120].decode(errors="replace"))
        raise EcsweepError(
            f"{path}: its headers state no EC numbers. Give --labels TABLE with accessions and EC "
            f"numbers (or, with --class-column, classes of your own), or --pattern REGEX that "
            f"finds both in a header. Received: {title}."
        )
    parse = partial(fasta.parse, header=header, path=path)
    return _reading(opened, FORMATS[key], parse, b"\n>", kept=1)


def _reject_columns(path: Path, key: str, options: Options) -> None:
    """Raise an error if columns are named that neither the file nor a table of labels has."""
    if options.of_files:
        raise EcsweepError(
            f"{path}: a {FORMATS[key]} has no columns, so none named "
            f"{', '.join(options.of_files.values())!r}. Give them in a table with --labels."
        )


def _holds_something(block: Any) -> bool:
    data = getattr(block, "data", None)
    return bool(data.strip()) if data is not None else block.num_rows > 0
