"""Sweep files: expansion, identity, overrides and the errors of bad ones."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ec_sweep import spec
from ec_sweep.errors import EcsweepError
from ec_sweep.paths import packed
from ec_sweep.spec import Cell, Request, Sweep

BASE = {
    "study": "s",
    "dataset": "enzyme",
    "fixed": {"model": "cnn", "epochs": 3},
    "grid": {"filter_size": [2, 3], "learning_rate": [0.01, 0.001]},
}


def sweep(**changes: object) -> Sweep:
    return Sweep.model_validate({**BASE, **changes})


def points(cells: list[Cell], *names: str) -> list[tuple[object, ...]]:
    return [tuple(getattr(cell.hyperparameters, name) for name in names) for cell in cells]


def test_cnn_filters_is_table_3() -> None:
    """The packed sweep has the paper's 24 cells, at the paper's sizes and at demo's."""
    found = spec.load(packed("sweeps") / "cnn-filters.yaml")
    paper = spec.cells(found, Request("paper"))
    expected = [(size, rate) for size in range(2, 10) for rate in (0.01, 0.001, 0.0001)]
    assert points(paper, "filter_size", "learning_rate") == expected
    hp = paper[0].hyperparameters
    assert (hp.length, hp.epochs, hp.batch_size, hp.hidden) == (1000, 30, 32, (512, 512))
    assert (hp.filters, hp.early_stopping, hp.train_size) == (128, "paper", None)
    demo = spec.cells(found, Request("demo"))[0].hyperparameters
    assert (demo.length, demo.epochs, demo.train_size) == (256, 3, 1200)


def test_each_scale_declares_what_its_own_models_take() -> None:
    """An override of `study --all` is kept where the scale that is run knows it."""
    found = sweep(scales={"paper": {"model": "lstm"}}, grid={"learning_rate": [0.01]})
    assert "units" in spec.declared(found, "paper")
    assert "units" not in spec.declared(found, "demo")


def test_regular_irregular_and_explicit_grids_become_the_same_cells() -> None:
    """One grid, a union of grids that overlap, and a list of cells are three spellings."""
    regular = spec.cells(sweep(), Request())
    union = spec.cells(
        sweep(
            grid=[
                {"filter_size": [2, 3], "learning_rate": [0.01]},
                {"filter_size": [2, 3], "learning_rate": [0.001, 0.01]},
            ]
        ),
        Request(),
    )
    explicit = spec.cells(
        sweep(grid=[{"filter_size": f, "learning_rate": r} for f in (2, 3) for r in (0.01, 0.001)]),
        Request(),
    )
    assert set(regular) == set(union) == set(explicit)
    assert len(regular) == len(union) == len(explicit) == 4


def test_a_list_valued_axis_lists_lists() -> None:
    """An axis of a hyperparameter that is itself a list varies whole lists."""
    cells = spec.cells(sweep(grid={"hidden": [[8], [8, 4]]}), Request())
    assert points(cells, "hidden") == [((8,),), ((8, 4),)]


def test_a_flat_list_of_a_list_valued_axis_is_no_guess() -> None:
    """Two layers or two values? It is refused in a grid, and one value of an explicit cell."""
    with pytest.raises(EcsweepError, match=re.escape("[[8], [4]] for 2 values, [[8, 4]] for one")):
        spec.cells(sweep(grid={"hidden": [8, 4]}), Request())
    assert points(spec.cells(sweep(grid={"hidden": [8]}), Request()), "hidden") == [((8,),)]
    explicit = sweep(grid=[{"hidden": [8, 4]}, {"hidden": [8]}])
    assert points(spec.cells(explicit, Request()), "hidden") == [((8, 4),), ((8,),)]
    alone = sweep(grid=[{"hidden": [8, 4]}])
    assert points(spec.cells(alone, Request()), "hidden") == [((8, 4),)]


def test_seeds_replicate_cells() -> None:
    """--seeds N trains each cell with the seeds 0 to N-1."""
    cells = spec.cells(sweep(seeds=[7]), Request(seeds=2))
    assert len(cells) == 8
    assert [cell.seed for cell in cells[:2]] == [0, 1]
    assert {cell.seed for cell in spec.cells(sweep(seeds=[7]), Request())} == {7}


def test_overrides_beat_scale_beats_fixed() -> None:
    """--set is strongest, then the scale, then fixed."""
    found = sweep(scales={"demo": {"epochs": 5, "length": 99}})
    assert set(points(spec.cells(found, Request()), "epochs", "length")) == {(5, 99)}
    request = Request(overrides=(("epochs", 7), ("filter_size", 4)))
    assert set(points(spec.cells(found, request), "epochs", "filter_size")) == {(7, 4)}
    assert set(points(spec.cells(found, Request("paper")), "epochs", "length")) == {(3, 1000)}


