"""What a study shows while it runs: a live display in a terminal, plain lines elsewhere."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ec_sweep.attempts import Result
from ec_sweep.errors import plural, printable
from ec_sweep.spec import Cell

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_NARROW = 60
"""Columns of a terminal below which less is shown."""


@dataclass
class _Trial:
    cell: Cell
    started: float
    epoch: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    node: str = ""
    """Of a cluster; none on one machine."""


class Progress(ABC):
    """Counts cells and estimates the time left; subclasses show it."""

    def __init__(
        self,
        total: int,
        done: int,
        label: Callable[[Cell], str],
        verbose: bool = False,
    ) -> None:
        """Show so many cells, of which some are done; each epoch has a line if ``verbose``."""
        self._total, self._done, self._label = total, done, label
        self._verbose = verbose
        self._failed = 0
        self._start = time.monotonic()
        self._finished = 0
        """Cells that this session has ended."""
        self._running: dict[str, _Trial] = {}
        self._durations: list[float] = []
        self._ended_on: Counter[str] = Counter()
        """Attempts that have ended, by node."""

    def started(self, cell: Cell) -> None:
        """Show that an attempt at a cell has begun."""
        self._running[str(cell.id)] = _Trial(cell, time.monotonic())

    def placed(self, cell: Cell, node: str) -> None:
        """Show on which node of a cluster an attempt has begun."""
        self._running[str(cell.id)].node = node

    def epoch(self, cell: Cell, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of an epoch."""
        trial = self._running[str(cell.id)]
        trial.epoch, trial.metrics = epoch, metrics
        if self._verbose:
            self.note(of_epoch(cell, epoch, metrics))

    def ended(self, cell: Cell, result: Result) -> None:
        """Show how an attempt ended."""
        trial = self._running.pop(str(cell.id))
        if result.outcome != "interrupted":
            self._done += 1
            self._finished += 1
            self._ended_on.update([trial.node] if trial.node else [])
        if result.outcome in ("failed", "not_available"):
            self._failed += 1
        if result.outcome == "complete":
            self._durations.append(time.monotonic() - trial.started)
        self._show_ended(trial, result, time.monotonic() - trial.started)

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a line of text."""

    @abstractmethod
    def _show_ended(self, trial: _Trial, result: Result, seconds: float) -> None:
        """Show how an attempt at a cell ended, after so many seconds."""

    def _elapsed(self) -> str:
        return duration(time.monotonic() - self._start)

    def _left(self) -> str:
        """Return the estimated time left: what is left goes as fast as what this session did.

        Running cells count in parts, by how long such cells took.
        """
        if not self._durations:
            return "?"
        mean, now = sum(self._durations) / len(self._durations), time.monotonic()
        running = list(self._running.values())
        parts = sum(min(1.0, (now - trial.started) / mean) if mean else 1.0 for trial in running)
        left = max(0.0, self._total - self._done - parts)
        return duration(left * (now - self._start) / (self._finished + parts))


class PlainProgress(Progress):
    """One line for each cell, for logs and pipes."""

    def started(self, cell: Cell) -> None:
        """See `Progress`."""
        super().started(cell)
        self.note(f"started {cell.id}  {self._label(cell)}")

    def note(self, text: str) -> None:
        """See `Progress`."""
        print(printable(text), flush=True)

    def _show_ended(self, trial: _Trial, result: Result, seconds: float) -> None:
        left = f"{self._left()} left" if self._done < self._total else f"{self._elapsed()} in all"
        self.note(
            f"[{self._done}/{self._total}] {trial.cell.id}  {self._label(trial.cell)}  "
            f"{outcome(result)}  {duration(seconds)}{_on(trial.node)}  ({left})"
        )


class QuietProgress(Progress):
    """Nothing but the cells that went wrong, on stderr."""

    def note(self, text: str) -> None:
        """Say nothing: see `Progress`."""

    def _show_ended(self, trial: _Trial, result: Result, seconds: float) -> None:  # noqa: ARG002 - of `Progress`
        if result.outcome in ("failed", "not_available"):
            line = f"{trial.cell.id}  {self._label(trial.cell)}  {outcome(result)}"
            print(printable(line), file=sys.stderr, flush=True)


class LiveProgress(Progress):
    """A table of the running cells under a bar, redrawn in place."""

    def __init__(
        self,
        total: int,
        done: int,
        label: Callable[[Cell], str],
        console: "Console",
        verbose: bool = False,
    ) -> None:
        super().__init__(total, done, label, verbose)
        self._console = console

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the display until the block ends."""
        from rich.live import Live

        with Live(
            get_renderable=self._render, console=self._console, refresh_per_second=4, transient=True
        ):
            yield

    def note(self, text: str) -> None:
        """See `Progress`."""
        from rich.text import Text

        self._console.print(Text(printable(text)))

    def _show_ended(self, trial: _Trial, result: Result, seconds: float) -> None:
        from rich.text import Text

        style = "green" if result.outcome == "complete" else "red"
        line = Text(f"{trial.cell.id}  {self._label(trial.cell)}  ")
        line.append(printable(outcome(result)), style)
        line.append(f"  {duration(seconds)}{_on(trial.node)}", "dim")
        self._console.print(line)

    def summary(self) -> None:
        """Say how many cells were ended, and how long it took."""
        if self._finished:
            self.note(f"{self._finished} {plural('cell', self._finished)} in {self._elapsed()}")

    def _render(self) -> "RenderableType":
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        narrow = self._console.width < _NARROW
        failed = f" · {self._failed} failed" if self._failed else ""
        running = "" if narrow else f" · {len(self._running)} running"
        head = Table.grid(padding=(0, 1))
        words = Text(
            f"{self._done}/{self._total} cells{failed}{running} · "
            f"{self._elapsed()} · {self._left()} left"
        )
        bar = ProgressBar(total=self._total, completed=self._done, width=16)
        head.add_row(*([words] if narrow else [bar, words]))
        rows = Table.grid(padding=(0, 2))
        lines = [self._fields(trial, narrow) for trial in list(self._running.values())]
        others = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)][1:]
        room = max(8, self._console.width - sum(others))
        for label, *fields in lines:
            label.truncate(room, overflow="ellipsis")
            rows.add_row(label, *fields)
        return Group(head, *self._nodes(), rows)

    def _fields(self, trial: _Trial, narrow: bool) -> "list[Text]":
        """Return what is shown of a running cell, which another thread draws."""
        from rich.text import Text

        epochs = trial.cell.declared.get("epochs", 1)  # an estimator is fitted at once
        accuracy = trial.metrics.get("val_accuracy")
        epoch = f"{trial.epoch}/{epochs}" if narrow else f"epoch {trial.epoch}/{epochs}"
        fields = [
            Text(self._label(trial.cell)),
            Text(epoch if trial.epoch else "starting", "cyan"),
            Text("" if accuracy is None else f"val accuracy {accuracy:.3f}"),
            Text(duration(time.monotonic() - trial.started), "dim"),
            Text(printable(trial.node), "dim"),
        ]
        return [fields[0], fields[1], fields[3]] if narrow else fields

    def _nodes(self) -> "list[RenderableType]":
        """Return a line with the cells of each node, where there is a cluster."""
        from rich.text import Text

        running = Counter(trial.node for trial in list(self._running.values()) if trial.node)
        names = sorted(running.keys() | self._ended_on.keys())
        words = [f"{printable(n)} {running[n]} running, {self._ended_on[n]} done" for n in names]
        return [Text(" · ".join(words), "dim")] if words else []


