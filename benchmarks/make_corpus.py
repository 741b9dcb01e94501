"""Make a UniProt TSV of the paper's size, with its class counts, out of random residues.

    python benchmarks/make_corpus.py OUT.tsv[.gz] [--records 9447681] [--seed 0] [--level 6]

Proteins of one EC 3 or EC 7 sub-class and 50-1,000 residues are exactly as many as Table 1's "All"
column says (scaled to --records), so that a dataset's card can be checked against it. Lengths are
lognormal and residues as frequent as in the embedded sample's enzymes. Beside them, 2 % more rows
stand for what files have: proteins of other classes, of several, of none, too short and too long
ones, accessions that come again (with the same sequence, with another one) and rows that cannot be
used. One tenth of the sequences repeat another one. The same seed gives the same bytes. No EC
number is one that moved, or the classes' counts would not be Table 1's.
"""

import argparse
import gzip
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ec_sweep import published
from ec_sweep.ec import parse
from ec_sweep.paths import packed
from ec_sweep.transfers import CURRENT, built_in

Array = npt.NDArray[Any]
ROWS = 50_000  # made at a time
HEADER = b"Entry\tReviewed\tEC number\tLength\tSequence\n"
REPEATED = 0.1  # of the sequences are those of the row before
EXTRA = {  # rows beside those of Table 1: their share of them, and their EC numbers
    "none": (0.006, [""]),
    "other": (0.005, ["1.1.1.1", "2.7.11.1", "4.2.-.-", "5.6.2.4; 2.7.7.7"]),
    "several": (0.004, ["3.1.3.2; 3.6.1.1", "3.4.21.4; 7.1.1.2"]),
    "short": (0.001, ["3.1.1.1"]),
    "long": (0.001, ["3.1.1.1"]),
    "again": (0.002, ["1.1.1.1", "2.7.11.1", "2.7.11.1; 1.1.1.1"]),
    "conflicting": (0.0005, ["3.5.1.5"]),
    "bad": (0.0005, ["3.1.1.x", "hydrolase", "3.1.1.1.1"]),
}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLACES = (
    ["0123456789" + LETTERS] * 2
    + ["0123456789", LETTERS]
    + ["0123456789" + LETTERS] * 2
    + ["0123456789"]
)  # of an accession such as A0A0C5B5G6, after its A0A
SCRAMBLE = 2_654_435_761  # has no divisor in common with the number of such accessions


def main() -> None:
    """Write the file and print how many rows of each kind it holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=9_447_681)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--level", type=int, default=6, help="of gzip")
    options = parser.parse_args()
    sizes = planned(options.records)
    chunks = table(sizes, options.seed)
    with options.out.open("wb") as file:
        file.writelines(gzipped(chunks, options.level) if options.out.suffix == ".gz" else chunks)
    print(f"{options.out}: {sum(sizes.values()):,} rows, {options.out.stat().st_size:,} bytes")
    print(sizes)


def planned(records: int) -> dict[str, int]:
    """Return the rows of each kind: Table 1's classes, scaled, then the extra ones."""
    classes = published.class_counts()["all"]
    total = sum(classes.values())
    sizes = {name: round(n * records / total) for name, n in classes.items()}
    sizes[max(sizes, key=lambda name: sizes[name])] += records - sum(sizes.values())
    return sizes | {name: round(share * records) for name, (share, _) in EXTRA.items()}


def ec_texts(kind: str, rng: np.random.Generator) -> list[str]:
    """Return the EC numbers that rows of a kind may have, as written."""
    if kind in EXTRA:
        return EXTRA[kind][1]
    if "." not in kind:
        return [f"{kind}.-.-.-"]
    drawn = [f"{kind}.{a}.{b}" for a, b in rng.integers(1, [8, 200], (1200, 2))]
    own = [f"{kind}.1.{series}{n}" for n in range(1, 9) for series in "nB"]
    moved = built_in(CURRENT).targets
    full, own = ([n for n in some if parse(n) not in moved] for some in (drawn, own))
    full = full[:300]
    pairs = [f"{a}; {b}" for a, b in zip(full[:30], full[30:60], strict=True)]
    mixed = [f"2.7.1.{n}; {number}" for n, number in enumerate(full[60:70], 1)]
    return [*full, *full, *pairs, *mixed, *[f"{kind}.-.-"] * 40, *own[:2]]


