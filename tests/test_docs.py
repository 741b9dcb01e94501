"""The documentation is true: what it shows runs, what it names exists, what is generated is new."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ec_sweep import cell, glossary
from ec_sweep.cli import cli
from ec_sweep.paths import packed
from tests import forking
from tests.conftest import Ecsweep

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = (
    "README.md", "docs/tutorial.md", "docs/sweeps.md", "docs/studies.md", "docs/own-data.md",
    "docs/reports.md", "docs/browsing.md", "docs/terminal.md",
    "docs/splits.md", "docs/predict.md", "docs/machine.md", "docs/operations.md",
    "docs/databases.md", "docs/cluster.md", "docs/backup.md",
)  # fmt: skip
"""Pages whose ``sh`` blocks run, in this order, in one home."""
NOT_RUN = {
    "python3 -m venv": "installs: .ci/run does, as the README says",
    "source .venv": "installs",
    "pip install": "installs: .ci/run does",
    "ecsweep dashboard": "a server that does not end: tests/test_browsing.py starts and ends it",
    "ecsweep --install-completion": "changes the shell: tests/test_terminal.py has completion",
    "mkdir proteins": "the tests have a folder already",
    "cd proteins": "the tests are there already",
    "ecsweep ui": "a server that does not end: tests/test_cli.py starts and ends it",
    "ecsweep study --all": "every study: minutes; each stands alone in other tests",
    "ecsweep data fetch uniprot": "downloads: tests/test_fetching.py has a server of its own",
    "ecsweep study leakage-enzyme": "every model on three splits: tests/test_leakage.py has them",
    "ecsweep study cnn-filters --set deterministic": "as before: tests/test_trial.py repeats it",
    "cat mine.fasta": "as the one before, from stdin: tests/test_predicting.py has that",
    "ecsweep predict - --model models:/m-6a3c": "the address is made up",
    "mlflow models serve": "a server that does not end: tests/test_serving.py starts and ends it",
    "curl": "asks that server",
    "ecsweep study widths --gpu-share": "needs a GPU",
    "KERAS_BACKEND=jax": "JAX is no dependency: tests/test_models.py takes it where it is",
    "createdb": "needs a PostgreSQL server: tests/test_postgres.py has one",
    "pg_dump": "needs a PostgreSQL server",
    "export ECSWEEP_STORAGE=postgresql": "needs a PostgreSQL server",
    "export MLFLOW": "names servers that are not there",
    "mlflow server": "a server that does not end",
    "psql": "needs a PostgreSQL server",
    "pytest": "these are the tests",
    "ecsweep study cnn-filters --scale paper --defaults": "the paper's scale: hours",
    "ecsweep study cnn-filters --scale paper --executor": "a cluster: tests/test_ray.py has one",
}
"""Commands that are shown and not run, by how they begin, each with its reason."""
TINY = {
    "length": 40,
    "train_size": 64,
    "filters": 4,
    "filter_sizes": [2, 3],
    "hidden": [8],
    "units": 3,
    "epochs": 1,
}
"""What every study that comes with ecsweep is shrunk to; the YAML of the pages runs as it is."""
PATIENCE = 900
"""Seconds that a command may take."""
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = []
    for info, text in BLOCK.findall(page.read_text()):
        title = re.search(r'title="([^"]+)"', info)
        language = info.split()[0] if info else ""
        name = page.relative_to(ROOT).as_posix()
        found.append(Block(name, language, title[1] if title else "", text))
    return found


def reason(command: str) -> str | None:
    """Return why a command is not run."""
    return next((why for begin, why in NOT_RUN.items() if command.startswith(begin)), None)


def commands(text: str) -> list[str]:
    """Return the commands of a block: a line each, or several that end in a backslash."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_blocks_say_what_they_are() -> None:
    """A block without a language would be shown and never looked at."""
    for page in PAGES:
        for block in blocks(page):
            assert block.language in ("sh", "yaml", "text", "json", "python"), (page, block.text)


def test_every_page_that_shows_commands_is_run() -> None:
    """A how-to that is added has its place among the others."""
    showing = {block.page for page in PAGES for block in blocks(page) if block.language == "sh"}
    elsewhere = {
        "docs/own-experiments.md",  # tests/test_own_experiments.py follows it
        "docs/ec-main.md",  # needs 93,279 proteins, which are not in the repository
    }
    assert showing == set(RUN) | elsewhere


def test_what_is_not_run_is_still_shown() -> None:
    """The list of exceptions holds nothing that the pages have lost."""
    shown = [
        part
        for page in RUN
        for block in blocks(ROOT / page)
        for command in commands(block.text)
        for part in command.split(" && ")
        if block.language == "sh"
    ]
    for begin in NOT_RUN:
        assert any(command.startswith(begin) for command in shown), begin


def split(command: str) -> list[list[str]]:
    """Return the words of each `ecsweep` in a line of shell."""
    line = re.sub(r"(^|\s)#.*", "", command)
    found: list[list[str]] = []
    current: list[str] | None = None
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    for word in lexer:
        if set(word) <= set("();<>|&"):
            current = None
        elif word == "ecsweep" and current is None:
            found.append(current := [])
        elif current is not None:
            current.append(word)
    return found


