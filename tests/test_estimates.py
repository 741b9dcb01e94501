"""What a study will take: from earlier cells, by arithmetic, or not known."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ec_sweep import earlier, estimates, machine, outlook, planning, spec, weights
from ec_sweep.earlier import Earlier, Need
from ec_sweep.estimates import Estimate, Span
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.paths import Home
from ec_sweep.plan import size
from tests.conftest import TINY_SWEEP, Ecsweep

GB = 10**9
HP = Hyperparameters(length=100, epochs=10)


def need(**values: object) -> Need:
    hp = replace(HP, **values)  # type: ignore[arg-type]
    return Need("cnn", hp, ("enzyme", "random"), hp.train_size or 1000, 333, 2)


def trained(
    of: Need, seconds: float = 2.0, epochs: float = 10, *, here: bool = True, memory: float = GB
) -> Earlier:
    """A cell that was trained, an epoch of which took so many seconds."""
    params = {**of.network, "batch_size": str(of.hp.batch_size), "epochs": str(of.hp.epochs)}
    return Earlier(
        model="cnn", length=of.hp.length, train=of.train or 0, params=params, here=here,
        alone=False, epochs=epochs, epoch_seconds=seconds, test_seconds=1.0, other_seconds=3.0,
        memory=memory,
    )  # fmt: skip


def part(of: Need, known: Sequence[Earlier]) -> estimates.Part:
    return estimates._part(of, 4, known, alone=False)


def test_cells_of_the_same_kind_give_the_time() -> None:
    """Epochs at their pace, the test and the rest; from the fastest to the slowest."""
    found = part(need(), [trained(need(), seconds) for seconds in (1.0, 2.0, 4.0)])
    assert found.certainty == "measured"
    assert found.runs == 3
    assert found.seconds == Span(10 * 1.0 + 4, 10 * 2.0 + 4, 10 * 4.0 + 4)
    assert (found.memory, found.unlike) == (GB, ())


def test_early_stopping_is_expected_as_often_as_it_was_seen() -> None:
    """The usual number of epochs counts, the most there can be at the upper end."""
    known = [trained(need(), epochs=epochs) for epochs in (4, 6, 10)]
    assert part(need(), known).seconds == Span(4 * 2.0 + 4, 6 * 2.0 + 4, 10 * 2.0 + 4)
    longer = part(need(epochs=20), known)  # how those stop is not known
    assert longer.seconds == Span(20 * 2.0 + 4, 20 * 2.0 + 4, 20 * 2.0 + 4)


def test_another_length_or_size_is_scaled_and_said_to_be() -> None:
    """By residues of an epoch; what does not depend on them stays as it is."""
    found = part(need(length=300, train_size=2000), [trained(need())])
    assert found.certainty == "scaled"
    assert found.unlike == ("length or size",)
    assert found.seconds is not None
    assert found.seconds.typical == pytest.approx(6 * (10 * 2.0 + 1) + 3)
    assert found.memory == 0  # of another size nothing is measured


def test_the_most_alike_cells_count_alone() -> None:
    """Size before hardware, hardware before the network."""
    other_size = trained(need(length=50, filters=7), 100.0)
    elsewhere = trained(need(), 50.0, here=False)
    other_network = trained(need(filters=7), 3.0)
    everything = [other_size, elsewhere, other_network]
    found = part(need(), everything)
    assert found.seconds == Span(34, 34, 34)
    assert found.unlike == ("network or batch size",)
    assert found.certainty == "measured"
    assert part(need(), everything[:2]).unlike == ("hardware",)
    assert part(need(), everything[:2]).certainty == "scaled"
    assert part(need(), [*everything, trained(need(), 1.0)]).seconds == Span(14, 14, 14)


def test_the_nearest_size_is_scaled_from() -> None:
    """Of other sizes the one that has to be stretched least, whichever way."""
    sizes = [trained(need(length=length), length) for length in (5, 80, 400)]
    found = part(need(), sizes)
    assert (found.runs, found.times) == (1, 1.25)
    assert found.seconds is not None
    assert found.seconds.typical == pytest.approx(1.25 * (10 * 80.0 + 1) + 3)


def test_nothing_is_invented() -> None:
    """Without an earlier cell of the model there is no time, only what arithmetic gives.

    Nor from another network of another size.
    """
    assert part(need(length=300), [trained(need(filters=7))]).certainty == "unknown"
    found = part(need(), [])
    assert (found.certainty, found.seconds, found.memory) == ("unknown", None, 0)
    assert found.memory_at_least == weights.checkpoint_bytes("cnn", HP, 2)


def test_workers_share_the_time_but_for_the_longest_cell() -> None:
    """A study takes no less than its longest cell."""
    fast = part(need(), [trained(need())])
    slow = replace(fast, cells=1, seconds=Span(500, 600, 700))
    made = Estimate([fast, slow], 2, estimates.Disk(0, 0, 0, 0), GB, [], "")
    assert made.seconds == Span(500, 600, 700)
    unsure = replace(slow, seconds=Span(1, 2, 5000))
    assert replace(made, parts=[slow, unsure]).seconds == Span(500, 600, 5000)
    made = replace(made, parts=[fast])
    assert made.seconds == Span(48, 48, 48)
    assert made.certainty == "measured"


def test_a_plan_before_anything_has_run_says_what_would_tell(ecsweep: Ecsweep) -> None:
    """The basis is named, or what would give one; the contract's keys stay."""
    document = json.loads(ecsweep.ok("plan", "tiny", "--json"))
    assert document["estimate"]["seconds"] is None
    assert document["estimate"]["certainty"] == "unknown"
    assert document["estimate"]["to_learn"].endswith("ecsweep study tiny --set epochs=1")
    said = ecsweep.ok("plan", "tiny")
    assert "No estimate of time for 4 cells (cnn)" in said
    assert "Memory: at least " in said
    assert "Disk: at most " in said


