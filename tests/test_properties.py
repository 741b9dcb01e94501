"""Grids, cell ids and early stopping against naive oracles that share no code with them."""

import hashlib
import json
import math
from dataclasses import fields
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ec_sweep import documents, spec, stopping
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.spec import Cell, Request, Sweep

DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in fields(Hyperparameters)
}
"""As a sweep file writes them."""
OF_CNN = {
    "filter_size": [2, 3, 4, 5],
    "filters": [8, 128],
    "learning_rate": [0.01, 0.001, 1.0],
    "dropout": [0.0, 0.5],
    "epochs": [1, 30],
    "hidden": [[512, 512], [8], []],
    "train_size": [None, 64],
}
"""Some values of some hyperparameters of the model cnn; defaults among them."""
NAMES = st.sampled_from(sorted(OF_CNN))


@st.composite
def values(draw: st.DrawFn, name: str) -> Any:
    return draw(st.sampled_from(OF_CNN[name]))


@st.composite
def axes(draw: st.DrawFn, least: int = 1) -> dict[str, list[Any]]:
    """A grid: some names, each with values that may repeat."""
    names = draw(st.lists(NAMES, unique=True, min_size=least, max_size=3))
    return {name: draw(st.lists(values(name), min_size=1, max_size=3)) for name in names}


@st.composite
def settings_of(draw: st.DrawFn, grids: list[dict[str, Any]]) -> dict[str, Any]:
    """Values as a scale gives them: lists where the grid has an axis, single ones elsewhere."""
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    varied = {name for grid in grids for name in grid}
    return {
        name: draw(
            st.lists(values(name), min_size=1, max_size=2) if name in varied else values(name)
        )
        for name in names
    }


@st.composite
def asked(draw: st.DrawFn) -> tuple[dict[str, Any], Request]:
    """A sweep file and a request of it."""
    grids = draw(st.lists(axes(), min_size=1, max_size=3))
    single = len(grids) == 1 and draw(st.booleans())
    document = {
        "study": "s",
        "dataset": "enzyme",
        "fixed": {"model": "cnn", **{n: v[0] for n, v in draw(axes(0)).items()}},
        "grid": grids[0] if single else grids,
        "seeds": draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)),
        "scales": {"demo": draw(settings_of(grids)), "paper": draw(settings_of(grids))},
    }
    overrides = tuple(draw(settings_of(grids)).items())
    scale = draw(st.sampled_from(["demo", "paper"]))
    return document, Request(scale, draw(st.sampled_from([None, 1, 3])), overrides)


def naive_cells(document: dict[str, Any], request: Request) -> list[tuple[dict[str, Any], int]]:
    """Expand by nested loops and look-ups in lists: the slow, plain way."""
    grids = document["grid"] if isinstance(document["grid"], list) else [document["grid"]]
    layers = [document["scales"][request.scale], dict(request.overrides)]
    seeds = range(request.seeds) if request.seeds else sorted(set(document["seeds"]))
    found: list[tuple[dict[str, Any], int]] = []
    for grid in grids:
        points: list[dict[str, Any]] = [{}]
        for name, written in grid.items():
            axis = written
            for layer in layers:
                axis = layer.get(name, axis)
            points = [{**point, name: value} for point in points for value in axis]
        for point in points:
            for seed in seeds:
                cell = {**DEFAULTS, **document["fixed"]}
                for layer in layers:
                    varied = {name for other in grids for name in other}
                    cell |= {name: value for name, value in layer.items() if name not in varied}
                cell |= point
                if (cell, seed) not in found:
                    found.append((cell, seed))
    return found


@given(asked())
def test_a_grid_expands_as_nested_loops_do(case: tuple[dict[str, Any], Request]) -> None:
    """Unions, scales, --set, --seeds: the same cells in the same order, each once."""
    document, request = case
    cells = spec.cells(Sweep.model_validate(document), request)
    expected = naive_cells(document, request)
    assert len(cells) == len(set(cells)) == len(expected)
    for cell, (values, seed) in zip(cells, expected, strict=True):
        assert cell.seed == seed
        assert (cell.model, cell.dataset, cell.split) == (values["model"], "enzyme", "random")
        for name in OF_CNN:
            own = getattr(cell.hyperparameters, name)
            assert (list(own) if isinstance(own, tuple) else own) == values[name]
    ids = [cell.on({("enzyme", "random"): "f"}).id for cell in cells]
    assert len(set(ids)) == len(ids)