def test_a_scale_replaces_an_axis_by_a_list_only() -> None:
    """A scale's list over a grid axis replaces it; a single value is refused."""
    cells = spec.cells(sweep(scales={"demo": {"filter_size": [5]}}), Request())
    assert set(points(cells, "filter_size")) == {(5,)}
    with pytest.raises(EcsweepError, match=r"scales\.demo\.filter_size replaces a grid axis"):
        spec.cells(sweep(scales={"demo": {"filter_size": 5}}), Request())


def test_split_may_stand_wherever_a_hyperparameter_may() -> None:
    """At the top, in fixed, in a grid, under a scale that replaces either, and in --set."""
    plain = Request()

    def splits(request: Request = plain, **changes: object) -> set[str]:
        return {cell.split for cell in spec.cells(sweep(**changes), request)}

    axis = {"split": ["random", "identical"], "filter_size": [2]}
    lists = {"demo": {"split": ["cluster", "given"]}}
    assert splits() == {"random"}
    assert splits(split="cluster") == {"cluster"}
    assert splits(fixed={"model": "cnn", "split": "identical"}, split="cluster") == {"identical"}
    assert splits(grid=axis) == {"random", "identical"}
    assert splits(scales={"demo": {"split": "given"}}) == {"given"}
    assert splits(scales={"paper": {"split": "given"}}) == {"random"}
    assert splits(grid=axis, scales=lists) == {"cluster", "given"}
    assert splits(Request(overrides=(("split", "given"),)), grid=axis, scales=lists) == {"given"}


def test_the_split_changes_an_id_through_its_dataset_alone() -> None:
    """Ids from before there were splits stay: the fingerprint tells the datasets apart."""
    built = {("enzyme", "random"): "f" * 64, ("enzyme", "cluster"): "c" * 64}
    plain, other = (
        spec.cells(sweep(split=s), Request())[0].on(built) for s in ("random", "cluster")
    )
    assert (plain.id, plain.fingerprint, other.fingerprint) == ("88bb01abd829", "f" * 64, "c" * 64)
    assert other.on({("enzyme", "cluster"): "f" * 64}).id == plain.id != other.id
    assert other.on({("enzyme", "random"): "f" * 64}).id is None


def test_cell_ids_never_change() -> None:
    """Golden ids: a change here would orphan every cell trained so far."""
    first, second, *_ = (
        cell.on({("enzyme", "random"): "f" * 64}) for cell in spec.cells(sweep(), Request())
    )
    assert (first.id, second.id) == ("88bb01abd829", "3b27847568cd")


def test_values_equal_to_the_default_are_not_part_of_the_id() -> None:
    """Writing a default out, or leaving it out, names the same cell."""
    plain = spec.cells(sweep(), Request())[0].on({("enzyme", "random"): "f"})
    spelled = sweep(fixed={**BASE["fixed"], "filters": 128, "hidden": [512, 512]})  # type: ignore[dict-item]
    assert spec.cells(spelled, Request())[0].on({("enzyme", "random"): "f"}).id == plain.id


def test_the_id_depends_on_hyperparameters_seed_and_dataset() -> None:
    """Whatever changes what is computed changes the id."""
    cell = spec.cells(sweep(), Request())[0]
    ids = {
        cell.on({("enzyme", "random"): "a"}).id,
        cell.on({("enzyme", "random"): "b"}).id,
        spec.cells(sweep(seeds=[1]), Request())[0].on({("enzyme", "random"): "a"}).id,
        spec.cells(sweep(), Request(overrides=(("epochs", 4),)))[0]
        .on({("enzyme", "random"): "a"})
        .id,
    }
    assert len(ids) == 4
    assert cell.id is None  # the dataset is not built


@given(st.permutations(sorted(BASE["grid"])), st.sampled_from([0.01, "1e-2", "0.010", "1.0e-2"]))  # type: ignore[call-overload]
def test_order_of_keys_and_spelling_of_numbers_do_not_matter(
    order: list[str], rate: object
) -> None:
    """The same grid written another way names the same cells."""
    values = {"filter_size": [2, 3], "learning_rate": [rate, "1e-3"]}
    written = sweep(grid={name: values[name] for name in order})
    ids = {cell.on({("enzyme", "random"): "a"}).id for cell in spec.cells(written, Request())}
    assert ids == {
        cell.on({("enzyme", "random"): "a"}).id for cell in spec.cells(sweep(), Request())
    }


