"""Compare libraries on the heavy part of an import: read, check, digest and write as Parquet.

    pip install polars duckdb
    python benchmarks/engines.py FILE.tsv

Each reads the columns as text, keeps rows of A-Z sequences with EC numbers of four parts, adds a
digest of the sequence and writes zstd-compressed Parquet, on two threads, in a process of its own.
"""

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

EC = r"^(\d+(\.(\d+|-|[nB]\d+)){3}(; |$))*$"
BLOCK = 8 << 20


def by_pyarrow(source: Path, target: Path) -> int:
    """Blocks of lines in a thread pool; the digest (128 bits) by hashlib."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv
    import pyarrow.parquet as pq

    names = source.open().readline().rstrip("\n").split("\t")
    read = pyarrow.csv.ReadOptions(column_names=names, use_threads=False, block_size=2 * BLOCK)
    parse = pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
    schema = pa.schema(
        [("Entry", pa.binary()), ("EC number", pa.binary()), ("Sequence", pa.binary()),
         ("digest", pa.binary(16))]
    )  # fmt: skip

    def checked(block: bytes) -> pa.Table:
        found = pyarrow.csv.read_csv(pa.BufferReader(block), read, parse, convert)
        good = pc.and_(
            pc.match_substring_regex(found["EC number"], EC),
            pc.match_substring_regex(found["Sequence"], "^[A-Z]+$"),
        )
        found = found.select(["Entry", "EC number", "Sequence"]).filter(good)
        digest = hashlib.blake2b
        digests = b"".join(
            [digest(one, digest_size=16).digest() for one in found["Sequence"].to_pylist()]
        )
        column = pa.Array.from_buffers(pa.binary(16), found.num_rows, [None, pa.py_buffer(digests)])
        return found.append_column("digest", column)

    def blocks():  # type: ignore[no-untyped-def]
        with source.open("rb") as file:
            file.readline()
            rest = b""
            while block := file.read(BLOCK):
                cut = block.rfind(b"\n") + 1
                yield rest + block[:cut]
                rest = block[cut:]

    rows = 0
    writer = pq.ParquetWriter(target, schema, compression="zstd", compression_level=1,
                              use_dictionary=["EC number"], write_statistics=False)  # fmt: skip
    with writer, ThreadPoolExecutor(2) as pool:
        waiting = []
        for block in blocks():
            waiting.append(pool.submit(checked, block))
            if len(waiting) > 3:
                found = waiting.pop(0).result()
                rows += found.num_rows
                writer.write_table(found)
        for future in waiting:
            rows += future.result().num_rows
            writer.write_table(future.result())
    return rows


def by_polars(source: Path, target: Path) -> int:
    """Run a lazy query that streams; its hash has 64 bits, a longer one is not there."""
    import polars as pl

    found = pl.scan_csv(source, separator="\t", quote_char=None, infer_schema=False)
    found = found.with_columns(pl.col("EC number").fill_null(""))
    found = found.filter(
        pl.col("EC number").str.contains(EC) & pl.col("Sequence").str.contains("^[A-Z]+$")
    ).select("Entry", "EC number", "Sequence", pl.col("Sequence").hash().alias("digest"))
    found.sink_parquet(target, compression="zstd", compression_level=1, statistics=False)
    return int(pl.scan_parquet(target).select(pl.len()).collect().item())


def by_duckdb(source: Path, target: Path) -> int:
    """One SQL statement; md5 has 128 bits."""
    import duckdb

    with duckdb.connect() as database:
        database.execute("set threads = 2; set preserve_insertion_order = true")
        database.execute("set memory_limit = '1GB'")
        database.execute(f"""
            copy (select "Entry", "EC number", "Sequence", md5_number("Sequence") as digest
                  from read_csv('{source}', delim='\t', quote='', escape='', header=true,
                                all_varchar=true, max_line_size=10000000)
                  where regexp_matches(coalesce("EC number", ''), '{EC}')
                    and regexp_matches("Sequence", '^[A-Z]+$'))
            to '{target}' (format parquet, compression zstd, compression_level 1)
        """)
        return int(database.execute(f"select count(*) from '{target}'").fetchall()[0][0])


ENGINES: dict[str, Callable[[Path, Path], int]] = {
    "pyarrow": by_pyarrow, "polars": by_polars, "duckdb": by_duckdb,
}  # fmt: skip


def main(source: str, only: str | None = None) -> None:
    """Run every engine in a process of its own, or one in this."""
    if only is None:
        for name in ENGINES:
            subprocess.run([sys.executable, __file__, source, name], check=True)
        return
    with tempfile.TemporaryDirectory(dir=Path(source).parent) as folder:
        target = Path(folder) / "out.parquet"
        start = time.perf_counter()
        rows = ENGINES[only](Path(source), target)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(
            f"{only}: {rows:,} rows, {seconds:.1f} s, CPU {used.ru_utime + used.ru_stime:.1f} s, "
            f"peak {used.ru_maxrss / 1024:,.0f} MiB, {target.stat().st_size:,} bytes"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
