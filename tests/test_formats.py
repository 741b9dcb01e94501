"""Every format that sources come in: recognised, read, and no record lost on the way."""

import gzip
import lzma
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ec_sweep import headers, tabular
from ec_sweep.errors import EcsweepError
from ec_sweep.formats import Options, Reading, open_file, open_labels
from ec_sweep.headers import FORMATS
from ec_sweep.opening import BLOCK
from tests.conftest import SHARED, Ecsweep

SAMPLES = SHARED / "data" / "formats"

Row = tuple[bytes | None, ...]  # accession, EC numbers, sequence, length, part, family

UNIPROT_TSV = b"""Entry\tEntry Name\tReviewed\tEC number\tLength\tSequence
P1\tA_HUMAN\treviewed\t3.4.21.4; 3.1.-.-\t3\tMKV
P2\tB_HUMAN\treviewed\t\t2\tMK
"""
UNIPROT_ROWS = [
    (b"P1", b"3.4.21.4; 3.1.-.-", b"MKV", b"3", None, None),
    (b"P2", b"", b"MK", b"2", None, None),
]
CLEAN_TSV = b"Entry\tEC number\tSequence\nP1\t3.4.21.4;3.1.-.-\tMKV\n"
CLEAN_ROWS = [(b"P1", b"3.4.21.4;3.1.-.-", b"MKV", None, None, None)]
BRENDA_CSV = """P1\tnaïve enzyme\t1.1.1.1\tHomo sapiens\tSwiss-Prot\t3\tMKV
Q2\tendo-β\t3.5.1.B15\tEscherichia coli\tTrEMBL\t2\tMK
""".replace("β", "b").encode("latin-1")
BRENDA_TOP = b"#This file is tab stop separated\n"
BRENDA_HEADER = b"Accession_Code\tRecommended_Name\tEC_Number\tOrganism\tSource\tLength\tSequence\n"
BRENDA_ROWS = [
    (b"P1", b"1.1.1.1", b"MKV", b"3", None, None),
    (b"Q2", b"3.5.1.B15", b"MK", b"2", None, None),
]
BRENDA_FASTA = b""">P1|alcohol dehydrogenase|1.1.1.1|Homo sapiens|Swiss-Prot
MKV
>Q2|a|b|odd|name|3.5.1.B15|Escherichia coli|TrEMBL
M
K
"""
BRENDA_RE_EXPORT = b""">P1;alcohol dehydrogenase;1.1.1.1;Homo sapiens;Swiss-Prot;3
MKV
>Q2;(1;4)-odd name;3.5.1.B15;Escherichia coli;TrEMBL;2
MK
"""
UNIPROT_FASTA = b""">sp|P1|A_HUMAN A protein OS=Homo sapiens OX=9606 PE=1 SV=1
MKV
>tr|Q2|B_HUMAN Another OS=Homo sapiens
MK
"""
FASTA = b""">one ec:1.1.1.1 something
MKV
>two ec:
MK
"""
FLAT = b"""ID   A_HUMAN                 Reviewed;           3 AA.
AC   P1; Q11111;
AC   Q22222;
DT   01-JUL-1993, integrated into UniProtKB/Swiss-Prot.
DE   RecName: Full=A protein {ECO:0000303|PubMed:1};
DE            EC=3.4.21.4 {ECO:0000269|PubMed:1, ECO:0000305};
DE   Includes:
DE     RecName: Full=Part of it;
DE              EC=6.3.5.5;
DE   Contains:
DE     AltName: Full=Chain (EC-like 9.9.9.9);
DE              Short=SPEC=9.9.9.9;
DE              EC=3.1.-.-;
DE   Flags: Precursor; Fragment;
GN   Name=A;
CC   -!- CATALYTIC ACTIVITY: Reaction=x; EC=1.2.3.4; Evidence={ECO:1};
DR   BRENDA; 5.4.3.2; 2681.
SQ   SEQUENCE   3 AA;  1 MW;  B7EC9B1A5E3FDC4D CRC64;
     MK V
//
ID   B_HUMAN                 Unreviewed;         12 AA.
AC   Q2;
DE   SubName: Full=Old style (EC 1.1.1.1) (EC 2.7.-.-).
SQ   SEQUENCE   12 AA;  1 MW;  B7EC9B1A5E3FDC4D CRC64;
     MKVMKVMKVM
     KV
//
ID   C_HUMAN                 Reviewed;           2 AA.
AC   P3;
DE   RecName: Full=No enzyme;
DE   Flags: Fragment;
SQ   SEQUENCE   2 AA;  1 MW;  B7EC9B1A5E3FDC4D CRC64;
     MK
//
"""
FLAT_ROWS = [
    (b"P1", b"3.4.21.4;6.3.5.5;3.1.-.-", b"MKV", b"3", None, None),
    (b"Q2", b"1.1.1.1;2.7.-.-", b"MKVMKVMKVMKV", b"12", None, None),
    (b"P3", b"", b"MK", b"2", None, None),
]
CSV = b'Accession,"EC number",Sequence\n"P1","3.4.21.4, 3.1.-.-",MKV\nP2,,MK\n'
SHORT = [(b"P1", b"1.1.1.1", b"MKV", None, None, None), (b"Q2", b"3.5.1.B15", b"MK") + (None,) * 3]
UNLABELLED = [(b"P1", None, b"MKV", None, None, None), (b"Q2", None, b"MK", None, None, None)]
LABELS = Options(labels=Path("labels.tsv"))
PATTERN = Options(pattern=r"^(?P<accession>\S+) ec:(?P<ec>\S*)")

