"""The JSON Schema of sweep files says what the loader says, while one types."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ec_sweep import documents, space, spec, sweep_schema
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import NAMES
from ec_sweep.models import MODELS
from ec_sweep.paths import packed
from tests.conftest import TINY_SWEEP, Ecsweep
from tests.test_spec import BAD_FILES, BAD_VALUES, BASE

SCHEMA = json.loads(json.dumps(sweep_schema.schema()))
CHECKER = jsonschema.Draft7Validator(SCHEMA)
PACKED = {path.stem: documents.parse(path.read_text()) for path in packed("sweeps").glob("*.yaml")}
DRAWN: dict[str, Any] = {
    "study": "drawn",
    "dataset": "enzyme",
    "fixed": {"model": "cnn", "epochs": 30},
    "grid": {
        "learning_rate": {"low": "1e-6", "high": 1e-2, "log": True},
        "filters": {"low": 32, "high": 256, "step": 32},
        "dropout": {"low": 0, "high": 0.5, "step": 0.25},
        "hidden": [[512], [512, 512]],
    },
    "sampler": "tpe",
    "trials": 50,
    "metric": "val_loss",
    "direction": "minimize",
    "pruner": "median",
    "seeds": [1],
    "scales": {"demo": {"filters": {"low": 4, "high": 8}, "epochs": 3}, "paper": {}},
}
GOOD: dict[str, dict[str, Any]] = {
    **PACKED,
    "tiny": yaml.safe_load(TINY_SWEEP),
    "base": BASE,
    "drawn": DRAWN,
    "cells": {**BASE, "grid": [{"hidden": [8, 4]}, {"hidden": [8]}]},
    "lists": {
        **BASE,
        "fixed": {"model": "cnn", "hidden": [], "train_size": None, "learning_rate": "1e-3"},
        "grid": [{"filter_size": 3, "dataset": "enzyme"}, {"dropout": [0.1], "filters": [8]}],
        "scales": {"paper": {"dropout": [0.2, 0.3], "hidden": [4]}},
        "table": None,
        "direction": "maximize",
    },
}
COMPARED = (
    "impossible cell",
    "span more than",
    "low must be below",
    ".step must",
    "trials must be at most",
)
"""What compares two values: of all that the loader refuses, only this is beyond the schema."""


def accepted(document: object) -> bool:
    return bool(CHECKER.is_valid(document))


def refused(document: object, path: Path) -> str:
    """Return what the loader says of a document, empty where it takes it."""
    path.write_text(yaml.safe_dump(document))
    try:
        spec.load(path)
    except EcsweepError as error:
        return str(error)
    return ""


def test_it_is_a_schema_that_editors_know() -> None:
    """Draft 7 is what YAML language servers read; every name is explained and has its default."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert set(SCHEMA["properties"]) == set(spec.Sweep.model_fields)
    assert all(key["description"] for key in SCHEMA["properties"].values())
    for name in NAMES:
        assert SCHEMA["definitions"][name]["description"]
        assert "default" in SCHEMA["definitions"][name]


def test_the_command_prints_it(ecsweep: Ecsweep) -> None:
    """`ecsweep schema` prints one JSON document."""
    assert json.loads(ecsweep.ok("schema")) == SCHEMA


@pytest.mark.parametrize("name", GOOD)
def test_good_sweeps_are_accepted(tmp_path: Path, name: str) -> None:
    """Every sweep that comes with ecsweep, and every spelling that the loader takes."""
    assert refused(GOOD[name], tmp_path / "good.yaml") == ""
    CHECKER.validate(GOOD[name])


@pytest.mark.parametrize("text", [text for text, _ in BAD_FILES if isinstance(text, str)])
def test_bad_files_are_refused(text: str) -> None:
    """What the loader's own tests call bad, where it is YAML at all."""
    try:
        document = documents.parse(text)
    except ValueError:
        return
    assert not accepted(json.loads(json.dumps(document)))


@pytest.mark.parametrize("changes", [changes for changes, _ in BAD_VALUES])
def test_bad_values_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The loader's other bad examples, but for those that compare two values."""
    document = {**BASE, **changes}
    said = refused(document, tmp_path / "bad.yaml")
    assert said
    assert accepted(document) == any(words in said for words in COMPARED)


