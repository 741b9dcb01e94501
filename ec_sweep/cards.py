"""Cards: the JSON documents that say what sources and datasets are."""

import json
from collections.abc import Container, Set
from pathlib import Path
from typing import Any

from ec_sweep.errors import EcsweepError

_OF_EC_NUMBERS = ("transfers", "migrations", "label_cases")
"""Keys of what became of EC numbers, by which classes of the user's own do not go."""


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


def shown(card: dict[str, Any], recipes: Container[str]) -> dict[str, Any]:
    """Return what is printed of a card, by its key.

    Labels that were joined to their sequences are told from what was dropped.
    Of classes of the user's own, whose dataset is none of ``recipes``, nothing
    is printed that is empty, or is about EC numbers.
    """
    joined = card.get("dropped", {}).get("label_joined", 0)
    is_own = "classes" in card and card.get("name") not in recipes
    found: dict[str, Any] = {}
    for key, value in card.items():
        if key == "records_kept" and joined:
            several = f"{joined:,} labels to their sequences"
            found["joined"] = several if joined > 1 else "1 label to its sequence"
        found[key] = value
    if joined:
        found["dropped"] = {k: n for k, n in card["dropped"].items() if k != "label_joined"}
    if is_own:
        unsaid = {*_OF_EC_NUMBERS, *(() if card.get("drawing") else ("samples",))}
        return {k: v for k, v in found.items() if k not in unsaid and not _is_empty(v)}
    moved = any(card.get("migrations", {}).values())
    if "label" in card.get("columns", ()) and not moved:  # a source of such classes
        return {k: v for k, v in found.items() if k not in _OF_EC_NUMBERS and not _is_empty(v)}
    return found


def _is_empty(value: object) -> bool:
    return value is None or value is False or value in ({}, [])


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
