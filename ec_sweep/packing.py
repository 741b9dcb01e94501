"""Packing: the drawn records of a source become the arrays of a dataset.

Sequences are read in the order in which they lie in the source, each once, and written to their
place in the shuffled order, so that memory does not grow with their number.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec_sweep import encoding, records
from ec_sweep.datasets import LONGEST
from ec_sweep.labelling import Array
from ec_sweep.machine import usable_cores
from ec_sweep.sources import Rows, Source, groups_of
from ec_sweep.splits import PARTS

if TYPE_CHECKING:
    import pyarrow as pa


def write_arrays(folder: Path, part: str, accessions: "pa.ChunkedArray", labels: Array) -> None:
    """Write the accessions and labels of a part, in its order."""
    ids = np.array(accessions.to_pylist(), "U")
    for kind, array in (("ids", ids), ("labels", labels.astype(np.int32))):
        with _array(folder / f"{part}_{kind}.npy", array.dtype, array.shape) as (file, start):
            _write(file, array.tobytes(), start)


def write_tokens(folder: Path, source: Source, rows: Sequence[Rows]) -> None:
    """Write the tokens of every part, of which ``rows`` are in the source's sequences."""
    every = np.concatenate(rows)
    part = np.repeat(np.arange(len(rows)), [len(some) for some in rows])
    place = np.concatenate([np.arange(len(some)) for some in rows])
    order = np.argsort(every, kind="stable")
    every, part, place = every[order], part[order], place[order]
    with ExitStack() as stack:
        targets = [
            stack.enter_context(
                _array(folder / f"{name}_tokens.npy", np.dtype(np.uint8), (len(some), LONGEST))
            )
            for name, some in zip(PARTS, rows, strict=True)
        ]

        def write(group: int, first: int, low: int, high: int) -> None:
            tokens = _tokens(source.sequences(group), every[low:high] - first)
            view = tokens.reshape(-1).data
            for number in range(high - low):
                file, start = targets[part[low + number]]
                row = view[number * LONGEST : (number + 1) * LONGEST]
                _write(file, row, start + int(place[low + number]) * LONGEST)

        with ThreadPoolExecutor(usable_cores()) as pool:
            tasks = []
            for group, first, end in groups_of(source.row_groups()):
                low, high = np.searchsorted(every, [first, end]).tolist()
                if low < high:
                    tasks.append(pool.submit(write, group, first, low, high))
            try:
                for task in tasks:
                    task.result()
            except BaseException:  # Ctrl-C too: the error goes on without the rest of the work
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _tokens(sequences: "pa.Array", rows: Rows) -> encoding.Tokens:
    """Return the tokens of some of the sequences."""
    import pyarrow as pa

    chosen = sequences.take(pa.array(rows))
    tokens = np.empty((len(rows), LONGEST), np.uint8)
    encoding.encode_letters(records.letters(chosen), records.lengths(chosen), tokens)
    return tokens


@contextmanager
def _array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Make a .npy file of its full size, so that a full disk is found at once.

    Gives its descriptor and where its values begin. Plain writes fill it: mapped
    ones hide a full disk, and count as memory.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape,
    }  # fmt: skip
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start = file.tell()
        if size := dtype.itemsize * int(np.prod(shape)):
            os.posix_fallocate(file.fileno(), start, size)
        yield file.fileno(), start


def _write(file: int, content: bytes | memoryview, place: int) -> None:
    content = memoryview(content)
    while content:
        written = os.pwrite(file, content, place)
        content, place = content[written:], place + written
