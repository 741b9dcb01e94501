"""How loud a study is: what it says on the screen, and what a log file keeps of it."""

import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import typer

from ec_sweep import output
from ec_sweep.attempts import Result
from ec_sweep.databases import without_secrets
from ec_sweep.display import Display
from ec_sweep.errors import EcsweepError, StudyStoppedError, printable
from ec_sweep.progress import of_epoch, outcome, progress
from ec_sweep.spec import Cell


class Log:
    """Lines with their time, appended to a file, without passwords."""

    def __init__(self, path: Path) -> None:
        """Open the file, or say in one line why that cannot be."""
        self._path = path
        try:
            self._file: TextIO | None = path.open("a", encoding="utf-8")
        except OSError as error:
            raise EcsweepError(
                f"--log {path}: cannot be written ({error.strerror}). Name a file in a folder "
                "that is there."
            ) from error

    def line(self, text: str) -> None:
        """Write each line of a text; once that fails, no more: a study does not end of its log."""
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            for one in text.splitlines() if self._file else []:
                print(stamp, without_secrets(printable(one)), file=self._file, flush=True)
        except OSError as error:
            self._file = None
            typer.echo(f"Warning: --log {self._path} ends here: {error.strerror}", err=True)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


@dataclass
class Voice:
    """What a study says goes through it, to the screen and to the log."""

    quiet: bool = False
    """Say nothing but what went wrong."""
    verbose: bool = False
    """Say every epoch, too."""
    log: Log | None = None
    documents: list[dict[str, Any]] = field(default_factory=list)
    """What became of each study, for ``--json``."""

    def say(self, text: str) -> None:
        """Say a line, unless quiet."""
        self.note(text)
        if not self.quiet:
            output.say(text)

    def warn(self, text: str) -> None:
        """Warn on stderr."""
        line = f"Warning: {printable(text)}"
        self.note(line)
        typer.echo(without_secrets(line), err=True)

    def note(self, text: str) -> None:
        """Write to the log alone."""
        if self.log:
            self.log.line(text)

    @contextmanager
    def show(self, total: int, done: int, label: Callable[[Cell], str]) -> Iterator[Display]:
        """Yield the display of a study."""
        how = progress(total, done, label, quiet=self.quiet, verbose=self.verbose)
        with how as display:
            yield _Logged(display, self.log, label) if self.log else display


@dataclass
class _Logged:
    """A display of whose every message a log gets a line."""

    shown: Display
    log: Log
    label: Callable[[Cell], str]

    def started(self, cell: Cell) -> None:
        """See `Display`."""
        self.shown.started(cell)
        self.log.line(f"{cell.id}  started: {self.label(cell)}")

    def placed(self, cell: Cell, node: str) -> None:
        """See `Display`."""
        self.shown.placed(cell, node)
        self.log.line(f"{cell.id}  on node {node}")

    def epoch(self, cell: Cell, epoch: int, metrics: Mapping[str, float]) -> None:
        """See `Display`."""
        self.shown.epoch(cell, epoch, metrics)
        self.log.line(of_epoch(cell, epoch, metrics))

    def ended(self, cell: Cell, result: Result) -> None:
        """See `Display`."""
        self.shown.ended(cell, result)
        self.log.line(f"{cell.id}  ended: {outcome(result)}")
        if result.traceback:
            self.log.line(result.traceback)

    def note(self, text: str) -> None:
        """See `Display`."""
        self.shown.note(text)
        self.log.line(text)


@contextmanager
def speaking(
    *, quiet: bool, verbose: bool, log: Path | None, silent: bool = False
) -> Iterator[Voice]:
    """Yield a voice; the log gets how the command began and how it ended.

    A ``silent`` one leaves stdout to a document.
    """
    if quiet and verbose:
        raise EcsweepError("--quiet and --verbose exclude each other.")
    voice = Voice(quiet or silent, verbose and not silent, Log(log) if log else None)
    voice.note(f"$ ecsweep {shlex.join(sys.argv[1:])}")
    try:
        yield voice
    except typer.Exit as end:
        voice.note(f"Ended with exit code {int(end.exit_code)}")
        raise
    except (EcsweepError, StudyStoppedError) as error:
        voice.note("\n".join(f"Error: {text}" for text in error.args))
        raise
    except BaseException:  # a bug, or Ctrl-C: the log says which
        voice.note(traceback.format_exc())
        raise
    finally:
        if voice.log:
            voice.log.close()
