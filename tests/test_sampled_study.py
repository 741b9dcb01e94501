"""A sampled study on real databases: ledger, plan, status and report, with scripted endings."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from ec_sweep import app, layouts, output, planning, report, sampling, tables
from ec_sweep.attempts import AttemptFolder, Event, Result
from ec_sweep.errors import EcsweepError
from ec_sweep.experiments import open_tracker
from ec_sweep.ledger import Ledger
from ec_sweep.ledger_store import open_ledger
from ec_sweep.paths import Home
from ec_sweep.planning import Place, Resolved
from ec_sweep.recording import Recorder
from ec_sweep.spec import Cell, Request
from ec_sweep.tracking import Tracker

SWEEP = """\
study: drawn
title: Rates and widths
dataset: enzyme
fixed: {epochs: 4, hidden: [8]}
grid:
  model: [cnn, lstm]
  learning_rate: {low: 1e-5, high: 1e-1, log: true}
  units: {low: 8, high: 32, step: 8}
  pool_size: [1, 2]
sampler: tpe
trials: 8
metric: val_loss
pruner: median
scales: {demo: {length: 40, train_size: 64}}
"""


class Study:
    """Drives the study of a file as the driver does, a few cells at a time."""

    def __init__(self, root: Path) -> None:
        self.place = Place(Home(root))
        self.place.home.prepare()
        self.path = root / "drawn.yaml"
        self.path.write_text(SWEEP)

    def resolve(self) -> Resolved:
        return planning.resolve(self.place, str(self.path), Request(), build=True)

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.place.home, None, "drawn@demo")

    @property
    def tracker(self) -> Tracker:
        return open_tracker(self.place.home, "drawn@demo")

    def session(self, cells: int) -> list[Cell]:
        """Repair, plan, and train so many cells; the last is left running, as by a crash."""
        ledger, tracker = self.ledger, self.tracker
        recorder = Recorder(self.place.home, "drawn@demo", ledger, tracker)
        recorder.repair()
        resolved = self.resolve().after(ledger.attempts())
        parent = tracker.open_parent("")
        name = tracker.store_plan(parent, planning.plan_document(resolved))
        for dataset in resolved.datasets.values():
            tracker.store_card(parent, dataset.card)
        proposer = sampling.open_proposer(
            resolved.cells, resolved.sampled, "median", ledger.attempts(), tracker,
            resolved.datasets, name,
        )  # fmt: skip
        open_cells = [
            one.cell for one in planning.status(self.place, resolved, ledger).cells
            if one.state == "interrupted"
        ]  # fmt: skip
        done: list[Cell] = []
        for _ in range(cells):
            cell = open_cells.pop(0) if open_cells else proposer.propose()
            if cell is None:
                break
            tries = 1 + len(ledger.attempts().get(str(cell.id), []))
            label, axes = resolved.plan.label(cell), resolved.plan.axes
            run_id = tracker.start(cell, tries, parent, label, 1, proposer.tags(cell))
            attempt = ledger.start(cell, tries, run_id, 1, axes, proposer.point(cell))
            done.append(cell)
            if len(done) == cells:
                break
            result = self.train(tracker, run_id, cell)
            AttemptFolder(self.place.home.attempt(run_id)).create()
            proposer.ended(cell, recorder.record(attempt, result))
        return done

    def train(self, tracker: Tracker, run_id: str, cell: Cell) -> Result:
        loss = 1 + cell.hyperparameters.learning_rate
        pruned = cell.hyperparameters.learning_rate > 1e-3
        events = [
            Event(1000 + epoch, epoch, {"val_loss": loss / epoch, "val_accuracy": 0.1 * epoch})
            for epoch in range(1, 3 if pruned else 5)
        ]
        tracker.log(run_id, events)
        if pruned:
            return Result("pruned", 2000, {"epochs_run": 2}, value=0.2)
        return Result("complete", 2000, {"test_accuracy": 0.75, "test_loss": loss}, value=0.4)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("drawn"))


def test_a_sampled_study_from_first_plan_to_report(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """Draws on after crashes to exactly N cells; each step knows the ones before."""
    before = planning.status(study.place, study.resolve())
    assert (before.cells, before.done, before.left) == ([], False, 8)
    document = before.to_json()
    assert (document["cells"], document["sampler"], document["trials"]) == ([], "tpe", 8)
    output.print_cells(before)
    said = capsys.readouterr().out
    assert "0 of 8 drawn; tpe to minimize val_loss" in said
    assert "learning_rate 0.00001 to 0.1 (log)" in said
    first = study.session(3)
    second = study.session(4)
    assert second[0] == first[2]  # what the crash interrupted is run again
    study.session(100)
    found = planning.status(study.place, study.resolve())
    assert found.done
    assert len({cell.cell.id for cell in found.cells}) == 8
    assert [cell.cell for cell in found.cells][:3] == first
    assert study.session(100) == []

    points = [tries[0].point for tries in study.ledger.attempts().values()]
    assert all(point and point.keys() == study.resolve().plan.axes.keys() for point in points)
    made = report.build(study.tracker, "drawn@demo")
    assert {cell["params"]["model"] for cell in made.provenance["cells"].values()} <= {
        "cnn", "lstm",
    }  # fmt: skip
    scores = [row.metrics["val_loss"] for row in made.rows if row.n]
    assert scores == sorted(scores)
    assert len(made.rows) == 8
    assert scores
    assert any(row.pruned for row in made.rows)
    assert [row.n for row in made.rows] == sorted((row.n for row in made.rows), reverse=True)


def test_what_a_sampler_needs_is_known_before_anything_is_written(study: Study) -> None:
    """A study that asks for gp without PyTorch is refused with the command to run."""
    resolved = study.resolve()
    planning.check_runnable(resolved)
    if importlib.util.find_spec("torch") is None:
        gp = replace(resolved, sweep=resolved.sweep.model_copy(update={"sampler": "gp"}))
        with pytest.raises(EcsweepError, match=r"pip install 'ecsweep\[gp\]'"):
            planning.check_runnable(gp)


def test_a_report_knows_cells_drawn_since_the_plan_was_stored(tmp_path: Path) -> None:
    """In the middle of a session, MLflow alone tells which cells there are."""
    study = Study(tmp_path)
    drawn = study.session(4)
    tracker = study.tracker
    plan = tracker.plan()
    assert plan is not None
    assert plan["cells"] == []
    made = report.build(tracker, "drawn@demo")
    assert made.provenance["cells"].keys() == {cell.id for cell in drawn}
    assert "still running" in {row.failure for row in made.rows}
    assert app.forget(study.place, study.resolve(), str(drawn[0].id)) == 1
    made = report.build(tracker, "drawn@demo")
    assert made.provenance["cells"].keys() == {cell.id for cell in drawn[1:]}


def test_tables_of_sampled_studies(study: Study) -> None:
    """What was drawn stands in columns, best first; a pruned cell says so instead of scores."""
    if not study.ledger.attempts():
        study.session(100)
    made = report.build(study.tracker, "drawn@demo")
    table = layouts.study_table(made)
    assert table.row_names == ["Model", "Learning rate", "Units", "Pool size"]
    assert table.metrics == ["Val. loss", "ACC", "Loss"]
    assert not table.notes
    for kind in tables.FORMATS:
        assert "pruned after epoch 2" in tables.render(table, kind)
    assert table.cells[-1] == ["pruned after epoch 2", "N/A", "N/A"]
    assert table.cells[0][1] == "0.7500"
    assert tables.terminal(table).row_count == len(made.rows)
    tidy = tables.tidy_csv(made).splitlines()
    assert len(tidy) == 1 + len(made.rows)
    escaped = replace(made, title="50 % & more")
    assert r"50 \% \& more" in tables.render(layouts.study_table(escaped), "latex")
