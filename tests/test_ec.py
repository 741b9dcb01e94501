import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ec_sweep import ec, enzyme_files, names, output, transfers
from ec_sweep.ec import EcNumber, InvalidEcNumber, parse
from ec_sweep.errors import EcsweepError
from ec_sweep.transfers import Migrated
from tests.conftest import SHARED

ENZCLASS = SHARED / "data" / "formats" / "enzclass.txt"

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of its own for what is given."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / f"file{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


parts = st.integers(1, 9999)
numbers = st.builds(
    lambda main, rest, series: EcNumber(
        (main, *rest)[:3], series if len(rest) == 3 else "", rest[2] if len(rest) == 3 else 0
    ),
    st.integers(1, 7),
    st.lists(parts, max_size=3),
    st.sampled_from(["", "n", "B"]),
)
levels = st.integers(1, 4)
# Texts near EC numbers, and any text at all.
texts = st.text(alphabet="0123456789.-nBEC:=;,| \t\u0663²\u00a0", max_size=40) | st.text()


class TestParsing:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("3.1.1.1", "3.1.1.1"),
            ("3.1.-.-", "3.1.-.-"),
            ("3.-.-.-", "3.-.-.-"),
            ("3", "3.-.-.-"),
            ("3.1", "3.1.-.-"),
            ("3.10", "3.10.-.-"),
            ("EC 3.1.1.1", "3.1.1.1"),
            ("EC:3.1.1.1", "3.1.1.1"),
            ("EC=3.1.1.-", "3.1.1.-"),
            ("ec3.1.1.1", "3.1.1.1"),
            ("3. 1. -.-", "3.1.-.-"),
            ("1. 1.98.-", "1.1.98.-"),
            (" 3 . 1 . 1 . 1 ", "3.1.1.1"),
            ("3.4.21.n1", "3.4.21.n1"),
            ("3.5.1.B15", "3.5.1.B15"),
            ("3.5.1.b15", "3.5.1.B15"),
            ("3.1.n.n", "3.1.-.-"),
        ],
    )
    def test_every_form_has_one_canonical_text(self, text: str, canonical: str) -> None:
        """Full, partial, short, spaced, preliminary and BRENDA's own numbers are understood."""
        assert str(parse(text)) == canonical

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "empty"),
            ("-", "no main class"),
            ("-.-.-.-", "no main class"),
            ("3..1", "empty"),
            ("3.1.", "empty"),
            (".1", "empty"),
            ("0.1.1.1", "no number from 1"),
            ("8.1.1.1", "1 to 7"),
            ("3.1.0.1", "no number from 1"),
            ("3.01.1.1", "no number from 1"),
            ("3.1.1.1.1", "5 parts"),
            ("3.-.1.1", "open before"),
            ("3.1.1.10000", "above 9999"),
            ("3.1.1." + "9" * 90, "above 9999"),
            ("3.1.1." + "9" * 5000, "5006 characters"),
            ("3.1.1.\u0661", "no number"),
            ("\uff13.1.1.1", "no number"),
            ("3.1.1.²", "no number"),
            ("3.1.1.1\u0661", "no number"),
            ("3.1.1.n1\u0661", "no number"),
            ("3.1.1.n0", "no number"),
            ("3.n1.1.1", "no number"),
            ("3.1.1.-1", "no number"),
            ("3.1.1.1e3", "no number"),
            ("EC", "no number"),
            ("3 1 1 1", "no number"),
        ],
    )
    def test_what_is_no_number_says_why(self, text: str, why: str) -> None:
        """Anything else is invalid, with a reason."""
        with pytest.raises(InvalidEcNumber, match=re.escape(why)):
            parse(text)

    @given(numbers)
    def test_its_text_is_read_back(self, number: EcNumber) -> None:
        """What is written is what is read, short form and spaces included."""
        assert parse(str(number)) == number
        assert parse(number.short) == number
        assert parse(f" EC {str(number).replace('.', '. ')}") == number

    @given(texts)
    @example("EC" * 1000)
    @example("3." * 1000)
    def test_any_text_is_a_number_or_invalid(self, text: str) -> None:
        """Hostile text never raises anything else, and what is read is canonical at once."""
        for read in (lambda text: (str(parse(text)),), ec.split):
            try:
                found = read(text)
            except InvalidEcNumber as error:
                assert str(error)
            else:
                assert ec.split(";".join(found)) == found

    @given(st.lists(numbers, max_size=6), st.sampled_from([";", "; ", ",", "|", " ", "\t", " ; "]))
    def test_fields_are_split(self, some: list[EcNumber], between: str) -> None:
        """All separators give the same numbers: each once, in order."""
        assert ec.split(between.join(map(str, some))) == tuple(map(str, sorted(set(some))))

    def test_splitting_keeps_what_belongs_together(self) -> None:
        """White space separates numbers, but not the parts of one, nor EC from its number."""
        field = "EC 3. 1. -.-;EC:7.1.2.2 | 3.4.21.n1,3.5.1.B15 3.1.1.1;;"
        assert ec.split(field) == ("3.1.-.-", "3.1.1.1", "3.4.21.n1", "3.5.1.B15", "7.1.2.2")
        assert ec.split(" ; ") == ()
        assert ec.split("3.1,3.2,7.1,7.2") == ("3.1.-.-", "3.2.-.-", "7.1.-.-", "7.2.-.-")

    @pytest.mark.parametrize("field", ["3,1,1,1", "3, 4, 21,-", "2.7.1.1; 3,1,1,1"])
    def test_decimal_commas_are_no_list_of_classes(self, field: str) -> None:
        """A spreadsheet's 3,1,1,1 is refused, not taken for the classes 3 and 1."""
        with pytest.raises(InvalidEcNumber, match="joined by commas, not dots"):
            ec.split(field)

    def test_splitting_names_the_wrong_one(self) -> None:
        """One bad number makes the field invalid, and is named."""
        with pytest.raises(InvalidEcNumber, match=r"'8\.1\.1\.1': main class 8"):
            ec.split("3.1.1.1; 8.1.1.1")

    @pytest.mark.parametrize(
        "text", ["3." + " " * 1_000_000 + "1", "EC " * 300_000, ". " * 300_000]
    )
    def test_long_fields_cost_little(self, text: str) -> None:
        """A megabyte of white space is no attack: this test would not end."""
        try:
            ec.split(text)
        except InvalidEcNumber as error:
            assert len(str(error)) < 200