def test_every_command_that_is_named_exists() -> None:
    """In blocks and in running text: each command, and each of its options."""
    root: Any = typer.main.get_command(cli)
    for page in PAGES:
        text = page.read_text()
        lines = [line for b in blocks(page) if b.language == "sh" for line in commands(b.text)]
        lines += re.findall(r"`(ecsweep [^`]*)`", BLOCK.sub("", text))
        for line in lines:
            for words in split(line.replace("…", "")):
                command = root
                while words and words[0] in getattr(command, "commands", {}):
                    command = command.commands[words.pop(0)]
                assert not hasattr(command, "commands") or not words or words[0].startswith("-"), (
                    line
                )
                options = {option for p in command.params for option in p.opts + p.secondary_opts}
                for word in words:
                    option = word.partition("=")[0]
                    assert not option.startswith("--") or option in {*options, "--help"}, line


def test_the_reference_is_what_the_code_says() -> None:
    """docs/reference/ is made by docs/generate.py; run it where this fails."""
    place = ROOT / "docs" / "generate.py"
    loaded = importlib.util.spec_from_file_location("generate", place)
    assert loaded
    assert loaded.loader
    generate = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(generate)
    made = generate.pages()
    assert {path.name for path in generate.FOLDER.iterdir()} == set(made)
    for name, text in made.items():
        assert (generate.FOLDER / name).read_text() == text, f"python docs/generate.py ({name})"


def test_the_readme_is_two_screens() -> None:
    """What it is, two commands, what they print, and where the rest stands."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


def shrink(home: Path) -> None:
    """Put the studies that come with ecsweep into a home, at a size for tests."""
    (home / "sweeps").mkdir()
    for path in packed("sweeps").glob("*.yaml"):
        sweep = yaml.safe_load(path.read_text())
        first = sweep["grid"][0] if isinstance(sweep["grid"], list) else sweep["grid"]
        sweep["grid"] = {k: v[:2] if isinstance(v, list) else v for k, v in first.items()}
        models = first.get("model", sweep["fixed"].get("model"))
        used = cell.used(models if isinstance(models, list) else [models])
        small = {k: v for k, v in TINY.items() if k in used - {*sweep["grid"]}}
        sweep["fixed"] = {k: v for k, v in sweep["fixed"].items() if k in used}
        sweep["scales"] = {"demo": small, "paper": small}
        (home / "sweeps" / path.name).write_text(json.dumps(sweep))  # which is YAML, too


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    """A home with all that the pages assume: small studies, a file of proteins, `ecsweep`."""
    home = tmp_path_factory.mktemp("docs")
    shrink(home)
    shutil.copy(packed("data") / "swissprot-sample.tsv.gz", home / "proteins.tsv.gz")
    (home / "bin").mkdir()
    program = home / "bin" / "ecsweep"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ec_sweep.cli "$@"\n')
    program.chmod(0o755)
    return Ecsweep(home, cores=(min(os.sched_getaffinity(0)),))  # one worker is enough


def run_part(home: Ecsweep, part: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a shell, or without one where that would do nothing but start it."""
    path = f"{home.home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = home.environment(PATH=path, COLUMNS="100")
    del environment["ECSWEEP_HOME"]  # the current folder, as for a reader
    plain = re.sub(r"\s+#.*", "", part)
    if re.fullmatch(r'ecsweep [^<>|$;&*"`~]*', plain):
        return forking.run(
            tuple(shlex.split(plain)[1:]), home.home, environment, PATIENCE, home.cores
        )
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail && {part}"],
        cwd=home.home,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, home.cores),
    )


def run(home: Ecsweep, page: str) -> None:
    """Write the YAML files of a page and run its commands, in order; each must succeed."""
    for block in blocks(ROOT / page):
        if block.language == "yaml" and block.title:
            (home.home / block.title).write_text(block.text)
        for command in commands(block.text) if block.language == "sh" else []:
            for part in command.split(" && "):
                if reason(part) is None:
                    done = run_part(home, part)
                    assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", RUN)
def test_what_is_shown_runs(home: Ecsweep, page: str) -> None:
    """Every command of README, tutorial and how-to pages, but for the list above."""
    run(home, page)


def test_metrics_and_tags_are_all_explained(home: Ecsweep) -> None:
    """What runs carry stands in the reference, and nothing else is said to be always there."""
    metrics = {name for (name,) in home.sql("mlflow.db", "SELECT DISTINCT key FROM metrics")}
    assert metrics == {*glossary.EPOCH_METRICS, *glossary.FINAL_METRICS}
    keys = {name for (name,) in home.sql("mlflow.db", "SELECT DISTINCT key FROM tags")}
    keys |= {
        name for (name,) in home.sql("mlflow.db", "SELECT DISTINCT tag_key FROM logged_model_tags")
    }
    said = {f"ecsweep.{name}" for name in glossary.TAGS}
    said |= {f"ecsweep.environment.{name}" for name in glossary.ENVIRONMENT}
    found = {name for name in keys if name.startswith("ecsweep.")}
    assert found <= said
    rare = (
        "failure",
        "message",
        "pruned",
        "environment.jax",
        "environment.gpu",
        "environment.node",
    )
    rare += ("environment.cuda_mps", "environment.resumed", "environment.checkpoint_error")
    left = {name.removeprefix("ecsweep.") for name in said - found}
    assert left <= {*rare, "environment.gpu_share", "environment.gpu_memory"}
