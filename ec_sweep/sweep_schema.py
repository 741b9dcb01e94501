"""The JSON Schema of sweep files, by which an editor completes and checks them while one types.

Derived from what the loader itself goes by (`ec_sweep.spec`, `ec_sweep.space`,
`ec_sweep.hyperparameters`). It refuses what the loader refuses, but for what compares two values
with each other, such as a filter larger than the sequence: that ``ecsweep plan`` says.
"""

from collections.abc import Iterable
from typing import Any

from ec_sweep import documented, hyperparameters, space, spec
from ec_sweep.cell import METRICS
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS

Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the newest that every editor knows
_NUMBER_AS_TEXT = r"^([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"  # YAML 1.1 reads 1e-2 as text
_ONE_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_NAMES = ("dataset", *space.CHOICES, *hyperparameters.NAMES)
"""What a sweep may fix or vary; models of a user's own file may have more."""


def schema() -> Schema:
    """Return the JSON Schema (draft 7) of sweep files, as JSON holds it."""
    keys: Schema = spec.Sweep.model_json_schema()["properties"]
    axes = _mapping("{}-axis") | {"minProperties": 1}
    keys["title"]["pattern"] = _ONE_LINE
    keys["dataset"] = {"anyOf": [_value("dataset"), {"type": "null"}]}
    keys["split"] = _value("split")
    keys["fixed"] = _mapping("{}")
    each = _mapping("{}-axis-or-list") | {"minProperties": 1}  # one of a list may name a cell
    keys["grid"] = {"anyOf": [axes, {"type": "array", "minItems": 1, "items": each}]}
    keys["seeds"]["uniqueItems"] = True
    keys["scales"] = {
        "type": "object",
        "properties": dict.fromkeys(spec.SCALES, _mapping("{}-scaled")),
        "additionalProperties": False,
    }
    keys["metric"]["enum"] = list(METRICS)
    for key, text in documented.attributes(spec.Sweep).items():
        keys[key]["description"] = text
    return {
        "$schema": _DRAFT,
        "title": "Sweep file of ecsweep",
        "type": "object",
        "properties": keys,
        "required": ["study", "grid"],
        "additionalProperties": False,
        "allOf": [
            {"properties": {"study": {"not": {"pattern": f"^({spec.RESERVED.pattern})$"}}}},
            _rule_of_sampling(keys["sampler"]["enum"]),
            *(_rule_of_direction(metric, direction) for metric, direction in METRICS.items()),
            *(_given(name) for name in ("model", "dataset")),
            *(rule for name in _NAMES for rule in _rules_of(name)),
        ],
        "definitions": _definitions(),
    }


def _mapping(definition: str) -> Schema:
    """Return the schema of a mapping, each name to what is defined for it."""
    of_names = {name: _ref(definition.format(name)) for name in _NAMES}
    return {"type": "object", "properties": of_names, "additionalProperties": False}


def _definitions() -> Schema:
    """Define for each name: a value, an axis, what replaces an axis, and either of these."""
    about = documented.attributes(Hyperparameters)
    found: Schema = {f"one-of-{'-'.join(m)}": _anywhere("model", {"enum": m}) for m in _having()}
    for name in _NAMES:
        described = {"description": about[name]} if name in about else {}
        found[name] = _value(name) | described
        value = _ref(name)
        listed = {"type": "array", "minItems": 1, "items": value}
        is_list = "items" in found[name]
        one_list = {"allOf": [value, {"minItems": 1}]} if is_list else value
        one = {"allOf": [one_list, {"maxItems": 1}]} if is_list else value  # more may be values
        ranges = []
        if (span := _range(name)) is not None:
            found[f"{name}-range"] = span
            ranges = [_ref(f"{name}-range")]
        found[f"{name}-axis"] = {"anyOf": [listed, *ranges, one]} | described
        found[f"{name}-axis-or-list"] = {"anyOf": [listed, *ranges, one_list]} | described
        found[f"{name}-replaced"] = {"anyOf": [listed, *ranges]}
        found[f"{name}-scaled"] = {"anyOf": [value, listed, *ranges]} | described
    return found


