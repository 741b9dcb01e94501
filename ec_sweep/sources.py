"""Sources: records imported once, as columns on disk, from which datasets are built."""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ec_sweep import cards, hints
from ec_sweep.errors import EcsweepError, nearest
from ec_sweep.paths import Home
from ec_sweep.records import digests

if TYPE_CHECKING:
    import pyarrow as pa

Rows = npt.NDArray[np.int64]

CARD = "source.json"
RECORDS, SEQUENCES = "records.parquet", "sequences.parquet"
ASIDE = ".building-"
"""Begins the names of folders that are not complete yet."""
CONTENT = "content-"
"""Begins the name of the folder that the card stands for."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_CARD_KEYS = {
    "name", "content", "created", "files", "records_in", "records_kept", "dropped", "migrations",
    "columns",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A complete source: the folder of its columns, and its card."""

    folder: Path
    card: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is called."""
        return str(self.card["name"])

    def records(self, columns: Sequence[str], rows: Rows | None = None) -> "pa.Table":
        """Return columns of its records, or of some of them, whose places grow.

        ``accession``, ``ec_numbers`` (joined by ``; ``), ``length``, ``digest``, ``row`` (in
        `sequences`), and what the card's ``columns`` name: ``part``, ``family``, ``label``. Of some
        records only those are ever in memory.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # Mapped files count as memory, and reading ahead holds all columns at once.
            with pq.ParquetFile(self.folder / RECORDS, pre_buffer=False) as file:
                if rows is None:
                    return file.read(list(columns))
                found = []
                groups = range(file.metadata.num_row_groups)
                sizes = [file.metadata.row_group(group).num_rows for group in groups]
                for group, first, end in groups_of(sizes):
                    low, high = np.searchsorted(rows, [first, end])
                    table = file.read_row_group(group, list(columns))
                    found.append(table.take(pa.array(rows[low:high] - first)))
                return pa.concat_tables(found)
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        finally:
            pa.default_memory_pool().release_unused()

    def row_groups(self) -> list[int]:
        """Return the rows of every group of `sequences`."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.folder / SEQUENCES) as file:
                found = file.metadata
                return [found.row_group(place).num_rows for place in range(found.num_row_groups)]
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def sequences(self, group: int) -> "pa.Array":
        """Return a group of sequences, binary, in the order of the files; threads may call it."""
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.folder / SEQUENCES) as file:
                return file.read_row_group(group, use_threads=False)["sequence"].combine_chunks()
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> EcsweepError:
        card = self.folder.parent / CARD
        if card.exists() and read(card.parent).folder != self.folder:
            return EcsweepError(
                f"the source {self.name} was imported anew while it was read. "
                "Run the command again: it takes the new one."
            )
        return EcsweepError(
            f"the source in {self.folder} is damaged ({error}). Import its files again."
        )


def is_name(text: str) -> bool:
    """Say whether a source can be named so."""
    return bool(_NAME.fullmatch(text))


def check_name(name: str) -> None:
    """Raise an error when a source cannot be named so."""
    if not is_name(name):
        raise EcsweepError(
            "a source's name must be of a-z, 0-9, dots, - and _, 64 at most. "
            f"Received: {name[:100]!r}."
        )


def name_of(path: Path) -> str:
    """Return the name that a source of this file has where none is given."""
    stem = path.name.lower()
    for suffix in (".gz", ".zst", ".xz", ".tsv", ".csv", ".txt", ".dat", ".fasta", ".fa", ".faa",
                   ".parquet"):  # fmt: skip
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("._-")[:64] or "source"


def read(folder: Path) -> Source:
    """Return the source in a folder, from its card."""
    cure = "Remove the folder and import the files again."
    card = cards.read(folder / CARD, _CARD_KEYS, "source", cure)
    return Source(folder / card["content"], card)


def imported(home: Home) -> list[Source]:
    """Return every source, by name."""
    return [read(card.parent) for card in sorted(home.sources.glob(f"*/{CARD}"))]


def exists(home: Home, name: str) -> bool:
    """Say whether there is a source of this name."""
    return is_name(name) and (home.sources / name / CARD).exists()


def get(home: Home, name: str) -> Source:
    """Return a source by its name."""
    if not exists(home, name):
        names = [card.parent.name for card in sorted(home.sources.glob(f"*/{CARD}"))]
        raise EcsweepError(
            f"there is no file and no source named {name!r}.{nearest(name, names)} "
            f"Sources: {', '.join(names) or 'none'}. "
            f"Make one with: {hints.command('data', 'import', 'FILE')}"
        )
    return read(home.sources / name)


def verify(source: Source) -> str | None:
    """Compare sequences with their digests; returns what is wrong, ``None`` when it is intact."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table = source.records(["digest", "row"]).sort_by("row")
        if len(table) != source.card["records_kept"]:
            kept = source.card["records_kept"]
            return f"it holds {len(table):,} records, not the {kept:,} of its card"
        rows, stated, same = table["row"].to_numpy(), table["digest"], 0
        for group, first, end in groups_of(source.row_groups()):
            low, high = np.searchsorted(rows, [first, end]).tolist()
            found = digests(source.sequences(group).take(pa.array(rows[low:high] - first)))
            same += pc.sum(pc.equal(stated[low:high], found), min_count=0).as_py()
    except EcsweepError as error:
        return str(error)
    wrong = len(rows) - same
    return f"{wrong:,} of its sequences are not those of their digests" if wrong else None


def lock_of(folder: Path) -> Path:
    """Return the file whose lock is held while a source is made; its folder may go with it held."""
    return folder.with_name(f".{folder.name}.lock")


def remove_stale(folder: Path) -> None:
    """Remove from a source's folder, whose lock is held, what is not or no longer part of it.

    A folder that nothing is left in goes too.
    """
    current = read(folder).folder if (folder / CARD).exists() else None
    for stale in [*folder.glob(f"{ASIDE}*"), *folder.glob(f"{CONTENT}*")]:
        if stale != current:
            shutil.rmtree(stale, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def groups_of(sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the number, the first row and the end of every row group."""
    start = 0
    for number, size in enumerate(sizes):
        yield number, start, start + size
        start += size
