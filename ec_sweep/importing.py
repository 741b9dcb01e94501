"""Importing: files of any format become a source, made aside and put in place when complete.

Blocks of the files are parsed and checked in threads and taken up in their order, so that
nothing depends on how many there are. Sequences go to disk at once. Of the other columns only a
hash of each accession stays in memory, until the accessions that come again are known.
"""

import json
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec_sweep import fetching, formats, headers, merging, records, sources, splits
from ec_sweep.errors import EcsweepError, quoted
from ec_sweep.formats import Options, Reading
from ec_sweep.machine import usable_cores
from ec_sweep.opening import Opened
from ec_sweep.paths import Home, file_digest, write_atomically
from ec_sweep.records import Checked, Numbers
from ec_sweep.sources import RECORDS, SEQUENCES, Source
from ec_sweep.splits import Hashes
from ec_sweep.transfers import Migrated, Transfers, summary

if TYPE_CHECKING:
    import pyarrow as pa

Watch = Callable[[int, int], None]
"""Is told how many bytes of how many are read."""
_AT_ONCE = 1 << 19  # records of a row group
_SPILL = "rows.arrow"
_COMPRESSION: dict[str, Any] = {"compression": "zstd", "compression_level": 1}


def import_files(
    home: Home,
    name: str,
    paths: Sequence[Path],
    options: Options,
    transfers: Transfers,
    watch: Watch = lambda *_: None,
) -> Source:
    """Import files under a name; a source that had it is replaced when the new one is complete.

    Raises:
        EcsweepError: a file cannot be used; nothing changes.
    """
    from filelock import FileLock

    sources.check_name(name)
    opened(paths, options)
    home.prepare()
    folder = home.sources / name
    home.sources.mkdir(exist_ok=True)
    with FileLock(sources.lock_of(folder)):
        sources.remove_stale(folder)  # we hold the lock: who made them is gone
        folder.mkdir(exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=sources.ASIDE))
        try:
            card = write(aside, name, paths, options, transfers, watch).card
            content = folder / aside.name.replace(sources.ASIDE, sources.CONTENT)
            aside.rename(content)
            # From this instant on the source is the new one.
            card |= {"content": content.name}
            write_atomically(folder / sources.CARD, json.dumps(card, indent=2) + "\n")
        finally:
            sources.remove_stale(folder)
    return sources.read(folder)


