"""Classifying sequences as they come: a row of the table for every entry, in order."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from ec_sweep.saving import About
from ec_sweep.sequences import Entry
from ec_sweep.serving import Classifier, Probabilities

_EVERY = 1.0  # seconds from one sign of progress to the next


@dataclass
class Tally:
    """What has been classified so far."""

    sequences: int = 0
    flagged: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """Since the first batch began; the model was loaded before."""

    def line(self) -> str:
        """Return how many, how fast, and how many of them are flagged."""
        rate = f" ({self.sequences / self.seconds:,.0f} a second)" if self.seconds > 0 else ""
        flags = ", ".join(f"{count:,} {name}" for name, count in sorted(self.flagged.items()))
        return f"{self.sequences:,} sequences{rate}{f': {flags}' if flags else ''}"


def classify(
    entries: Iterable[Entry],
    classifier: Classifier,
    out: BinaryIO,
    *,
    batch_size: int,
    top: int | None = None,
    as_json: bool = False,
    show: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Write a table of all entries, of which one batch is held in memory at a time.

    A line for each, tab-separated, or one JSON document.
    """
    tally, shown, start = Tally(), 0.0, time.monotonic()
    about, columns = classifier.about, header(classifier.about, top)
    out.write(_opening(about) if as_json else _line(columns))
    entries = iter(entries)
    while batch := list(islice(entries, batch_size)):
        for entry, row in zip(batch, _rows(batch, classifier, batch_size, top), strict=True):
            flags = _flags(entry, about)
            tally.flagged.update(flags)
            if as_json:
                first = not tally.sequences and entry is batch[0]
                one = _document(entry.id, row, flags, about.classes, top)
                out.write(f"{'' if first else ','}\n{json.dumps(one)}".encode())
            else:
                out.write(_line([entry.id, *row, ",".join(flags)]))
        tally.sequences += len(batch)
        tally.seconds = time.monotonic() - start
        if tally.seconds - shown >= _EVERY:
            out.flush()
            show(tally)
            shown = tally.seconds
    if as_json:
        out.write(b"\n]}\n")
    out.flush()
    return tally


def _opening(about: About) -> bytes:
    """Return how a JSON document begins: the model, and the list of the sequences."""
    model = {
        "model": about.model, "study": about.study, "cell": about.cell,
        "dataset": dict(about.dataset), "classes": list(about.classes),
    }  # fmt: skip
    return f'{{"model": {json.dumps(model)}, "sequences": ['.encode()


def _document(
    name: str, row: Sequence[str], flags: Sequence[str], classes: Sequence[str], top: int | None
) -> dict[str, Any]:
    """Return an entry of a JSON document, made of the same fields as a line of the table."""
    found = row[1:] if top is None else row[1::2]
    named = classes if top is None else row[0::2]
    probabilities = {label: float(text) for label, text in zip(named, found, strict=True) if text}
    return {
        "id": name, "predicted": row[0] or None,
        "probabilities": probabilities, "flags": list(flags),
    }  # fmt: skip


def header(about: About, top: int | None) -> list[str]:
    """Return the names of the table's columns."""
    if top is None:
        return ["id", "predicted", *about.classes, "flags"]
    places = range(2, min(top, len(about.classes)) + 1)
    others = [f"{name}_{place}" for place in places for name in ("class", "probability")]
    return ["id", "predicted", "probability", *others, "flags"]


def _rows(
    batch: Sequence[Entry], classifier: Classifier, batch_size: int, top: int | None
) -> Iterator[list[str]]:
    """Yield class and probabilities of each entry, empty where nothing can be predicted."""
    usable = [entry.sequence for entry in batch if not entry.problem]
    found = iter(classifier.probabilities(usable, batch_size))
    classes = classifier.about.classes
    empty = [""] * (len(header(classifier.about, top)) - 2)
    for entry in batch:
        yield empty if entry.problem else _row(classes, next(found), top)


def _row(classes: Sequence[str], probabilities: Probabilities, top: int | None) -> list[str]:
    if top is None:
        best = classes[int(np.argmax(probabilities))]
        return [best, *map(_number, probabilities)]
    places = np.argsort(-probabilities, kind="stable")[:top]
    return [text for place in places for text in (classes[place], _number(probabilities[place]))]


def _number(probability: np.float32) -> str:
    return f"{probability:.8g}"  # about as many digits as a float32 has


def _flags(entry: Entry, about: About) -> list[str]:
    if entry.problem:
        return [entry.problem]
    return entry.flags(about.hyperparameters.length, about.shortest, about.longest)


def _line(fields: Iterable[str]) -> bytes:
    return ("\t".join(fields) + "\n").encode()