FASTA_ROWS = [(b"one", b"1.1.1.1", b"MKV"), (b"two", b"", b"MK")]
NAMED_ROWS = [(b"one", None, b"MKV"), (b"two", None, b"MK")]
CSV_ROWS = [(b"P1", b"3.4.21.4, 3.1.-.-", b"MKV"), (b"P2", b"", b"MK")]


def bare(rows: list[Row]) -> list[Row]:
    """Rows that have the first three columns alone."""
    return [(*row, None, None, None) for row in rows]


CASES = [
    (UNIPROT_TSV, "UniProt TSV", UNIPROT_ROWS, Options()),
    (CLEAN_TSV, "CLEAN TSV", CLEAN_ROWS, Options()),
    (BRENDA_CSV, "BRENDA CSV", BRENDA_ROWS, Options()),
    (BRENDA_HEADER + BRENDA_CSV, "BRENDA CSV", BRENDA_ROWS, Options()),
    (BRENDA_TOP + BRENDA_HEADER + BRENDA_CSV, "BRENDA CSV", BRENDA_ROWS, Options()),
    (BRENDA_TOP + BRENDA_CSV, "BRENDA CSV", BRENDA_ROWS, Options()),
    (BRENDA_FASTA, "BRENDA FASTA", SHORT, Options()),
    (BRENDA_RE_EXPORT, "BRENDA FASTA", BRENDA_ROWS, Options()),
    (UNIPROT_FASTA, "UniProt FASTA", UNLABELLED, LABELS),
    (b"; a comment\n\n" + UNIPROT_FASTA, "UniProt FASTA", UNLABELLED, LABELS),
    (FASTA, "FASTA", bare(FASTA_ROWS), PATTERN),
    (FASTA, "FASTA", bare(NAMED_ROWS), LABELS),
    (FLAT, "UniProt flat file", FLAT_ROWS, Options()),
    (CSV, "CSV table", bare(CSV_ROWS), Options()),
]


def rows(reading: Reading, size: int = BLOCK) -> tuple[list[Row], Counter[str]]:
    """Return all rows of a file, read in blocks of a size, and what was dropped."""
    found: list[Row] = []
    dropped: Counter[str] = Counter()
    for block in reading.blocks(size):
        fields = reading.parse(block)
        columns = [fields.accession, fields.ec_numbers, fields.sequence]
        columns += [
            pa.nulls(len(fields.accession), pa.binary()) if column is None else column
            for column in (fields.length, fields.part, fields.family)
        ]
        assert all(column.type == pa.binary() for column in columns)
        given = list(zip(*(column.to_pylist() for column in columns), strict=True))
        assert fields.records == len(given) + fields.dropped.total()
        found += given
        dropped += fields.dropped
    return found, dropped


def read(
    path: Path,
    content: bytes,
    options: Options = Options(),  # noqa: B008 - frozen
) -> tuple[list[Row], Counter[str]]:
    path.write_bytes(content)
    return rows(open_file(path, options))


