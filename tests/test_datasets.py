"""From files of real proteins to datasets: every row kept or counted, nothing half-built."""

import gzip
import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec_sweep import (
    building,
    datasets,
    encoding,
    importing,
    packing,
    published,
    recipes,
    splits,
    transfers,
)
from ec_sweep.datasets import Dataset
from ec_sweep.dividing import Split
from ec_sweep.ec import parse
from ec_sweep.errors import EcsweepError
from ec_sweep.formats import Options
from ec_sweep.paths import Home, file_digest, packed
from ec_sweep.recipes import Drawing
from ec_sweep.splits import PARTS

Write = Callable[..., Path]
Rows = list[list[str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "home")
    found.prepare()
    return found


def test_the_embedded_dataset_follows_the_paper(home: Home, proteins: Rows) -> None:
    """Dataset 1: 50-1,000 residues, 6:2:2 in each group, then enzymes drawn down to balance."""
    built = building.build_embedded(home, "enzyme")
    card = built.card
    usable = [row for row in proteins if 50 <= len(row[4]) <= 1000]
    others = sum(not row[2] for row in usable)
    train, valid = round(0.6 * others), round(0.2 * others)
    sizes = {"train": train, "valid": valid, "test": others - train - valid}
    assert card["class_counts"] == {
        part: {"non-enzyme": size, "enzyme": size} for part, size in sizes.items()
    }
    assert card["dropped"]["too_short"] == sum(len(row[4]) < 50 for row in proteins)
    assert card["dropped"]["too_long"] == sum(len(row[4]) > 1000 for row in proteins)
    assert card["records_in"] == len(proteins)
    assert card["records_in"] == card["records_kept"] + sum(card["dropped"].values())
    assert datasets.verify(built) is None
    assert built.folder == home.data / "enzyme" / built.fingerprint
    # Golden: whatever changes this makes every demo cell a new one.
    assert built.fingerprint == ("de04af6472f4aa7ed050928b770eb334650a1989b75647082f471ef1fd116909")


def test_arrays_hold_the_proteins_of_the_file(home: Home, proteins: Rows) -> None:
    """Tokens, labels and ids are those of the source; no protein stands in two parts."""
    built = building.build_embedded(home, "enzyme")
    by_accession = {row[0]: row for row in proteins}
    seen: set[str] = set()
    for part in PARTS:
        tokens, labels, ids = (built.array(part, kind) for kind in ("tokens", "labels", "ids"))
        assert (tokens.dtype, labels.dtype, tokens.shape[1]) == (np.uint8, np.int32, 1000)
        assert len(tokens) == len(labels) == len(ids) == built.card["sizes"][part]
        for row in range(0, len(ids), 97):
            source = by_accession[ids[row]]
            expected = np.empty((1, 1000), np.uint8)
            encoding.encode([source[4]], expected)
            assert (tokens[row] == expected[0]).all()
            assert labels[row] == bool(source[2])
        assert not seen & set(ids)
        seen |= set(ids)


def test_leaks_are_counted_by_brute_force(home: Home) -> None:
    """The card says how many test sequences also stand in train."""
    built = building.build_embedded(home, "enzyme")
    train = {row.tobytes() for row in built.array("train", "tokens")}
    leaked = sum(row.tobytes() in train for row in built.array("test", "tokens"))
    assert built.card["test_sequences_also_in_train"] == leaked > 0


def test_the_order_of_rows_does_not_matter(home: Home, proteins: Rows, write_tsv: Write) -> None:
    """Shuffled rows, gzipped or not, give the same fingerprint; another row gives another."""
    rows = proteins[:400]
    first = building.build(home, "enzyme", [write_tsv(rows)])
    mixed = random.Random(0).sample(rows, len(rows))
    again = building.build(home, "enzyme", [write_tsv(mixed, "mixed.tsv.gz")])
    assert again.fingerprint == first.fingerprint
    other = building.build(home, "enzyme", [write_tsv(proteins[:401])])
    assert other.fingerprint != first.fingerprint


def test_train_size_takes_the_first_and_shrinks_the_rest(home: Home) -> None:
    """Validation and test shrink in proportion to train."""
    built = building.build_embedded(home, "enzyme")
    assert built.sizes(None) == built.card["sizes"]
    assert built.sizes(1200) == {"train": 1200, "valid": 400, "test": 400}
    labels = built.array("train", "labels")[:1200]
    assert 0.45 < labels.mean() < 0.55  # the stored order is shuffled
    assert built.check(1000, None) is None
    assert "length 1001" in str(built.check(1001, None))
    assert "train_size" in str(built.check(10, 10**6))


HEADER = "Entry\tEC number\tSequence\n"
BAD_FILES = [
    ("x.tsv", b"", "the file is empty"),
    ("x.tsv", HEADER.encode(), "no records"),
    ("x.tsv", b"P1\t1.1.1.1\tMKV\n", "line 1 must be a header"),
    ("x.tsv", b"<!DOCTYPE html><html>", "HTML page"),
    ("x.tsv.gz", b"<html><body>429", "not a gzip file. It is an HTML page"),
    ("x.tsv.gz", HEADER.encode(), "not a gzip file"),
    ("x.tsv.gz", gzip.compress(b"", mtime=0), "empty"),
    ("x.tsv.gz", gzip.compress(b"<html>", mtime=0), "HTML page"),
    ("x.tsv.gz", gzip.compress(HEADER.encode() * 9999, mtime=0)[:-20], "cut off or damaged"),
    ("x.tsv", (HEADER + "P1\t\tMKV\nP2\t").encode(), "line 3: the file ends in the middle"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_unusable_files_are_refused_and_leave_nothing(
    home: Home, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """Empty, truncated, non-gzip, header-less and HTML files: one clear line, no remains."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EcsweepError) as caught:
        building.build(home, "enzyme", [path])
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert datasets.find(home, "enzyme") == []
    assert not list(home.data.rglob("*.npy"))


def test_a_group_too_small_is_refused(home: Home, write_tsv: Write, proteins: Rows) -> None:
    """A dataset with an empty class would make a study worthless."""
    enzymes = [row for row in proteins if row[2]][:50]
    with pytest.raises(EcsweepError, match="leaves no non-enzyme"):
        building.build(home, "enzyme", [write_tsv(enzymes)])
    assert not list(home.data.rglob("*.npy"))


def test_a_failed_build_leaves_the_old_dataset(
    home: Home, write_tsv: Write, proteins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that dies while writing changes nothing; the next one removes what a kill left."""
    old = building.build(home, "enzyme", [write_tsv(proteins[:300])])
    left_behind = home.data / "enzyme" / ".building-killed"
    left_behind.mkdir()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "encode_letters", fail)
        with pytest.raises(OSError, match="No space"):
            building.build(home, "enzyme", [write_tsv(proteins[:500])])
    assert datasets.find(home, "enzyme") == [old]
    assert not list((home.data / "enzyme").glob(".building-*"))


def test_verify_finds_changed_content(home: Home, write_tsv: Write, proteins: Rows) -> None:
    """A flipped byte, a renamed folder and a missing file are all seen."""
    built = building.build(home, "enzyme", [write_tsv(proteins[:300])])
    tokens = np.load(built.folder / "test_tokens.npy", mmap_mode="r+")
    tokens[0, 0] += 1
    tokens.flush()
    assert "its content has the fingerprint" in str(datasets.verify(built))
    tokens[0, 0] -= 1
    tokens.flush()
    assert datasets.verify(built) is None
    moved = built.folder.rename(built.folder.with_name("elsewhere"))
    assert "its folder is named" in str(datasets.verify(Dataset(moved, built.card)))
    (moved / "test_ids.npy").unlink()
    assert "cannot be read" in str(datasets.verify(Dataset(moved, built.card)))


def test_the_sample_as_a_file_is_a_dataset_of_its_own(home: Home) -> None:
    """Building from a copy of the sample leaves the demo dataset alone."""
    embedded = building.build_embedded(home, "enzyme")
    again = building.build(home, "enzyme", [packed("data") / datasets.SAMPLE])
    assert again.folder != embedded.folder
    assert datasets.for_scale(home, "enzyme", "demo") == embedded
    assert datasets.for_scale(home, "enzyme", "paper") == again
    assert datasets.verify(embedded) is None


def test_paper_scale_takes_what_was_built_last(
    home: Home, write_tsv: Write, proteins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Building an older dataset again makes it the newest."""

    class Clock(datetime):
        ticks = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            cls.ticks += 1
            return datetime(2026, 1, 1, 0, cls.ticks, tzinfo=tz)

    monkeypatch.setattr(building, "datetime", Clock)
    first = building.build(home, "enzyme", [write_tsv(proteins[:300])])
    second = building.build(home, "enzyme", [write_tsv(proteins[:400])])
    assert datasets.for_scale(home, "enzyme", "paper") == second
    building.build(home, "enzyme", [write_tsv(proteins[:300])])
    found = datasets.for_scale(home, "enzyme", "paper")
    assert found is not None
    assert found.fingerprint == first.fingerprint


def test_a_damaged_dataset_says_what_to_do(home: Home) -> None:
    """A missing array or a card cut short is named, with the cure."""
    built = building.build_embedded(home, "enzyme")
    (built.folder / "train_tokens.npy").unlink()
    with pytest.raises(EcsweepError, match=r"is damaged .* build it again"):
        built.check(10, None)
    (built.folder / "dataset.json").write_text('{"name": "enzyme"}')
    with pytest.raises(EcsweepError, match="not the card of a dataset"):
        datasets.for_scale(home, "enzyme", "demo")


def test_a_damaged_card_is_in_nobody_elses_way(home: Home) -> None:
    """Who looks for what is built passes it over; who verifies is told of it."""
    damaged, whole = (building.build_embedded(home, name) for name in ("enzyme", "ec37"))
    (damaged.folder / "dataset.json").write_text("{")
    assert [dataset.name for dataset in datasets.readable(home)] == ["ec37"]
    found = datasets.verify_all(home)
    assert found[whole.folder] is None
    assert "not the card of a dataset" in str(found[damaged.folder])


def test_paper_scale_never_uses_the_embedded_sample(
    home: Home, write_tsv: Write, proteins: Rows
) -> None:
    """Demo takes the sample, paper the newest dataset built from a file."""
    embedded = building.build_embedded(home, "enzyme")
    assert datasets.for_scale(home, "enzyme", "demo") == embedded
    assert datasets.for_scale(home, "enzyme", "paper") is None
    built = building.build(home, "enzyme", [write_tsv(proteins[:300])])
    assert datasets.for_scale(home, "enzyme", "paper") == built
    assert datasets.for_scale(home, "enzyme", "demo") == embedded


def labelled(*numbers: str) -> recipes.Label:
    return recipes.RECIPES["ec37"].label(tuple(map(parse, numbers)))


@pytest.mark.parametrize(
    ("numbers", "name", "cases"),
    [
        (("3.1.1.1",), "3.1", {"one_number"}),
        (("3.4.-.-",), "3.4", {"one_number", "partial_number"}),
        (("3.4.21.n1",), "3.4", {"one_number", "preliminary_number"}),
        (("3.5.1.B15",), "3.5", {"one_number", "preliminary_number"}),
        (("3.1.1.1", "3.1.3.2"), "3.1", {"several_numbers"}),
        (
            ("3.-.-.-", "3.6.1.3"),
            "3.6",
            {"several_numbers", "partial_number", "also_main_class_only"},
        ),
        (("2.7.1.1", "7.2.2.10"), "7.2", {"several_numbers", "also_other_main_class"}),
        (("2.7.-.-", "7.2.2.10"), "7.2", {"several_numbers", "also_other_main_class"}),
        (("3.-.-.-",), "3", {"one_number", "partial_number"}),
        (("3.13.1.1",), "3.13", {"one_number"}),
        (
            ("3.1.1.1", "7.-.-.-"),
            "3.1",
            {"several_numbers", "partial_number", "also_main_class_only"},
        ),
    ],
)
def test_sub_classes_of_ec_numbers(numbers: tuple[str, ...], name: str, cases: set[str]) -> None:
    """Full, partial, preliminary and several numbers: the sub-class, and what was met."""
    found = labelled(*numbers)
    assert (found.name, set(found.cases)) == (name, cases)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        (("3.-.-.-", "7.-.-.-"), "several_main_classes"),
        ((), "no_ec_number"),
        (("1.1.1.1", "2.7.-.-"), "other_main_class"),
        (("3.1.1.1", "3.4.21.4"), "several_sub_classes"),
        (("3.1.1.1", "7.1.1.1"), "several_sub_classes"),
    ],
)
def test_proteins_without_one_sub_class_are_left_out(numbers: tuple[str, ...], reason: str) -> None:
    """No label is made up for a protein that has none, or more than one."""
    assert labelled(*numbers) == recipes.Label(None, reason)


def test_ec37_from_the_embedded_sample(home: Home, proteins: Rows) -> None:
    """Dataset 2: every class counted, rare ones named, each part drawn to its size."""
    built = building.build_embedded(home, "ec37")
    card = built.card
    expected: Counter[str] = Counter()
    for row in proteins:
        numbers = [n.strip() for n in row[2].split(";") if n.strip()[:2] in ("3.", "7.")]
        named = {".".join(n.split(".")[:2]) for n in numbers} - {"3.-", "7.-"}
        if 50 <= len(row[4]) <= 1000 and numbers and len(named) <= 1:
            expected[named.pop() if named else numbers[0][0]] += 1
    assert card["all_counts"] == dict(expected)
    assert list(card["all_counts"])[:3] == ["3", "3.1", "3.2"]
    assert list(card["all_counts"]).index("3.8") < list(card["all_counts"]).index("3.11")
    assert set(card["classes"]) == {n for n, k in expected.items() if k >= 100 and "." in n}
    assert card["classes_left_out"] == {
        n: k for n, k in card["all_counts"].items() if n not in card["classes"]
    }
    assert card["dropped"]["main_class_only"] == expected["3"]
    cases = card["label_cases"]  # of the proteins whose class stays, drawn or not
    classified = sum(n for name, n in expected.items() if name in card["classes"])
    assert cases["one_number"] + cases["several_numbers"] == classified
    assert card["sizes"] == {"train": 1800, "valid": 600, "test": 600}
    assert card["records_in"] == card["records_kept"] + sum(card["dropped"].values())
    assert [sum(sample.values()) for sample in card["samples"]] == [1800] * 3
    assert card["samples"][0] == card["class_counts"]["train"]
    assert card["samples"][0] != card["samples"][1] != card["samples"][2]
    by_accession = {row[0]: row[2] for row in proteins}
    for label, accession in zip(
        built.array("test", "labels"), built.array("test", "ids"), strict=True
    ):
        assert f"{card['classes'][label]}." in by_accession[accession]
    assert datasets.verify(built) is None
    # Golden: whatever changes this makes every demo cell a new one.
    assert built.fingerprint.startswith("95fba5a6988d")


def test_drawing_by_fraction_is_repeatable(home: Home, proteins: Rows, write_tsv: Write) -> None:
    """The same fractions draw the same proteins, whatever the order of rows; others do not."""
    fractions = Drawing(fractions=(0.5, 0.25, 0.25))
    whole = building.build(home, "ec37", [write_tsv(proteins, "a.tsv")])
    drawn = building.build(home, "ec37", [write_tsv(proteins, "b.tsv")], drawing=fractions)
    random.Random(1).shuffle(proteins_again := list(proteins))
    again = building.build(home, "ec37", [write_tsv(proteins_again, "c.tsv")], drawing=fractions)
    assert again.fingerprint == drawn.fingerprint != whole.fingerprint
    for part, share in zip(PARTS, (0.5, 0.25, 0.25), strict=True):
        assert drawn.card["sizes"][part] == round(share * whole.card["sizes"][part])
        ids = set(drawn.array(part, "ids"))
        assert ids < set(whole.array(part, "ids"))  # a draw never moves a protein to another part
    assert "down_sampled" not in whole.card["dropped"]


def test_a_smaller_threshold_keeps_more_classes(
    home: Home, proteins: Rows, write_tsv: Write
) -> None:
    """Classes at the threshold stay, classes below it are left out and named."""
    source = write_tsv(proteins)
    for smallest in (12, 13):
        card = building.build(home, "ec37", [source], smallest_class=smallest).card
        assert ("7.4" in card["classes"]) == (smallest == 12)
        assert card["classes_left_out"].get("7.4") == (None if smallest == 12 else 12)
        assert "3" in card["classes_left_out"]


def test_what_cannot_be_drawn_is_refused(home: Home, proteins: Rows, write_tsv: Write) -> None:
    """More than there is, options that a dataset does not have, a file without classes."""
    source = write_tsv(proteins)
    with pytest.raises(EcsweepError, match="99999 sequences cannot be drawn from the"):
        building.build(home, "ec37", [source], drawing=Drawing(sizes=(99_999, 1, 1)))
    with pytest.raises(EcsweepError, match="0 sequences cannot be drawn"):
        building.build(home, "ec37", [source], drawing=Drawing(fractions=(1e-9, 1, 1)))
    with pytest.raises(EcsweepError, match="for ec37"):
        building.build(home, "enzyme", [source], drawing=Drawing(sizes=(10, 10, 10)))
    with pytest.raises(EcsweepError, match="needs two"):
        building.build(home, "ec37", [write_tsv([r for r in proteins if not r[2]], "none.tsv")])
    assert not list(home.data.glob("ec37/*/dataset.json"))


def test_drawn_classes_keep_their_share() -> None:
    """Over many seeds every class is drawn as often as its share says, within sampling error.

    The rule of Table 1 on a corpus with a hundredth of the paper's "All" column: split 6:2:2,
    then 0.056 of train and 0.032 of valid and test at random.
    """
    seeds, fractions = 40, (0.056, 0.032, 0.032)
    corpus = {name: n // 100 for name, n in published.class_counts()["all"].items() if n >= 2_000}
    names = np.repeat(list(corpus), list(corpus.values()))
    labels = np.repeat(np.arange(len(corpus)), list(corpus.values()))
    accessions = np.array([f"P{number:06}" for number in range(len(names))], dtype=object)
    counts: dict[str, Counter[str]] = {part: Counter() for part in PARTS}
    drawn = dict.fromkeys(PARTS, 0)
    for seed in range(seeds):
        parts = splits.assign("random", accessions, labels, seed=seed)
        for place, (part, fraction) in enumerate(zip(PARTS, fractions, strict=True)):
            members = np.flatnonzero(parts == place)
            size = round(fraction * len(members))
            chosen = members[splits.draw(accessions[members], size, seed)]
            counts[part].update(names[chosen])
            drawn[part] += size
    for part in PARTS:
        for name, n in corpus.items():
            share = n / len(names)
            expected = drawn[part] * share
            error = (expected * (1 - share)) ** 0.5
            assert abs(counts[part][name] - expected) < 4.5 * error, (part, name)


def residues(built: Dataset, part: str) -> list[bytes]:
    return [row[row != encoding.PADDING].tobytes() for row in built.array(part, "tokens")]


@pytest.mark.parametrize("split", ["random", "identical", "cluster"])
@pytest.mark.parametrize("name", ["enzyme", "ec37"])
def test_splits_keep_what_they_promise(home: Home, name: str, split: str) -> None:
    """By brute force: no equal sequences, or no families, on two sides; the card counts them."""
    with gzip.open(packed("data") / datasets.SAMPLE, "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    family_of = {row[0]: row[5] for row in rows}
    built = building.build_embedded(home, name, split)
    card = built.card
    assert card["split"] == split
    assert card["records_in"] == card["records_kept"] + sum(card["dropped"].values())
    sequences = {part: residues(built, part) for part in PARTS}
    families = {part: [family_of[id_] for id_ in built.array(part, "ids")] for part in PARTS}
    for groups, key, apart in (
        (sequences, "test_sequences_also_in_train", split != "random"),
        (families, "test_sequences_in_train_families", split == "cluster"),
    ):
        train = set(groups["train"])
        assert card[key] == sum(one in train for one in groups["test"])
        assert (card[key] == 0) == apart
        if apart:
            assert not train & set(groups["valid"])
            assert not set(groups["valid"]) & set(groups["test"])
    assert 0.5 < card["sizes"]["train"] / card["records_kept"] < 0.7
    assert datasets.verify(built) is None


def test_a_given_split_is_followed(home: Home, tmp_path: Path, proteins: Rows) -> None:
    """Every protein is where the file says; one that the file leaves open is left out."""
    names = ["train", "Test", "", "validation"]
    path = tmp_path / "given.tsv"
    lines = [
        f"{row[0]}\t{row[2]}\t{row[4]}\t{names[n % 4]}" for n, row in enumerate(proteins[:400])
    ]
    path.write_text("\n".join(["Entry\tEC number\tSequence\tFold", *lines]) + "\n")
    reading = building.Reading(Options(split_column="fold"))
    built = building.build(home, "enzyme", [path], split=Split("given"), reading=reading)
    place = {row[0]: n % 4 for n, row in enumerate(proteins[:400])}
    for part, number in (("train", 0), ("valid", 3), ("test", 1)):
        assert {place[id_] for id_ in built.array(part, "ids")} == {number}
    usable = [n for n, row in enumerate(proteins[:400]) if 50 <= len(row[4]) <= 1000]
    assert built.card["dropped"]["no_part"] == sum(n % 4 == 2 for n in usable)
    with pytest.raises(EcsweepError, match="--split given needs --split-column"):
        building.build(home, "enzyme", [path], split=Split("given"))


def test_threads_do_not_matter(
    home: Home, write_tsv: Write, proteins: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread or five: the same fingerprint; a source or its file: the same too."""
    path = write_tsv([row[:5] for row in proteins[:600]])
    first = building.build(home, "enzyme", [path])
    assert first.card["files"][0]["format"] == "UniProt TSV"
    for count in (1, 5):
        for module in (importing, packing):
            monkeypatch.setattr(module, "usable_cores", lambda count=count: count)
        importing.import_files(home, "mine", [path], Options(), transfers.built_in())
        assert building.build(home, "enzyme", "mine").fingerprint == first.fingerprint
        again = building.build(home, "enzyme", [path])
        assert again.fingerprint == first.fingerprint
    assert again.card["source_sha256"] == file_digest(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("banana",), "a split must be one of random, identical, cluster, given"),
        (("random", 0.5), "an identity is for the split cluster"),
        (("cluster", 7.0), "identity must be from 0.2 to 1"),
        (("given", None, False), "a given split is as it is given"),
    ],
)
def test_impossible_splits_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    """What a split cannot be is said in one line."""
    with pytest.raises(EcsweepError, match=message):
        Split(*arguments)


@pytest.mark.usefixtures("mmseqs")
def test_families_of_a_file_are_found(home: Home, write_tsv: Write, proteins: Rows) -> None:
    """Without a column of families MMseqs2 finds them; the same from a source, whatever order."""
    rows = [row[:5] for row in proteins[:800]]
    built = building.build(home, "enzyme", [write_tsv(rows)], split=Split("cluster", 0.4))
    details = built.card["split_details"]
    assert details["identity"] == 0.4
    assert details["program"].startswith("MMseqs2 ")
    assert 0 < details["families"] <= 800
    assert built.card["test_sequences_also_in_train"] == 0
    assert built.card["test_sequences_in_train_families"] == 0
    mixed = write_tsv(random.Random(0).sample(rows, len(rows)), "mixed.tsv")
    importing.import_files(home, "mine", [mixed], Options(), transfers.built_in())
    again = building.build(home, "enzyme", "mine", split=Split("cluster", 0.4))
    assert again.fingerprint == built.fingerprint
    assert not list(built.folder.parent.glob(".building-*"))
