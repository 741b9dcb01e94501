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
