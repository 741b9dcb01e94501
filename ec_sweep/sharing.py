"""How many workers run side by side, with which threads, on which card, in how much memory.

What the user asked for holds; the rest comes from what workers have been measured
to need. Nothing here knows processes: measurements come in, decisions go out.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ec_sweep import hints
from ec_sweep.attempts import Event, Task
from ec_sweep.calibrating import Calibration, Company
from ec_sweep.errors import EcsweepError
from ec_sweep.machine import Card, available_memory, cards, usable_cores, visible_gpus
from ec_sweep.models import kind

UNMEASURED = 2_500_000_000
"""Bytes that a worker is reckoned to need before any has been measured."""
_MARGIN = 1.1
"""A worker is reckoned to need so many times the most that one was measured to hold."""
RECYCLE_AT = 2.0
"""A worker ends when between trials it holds so many times what a fresh worker's trial needed."""
_MOST_ON_CARD = 16
GPU_THREADS = 4
"""Threads at most of a worker on a GPU, which computes on the card."""
_CARD_SHARE = 0.9
"""Share of a card's free memory that is divided: the rest is CUDA's own, of every process."""


@dataclass(frozen=True)
class Asked:
    """What the user asked for; ``None`` is decided from measurements."""

    workers: int | None = None
    threads: int | None = None
    gpu_share: int | None = None

    def check(self, gpus: Sequence[str]) -> None:
        """Raise an error when this machine's GPUs cannot give what was asked for."""
        if self.gpu_share is None:
            return
        if not gpus:
            raise EcsweepError(
                f"--gpu-share {self.gpu_share} needs a GPU, and none can be used here. "
                f"Leave it out, or see: {hints.command('doctor')}"
            )
        most = self.gpu_share * len(gpus)
        if self.workers is not None and self.workers > most:
            raise EcsweepError(
                f"--workers must be at most {most}, --gpu-share times the GPUs (here "
                f"{len(gpus)}). Received: {self.workers}."
            )


@dataclass(frozen=True)
class Layout:
    """The frame in which workers are shared out."""

    most: int
    """Workers at most."""
    threads: int
    """Threads of each."""
    gpus: tuple[str, ...] = ()
    on_card: int = 1
    """Workers on a card at most."""
    calibrated: bool = False
    """Whether a card begins with one worker, and gets more while that pays."""
    fixed: bool = False
    """Whether the number was asked for, or is one: free memory is not asked then."""
    card_share: float | None = None
    """The part of a card's whole memory that a worker may take, where others share out cards."""


