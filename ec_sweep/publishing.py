"""The files of a report: every table and figure of a study, the paper's tables, the claims."""

import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ec_sweep import (
    analysis,
    claims,
    drawing,
    evidence,
    figures,
    layouts,
    leakage,
    pictures,
    published,
    report,
    supplement,
    tables,
)
from ec_sweep.errors import EcsweepError
from ec_sweep.layouts import Table
from ec_sweep.machine import usable_cores
from ec_sweep.paths import write_atomically
from ec_sweep.report import Report, Row
from ec_sweep.stored import Measured

FORMATS = (*tables.FORMATS, *drawing.FORMATS)
DEFAULT_FORMATS = (*tables.FORMATS, "svg")
PAPER_TABLES = range(1, 8)
_MOST_PAIRS = 60
"""Comparisons that are worth a page; more are for programs, in CSV alone."""
_MOST_ROWS = 100
"""Rows that are looked at one by one and compared, every two of them; of more, the best."""


class MissingStudyError(EcsweepError):
    """A table asks for studies that have not been run."""


class Publisher:
    """Writes what has been run at one scale into a folder."""

    def __init__(
        self, trackers: Mapping[str, Measured], scale: str, formats: Sequence[str], folder: Path
    ) -> None:
        self._trackers, self.scale = trackers, scale
        self._formats, self._folder = formats, folder
        self._made: dict[str, Report] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._drawings: list[Future[list[Path]]] = []
        self.problems: dict[str, str] = {}
        """Of the studies whose report cannot be made, why."""
        self.left_out: dict[str, str] = {}
        """Of the studies with too many rows, what their reports do not show."""

    @cached_property
    def reports(self) -> dict[str, Report]:
        """The report of every study that has runs, by name; `problems` holds the others."""
        found = {}
        for study, tracker in self._trackers.items():
            try:
                if tracker.any_run:
                    found[study] = self.report(study)
            except EcsweepError as error:
                self.problems[study] = str(error)
        return found

    def report(self, study: str) -> Report:
        """Return the report of a study.

        Raises:
            EcsweepError: it has not been run at this scale, or its plan is lost.
        """
        if study not in self._made:
            tracker = self._trackers.get(study)
            self._made[study] = report.build(tracker, f"{study}@{self.scale}")
        return self._made[study]

    def everything(self) -> Iterator[tuple[str, list[Path]]]:
        """Write all that there is; yields what was written, or in words why it was not."""
        works: dict[str, Callable[[], list[Path]]] = {
            study: partial(self.study, study) for study in self.reports
        }
        for number in PAPER_TABLES:
            works[f"Table {number}"] = partial(self._files_of_table, number)
        works["Claims"] = lambda: self.claims()[1]
        yield from ((problem, []) for problem in self.problems.values())
        with self._drawing_beside():
            for name, work in works.items():
                try:
                    yield name, work()
                except MissingStudyError as missing:
                    yield str(missing), []
                except EcsweepError as error:
                    self.problems[name] = str(error)
                    yield str(error), []

    def table(self, study: str) -> Table:
        """Return a study's own table: by split where it has several, else by its axes."""
        made = self.report(study)
        by_split = len(made.splits) > 1 and not made.metric
        return leakage.splits_table(made) if by_split else layouts.study_table(made)

    def table_of(self, study: str) -> list[Path]:
        """Write a study's own table and its provenance."""
        made = self.report(study)
        table, texts = self.table(study), {"csv": tables.tidy_csv(made)}
        files = self._write(study, table, made.provenance, texts)
        if len(made.splits) > 1:
            files += self._write(f"{study}-splits", table, made.provenance, csv_only=True)
        return files

    def study(self, study: str) -> list[Path]:
        """Write everything that there is of a study: tables, comparisons, classes, figures."""
        made, tracker = self.report(study), self._trackers[study]
        loaded: dict[str, analysis.Predictions] = {}

        def predictions(run_id: str) -> analysis.Predictions:
            if run_id not in loaded:
                loaded[run_id] = analysis.load(tracker.predictions(run_id))
            return loaded[run_id]

        some = self._looked_at(made)
        looked_at = {id(row): analysis.look_at(made, row, predictions) for row in some.rows}
        best = [looked_at[id(row)] for row in analysis.best_of_each_model(some)]
        compared = analysis.compare(some, predictions)
        files = self.table_of(study)
        classes = supplement.per_class_table(some, best)
        texts = {"csv": tables.classes_csv(study, looked_at.values())}
        first = {analysis.label_of(made, row): row.runs[min(row.runs)] for row in some.rows}
        files += self._write(f"{study}-classes", classes, self._of_runs(study, first), texts)
        if compared:
            table = supplement.comparison_table(some, compared)
            runs = {analysis.label_of(made, row): row.runs for row in some.rows}
            many = len(compared) > _MOST_PAIRS
            origin = self._of_runs(study, runs)
            files += self._write(f"{study}-comparisons", table, origin, csv_only=many)
        for name, draw in pictures.of_study(some, tracker, best) if self._draws else ():
            files += self._draw(name, draw)
        return files

    def _looked_at(self, made: Report) -> Report:
        """Return the rows with results, of too many the best and the best of each model.

        By validation accuracy, so that nothing is chosen by what it is tested for.
        """
        rows = [row for row in made.rows if row.runs]
        if len(rows) <= _MOST_ROWS:
            return replace(made, rows=rows)
        ranked = sorted(rows, key=lambda row: row.metrics["val_accuracy"], reverse=True)
        kept = {id(row) for row in (*ranked[:_MOST_ROWS], *analysis.best_of_each_model(made))}
        some = [row for row in rows if id(row) in kept]
        which = f"the {len(some)} of {len(rows):,} rows with the best validation accuracy"
        self.left_out[made.study] = (
            f"Classes, comparisons and figures show {which}: all would make "
            f"{math.comb(len(rows), 2):,} pairs. The study's own table has every row."
        )
        return replace(made, rows=some, title=f"{made.title or made.study}, {which}")

    def paper_table(self, number: int) -> tuple[Table, list[Path]]:
        """Write a table of the paper in its layout; of 5 to 7 an extended one too.

        Raises:
            MissingStudyError: a study that it is made of has not been run at this scale.
        """
        if number == 1:
            return self._classes()
        missing = [name for name in published.STUDIES[number] if name not in self.reports]
        if missing:
            raise self._missing(f"Table {number}", missing)
        found = [self.reports[name] for name in published.STUDIES[number]]
        title = "Combined models" if number == 7 else found[0].title
        made = report.joined(found, title, number)
        table = layouts.paper_table(made)
        files = self._write(f"table{number}", table, made.provenance)
        if number in (5, 6, 7):
            baselines, cells = self._baselines(made)
            extended = supplement.extended_table(made, baselines)
            origin = made.provenance | {"cells": made.provenance["cells"] | cells}
            files += self._write(f"table{number}-extended", extended, origin)
        return table, files

    def _files_of_table(self, number: int) -> list[Path]:
        return self.paper_table(number)[1]

    def claims(self) -> tuple[list[Table], list[Path]]:
        """Check the paper's conclusions against the runs and against its own tables."""
        changed = [name for name, made in self.reports.items() if made.changed]
        verdicts, split = claims.from_runs(self.reports), evidence.judged_split(self.reports)
        ours = supplement.claims_table(verdicts, self.scale, split, changed)
        printed = supplement.claims_table(claims.from_print(), None)
        used = {name for names in evidence.STUDIES.values() for name in names}
        origin = {n: made.provenance for n, made in self.reports.items() if n in used}
        files = self._write("claims", ours, {"scale": self.scale, "studies": origin})
        files += self._write("claims-printed", printed, None)
        return [ours, printed], files

    def _classes(self) -> tuple[Table, list[Path]]:
        """Write Table 1 and Figure 4 from the card of the dataset ``ec37``."""
        found = evidence.class_card(self.reports)
        if found is None:
            raise self._missing("Table 1", [evidence.CLASS_STUDY])
        study, card = found
        split = evidence.judged_split(self.reports)
        compared = (self.scale, split) == ("paper", "random")
        table = supplement.class_table(card, self.scale, split, compared=compared)
        origin = {
            "study": study,
            "scale": self.scale,
            "run": self._trackers[study].parent_id(),
            "artifact": f"datasets/{card['name']}-{card['fingerprint'][:12]}.json",
            "dataset": card["fingerprint"],
        }
        samples = {_ordinal(n): sample for n, sample in enumerate(card["samples"], 1)}
        title = f"Figure 4. Classes of the training samples ({self.scale} scale)"
        files = self._write("table1", table, origin)
        return table, files + self._draw("figure4", partial(figures.class_shares, title, samples))

    def _baselines(self, made: Report) -> tuple[list[Row], dict[str, Any]]:
        """Return the baselines trained and tested on a table's very sequences, and their cells."""
        baselines = self.reports.get("baselines")
        if baselines is None:
            return [], {}
        known = {_sequences(made, row) for row in made.rows}
        rows = [row for row in baselines.rows if _sequences(baselines, row) in known]
        params = [row.params for row in rows]
        cells = baselines.provenance["cells"]
        return rows, {cell: o for cell, o in cells.items() if o["params"] in params}

    @property
    def _draws(self) -> list[str]:
        return [kind for kind in self._formats if kind in drawing.FORMATS]

    def _draw(self, name: str, make: Callable[[], Any]) -> list[Path]:
        """Draw a figure where one of its formats is asked for."""
        if not self._draws:
            return []
        path = self._folder / name
        if self._pool is None:
            return _draw(make, path, self._draws)
        self._drawings.append(self._pool.submit(_draw, make, path, self._draws))
        return [path.with_name(f"{name}.{kind}") for kind in self._draws]

    @contextmanager
    def _drawing_beside(self) -> Iterator[None]:
        """Draw in other processes meanwhile: figures take longer than all the rest."""
        context = multiprocessing.get_context("spawn")
        workers = min(usable_cores(), 4)
        with ProcessPoolExecutor(workers, context, _ignore_interrupts) as self._pool:
            try:
                yield
                for drawing in self._drawings:
                    drawing.result()
            finally:
                self._pool.shutdown(cancel_futures=True)
                self._pool = None

    def _of_runs(self, study: str, runs: Mapping[str, Any]) -> dict[str, Any]:
        return {"study": study, "scale": self.scale, "runs": runs}

    def _write(
        self,
        name: str,
        table: Table,
        provenance: Mapping[str, Any] | None,
        instead: Mapping[str, str] | None = None,
        *,
        csv_only: bool = False,
    ) -> list[Path]:
        """Write a table in each format, with texts that stand in for its own, and provenance."""
        kinds = [kind for kind in self._formats if kind in tables.FORMATS]
        texts = {
            tables.SUFFIXES[kind]: (instead or {}).get(kind) or tables.render(table, kind)
            for kind in kinds
            if kind == "csv" or not csv_only
        }
        if provenance is not None:
            texts[".provenance.json"] = json.dumps(provenance, indent=1) + "\n"
        files = []
        for suffix, text in texts.items():
            path = self._folder / f"{name}{suffix}"
            try:
                write_atomically(path, text)
            except OSError as error:
                raise EcsweepError(f"{path}: cannot be written ({error.strerror}).") from error
            files.append(path)
        return files

    def _missing(self, what: str, studies: Sequence[str]) -> MissingStudyError:
        scale = "" if self.scale == "demo" else f" --scale {self.scale}"
        return MissingStudyError(
            f"{what} needs {' and '.join(studies)}, not run at {self.scale} scale. "
            f"Run: ecsweep study {' '.join(studies)}{scale}"
        )


def _draw(make: Callable[[], Any], path: Path, kinds: Sequence[str]) -> list[Path]:
    return drawing.save(make(), path, kinds)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which ends its drawers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _sequences(made: Report, row: Row) -> tuple[Any, ...]:
    """Return what decides on which sequences, and on how much of each, a cell was trained."""
    return made.cards[row.data]["fingerprint"], row.params["train_size"], row.params["length"]


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number, "th")
    return f"{number}{suffix} training sample"
