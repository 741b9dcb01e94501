"""What a person sees: in real terminals of several widths, quiet and loud, in colour or not."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ec_sweep import app, columns, planning, progress, running, spec
from ec_sweep.attempts import Result
from ec_sweep.cli import cli
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.paths import Home
from ec_sweep.voice import Voice
from tests.conftest import Ecsweep, new_home

HP = Hyperparameters()
DOCS = Path(__file__).resolve().parents[1] / "docs" / "json.md"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[0-9;]+)m")
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d "
DISPLAY = """
import time
from ec_sweep import attempts, progress, spec
from ec_sweep.hyperparameters import Hyperparameters
hp = Hyperparameters()
cells = [spec.Cell("complex-cnn-lstm", "enzyme", "random", hp, seed, "f") for seed in (1, 2)]
label = lambda cell: f"filter_sizes=3-4-5 learning_rate=0.0001 seed={cell.seed}"
with progress.progress(2, 0, label) as p:
    for cell in cells:
        p.started(cell)
    p.epoch(cells[0], 3, {"val_accuracy": 0.5})
    time.sleep(2)
    p.ended(cells[0], attempts.Result("complete", 0, {"test_accuracy": 0.75}))
    p.ended(cells[1], attempts.Result("failed", 0, failure="error", message="it broke"))
"""


def in_terminal(command: list[str], width: int, cwd: Path, environment: dict[str, str]) -> str:
    """Run a command in a pseudo-terminal; returns all that it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    kept = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, cwd=cwd, env={"TERM": "xterm-256color"} | kept, stdin=slave, stdout=slave,
        stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    written, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                read = os.read(master, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not read:
                break
            written += read
    assert process.wait(timeout=60) == 0, written.decode()
    os.close(master)
    return written.decode()


def lines_of(text: str) -> list[str]:
    return re.split(r"[\r\n]+", CONTROL.sub("", text))


def seen(ecsweep: Ecsweep, width: int, *arguments: str) -> list[str]:
    """Return the lines that a command shows in a terminal of this width."""
    command = ecsweep.command(*arguments)
    return lines_of(in_terminal(command, width, ecsweep.home, ecsweep.environment()))


def display(width: int, **environment: str) -> str:
    """Return what a study's live display writes."""
    kept = {k: v for k, v in os.environ.items() if k not in ("TERM", "NO_COLOR")}
    return in_terminal([sys.executable, "-c", DISPLAY], width, Path.cwd(), kept | environment)


@pytest.mark.parametrize("width", [40, 60, 80, 140])
def test_lists_and_tables_keep_to_the_terminal(
    finished: Ecsweep, tmp_path: Path, width: int
) -> None:
    """No row is broken by the terminal, and none of a study's cells loses what tells it apart."""
    lines = seen(finished, width, "status", "tiny")
    cells = lines[: next(at for at, line in enumerate(lines) if line.startswith("tiny@demo:"))]
    assert max(map(len, cells)) <= width
    assert sum("learning_rate=0.001" in line for line in cells) == 2
    assert sum("complete" in line for line in cells) == 4
    studies = seen(finished, width, "studies")
    listed = [line for line in studies if not line.startswith("Next")]
    assert max(map(len, listed)) <= width
    assert any("cnn-filters" in line for line in listed)
    said = seen(finished, width, "report", "tiny", "--out", str(tmp_path))
    table = said[: next(at for at, line in enumerate(said) if line.startswith("Wrote"))]
    assert max(map(len, table)) <= width
    numbers = re.findall(r"\b[01]\.\d{4}\b", " ".join(table))
    assert len(numbers) == 8  # accuracy and loss of four cells, none of them cut


@pytest.mark.parametrize("width", [40, 80])
def test_the_live_display_keeps_to_the_terminal(width: int) -> None:
    """Long labels are cut, epochs and times are not."""
    said = display(width)
    assert max(map(len, lines_of(said))) <= width
    assert "3/30" in said
    assert "…" in said or width > 60
    assert "test accuracy 0.7500" in " ".join(CONTROL.sub("", said).split())


def test_colours_and_no_colours() -> None:
    """NO_COLOR takes the colours; a terminal that is dumb gets plain lines."""
    assert COLOUR.search(display(80))
    assert not COLOUR.search(display(80, NO_COLOR="1"))
    assert not CONTROL.search(display(80, TERM="dumb"))


def test_next_steps_stand_in_terminals_alone(finished: Ecsweep) -> None:
    """A pipe gets results; a terminal also what may come next."""
    assert any(
        line.startswith("Report  ecsweep report tiny")
        for line in seen(finished, 80, "status", "tiny")
    )
    assert "Report  " not in finished.ok("status", "tiny")
    assert any(
        line.startswith("Run it  ecsweep study tiny")
        for line in seen(finished, 80, "plan", "tiny", "--seeds", "2")
    )


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ecsweep, Any]:
    """A home whose study has run with --quiet and a log."""
    home = new_home(tmp_path_factory.mktemp("quiet"))
    done = home.run("study", "tiny", "--quiet", "--workers", "1", "--log", "run.log")
    assert done.returncode == 0, done.stderr
    return home, done


