"""From files to sources: every record kept or counted, whatever their order, threads or end."""

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ec_sweep import (
    building,
    datasets,
    doctor_files,
    importing,
    merging,
    output,
    records,
    sources,
    splits,
)
from ec_sweep.errors import EcsweepError
from ec_sweep.fields import Fields
from ec_sweep.formats import Options, Reading
from ec_sweep.paths import Home
from ec_sweep.records import Numbers
from ec_sweep.sources import Source
from ec_sweep.transfers import CURRENT, built_in

Write = Callable[..., Path]
Kept = tuple[str, str, str]

GOOD = ["P1", "reviewed", "1.1.1.1", "60", "MKV" * 20]


def write(folder: Path, *paths: Path, **options: Any) -> Source:
    """Import files into a folder of their own, no EC number migrated."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return importing.write(folder, "source", paths, Options(**options), built_in("none"))


def content(source: Source) -> list[Kept]:
    """Return accession, EC numbers and sequence of each record."""
    table = source.records(["accession", "ec_numbers", "row"])
    every = [
        sequence
        for group in range(len(source.row_groups()))
        for sequence in source.sequences(group).to_pylist()
    ]
    return sorted(
        (row["accession"], row["ec_numbers"], every[row["row"]].decode())
        for row in table.to_pylist()
    )


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., tuple[list[Kept], dict[str, Any]]]:
    def run(*paths: Path, **options: Any) -> tuple[list[Kept], dict[str, Any]]:
        source = write(tmp_path / "source", *paths, **options)
        card = source.card
        assert card["records_in"] == card["records_kept"] + sum(card["dropped"].values())
        return content(source), card

    return run


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["P2", "reviewed", "1.1.1.1", "60"], "wrong_number_of_columns"),
        (["", *GOOD[1:]], "no_accession"),
        ([" \u00a0\t"[:1], *GOOD[1:]], "no_accession"),
        (["P\x1b[2J", *GOOD[1:]], "invalid_accession"),
        (["P" * 300, *GOOD[1:]], "invalid_accession"),
        (["P2", "reviewed", "", "0", ""], "no_sequence"),
        (["P2", "reviewed", "", "5", "MK V1"], "invalid_sequence"),
        (["P2", "reviewed", "", "60", "M*V" * 20], "invalid_sequence"),
        (["P2", "reviewed", "", "60", "MÄV" * 20], "invalid_sequence"),
        (["P2", "reviewed", "", "61", "MKV" * 20], "length_mismatch"),
        (["P2", "reviewed", "", "long", "MKV" * 20], "length_mismatch"),
        (["P2", "reviewed", "8.1.1.1", "60", "MKV" * 20], "invalid_ec_number"),
        (["P2", "reviewed", "kinase", "60", "MKV" * 20], "invalid_ec_number"),
        (GOOD, "repeated_accession"),
    ],
)
def test_malformed_rows_are_counted_by_reason(
    write_tsv: Write,
    imported: Callable[..., tuple[list[Kept], dict[str, Any]]],
    row: list[str],
    reason: str,
) -> None:
    """A row that cannot be used is dropped, counted and named; the others stay."""
    found, card = imported(write_tsv([GOOD, row]))
    assert [accession for accession, *_ in found] == ["P1"]
    assert card["records_in"] == 2
    assert card["dropped"] == {reason: 1}


def test_repeated_accessions_are_merged_or_left_out(
    write_tsv: Write, imported: Callable[..., tuple[list[Kept], dict[str, Any]]]
) -> None:
    """Same sequence: EC numbers united. Two sequences: all its rows left out, in any order."""
    rows = [
        GOOD,
        ["P1", "reviewed", "3.1.-.-; 2.7.1.n3", "60", "MKV" * 20],
        ["P2", "reviewed", "", "60", "MKV" * 20],
        ["P2", "reviewed", "", "60", "MKL" * 20],
        ["P2", "reviewed", "", "60", "MKV" * 20],
    ]
    for order in (rows, rows[::-1]):
        found, card = imported(write_tsv(order))
        assert found == [("P1", "1.1.1.1; 2.7.1.n3; 3.1.-.-", "MKV" * 20)]
        assert card["dropped"] == {"repeated_accession": 1, "conflicting_sequences": 3}


def test_columns_are_found_by_name(
    tmp_path: Path, imported: Callable[..., tuple[list[Kept], dict[str, Any]]]
) -> None:
    """Any order, any case, more columns; lower-case sequences and blank lines are fine."""
    path = tmp_path / "other.tsv"
    path.write_text("\ufeffsequence\tOrganism\tEC NUMBER\tentry\n mkv\tE. coli\t\t P1 \n\n")
    assert imported(path)[0] == [("P1", "", "MKV")]


def test_files_are_joined_and_labels_come_from_a_table(
    tmp_path: Path, imported: Callable[..., tuple[list[Kept], dict[str, Any]]]
) -> None:
    """Records of several files become one by accession; every row of the table is accounted for."""
    one, two, table = (tmp_path / name for name in ("one.fasta", "two.fasta", "labels.tsv"))
    one.write_text(">P1\nMKV\n>P2\nMKL\n>P3\nMKI\n")
    two.write_text(">P1\nMKV\n>P4\nMKA\n")
    table.write_text("Entry\tEC number\nP1\t1.1.1.1\nP1\t3.1.1.1\nP2\t\nP9\t1.1.1.1\nP4\tx\n")
    found, card = imported(one, two, labels=table)
    assert found == [("P1", "1.1.1.1; 3.1.1.1", "MKV"), ("P2", "", "MKL")]
    assert card["dropped"] == {
        "invalid_ec_number": 1,  # of P4 in the table
        "label_joined": 3,
        "label_without_sequence": 1,  # P9
        "no_label": 2,  # P3 and P4
        "repeated_accession": 1,
    }
    assert [file["records"] for file in card["files"]] == [3, 2, 5]


def test_a_nul_in_a_sequence_is_no_letter() -> None:
    """In a Parquet file nothing looks at it before; sequences without any are not looked into."""
    sequences = pa.array([b"MKV", b"MK\0V", None], pa.binary())
    assert records._upper(sequences)[1].tolist() == [False, True, False]
    assert records._upper(pa.array([None, b""], pa.binary()))[1].tolist() == [False, False]


def test_parts_and_families_of_repeated_records_must_agree(
    tmp_path: Path, imported: Callable[..., tuple[list[Kept], dict[str, Any]]]
) -> None:
    """A protein in two parts or families is left out; a blank says nothing."""
    path = tmp_path / "x.tsv"
    rows = ["P1 train f1", "P1  f1", "P2 train f1", "P2 test f1", "P3 test f1", "P3 test f2"]
    cells = [row.split(" ") for row in rows]
    lines = [f"{name}\t1.1.1.1\tMKV\t{part}\t{family}" for name, part, family in cells]
    path.write_text("\n".join(["Entry\tEC number\tSequence\tPart\tFamily", *lines]) + "\n")
    found, card = imported(path, split_column="part", family_column="family")
    assert [accession for accession, *_ in found] == ["P1"]
    assert card["dropped"] == {
        "conflicting_families": 2, "conflicting_parts": 2, "repeated_accession": 1,
    }  # fmt: skip
    source = Source(tmp_path / "source", card)
    assert source.records(["part", "family"]).to_pylist() == [{"part": "train", "family": "f1"}]


def test_numbers_that_moved_are_migrated_and_counted(tmp_path: Path, write_tsv: Write) -> None:
    """The card says which numbers became what; an enzyme without a number left is left out."""
    rows = [
        ["P1", "", "3.6.3.8", "3", "MKV"],
        ["P2", "", "3.6.3.8; 1.1.1.1", "3", "MKV"],
        ["P3", "", "3.6.1.3", "3", "MKV"],
    ]
    folder = tmp_path / "source"
    folder.mkdir()
    source = importing.write(folder, "x", [write_tsv(rows)], Options(), built_in(CURRENT))
    assert [numbers for _, numbers, _ in content(source)] == ["7.2.2.10", "1.1.1.1; 7.2.2.10"]
    assert source.card["dropped"] == {"deleted_ec_number": 1}
    assert source.card["migrations"]["moved"] == {"3.6.3.8 → 7.2.2.10": 2}
    assert source.card["migrations"]["deleted"] == {"3.6.1.3": 1}


def test_neither_threads_nor_blocks_nor_order_matter(
    tmp_path: Path, write_tsv: Write, proteins: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread or five: the same bytes. Small blocks, another order: the same records."""
    rows = [row[:5] for row in proteins[:700]]
    rows += [[row[0], "", "9.9.9.9" if n % 3 else "1.2.3.4", "", row[4]] for n, row in
             enumerate(rows[::7])]  # fmt: skip
    path = write_tsv(rows)
    expected = write(tmp_path / "a", path)
    monkeypatch.setattr(importing, "usable_cores", lambda: 5)
    again = write(tmp_path / "b", path)
    for name in (sources.RECORDS, sources.SEQUENCES):
        assert (again.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    other = write(tmp_path / "c", write_tsv(random.Random(0).sample(rows, len(rows)), "c.tsv"))
    monkeypatch.setattr(Reading.blocks, "__defaults__", (5_000,))
    small = write(tmp_path / "d", path)
    assert len(small.row_groups()) > 20
    assert content(small) == content(other) == content(expected)
    assert small.card["dropped"] == other.card["dropped"] == expected.card["dropped"]


TEXTS = st.sampled_from(["", "1.1.1.1", "3.1.-.-; 1.1.1.1", "x", " 2.7.1.1 ", "7.1.1.2;"])
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["A", "B", "C", " D", "", "\x01", "é"]),
        st.one_of(st.none(), TEXTS),
        st.one_of(st.none(), st.sampled_from(["MKV", "mkl", "", "M-K", " MKV", "M\u00c4"])),
        st.sampled_from(["", "3", "4", "x"]),
        st.sampled_from(["", "train", "test"]),
    ),
    max_size=25,
)


