"""Draw the embedded sample from a larger TSV of real proteins: see README.md in this folder.

    python data/draw_sample.py SOURCE.tsv.gz

The draw depends on accessions alone, and families on the sequences drawn and the version of
MMseqs2, so the same source gives the same bytes.
"""

import csv
import gzip
import hashlib
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow as pa

from ec_sweep import clustering

TARGET = Path(__file__).parent / "swissprot-sample.tsv.gz"
PER_GROUP = 5_000  # enzymes, and as many non-enzymes
PER_SUBCLASS = 200  # of EC 3 and EC 7, where there are so many


def main(source: Path) -> None:
    """Write the sample beside this script."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    rows.sort(key=lambda row: hashlib.sha256(f"sample:{row[0]}".encode()).digest())
    enzymes = [row for row in rows if row[2]]
    sample = [row for row in rows if not row[2]][:PER_GROUP] + enzymes[:PER_GROUP]
    support = Counter(filter(None, map(subclass, sample)))
    for row in enzymes[PER_GROUP:]:
        label = subclass(row)
        if label and support[label] < PER_SUBCLASS:
            support[label] += 1
            sample.append(row)
    sample.sort()
    header = [*header, "Family"]
    sample = [[*row, family] for row, family in zip(sample, families(sample), strict=True)]
    text = "".join("\t".join(row) + "\n" for row in [header, *sample])
    TARGET.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
    print(f"{TARGET.name}: {len(sample)} proteins, {TARGET.stat().st_size:,} bytes")
    print(f"families: {len({row[-1] for row in sample}):,}")
    print("single-label proteins by sub-class:", dict(sorted(support.items())))


def families(rows: list[list[str]]) -> list[str]:
    """Return the family of each row: the first accession that has the representative's sequence."""
    sequences = [row[4] for row in rows]
    digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in sequences]
    with tempfile.TemporaryDirectory() as folder:
        found = clustering.families(
            pa.array(digests, pa.binary(16)),
            [pa.array(sequences)],
            program=clustering.find(),
            folder=Path(folder),
            say=print,
        )
    return [rows[row][0] for row in found]


def subclass(row: list[str]) -> str | None:
    """Return the EC 3 or EC 7 sub-class of a protein that has exactly one EC number."""
    main_class, sub, *_ = f"{row[2]}..".split(".")
    single = ";" not in row[2] and 50 <= len(row[4]) <= 1000
    return f"{main_class}.{sub}" if single and main_class in "37" and sub.isdigit() else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
