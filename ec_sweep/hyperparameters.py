"""Every hyperparameter: its type, range, default and meaning.

Values that the paper leaves open are here too, with the choice that stands in
``docs/fidelity.md``. A model declares which of them it uses (`ec_sweep.models`).
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError


def _whole(low: int, high: int) -> Any:
    return Field(strict=True, ge=low, le=high)


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError
    return value


# Numbers may be strings, as YAML 1.1 reads 1e-2, but not booleans, which are ints in Python.
_NO_BOOL = BeforeValidator(_no_bool)


@dataclass(frozen=True)
class Hyperparameters:
    """The values that decide what a cell computes; all defaults are the paper's scale."""

    # What the network sees
    length: Annotated[int, _whole(1, 100_000)] = 1000
    """Residues read of each sequence; longer ones are cut, shorter ones padded (paper 3.2)."""
    train_size: Annotated[int, _whole(1, 1_000_000_000)] | None = None
    """Training sequences used; validation and test shrink in proportion. null: all."""

    # Training (paper 3.4, 3.5)
    batch_size: Annotated[int, _whole(1, 65_536)] = 32
    """Sequences per step."""
    epochs: Annotated[int, _whole(1, 100_000)] = 30
    """Epochs at most."""
    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Optimizer, with Keras' defaults beside the learning rate."""
    learning_rate: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False), _NO_BOOL] = 0.001
    """Step size of the optimizer."""
    early_stopping: Literal["paper", "patience", "none"] = "paper"
    """paper: each epoch against the one before, cumulative; patience: against the best."""
    patience: Annotated[int, _whole(1, 100_000)] = 5
    """Epochs without improvement that stop training, under either rule."""
    deterministic: Annotated[bool, Field(strict=True)] = False
    """The same metrics to the last digit on the same machine, at the price of speed."""

    # Convolution (paper 3.3)
    filters: Annotated[int, _whole(1, 65_536)] = 128
    """Filters of the convolution."""
    filter_size: Annotated[int, _whole(1, 1_000)] = 9
    """Residues that one filter sees."""
    filter_sizes: Annotated[
        tuple[Annotated[int, _whole(1, 1_000)], ...], Field(min_length=1, max_length=16)
    ] = (3, 4, 5)
    """Filter size of each branch of a complex CNN, ``filters`` filters a branch (paper 3.3)."""
    conv_padding: Literal["same", "valid"] = "same"
    """same: as many positions after the convolution as before it."""
    activation: Literal["relu", "elu", "gelu", "tanh"] = "relu"
    """Activation of the convolution and the hidden dense layers."""
    batch_norm_momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _NO_BOOL] = 0.9
    """Share of the old moving average kept at each step of batch normalisation."""
    pool_size: Annotated[int, _whole(1, 1_000)] = 2
    """Positions that max pooling joins."""

    # Recurrence (paper 3.3)
    units: Annotated[int, _whole(1, 65_536)] = 50
    """Units of each recurrent layer."""
    depth: Annotated[int, _whole(1, 64)] = 2
    """Recurrent layers on top of each other."""
    last_state: Literal["residue", "end"] = "residue"
    """residue: the state after the last residue enters the head; end: after the padding too."""

    # Head (paper 3.3)
    hidden: Annotated[tuple[Annotated[int, _whole(1, 65_536)], ...], Field(max_length=16)] = (
        512,
        512,
    )
    """Units of the dense layers before the output."""
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), _NO_BOOL] = 0.0
    """Share of units dropped after each hidden dense layer."""
    initializer: Literal["glorot_uniform", "he_normal", "he_uniform"] = "glorot_uniform"
    """Initial weights of convolution and dense layers."""

    # Baselines, which are not in the paper
    inverse_regularization: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False), _NO_BOOL] = (
        1.0
    )
    """scikit-learn's ``C`` of the logistic regression: smaller is smoother."""
    kmer: Annotated[int, _whole(1, 6)] = 3
    """Residues of the words whose counts make a protein's profile."""
    neighbors: Annotated[int, _whole(1, 10_000)] = 1
    """Nearest training proteins that vote."""


NAMES = tuple(field.name for field in fields(Hyperparameters))


@dataclass(frozen=True)
class OwnHyperparameters(Hyperparameters):
    """The values of a model that has hyperparameters of its own beside these."""

    own: tuple[tuple[str, Any], ...] = ()
    """Name and value of each, by name."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):  # copies and pickles look for such before there is anything
            for known, value in self.own:
                if known == name:
                    return value
        raise AttributeError(f"no hyperparameter is named {name!r}")


FROZEN_DEFAULTS: dict[str, Any] = {
    "length": 1000, "train_size": None,
    "batch_size": 32, "epochs": 30, "optimizer": "adam", "learning_rate": 0.001,
    "early_stopping": "paper", "patience": 5, "deterministic": False,
    "filters": 128, "filter_size": 9, "conv_padding": "same", "activation": "relu",
    "batch_norm_momentum": 0.9, "pool_size": 2,
    "hidden": (512, 512), "dropout": 0.0, "initializer": "glorot_uniform",
    "filter_sizes": (3, 4, 5), "units": 50, "depth": 2, "last_state": "residue",
    "inverse_regularization": 1.0, "kmer": 3, "neighbors": 1,
}  # fmt: skip
"""The value under which a hyperparameter is left out of a cell's id.

