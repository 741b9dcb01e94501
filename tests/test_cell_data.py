"""The datasets of a study's cells: one for each name and split, found or asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from ec_sweep import building, cell_data, planning, space, spec, splits
from ec_sweep.datasets import Dataset
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import Home
from ec_sweep.planning import Place
from ec_sweep.spec import Cell, Request, Sweep
from tests.conftest import Ecsweep


def cells(*splits: str, **fixed: Any) -> list[Cell]:
    sweep = Sweep.model_validate(
        {
            "study": "s",
            "dataset": "enzyme",
            "fixed": {"length": 40, "train_size": 64, **fixed},
            "grid": {"model": ["composition"], "split": list(splits)},
        }
    )
    return spec.cells(sweep, Request())


@pytest.mark.parametrize(
    ("split", "details", "words"),
    [
        ("random", {"families": 9, "column": "Family"}, "random split"),
        ("random", {"stratify": False}, "random split, not stratified"),
        ("identical", {"groups": 9, "stratify": True}, "identical split"),
        ("cluster", {"identity": 0.3, "stratify": True}, "cluster split at 30 % identity"),
        ("cluster", {"column": "Family"}, "cluster split by column Family"),
        ("given", None, "given split"),
    ],
)
def test_a_caption_says_how_strict_a_split_is(
    split: str, details: dict[str, Any] | None, words: str
) -> None:
    """The identity of families, or where they come from; a card from before has no details."""
    card = {"split": split, "source": "x.tsv (file)", "sizes": {"train": 6, "valid": 2, "test": 2}}
    card |= {"split_details": details} if details else {}
    built = {("enzyme", split): Dataset(Path(), card)}
    told = cell_data.in_words(built, cells(split, train_size=None))
    assert told == (
        "dataset enzyme from x.tsv (file), 6 training, 2 validation and 2 test sequences, "
        f"length 40, {words}"
    )


def test_one_test_sequence_is_one() -> None:
    """A caption of very few proteins."""
    card = {"split": "given", "source": "x", "sizes": {"train": 6, "valid": 1, "test": 1}}
    told = cell_data.in_words(
        {("enzyme", "given"): Dataset(Path(), card)}, cells("given", train_size=None)
    )
    assert "6 training, 1 validation and 1 test sequence, length" in told


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    found.prepare()
    return found


def test_each_split_of_a_name_is_a_dataset_of_its_own(home: Home) -> None:
    """Demo builds the splits that are missing, and finds them again."""
    some = cells("random", "identical")
    assert cell_data.find(home, "demo", some, "x.yaml", build=False) == {}
    random = building.build_embedded(home, "enzyme")
    assert cell_data.find(home, "demo", some, "x.yaml", build=False) == {
        ("enzyme", "random"): random
    }
    built = cell_data.find(home, "demo", some, "x.yaml", build=True)
    assert built["enzyme", "random"] == random
    assert built["enzyme", "identical"].card["split"] == "identical"
    assert cell_data.find(home, "demo", some, "x.yaml", build=False) == built
    told = cell_data.in_words(built, some)
    assert told.count("dataset enzyme from swissprot-sample.tsv.gz") == 1
    assert "length 40, random split (64 training, 21 validation and 21 test sequences)" in told
    assert ", identical split (64 training," in told


def test_the_embedded_sample_names_no_parts(home: Home) -> None:
    """A given split is an error at demo scale that says what to take instead."""
    with pytest.raises(
        EcsweepError, match=r"x\.yaml: demo scale has no split given.*--scale paper"
    ):
        cell_data.find(home, "demo", cells("random", "given"), "x.yaml", build=True)
    assert list(home.data.iterdir()) == []
    assert cell_data.find(home, "paper", cells("given"), "x.yaml", build=True) == {}


def test_a_cell_too_large_for_its_split_is_named(home: Home) -> None:
    """Each cell is checked against the dataset of its own split."""
    building.build_embedded(home, "enzyme")
    with pytest.raises(EcsweepError, match=r"x\.yaml: impossible cell: length 2000"):
        cell_data.find(home, "demo", cells("random", length=2000), "x.yaml", build=False)


def test_missing_datasets_come_with_their_commands() -> None:
    """One line builds all that is missing; nothing is missing at demo scale."""
    missing = [("enzyme", "random"), ("enzyme", "cluster"), ("ec37", "given")]
    cell_data.check_built(missing, "demo")
    cell_data.check_built([], "paper")
    with pytest.raises(EcsweepError) as caught:
        cell_data.check_built(missing, "paper")
    assert str(caught.value).endswith(
        "Build it with: ecsweep data build enzyme --from FILE.tsv.gz"
        " && ecsweep data build enzyme --from FILE.tsv.gz --split cluster"
        " && ecsweep data build ec37 --from SOURCE_WITH_SPLIT_COLUMN --split given"
    )


def test_a_study_waits_for_the_splits_that_are_not_built(tmp_path: Path) -> None:
    """Planned before its datasets are built, ids come with each; run, it says what to build."""
    home = Home(tmp_path)
    home.prepare()
    building.build_embedded(home, "enzyme")
    request = Request(overrides=(("train_size", 64),))
    found = planning.resolve(Place(home), "leakage-enzyme", request)
    assert {cell.split for cell in found.cells if cell.id} == {"random"}
    assert found.missing == [("enzyme", "identical"), ("enzyme", "cluster")]
    planning.check_runnable(found)  # demo builds them itself
    with pytest.raises(EcsweepError, match="needs the dataset enzyme built from your proteins"):
        planning.check_runnable(planning.resolve(Place(home), "leakage-enzyme", Request("paper")))


def test_set_changes_the_split_of_any_study(ecsweep: Ecsweep) -> None:
    """``--set split=...`` plans the same cells on another dataset; a wrong name is an error."""
    text = ecsweep.ok("plan", "tiny", "--set", "split=identical", "--json")
    assert {cell["params"]["split"] for cell in json.loads(text)["cells"]} == {"identical"}
    said = ecsweep.ok("plan", "tiny", "--set", "split=cluster")
    assert "Dataset not built yet: enzyme (cluster split)." in said
    assert "--set split must be one of random, identical, cluster, given" in ecsweep.fails(
        "plan", "tiny", "--set", "split=families"
    )
    assert "--split given" in ecsweep.fails(
        "study", "tiny", "--scale", "paper", "--set", "split=given"
    )


def test_a_sweep_takes_every_split_that_can_be_built() -> None:
    """The names that sweeps know, and those that datasets are built with, are the same."""
    assert space.SPLITS == splits.METHODS
