"""Datasets with classes of the user's own, from a column of a file or of a table beside FASTA."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ec_sweep import (
    building,
    cell_data,
    datasets,
    doctor_files,
    importing,
    names,
    output,
    transfers,
)
from ec_sweep.building import Reading
from ec_sweep.datasets import Dataset
from ec_sweep.dividing import Split
from ec_sweep.errors import EcsweepError
from ec_sweep.formats import Options
from ec_sweep.paths import Home
from ec_sweep.spec import Request as Asked
from ec_sweep.spec import Sweep, cells

CLASSES = ("cytoplasm", "membrane", "secreted & folded")
CLASS = Options(class_column="Compartment")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def rows(proteins: list[list[str]]) -> list[tuple[str, str, str]]:
    """Accession, class and sequence of 60 real proteins that are neither too short nor too long."""
    some = [row for row in proteins if 50 <= len(row[4]) <= 1000][:60]
    return [(row[0], CLASSES[place % 3], row[4]) for place, row in enumerate(some)]


def table(path: Path, rows: list[tuple[str, ...]], *header: str) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
    return path


def fasta(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    path.write_text("".join(f">{name} some protein\n{letters}\n" for name, _, letters in rows))
    return path


def build(home: Home, *files: Path, options: Options = CLASS, **more: Any) -> Dataset:
    reading = Reading(options, transfers.built_in())
    return building.build(home, "compartments", files, reading=reading, **more)


def labels_by_id(dataset: Dataset) -> dict[str, str]:
    """Return the class of every protein, from the arrays that are trained on."""
    found = {}
    for part in ("train", "valid", "test"):
        for name, label in zip(
            dataset.array(part, "ids"), dataset.array(part, "labels"), strict=True
        ):
            found[str(name)] = dataset.card["classes"][label]
    return found


def test_a_column_of_the_file_names_the_classes(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """No EC number is needed; classes stand in alphabetical order, every protein in its own."""
    built = build(home, table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence"))
    assert built.card["classes"] == list(CLASSES)
    assert labels_by_id(built) == {name: label for name, label, _ in rows}
    for part in ("train", "valid", "test"):  # 6:2:2, class by class
        counts = np.bincount(built.array(part, "labels"))
        assert counts.tolist() == [12 if part == "train" else 4] * 3


def test_a_table_beside_fasta_names_the_classes(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """The same dataset as from one table, whichever way; a protein that the table lacks is left."""
    direct = build(home, table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence"))
    sequences = fasta(tmp_path / "some.fasta", [*rows, ("LONELY", "", rows[0][2])])
    labels = table(
        tmp_path / "labels.tsv", [(name, label) for name, label, _ in rows], "ID", "compartment"
    )
    beside = build(home, sequences, options=Options(labels=labels, class_column="Compartment"))
    assert beside.fingerprint == direct.fingerprint
    assert beside.card["dropped"] == {"label_joined": 60, "no_label": 1}


def test_parquet_and_sources_name_the_classes(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """A source remembers the column, and datasets are built from it as often as one likes."""
    direct = build(home, table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence"))
    columns = dict(zip(("Entry", "Compartment", "Sequence"), zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table({k: list(v) for k, v in columns.items()}), tmp_path / "some.parquet")
    importing.import_files(home, "mine", [tmp_path / "some.parquet"], CLASS, transfers.built_in())
    assert building.build(home, "compartments", "mine").fingerprint == direct.fingerprint
    other = building.build(home, "compartments", "mine", split=Split("identical"))
    assert datasets.for_scale(home, "compartments", "paper", "identical") == other


def test_what_has_no_one_class_is_left_out_and_counted(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """None, two, one that cannot stand in a table, and one that is too rare."""
    letters = rows[0][2]
    odd = [
        ("NONE", "", letters),
        ("BLANK", "  ", letters),
        ("TWO", "membrane", letters),
        ("TWO", "cytoplasm", letters),
        ("LONG", "x" * 101, letters),
        *[(f"RARE{number}", "rare", letters) for number in range(4)],
        ("SHORT", "membrane", "MKT"),
    ]
    built = build(
        home, table(tmp_path / "some.tsv", [*rows, *odd], "Entry", "Compartment", "Sequence")
    )
    assert built.card["dropped"] == {
        "conflicting_classes": 2,
        "invalid_class": 1,
        "no_class": 2,
        "rare_class": 4,
        "too_short": 1,
    }
    assert built.card["records_in"] == 60 + len(odd)
    assert built.card["classes_left_out"] == {"rare": 4}
    assert labels_by_id(built) == {name: label for name, label, _ in rows}


def test_ec_numbers_beside_the_classes_mean_nothing(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """A UniProt table with a column more: its EC numbers decide nothing."""
    plain = build(home, table(tmp_path / "a.tsv", rows, "Entry", "Compartment", "Sequence"))
    with_numbers = [(name, "3.1.-.-", label, letters) for name, label, letters in rows]
    path = table(tmp_path / "b.tsv", with_numbers, "Entry", "EC number", "Compartment", "Sequence")
    assert build(home, path).fingerprint == plain.fingerprint


def test_a_dataset_of_ones_own_is_drawn_and_filtered_like_ec37(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """The smallest class and a drawing are the user's to choose."""
    more = [(f"{name}B", CLASSES[0], letters) for name, _, letters in rows]
    path = table(tmp_path / "some.tsv", [*rows, *more], "Entry", "Compartment", "Sequence")
    with pytest.raises(EcsweepError, match="has 1 class with at least 30 proteins"):
        build(home, path, smallest_class=30)
    drawn = build(home, path, drawing=building.Drawing(sizes=(30, 12, 12)))
    assert drawn.card["sizes"] == {"train": 30, "valid": 12, "test": 12}


