"""Cards: the JSON documents that say what sources and datasets are."""

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from ec_sweep.errors import EcsweepError


def read(path: Path, keys: Set[str], kind: str, cure: str) -> dict[str, Any]:
    """Return a card that has at least these keys.

    Raises:
        EcsweepError: it is none of this kind, or damaged; the message ends with the cure.
    """
    try:
        card: dict[str, Any] = json.loads(path.read_text())
        if missing := sorted(keys - card.keys()):
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, ValueError, AttributeError) as error:
        raise EcsweepError(f"{path}: not the card of a {kind} ({error}). {cure}") from error
    return card


def told(value: object) -> str:
    """Return a value of a card as people read it."""
    if isinstance(value, dict):
        nested = any(isinstance(inner, dict) for inner in value.values())
        form = "{} ({})" if nested else "{}: {}"
        pairs = [form.format(name, told(inner)) for name, inner in value.items()]
        return ("; " if nested else ", ").join(pairs) or "none"
    if isinstance(value, list | tuple):
        many = any(isinstance(inner, dict) for inner in value)
        return ("; " if many else ", ").join(map(told, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