@pytest.mark.parametrize(("content", "name", "expected", "options"), CASES)
def test_every_format_is_recognised_and_read(
    content: bytes, name: str, expected: list[Row], options: Options, tmp_path: Path
) -> None:
    """The format is told by the content alone, compressed or not, with any line ends."""
    path = tmp_path / "some.file"
    for squeeze in (bytes, gzip.compress, lzma.compress, pa.Codec("zstd").compress):
        for text in (content, content.replace(b"\n", b"\r\n"), content.replace(b"\n", b"\r")):
            path.write_bytes(bytes(squeeze(b"\xef\xbb\xbf" + text)))
            reading = open_file(path, options)
            assert reading.format == name
            assert rows(reading) == (expected, Counter())
            assert reading.position == reading.size > 0


@pytest.mark.parametrize(("content", "name", "expected", "options"), CASES)
def test_a_missing_last_line_end_is_no_loss(
    content: bytes, name: str, expected: list[Row], options: Options, tmp_path: Path
) -> None:
    """A whole last record counts, its line end there or not; so does the named format."""
    key = next(key for key, known in FORMATS.items() if known == name)
    found, _ = read(tmp_path / "x", content[:-1], Options(**{**vars(options), "format": key}))
    assert found == expected


BLANKS = b"\n\n   \n"


@pytest.mark.parametrize(("content", "name", "expected", "options"), CASES)
def test_blank_lines_mean_nothing(
    content: bytes, name: str, expected: list[Row], options: Options, tmp_path: Path
) -> None:
    """Blank lines before, between and behind records are not records."""
    spaced = BLANKS + content.replace(b"\n>", b"\n\n \n>") + BLANKS
    if not content.startswith((b"ID", b">", b";")):
        spaced = spaced.replace(b"\n", b"\n \n")
    assert read(tmp_path / "x", spaced, options) == (expected, Counter()), name


def test_columns_in_any_order_and_case(tmp_path: Path) -> None:
    """The columns of a table are found by their names; those of the user, too."""
    text = b"SEQUENCE\tnote\tec_numbers\tFold\tAccession\tPart\nMKV\tx\t1.1.1.1\tf1\tP1\ttrain\n"
    options = Options(split_column="part", family_column="FOLD")
    assert read(tmp_path / "x", text, options) == (
        [(b"P1", b"1.1.1.1", b"MKV", None, b"train", b"f1")],
        Counter(),
    )


def test_quoted_tables(tmp_path: Path) -> None:
    """Quotes count where the header has them; an open one costs its own row alone."""
    text = b'"Entry"\t"EC number"\t"Sequence"\n"P1"\t""\t"MKV"\n"P2\t\tMK\nP3\t\tMK\n"P4"\n'
    found, dropped = read(tmp_path / "x", text)
    assert [row[0] for row in found] == [b"P1", b"P3"]
    assert dropped == {"unclosed_quotes": 1, "wrong_number_of_columns": 1}
    found, _ = read(
        tmp_path / "x", text.replace(b'"Entry"\t"EC number"\t"Sequence"', CLEAN_TSV[:24])
    )
    assert [row[0] for row in found] == [b'"P1"', b'"P2', b"P3"]


def test_rows_of_other_widths_are_counted(tmp_path: Path) -> None:
    """A row with too few or too many columns is dropped by reason, whatever its bytes."""
    bad = b"\xe9\t\xff\nP5\tname\t1.1.1.1\n" + b"\t" * 9 + b"\n"
    found, dropped = read(tmp_path / "x", BRENDA_CSV + bad + BRENDA_CSV)
    assert found == BRENDA_ROWS * 2
    assert dropped == {"wrong_number_of_columns": 3}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (b"P1|name|1.1.1.1|Homo sapiens|Swiss-Prot", (b"P1", b"1.1.1.1")),
        (b"P1|x|y|1.1.1.1|Homo|sapiens|Swiss-Prot", (b"P1", b"1.1.1.1")),
        (b"P1|name; with; semicolons|1.1.1.1|Homo|TrEMBL", (b"P1", b"1.1.1.1")),
        (b"P1;name|odd;1.1.1.n1;Homo;TrEMBL", (b"P1", b"1.1.1.n1")),
        (b"P1|1.2.3.4|as|1.1.1.1|Homo sapiens|Swiss-Prot", (b"P1", b"1.1.1.1")),
        (b"P1|name||Homo sapiens|TrEMBL", (b"P1", b"")),
        (b"P1|1.1.1.1", None),
        (b"", None),
    ],
)
def test_headers_of_brenda(title: bytes, expected: Row | None, tmp_path: Path) -> None:
    """Names may hold the separator; a header with too few fields is dropped by reason."""
    found, dropped = read(tmp_path / "x", b">" + title + b"\nMK\n", Options(format="brenda-fasta"))
    assert found == ([(*expected, b"MK", None, None, None)] if expected else [])
    assert dropped == ({} if expected else {"unknown_header": 1})


