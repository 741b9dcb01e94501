"""Hyperparameters: what is allowed, and that ids stay frozen."""

from dataclasses import fields

import pytest

from ec_sweep import hyperparameters
from ec_sweep.hyperparameters import FROZEN_DEFAULTS, NAMES, Hyperparameters
from ec_sweep.models import MODELS


def test_every_hyperparameter_has_a_frozen_default() -> None:
    """A new hyperparameter cannot be forgotten in the table that keeps ids stable."""
    assert set(FROZEN_DEFAULTS) == set(NAMES)


def test_defaults_pass_their_own_checks() -> None:
    """Each default is itself an allowed value."""
    for field in fields(Hyperparameters):
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        assert hyperparameters.parse(field.name, value) == field.default


def test_models_declare_known_hyperparameters() -> None:
    """A model cannot declare a name that does not exist."""
    for model in MODELS.values():
        assert model.hyperparameters <= set(NAMES)


@pytest.mark.parametrize("spelling", [0.01, "1e-2", "0.010", "1.0e-2"])
def test_numbers_may_be_spelled_any_way(spelling: object) -> None:
    """YAML 1.1 reads 1e-2 as text; it still is the number."""
    assert hyperparameters.parse("learning_rate", spelling) == 0.01


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("filter_size", "nine", "a whole number from 1 to 1000"),
        ("filter_size", 9.5, "a whole number from 1 to 1000"),
        ("filter_size", True, "a whole number from 1 to 1000"),
        ("filter_size", 0, "a whole number from 1 to 1000"),
        ("learning_rate", 0, "a number above 0 and up to 10"),
        ("learning_rate", True, "a number above 0 and up to 10"),
        ("learning_rate", float("nan"), "a number above 0 and up to 10"),
        ("batch_norm_momentum", 1.0, "a number from 0 and below 1"),
        ("optimizer", "adamw", "one of adam, rmsprop, sgd"),
        ("train_size", "all", "a whole number from 1 to 1000000000 or null"),
        ("hidden", [512, "many"], "a list of at most 16 entries, each a whole number"),
        ("deterministic", "yes", "true or false"),
    ],
)
def test_wrong_values_say_what_is_allowed(name: str, value: object, allowed: str) -> None:
    """The message of a refused value names what would be taken."""
    with pytest.raises(ValueError, match=allowed):
        hyperparameters.parse(name, value)
