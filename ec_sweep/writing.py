"""Writes tables and figures into a folder, in every format asked for, and keeps them for a page."""

import json
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ec_sweep import drawing, inlining, tables
from ec_sweep.errors import EcsweepError
from ec_sweep.inlining import Inline
from ec_sweep.layouts import Table
from ec_sweep.machine import usable_cores
from ec_sweep.paths import write_atomically
from ec_sweep.pictures import Picture

PAGE = "html"
"""The format in which tables and figures stand together."""


@dataclass(frozen=True)
class Part:
    """What a page shows of one study, one table of the paper or another matter, in order."""

    tables: dict[str, Table] = field(default_factory=dict)
    figures: "dict[str, tuple[str, Future[Drawn]]]" = field(default_factory=dict)
    """How each is read, and the figure."""


@dataclass(frozen=True)
class Drawn:
    """A figure's files, and the figure as part of a page where there is to be one."""

    files: list[Path]
    inline: Inline | None


class Writer:
    """Writes into a folder; of what is written, `parts` holds what a page shows."""

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        self._folder = folder
        self._kinds = [kind for kind in formats if kind in tables.FORMATS]
        self._drawn = [kind for kind in formats if kind in drawing.FORMATS]
        self.for_page = PAGE in formats
        self._page_alone = self.for_page and not self._kinds and not self._drawn
        self.draws = bool(self._drawn) or self.for_page
        self.parts: dict[str, Part] = {}
        self._pool: ProcessPoolExecutor | None = None

    def table(
        self,
        part: str,
        name: str,
        table: Table,
        provenance: Mapping[str, Any] | None,
        instead: Mapping[str, str] | None = None,
        *,
        csv_only: bool = False,
    ) -> list[Path]:
        """Write a table in each format, with texts that stand in for its own, and provenance."""
        texts = {
            tables.SUFFIXES[kind]: (instead or {}).get(kind) or tables.render(table, kind)
            for kind in self._kinds
            if kind == "csv" or not csv_only
        }
        if provenance is not None and not self._page_alone:
            texts[".provenance.json"] = json.dumps(provenance, indent=1) + "\n"
        if self.for_page and not csv_only:
            self.part(part).tables[name] = table
        return [self.text(f"{name}{suffix}", text) for suffix, text in texts.items()]

    def figure(self, part: str, picture: Picture) -> list[Path]:
        """Draw a figure where one of its formats, or a page, is asked for."""
        if not self.draws:
            return []
        path = self._folder / picture.name
        work = (picture.draw, path, self._drawn, self.for_page)
        if self._pool is None:
            drawn: Future[Drawn] = Future()
            drawn.set_result(_draw(*work))
        else:
            drawn = self._pool.submit(_draw, *work)
        self.part(part).figures[picture.name] = picture.reading, drawn
        return [path.with_name(f"{picture.name}.{kind}") for kind in self._drawn]

    def part(self, name: str) -> Part:
        """Return what belongs together under a name."""
        return self.parts.setdefault(name, Part())

    def text(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self._folder / name
        try:
            write_atomically(path, text)
        except OSError as error:
            raise EcsweepError(f"{path}: cannot be written ({error.strerror}).") from error
        return path

    @contextmanager
    def drawing_beside(self) -> Iterator[None]:
        """Draw in other processes meanwhile: figures take longer than all the rest."""
        context = multiprocessing.get_context("spawn")
        workers = min(usable_cores(), 4)
        with ProcessPoolExecutor(workers, context, _ignore_interrupts) as self._pool:
            try:
                yield
                for part in self.parts.values():
                    for _, drawn in part.figures.values():
                        drawn.result()
            finally:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None


def _draw(make: Callable[[], Any], path: Path, kinds: Sequence[str], for_page: bool) -> Drawn:
    figure = make()
    files = drawing.save(figure, path, kinds)
    return Drawn(files, inlining.inline(figure, path.name) if for_page else None)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which ends its drawers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