def reference(rows: Iterable[tuple[Any, ...]]) -> tuple[set[Any], Counter[str]]:
    """Check and merge records one by one, in plain Python."""
    dropped: Counter[str] = Counter()
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for accession, text, sequence, length, part in rows:
        name = accession.strip()
        letters = None if sequence is None else sequence.strip().upper()
        numbers = None if text is None else {n.strip() for n in text.split(";") if n.strip()}
        if not name:
            dropped["no_accession"] += 1
        elif not name.isprintable():
            dropped["invalid_accession"] += 1
        elif letters == "":
            dropped["no_sequence"] += 1
        elif letters and not (letters.isascii() and letters.isalpha()):
            dropped["invalid_sequence"] += 1
        elif letters and length and length != str(len(letters)):
            dropped["length_mismatch"] += 1
        elif numbers and "x" in numbers:
            dropped["invalid_ec_number"] += 1
        else:
            groups.setdefault(name, []).append((letters, numbers, part))
    kept = set()
    for name, group in groups.items():
        letters = {one for one, _, _ in group if one is not None}
        parts = {part for _, _, part in group if part}
        stated = [numbers for _, numbers, _ in group if numbers is not None]
        proteins = sum(one is not None for one, _, _ in group)
        if len(letters) > 1:
            dropped["conflicting_sequences"] += len(group)
        elif len(parts) > 1:
            dropped["conflicting_parts"] += len(group)
        elif not letters:
            dropped["label_without_sequence"] += len(group)
        else:
            dropped["repeated_accession"] += proteins - 1
            dropped["label_joined"] += len(group) - proteins
            if stated:
                kept.add((name, tuple(sorted(set().union(*stated))), *letters, *(parts or {None})))
            else:
                dropped["no_label"] += 1
    return kept, +dropped


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 6))
def test_columns_say_what_rows_say(rows: list[tuple[Any, ...]], size: int) -> None:
    """Checked and merged by columns, in blocks of any size: as one by one in plain Python."""
    numbers = Numbers(built_in("none"))
    dropped: Counter[str] = Counter()
    blocks, hashes = [], []
    schema = pa.schema({"accession": pa.string(), "ec": pa.int32(), "length": pa.int32(),
                        "digest": pa.binary(16), "part": pa.string()})  # fmt: skip
    sequences: list[bytes | None] = []
    for start in range(0, len(rows), size):
        columns = list(zip(*rows[start : start + size], strict=True))
        binary = [
            pa.array([None if v is None else v.encode() for v in column], pa.binary())
            for column in columns
        ]
        fields = Fields(binary[0], binary[1], binary[2], length=binary[3], part=binary[4])
        checked = records.check(fields, numbers)
        assert checked.records == len(columns[0])
        dropped += checked.dropped
        sequences += checked.sequence.to_pylist()
        hashes += splits.hashes(checked.accession, 0, "merge").tolist()
        lengths = [merging.LABEL_ROW if s is None else len(s) for s in checked.sequence.to_pylist()]
        columns = [checked.accession, checked.ec, lengths, checked.digest, checked.part]
        arrays = [
            pa.array(one, kind.type) if not isinstance(one, pa.Array) else one
            for one, kind in zip(columns, schema, strict=True)
        ]
        blocks.append(pa.record_batch(arrays, schema=schema))
    suspects = merging.suspects(np.array(hashes, np.uint64))
    merged = merging.merge(merging.taken(blocks, schema, suspects), numbers)
    result = merging.Result(suspects, merged, numbers)
    found = {
        (
            one["accession"],
            tuple(map(str, records.numbers_of(one["ec_numbers"]))),
            (sequences[one["row"]] or b"").decode(),
            one["part"],
        )
        for batch in result.records(blocks)
        for one in batch.to_pylist()
    }
    kept, expected = reference(rows)
    assert found == kept
    assert result.kept == len(kept)
    assert result.dropped + dropped == expected


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def do(home: Home, name: str, *paths: Path) -> Source:
    return importing.import_files(home, name, paths, Options(), built_in("none"))


