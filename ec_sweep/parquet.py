"""Parquet files: columns found by name, whatever their case, as bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ec_sweep.errors import EcsweepError
from ec_sweep.fields import Fields
from ec_sweep.tabular import NAMES, places

if TYPE_CHECKING:
    import pyarrow as pa

_ROW = 256  # bytes that a row is taken to have


class ParquetTable:
    """The columns of a Parquet file that are read, and how far it was read, for progress."""

    def __init__(self, path: Path, named: dict[str, str], labelled: bool) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self.size = path.stat().st_size
        self.position = 0
        with self._errors():
            self._file = pq.ParquetFile(path)
        schema = self._file.schema_arrow
        self._places = places(path, schema.names, NAMES, named)
        without = labelled or "label" in named  # classes of the user's own need no EC numbers
        needed = ["accession", "sequence"] + ["ec_numbers"] * (not without)
        if any(role not in self._places for role in needed):
            raise EcsweepError(
                f"{path}: Parquet needs the columns Entry, EC number and Sequence. "
                f"Received: {', '.join(schema.names)[:200]}."
            )
        for role, place in self._places.items():
            _reject_wrong_type(path, schema.field(place), role)

    def blocks(self, size: int) -> "Iterator[pa.RecordBatch]":
        """Yield the rows in batches of some ``size`` bytes."""
        names = [self._file.schema_arrow.names[place] for place in self._places.values()]
        rows, done = max(1, self._file.metadata.num_rows), 0
        batches = self._file.iter_batches(max(1, size // _ROW), columns=names, use_threads=False)
        with self._errors():
            for batch in batches:
                done += batch.num_rows
                self.position = self.size * done // rows
                yield batch
        self.position = self.size

    def parse(self, batch: "pa.RecordBatch") -> Fields:
        """Return the columns of a batch as bytes."""
        import pyarrow as pa

        names = self._file.schema_arrow.names
        columns = {role: _bytes(batch.column(names[at])) for role, at in self._places.items()}
        if "label" in columns:
            columns.setdefault("ec_numbers", pa.array([b""] * batch.num_rows, pa.binary()))
        columns.setdefault("ec_numbers", pa.nulls(batch.num_rows, pa.binary()))
        return Fields(**columns)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: names not UTF-8
            what = " ".join(str(error).split())[:200]
            raise EcsweepError(
                f"{self.path}: cut off or damaged Parquet file ({what}). Get it again."
            ) from error


def _reject_wrong_type(path: Path, field: "pa.Field", role: str) -> None:
    import pyarrow.types as types

    kind = field.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if role == "ec_numbers" and (types.is_list(kind) or types.is_large_list(kind)):
        kind = kind.value_type
    if role in ("length", "part", "family", "label") and types.is_integer(kind):
        return
    if not (_is_text(kind) or types.is_null(kind)):
        allowed = {"length": "whole numbers", "ec_numbers": "text or lists of text"}
        raise EcsweepError(
            f"{path}: the column {field.name!r} must hold {allowed.get(role, 'text')}. "
            f"Received: {field.type}."
        )


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    tests = (types.is_string, types.is_large_string, types.is_string_view)
    return any(test(kind) for test in (*tests, types.is_binary, types.is_large_binary))


def _bytes(column: "pa.Array") -> "pa.Array":
    """Return a column as bytes; a value that is not there is empty."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_list(column.type) or types.is_large_list(column.type):
        rows = (row or () for row in column.cast(pa.list_(pa.binary())).to_pylist())
        column = pa.array([b";".join(value for value in row if value) for row in rows], pa.binary())
    if types.is_integer(column.type):
        column = column.cast(pa.string())
    return pc.fill_null(column.cast(pa.binary()), b"")