BAD_FILES: list[tuple[str | bytes, str]] = [
    ("study: [", "not valid YAML"),
    ("- a", "must be a mapping with the key 'study'"),
    ("{}", "the key 'study' is missing"),
    ("study: Bad Name", "study must be a name of up to 100 lower-case letters, digits and hyphens"),
    ("study: s\nstudy: t", "the key 'study' is given twice"),
    ("study: s\nfixd: {}", "unknown key 'fixd'. Did you mean 'fixed'?"),
    ("study: s\ngrid: {filter_sizs: [2]}", "unknown key 'grid.filter_sizs'. Did you mean"),
    ("study: s\ntable: 9", "table must be a whole number from 1 to 7. Received: 9."),
    ("study: table3\ngrid: {model: [cnn]}\ndataset: enzyme", "as the files of a report"),
    ("study: s\nseeds: [-1]", "seeds.0 must be at least 0. Received: -1."),
    ("study: s\nscales: {huge: {}}", "the key 'scales.huge' must be 'demo' or 'paper'"),
    ("study: s\nscales: [demo]", "scales must be a mapping of names to values"),
    ("study: s\ngrid: 3", "grid must be a mapping of names to values, or a list of such mappings"),
    ("study: s\ntiming: 3", "timing must be 'shared' or 'exclusive'. Received: 3."),
    ("study: s\n1: 2", "the key '1' must be text"),
    ('study: s\ntitle: "a\\nb"', "title must be one line of printable text"),
    ('study: s\ntitle: "\\e[31m"', "title must be one line of printable text"),
    ("study: s\nfixed: &a {model: cnn}\ngrid: *a", "aliases"),
    ("study: !!python/object/apply:os.system [id]", "line 1: tags (!name) are not allowed"),
    ("study: s\nfixed: {<<: {model: cnn}}", "line 2: merge keys (<<) are not allowed"),
    ("study: s\n? [a]\n: b", "line 2: a key must be a single value"),
    ("study: s\ntable: 0x_", "line 2: '0x_' is no number"),
    ('study: "\\U00110000"', "not valid YAML"),
    (b"study: \xff", "not UTF-8 text"),
]


@pytest.mark.parametrize(("text", "message"), BAD_FILES)
def test_bad_files_are_named_with_their_fault(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    """A file that cannot be used gives its path and what is wrong, in one line."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(EcsweepError) as caught:
        spec.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_VALUES = [
    ({"split": "clutser"}, "split must be one of random, identical, cluster, given. Received"),
    ({"grid": {"split": ["random", "none"]}}, "grid.split must be one of random"),
    (
        {"grid": {"split": ["random", "cluster"]}, "sampler": "random", "trials": 2},
        "Fix split, or compare splits in a grid",
    ),
    ({"grid": {"filter_size": "nine"}}, "grid.filter_size must be a whole number from 1 to 1000"),
    ({"grid": {"filter_size": ["nine"]}}, "Received: 'nine'"),
    ({"grid": {"filter_size": []}}, "grid.filter_size must list at least one value"),
    ({"grid": {"\x1b[31m": []}}, "unknown key 'grid.\\x1b[31m'"),
    ({"grid": {}}, "grid must name at least one axis"),
    ({"grid": []}, "grid must name at least one axis"),
    ({"fixed": {"model": "cnn", "filter_size": "x"}, "grid": {"epochs": [1]}}, "fixed.filter_size"),
    ({"fixed": {}}, "model must be given"),
    ({"fixed": {"model": "cnm"}}, "Did you mean 'cnn'?"),
    ({"dataset": None}, "dataset must be given"),
    ({"dataset": "../x"}, "dataset must be a name of lower-case letters"),
    (
        {"grid": {"filter_size": [9]}, "scales": {"demo": {"length": 8}}},
        "filter_size 9 is larger than length 8",
    ),
    (
        {"grid": {"pool_size": [9]}, "fixed": {"model": "cnn", "length": 8, "filter_size": 2}},
        "pool",
    ),
    ({"grid": {"filter_size": list(range(1, 900)), "filters": list(range(1, 900))}}, "more than"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_VALUES)
def test_bad_values_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    """A value that cannot be used is named with its key and what is allowed."""
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}))
    with pytest.raises(EcsweepError) as caught:
        spec.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from([*Sweep.model_fields, "other"]), JSON)
def test_any_document_is_a_sweep_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    """Whatever stands under a key: never a traceback."""
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.yaml"
    path.write_text(json.dumps({**BASE, key: value}))
    try:
        spec.load(path)
    except EcsweepError as error:
        assert "\n" not in str(error)


def test_overrides_are_checked() -> None:
    """--set takes KEY=VALUE with a known key and a YAML value."""
    assert spec.parse_override("hidden=[8, 4]") == ("hidden", [8, 4])
    for text in ("epochs", "epochs=", "epoch=3", "epochs=[1"):
        with pytest.raises(EcsweepError, match="--set"):
            spec.parse_override(text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("filters", [32, 64], "s: --set filters must be one value: only what the grid"),
        ("epochs", "many", "s: --set epochs must be a whole number"),
        ("filter_size", {"low": 2, "high": 9}, "this sweep has none. List its values."),
        ("length", 2, "s: impossible cell: filter_size 3 is larger than length 2"),
    ],
)
def test_bad_overrides_name_the_study_and_not_its_file(
    name: str, value: object, message: str
) -> None:
    """The file is right, and need not be the user's; nothing is advised that --set cannot do."""
    with pytest.raises(EcsweepError) as caught:
        spec.cells(sweep(), Request(overrides=((name, value),)), "packed/s.yaml")
    assert str(caught.value).startswith("s: ")
    assert message in str(caught.value)