def spelled(draw: st.DrawFn, value: Any) -> str:
    """Write a value as YAML in one of the ways that people do."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(spelled(draw, inner) for inner in value)}]"
    if isinstance(value, int):
        return str(draw(st.sampled_from([str(value), f"+{value}", hex(value)])))
    whole = [str(int(value))] if value == int(value) else []
    ways = [repr(value), f"{value:.17e}", f"{value:.17E}", f"{value:.20f}", f"'{value!r}'", *whole]
    return str(draw(st.sampled_from([way for way in ways if float(way.strip("'")) == value])))


FLOATS = {
    "learning_rate": st.floats(0, 10, exclude_min=True) | st.sampled_from([1.0, 0.001, 0.01]),
    "dropout": st.sampled_from([0.0, -0.0, 0.5]) | st.floats(0, 1, exclude_max=True),
    "batch_norm_momentum": st.sampled_from([0.0, -0.0, 0.9]) | st.floats(0, 1, exclude_max=True),
}


@st.composite
def one_cell(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from([*OF_CNN, *FLOATS]), unique=True, min_size=1, max_size=6))
    return {name: draw(FLOATS[name]) if name in FLOATS else draw(values(name)) for name in names}


@settings(deadline=None)
@given(one_cell(), st.integers(0, 2**32 - 1), st.data())
def test_an_id_names_what_is_computed_however_it_is_written(
    chosen: dict[str, Any], seed: int, data: st.DataObject
) -> None:
    """Order of keys, spelling of numbers, fixed or axis, defaults written out or not: one id."""
    defaults = {name: DEFAULTS[name] for name in (*OF_CNN, *FLOATS) if name not in chosen}
    more = data.draw(st.lists(st.sampled_from(sorted(defaults)), unique=True)) if defaults else []
    written = chosen | {name: defaults[name] for name in more}
    order = data.draw(st.permutations(sorted(written)))
    count = data.draw(st.integers(1, len(order)))
    draw: Any = data.draw
    grid = ", ".join(f"{name}: [{spelled(draw, written[name])}]" for name in order[:count])
    fixed = "".join(f", {name}: {spelled(draw, written[name])}" for name in order[count:])
    text = f"""{{study: s, dataset: enzyme, grid: {{{grid}}}, fixed: {{model: cnn{fixed}}}}}"""
    sweep = Sweep.model_validate(documents.parse(text) | {"seeds": [seed]})
    (cell,) = spec.cells(sweep, Request())
    assert cell.on({("enzyme", "random"): "f" * 64}).id == naive_id(chosen, seed)


def naive_id(chosen: dict[str, Any], seed: int) -> str:
    """The id as the contract words it."""
    plain = {n: value + 0.0 if isinstance(value, float) else value for n, value in chosen.items()}
    differing = {name: value for name, value in plain.items() if value != DEFAULTS[name]}
    identity = {
        "version": 1, "model": "cnn", "hyperparameters": differing, "seed": seed,
        "dataset": "f" * 64,
    }  # fmt: skip
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def test_a_tuple_is_the_list_that_it_lists() -> None:
    """YAML gives lists, Python may give tuples: the same cell."""

    def ids(hidden: Any) -> list[str | None]:
        cells: list[Cell] = spec.cells(
            Sweep(
                study="s",
                dataset="enzyme",
                fixed={"model": "cnn", "hidden": hidden},
                grid={"epochs": 3},
            ),
            Request(),
        )
        return [cell.on({("enzyme", "random"): "f"}).id for cell in cells]

    assert ids([8, 4]) == ids((8, 4)) != ids([4, 8])


LOSSES = st.lists(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf, -math.inf, math.nan]) | st.floats(), max_size=30
)


def stopped_at(name: str, losses: list[float], patience: int) -> int | None:
    rule = stopping.rule(name, patience)
    return next((at for at, loss in enumerate(losses) if rule.stop(loss)), None)


@given(LOSSES, st.integers(1, 6))
def test_the_papers_rule_counts_all_failures_so_far(losses: list[float], failures: int) -> None:
    """At each epoch: how many losses up to here are not below the one before?"""
    before = [math.inf, *losses]
    expected = None
    for epoch in range(len(losses)):
        count = sum(1 for at in range(epoch + 1) if not losses[at] < before[at])
        if count >= failures:
            expected = epoch
            break
    assert stopped_at("paper", losses, failures) == expected


@given(LOSSES, st.integers(1, 6))
def test_patience_counts_failures_since_the_best(losses: list[float], patience: int) -> None:
    """At each epoch: is none of the last so many below all before it, ties and NaN included?"""

    def best(epoch: int) -> bool:
        earlier = [loss for loss in losses[:epoch] if not math.isnan(loss)]
        return losses[epoch] < min(earlier, default=math.inf)

    expected = None
    for epoch in range(patience - 1, len(losses)):
        if not any(best(at) for at in range(epoch - patience + 1, epoch + 1)):
            expected = epoch
            break
    assert stopped_at("patience", losses, patience) == expected


@given(LOSSES)
def test_without_a_rule_nothing_stops(losses: list[float]) -> None:
    """All epochs are trained."""
    assert stopped_at("none", losses, 1) is None


def test_yaml_reads_dates_and_signs_as_the_text_they_are() -> None:
    """A title such as 2001-01-01 is a title."""
    assert documents.parse("[2001-01-01, =, 2001-12-14t21:59:43.10-99:99]") == [
        "2001-01-01", "=", "2001-12-14t21:59:43.10-99:99",
    ]  # fmt: skip
    assert documents.parse(yaml.safe_dump({"a": [1, 0.5, None, True]})) == {
        "a": [1, 0.5, None, True]
    }