@pytest.mark.parametrize(
    "changes",
    [
        {"fixed": {"model": "cnn", "units": 50}},  # not of that model
        {"fixed": {"model": "cnn"}, "grid": {"kmer": [3]}},
        {"scales": {"demo": {"units": 3}}},
        {"fixed": {"model": "cnn", "filter_size": 3}},  # in fixed and in grid
        {"scales": {"demo": {"filter_size": 5}}},  # no list over an axis
        {"scales": {"demo": {"epochs": [1, 2]}}},  # a list over no axis
        {"grid": {"filter_size": {"low": 2, "high": 9}}},  # a range without a sampler
        {"grid": {"hidden": []}},
        {"grid": {"hidden": [8, 4]}},  # two values, or one of two layers?
        {"trials": 3},
        {"sampler": "random"},
        {"sampler": "random", "trials": 3, "seeds": [0, 1]},
        {"sampler": "random", "trials": 3, "grid": [{"epochs": [1]}, {"epochs": [2]}]},
        {"metric": "test_accuracy"},
        {"direction": "minimize"},
        {"metric": "val_loss", "direction": "maximize"},
        {"seeds": [0, 0]},
        {"seeds": []},
        {"fixed": {"model": "cnn", "deterministic": 1}},
        {"fixed": {"model": "cnn", "learning_rate": "fast"}},
        {"fixed": {"model": "cnn", "learning_rate": True}},
        {"fixed": {"model": "cnn", "filters": "8"}},
        {"title": "a\nb"},
    ],
)
def test_mistakes_are_refused_by_both(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Mistakes that no single value shows are seen, too."""
    document = {**BASE, **changes}
    assert refused(document, tmp_path / "bad.yaml")
    assert not accepted(document)


JUNK = st.sampled_from(
    [None, True, 0, 1, 2, -1, 1.5, "", "cnn", "lstm", "kmer-nn", "random", "cluster", "tpe", "1e-3",
     "grid", "val_loss", "minimize", [], [1], [1, 2], [[8], [4]], ["random", "cluster"], {},
     ["random"], {"low": 1, "high": 4}, {"low": 0.1, "high": 0.5, "log": True}, {"epochs": 2},
     {"model": "gru"}, [{"units": [3, 4]}], {"demo": {"filters": 3}}, 10**9, "table3", "Näme"]
)  # fmt: skip
KEYS = st.sampled_from(
    [*spec.Sweep.model_fields, "model", "units", "kmer", "filters", "filter_size", "hidden",
     "filter_sizes", "dropout", "epochs", "train_size", "deterministic", "low", "high", "log",
     "step", "demo", "paper", "fixd"]
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A good sweep with up to three changes anywhere in it."""
    document = copy.deepcopy(draw(st.sampled_from(list(GOOD.values()))))
    for _ in range(draw(st.integers(1, 3))):
        inner: Any = document
        while True:
            deeper = inner.values() if isinstance(inner, dict) else inner
            below = [value for value in deeper if isinstance(value, dict | list) and value]
            if not below or draw(st.booleans()):
                break
            inner = draw(st.sampled_from(below))
        if isinstance(inner, list):
            place = draw(st.integers(0, len(inner) - 1))
            inner[place : place + draw(st.integers(0, 1))] = [copy.deepcopy(draw(JUNK))]
        elif draw(st.booleans()) and inner:
            del inner[draw(st.sampled_from(list(inner)))]
        else:
            inner[draw(st.one_of(KEYS, st.sampled_from(list(inner) or ["study"])))] = copy.deepcopy(
                draw(JUNK)
            )
    return document


@given(mutated())
def test_schema_and_loader_agree(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    """Whatever is changed in a sweep, both take it or both refuse it."""
    said = refused(document, tmp_path_factory.getbasetemp() / "mutated.yaml")
    # A scale may replace splits that the grid varies: that a sampler takes one is said by both.
    if not any(words in said for words in (*COMPARED, "Fix split")):
        assert accepted(document) == (said == ""), said


def test_every_model_knows_its_names() -> None:
    """A name is accepted with exactly the models that have it."""
    for model, found in MODELS.items():
        for name in NAMES:
            value = SCHEMA["definitions"][name]["default"]
            document = {"study": "s", "dataset": "enzyme", "fixed": {"model": model}}
            document["grid"] = {name: [value]}
            assert accepted(document) == (name in found.hyperparameters), (model, name)
    assert set(space.names()) == set(SCHEMA["properties"]["fixed"]["properties"])
