"""The commands that messages advise, with the options that lead to the same state again."""

import shlex

_WITHOUT_STORAGE = ("data", "predict", "report", "ui")
"""Commands that have no ``--storage``."""
_typed: dict[str, str] = {}


def repeat(options: dict[str, str]) -> None:
    """Have every command that is advised from now on repeat these options, such as ``--home``."""
    _typed.clear()
    _typed.update(options)


def command(*words: str, scale: str = "demo") -> str:
    """Return a command of ecsweep as it can be typed; the demo scale goes without saying."""
    parts = ["ecsweep", *words, *(() if scale == "demo" else ("--scale", scale))]
    for option, value in _typed.items():
        if option != "--storage" or words[0] not in _WITHOUT_STORAGE:
            parts += [option, value]
    return shlex.join(parts)


def on(action: str, study: str, *more: str) -> str:
    """Return a command on a study, ``name@scale``."""
    name, _, scale = study.partition("@")
    return command(action, name, *more, scale=scale or "demo")