def test_sequences_of_fasta(tmp_path: Path) -> None:
    """Wrapping, blanks and a stop at the end go; what else is there stays to be judged."""
    text = b">a\nMK V\n\n\tmk\n K*\n>b\n1 MKV\n>c\nM*K\n>d\n>\nMK\n>e\nMK-V>\n"
    found, dropped = read(tmp_path / "x", text, LABELS)
    assert [row[:3:2] for row in found] == [
        (b"a", b"MKVmkK"),
        (b"b", b"1MKV"),
        (b"c", b"M*K"),
        (b"d", b""),
        (b"", b"MK"),
        (b"e", b"MK-V>"),
    ]
    assert not dropped


def test_entries_out_of_order(tmp_path: Path) -> None:
    """Of a flat file, an entry without its end and text of no entry are dropped by reason."""
    one, two, three = [part + b"//\n" for part in FLAT.split(b"//\n")[:3]]
    text = one + two.replace(b"//\n", b"") + three + b"nonsense\n//\n" + one.replace(b"//", b"// ")
    found, dropped = read(tmp_path / "x", text)
    assert [row[0] for row in found] == [b"P1", b"P3", b"P1"]
    assert dropped == {"entry_without_end": 1, "not_an_entry": 1}
    found, _ = read(tmp_path / "x", b"ID   X\nDE   RecName: Full=x;\n//\n")
    assert found == [(b"", b"", b"", b"", None, None)]


@pytest.mark.parametrize("command", ["import", "build"])
def test_help_names_every_format(ecsweep: Ecsweep, command: str) -> None:
    """Its text is written out, so that help needs no reader of files."""
    said = ecsweep.ok("data", command, "--help")
    for key in FORMATS:
        assert key in "".join(said.split())


ERRORS = [
    (b"P1\tx\tMKV\n", Options(), "line 1 must be a header with the columns Entry, EC number and"),
    (b"a\tb\n", Options(), r"Received: 'a\\tb'\."),
    (b"what is this?\n", Options(), r"of no known format. Known: UniProt TSV, .*'what is this\?'"),
    (b"\n\nEntry\tSequence\nP1\tMK\n", Options(), "line 3 must be a header with the columns"),
    (b"a\tSequence\n", Options(format="clean-tsv"), "line 1 must be a header .* separated by tabs"),
    (b"a;Sequence\n", Options(format="csv"), "line 1 must be a header .* separated by commas"),
    (b"a\tb\n", Options(format="brenda-csv"), "line 1: BRENDA's table has 7 columns"),
    (b"P1\tMK\n", Options(format="fasta", labels=Path("x")), "line 1: FASTA begins with '>'"),
    (b"x\nMK\n>a\nMK\n", Options(format="fasta", labels=Path("x")), "line 1: FASTA begins with"),
    (b"\nMK\n", Options(format="uniprot-dat"), "line 2: a flat file begins with an ID line. Rec"),
    (FLAT[5:], Options(format="uniprot-dat"), "line 1: a flat file begins with an ID line"),
    (FLAT[:-3], Options(), r"line 28: the file ends in the middle of the entry .* \(no '//'\)"),
    (UNIPROT_TSV[:-3], Options(), r"line 3: the file ends in the middle of a row \(no_sequence"),
    (UNIPROT_TSV[:-2], Options(), r"line 3: the file ends .* \(length_mismatch\)"),
    (UNIPROT_TSV[:-6], Options(), r"line 3: the file ends .* \(wrong_number_of_columns\)"),
    (CLEAN_TSV + b"P2\t3.4.2", Options(), r"line 3: the file ends .* \(wrong_number"),
    (CLEAN_TSV + b"P2\t3.4.2\tMK", Options(), r"line 3: the file ends .* \(invalid_ec_number\)"),
    (CLEAN_TSV[:25], Options(), "has a header but no records"),
    (CLEAN_TSV[:25] + b"\n \n", Options(), "has a header but no records"),
    (CLEAN_TSV[:24], Options(), "has a header but no records"),
    (b"Entry\tEC number\tEC Number\tSequence\n", Options(), "two columns are named 'EC number'"),
    (UNIPROT_TSV, Options(split_column="fold"), "has no column 'fold'. Its columns: Entry, "),
    (UNIPROT_TSV, Options(pattern="x"), "--pattern reads headers of FASTA. Received: UniProt"),
    (UNIPROT_TSV, Options(format="tsv"), "--format must be one of uniprot-tsv, .* Did you mean"),
    (UNIPROT_FASTA, Options(), "its headers state no EC numbers. Give --labels TABLE .*sp.P1"),
    (BRENDA_FASTA, Options(split_column="fold"), "a BRENDA FASTA has no columns, so none named"),
    (FLAT, Options(family_column="fold"), "a UniProt flat file has no columns"),
    (BRENDA_CSV, Options(split_column="fold"), "has no header that could name 'fold'"),
    (FASTA, Options(pattern="(?P<ec>["), "--pattern: not a regular expression: unterminated"),
    (FASTA, Options(pattern="(?u)x"), "--pattern: not a regular expression: bad inline flags"),
    (FASTA, Options(pattern="(?P<ec>.)"), "there is no accession. Received"),
    (FASTA, Options(format="parquet"), "cut off or damaged Parquet file"),
    (b"PAR1 and nothing else", Options(), "cut off or damaged Parquet file"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "options", "message"), ERRORS)