def test_a_failed_import_leaves_the_old_source(
    home: Home, tmp_path: Path, write_tsv: Write
) -> None:
    """A file that turns out to be damaged changes nothing, and nothing half-made stays."""
    old = do(home, "mine", write_tsv([GOOD]))
    bad = tmp_path / "bad.tsv"
    bad.write_text("Entry\tEC number\tSequence\nP1\t\tMKV\nP2\t")
    with pytest.raises(EcsweepError, match="line 3: the file ends in the middle"):
        do(home, "mine", bad)
    useless = tmp_path / "useless.tsv"
    useless.write_text("Entry\tEC number\tSequence\nP1\t\tM1V\n")
    with pytest.raises(EcsweepError, match=r"the 1 record cannot be used.*invalid_sequence"):
        do(home, "mine", useless)
    with pytest.raises(EcsweepError, match="given twice"):
        do(home, "mine", bad, bad)
    assert sources.get(home, "mine") == old
    assert content(old) == [("P1", "1.1.1.1", "MKV" * 20)]
    left = {path.name for path in (home.sources / "mine").iterdir()}
    assert left == {"source.json", old.folder.name}


def test_a_first_import_that_fails_leaves_no_folder(
    home: Home, write_tsv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where another import of the same name waits for it, which then does its work."""
    file = write_tsv([GOOD])
    other = threading.Thread(target=do, args=(home, "mine", file))

    def fail(*_: object) -> None:
        monkeypatch.undo()
        other.start()
        other.join(0.3)
        assert other.is_alive()
        raise OSError(28, "No space left on device")

    useless = write_tsv([["P1", "", "", "", "M1V"]], "useless.tsv")
    with pytest.raises(EcsweepError, match="the 1 record cannot be used"):
        do(home, "mine", useless)
    assert not [*home.sources.glob("*/")]
    monkeypatch.setattr(importing, "_merge", fail)
    with pytest.raises(OSError, match="No space"):
        do(home, "mine", file)
    other.join()
    assert content(sources.get(home, "mine")) == [("P1", "1.1.1.1", "MKV" * 20)]


def test_a_source_replaced_while_it_is_read_is_told(home: Home, write_tsv: Write) -> None:
    """A build that meets a new import of its source is no sign of damage."""
    old = do(home, "mine", write_tsv([GOOD]))
    do(home, "mine", write_tsv([["P7", *GOOD[1:]]]))
    for read in (lambda: old.records(["accession"]), old.row_groups, lambda: old.sequences(0)):
        with pytest.raises(EcsweepError, match=r"mine was imported anew .* Run the command again"):
            read()


def test_a_new_import_replaces_the_old_one(home: Home, write_tsv: Write) -> None:
    """A source of the same name is the new one, whole; leftovers of killed imports go."""
    do(home, "mine", write_tsv([GOOD]))
    (home.sources / "mine" / ".building-killed").mkdir()
    (home.sources / "mine" / "content-orphan").mkdir()
    new = do(home, "mine", write_tsv([["P7", *GOOD[1:]]]))
    assert [accession for accession, *_ in content(new)] == ["P7"]
    assert len(list((home.sources / "mine").glob("*/"))) == 1
    assert [source.name for source in sources.imported(home)] == ["mine"]


KILLED = """
import sys
from pathlib import Path
from ec_sweep import building, importing, packing, records
from ec_sweep.formats import Options
from ec_sweep.paths import Home
from ec_sweep.transfers import CURRENT, built_in

home, file, what = Home(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
module, name = {"import": (importing, "_merge"), "build": (packing, "_tokens")}[what]
going_on = getattr(module, name)

def slowly(*arguments):
    print("in the middle", flush=True)
    sys.stdin.read()
    return going_on(*arguments)

setattr(module, name, slowly)
if what == "import":
    importing.import_files(home, "mine", [file], Options(), built_in("none"))
else:
    building.build(home, "enzyme", [file])
"""


@pytest.mark.parametrize("what", ["import", "build"])
def test_a_kill_in_the_middle_leaves_the_old_intact(
    home: Home, write_tsv: Write, proteins: list[list[str]], what: str
) -> None:
    """SIGKILL while a source or a dataset is made: the old one stays, the next run cleans up."""
    rows = [row[:5] for row in proteins]
    do(home, "mine", write_tsv(rows[:300], "old.tsv"))
    old = building.build(home, "enzyme", "mine")
    file = write_tsv(rows[:400], "new.tsv")
    arguments = [sys.executable, "-c", KILLED, str(home.root), str(file), what]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    place = home.sources / "mine" if what == "import" else home.data / "enzyme"
    (left,) = place.glob(".building-*")
    assert content(sources.get(home, "mine"))
    assert datasets.find(home, "enzyme") == [old]
    assert datasets.verify(old) is None
    kinds = {finding.kind: finding for finding in doctor_files.files(home, deep=False)}
    finding = kinds["source-half-imported" if what == "import" else "dataset-half-built"]
    assert finding.where == str(left)
    if what == "import":
        do(home, "mine", file)
    else:
        building.build(home, "enzyme", [file])
    assert not list(place.glob(".building-*"))


@pytest.mark.parametrize("name", ["../x", "", "A", ".x", "x" * 65, "a/b"])
def test_names_of_sources_are_checked(home: Home, write_tsv: Write, name: str) -> None:
    """A name cannot leave the folder of sources."""
    with pytest.raises(EcsweepError, match="a source's name must be of a-z"):
        do(home, name, write_tsv([GOOD]))
    assert not home.sources.exists()


def test_damaged_sources_say_what_to_do(home: Home, write_tsv: Write) -> None:
    """A card or columns cut short are named, with the cure."""
    source = do(home, "mine", write_tsv([GOOD]))
    (source.folder / sources.RECORDS).write_bytes(b"PAR1")
    with pytest.raises(EcsweepError, match=r"is damaged .* Import its files again"):
        source.records(["accession"])
    (finding,) = doctor_files.files(home, deep=False)
    assert (finding.kind, finding.where) == ("source-damaged", str(home.sources / "mine"))
    (home.sources / "mine" / sources.CARD).write_text("{}")
    with pytest.raises(EcsweepError, match="not the card of a source"):
        sources.get(home, "mine")


def test_verify_finds_changed_sources(home: Home, write_tsv: Write) -> None:
    """A sequence that is another, records that are gone, and columns that cannot be read."""
    rows = [[f"P{number}", "", "1.1.1.1", "", "MKV" * (20 + number)] for number in range(5)]
    source = do(home, "mine", write_tsv([*rows, ["P9", *rows[0][1:]]]))
    assert sources.verify(source) is None
    path = source.folder / sources.SEQUENCES
    intact = pq.read_table(path)
    changed = [text.as_py() for text in intact["sequence"]]
    changed[3] = b"A" * len(changed[3])
    pq.write_table(pa.table({"sequence": pa.array(changed, pa.binary())}), path)
    assert "1 of its sequences are not those" in str(sources.verify(source))
    pq.write_table(intact[:4], path)
    assert "2 of its sequences are not those" in str(sources.verify(source))
    fewer = pq.read_table(source.folder / sources.RECORDS)[1:]
    pq.write_table(fewer, source.folder / sources.RECORDS)
    assert "it holds 5 records, not the 6 of its card" in str(sources.verify(source))
    path.unlink()
    (source.folder / sources.RECORDS).write_bytes(b"")
    assert "is damaged" in str(sources.verify(source))


def test_names_come_from_files() -> None:
    """The name of a source is its file's, without what says how it is written."""
    for file, name in (
        ("UniProt Reviewed.tsv.gz", "uniprot-reviewed"),
        ("3__BRENDA_sequences.csv", "3__brenda_sequences"),
        ("…", "source"),
    ):
        assert sources.name_of(Path(file)) == name


def test_a_fetched_file_brings_its_release_along(
    home: Home, write_tsv: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `data fetch` wrote beside a file stands on the card, unless the file has changed."""
    file = write_tsv([["P1", "", "1.1.1.1", "3", "MKV"]])
    about = {
        "source": "UniProtKB", "release": "2026_04", "fetched": "2026-11-23T00:00:00+00:00",
        "bytes": file.stat().st_size,
    }  # fmt: skip
    beside = file.with_name(f"{file.name}.json")
    beside.write_text(json.dumps(about))
    card = importing.import_files(home, "x", [file], Options(), built_in("none")).card
    assert card["files"][0]["fetched"] == about
    output.print_card(card)
    shown = capsys.readouterr().out
    assert "UniProt TSV, 1 record; fetched 2026-11-23, release 2026_04\n" in shown
    beside.write_text(json.dumps(about | {"bytes": 1}))
    card = importing.import_files(home, "x", [file], Options(), built_in("none")).card
    assert "fetched" not in card["files"][0]