class TestComparing:
    @given(numbers, numbers, numbers)
    def test_order_is_total(self, a: EcNumber, b: EcNumber, c: EcNumber) -> None:
        """Any two compare, one way, and transitively."""
        assert (a < b) + (a == b) + (a > b) == 1
        assert sorted([a, b, c]) == sorted([c, a, b])
        if a <= b <= c:
            assert a <= c

    def test_order_is_by_number(self) -> None:
        """3.9 stands before 3.10, and a class before what it contains."""
        texts = ["3.-.-.-", "3.9.-.-", "3.10.-.-", "3.10.1.-", "3.10.1.2", "3.10.1.B3", "3.10.1.n1"]
        assert [str(number) for number in sorted(map(parse, reversed(texts)))] == texts
        assert ec.in_order(["7.1", "3", "3.10", "3.9"]) == ["3", "3.9", "3.10", "7.1"]

    @given(numbers, levels, levels)
    def test_truncating_is_monotone(self, number: EcNumber, one: int, other: int) -> None:
        """Cutting twice is cutting once to the lower level; the result contains the number."""
        low, high = sorted((one, other))
        cut = number.truncated(low)
        assert cut == number.truncated(high).truncated(low) == number.truncated(low).truncated(high)
        assert cut.level == min(low, number.level)
        assert cut.contains(number)
        assert cut <= number
        assert not (number.contains(cut) and cut != number)

    def test_classes_contain_their_members(self) -> None:
        """3.1.-.- contains 3.1.1.1 and 3.1.1.n1, not 3.10.1.1; a full number only itself."""
        inside = ("3.1.-.-", "3.1.1.-", "3.1.1.1", "3.1.1.n1", "3.1.1.B15")
        assert all(parse("3.1").contains(parse(text)) for text in inside)
        outside = ("3.10.1.1", "3.-.-.-", "7.1.1.1")
        assert not any(parse("3.1").contains(parse(text)) for text in outside)
        assert not parse("3.1.1.1").contains(parse("3.1.1.n1"))

    @pytest.mark.parametrize("level", [0, 5, -1])
    def test_there_are_four_levels(self, level: int) -> None:
        """Another level is the caller's mistake."""
        with pytest.raises(ValueError, match="levels 1 to 4"):
            parse("3.1.1.1").truncated(level)


HEAD = """\
---------------------------------------------------------------------------
        ENZYME nomenclature database
---------------------------------------------------------------------------
Release:     01-Jan-2020

"""
FOOT = """
---------------------------------------------------------------------------
Copyrighted by the institute
        and distributed under a licence
"""


