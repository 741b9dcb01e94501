"""Every table and figure from real runs: tiny versions of the paper's studies, in one home."""

import csv
import json
import random
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec_sweep import planning, published
from tests.conftest import Ecsweep, compile_latex, new_home

DATA = "length: 40, train_size: 64"
NET = f"{DATA}, epochs: 2, batch_size: 16, hidden: [8]"
CNN, RNN = f"{NET}, filters: 4", f"{NET}, units: 3, depth: 1"
BOTH = f"{CNN}, units: 3, depth: 1"
COMBINED = "{model: [cnn-lstm, cnn-gru], learning_rate: [0.01]}"
STUDIES = {
    "rnn-units": (RNN.replace(", depth: 1", ""), "{model: [lstm, gru], depth: [1]}"),
    "cnn-filters": (f"model: cnn, {CNN}", "{filter_size: [2, 3], learning_rate: [0.01]}"),
    "complex-cnn-filters": (f"model: complex-cnn, {CNN}", "{filter_sizes: [[2, 3]]}"),
    "single-enzyme": (BOTH, "{model: [cnn, lstm], learning_rate: [0.01]}"),
    "single-ec37": (BOTH, "{model: [cnn, gru], learning_rate: [0.01]}"),
    "combined-enzyme": (BOTH, COMBINED),
    "combined-ec37": (BOTH, COMBINED),
    "baselines": (DATA, "{dataset: [enzyme, ec37], model: [composition]}"),
    "batch-size": (f"model: cnn, {CNN}", "{learning_rate: [0.01]}"),
    "cnn-small-lr": (f"model: cnn, {CNN}", "{learning_rate: [0.01]}"),
    "future-complex-cnn-lstm": (BOTH, "{model: [complex-cnn-lstm]}"),
    "leakage-enzyme": (DATA, "{model: [composition], split: [random, identical, cluster]}"),
    "pooling-combined": (BOTH, "{model: [cnn-lstm], pool_size: [1]}"),
    "rnn-lr": (RNN, "{dataset: [enzyme, ec37], model: [gru]}"),
}
"""Fixed values and grid of a tiny version of each study that comes with ecsweep."""
EXCLUSIVE = {*list(STUDIES)[3:9], "future-complex-cnn-lstm", "pooling-combined"}
BOTH_DATASETS = {"baselines", "rnn-lr"}
BASELINES = {"baselines", "leakage-enzyme"}
"""Studies of models that have no epochs."""