def test_what_cannot_be_read_is_said(
    content: bytes, options: Options, message: str, tmp_path: Path
) -> None:
    """Each bad file ends in one line with the file, the line, what came and what is allowed."""
    with pytest.raises(EcsweepError, match=message) as error:
        read(tmp_path / "x", content, options)
    assert "\n" not in str(error.value)


LABEL_TABLES = [
    b"Entry\tEC number\nP1\t1.1.1.1; 2.2.2.2\nP2\t\n",
    b"ec,organism,accession\n1.1.1.1; 2.2.2.2,x,P1\n,y,P2\n",
    b"P1\t1.1.1.1; 2.2.2.2\nP2\t\n",
    b"P2,\nP1,1.1.1.1; 2.2.2.2\n",
    b'"P1";"x";"1.1.1.1; 2.2.2.2"\n"P2";"y";""',
    b"Entry\tEC number\tSequence\nP1\t1.1.1.1; 2.2.2.2\tMK\nP2\t\tMK",
]


@pytest.mark.parametrize("content", LABEL_TABLES)
def test_tables_of_labels(content: bytes, tmp_path: Path) -> None:
    """Labels come with a header or none, separated by tabs, commas or semicolons."""
    (tmp_path / "x").write_bytes(content)
    found, dropped = rows(open_labels(tmp_path / "x"))
    nothing = (None,) * 4
    assert sorted(found) == [(b"P1", b"1.1.1.1; 2.2.2.2", *nothing), (b"P2", b"", *nothing)]
    assert not dropped


def test_every_name_of_the_accessions_is_said() -> None:
    """What a message lists is what is looked for."""
    named = {"entry", *map(tabular.normal, headers.ACCESSIONS)}
    assert named == set(tabular.NAMES["accession"])