class TestNames:
    def test_main_classes_and_sub_classes_are_built_in(self) -> None:
        """All seven classes and their sub-classes have a name, in whatever form they are asked."""
        assert [names.name_of(str(main)) for main in range(1, 8)] == [
            "Oxidoreductases", "Transferases", "Hydrolases", "Lyases", "Isomerases", "Ligases",
            "Translocases",
        ]  # fmt: skip
        assert names.name_of("3.1") == names.name_of("3.1.-.-") == "Acting on ester bonds"
        assert names.name_of("3.10") == "Acting on sulfur-nitrogen bonds"
        assert names.name_of("7.1") == "Catalysing the translocation of hydrons"
        of_ec37 = [f"3.{i}" for i in range(1, 14)] + [f"7.{i}" for i in range(1, 7)]
        assert all(map(names.name_of, of_ec37))

    @pytest.mark.parametrize("name", ["3.99", "3.1.1", "3.1.1.1", "non-enzyme", ""])
    def test_what_has_no_name_has_none(self, name: str) -> None:
        """Unknown and deeper classes, and classes that are no EC numbers, are no error."""
        assert names.name_of(name) is None

    def test_deeper_names_come_from_a_file(self, write: Write) -> None:
        """Spaces inside numbers, head, foot and names over two lines are understood."""
        body = "3. 1. -.-   Own name.\n3. 1. 1.-    First\n     and second line.\n"
        found = names.read(write(HEAD + body + FOOT))
        assert names.name_of("3.1.1.-", found) == "First and second line"
        assert names.name_of("3.1", found) == "Own name"
        assert names.name_of("3.2", found) == "Glycosylases"

    @pytest.mark.skipif(not ENZCLASS.exists(), reason="the shared samples are not here")
    def test_the_real_file_is_read_whole(self, tmp_path: Path) -> None:
        """All classes of ENZYME's file are found; the built-in names are its names."""
        text = ENZCLASS.read_text()
        found = enzyme_files.class_names(ENZCLASS)
        assert len(found) == len(re.findall(r"(?m)^\d", text)) == 396
        zipped = tmp_path / "enzclass.txt.gz"
        zipped.write_bytes(gzip.compress(text.encode(), mtime=0))
        assert enzyme_files.class_names(zipped) == found
        built_in = names.built_in()
        for number, name in found.items():
            if number.level < 3:
                own = built_in[number].replace("translocation of amino", "translocation amino")
                own = own.replace("translocation of carbo", "translocation carbo")
                assert name.startswith(own), number

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (HEAD + FOOT, "holds no class"),
            (HEAD + "3. 1. -.-\n", "line 6: .* the name is missing"),
            (HEAD + "8. 1. -.-  Name.\n", "line 6: .*1 to 7"),
            (HEAD + "3 hydrolases\n", "line 6: must be a class and its name"),
            (HEAD + "3. 1. -.-  A.\n3.1.-.-  B.\n", r"line 7: the class 3\.1\.-\.- stands there"),
            ("", "empty"),
            ("\n \n", "empty"),
            ("1.-.-.-  A\n\0", "line 2: holds a NUL"),
            ("<!DOCTYPE html><p>", "HTML page"),
            ("1.1.-.-  " + "x" * 20_000, "line 1: has 20,009 characters"),
            (gzip.compress(b"1.-.-.-  Name " * 99, mtime=0)[:-9], "damaged gzip"),
        ],
    )
    def test_bad_files_are_said(self, write: Write, content: str | bytes, message: str) -> None:
        """What is no such file is an error with the line."""
        path = write(content)
        with pytest.raises(EcsweepError, match=message) as caught:
            names.read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_cards_say_what_classes_are(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A card's classes are printed with their names; what has none stands alone."""
        output.print_card({"name": "ec37", "classes": ["3.1", "7.1"]})
        output.print_card({"name": "enzyme", "classes": ["non-enzyme", "enzyme"]})
        output.print_card({"name": "ec37", "classes": ["3.1"]}, {parse("3.1"): "Own name"})
        assert capsys.readouterr().out == (
            "name: ec37\nclasses: 3.1, 7.1\n    3.1   Acting on ester bonds\n"
            "    7.1   Catalysing the translocation of hydrons\n"
            "name: enzyme\nclasses: non-enzyme, enzyme\n"
            "name: ec37\nclasses: 3.1\n    3.1   Own name\n"
        )


DAT = """\
CC   -------------------------
CC   Release of 01-Jan-2020
//
ID   1.1.1.1
DE   alcohol dehydrogenase.
CA   a reaction
//
ID   1.1.1.5
DE   Transferred entry: 1.1.1.303 and 1.1.1.304.
//
ID   3.3.1.1
DE   adenosylhomocysteinase.
//
ID   2.7.1.37
DE   Transferred entry: 2.7.11.1, 2.7.11.8, 2.7.11.9,
DE   2.7.11.10 and 2.7.12.1.
//
ID   3.1.1.90
DE   Deleted entry.
//
ID   3.6.3.n1
DE   Transferred entry: Now EC 7.2.2.8.
//
"""


class TestTransfers:
    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("3.6.3.8", "7.2.2.10"),
            ("3.6.3.14", "7.1.2.2"),
            ("3.6.1.34", "7.1.2.2"),
            ("3.6.3.45", "7.6.2.2"),  # by way of 3.6.3.44
            ("3.6.1.38", "7.2.2.10"),  # by way of 3.6.3.8
            ("1.6.1.2", "7.1.1.1"),
            ("1.6.1.5", "7.1.1.1"),
            ("1.6.5.3", "7.1.1.2"),
            ("1.6.5.8", "7.2.1.1"),
            ("1.9.3.1", "7.1.1.9"),
            ("1.10.2.2", "7.1.1.8"),
            ("1.10.3.10", "7.1.1.3"),
            ("1.10.3.12", "7.1.1.5"),
            ("1.10.3.13", "7.1.1.4"),
            ("1.10.3.14", "7.1.1.7"),
            ("1.10.9.1", "7.1.1.6"),
            ("2.1.1.86", "7.2.1.4"),
            ("4.1.1.41", "7.2.4.3"),
        ],
    )
    def test_translocases_are_built_in(self, old: str, new: str) -> None:
        """What moved to EC 7 moves."""
        assert transfers.built_in().apply((old,)).numbers == (new,)

    def test_no_number_of_3_6_3_is_left(self) -> None:
        """ATPases that drive a transport, 3.6.3.1 to 3.6.3.55, are all of another class."""
        apply = transfers.built_in("current").apply
        found = {serial: apply((f"3.6.3.{serial}",)) for serial in range(1, 56)}
        assert found.pop(11).lost  # the one that was deleted
        assert found.pop(49).numbers == ("5.6.1.6",)  # the one that moves no substance
        assert {migrated.numbers[0][:2] for migrated in found.values()} == {"7."}

    def test_the_built_in_table_is_sound(self) -> None:
        """Every chain ends in numbers that the table does not move, of a known sub-class."""
        built_in = transfers.built_in("current")
        assert len(built_in.targets) > 1500
        for old, targets in built_in.targets.items():
            assert not set(targets) & set(built_in.targets), old
            assert all(names.name_of(target.truncated(2)) for target in targets), old

    def test_what_was_done_is_told(self) -> None:
        """Moved, split and deleted numbers are named; the rest is made canonical and ordered."""
        found = transfers.built_in("current").apply(
            ("EC 7.1.2.2", "3.6.3.8", "1.1.1.5", "3.6.1.3", "3.6.3.14", "3.1.1.1")
        )
        assert found == Migrated(
            ("1.1.1.303", "1.1.1.304", "3.1.1.1", "7.1.2.2", "7.2.2.10"),
            moved=("3.6.3.8 → 7.2.2.10", "3.6.3.14 → 7.1.2.2"),
            split=("1.1.1.5 → 1.1.1.303, 1.1.1.304",),
            deleted=("3.6.1.3",),
        )
        assert not found.lost
        assert transfers.built_in("current").apply(("3.6.1.3",)) == Migrated(
            (), deleted=("3.6.1.3",)
        )

    def test_an_enzyme_without_a_number_left_is_told(self) -> None:
        """Where all numbers are deleted it is no protein without numbers."""
        apply = transfers.built_in("current").apply
        assert apply(("3.6.1.3", "3.6.1.4")).lost  # 3.6.1.4 was transferred to 3.6.1.3
        assert not apply(()).lost
        assert apply(()) == Migrated(())

    def test_partial_numbers_stay_unless_their_class_moved_as_one(self) -> None:
        """3.6.3.- went to many sub-classes and stays; all of 1.6.4.- went to 1.8.1.-."""
        apply = transfers.built_in("current").apply
        assert apply(("3.6.3.-", "3.6.-.-")) == Migrated(("3.6.-.-", "3.6.3.-"))
        assert apply(("1.6.4.-",)) == Migrated(("1.8.1.-",), moved=("1.6.4.- → 1.8.1.-",))

    def test_by_default_only_translocases_move(self) -> None:
        """The paper's classes are those of 2018: what moved later, or was deleted, stays."""
        built_in = transfers.built_in()
        assert built_in.apply(("3.3.1.1", "3.6.1.3", "3.6.3.8", "1.6.5.3")) == Migrated(
            ("3.3.1.1", "3.6.1.3", "7.1.1.2", "7.2.2.10"),
            moved=("1.6.5.3 → 7.1.1.2", "3.6.3.8 → 7.2.2.10"),
        )
        assert all(7 in {one.main for one in ends} for ends in built_in.targets.values())
        assert built_in.targets.items() < transfers.built_in("current").targets.items()

    def test_no_table_changes_nothing(self) -> None:
        """Without transfers, numbers are only made canonical."""
        assert transfers.built_in("none").apply(("3.6.3.8", "3.1")) == Migrated(
            ("3.1.-.-", "3.6.3.8")
        )

    def test_own_entries_win(self, write: Write) -> None:
        """A table of the user's adds to the built-in one and replaces its entries."""
        path = write(
            "old\tnew\n# mine\n3.6.3.8\t7.2.2.99\n\n3.3.1.1\tkept\n3.1.1.1\tDeleted\n"
            "3.6.3.-\t7.-.-.-\n"
        )
        loaded = transfers.load(path)
        found = loaded.apply(("3.6.3.8", "3.3.1.1", "3.1.1.1", "3.6.3.-", "3.6.3.14"))
        assert found.numbers == ("3.3.1.1", "7.-.-.-", "7.1.2.2", "7.2.2.99")
        assert found.deleted == ("3.1.1.1",)
        assert transfers.built_in("current").apply(("3.3.1.1",)).numbers == ("3.13.2.1",)
        assert loaded.origin[0] == "translocases, built-in of 2026-06-24"
        assert re.fullmatch(rf"{path.name} \(sha256 [0-9a-f]{{12}}\)", loaded.origin[1])

    def test_chains_are_followed_and_splits_united(self, write: Write) -> None:
        """Own chains reach through built-in ones; a deleted end is left out of a split."""
        path = write(
            "3.1.1.501\t3.1.1.502\n3.1.1.502\t3.1.1.503, 3.1.1.504\n3.1.1.504\t3.6.3.8\n"
            "3.1.1.505\t3.1.1.502,3.1.1.506\n3.1.1.506\tdeleted\n"
        )
        apply = transfers.load(path).apply
        assert apply(("3.1.1.501",)).split == ("3.1.1.501 → 3.1.1.503, 7.2.2.10",)
        assert apply(("3.1.1.505",)).numbers == ("3.1.1.503", "7.2.2.10")
        assert apply(("3.1.1.506",)).deleted == ("3.1.1.506",)

    def test_long_chains_are_followed(self, write: Write) -> None:
        """A chain has no greatest length."""
        chain = "".join(f"3.1.1.{i}\t3.1.1.{i + 1}\n" for i in range(1000, 9000))
        assert transfers.load(write(chain)).apply(("3.1.1.1000",)).numbers == ("3.1.1.9000",)

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize(
        "pack", [str.encode, lambda text: gzip.compress(text.encode(), mtime=0)]
    )
    def test_enzyme_dat_is_understood(
        self, write: Write, pack: Callable[[str], bytes], end: str
    ) -> None:
        """Transfers over two lines, splits and deletions are read; entries in use stay."""
        apply = transfers.load(write(pack(DAT.replace("\n", end)))).apply
        assert apply(("1.1.1.5",)).numbers == ("1.1.1.303", "1.1.1.304")
        assert apply(("2.7.1.37",)).numbers == (
            "2.7.11.1", "2.7.11.8", "2.7.11.9", "2.7.11.10", "2.7.12.1",
        )  # fmt: skip
        assert apply(("3.1.1.90",)).deleted == ("3.1.1.90",)
        assert apply(("3.6.3.n1",)).numbers == ("7.2.2.8",)
        assert apply(("3.3.1.1",)).numbers == ("3.3.1.1",)  # in use in this release

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("3.1.1.1\t3.1.1.2\n3.1.1.2\t3.1.1.3\n3.1.1.3\t3.1.1.1\n", "line 1: .* in a circle"),
            ("3.1.1.2\t3.1.1.3\n3.1.1.1\t3.1.1.1\n", r"line 2: .*: 3\.1\.1\.1 → 3\.1\.1\.1\."),
            ("# x\n7.2.2.10\t3.6.3.8\n", "line 2: .* in a circle"),  # with a built-in entry
            ("3.1.1.1\t3.1.1.2\n3.1.1.1\t3.1.1.3\n", "line 2: .* stands on line 1 too"),
            ("3.1.1.1,3.1.1.2\n", "line 1: must be an old EC number, a tab"),
            ("3.1.1.1\t\n", "line 1: must be"),
            ("3.1.1.1\t3.1.1.2\tx\n", "line 1: must be"),
            ("old\tnew\nold\tnew\n", "line 2: needs EC numbers"),
            ("3.1.1.1\t9.1.1.1\n", "line 1: .*main class 9"),
            ("3.1.1.1 3.1.1.2\t3.1.1.3\n", "line 1: must be one EC number"),
            ("3.1.1.1\tkept\n", "says of no EC number"),
            ("old\tnew\n", "says of no EC number"),
            ("ID   3.1.1.1\nDE   name.\n//\n", "says of no EC number"),
            ("ID   3.1.1.1\nDE   Deleted entry.\n", "middle of the entry 3.1.1.1"),
            ("ID   3.1.1.1\nID   3.1.1.2\n//\n", "line 2: .* no end"),
            ("CC   x\nID   junk\n//\n", "line 2: needs EC numbers"),
            ("ID   3.1.1.1\nDE   Transferred entry: soon.\n//\n", "line 1: needs EC numbers"),
            ("ID   3.1.1.1\nDE   Transferred entry.\n//\n", "line 1: .* none"),
            ("", "empty"),
            (gzip.compress(DAT.encode(), mtime=0)[:-20], "damaged gzip"),
        ],
    )
    def test_bad_tables_are_said(self, write: Write, content: str | bytes, message: str) -> None:
        """Circles, doubles and what is no table are errors of one line that say where."""
        path = write(content)
        with pytest.raises(EcsweepError, match=message) as caught:
            transfers.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_said(self, tmp_path: Path) -> None:
        """A file that is not there, or a folder, is an error."""
        with pytest.raises(EcsweepError, match="cannot be read"):
            transfers.load(tmp_path / "none.tsv")
        with pytest.raises(EcsweepError, match="not a regular file"):
            transfers.load(tmp_path)

    @given(st.lists(texts, max_size=8) | st.just(DAT.splitlines()), st.data())
    def test_any_file_is_a_table_or_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[str], data: st.DataObject
    ) -> None:
        """Damaged files never raise anything else."""
        lines = [line for line in lines if data.draw(st.integers(0, 9))]
        path = tmp_path_factory.mktemp("fuzz", numbered=True) / "file"
        joined = data.draw(st.sampled_from(["\n", "\t", "\n3.1.1.1\t"])).join(lines)
        path.write_bytes(joined.encode(errors="surrogatepass"))
        for read in (enzyme_files.moves, enzyme_files.class_names):
            try:
                read(path)
            except EcsweepError as error:
                assert "\n" not in str(error)

    @given(st.lists(numbers | st.sampled_from(sorted(transfers.built_in().targets)), max_size=5))
    def test_applying_twice_changes_nothing_more(self, some: list[EcNumber]) -> None:
        """What comes out is in use; no number is lost unless it is deleted."""
        built_in = transfers.built_in()
        found = built_in.apply(tuple(map(str, some)))
        assert built_in.apply(found.numbers) == Migrated(found.numbers)
        stay = {str(number) for number in some if number not in built_in.targets}
        assert stay <= set(found.numbers)
        told = len(found.moved) + len(found.split) + len(found.deleted)
        assert len(stay) + told == len(set(some))

    def test_cards_count_proteins(self) -> None:
        """The summary adds up what became of the texts, by their frequency, in order."""
        apply = transfers.built_in("current").apply
        texts = {("3.6.3.8",): 10, ("3.1.1.1", "3.6.3.8", "1.6.5.3"): 5, ("1.1.1.5", "3.6.1.3"): 2}
        assert transfers.summary((apply(each), count) for each, count in texts.items()) == {
            "moved": {"1.6.5.3 → 7.1.1.2": 5, "3.6.3.8 → 7.2.2.10": 15},
            "split": {"1.1.1.5 → 1.1.1.303, 1.1.1.304": 2},
            "deleted": {"3.6.1.3": 2},
        }