def test_quiet_says_nothing(quiet: tuple[Ecsweep, Any]) -> None:
    """Where nothing goes wrong there is nothing to read, and the study has run."""
    ecsweep, done = quiet
    assert (done.stdout, done.stderr) == ("", "")
    assert {cell["state"] for cell in ecsweep.cells("tiny")} == {"complete"}
    assert (ecsweep.home / "reports" / "demo" / "tiny.csv").exists()


def test_the_log_has_everything_with_its_time(quiet: tuple[Ecsweep, Any]) -> None:
    """The command, starts, epochs, ends, files and the exit code."""
    ecsweep, _ = quiet
    lines = (ecsweep.home / "run.log").read_text().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    said = [re.sub(STAMP, "", line) for line in lines]
    assert said[0] == "$ ecsweep study tiny --quiet --workers 1 --log run.log"
    assert sum(" started: " in line for line in said) == 4
    assert sum(" epoch 2: train loss " in line for line in said) == 4
    assert sum(" ended: test accuracy " in line for line in said) == 4
    assert any(line.startswith("Wrote ") and line.endswith("tiny.csv") for line in said)
    assert said[-1] == "Ended with exit code 0"


def test_verbose_says_every_epoch_and_the_log_is_appended_to(quiet: tuple[Ecsweep, Any]) -> None:
    """One more cell, loudly."""
    ecsweep, _ = quiet
    cell = ecsweep.cells("tiny")[0]["cell"]
    ecsweep.ok("forget", "tiny", "--cell", cell, "--yes")
    before = (ecsweep.home / "run.log").read_text()
    said = ecsweep.ok("study", "tiny", "--verbose", ECSWEEP_LOG="run.log")
    for epoch in (1, 2):
        assert re.search(
            rf"^{cell}  epoch {epoch}: .*val accuracy 0\.\d{{4}}, \d", said, re.MULTILINE
        )
    assert (ecsweep.home / "run.log").read_text().startswith(before + "20")


def test_quiet_and_verbose_exclude_each_other(ecsweep: Ecsweep) -> None:
    """And a log that cannot be written is refused before anything is begun."""
    assert "exclude each other" in ecsweep.fails("study", "tiny", "-q", "-v")
    line = ecsweep.fails("study", "tiny", "--log", "nowhere/run.log")
    assert line.startswith("ecsweep: --log nowhere/run.log: cannot be written (No such file")
    assert not (ecsweep.home / "mlruns").exists()


