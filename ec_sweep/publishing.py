"""The files of a report: every table and figure of a study, the paper's tables, the claims."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ec_sweep import analysis, claims, figures, layouts, published, report, supplement, tables
from ec_sweep.errors import EcsweepError
from ec_sweep.layouts import Table
from ec_sweep.paths import write_atomically
from ec_sweep.report import Report, Row
from ec_sweep.tracking import Tracker

FORMATS = (*tables.FORMATS, *figures.FORMATS)
DEFAULT_FORMATS = (*tables.FORMATS, "svg")
PAPER_TABLES = range(1, 8)
_CLASS_STUDY = "single-ec37"
"""The study whose dataset Table 1 and Figure 4 show; any other on ``ec37`` stands in for it."""
_PRINTABLE = 40
"""Rows that a table for print has at most; longer ones are CSV alone."""


class MissingStudyError(EcsweepError):
    """A table asks for studies that have not been run."""


class Publisher:
    """Writes what has been run at one scale into a folder."""

    def __init__(
        self, trackers: Mapping[str, Tracker], scale: str, formats: Sequence[str], folder: Path
    ) -> None:
        self._trackers, self.scale = trackers, scale
        self._formats, self._folder = formats, folder
        self._reports: dict[str, Report] = {}

    @property
    def reports(self) -> dict[str, Report]:
        """The report of every study that has runs, by name."""
        return {name: self.report(name) for name, known in self._trackers.items() if known.any_run}

    def report(self, study: str) -> Report:
        """Return the report of a study.

        Raises:
            EcsweepError: it has not been run at this scale.
        """
        if study not in self._reports:
            tracker = self._trackers.get(study)
            self._reports[study] = report.build(tracker, f"{study}@{self.scale}")
        return self._reports[study]

    def table_of(self, study: str) -> list[Path]:
        """Write a study's own table and its provenance."""
        made = self.report(study)
        texts = {"csv": tables.tidy_csv(made)}
        return self._write(study, layouts.study_table(made), made.provenance, texts)

    def study(self, study: str) -> list[Path]:
        """Write everything that there is of a study: tables, comparisons, classes, figures."""
        made, tracker = self.report(study), self._trackers[study]
        files = self.table_of(study)
        loaded: dict[str, analysis.Predictions] = {}

        def predictions(run_id: str) -> analysis.Predictions:
            if run_id not in loaded:
                loaded[run_id] = analysis.load(tracker.predictions(run_id))
            return loaded[run_id]

        rows = [row for row in made.rows if row.runs]
        looked_at = {id(row): analysis.look_at(made, row, predictions) for row in rows}
        best = [looked_at[id(row)] for row in analysis.best_of_each_model(made)]
        texts = {"csv": tables.classes_csv(study, looked_at.values())}
        files += self._write(
            f"{study}-classes", supplement.per_class_table(made, best), None, texts
        )
        compared = analysis.compare(made, predictions)
        if compared:
            table = supplement.comparison_table(made, compared)
            files += self._write(f"{study}-comparisons", table, None)
        return files + self._figures(made, tracker, best)

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
        titles = {7: "Combined models"}
        made = report.joined(found, titles.get(number, found[0].title), number)
        table = layouts.paper_table(made)
        files = self._write(f"table{number}", table, made.provenance)
        if number in (5, 6, 7):
            baselines, provenance = self._baselines(made)
            extended = supplement.extended_table(made, baselines)
            files += self._write(f"table{number}-extended", extended, provenance)
        return table, files

    def claims(self) -> tuple[list[Table], list[Path]]:
        """Check the paper's conclusions against the runs and against its own tables."""
        checked = {
            "claims": supplement.claims_table(claims.from_runs(self.reports), self.scale),
            "claims-printed": supplement.claims_table(claims.from_print(), None),
        }
        files = [file for name, table in checked.items() for file in self._write(name, table, None)]
        return list(checked.values()), files

    def everything(self) -> Iterator[tuple[str, list[Path]]]:
        """Write all that there is; yields what was written, or in words why it was not."""
        for study in self.reports:
            yield study, self.study(study)
        for number in PAPER_TABLES:
            try:
                yield f"Table {number}", self.paper_table(number)[1]
            except MissingStudyError as error:
                yield str(error), []
        yield "Claims", self.claims()[1]

    def _classes(self) -> tuple[Table, list[Path]]:
        """Write Table 1 and Figure 4 from the card of the dataset ``ec37``."""
        names = [_CLASS_STUDY, *self.reports]
        having = [n for n in names if n in self.reports and "ec37" in self.reports[n].cards]
        if not having:
            raise self._missing("Table 1", [_CLASS_STUDY])
        card = self.reports[having[0]].cards["ec37"]
        table = supplement.class_table(card, self.scale, compared=self.scale == "paper")
        provenance = {
            "study": having[0],
            "scale": self.scale,
            "run": self._trackers[having[0]].parent_id(),
            "artifact": f"datasets/{card['name']}-{card['fingerprint'][:12]}.json",
            "dataset": card["fingerprint"],
        }
        samples = {_ordinal(n): sample for n, sample in enumerate(card["samples"], 1)}
        title = f"Figure 4. Classes of the training samples ({self.scale} scale)"
        files = self._write("table1", table, provenance)
        return table, files + self._draw("figure4", lambda: figures.class_shares(title, samples))

    def _baselines(self, made: Report) -> tuple[list[Row], dict[str, Any]]:
        """Return the baselines' rows on a table's datasets, and the provenance of all."""
        baselines = self.reports.get("baselines")
        if baselines is None:
            return [], made.provenance
        rows = [row for row in baselines.rows if row.params["dataset"] in made.cards]
        cells = made.provenance["cells"] | baselines.provenance["cells"]
        return rows, made.provenance | {"cells": cells}

    def _figures(
        self, made: Report, tracker: Tracker, best: Sequence[analysis.Selected]
    ) -> list[Path]:
        title = f"{made.title or made.study} ({made.scale} scale)"
        curves = [
            figures.Curve(
                analysis.label_of(made, row),
                *(
                    tracker.history(row.runs[min(row.runs)], metric)
                    for metric in ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
                ),
            )
            for row in made.rows
            if row.runs
        ] if self._draws else []  # fmt: skip
        points = [
            figures.Point(
                analysis.label_of(made, row),
                row.metrics["epoch_seconds_median"],
                row.metrics["test_accuracy"],
                row.ci95.get("test_accuracy"),
            )
            for row in made.rows
            if "epoch_seconds_median" in row.metrics
        ]
        files = []
        if curves:
            name = f"{made.study}-learning"
            files += self._draw(name, lambda: figures.learning_curves(title, curves))
        if points:
            seconds = "Training time (seconds an epoch)"
            name = f"{made.study}-time"
            files += self._draw(name, lambda: figures.accuracy_over_time(title, points, seconds))
        for dataset, card in made.cards.items():
            matrices = [
                figures.Confusion(cell.label, card["classes"], cell.confusion)
                for cell in best
                if cell.dataset == dataset
            ]
            some = f"-{dataset}" if len(made.cards) > 1 else ""
            if matrices:
                files += self._draw(
                    f"{made.study}-confusion{some}",
                    lambda shown=matrices: figures.confusion_matrices(title, shown),  # type: ignore[misc]
                )
        return files

    @property
    def _draws(self) -> list[str]:
        return [kind for kind in self._formats if kind in figures.FORMATS]

    def _draw(self, name: str, make: Callable[[], Any]) -> list[Path]:
        """Draw a figure where one of its formats is asked for."""
        return figures.save(make(), self._folder / name, self._draws) if self._draws else []

    def _write(
        self,
        name: str,
        table: Table,
        provenance: Mapping[str, Any] | None,
        instead: Mapping[str, str] | None = None,
    ) -> list[Path]:
        """Write a table in each format, with texts that stand in for its own, and provenance."""
        files = []
        for kind in self._formats:
            text = (instead or {}).get(kind)
            if text is None and kind in tables.FORMATS:
                if kind != "csv" and len(table.rows) > _PRINTABLE:
                    continue
                text = tables.render(table, kind)
            if text is not None:
                files.append(self._save(name, kind, text))
        if provenance is not None:
            files.append(self._save(name, "provenance", json.dumps(provenance, indent=1) + "\n"))
        return files

    def _save(self, name: str, kind: str, text: str) -> Path:
        path = self._folder / f"{name}{tables.SUFFIXES.get(kind, '.provenance.json')}"
        try:
            write_atomically(path, text)
        except OSError as error:
            raise EcsweepError(f"{path}: cannot be written ({error.strerror}).") from error
        return path

    def _missing(self, what: str, studies: Sequence[str]) -> MissingStudyError:
        scale = "" if self.scale == "demo" else f" --scale {self.scale}"
        return MissingStudyError(
            f"{what} needs {' and '.join(studies)}, not run at {self.scale} scale. "
            f"Run: ecsweep study {' '.join(studies)}{scale}"
        )


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number, "th")
    return f"{number}{suffix} training sample"