def table(sizes: dict[str, int], seed: int) -> Iterator[bytes]:
    """Yield the header and the rows, many at a time; blocks are made in two threads."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(np.arange(len(sizes), dtype=np.int8), list(sizes.values())))
    texts = [ec_texts(kind, rng) for kind in sizes]
    maker = Maker(list(sizes), texts, seed)
    starts = range(0, len(kinds), ROWS)
    yield HEADER
    yield from in_order(lambda start: maker.rows(kinds[start : start + ROWS], start), starts)


def in_order(work: Any, items: Iterable[Any]) -> Iterator[Any]:
    """Yield what two threads make of the items, in their order."""
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 3:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Maker:
    """Makes blocks of rows."""

    def __init__(self, kinds: list[str], texts: list[list[str]], seed: int) -> None:
        self.kinds, self.seed = kinds, seed
        self.texts = pa.array([text.encode() for some in texts for text in some], pa.binary())
        self.first = np.cumsum([0, *map(len, texts)])
        lengths, residues = sample()
        logs = np.log(lengths)
        self.lognormal = logs.mean(), logs.std()
        shares = np.array([residues.count(letter) for letter in LETTERS]) / len(residues)
        bounds = np.round(np.cumsum(shares) * 65536).astype(int)
        letters = np.frombuffer(LETTERS.encode(), np.uint8)
        self.letters = np.repeat(letters, np.diff(bounds, prepend=0))

    def rows(self, kinds: Array, start: int) -> bytes:
        """Return rows of these kinds, of which the first is row number ``start``."""
        rng = np.random.Generator(np.random.SFC64([self.seed, start]))
        n = len(kinds)
        is_kind = {name: kinds == place for place, name in enumerate(self.kinds)}
        extra = np.any([is_kind[name] for name in EXTRA], axis=0)
        accession_of, sequence_of = np.arange(n), np.arange(n)
        repeats = np.flatnonzero(~extra & (rng.random(n) < REPEATED))
        sequence_of[repeats] = rng.choice(np.flatnonzero(~extra), len(repeats))
        # Accessions that come again are those of no class, so that Table 1's counts stay.
        hosts = rng.permutation(np.flatnonzero(is_kind["none"] | is_kind["other"]))
        for kind in ("again", "conflicting"):
            guests = np.flatnonzero(is_kind[kind])[: len(hosts)]
            accession_of[guests], hosts = hosts[: len(guests)], hosts[len(guests) :]
        sequence_of[is_kind["again"]] = accession_of[is_kind["again"]]
        sequences = self.sequences(rng, self.lengths(rng, is_kind)).take(pa.array(sequence_of))
        place = self.first[kinds] + (rng.random(n) * np.diff(self.first)[kinds]).astype(np.int64)
        lengths = pc.subtract(pc.binary_length(sequences), 1)
        columns = (
            accessions(start + accession_of),
            pa.array([b"unreviewed"]).take(pa.array(np.zeros(n, np.int8))),
            self.texts.take(pa.array(place)),
            lengths.cast(pa.string()).cast(pa.binary()),
            sequences,
        )
        joined = pc.binary_join_element_wise(*columns, b"\t")
        return bytes(joined.buffers()[2])

    def lengths(self, rng: np.random.Generator, is_kind: dict[str, Array]) -> Array:
        """Return the lengths of the sequences, 50-1,000 but for the kinds that are not."""
        n = len(is_kind["bad"])
        lengths = np.zeros(n)
        while len(wrong := np.flatnonzero((lengths < 50) | (lengths > 1000))):
            lengths[wrong] = np.round(rng.lognormal(*self.lognormal, len(wrong)))
        lengths[is_kind["short"]] = 30
        lengths[is_kind["long"]] = 1500
        return lengths.astype(np.int64)

    def sequences(self, rng: np.random.Generator, lengths: Array) -> pa.Array:
        """Return random sequences, each with its end of line."""
        ends = np.cumsum(lengths + 1)
        raw = np.frombuffer(rng.bytes(2 * int(ends[-1])), np.uint16)
        letters = self.letters[raw]
        letters[ends - 1] = ord("\n")
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
        return pa.Array.from_buffers(pa.binary(), len(lengths), buffers)


def accessions(numbers: Array) -> pa.Array:
    """Return the accession of every number, in no visible order, each its own."""
    sizes = [len(place) for place in PLACES]
    scrambled = numbers.astype(np.uint64) * np.uint64(SCRAMBLE) % np.uint64(np.prod(sizes))
    letters = np.empty((len(numbers), 3 + len(PLACES)), np.uint8)
    letters[:, :3] = np.frombuffer(b"A0A", np.uint8)
    for column, place in enumerate(PLACES, 3):
        scrambled, digit = np.divmod(scrambled, np.uint64(len(place)))
        letters[:, column] = np.frombuffer(place.encode(), np.uint8)[digit]
    width = letters.shape[1]
    fixed = pa.Array.from_buffers(
        pa.binary(width), len(numbers), [None, pa.py_buffer(np.ascontiguousarray(letters))]
    )
    return fixed.cast(pa.binary())


def sample() -> tuple[Array, str]:
    """Return the lengths and the residues of the embedded sample's enzymes."""
    with gzip.open(packed("data") / "swissprot-sample.tsv.gz", "rt", encoding="utf-8") as file:
        found = [line.rstrip("\n").split("\t") for line in file][1:]
    sequences = [row[4] for row in found if row[2] and 50 <= len(row[4]) <= 1000]
    return np.array([len(sequence) for sequence in sequences]), "".join(sequences)


def gzipped(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    """Yield one gzip member, compressed piece by piece in two threads."""
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    check = size = 0

    def compressed(chunk: bytes) -> tuple[bytes, bytes]:
        work = zlib.compressobj(level, zlib.DEFLATED, -15)
        return chunk, work.compress(chunk) + work.flush(zlib.Z_SYNC_FLUSH)

    for chunk, packed_chunk in in_order(compressed, chunks):
        check, size = zlib.crc32(chunk, check), size + len(chunk)
        yield packed_chunk
    yield b"\x03\0" + check.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


if __name__ == "__main__":
    main()
