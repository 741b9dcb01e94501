"""What a shell completes: studies, hyperparameters, datasets. Only names are read, to be quick."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ec_sweep.paths import Home, packed

_NAME = re.compile(r"^study:\s*['\"]?([a-z0-9-]+)", re.MULTILINE)
_TITLE = re.compile(r"^title:\s*(.*)$", re.MULTILINE)


def studies(begun: str) -> Iterator[tuple[str, str]]:
    """Yield the studies whose names begin so, with their titles; paths are the shell's own."""
    if "=" in os.environ.get("COMP_WORDS", "").split("\n")[-2:]:
        return  # bash breaks KEY=VALUE up: what stands behind the = is no study
    seen = set()
    for folder in (Path("sweeps"), packed("sweeps")):
        for path in sorted(folder.glob("*.yaml")):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):  # asking for it will say what is wrong
                continue
            found, title = _NAME.search(text), _TITLE.search(text)
            name = found[1] if found else path.stem
            if name.startswith(begun) and name not in seen:
                seen.add(name)
                yield name, title[1].strip("'\" ") if title else ""


def settings(begun: str) -> Iterator[str]:
    """Yield what ``--set`` takes: keys, and the values of those that have few."""
    from typing import Literal, get_args, get_origin, get_type_hints

    from ec_sweep import space
    from ec_sweep.hyperparameters import Hyperparameters
    from ec_sweep.models import MODELS

    key, is_given, value = begun.partition("=")
    if not is_given:
        yield from (f"{name}=" for name in space.names() if name.startswith(key))
        return
    kind = get_type_hints(Hyperparameters).get(key)
    few = {"model": tuple(MODELS), "split": space.SPLITS}
    listed = few.get(key, get_args(kind) if get_origin(kind) is Literal else ())
    listed = ("true", "false") if kind is bool else listed
    yield from (f"{key}={one}" for one in listed if one.startswith(value))


def datasets(begun: str, home: Path) -> Iterator[str]:
    """Yield the datasets and the home's sources whose names begin so."""
    from ec_sweep import datasets as built

    names = [
        *built.names(Home(home)),
        *(card.parent.name for card in Home(home).sources.glob("*/source.json")),
    ]
    yield from sorted(name for name in names if name.startswith(begun))