def test_a_log_never_holds_a_password(ecsweep: Ecsweep) -> None:
    """Neither from the command nor from the error that ends it."""
    address = "postgresql+psycopg://me:s3cr3tpass@127.0.0.1:1/ledger"
    ecsweep.run("study", "tiny", "--storage", address, "--log", "run.log")
    text = (ecsweep.home / "run.log").read_text()
    assert "Error: " in text
    assert "s3cr3tpass" not in text
    assert "***" in text


def test_warnings_are_said_before_a_study_starts(
    ecsweep: Ecsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line on stderr, by plan and by study; the study is not refused for it."""
    huge = f"hidden={[65_536] * 16}"
    done = ecsweep.run("plan", "tiny", "--set", huge)
    warning = "Warning: a trial of cnn at length 40 holds at least "
    assert done.stderr.startswith(warning)
    assert done.returncode == 0
    planned = json.loads(ecsweep.ok("plan", "tiny", "--set", huge, "--json"))
    assert planned["estimate"]["warnings"]
    where = planning.Place(Home(ecsweep.home))
    asked = spec.Request(overrides=(spec.parse_override(huge),))
    resolved = planning.resolve(where, str(ecsweep.home / "sweeps" / "tiny.yaml"), asked)
    running._say_before(where, resolved, app.Options(), Voice(quiet=True))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(warning)


# Completion


def completed(ecsweep: Ecsweep, *words: str, shell: str = "bash") -> list[str]:
    """Ask as a shell does for what may stand where the last word does."""
    start = "import sys; sys.argv[0] = 'ecsweep'; from ec_sweep import cli; cli.main()"
    protocol = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": " ".join(words)},
    }
    done = subprocess.run(
        [sys.executable, "-c", start],
        cwd=ecsweep.home,
        env=ecsweep.environment(_ECSWEEP_COMPLETE=f"complete_{shell}", **protocol[shell]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def test_names_and_values_are_completed(ecsweep: Ecsweep) -> None:
    """Studies, own ones first, scales, keys of --set, datasets and sources."""
    assert completed(ecsweep, "ecsweep", "plan", "cnn") == ["cnn-filters", "cnn-small-lr"]
    assert completed(ecsweep, "ecsweep", "study", "rnn-lr", "ti") == ["tiny"]
    assert completed(ecsweep, "ecsweep", "plan", "tiny", "--scale", "") == ["demo", "paper"]
    keys = completed(ecsweep, "ecsweep", "plan", "tiny", "--set", "filter")
    assert keys == ["filters=", "filter_size=", "filter_sizes="]
    assert completed(ecsweep, "ecsweep", "data", "show", "e") == ["ec37", "enzyme"]
    source = ecsweep.home / "data" / "sources" / "mine"
    source.mkdir(parents=True)
    (source / "source.json").write_text("{}")
    assert completed(ecsweep, "ecsweep", "data", "show", "m") == ["mine"]
    assert completed(ecsweep, "ecsweep", "plan", "nothing-like-it") == []
    in_bash = ("ecsweep", "study", "tiny", "--set", "epochs", "=", "")
    assert completed(ecsweep, *in_bash) == []


def test_zsh_shows_titles_and_completes_values(ecsweep: Ecsweep) -> None:
    """Where the shell takes KEY=VALUE as one word."""
    (line,) = completed(ecsweep, "ecsweep", "plan", "ti", shell="zsh")
    assert '"tiny":"A study small enough for tests"' in line
    found = completed(ecsweep, "ecsweep", "plan", "tiny", "--set", "optimizer=", shell="zsh")
    assert [word for line in found for word in re.findall(r'optimizer=\w+', line)] == [
        "optimizer=adam", "optimizer=rmsprop", "optimizer=sgd",
    ]  # fmt: skip


def test_completion_is_quick(ecsweep: Ecsweep) -> None:
    """It loads nothing heavy: a person waits for it at every Tab."""
    script = (
        "import sys; sys.argv[0] = 'ecsweep'; from ec_sweep import cli\n"
        "try: cli.main()\n"
        "finally: print([n for n in ('tensorflow', 'mlflow', 'optuna', 'pandas', 'sklearn')"
        " if n in sys.modules])"
    )
    words = {"COMP_WORDS": "ecsweep\nplan\n--set\nep", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ecsweep.home,
        env=ecsweep.environment(_ECSWEEP_COMPLETE="complete_bash", **words),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["epochs=", "[]"]


def test_bash_completes_with_the_script_that_is_installed(ecsweep: Ecsweep) -> None:
    """The real shell, the script that --show-completion prints, a study's name."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    program = ecsweep.home / "ecsweep"
    program.write_text(
        f"#!{sys.executable}\nimport sys; sys.argv[0] = 'ecsweep'\n"
        "from ec_sweep import cli; cli.main()\n"
    )
    program.chmod(0o755)
    script = (
        'eval "$(ecsweep --show-completion)"\n'
        "COMP_WORDS=(ecsweep plan cnn-f) COMP_CWORD=2\n"
        '_ecsweep_completion ecsweep; echo "${COMPREPLY[@]}"\n'
    )
    path = f"{ecsweep.home}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script], cwd=ecsweep.home,
        env=ecsweep.environment(PATH=path, SHELL=bash), capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "cnn-filters", done.stderr


def test_the_time_left_is_at_the_pace_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """New trials begin before those that ended are recorded: they are no more at once for it."""
    now = [0.0]
    monkeypatch.setattr("ec_sweep.progress.time.monotonic", lambda: now[0])
    cells = [spec.Cell("cnn", "enzyme", "random", HP, seed, "f") for seed in range(24)]
    shown = progress.PlainProgress(24, 0, lambda cell: str(cell.seed))
    for cell in cells[:2]:
        shown.started(cell)
    for first in range(0, 12, 2):
        now[0] += 20
        for cell in cells[first + 2 : first + 4]:
            shown.started(cell)
        for cell in cells[first : first + 2]:
            shown.ended(cell, Result("complete", 0, {"test_accuracy": 0.75}))
    assert "(2 min 00 s left)" in capsys.readouterr().out.splitlines()[-1]


# JSON


def outlines() -> dict[str, Any]:
    """Return the outline of each command's document, from the documentation."""
    parts = DOCS.read_text().split("\n## ")[1:]
    return {
        part.partition("\n")[0]: json.loads(part.partition("```json\n")[2].partition("```")[0])
        for part in parts
    }


def with_json(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Return the commands of the command line that have ``--json``."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from with_json(inner, (*path, name))
    if any("--json" in option.opts for option in command.params):
        yield " ".join(path)


def differs(outline: Any, actual: Any, where: str = "document") -> list[str]:
    """Return where a document is not as its outline says."""
    if isinstance(outline, str):
        kinds = {
            "string": (str,),
            "number": (int, float),
            "boolean": (bool,),
            "null": (type(None),),
        }
        fits = any(kind == "any" or (type(actual) in kinds[kind]) for kind in outline.split("|"))
        return [] if fits else [f"{where} is {actual!r}, no {outline}"]
    if isinstance(outline, list):
        if not isinstance(actual, list):
            return [f"{where} is no list"]
        return [text for one in actual for text in differs(outline[0], one, f"{where}[]")]
    if not isinstance(actual, dict):
        return [f"{where} is {actual!r}, no object"]
    found, names = [], set()
    for key, inner in outline.items():
        name = key.rstrip("?").removesuffix("|null")
        names.add(name)
        if name == "*" or (key.endswith("?") and name not in actual):
            continue
        if name not in actual:
            found.append(f"{where} lacks {name}")
        elif not (key.endswith("|null") and actual[name] is None):
            found += differs(inner, actual[name], f"{where}.{name}")
    for name in actual.keys() - names:
        if "*" not in outline:
            found.append(f"{where} has {name}, which is not documented")
        else:
            found += differs(outline["*"], actual[name], f"{where}.{name}")
    return found


def test_documents_are_as_documented(finished: Ecsweep, tmp_path: Path) -> None:
    """Every command prints one document and nothing else; its keys stand in docs/json.md."""
    home = Ecsweep(tmp_path / "copy")
    shutil.copytree(finished.home, home.home, symlinks=True)
    home.ok("doctor", "--fix")  # MLflow keeps absolute paths
    rows = [
        "Entry\tEC number\tSequence",
        *(
            f"P{n:05}\t{'1.1.1.1' * (n % 2)}\t{'ACDEFGHIKL' * 6}{'M' * (n % 40)}"
            for n in range(200)
        ),
    ]
    (home.home / "mine.tsv").write_text("\n".join(rows) + "\n")
    (home.home / "some.fasta").write_text(f">a\n{'MKV' * 30}\n>b\n\n")
    commands = {
        "studies": ["studies"],
        "status": ["status", "tiny"],
        "plan": ["plan", "tiny", "--seeds", "2"],
        "study": ["study", "tiny"],
        "report": ["report", "tiny", "--format", "csv"],
        "doctor": ["doctor"],
        "cancel": ["cancel", "tiny"],
        "predict": ["predict", "some.fasta", "--study", "tiny", "--quiet"],
        "data import": ["data", "import", "mine.tsv", "--name", "own"],
        "data build": ["data", "build", "enzyme", "--from", "own"],
        "data list": ["data", "list"],
        "data show": ["data", "show", "enzyme"],
        "data verify": ["data", "verify"],
        "forget": ["forget", "tiny", "--yes"],
    }
    documented = outlines()
    assert documented.keys() == set(with_json(typer.main.get_command(cli)))
    assert documented.keys() == commands.keys() | {"data fetch uniprot"}
    for name, arguments in commands.items():
        document = json.loads(home.ok(*arguments, "--json"))
        assert differs(documented[name], document) == [], name
    assert differs({"a": "number"}, {"a": "1", "b": 2})  # the comparison itself can fail


def test_claims_and_all_reports_are_documents_too(finished: Ecsweep, tmp_path: Path) -> None:
    """Verdicts with their numbers; what could not be made, and why."""
    arguments = ["--out", str(tmp_path), "--format", "csv", "--json"]
    claims = json.loads(finished.ok("report", "--claims", *arguments))
    assert differs(outlines()["report"], claims) == []
    assert {one["source"] for one in claims["claims"]} == {"runs", "paper"}
    every = json.loads(finished.ok("report", "--all", *arguments))
    assert "tiny" in {one["report"] for one in every["reports"]}
    assert any(text.startswith("Table 2 needs rnn-units") for text in every["not_made"])


def test_forget_asks_before_a_document(finished: Ecsweep) -> None:
    """A question would stand in the document."""
    assert "give --yes too" in finished.fails("forget", "tiny", "--json")


# Columns


ROWS = [
    ["CELL", "STATE", "WHAT", ""],
    ["aace394fa857", "complete", "filter_size=2 learning_rate=0.01", ""],
    ["38383af0abd9", "not available", "filter_size=3 learning_rate=0.0001 batch_size=256", "oom"],
]


def test_columns_without_a_width_are_whole() -> None:
    """A pipe gets each row in a line."""
    assert len(list(columns.wrapped(ROWS, None))) == len(list(columns.cut(ROWS, None))) == 3


@pytest.mark.parametrize("width", [20, 30, 40, 60, 72, 80, 200])
def test_columns_keep_to_their_width_and_lose_nothing(width: int) -> None:
    """Words go on below; only those longer than a line are broken."""
    lines = list(columns.wrapped(ROWS, width))
    assert max(map(len, lines)) <= width
    together = "".join("".join(lines).split())
    for word in " ".join(ROWS[2]).replace("=", " ").split():
        assert width < 40 or word in together
    assert max(map(len, columns.cut(ROWS, width))) <= width
    assert next(columns.cut(ROWS, width)).startswith("CELL")