def _ref(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def _having() -> list[list[str]]:
    """Return the groups of models that have a hyperparameter which others have not."""
    found = [_models_with(name) for name in hyperparameters.NAMES]
    return [
        list(models) for models in dict.fromkeys(map(tuple, found)) if len(models) < len(MODELS)
    ]


def _models_with(name: str) -> list[str]:
    return [model for model, found in MODELS.items() if name in found.hyperparameters]


def _value(name: str) -> Schema:
    """Return the schema of one value of a name, as the loader takes it."""
    if name == "dataset":
        return {"type": "string", "pattern": f"^{space.NAME_PATTERN}$"}
    if name in space.CHOICES:
        return {"enum": list(MODELS if name == "model" else space.SPLITS)}
    found = hyperparameters.json_schema(name)
    if found.get("type") == "number":
        found = {"anyOf": [found, {"type": "string", "pattern": _NUMBER_AS_TEXT}]}
    default = getattr(Hyperparameters(), name)
    return found | {"default": list(default) if isinstance(default, tuple) else default}


def _range(name: str) -> Schema | None:
    """Return the schema of the range that a sampler draws from, ``None`` where no number is."""
    kind = hyperparameters.number_type(name) if name in hyperparameters.NAMES else None
    if kind is None:
        return None
    value = _value(name)
    ends = [end for end in value.get("anyOf", [value]) if end.get("type") != "null"]
    step: Schema = {"type": "integer" if kind is int else "number", "exclusiveMinimum": 0}
    steps = [step] if kind is int else [step, {"type": "string", "pattern": _NUMBER_AS_TEXT}]
    of_log = {"low": {"not": {"const": 0}}, "step": {"type": "null"}}
    return {
        "type": "object",
        "properties": {
            **{end: {"anyOf": ends} for end in ("low", "high")},
            "log": {"type": "boolean"},
            "step": {"anyOf": [*steps, {"type": "null"}]},
        },
        "required": ["low", "high"],
        "additionalProperties": False,
        "if": {"properties": {"log": {"const": True}}, "required": ["log"]},
        "then": {"properties": of_log},
    }


def _rule_of_sampling(samplers: Iterable[str]) -> Schema:
    """Ask for what a sampler needs, and refuse to a grid what only samplers take."""
    drawn = {"enum": [sampler for sampler in samplers if sampler != "grid"]}
    no_ranges = {"additionalProperties": {"not": {"type": "object"}}}
    one_split = [
        {"properties": {"split": {"anyOf": [{"const": split}, _all(split)]}}}
        for split in space.SPLITS
    ]
    needs = {
        "trials": {"type": "integer"},
        "seeds": {"maxItems": 1},
        "grid": {"maxItems": 1, **_of_each_grid({"anyOf": one_split})},
    }
    lacks = {
        "trials": {"type": "null"},
        "grid": _of_each_grid(no_ranges),
        "scales": {"additionalProperties": no_ranges},
    }
    return {
        "if": _holds("sampler", drawn),
        "then": {"properties": needs, "required": ["trials"]},
        "else": {"properties": lacks},
    }


def _rule_of_direction(metric: str, direction: str) -> Schema:
    """Leave a metric its one direction."""
    default = spec.Sweep.model_fields["metric"].default
    named = {"properties": {"metric": {"const": metric}}}
    return {
        "if": named if metric == default else named | {"required": ["metric"]},
        "then": {"properties": {"direction": {"enum": [direction, None]}}},
    }


def _rules_of(name: str) -> list[Schema]:
    """Say what a name may be under a scale, that it stands once, and that a model has it."""

    def scaled(kind: str) -> Schema:
        each = {"properties": {name: _ref(f"{name}{kind}")}}
        return {"properties": {"scales": {"additionalProperties": each}}}

    rules = [
        {"if": _in_grid(name), "then": scaled("-replaced"), "else": scaled("")},
        {"not": {"allOf": [_in_fixed(name), _in_every_grid(name)]}},
    ]
    models = _models_with(name)
    if name in hyperparameters.NAMES and len(models) < len(MODELS):
        rules.append({"if": _anywhere(name), "then": _ref(f"one-of-{'-'.join(models)}")})
    return rules


def _given(name: str) -> Schema:
    """Ask for a name in every cell: fixed, or varied, or under both scales."""
    places = [_in_fixed(name), _in_every_grid(name)]
    places.append({"allOf": [_holds("scales", _holds(s, _holds(name))) for s in spec.SCALES]})
    if name in spec.Sweep.model_fields:
        places.append(_holds(name, {"type": "string"}))
    return {"anyOf": places}


def _holds(key: str, value: Schema | bool = True) -> Schema:
    return {"properties": {key: value}, "required": [key]}


def _in_fixed(name: str, value: Schema | bool = True) -> Schema:
    return _holds("fixed", _holds(name, value))


def _in_grid(name: str, value: Schema | bool = True) -> Schema:
    """Say that a grid varies a name, over such a value among others."""
    grid = {"type": "object", **_holds(name, _among(value))}
    return _holds("grid", {"anyOf": [grid, {"type": "array", "contains": grid}]})


def _in_every_grid(name: str) -> Schema:
    return _holds("grid", _of_each_grid({"required": [name]}))


def _of_each_grid(rule: Schema) -> Schema:
    """Apply rules of mappings, which say nothing of lists, to a grid or to each of a list."""
    return {**rule, "items": rule}


def _anywhere(name: str, value: Schema | bool = True) -> Schema:
    scaled = [_holds("scales", _holds(s, _holds(name, _among(value)))) for s in spec.SCALES]
    return {"anyOf": [_in_fixed(name, value), _in_grid(name, value), *scaled]}


def _all(value: str) -> Schema:
    return {"type": "array", "items": {"const": value}}


def _among(value: Schema | bool) -> Schema:
    return {"anyOf": [value, {"type": "array", "contains": value}]}
