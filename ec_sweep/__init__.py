"""Hyperparameter sweeps with experiment tracking for neural networks on protein sequences."""

from typing import TYPE_CHECKING, Any

from ec_sweep.errors import EcsweepError, StudyStoppedError

if TYPE_CHECKING:
    from ec_sweep.api import Study

__all__ = ["EcsweepError", "Study", "StudyStoppedError"]
__version__ = "0.1.0"
"""Which ecsweep this is."""


def __getattr__(name: str) -> Any:
    """Import what is large when it is asked for: commands and workers need it not."""
    if name == "Study":
        from ec_sweep.api import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
