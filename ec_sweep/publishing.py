"""The files of a report: every table and figure of a study, the paper's tables, the claims."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    page,
    pictures,
    published,
    report,
    supplement,
    tables,
)
from ec_sweep.errors import EcsweepError
from ec_sweep.hints import command
from ec_sweep.layouts import Table
from ec_sweep.mlflow_store import LOCAL_UI
from ec_sweep.paths import DAMAGED
from ec_sweep.pictures import Picture
from ec_sweep.report import Report, Row
from ec_sweep.stored import Measured, no_predictions
from ec_sweep.writing import PAGE, Writer

FORMATS = (*tables.FORMATS, *drawing.FORMATS, PAGE)
DEFAULT_FORMATS = (*tables.FORMATS, "svg", PAGE)
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
        self,
        trackers: Mapping[str, Measured],
        scale: str,
        formats: Sequence[str],
        folder: Path,
        mlflow: str = LOCAL_UI,
    ) -> None:
        self._trackers, self.scale, self._mlflow = trackers, scale, mlflow
        self._writer = Writer(folder, formats)
        self._made: dict[str, Report] = {}
        self.problems: dict[str, str] = {}
        """Of the studies whose report cannot be made, why."""
        self.left_out: dict[str, str] = {}
        """Of the studies with too many rows, what their reports do not show."""
        self.missing: dict[str, str] = {}
        """Of the tables that cannot be made yet, which studies they need."""

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
            study: partial(self._study, study) for study in self.reports
        }
        for number in PAPER_TABLES:
            works[f"Table {number}"] = partial(self._files_of_table, number)
        works["Claims"] = lambda: self._claims()[1]
        yield from ((problem, []) for problem in self.problems.values())
        with self._writer.drawing_beside():
            for name, work in works.items():
                try:
                    yield name, work()
                except MissingStudyError as missing:
                    self.missing[name] = str(missing)
                    yield str(missing), []
                except EcsweepError as error:
                    self.problems[name] = str(error)
                    yield str(error), []
        if self._writer.for_page:
            yield "Page", self._page("report", [*self._writer.parts], [*self.reports])

    def table(self, study: str) -> Table:
        """Return a study's own table: by split where it has several, else by its axes."""
        made = self.report(study)
        by_split = len(made.splits) > 1 and not made.metric
        return leakage.splits_table(made) if by_split else layouts.study_table(made)

    def table_of(self, study: str) -> list[Path]:
        """Write a study's own table and its provenance."""
        made = self.report(study)
        table, texts = self.table(study), {"csv": tables.tidy_csv(made)}
        write = partial(self._writer.table, study)
        files = write(study, table, made.provenance, texts)
        if len(made.splits) > 1:
            files += write(f"{study}-splits", table, made.provenance, csv_only=True)
        return files

    def study(self, study: str) -> list[Path]:
        """Write everything that there is of a study: tables, comparisons, classes, figures."""
        return self._study(study) + self._page(study, [study], [study])

    def _study(self, study: str) -> list[Path]:
        made, tracker = self.report(study), self._trackers[study]
        loaded: dict[str, analysis.Predictions] = {}

        def predictions(run_id: str) -> analysis.Predictions:
            if run_id not in loaded:
                try:
                    loaded[run_id] = analysis.load(tracker.predictions(run_id))
                except DAMAGED as error:
                    raise no_predictions(f"{study}@{self.scale}", run_id) from error
            return loaded[run_id]

        some = self._looked_at(made)
        looked_at = {id(row): analysis.look_at(made, row, predictions) for row in some.rows}
        best = [looked_at[id(row)] for row in analysis.best_of_each_model(some)]
        compared = analysis.compare(some, predictions)
        files = self.table_of(study)
        classes = supplement.per_class_table(some, best)
        texts = {"csv": tables.classes_csv(study, looked_at.values())}
        first = {analysis.label_of(made, row): row.runs[min(row.runs)] for row in some.rows}
        write = partial(self._writer.table, study)
        files += write(f"{study}-classes", classes, self._of_runs(study, first), texts)
        if compared:
            table = supplement.comparison_table(some, compared)
            runs = {analysis.label_of(made, row): row.runs for row in some.rows}
            many = len(compared) > _MOST_PAIRS
            origin = self._of_runs(study, runs)
            files += write(f"{study}-comparisons", table, origin, csv_only=many)
        if self._writer.draws:
            for card in made.cards.values():
                files += self._dataset(card)
            for picture in pictures.of_study(some, tracker, best):
                files += self._writer.figure(study, picture)
        return files

    def _dataset(self, card: Mapping[str, Any]) -> list[Path]:
        """Draw the classes of a dataset, once."""
        picture = pictures.of_dataset(card)
        drawn = self._writer.part(page.DATA).figures
        return [] if picture.name in drawn else self._writer.figure(page.DATA, picture)

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
        table, files = self._paper_table(number)
        study, _ = evidence.class_card(self.reports) or ("", {})
        studies = [study] if number == 1 else published.STUDIES[number]
        return table, files + self._page(f"table{number}", [page.paper_part(number)], studies)

    def _paper_table(self, number: int) -> tuple[Table, list[Path]]:
        if number == 1:
            return self._classes()
        missing = [name for name in published.STUDIES[number] if name not in self.reports]
        if missing:
            raise self._missing(f"Table {number}", missing)
        found = [self.reports[name] for name in published.STUDIES[number]]
        made = report.joined(found, page.paper_title(number, found[0]), number)
        table = layouts.paper_table(made)
        write = partial(self._writer.table, page.paper_part(number))
        files = write(f"table{number}", table, made.provenance)
        if number in (5, 6, 7):
            baselines, cells = self._baselines(made)
            extended = supplement.extended_table(made, baselines)
            origin = made.provenance | {"cells": made.provenance["cells"] | cells}
            files += write(f"table{number}-extended", extended, origin)
        return table, files

    def _files_of_table(self, number: int) -> list[Path]:
        return self._paper_table(number)[1]

    def claims(self) -> tuple[list[Table], list[Path]]:
        """Check the paper's conclusions against the runs and against its own tables."""
        checked, files = self._claims()
        return checked, files + self._page("claims", [page.CLAIMS], [])

    def _claims(self) -> tuple[list[Table], list[Path]]:
        changed = [name for name, made in self.reports.items() if made.changed]
        verdicts, split = claims.from_runs(self.reports), evidence.judged_split(self.reports)
        ours = supplement.claims_table(verdicts, self.scale, split, changed)
        printed = supplement.claims_table(claims.from_print(), None)
        used = {name for names in evidence.STUDIES.values() for name in names}
        origin = {n: made.provenance for n, made in self.reports.items() if n in used}
        write = partial(self._writer.table, page.CLAIMS)
        files = write("claims", ours, {"scale": self.scale, "studies": origin})
        files += write("claims-printed", printed, None)
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
        picture = Picture(
            "figure4",
            partial(figures.class_shares, title, samples),
            "Sequences of each class, one bar a training sample.",
        )
        files = self._writer.table(page.paper_part(1), "table1", table, origin)
        return table, files + self._writer.figure(page.paper_part(1), picture)

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

    def _page(self, name: str, parts: Sequence[str], studies: Sequence[str]) -> list[Path]:
        """Write some of what has been made as one page, where that is asked for.

        ``studies`` are those whose datasets it tells of.
        """
        if not self._writer.for_page:
            return []
        files = [f for s in studies for c in self._made[s].cards.values() for f in self._dataset(c)]
        shown = {name: self._writer.part(name) for name in [page.DATA, *parts]}
        said = [*self.problems.values(), *self.missing.values()]
        said += [text for study, text in self.left_out.items() if study in studies]
        text = page.render(name, self.scale, shown, self._made, studies, said, self._mlflow)
        return [*files, self._writer.text(f"{name}.html", text)]

    def _of_runs(self, study: str, runs: Mapping[str, Any]) -> dict[str, Any]:
        return {"study": study, "scale": self.scale, "runs": runs}

    def _missing(self, what: str, studies: Sequence[str]) -> MissingStudyError:
        return MissingStudyError(
            f"{what} needs {' and '.join(studies)}, not run at {self.scale} scale. "
            f"Run: {command('study', *studies, scale=self.scale)}"
        )


def _sequences(made: Report, row: Row) -> tuple[Any, ...]:
    """Return what decides on which sequences, and on how much of each, a cell was trained."""
    return made.cards[row.data]["fingerprint"], row.params["train_size"], row.params["length"]


def _ordinal(number: int) -> str:
    last = 0 if number % 100 in (11, 12, 13) else number % 10
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(last, "th")
    return f"{number}{suffix} training sample"