def sweep(study: str) -> str:
    fixed, grid = STUDIES[study]
    tables = {name: number for number, names in published.STUDIES.items() for name in names}
    lines = {
        "study": study,
        "title": f"Tiny {study}",
        "table": tables.get(study),
        "timing": "exclusive" if study in EXCLUSIVE else "shared",
        "dataset": None if study in BOTH_DATASETS else "ec37" if "ec37" in study else "enzyme",
        "seeds": "[0, 1]" if study == "single-enzyme" else "[0]",
        "fixed": f"{{{fixed}}}",
        "grid": grid,
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    """A home in which `study --all` has run a tiny version of every study, in one process."""
    home = new_home(tmp_path_factory.mktemp("paper"))
    (home.home / "sweeps" / "tiny.yaml").unlink()
    for study in STUDIES:
        (home.home / "sweeps" / f"{study}.yaml").write_text(sweep(study))
    said = home.ok("study", "--all", "--executor", "inline", "--set", "epochs=2")
    assert "== Study 1 of 14: rnn-units" in said
    assert "== Study 8 of 14: baselines" in said  # to which epochs mean nothing
    return home


def files(paper: Ecsweep) -> Path:
    return paper.home / "reports" / "demo"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_table_and_figure_is_written(paper: Ecsweep) -> None:
    """`study --all` ends with Tables 1 to 7, Figure 4, and each study's tables and figures."""
    names = {path.name for path in files(paper).iterdir()}
    for number in range(1, 8):
        kinds = ("csv", "tex", "md", "provenance.json")
        assert {f"table{number}.{kind}" for kind in kinds} <= names
    for number in (5, 6, 7):
        assert f"table{number}-extended.csv" in names
    assert {"figure4.svg", "claims.md", "claims-printed.csv"} <= names
    for study in STUDIES:
        some = "-ec37" if study in BOTH_DATASETS else ""
        some = "-cluster" if study == "leakage-enzyme" else some
        parts = ["", "-classes", f"-confusion{some}"]
        parts += ["-learning"] if study not in BASELINES else []
        parts += [f"-time{some}"] if study in EXCLUSIVE else []
        for part in parts:
            assert any(name.startswith(f"{study}{part}.") for name in names), (study, part)
    for path in files(paper).glob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_numbers_of_the_papers_tables_are_found_again_in_mlflow(paper: Ecsweep) -> None:
    """Cells picked at random lead through their provenance to runs that measured them."""
    lengths = {n: len(rows(files(paper) / f"table{n}.csv")) for n in range(2, 8)}
    assert lengths == {2: 1, 3: 2, 4: 1, 5: 2, 6: 2, 7: 4}
    choose = random.Random(7)
    for number in range(2, 8):
        origin = json.loads((files(paper) / f"table{number}.provenance.json").read_text())["cells"]
        measured = {cell: runs_of(paper, cell, found) for cell, found in origin.items()}
        for row in rows(files(paper) / f"table{number}.csv"):
            column = choose.choice([name for name in row if name.endswith(("ACC", "Loss"))])
            metric = "test_accuracy" if column.endswith("ACC") else "test_loss"
            printed = float(row[column])
            wanted = [runs for params, runs in measured.values() if matches(params, row, column)]
            values = [float(run[metric]) for runs in wanted for run in runs]
            assert len(values) == (2 if number == 5 else 1), (number, row)
            assert printed == pytest.approx(np.mean(values), abs=5e-5), (number, row)


def test_times_are_recomputed_from_their_runs(paper: Ecsweep) -> None:
    """Train s is the runs' median epoch; Test s one prediction's time for each test sequence."""
    origin = json.loads((files(paper) / "table6.provenance.json").read_text())["cells"]
    for row in rows(files(paper) / "table6.csv"):
        (found,) = [
            runs
            for params, runs in (runs_of(paper, cell, o) for cell, o in origin.items())
            if matches(params, row, "ACC")
        ]
        assert float(row["Train s"]) == pytest.approx(found[0]["epoch_seconds_median"], abs=0.006)
        seconds = found[0]["latency_ms_batch1"] * 21 / 1000  # 600 test of 1,800 training, 64 used
        assert float(row["Test s"]) == pytest.approx(seconds, abs=0.006)


def runs_of(
    paper: Ecsweep, cell: str, found: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Return a cell's params and its runs' metrics, by SQL alone."""
    metrics = []
    for run in found["runs"]:
        ((tag,),) = paper.sql(
            "mlflow.db",
            f"SELECT value FROM tags WHERE run_uuid = '{run}' AND key = 'ecsweep.cell'",
        )
        assert tag == cell
        query = f"SELECT key, value FROM latest_metrics WHERE run_uuid = '{run}'"
        metrics.append(dict(paper.sql("mlflow.db", query)))
    return found["params"], metrics


NAMES = {"Single CNN": "cnn", "LSTM": "lstm", "GRU": "gru", "CNN-LSTM": "cnn-lstm",
         "CNN-GRU": "cnn-gru", "Complex CNN": "complex-cnn"}  # fmt: skip


def matches(params: dict[str, Any], row: dict[str, str], column: str) -> bool:
    """Whether a printed row and column are those of a cell with these params."""
    printed = {
        "Units": "units", "Depth": "depth", "Filter size": "filter_size", "Model": "model",
        "Filter sizes": "filter_sizes", "Dataset": "dataset", "Learning rate": "learning_rate",
    }  # fmt: skip
    for heading, name in printed.items():
        if heading in row:
            value = params[name]
            text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
            if NAMES.get(row[heading], row[heading]) != text:
                return False
    group = column.rpartition(" ")[0]
    return group in ("", str(params["learning_rate"])) or NAMES.get(group) == params["model"]


def test_table_1_is_the_datasets_card(paper: Ecsweep) -> None:
    """Class counts come from the card that MLflow keeps with the study."""
    (card_path,) = (paper.home / "data" / "ec37").glob("*/dataset.json")
    card = json.loads(card_path.read_text())
    table = {row["EC"]: row for row in rows(files(paper) / "table1.csv")}
    for name in card["all_counts"]:
        assert table[name]["All"] == str(card["all_counts"][name])
        for column, counts in (
            ("1st train", card["samples"][0]),
            ("2nd train", card["samples"][1]),
            ("Valid", card["class_counts"]["valid"]),
            ("Test", card["class_counts"]["test"]),
        ):
            assert table[name][column] == (str(counts[name]) if name in counts else "")
    assert table["Total"]["1st train"] == "1800"
    paper.ok("report", "--table", "1", "--format", "png")
    assert (files(paper) / "figure4.png").read_bytes().startswith(b"\x89PNG")
    figure = (files(paper) / "figure4.svg").read_text()
    assert all(f">{name}<" in figure for name in card["classes"])
    origin = json.loads((files(paper) / "table1.provenance.json").read_text())
    assert origin["dataset"] == card["fingerprint"]
    assert len(origin["run"]) == 32


def test_baselines_stand_in_the_extended_tables_alone(paper: Ecsweep) -> None:
    """Beside Tables 5 to 7, on the same dataset, never in the paper's own layout."""
    for number, models in ((5, 2), (6, 2), (7, 4)):
        plain = (files(paper) / f"table{number}.csv").read_text()
        extended = rows(files(paper) / f"table{number}-extended.csv")
        assert "Composition" not in plain
        baselines = [row for row in extended if row["Model"] == "Composition"]
        assert len(extended) - len(baselines) == models
        assert len(baselines) == (2 if number == 7 else 1)
        assert baselines[0]["Learning rate"] == "-"
        origin = json.loads((files(paper) / f"table{number}-extended.provenance.json").read_text())
        cells = [cell["params"] for cell in origin["cells"].values()]
        found = {cell["dataset"] for cell in cells if cell["model"] == "composition"}
        assert found == {5: {"enzyme"}, 6: {"ec37"}, 7: {"enzyme", "ec37"}}[number]


def test_per_class_scores_agree_with_the_predictions(paper: Ecsweep) -> None:
    """Support and recall of each class, recomputed from the kept probabilities."""
    origin = json.loads((files(paper) / "single-ec37.provenance.json").read_text())["cells"]
    lines = rows(files(paper) / "single-ec37-classes.csv")
    for found in origin.values():
        (path,) = (paper.home / "mlruns" / "artifacts").glob(f"**/{found['runs'][0]}/**/*.npz")
        with np.load(path) as kept:
            labels, predicted = kept["labels"], kept["probabilities"].argmax(axis=1)
        own = [line for line in lines if line["cell"] == found["params"]["model"]]
        for label, line in enumerate(own):
            assert int(line["support"]) == (labels == label).sum()
            if line["support"] != "0":
                recall = (predicted[labels == label] == label).mean()
                assert float(line["recall"]) == pytest.approx(recall)
        assert sum(int(line["support"]) for line in own) == len(labels)


def test_claims_are_checked_against_runs_and_print(paper: Ecsweep) -> None:
    """Each conclusion has a verdict and its numbers; at demo scale with a warning."""
    text = paper.ok("report", "--claims")
    assert "checked against the runs at demo scale" in text
    assert "checked against its own printed tables" in text
    assert "Demo runs show that the check works" in text
    printed = {row["Claim"]: row for row in rows(files(paper) / "claims-printed.csv")}
    assert printed["5a"]["Verdict"] == "does not hold"  # LSTM 0.8258, single CNN 0.8263
    ours = {row["Claim"]: row for row in rows(files(paper) / "claims.csv")}
    assert ours.keys() == printed.keys()
    assert ours["1b"]["Verdict"] == "not decidable"  # no such depths here
    assert ours["7a"]["Verdict"] in ("holds", "does not hold")
    studies = json.loads((files(paper) / "claims.provenance.json").read_text())["studies"]
    assert studies["combined-ec37"]["cells"]


def test_splits_never_mix(paper: Ecsweep) -> None:
    """Every split has a dataset, a column, figures and scores of its own; no pair crosses them."""
    study = "leakage-enzyme"
    origin = json.loads((files(paper) / f"{study}.provenance.json").read_text())["cells"]
    fingerprints = {found["params"]["split"]: found["dataset"] for found in origin.values()}
    assert len(set(fingerprints.values())) == len(fingerprints) == 3
    cards = {
        json.loads(path.read_text())["split"]: json.loads(path.read_text())
        for path in (paper.home / "data" / "enzyme").glob("*/dataset.json")
    }
    assert {split: card["fingerprint"] for split, card in cards.items()} == fingerprints
    measured = {
        found["params"]["split"]: runs_of(paper, cell, found)[1][0]["test_accuracy"]
        for cell, found in origin.items()
    }
    model, *counts = rows(files(paper) / f"{study}-splits.csv")
    assert {name: float(model[name]) for name in measured} == pytest.approx(measured, abs=5e-5)
    worth = measured["random"] - measured["cluster"]
    assert float(model["random - cluster"]) == pytest.approx(worth, abs=1e-4)
    printed = {line["Model"]: line for line in counts}
    for split, card in cards.items():
        assert int(printed["of so many"][split]) == card["sizes"]["test"]
        assert int(printed["also in train"][split]) == card["test_sequences_also_in_train"]
        assert (files(paper) / f"{study}-confusion-{split}.svg").exists()
    classes = rows(files(paper) / f"{study}-classes.csv")
    assert {line["split"] for line in classes} == fingerprints.keys()
    assert not (files(paper) / f"{study}-comparisons.csv").exists()
    text = (files(paper) / f"{study}.md").read_text()
    assert all(f" {split} split" in text for split in fingerprints)
    assert "random - cluster" in paper.ok("report", study)
    tidy = rows(files(paper) / f"{study}.csv")
    assert {line["split"]: line["n"] for line in tidy} == dict.fromkeys(fingerprints, "1")


def test_a_table_says_which_studies_it_needs(ecsweep: Ecsweep, finished: Ecsweep) -> None:
    """Before its studies have run, a table is an error that says how to get it."""
    assert "ecsweep study combined-enzyme combined-ec37" in finished.fails("report", "--table", "7")
    assert "ecsweep study single-ec37 --scale paper" in ecsweep.fails(
        "report", "--table", "1", "--scale", "paper"
    )
    assert "nothing has been run at demo scale" in ecsweep.fails("report", "--all")
    for arguments in ([], ["tiny", "--all"], ["--table", "3", "--claims"]):
        assert "one of: STUDY" in ecsweep.fails("report", *arguments)
    assert "--table must be from 1 to 7" in ecsweep.fails("report", "--table", "8")
    text = finished.ok("report", "--all")
    assert "Table 5 needs single-enzyme" in text


def test_one_table_is_shown_and_written(paper: Ecsweep, tmp_path: Path) -> None:
    """--table N prints the table and writes it, and nothing else."""
    text = paper.ok("report", "--table", "5", "--out", str(tmp_path), "--format", "csv,latex")
    assert "Tiny single-enzyme (Table 5 of the paper)" in text
    assert "Single CNN" in text
    assert "±" in text  # two seeds
    assert {path.name for path in tmp_path.iterdir()} == {
        "table5.csv", "table5.tex", "table5.provenance.json",
        "table5-extended.csv", "table5-extended.tex", "table5-extended.provenance.json",
    }  # fmt: skip


def test_studies_stand_in_the_papers_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``--all`` runs the tables' studies first, in the order of the tables."""
    monkeypatch.chdir(tmp_path)
    assert list(planning.sweep_files()) == [
        "rnn-units", "cnn-filters", "complex-cnn-filters", "single-enzyme", "single-ec37",
        "combined-ec37", "combined-enzyme",
        "baselines", "batch-size", "cnn-small-lr", "future-complex-cnn-lstm", "leakage-enzyme",
        "pooling-combined", "rnn-lr",
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_every_latex_table_compiles(paper: Ecsweep, tmp_path: Path) -> None:
    """A real LaTeX run takes every .tex that a report writes."""
    tables = sorted(files(paper).glob("*.tex"))
    assert len(tables) > 20
    said = compile_latex(tmp_path, *(path.read_text() for path in tables))
    too_wide = [line for line in said.splitlines() if line.startswith("Overfull \\hbox")]
    assert not too_wide
