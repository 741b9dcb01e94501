"""docs/own-experiments.md and ``ecsweep init``: followed as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from ec_sweep import own_models, spec, starting
from ec_sweep.errors import EcsweepError
from ec_sweep.spec import Sweep
from tests.conftest import Ecsweep

DOCS = Path(__file__).resolve().parents[1] / "docs" / "own-experiments.md"
_BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.DOTALL)


class Block(NamedTuple):
    """A block of the page: a command, a file with its name, or a script."""

    mark: str
    kind: str
    text: str


def blocks() -> list[Block]:
    found = _BLOCK.finditer(DOCS.read_text(encoding="utf-8"))
    return [Block(one["mark"] or "", one["kind"], one["text"]) for one in found]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, proteins: list[list[str]]) -> Ecsweep:
    """A folder with what the page takes for granted: FASTA, and a table of classes beside it."""
    folder = tmp_path_factory.mktemp("page")
    some = [row for row in proteins if 50 <= len(row[4]) <= 1000][:300]
    (folder / "proteins.fasta").write_text("".join(f">{r[0]} x\n{r[4]}\n" for r in some))
    (folder / "new.fasta").write_text("".join(f">{r[0]}\n{r[4]}\n" for r in some[:3]))
    rows = [(r[0], "membrane" if r[4].count("L") > len(r[4]) / 10 else "cytoplasm") for r in some]
    table = "".join(f"{name}\t{label}\n" for name, label in [("Entry", "Compartment"), *rows])
    (folder / "compartments.tsv").write_text(table)
    return Ecsweep(folder, cores=(min(os.sched_getaffinity(0)),))  # one worker is enough


def test_the_page_does_what_it_says(home: Ecsweep) -> None:
    """Every file is written and every command run, in order; scripts are run."""
    ran = []
    for block in blocks():
        if block.mark.startswith("file: "):
            (home.home / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark == "python":
            (home.home / "script.py").write_text(block.text)
            done = subprocess.run(
                [sys.executable, "script.py"],
                cwd=home.home,
                env=home.environment(),
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert "no study is named 'no-such-study'" in done.stdout
        elif block.kind == "sh":
            for line in block.text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "ecsweep"
                home.ok(*arguments)
                ran.append(arguments[0])
    assert {"init", "plan", "study", "status", "data", "report", "predict"} <= set(ran)
    for name in ("my-sweep", "dilated"):
        assert {cell["state"] for cell in home.cells(name)} == {"complete"}
    assert {cell["state"] for cell in home.cells("compartments", "paper")} == {"complete"}
    report = (home.home / "reports" / "paper" / "compartments.md").read_text()
    assert "the paper" not in report.lower()


def test_the_page_shows_the_models_that_init_writes(tmp_path: Path) -> None:
    """The registry on the page is that of the file."""
    text = starting.write(tmp_path / "my_models.py").read_text()
    (shown,) = [block.text for block in blocks() if block.text.startswith("MODELS = {")]
    assert shown in text


def test_a_sweep_to_begin_with_explains_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is valid as it stands at both scales, small at demo, and so is what it comments out."""
    monkeypatch.chdir(tmp_path)
    path = starting.write(starting.DEFAULT)
    assert path == Path("sweeps/my-sweep.yaml")
    sweep = spec.load(path)
    assert sweep.study == "my-sweep"
    assert len(spec.cells(sweep, spec.Request("demo"))) == 4
    text = path.read_text()
    for key in Sweep.model_fields:
        assert re.search(rf"^(# )?{key}:", text, re.MULTILINE), key
    # With the sampler's part in force instead of the grid: also valid.
    sampled = re.sub(r"^grid:\n(  .*\n)+", "", text, flags=re.MULTILINE)
    sampled = re.sub(r"^#   (grid:|  \w)", r"\1", sampled, flags=re.MULTILINE)
    sampled = re.sub(
        r"^# (sampler|trials|metric|direction|pruner|table):", r"\1:", sampled, flags=re.MULTILINE
    )
    (tmp_path / "sampled.yaml").write_text(sampled)
    drawn = spec.sampled(spec.load(tmp_path / "sampled.yaml"), spec.Request("demo"))
    assert drawn is not None
    assert set(drawn.axes) == {"learning_rate", "filter_size"}


def test_models_to_begin_with_are_valid(tmp_path: Path) -> None:
    """As they stand."""
    try:
        own_models.know(own_models.read(starting.write(tmp_path / "some_models.py")))
        known = own_models.MODELS["dilated-cnn"]
    finally:
        own_models.know(None)
    assert known.own == {"dilation": 2, "blocks": 2}


def test_init_never_writes_over_what_is_there(ecsweep: Ecsweep) -> None:
    """One line, exit 2, and the file as it was; names that cannot be a study's are refused."""
    said = ecsweep.ok("init", "one.yaml")
    assert "ecsweep study one.yaml" in said
    assert "ecsweep study two" in ecsweep.ok("init", "sweeps/two.yaml")
    (ecsweep.home / "one.yaml").write_text("mine")
    assert "one.yaml is there already" in ecsweep.fails("init", "one.yaml")
    assert (ecsweep.home / "one.yaml").read_text() == "mine"
    assert "must be named as its study" in ecsweep.fails("init", "My Sweep.yaml")
    assert "must be named as its study" in ecsweep.fails("init", "sweep.txt")
    assert not (ecsweep.home / "mlruns").exists()


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Its name and why."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EcsweepError, match="cannot be written"):
        starting.write(tmp_path / "file" / "sweep.yaml")