@contextmanager
def _pool() -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Give threads, and the event at which they are to give up: an error, or Ctrl-C, came."""
    over = threading.Event()
    with ThreadPoolExecutor(usable_cores()) as pool:
        try:
            yield pool, over
        except BaseException:
            over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write(
    folder: Path,
    name: str,
    paths: Sequence[Path],
    options: Options,
    transfers: Transfers,
    watch: Watch = lambda *_: None,
) -> Source:
    """Write the columns of a source into an empty folder."""
    readings = opened(paths, options)
    numbers = Numbers(transfers)
    with _pool() as (pool, over):
        digests = [pool.submit(file_digest, reading.path, over.is_set) for reading in readings]
        with _Sink(folder, options) as sink:
            for reading in readings:
                sink.begin(reading)
                for checked, hashes in _checked(reading, numbers, pool):
                    sink.take(checked, hashes)
                    watch(sum(r.position for r in readings), sum(r.size for r in readings))
        files = [
            {**about, "sha256": digest.result()}
            for about, digest in zip(sink.files, digests, strict=True)
        ]
    kept, dropped, examples = _merge(folder, sink, numbers)
    dropped.update(sink.dropped)
    found = sum(about["records"] for about in files)
    if not kept:
        raise _useless(readings, options, dropped, examples)
    if found != kept + dropped.total():
        raise AssertionError(f"{found} records in, {kept} kept, {dropped.total()} dropped")
    card = {
        "name": name,
        "content": "",
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "files": files,
        "records_in": found,
        "records_kept": kept,
        "dropped": dict(sorted(dropped.items())),
        "transfers": list(transfers.origin),
        "migrations": summary(sink.migrated.items()),
        "columns": options.named,
    }
    source = Source(folder, card)
    if options.split_column is not None:
        _check_parts(source, options.split_column)
    return source


def _useless(
    readings: Sequence[Reading],
    options: Options,
    dropped: Counter[str],
    examples: dict[str, str],
) -> EcsweepError:
    """Return the error that says why no record of files can be used."""
    files = readings[:-1] if options.labels else readings
    count = dropped.total()
    which = "the 1 record cannot" if count == 1 else f"none of the {count:,} records can"
    text = (
        f"{', '.join(str(reading.path) for reading in files)}: {which} be used. "
        f"Dropped: {', '.join(f'{n:,} {reason}' for reason, n in dropped.items())}."
    )
    unmatched = [examples.get(reason) for reason in ("no_label", "label_without_sequence")]
    if all(unmatched):
        kind = "FASTA" if all("FASTA" in reading.format for reading in files) else "files"
        one, other = (quoted(str(accession)) for accession in unmatched)
        text += f" Compare the accessions: in the {kind} {one}, in the labels {other}."
    return EcsweepError(text)


def _check_parts(source: Source, column: str) -> None:
    """Raise an error where a column that is to name parts names others, or none at all."""
    names = source.records(["part"])["part"].drop_null()
    splits.given_parts(names, f"{source.name}: the column {column}")
    if not len(names):
        raise EcsweepError(f"{source.name}: the column {column} names no parts: it is empty.")


def opened(paths: Sequence[Path], options: Options) -> list[Reading]:
    """Return files ready to be read, a table of labels last.

    Raises:
        EcsweepError: the beginning of one shows that it cannot be used.
    """
    counts = Counter(path.resolve() for path in paths)
    if twice := [path for path, count in counts.items() if count > 1]:
        raise EcsweepError(f"{twice[0]} is given twice.")
    readings = [formats.open_file(path, options) for path in paths]
    if options.labels:
        readings.append(formats.open_labels(options.labels, options))
    return readings


def columns(path: Path) -> list[str]:
    """Return the columns that the header of a table names; none where a file is no table.

    Raises:
        EcsweepError: it is missing, empty or damaged.
    """
    file = Opened(path)
    if not file.start.startswith(b"PAR1"):
        return headers.columns(file.head())
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError, pa.ArrowException):  # building says what is wrong
        return []


def _checked(
    reading: Reading, numbers: Numbers, pool: ThreadPoolExecutor
) -> Iterator[tuple[Checked, Hashes]]:
    """Parse and check the blocks of a file in threads; yields them in their order."""

    def work(block: Any) -> tuple[Checked, Hashes]:
        checked = records.check(reading.parse(block), numbers)
        return checked, splits.hashes(checked.accession, 0, "merge")

    waiting: deque[Future[tuple[Checked, Hashes]]] = deque()
    for block in reading.blocks():
        waiting.append(pool.submit(work, block))
        del block  # or it stays until the next one is read
        if len(waiting) > usable_cores():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@dataclass
class _Sink:
    """Takes up checked records: sequences and rows go to disk, hashes and counts stay."""

    folder: Path
    options: Options
    hashes: list[Hashes] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    migrated: Counter[Migrated] = field(default_factory=Counter)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Sink":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {"accession": pa.string(), "ec": pa.int32(), "length": pa.int32()}
        columns |= {"digest": pa.binary(records.DIGEST)}
        columns |= dict.fromkeys(self.options.named, pa.string())
        self._schema = pa.schema(columns)
        file = self._open.enter_context(pa.OSFile(str(self.folder / _SPILL), "wb"))
        self._rows = self._open.enter_context(pa.ipc.new_file(file, self._schema))
        self._sequences = self._open.enter_context(
            pq.ParquetWriter(
                self.folder / SEQUENCES,
                pa.schema({"sequence": pa.binary()}),
                use_dictionary=False,
                write_statistics=False,
                **_COMPRESSION,
            )
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def begin(self, reading: Reading) -> None:
        """Begin with the records of a file."""
        about = {"file": reading.path.name, "format": reading.format, "bytes": reading.size}
        if fetched := fetching.provenance(reading.path):
            about["fetched"] = fetched
        self.files.append(about | {"records": 0, "dropped": {}})

    def take(self, checked: Checked, hashes: Hashes) -> None:
        """Write the records of a block."""
        import pyarrow as pa

        file = self.files[-1]
        file["records"] += checked.records
        file["dropped"] = dict(Counter(file["dropped"]) + checked.dropped)
        self.dropped += checked.dropped
        self.migrated += checked.migrated
        if not len(checked.accession):
            return
        self.hashes.append(hashes)
        length = records.lengths(checked.sequence)
        length = np.where(checked.sequence.is_null(), merging.LABEL_ROW, length).astype(np.int32)
        columns = [checked.accession, pa.array(checked.ec), pa.array(length), checked.digest]
        absent = pa.nulls(len(length), pa.string())
        columns += [getattr(checked, role) or absent for role in self.options.named]
        self._rows.write(pa.record_batch(columns, schema=self._schema))
        self._sequences.write_table(pa.table({"sequence": checked.sequence}))


def _merge(folder: Path, sink: _Sink, numbers: Numbers) -> tuple[int, Counter[str], dict[str, str]]:
    """Write the records, one for each accession.

    Returns how many, the others by reason, and an accession for each reason.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    suspects = merging.suspects(np.concatenate([*sink.hashes, np.empty(0, np.uint64)]))
    sink.hashes.clear()
    spill = folder / _SPILL
    with pa.OSFile(str(spill)) as file, pa.ipc.open_file(file) as rows:
        table = merging.taken(_batches(rows), rows.schema, suspects)
        merged = merging.Result(suspects, merging.merge(table, numbers), numbers)
        del table
        schema = merged.schema(rows.schema)
        repeating = [one.name for one in schema if pa.types.is_dictionary(one.type)]
        with pq.ParquetWriter(
            folder / RECORDS, schema, write_statistics=False, use_dictionary=repeating,
            **_COMPRESSION,
        ) as writer:  # fmt: skip
            for large in _large(merged.records(_batches(rows)), schema):
                writer.write_table(large)
    spill.unlink()
    return merged.kept, merged.dropped, merged.examples


def _batches(rows: "pa.RecordBatchFileReader") -> "Iterator[pa.RecordBatch]":
    return (rows.get_batch(number) for number in range(rows.num_record_batches))


def _large(batches: "Iterable[pa.RecordBatch]", schema: "pa.Schema") -> "Iterator[pa.Table]":
    """Put batches together to tables of many rows, which read faster."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _AT_ONCE:
            yield pa.Table.from_batches(waiting, schema)
            waiting = []
    yield pa.Table.from_batches(waiting, schema)
