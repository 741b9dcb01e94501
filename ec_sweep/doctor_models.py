"""What crashes leave of saved models: half of one, or one too many."""

import functools
from collections.abc import Iterator

from ec_sweep.findings import Finding
from ec_sweep.tracking import Tracker


def superfluous(study: str, tracker: Tracker) -> Iterator[Finding]:
    """Look for models that were being logged, or replaced, when their driver died."""
    models = tracker.models
    for model in models.superfluous():
        yield Finding(
            "model",
            study,
            f"model {model.model_id}",
            "a better one of its dataset is saved"
            if model.ready
            else "it was being saved when its driver died",
            "remove it",
            functools.partial(models.remove, model),
        )