def test_a_plan_tells_from_what_it_knows(finished: Ecsweep) -> None:
    """From the study's own cells, or from those of another study and size."""
    own = json.loads(finished.ok("plan", "tiny", "--seeds", "2", "--json"))["estimate"]
    (basis,) = own["basis"]
    assert own["certainty"] == basis["certainty"] == "measured"
    assert (basis["cells"], basis["runs"]) == (4, 2)  # of each filter size two
    seconds = own["seconds"]
    assert 0 < seconds["low"] <= seconds["typical"] <= seconds["high"]
    assert 50 * 2**20 < basis["memory_bytes"] < 20 * GB
    said = finished.ok("plan", "tiny", "--set", "length=80")
    assert "less sure: scaled 2.0-fold from 2 earlier cells of cnn" in said
    assert "of other length or size" in said
    other = finished.home / "other.yaml"
    other.write_text(TINY_SWEEP.replace("study: tiny", "study: other"))
    said = finished.ok("plan", "other.yaml")
    other.unlink()
    assert "from 2 earlier cells of cnn of this length and size" in said
    done = json.loads(finished.ok("plan", "tiny", "--json"))["estimate"]
    assert (done["seconds"], done["basis"], done["disk_bytes"]["total"]) == (None, [], 0)


def test_disk_is_reckoned_from_above(finished: Ecsweep) -> None:
    """What a study of four cells left is less than what it was said to take, and not far less."""
    fresh = Home(finished.home / "nowhere")
    resolved = planning.resolve(planning.Place(Home(finished.home)), "tiny", spec.Request())
    found = planning.StudyStatus(resolved, [planning.CellStatus(cell) for cell in resolved.cells])
    disk = estimates.estimate(fresh, found).disk
    mlruns = finished.home / "mlruns"
    databases = sum(file.stat().st_size for file in mlruns.glob("*.db*"))
    predictions = [file.stat().st_size for file in mlruns.rglob("predictions.npz")]
    models = [file.stat().st_size for file in mlruns.rglob("weights.npz")]
    assert len(predictions) == 4
    assert databases < disk.databases < 4 * databases
    assert sum(models) < disk.models
    assert sum(predictions) < disk.predictions + 4 * 1000  # the files' own heads
    assert disk.checkpoints > 0


