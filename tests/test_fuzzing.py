"""Sweep files and --set values that nobody means well with: a sweep, or one clear line."""

import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ec_sweep import spec
from ec_sweep.errors import EcsweepError
from ec_sweep.hyperparameters import NAMES
from ec_sweep.paths import packed
from ec_sweep.spec import Request, Sweep
from tests.test_spec import BASE

PACKED = [path.read_text() for path in sorted(packed("sweeps").glob("*.yaml"))]
WORDS = st.sampled_from([
    *Sweep.model_fields, *NAMES, "model", "demo", "paper", "cnn", "lstm", "enzyme", "grid", "<<",
    "!!python/object/apply:os.system", "!!binary", "!!set", "!!omap", "!!int", "!!timestamp", "!",
    "&a", "*a", "%YAML 9.9", "---", "...", "-", "?", ":", "[", "]", "{", "}", ",", "|", ">", "#",
    "'", '"', "~", "null", "yes", "=", ".nan", "-.inf", "1e400", "0x_", "0b1", "1:59:59.5",
    "9" * 99, "9" * 5000, "0x" + "f" * 5000, "2001-01-01", "2001-99-99", '"\\U00110000"',
    '"\\ud800"', "\\", "\t", "\0", "\x1b[31m", "\u2028", "\u202e", "\ufeff", "\U0001f9ec",
    "../../etc/passwd", "$(rm)",
])  # fmt: skip
SPACES = st.sampled_from(["", " ", "\n", "\n  ", "\n    ", ": ", ", "])
SOUP = st.lists(st.tuples(WORDS, SPACES), max_size=25).map(
    lambda parts: "".join(word + space for word, space in parts)
)
"""Texts of what YAML and sweep files are made of, in no order."""
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1, 9)
    | st.floats()
    | st.dates()
    | st.binary(max_size=5)
    | st.text(max_size=9)
    | WORDS
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            WORDS | st.integers() | st.none() | st.text(max_size=5), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Sweep files that come with ecsweep, with pieces cut out, doubled and put in."""
    text = draw(st.sampled_from(PACKED))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = start + draw(st.integers(0, 12))
        middle = draw(st.sampled_from(["", text[start:end] * 2]) | WORDS | st.characters())
        text = text[:start] + middle + text[end:]
    return text


@st.composite
def structures(draw: st.DrawFn) -> str:
    """Documents with the keys of a sweep file and any values under them."""
    keys = st.sampled_from([*Sweep.model_fields])
    document = {**BASE, **draw(st.dictionaries(keys, VALUES, max_size=3))}
    if draw(st.booleans()):
        inner = draw(st.sampled_from(["fixed", "grid", "scales"]))
        document[inner] = draw(st.dictionaries(st.sampled_from(NAMES) | WORDS, VALUES, max_size=3))
    return yaml.dump(document, allow_unicode=draw(st.booleans()))


def check_load(path: Path, content: bytes) -> None:
    """Load a file; it is a sweep or one printable line that names the file, and soon."""
    path.write_bytes(content)
    start = time.monotonic()
    try:
        assert isinstance(spec.load(path), Sweep)
    except EcsweepError as error:
        assert str(error).startswith(f"{path}: ")
        assert str(error).isprintable()
        assert len(str(error)) < 1000
    assert time.monotonic() - start < 10


def check_override(text: str) -> None:
    """Take a --set text; its cells, or one printable line."""
    try:
        pair = spec.parse_override(text)
        spec.cells(Sweep.model_validate(BASE), Request(overrides=(pair,)))
    except EcsweepError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "fuzz.yaml"


@settings(deadline=None, max_examples=150)
@given(text=SOUP | damaged() | structures() | st.text())
def test_any_text_is_a_sweep_or_one_clear_line(path: Path, text: str) -> None:
    """Soups of YAML, damaged real files and wild values: never a traceback."""
    check_load(path, text.encode(errors="surrogatepass"))


@settings(deadline=None, max_examples=50)
@given(content=st.binary() | st.tuples(damaged(), st.binary(max_size=4)).map(
    lambda pair: pair[0].encode() + pair[1]
))  # fmt: skip
def test_any_bytes_are_a_sweep_or_one_clear_line(path: Path, content: bytes) -> None:
    """Files that are no text at all."""
    check_load(path, content)


@settings(deadline=None, max_examples=150)
@given(
    name=st.sampled_from(["dataset", "model", "split", *NAMES]),
    value=SOUP | st.text() | VALUES.map(lambda value: json.dumps(value, default=str)),
)
def test_any_override_is_taken_or_one_clear_line(name: str, value: str) -> None:
    """--set with anything behind a known key."""
    check_override(f"{name}={value}")


@settings(deadline=None, max_examples=50)
@given(text=st.text() | SOUP)
def test_any_text_behind_set_is_taken_or_one_clear_line(text: str) -> None:
    """--set with anything at all."""
    check_override(text)


KEYS = [f"k{number}: 1" for number in range(15_000)]
HEAD = "study: s\ndataset: enzyme\nfixed: {model: cnn}\n"
GRID = f"{HEAD}grid: {{filter_size: [2, 3]}}\n"
SIZES = ", ".join(map(str, range(1, 1001)))
BOMBS = {
    "digits": f"{GRID}table: {'9' * 5000}",
    "hexadecimal digits": f"{GRID}seeds: [0x{'f' * 100_000}]",
    "minutes and seconds": f"{GRID}seeds: [1{':59' * 60_000}]",
    "keys": "\n".join(["study: s", *KEYS]),
    "keys of a scale": f"{GRID}scales: {{demo: {{{', '.join(KEYS)}}}}}",
    "lists in lists": f"study: {'[' * 100_000}",
    "mappings in mappings": "{" * 100_000,
    "keys in keys": "? " * 100_000,
    "sequences in sequences": "- " * 100_000,
    "aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "tags": "!" * 200_000,
    "a million cells": f"{HEAD}grid: {{filter_size: [{SIZES}], filters: [{SIZES}]}}",
    "cells times seeds": f"{HEAD}grid: {{filters: [{SIZES}]}}\nseeds: [{SIZES}]",
    "a million seeds": f"{GRID}seeds: [{', '.join(map(str, range(1_000_000)))}]",
    "a long key": f"study: s\n? {'x' * 100_000}\n: 1",
    "a long value": f"{HEAD}grid: {{filter_size: [{'x' * 100_000}]}}",
    "megabytes": "#" * 100_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_do_not_go_off(path: Path, bomb: str) -> None:
    """What would take hours or gigabytes is refused in seconds."""
    check_load(path, BOMBS[bomb].encode())
    with pytest.raises(EcsweepError):
        spec.load(path)
    check_override(f"filter_size={BOMBS[bomb][:100_000]}")
