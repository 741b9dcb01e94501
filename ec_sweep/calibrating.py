"""How many workers share a GPU: more while that makes the whole faster.

Measurements come in, decisions go out; nothing here knows devices or processes.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import chain

GAIN = 1.1
"""More workers on a card must train so many times as fast as fewer, all together, to stay."""
EPOCHS = 3
"""Epochs that are measured before a decision."""
_PATIENCE = 4
"""So many times as many epochs are enough where none is of a kind measured before."""
_FULL = 0.9
"""Share of an epoch in which all workers of a card must have trained for it to count."""


class Company:
    """How many trials train on a card, summed over time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._count, self._sum, self._at = 0, 0.0, clock()

    def change(self, by: int) -> None:
        """Count a trial that begins or ends."""
        self.mark()
        self._count += by

    def mark(self) -> tuple[float, float]:
        """Return a point in time to measure from."""
        now = self._clock()
        self._sum += self._count * (now - self._at)
        self._at = now
        return now, self._sum

    def since(self, mark: tuple[float, float]) -> float:
        """Return how many trials trained on average since a mark."""
        now, total = self.mark()
        return (total - mark[1]) / max(now - mark[0], 1e-9)


class Calibration:
    """Begins with one worker a card and doubles them while that pays and memory holds.

    Cells differ in what an epoch costs, so throughputs are compared kind by kind.
    """

    def __init__(self, most: int) -> None:
        """Never put more than ``most`` workers on a card."""
        self.share = 1
        self.settled = most <= 1
        self._most = most
        self._before: int | None = None
        self._measured: defaultdict[int, defaultdict[Hashable, list[float]]]
        self._measured = defaultdict(lambda: defaultdict(list))

    def epoch(self, kind: Hashable, seconds: float, company: float) -> None:
        """Take in what an epoch took while on average ``company`` trials trained on its card."""
        # One of which the card was shared by fewer says nothing of this many.
        if not self.settled and company >= _FULL * self.share and seconds > 0:
            self._measured[self.share][kind].append(company / seconds)

    def decide(self, room: Callable[[], int]) -> str | None:
        """Change the share, or settle it, when enough is measured; returns what to say of it.

        ``room`` says how many workers the cards' memory holds.
        """
        if self.settled or self._count(self.share) < EPOCHS:
            return None
        because = ""
        if self._before is not None:
            gain = self._gain(self._before)
            if gain is None:
                return None
            because = f"{self.share} train {gain:.2f} times as fast as {self._before}"
            if gain < GAIN:
                self.share = self._before
                return self._settle(because)
        wider = min(2 * self.share, self._most)
        if wider > self.share and (held := room()) < wider:
            wider = held
            because += f"{'; ' if because else ''}memory holds {max(held, self.share)}"
        if wider <= self.share:
            return self._settle(because)
        self._before, self.share = self.share, wider
        return f"GPU sharing: {f'{because}; ' if because else ''}trying {wider} workers a card."

    def give_way(self) -> str | None:
        """Settle for half as many workers because one ran out of memory; returns what to say."""
        if self.share == 1:
            return None
        self.share //= 2
        return self._settle("more ran out of memory")

    def _settle(self, because: str) -> str:
        self.settled = True
        workers = "1 worker" if self.share == 1 else f"{self.share} workers"
        return f"GPU sharing: settled at {workers} a card{f': {because}' if because else ''}."

    def _count(self, share: int) -> int:
        return sum(len(found) for found in self._measured[share].values())

    def _gain(self, before: int) -> float | None:
        """Return the throughput over that of ``before`` workers, ``None`` while too few know."""
        old, new = self._measured[before], self._measured[self.share]
        common = old.keys() & new.keys()
        known = sum(len(new[kind]) for kind in common)
        if known < EPOCHS and self._count(self.share) < _PATIENCE * EPOCHS:
            return None
        if common:
            median = statistics.median
            return median(median(new[kind]) / median(old[kind]) for kind in common)
        pooled = [statistics.median(chain.from_iterable(found.values())) for found in (old, new)]
        return pooled[1] / pooled[0]
