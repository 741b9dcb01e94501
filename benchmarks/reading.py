"""How fast each format is read, on one thread: cut into blocks, and parsed.

    python benchmarks/reading.py TABLE.tsv[.gz] [--dir DIR]

Writes the proteins of a UniProt TSV file in every format into a folder, and reads each three
times. Times are of the processor, the best of three; sizes are of the text inside. Prints
Markdown for docs/benchmarks.md.
"""

import argparse
import lzma
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ec_sweep.formats import Options, open_file

LABELS = Options(labels=Path("labels"))
PATTERN = Options(pattern=r"^(?P<accession>[^|]+)\|[^|]*\|(?P<ec>[^|]*)")
WRAP = 60  # letters a line


def wrapped(sequence: bytes, indent: bytes = b"") -> bytes:
    """Return a sequence as lines of 60 letters."""
    lines = (sequence[at : at + WRAP] for at in range(0, len(sequence), WRAP))
    return b"".join(indent + line + b"\n" for line in lines)


def write_all(table: Path, folder: Path) -> list[tuple[Path, Options]]:
    """Write the proteins of a table in every format; return the files and how they are read."""
    reading = open_file(table)
    fields = [reading.parse(block) for block in reading.blocks()]
    columns = {
        "Entry": pa.chunked_array([part.accession for part in fields]),
        "EC number": pa.chunked_array([part.ec_numbers for part in fields]),
        "Sequence": pa.chunked_array([part.sequence for part in fields]),
    }
    rows = list(zip(*(column.to_pylist() for column in columns.values()), strict=True))
    tsv = b"Entry\tEC number\tSequence\n" + b"".join(b"%s\t%s\t%s\n" % row for row in rows)
    texts = {
        "plain.tsv": tsv,
        "x.tsv.gz": _squeezed(tsv, "gzip"),
        "x.tsv.zst": _squeezed(tsv, "zstd"),
        "x.tsv.xz": lzma.compress(tsv, preset=1),
        "uniprot.fasta": b"".join(
            b">sp|%s|X_HUMAN A protein OS=Homo sapiens OX=9606 PE=1 SV=1\n%s"
            % (name, wrapped(text))
            for name, _, text in rows
        ),
        "brenda.fasta": b"".join(
            b">%s|a name|%s|Homo sapiens|Swiss-Prot\n%s\n" % row for row in rows
        ),
        "brenda.csv": b"".join(
            b"%s\ta name\t%s\tHomo sapiens\tSwiss-Prot\t%d\t%s\n" % (name, ec, len(text), text)
            for name, ec, text in rows
        ),
        "uniprot.dat": b"".join(
            b"ID   X_HUMAN   Reviewed;\nAC   %s;\nDE   RecName: Full=A;\nDE            EC=%s;\n"
            b"%sSQ   SEQUENCE   %d AA;  1 MW;  0 CRC64;\n%s//\n"
            % (name, ec, b"FT   HELIX           1..2\n" * 150, len(text), wrapped(text, b"     "))
            for name, ec, text in rows[:40_000]
        ),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    pq.write_table(pa.table(columns), folder / "x.parquet")
    plain = [(folder / name, LABELS if name == "uniprot.fasta" else Options()) for name in texts]
    return [*plain, (folder / "brenda.fasta", PATTERN), (folder / "x.parquet", Options())]


def _squeezed(text: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as file:
        file.write(text)
    return bytes(sink.getvalue())


def measure(path: Path, options: Options) -> str:
    """Read a file three times; return a row of the table."""
    best = (float("inf"), 0.0)
    for _ in range(3):
        records = size = 0
        cutting = parsing = 0.0
        reading = open_file(path, options)
        blocks = reading.blocks()
        while True:
            start = time.process_time()
            block = next(blocks, None)
            cut = time.process_time()
            cutting += cut - start
            if block is None:
                break
            records += reading.parse(block).records
            parsing += time.process_time() - cut
            size += len(block.data) if hasattr(block, "data") else block.nbytes
        best = min(best, (cutting, parsing), key=sum)
    cutting, parsing = best
    per_second = f"{records / (cutting + parsing) / 1e3:,.0f} thousand"
    name = f"{reading.format}{' by a pattern' if options.pattern else ''} (`{path.name}`)"
    cells = [name, f"{size / 1e6 / cutting:,.0f}", f"{size / 1e6 / parsing:,.0f}", per_second]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--dir", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir) as folder:
        print("| format | blocks, MB/s | parsing, MB/s | records a second, both |")
        print("|---|---|---|---|")
        for path, options in write_all(arguments.table, Path(folder)):
            print(measure(path, options), flush=True)


if __name__ == "__main__":
    main()