def layout(
    asked: Asked, cores: int, gpus: Sequence[str], cells: int, *, exclusive: bool = False
) -> Layout:
    """Return the frame for so many cells; ``exclusive`` trials have the machine to themselves."""
    if exclusive:
        return Layout(1, asked.threads or cores, tuple(gpus[:1]), fixed=True)
    fixed = asked.workers is not None
    if not gpus:  # single-threaded workers do more together than one with many threads
        workers = asked.workers or max(1, cores // (asked.threads or 1))
        threads = asked.threads or max(1, cores // workers)
        return Layout(max(1, min(workers, cells)), threads, fixed=fixed)
    on_card = asked.gpu_share or math.ceil((asked.workers or 0) / len(gpus))
    calibrated = not on_card
    if calibrated:
        on_card = max(1, min(_MOST_ON_CARD, cores // len(gpus), math.ceil(cells / len(gpus))))
    workers = asked.workers or on_card * len(gpus)
    threads = max(1, cores // (len(gpus) if calibrated else workers))
    return Layout(
        max(1, min(workers, cells)),
        asked.threads or min(threads, GPU_THREADS),
        tuple(gpus),
        on_card,
        calibrated and on_card > 1,
        fixed,
    )


@dataclass(frozen=True)
class Seat:
    """What a worker is born with."""

    threads: int
    gpu: str | None = None
    share: int = 1
    """Workers between which the card's memory is divided."""
    memory: int | None = None
    """Bytes of the card that it may take; ``None``: what it needs."""
    fraction: float | None = None
    """The same as a share of all that the card has."""

    def environment(self) -> dict[str, str]:
        """Return the variables that must stand before the backend is imported.

        Those of CUDA MPS stay as they are: a worker is its client where it runs.
        """
        if self.gpu is None:
            return {"PJRT_NPROC": str(self.threads)}  # JAX takes every core otherwise
        found = {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts
            "CUDA_VISIBLE_DEVICES": self.gpu,
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # up to the limit, which alone would be taken
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        if self.fraction is not None:
            found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{self.fraction:.4f}"
        return found


def fitting(available: int, held: Sequence[int], need: int) -> int:
    """Return how many workers memory holds, of which some hold ``held`` bytes each already."""
    return (available + sum(min(own, need) for own in held)) // need


class Sharing:
    """Decides how many workers run side by side, and what each may take."""

    def __init__(
        self,
        frame: Layout,
        available: Callable[[], int],
        cards: Callable[[Sequence[str]], Sequence[Card | None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask ``available`` for the free bytes of the machine and ``cards`` for those of GPUs."""
        self._frame = frame
        self._available, self._cards = available, cards
        self._before = cards(frame.gpus) if frame.on_card > 1 or frame.card_share else ()
        self._calibration = Calibration(frame.on_card if frame.calibrated else 1)
        self._company = [Company(clock) for _ in frame.gpus]
        self._fresh = self._largest = 0
        self.slots = 1
        """Workers that may be at a trial now."""
        self.said: list[str] = []
        """Lines about decisions, for the user; who shows them empties it."""
        self.review([])

    @property
    def most(self) -> int:
        """Workers that there may ever be."""
        return self._frame.most

    @property
    def company(self) -> int:
        """Trials side by side that one begun now is recorded with: it may get company later."""
        return self.slots if self.most == 1 else max(2, self.slots)

    @property
    def share(self) -> int:
        """Workers that a card is divided between now."""
        return self._calibration.share if self._frame.calibrated else self._frame.on_card

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return self._frame.threads

    def card(self, slot: int) -> int:
        """Return the number of the card of a slot: slots go around them."""
        return slot % max(1, len(self._frame.gpus))

    def seat(self, slot: int, *, alone: bool = False) -> Seat:
        """Return what the next worker of a slot is born with; ``alone`` it has a whole card."""
        if not self._frame.gpus:
            return Seat(self.threads)
        number, share = self.card(slot), 1 if alone else self.share
        seat = Seat(self.threads, self._frame.gpus[number], share)
        given = self._frame.card_share
        card = self._before[number] if (share > 1 or given) and self._before else None
        if card is None:
            return seat
        memory = int(_CARD_SHARE * (card.total * given if given else card.free / share))
        return replace(seat, memory=memory, fraction=memory / card.total)

    def too_wide(self, seat: Seat) -> bool:
        """Whether a worker may take more of its card than its share, now that this is settled."""
        settled = self._calibration.settled or not self._frame.calibrated
        return seat.gpu is not None and settled and seat.share < self.share

    def measured(self, held: int, *, fresh: bool = False) -> None:
        """Take in the most that a worker held in a trial, its first one if ``fresh``."""
        self._largest = max(self._largest, held)
        self._fresh = max(self._fresh, held if fresh else 0)

    def grown(self, held: int) -> bool:
        """Whether a worker that holds so much between trials is to make room for a new one."""
        return bool(self._fresh) and held > RECYCLE_AT * self._fresh

    def review(self, held: Sequence[int]) -> None:
        """Reckon anew how many workers may run, of which the living hold so many bytes each."""
        wanted = self._frame.most
        if self._frame.calibrated:
            wanted = min(wanted, self.share * len(self._frame.gpus))
        # The first trials tell what is needed; a large one does so before it has ended.
        need = int(_MARGIN * self._largest) if self._fresh else max(UNMEASURED, self._largest)
        fit = wanted if self._frame.fixed else fitting(self._available(), held, need)
        before, self.slots = self.slots, max(1, min(wanted, fit))
        if self.slots < wanted and self.slots != before:
            self.said.append(
                f"Memory holds {self.slots} of {wanted} workers: "
                f"one is reckoned to need {need / 1e9:.1f} GB."
            )

    def trains(self, slot: int, by: int) -> None:
        """Count a trial that begins to train on its card, or ends."""
        if self._company:
            self._company[self.card(slot)].change(by)

    def mark(self, slot: int) -> tuple[float, float]:
        """Return a point in time from which an epoch is measured."""
        return self._company[self.card(slot)].mark() if self._company else (0.0, 0.0)

    def epoch(self, slot: int, task: Task, event: Event, since: tuple[float, float]) -> None:
        """Learn from an epoch whether another number of workers on a card would be better."""
        if self._calibration.settled:
            return
        company = self._company[self.card(slot)].since(since)
        hp = task.hyperparameters  # one network on as many sequences takes equally long
        alike = kind(task.model, hp), hp.batch_size, task.sizes["train"]
        self._calibration.epoch(alike, event.metrics.get("epoch_seconds", 0.0), company)
        self._say(self._calibration.decide(self._room))

    def out_of_memory(self) -> None:
        """Learn that a card did not hold what its workers needed."""
        if self._frame.calibrated:
            self._say(self._calibration.give_way())

    def _room(self) -> int:
        """Return how many workers the memory of every card holds, by what those there took."""
        share, most = self.share, self._frame.on_card
        for before, now in zip(self._before, self._cards(self._frame.gpus), strict=True):
            if before is None or now is None:
                return share  # unknown memory is divided no further
            taken = (before.free - now.free) / share
            if taken > 0:
                most = min(most, int(_CARD_SHARE * before.free / (_MARGIN * taken)))
        return most

    def _say(self, text: str | None) -> None:
        self.said += [text] if text else []


def usual_workers(cells: int, *, exclusive: bool) -> int:
    """Return how many workers a study begins with when nothing is asked for."""
    frame = layout(Asked(), usable_cores(), visible_gpus(), cells, exclusive=exclusive)
    return Sharing(frame, available_memory, cards).slots