@contextmanager
def progress(
    total: int,
    done: int,
    label: Callable[[Cell], str],
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> Iterator[Progress]:
    """Yield the display that suits where the output goes, and how much of it is wanted."""
    if quiet:
        yield QuietProgress(total, done, label)
        return
    if not sys.stdout.isatty() or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        yield PlainProgress(total, done, label, verbose)
        return
    from rich.console import Console

    live = LiveProgress(total, done, label, Console(highlight=False), verbose)
    with live.shown():
        yield live
    live.summary()


def of_epoch(cell: Cell, epoch: int, metrics: Mapping[str, float]) -> str:
    """Return the metrics of an epoch in a line."""
    named = {name.replace("_", " "): value for name, value in metrics.items()}
    seconds = named.pop("epoch seconds", None)
    words = [f"{name} {value:.4f}" for name, value in named.items()]
    words += [] if seconds is None else [f"{seconds:.1f} s"]
    return f"{cell.id}  epoch {epoch}: {', '.join(words)}"


def _on(node: str) -> str:
    return f"  on {node}" if node else ""


def outcome(result: Result) -> str:
    """Return how an attempt ended, in words."""
    if result.outcome == "complete":
        return f"test accuracy {result.metrics['test_accuracy']:.4f}"
    reason = ": ".join(text for text in (result.failure, result.message) if text)
    return f"{result.outcome.replace('_', ' ')}{f' ({reason})' if reason else ''}"


def duration(seconds: float) -> str:
    """Return a time as people say it: 42 s, 3 min 05 s, 2 h 07 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