def test_tables_of_labels_that_are_none(tmp_path: Path) -> None:
    """A table without accessions and EC numbers is refused; so is a column it cannot name."""
    path = tmp_path / "x"
    path.write_bytes(b"P1\tenzyme\n")
    with pytest.raises(EcsweepError, match="line 1: a table of labels has the columns Entry"):
        open_labels(path)
    path.write_bytes(b"Protein,Kind\nP1,a\n")
    with pytest.raises(EcsweepError) as error:
        open_labels(path, Options(class_column="Kind"))
    assert str(error.value) == (
        f"{path}: line 1: a table of labels has the columns Entry and Kind, separated by tabs, "
        "commas or semicolons; Entry may be named Accession, Accession code, UniProt ID, UniProt "
        "or ID too. Received: 'Protein,Kind'."
    )
    path.write_bytes(b"P1\t1.1.1.1\n")
    with pytest.raises(EcsweepError, match="has no header that could name 'fold'"):
        open_labels(path, Options(split_column="fold"))
    path.write_bytes(b"Entry\tEC number\tfold\nP1\t1.1.1.1\tf\n")
    options = Options(family_column="fold", labels=path)
    found, _ = rows(open_labels(path, options))
    assert found == [(b"P1", b"1.1.1.1", None, None, None, b"f")]
    assert read(tmp_path / "y", UNIPROT_FASTA, options)[0] == UNLABELLED
    assert read(tmp_path / "y", UNIPROT_TSV, options)[0] == UNIPROT_ROWS


@pytest.mark.parametrize("shift", range(5))
def test_long_tables_of_labels(shift: int, tmp_path: Path) -> None:
    """The column of EC numbers is found whatever row the first look at the file ends in."""
    path = tmp_path / "x"
    path.write_bytes(b"P1\t" + b" " * shift * 2 + b"1.1.1.1\n" + b"P2\t1.1.1.1\n" * 9999)
    found, _ = rows(open_labels(path))
    assert len(found) == 10_000


def parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def test_parquet_of_any_text_type(tmp_path: Path) -> None:
    """Columns of a Parquet file are found by name, their text in whatever type; null is empty."""
    path = tmp_path / "x"
    lists = [["1.1.1.1", None, "2.2.2.2"], None]
    parquet(
        path,
        SEQUENCE=pa.array(["MKV", None], pa.large_string()),
        entry=pa.array(["P1", None]).dictionary_encode(),
        EC_number=pa.array(lists, pa.list_(pa.string())),
        Length=[3, None],
        fold=[7, 8],
    )
    reading = open_file(path, Options(family_column="Fold"))
    assert reading.format == "Parquet"
    expected = [
        (b"P1", b"1.1.1.1;2.2.2.2", b"MKV", b"3", None, b"7"),
        (b"", b"", b"", b"", None, b"8"),
    ]
    assert rows(reading, 1) == (expected, Counter())
    assert reading.position == reading.size
    parquet(path, entry=["P1"], sequence=[b"MK"])
    assert rows(open_file(path, LABELS))[0] == [(b"P1", None, b"MK", None, None, None)]


def test_parquet_of_other_things(tmp_path: Path) -> None:
    """Wrong types, missing and double columns, no rows, and cut files are errors that say so."""
    path = tmp_path / "x"
    parquet(path, entry=["P1"], sequence=[1.5], **{"ec number": [""]})
    with pytest.raises(EcsweepError, match=r"'sequence' must hold text\. Received: double"):
        open_file(path)
    parquet(path, entry=["P1"], sequence=["MK"])
    with pytest.raises(EcsweepError, match="needs the columns Entry, EC number and Sequence"):
        open_file(path)
    parquet(path, entry=["P1"], Entry=["P1"], sequence=["MK"], **{"ec number": [""]})
    with pytest.raises(EcsweepError, match="two columns are named"):
        open_file(path)
    parquet(path, entry=pa.array([], pa.string()), sequence=[], **{"ec number": []})
    with pytest.raises(EcsweepError, match="has a header but no records"):
        rows(open_file(path))
    with pytest.raises(EcsweepError, match=r"is Parquet\. Received: --format fasta"):
        open_file(path, Options(format="fasta"))
    parquet(path, entry=["P1"] * 9999, sequence=["MK"] * 9999, **{"ec number": [""] * 9999})
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(EcsweepError, match="cut off or damaged Parquet file"):
        open_file(path)