Never edit an entry: every id made so far depends on it. A new hyperparameter
gets the value that keeps the old behaviour.
"""


_own: dict[str, TypeAdapter[Any]] = {}
"""The types of those that the models of the user's own file have beside these."""
_LARGEST, _LONGEST_TEXT, _MOST = 1_000_000_000, 100, 16
_OWN_TYPES: dict[type, Any] = {
    bool: Annotated[bool, Field(strict=True)],
    int: Annotated[int, _whole(-_LARGEST, _LARGEST)],
    float: Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False), _NO_BOOL],
    str: Annotated[str, Field(strict=True, max_length=_LONGEST_TEXT)],
}


def names() -> tuple[str, ...]:
    """Return the names of all: these, and those of the models of the user's own file."""
    return (*NAMES, *_own)


def know_own(defaults: Mapping[str, Any]) -> None:
    """Know these of the user's own file from now on, and none known so before.

    A default says what is allowed: values of its type; of a list, lists of its entries' type.
    """
    _own.clear()
    _own.update({name: TypeAdapter(own_type(default)) for name, default in defaults.items()})


def own_value(default: object) -> Any:
    """Return a default as hyperparameters hold it: a list as a tuple.

    Raises:
        ValueError: with what is allowed, when it is not.
    """
    try:
        return TypeAdapter(own_type(default)).validate_python(default)
    except ValidationError:
        raise ValueError(_allowed(TypeAdapter(own_type(default)).json_schema())) from None


def own_type(default: object) -> Any:
    """Return the type that a default stands for.

    Raises:
        ValueError: with what is allowed, when it stands for none.
    """
    if isinstance(default, list | tuple):
        kinds = {type(entry) for entry in default}
        kind = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else None
        if kind in _OWN_TYPES and len(default) <= _MOST:
            several: Any = tuple[_OWN_TYPES[kind], ...]  # type: ignore[valid-type] # made here
            return Annotated[several, Field(min_length=1, max_length=_MOST)]
    elif type(default) in _OWN_TYPES:
        return _OWN_TYPES[type(default)]
    raise ValueError("a number, text, true or false, or a list of up to 16 of one of them")


def parse(name: str, value: object) -> Any:
    """Return ``value`` as hyperparameter ``name`` holds it.

    Raises:
        ValueError: with what is allowed, when ``value`` is not.
    """
    try:
        found = _adapter(name).validate_python(value)
    except ValidationError:
        raise ValueError(allowed(name)) from None
    return found + 0.0 if isinstance(found, float) else found  # -0.0 is 0.0, in ids too


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of what hyperparameter ``name`` holds."""
    return _adapter(name).json_schema()


def allowed(name: str) -> str:
    """Say in words what hyperparameter ``name`` may be."""
    return _allowed(json_schema(name))


def is_list(name: str) -> bool:
    """Say whether hyperparameter ``name`` holds a list, such as the units of the hidden layers."""
    return json_schema(name).get("type") == "array"


def number_type(name: str) -> type[int] | type[float] | None:
    """Return the type of the numbers that ``name`` holds, ``None`` when it holds something else."""
    whole = json_schema(name)
    kinds = {option.get("type") for option in whole.get("anyOf", [whole])}
    return int if "integer" in kinds else float if "number" in kinds else None


def to_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values as JSON holds them: tuples become lists."""
    document: dict[str, Any] = json.loads(json.dumps(values))
    return document


def in_text(value: object) -> str:
    """Return a value of `to_json` as MLflow keeps it and YAML reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def _adapter(name: str) -> TypeAdapter[Any]:
    return _own[name] if name in _own else _built_in(name)


@functools.cache
def _built_in(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(Hyperparameters, include_extras=True)[name])


def _allowed(schema: dict[str, Any]) -> str:
    """Say in words what a JSON schema admits."""
    if "anyOf" in schema:
        return " or ".join(_allowed(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    kind = schema.get("type")
    if kind == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    if kind == "number":
        low = f"above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else (
            f"from {schema['minimum']:g}"
        )  # fmt: skip
        high = f"below {schema['exclusiveMaximum']:g}" if "exclusiveMaximum" in schema else (
            f"up to {schema['maximum']:g}"
        )  # fmt: skip
        return f"a number {low} and {high}"
    if kind == "string":
        return f"text of up to {schema['maxLength']} characters"
    if kind == "array":
        count = f"{schema['minItems']} to" if schema.get("minItems") else "at most"
        return f"a list of {count} {schema['maxItems']} entries, each {_allowed(schema['items'])}"
    return {"boolean": "true or false", "null": "null"}[str(kind)]
