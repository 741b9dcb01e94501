"""The commands that messages advise, with the options that lead to the same state again."""

import shlex
from itertools import pairwise

_WITHOUT_STORAGE = ("data", "predict", "report", "ui")
"""Commands that have no ``--storage``."""
_WITH_MODELS = ("plan", "predict", "studies", "study")
"""Commands that have ``--models``."""
_typed: dict[str, str] = {}
_paths: dict[str, str] = {}
"""Studies that were given by the path of their file, by name."""


def repeat(options: dict[str, str]) -> None:
    """Have every command that is advised from now on repeat these options, such as ``--home``."""
    _typed.clear()
    _paths.clear()
    _typed.update(options)


def with_models(file: str) -> None:
    """Have every command that is advised from now on, and that takes one, name a file of models."""
    _typed["--models"] = file


def by_path(study: str, path: str) -> None:
    """Have every command that is advised from now on name a study by its path, as the user did."""
    _paths[study] = path


def command(*words: str, scale: str = "demo") -> str:
    """Return a command of ecsweep as it can be typed; the demo scale goes without saying."""
    parts = ["ecsweep", *_as_given(words), *(() if scale == "demo" else ("--scale", scale))]
    for option, value in _typed.items():
        lacks = option == "--storage" and words[0] in _WITHOUT_STORAGE
        if not lacks and (option != "--models" or words[0] in _WITH_MODELS):
            parts += [option, value]
    return shlex.join(parts)


def on(action: str, study: str, *more: str) -> str:
    """Return a command on a study, ``name@scale``."""
    name, _, scale = study.partition("@")
    return command(action, name, *more, scale=scale or "demo")


def _as_given(words: tuple[str, ...]) -> list[str]:
    """Return words with paths for the studies that are only known by them."""
    if words[0] == "data":
        return list(words)
    return [words[0]] + [
        _paths.get(word, word) if before == "--study" or not before.startswith("--") else word
        for before, word in pairwise(words)
    ]