@pytest.mark.parametrize(("content", "name", "expected", "options"), CASES)
@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 99), times=st.integers(1, 3))
def test_blocks_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    name: str,
    expected: list[Row],
    options: Options,
    size: int,
    times: int,
) -> None:
    """The rows of a file are the same wherever its blocks end."""
    path = tmp_path_factory.mktemp("blocks") / "x"
    body = content.rpartition(b"Sequence\n")[2] if content.startswith(b"Entry") else content
    if content.startswith((b"#", b"Acc")):
        body = content[-len(BRENDA_CSV) :] if b"BRENDA" in name.encode() else b""
    body = b"" if content.startswith(b";") else body
    path.write_bytes(content + body * (times - 1))
    found = rows(open_file(path, options), size)
    assert found == (expected * (times if body else 1), Counter())


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid file with bytes removed, put in, doubled."""
    text = draw(st.sampled_from([case[0] for case in CASES]))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 30))
        odd = st.sampled_from(
            [b"", b"\n", b"\t", b'"', b">", b"//\n", b"\r", b"|", b"\xe9", b"ID   "]
        )
        put = draw(odd | st.binary(max_size=3)) + text[start : start + draw(st.integers(0, 50))]
        text = text[:start] + put + text[stop:]
    return text


def entries(content: bytes, reading: Reading) -> int:
    """Count the records of a file, as grep would."""
    text = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if "FASTA" in reading.format:
        return len(re.findall(rb"^>", text, re.MULTILINE))
    if "flat" in reading.format:
        return len(re.findall(rb"^ID   ", text, re.MULTILINE))
    layout = reading.parse.keywords["layout"]  # type: ignore[attr-defined]
    lines = text.split(b"\n")[layout.header :]
    return sum(bool(line.strip()) or layout.delimiter in line for line in lines)


ANY = st.sampled_from(
    [Options(), LABELS, PATTERN, *(Options(format=key, labels=Path("x")) for key in FORMATS)]
)


@settings(max_examples=600, deadline=None)
@given(content=mutated() | st.binary(max_size=60), size=st.integers(1, 200), options=ANY)
def test_nothing_is_lost_and_nothing_escapes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int, options: Options
) -> None:
    """Any bytes at all are read or refused; each record is given or dropped, in any blocks."""
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(content)
    try:
        reading = open_file(path, options)
        found, dropped = rows(reading)
    except EcsweepError as error:
        assert str(error).isprintable()
        return
    whole = rows(open_file(path, options), size)
    assert whole == (found, dropped)
    assert len(found) + dropped.total() - dropped["not_an_entry"] == entries(content, reading)


@st.composite
def lengthened(draw: st.DrawFn) -> bytes:
    """A table of labels with something behind it."""
    return draw(st.sampled_from(LABEL_TABLES)) + draw(st.binary(max_size=9))


@settings(max_examples=150, deadline=None)
@given(content=lengthened() | st.binary(max_size=60))
def test_tables_of_labels_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Any table of labels is read whole, or refused."""
    path = tmp_path_factory.mktemp("labels") / "x"
    path.write_bytes(content)
    try:
        reading = open_labels(path)
        found, dropped = rows(reading, 7)
    except EcsweepError:
        return
    assert len(found) + dropped.total() == entries(content, reading)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 3000), byte=st.integers(0, 255))
def test_damaged_parquet_is_an_error_or_whole(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    """A byte changed anywhere in a Parquet file never ends in a traceback."""
    path = tmp_path_factory.mktemp("parquet") / "x"
    parquet(path, entry=["P1"] * 50, sequence=["MK"] * 50, **{"ec number": ["1.1.1.1"] * 50})
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data)
    try:
        rows(open_file(path))
    except EcsweepError as error:
        assert "\n" not in str(error)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the shared files are not here")
def test_shared_files_round_trip() -> None:
    """Real files give as many records and EC numbers as one-line counts of their text do."""
    flat = SAMPLES / "uniprot-multi.dat"
    text = flat.read_text()
    found, dropped = rows(open_file(flat), 5000)
    assert not dropped
    assert len(found) == text.count("\n//\n") == 11
    assert sum(row[1] != b"" for row in found) == 3
    assert [row[0].decode() for row in found if row[0]] == re.findall(
        r"(?m)^ID.*\nAC   (\w+)", text
    )
    numbers = b";".join(row[1] for row in found if row[1]).decode().split(";")
    assert numbers == re.findall(r"(?m)^DE .*EC=([\w.-]+)", text)
    assert all(len(row[2] or b"") == int(row[3] or 0) > 0 for row in found)

    clean = SAMPLES / "clean-new392.tsv"
    found, dropped = rows(open_file(clean), 5000)
    assert not dropped
    lines = clean.read_bytes().splitlines()[1:]
    assert len(found) == len(lines) == 392
    assert [b"\t".join(row[:3]) for row in found] == lines  # type: ignore[arg-type]