def test_what_cannot_fit_is_warned_of_before_it_starts(
    ecsweep: Ecsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line each for memory and disk; on a cluster this machine's memory does not matter."""
    resolved = planning.resolve(
        planning.Place(Home(ecsweep.home)),
        str(ecsweep.home / "sweeps" / "tiny.yaml"),
        spec.Request(),
        build=True,
    )
    found = planning.StudyStatus(resolved, [planning.CellStatus(cell) for cell in resolved.cells])
    assert not estimates.estimate(Home(ecsweep.home), found).warnings
    monkeypatch.setattr(machine, "total_memory", lambda: 100)
    (line,) = estimates.estimate(Home(ecsweep.home), found).warnings
    assert line.startswith("a trial of cnn at length 40 holds at least ")
    assert line.endswith("and this machine has 100 bytes.")
    assert not estimates.estimate(Home(ecsweep.home), found, elsewhere=True).warnings
    monkeypatch.setattr(machine, "total_memory", lambda: 100 * GB)
    monkeypatch.setattr(machine, "available_memory", lambda: 100)
    (line,) = estimates.estimate(Home(ecsweep.home), found).warnings
    assert line.endswith("and 100 bytes are free now.")
    monkeypatch.undo()
    usage = shutil.disk_usage(ecsweep.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    (line,) = estimates.estimate(Home(ecsweep.home), found).warnings
    assert line.startswith("tiny@demo may write ")
    assert "1.0 kB are free" in line


def test_a_card_that_is_too_small_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and optimizer alone must fit the largest GPU."""
    monkeypatch.setattr(machine, "cards", lambda _: [machine.Card(100, 90), None])
    (line, *_) = estimates._of_memory([part(need(), [])], ["0", "1"])
    assert "no GPU here has more than 100 bytes" in line


def test_sampled_studies_count_what_is_still_to_draw(ecsweep: Ecsweep) -> None:
    """The corners of the space stand for the cells that are not drawn yet."""
    text = TINY_SWEEP.replace("filter_size: [2, 3]", "filter_size: {low: 2, high: 9}")
    (ecsweep.home / "sweeps" / "tiny.yaml").write_text(f"{text}sampler: random\ntrials: 6\n")
    (basis,) = json.loads(ecsweep.ok("plan", "tiny", "--json"))["estimate"]["basis"]
    assert basis["cells"] == 6


def test_models_that_keep_what_they_saw_are_as_large_as_that() -> None:
    """Nearest neighbours keep tokens and labels; networks their weights."""
    assert weights.model_bytes("kmer-nn", HP, 2, 1000) == 1000 * 104
    assert weights.model_bytes("cnn", HP, 2, 10) == 4 * weights.parameters("cnn", HP, 2)
    adam, sgd = HP, replace(HP, optimizer="sgd")
    assert weights.checkpoint_bytes("cnn", adam, 2) == 2 * weights.checkpoint_bytes("cnn", sgd, 2)


def test_sizes_are_said_as_people_say_them() -> None:
    """Bytes, with two digits or whole."""
    sizes = (12, 1234, 12_345, 1.5e6, 2.34e9, 98.7e9)
    assert [size(n) for n in sizes] == ["12 bytes", "1.2 kB", "12 kB", "1.5 MB", "2.3 GB", "99 GB"]


def test_several_models_are_told_apart(tmp_path: Path) -> None:
    """Each has its line, with what it rests on."""
    known = part(need(), [trained(need())])
    parts = [known, replace(known, model="gru", certainty="scaled", unlike=("hardware",))]
    made = Estimate(parts, 2, estimates.Disk(0, 0, 0, 0), GB, [], "Run it.")
    lines = list(outlook.lines(made))
    assert lines[0] == "About 1 min 36 s for what is left, 2 side by side:"
    assert lines[1].endswith("24 s each, from 1 earlier cell of cnn of this length and size")
    assert lines[2].endswith("less sure: scaled from 1 earlier cell of gru of other hardware")
    nothing = replace(parts[1], seconds=None, certainty="unknown")
    lines = list(outlook.lines(replace(made, parts=[known, nothing])))
    assert lines[0].startswith("About 48 s for 4 cells of what is left, 2 side by side, from 1 ")
    assert lines[1].startswith("No estimate of time for 4 cells (gru)")
    assert lines[1].endswith("Run it.")
    assert not earlier.find(Home(tmp_path), "none@demo", [need()])