def test_a_sweep_names_it_at_paper_scale_alone(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """The demo scale is the embedded sample: it says so, and what is not built."""
    sweep = Sweep(
        study="own",
        dataset="compartments",
        fixed={"model": "cnn", "length": 60},
        grid={"filter_size": [2]},
    )

    def found(scale: str) -> list[str]:
        examples = cells(sweep, Asked(scale))
        return [name for name, _ in cell_data.find(home, scale, examples, "own", build=True)]

    with pytest.raises(EcsweepError, match=r"no dataset is named 'compartments'.*--class-column"):
        found("paper")
    build(home, table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence"))
    assert found("paper") == ["compartments"]
    with pytest.raises(EcsweepError, match="demo scale trains on the embedded sample alone"):
        found("demo")
    assert datasets.names(home) == ["enzyme", "ec37", "compartments"]
    assert [dataset.name for dataset in datasets.built(home)] == ["compartments"]


def test_the_doctor_looks_at_datasets_of_ones_own(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """A damaged one is found as those of ecsweep are."""
    built = build(home, table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence"))
    (built.folder / "train_labels.npy").unlink()
    kinds = Counter(finding.kind for finding in doctor_files.files(home, deep=False))
    assert kinds == {"dataset-damaged": 1}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("enzyme", CLASS, "give the dataset of --class-column Compartment a name of your own"),
        ("My_Own", CLASS, "lower-case letters, digits and hyphens"),
        ("sources", CLASS, "not sources or downloads"),
        (
            "compartments",
            Options(),
            "--class-column C. .*some.tsv has: Entry, Compartment, Sequence.",
        ),
        ("genes", Options(), "genes is to be a dataset of your own: say which column holds the"),
        ("enzymes", Options(), "no dataset is named 'enzymes'. Did you mean 'enzyme'[?]"),
        ("Enzyme", Options(), "no dataset is named 'Enzyme'. Did you mean 'enzyme'[?]"),
        ("ec99", Options(), "no dataset is named 'ec99'. Did you mean 'ec37'[?]"),
        ("../x", Options(), "no dataset is named '../x'"),
        ("My_Own", Options(), "lower-case letters, digits and hyphens"),
        ("compartments", Options(class_column="Place"), "has no column 'Place'"),
    ],
)
def test_what_cannot_be_built_is_told_before_anything_is_made(
    home: Home,
    tmp_path: Path,
    rows: list[tuple[str, str, str]],
    name: str,
    options: Options,
    said: str,
) -> None:
    """One line, and no folder of that name."""
    path = table(tmp_path / "some.tsv", rows, "Entry", "Compartment", "Sequence")
    with pytest.raises(EcsweepError, match=said):
        building.build(home, name, [path], reading=Reading(options, transfers.built_in()))
    assert not list(home.data.glob("*/*"))


def test_a_source_without_the_column_makes_no_dataset_of_ones_own(
    home: Home, tmp_path: Path, proteins: list[list[str]]
) -> None:
    """It says what is missing; a name that is nearly one of ecsweep's is told so."""
    header = ("Entry", "Reviewed", "EC number", "Length", "Sequence")
    path = table(tmp_path / "some.tsv", [tuple(row) for row in proteins[:50]], *header)
    importing.import_files(home, "plain", [path], Options(), transfers.built_in())
    with pytest.raises(EcsweepError, match=r"plain: names no classes of your own\. Give --class-"):
        building.build(home, "compartments", "plain")
    with pytest.raises(EcsweepError, match=r"Did you mean 'enzyme'\?"):
        building.build(home, "enzym", "plain")
    assert not list(home.data.glob("*/*.json"))


def test_the_column_of_the_classes_is_asked_for_with_those_there_are(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """Of the table of labels, or of the file; a file that is not there is told first."""
    sequences = fasta(tmp_path / "some.fasta", rows)
    labels = table(tmp_path / "labels.tsv", [row[:2] for row in rows], "Entry", "Kind")
    parquet = tmp_path / "some.parquet"
    pq.write_table(pa.table({"Entry": ["P1"], "Fold": ["a"]}), parquet)

    def said(path: Path, labels: Path | None = None) -> str:
        with pytest.raises(EcsweepError) as error:
            build(home, path, options=Options(labels=labels))
        assert "\n" not in str(error.value)
        return str(error.value).replace(f"{tmp_path}/", "")

    asked = (
        "compartments is to be a dataset of your own: say which column holds the classes with "
        "--class-column C. "
    )
    assert said(sequences, labels) == f"{asked}labels.tsv has: Entry, Kind."
    assert said(parquet) == f"{asked}some.parquet has: Entry, Fold."
    no_columns = "some.fasta has no columns: give a table that names them with --labels."
    assert said(sequences) == asked + no_columns
    assert said(sequences, tmp_path / "x.tsv").startswith("x.tsv: cannot be read (No such file")
    assert said(tmp_path / "x.fasta", labels).startswith("x.fasta: cannot be read (No such file")
    labels.write_text("\n")
    assert said(sequences, labels) == "labels.tsv: the file is empty."


def test_labels_that_match_nothing_are_shown_beside_what_they_should_match(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    """An accession of each, whether or not it is repeated."""
    sequences = fasta(tmp_path / "some.fasta", rows)
    wrong = [(f"x{name}", label) for name, label, _ in rows]
    first = rows[0][0]
    for repeated in (1, 2):
        path = table(tmp_path / "labels.tsv", wrong * repeated, "Entry", "Compartment")
        options = Options(labels=path, class_column="Compartment")
        with pytest.raises(EcsweepError) as error:
            build(home, sequences, options=options)
        assert str(error.value).endswith(
            f" Compare the accessions: in the FASTA '{first}', in the labels 'x{first}'."
        )


def test_a_printed_card_holds_what_means_something(
    home: Home, tmp_path: Path, rows: list[tuple[str, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Joined labels are not called dropped, and of EC numbers nothing is said; JSON has it all."""
    sequences = fasta(tmp_path / "some.fasta", rows)
    labels = table(tmp_path / "labels.tsv", [row[:2] for row in rows], "Entry", "Compartment")
    options = Options(labels=labels, class_column="Compartment")
    card = build(home, sequences, options=options).card
    output.print_card(card)
    shown = capsys.readouterr().out.splitlines()
    place = shown.index("records in: 120")
    assert shown[place + 1 : place + 3] == [
        "joined: 60 labels to their sequences",
        "records kept: 60",
    ]
    unsaid = {
        "dropped", "transfers", "migrations", "drawing", "samples", "label cases", "embedded",
        "classes left out", "split details",
    }  # fmt: skip
    assert not unsaid & {line.partition(":")[0] for line in shown}
    assert {key.replace(" ", "_") for key in unsaid} <= card.keys()
    assert "test sequences also in train: 0" in shown
    drawn = build(home, sequences, options=options, drawing=building.Drawing(sizes=(30, 12, 12)))
    output.print_card(drawn.card)
    shown = capsys.readouterr().out.splitlines()
    assert "dropped: down_sampled: 6" in shown
    assert [line for line in shown if line.startswith("samples: ")]
    source = importing.import_files(home, "mine", [sequences], options, transfers.built_in())
    output.print_card(source.card)
    said = capsys.readouterr().out
    assert "joined: 60 labels" in said
    assert "transfers" not in said


def test_one_joined_label_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    """And a card with EC numbers keeps its other lines."""
    card = {"name": "enzyme", "classes": [], "dropped": {"label_joined": 1, "no_label": 2}}
    output.print_card(card | {"records_in": 4, "records_kept": 1, "transfers": []})
    assert capsys.readouterr().out.splitlines() == [
        "name: enzyme",
        "classes: none",
        "dropped: no_label: 2",
        "records in: 4",
        "joined: 1 label to its sequence",
        "records kept: 1",
        "transfers: none",
    ]


def test_the_next_step_fits_the_datasets() -> None:
    """No study that comes with ecsweep trains on classes of the user's own."""
    assert datasets.how_to_train(["kinds", "ec37"]) == "ecsweep study STUDY --scale paper"
    assert datasets.how_to_train(["kinds"]) == (
        "a sweep with dataset: kinds, then: ecsweep study FILE --scale paper"
    )


def test_classes_of_ones_own_have_no_names_of_ec_classes() -> None:
    """Unless they are written as such numbers."""
    assert names.name_of("membrane") is None
    assert names.name_of("secreted & folded") is None
