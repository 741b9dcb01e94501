"""Early stopping rules on the validation loss."""

import math
from dataclasses import dataclass, field
from typing import Protocol


class StoppingRule(Protocol):
    """Told the validation loss of each epoch in turn, says when to stop."""

    def stop(self, loss: float) -> bool:
        """Take the loss of the epoch just ended; True ends training."""
        ...


@dataclass
class PaperRule:
    """Stop at the fifth epoch in total that is no better than the one just before it.

    The count never goes back (paper 3.4), unlike `PatienceRule`'s.
    """

    failures: int = 5
    _previous: float = field(default=math.inf, init=False)
    _count: int = field(default=0, init=False)

    def stop(self, loss: float) -> bool:
        """See `StoppingRule`."""
        self._count += not loss < self._previous
        self._previous = loss
        return self._count >= self.failures


@dataclass
class PatienceRule:
    """Stop after so many epochs in a row that are no better than the best so far (as Keras)."""

    patience: int = 5
    _best: float = field(default=math.inf, init=False)
    _count: int = field(default=0, init=False)

    def stop(self, loss: float) -> bool:
        """See `StoppingRule`."""
        if loss < self._best:
            self._best, self._count = loss, 0
        else:
            self._count += 1
        return self._count >= self.patience


class NoRule:
    """Train all epochs."""

    def stop(self, loss: float) -> bool:  # noqa: ARG002 - the protocol's argument
        """See `StoppingRule`."""
        return False


def rule(name: str, patience: int) -> StoppingRule:
    """Return the rule of hyperparameter ``early_stopping``."""
    if name == "paper":
        return PaperRule(patience)
    return PatienceRule(patience) if name == "patience" else NoRule()
