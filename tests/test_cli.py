"""The command line: what it prints, and one clear line for whatever is wrong."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ec_sweep import app, hints, options, output, planning, spec
from ec_sweep.errors import EcsweepError
from ec_sweep.local_executor import LocalExecutor
from ec_sweep.paths import Home
from ec_sweep.sharing import Asked
from tests.conftest import TINY_SWEEP, Ecsweep, new_home

HEAVY = ("tensorflow", "keras", "mlflow", "optuna", "pandas", "ray", "numpy", "sklearn")
COMMANDS = (
    "studies", "plan", "study", "schema", "status", "forget", "init", "report", "predict", "cancel",
    "doctor", "ui", "dashboard", "data",
)  # fmt: skip


HELPS = """
import contextlib, io, json, sys
from ec_sweep import cli
for name in ("", *sys.argv[1:]):
    sys.argv = ["ecsweep", *name.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([name, code, said.getvalue(), list(sys.modules)]))
"""


def test_help_loads_nothing_heavy() -> None:
    """Help is quick because of what it does not import."""
    done = subprocess.run(
        [sys.executable, "-c", HELPS, *COMMANDS], capture_output=True, text=True, check=True
    )
    helps = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in helps] == ["", *COMMANDS]
    for name, code, said, loaded in helps:
        assert code == 0, name
        assert said.startswith("Usage: ecsweep"), name
        assert not {*HEAVY} & {*loaded}, name
        assert "..." not in said.partition("Commands:")[2], name  # each is said in one line
        assert max(map(len, said.splitlines())) <= 80, name


def test_the_driver_never_imports_tensorflow() -> None:
    """Everything but models and trial lives without Keras."""
    script = (
        "import sys, ec_sweep.app, ec_sweep.cli, mlflow, optuna\n"
        "from ec_sweep import progress\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_no_arguments_show_the_help(ecsweep: Ecsweep) -> None:
    """A bare `ecsweep` says what there is."""
    done = ecsweep.run()
    assert done.returncode == 2
    assert "Commands:" in done.stdout
    assert ecsweep.ok("--version").startswith("ecsweep 0.")


def test_studies_lists_own_and_packed_sweeps(ecsweep: Ecsweep) -> None:
    """The sweeps of the current folder come before those that come with ecsweep."""
    found = {s["study"]: s for s in json.loads(ecsweep.ok("studies", "--json"))["studies"]}
    assert found["cnn-filters"]["cells"] == 24
    assert found["cnn-filters"]["table"] == 3
    assert found["tiny"]["cells"] == 4
    assert "tiny" in ecsweep.ok("studies")


def test_plan_works_before_anything_exists(ecsweep: Ecsweep) -> None:
    """The plan's JSON is the contract's; ids are null until the dataset is built."""
    document = json.loads(ecsweep.ok("plan", "cnn-filters", "--scale", "paper", "--json"))
    assert document["study"] == "cnn-filters"
    assert document["scale"] == "paper"
    assert len(document["cells"]) == 24
    cell = document["cells"][0]
    assert set(cell) == {"cell", "params", "seed", "state", "attempts", "run_id", "failure"}
    assert (cell["cell"], cell["state"], cell["attempts"]) == (None, "waiting", 0)
    assert cell["params"]["filter_size"] == 2
    assert len(json.loads(ecsweep.ok("plan", "tiny", "--seeds", "3", "--json"))["cells"]) == 12
    said = ecsweep.ok("plan", "tiny", "--scale", "paper")
    assert "No estimate" in said
    assert "ecsweep data build enzyme --from" in said
    assert not (ecsweep.home / "mlruns").exists()


def test_status_and_plan_know_what_has_run(finished: Ecsweep) -> None:
    """After a study: ids, states, run ids, and an estimate for what other options would add."""
    cells = finished.cells("tiny")
    assert all(len(cell["cell"]) == 12 and len(cell["run_id"]) == 32 for cell in cells)
    plan = finished.ok("plan", "tiny", "--seeds", "2")
    assert "8 cells: 4 complete, 4 waiting" in plan
    assert "About " in plan
    assert "A study would run 4 cells.\n" in plan
    data = "enzyme, random split, [0-9a-f]{12}, from swissprot-sample.tsv.gz .embedded sample.\n"
    assert re.search(f"^Data: {data}", plan, re.MULTILINE)
    assert "A study would run nothing, all is done." in finished.ok("plan", "tiny")


def test_a_path_names_a_study_too(ecsweep: Ecsweep) -> None:
    """STUDY may be a path to a YAML file anywhere."""
    path = ecsweep.home / "elsewhere.yaml"
    path.write_text(TINY_SWEEP.replace("study: tiny", "study: mine"))
    assert json.loads(ecsweep.ok("plan", str(path), "--json"))["study"] == "mine"


def test_datasets_are_built_listed_shown_and_verified(
    ecsweep: Ecsweep, proteins: list[list[str]]
) -> None:
    """A user's TSV becomes the dataset of the paper scale."""
    rows = ["Entry\tReviewed\tEC number\tLength\tSequence", *map("\t".join, proteins[:600])]
    (ecsweep.home / "mine.tsv").write_text("\n".join(rows) + "\n")
    assert "data build enzyme --from" in ecsweep.fails("study", "tiny", "--scale", "paper")
    assert "records in: 600" in ecsweep.ok("data", "build", "enzyme", "--from", "mine.tsv")
    (card,) = json.loads(ecsweep.ok("data", "list", "--json"))["datasets"]
    assert card["records_in"] == 600
    assert json.loads(ecsweep.ok("data", "show", "enzyme", "--json")) == card
    assert card["fingerprint"][:12] in ecsweep.ok("data", "list")
    assert "mine.tsv" in ecsweep.ok("data", "show", card["fingerprint"][:6])
    assert "holds no class" in ecsweep.fails("data", "show", "enzyme", "--names", "mine.tsv")
    for command in (["show", "enzyme"], ["list"], ["verify"]):
        said = ecsweep.ok("data", *command, COLUMNS="80")
        assert max(map(len, said.splitlines())) <= 80
    assert f"data/enzyme/{card['fingerprint'][:12]}: intact" in said
    ecsweep.ok("data", "import", "mine.tsv", "--name", "own")
    assert ecsweep.ok("data", "verify", "own") == "data/sources/own: intact\n"
    problems = json.loads(ecsweep.ok("data", "verify", "--json"))
    assert [len(problems[kind]) for kind in ("datasets", "sources")] == [1, 1]
    ids = [
        c["cell"]
        for c in json.loads(ecsweep.ok("plan", "tiny", "--scale", "paper", "--json"))["cells"]
    ]
    assert all(ids)
    (ecsweep.home / "data" / "enzyme" / card["fingerprint"] / "test_labels.npy").unlink()
    assert ecsweep.run("data", "verify").returncode == 2


def test_files_are_imported_as_a_source(ecsweep: Ecsweep, proteins: list[list[str]]) -> None:
    """A source is named by its file, listed, shown, built from, and replaced by its name."""
    rows = ["Entry\tReviewed\tEC number\tLength\tSequence"]
    rows += ["\t".join(row[:5]) for row in proteins[:600]]
    (ecsweep.home / "My file.tsv").write_text("\n".join(rows) + "\n")
    said = ecsweep.ok("data", "import", "My file.tsv")
    assert "records kept: 600" in said
    assert "ecsweep data build enzyme --from my-file" in said
    assert "Remove  rm -r data/sources/my-file" in said
    assert "is replaced" not in said
    (ecsweep.home / "My file.tsv").rename(ecsweep.home / "Other.tsv")
    said = ecsweep.ok("data", "import", "Other.tsv", "--name", "my-file")
    assert re.search(r"^my-file of [-0-9]{10} [0-9:]{5} \(My file.tsv\) is replaced", said, re.M)
    (ecsweep.home / "Other.tsv").rename(ecsweep.home / "My file.tsv")
    assert "migrations" in ecsweep.ok("data", "show", "my-file")
    ecsweep.ok("data", "build", "enzyme", "--from", "my-file", "--split", "identical")
    listed = json.loads(ecsweep.ok("data", "list", "--json"))
    assert [card["name"] for card in listed["sources"]] == ["my-file"]
    assert [card["split"] for card in listed["datasets"]] == ["identical"]
    assert "my-file (source)" in ecsweep.ok("data", "list")
    ecsweep.ok("data", "build", "enzyme", "--from", "my-file")
    assert ecsweep.ok("data", "verify", "enzyme").count("intact") == 2
    said = ecsweep.fails("data", "show", "my-fil")
    assert "Did you mean 'my-file'? Datasets: enzyme, ec37" in said
    card = json.loads(ecsweep.ok("data", "import", "My file.tsv", "--name", "x", "--json"))
    assert card["files"][0]["format"] == "UniProt TSV"
    assert "ecsweep data import" in ecsweep.fails("data", "build", "enzyme", "--from", "nosuch")
    both = ("--from", "x", "--from", "My file.tsv")
    assert "several files, or one source" in ecsweep.fails("data", "build", "enzyme", *both)
    again = ("--from", "x", "--transfers", "none")
    assert "is imported already" in ecsweep.fails("data", "build", "enzyme", *again)
    assert "name of a dataset" in ecsweep.fails("data", "import", "My file.tsv", "--name", "ec37")
    assert "name must be of a-z" in ecsweep.fails("data", "import", "My file.tsv", "--name", "")
    no_parts = ("--name", "y", "--split-column", "Reviewed")
    said = ecsweep.fails("data", "import", "My file.tsv", *no_parts)
    assert "the column Reviewed must name a part in every row" in said
    assert not (ecsweep.home / "data" / "sources" / "y").exists()


BAD_USAGE = [
    (["stdy"], "Did you mean 'study'?"),
    (["study", "cnn-filter"], "Did you mean 'cnn-filters'?"),
    (["study"], "name at least one study"),
    (["study", "tiny", "--workers", "0"], "--workers must be from 1 to 1024. Received: 0."),
    (["study", "tiny", "--seeds", "0"], "--seeds must be from 1"),
    (["study", "tiny", "--scale", "huge"], "--scale must be one of demo, paper. Received: 'huge'."),
    (["plan", "tiny", "--seeds", "x"], "--seeds must be a whole number. Received: 'x'."),
    (["cancel", "tiny", "--timeout", "1y"], "--timeout must be a time such as 90s"),
    (["report", "--claims"], "nothing has been run at demo scale yet"),
    (["study", "tiny", "--scale", "paper"], "ecsweep data build enzyme --from FILE.tsv.gz"),
    (["study", "tiny", "--set", "epoch=3"], "Did you mean 'epochs'?"),
    (["study", "tiny", "--set", "filter_size=41"], "filter_size 41 is larger than length 40"),
    (["study", "tiny", "--set", "epochs"], "--set epochs lacks its value"),
    (["study", "tiny", "--set", "epochs=1", "--set", "epochs=2"], "--set epochs is given twice"),
    (["study", "tiny", "--set", "filter_size=[two]"], "--set filter_size must be a whole number"),
    (["study", "tiny", "--defaults", "--seeds", "2"], "leave out --seeds and --set"),
    (["study", "tiny", "--executor", "inline", "--workers", "2"], "leave --workers out"),
    (["study", "tiny", "--set", "dataset=enzymes"], "Did you mean 'enzyme'?"),
    (["plan", "missing.yaml"], "missing.yaml: cannot be read (No such file or directory)"),
    (["report", "tiny"], "has not been run at demo scale"),
    (["report", "tiny", "--format", "docx"], "--format must be of csv, latex, markdown, svg"),
    (["report"], "report takes one of: STUDY"),
    (["data", "build", "enzyme", "--from", "nothing.tsv"], "nothing.tsv: cannot be read"),
    (["data", "build", "ec99", "--from", "nothing.tsv"], "no dataset is named 'ec99'"),
    (["data", "show", "enzymes"], "Did you mean 'enzyme'?"),
    (["ui"], "Run a study first"),
    (["plan", "dup"], "Rename sweeps/dup.yml, or give its path"),
    (["study", "tiny", "--set", "epochs="], "--set epochs lacks its value"),
    (["study", "tiny", "--epochs", "3"], "epochs is a hyperparameter: --set epochs=VALUE"),
    (["study", "tiny", "--set", "lr=0.1"], "Received: 'lr=0.1'. Did you mean 'learning_rate'?"),
    (["study", "tiny", "--set", "filter_size=3,4"], "--set filter_size='[A, B]'"),
    (["study", "tiny", "--set", "filter_size=[3"], "The list lacks its ]."),
    (["study", "tiny", "--set", "epochs=[1, 2]"], "this one's does not name epochs"),
    (["study", "sweeps"], "sweeps is a folder. Give the path of a sweep file in it."),
    (["plan", "misnamed"], "sweeps/misnamed.yaml names its study 'other': ask for that."),
    (["study", "tiny", "nope"], "no study is named 'nope'"),
    (["study", "tiny", "--set", "epochs=2001-99-99"], "--set epochs must be a whole number"),
    (["study", "tiny", "--set", "epochs=" + "[" * 3000], "--set epochs: not a value"),
    (["study", "tiny", "--home", "what?"], "must not have ?"),
    (["ui", "--port", "0"], "--port must be from 1 to 65535"),
    (["plan", "tiny", "--home", "nowhere"], "there is no home folder nowhere"),
    (["report", "--claims", "--home", "nowhere"], "there is no home folder nowhere"),
    (["data", "list", "--home", "nowhere"], "there is no home folder nowhere"),
    (["doctor", "--home", "nowhere"], "there is no home folder nowhere"),
    (["ui", "--home", "sweeps/tiny.yaml"], "must be a folder. Received: sweeps/tiny.yaml"),
    (["study", "tiny", "--home", "/proc/nothing"], "cannot be written to"),
    (["study", "tiny", "--home", "sweeps/tiny.yaml"], "must be a folder"),
]


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    home = new_home(tmp_path_factory.mktemp("unused"))
    (home.home / "sweeps" / "dup.yml").write_text(TINY_SWEEP)
    other = TINY_SWEEP.replace("study: tiny", "study: other")
    (home.home / "sweeps" / "misnamed.yaml").write_text(other)
    return home


@pytest.mark.parametrize(("arguments", "message"), BAD_USAGE)
def test_bad_usage_is_one_clear_line(unused: Ecsweep, arguments: list[str], message: str) -> None:
    """Exit 2, one line on stderr that helps, no traceback, and nothing trained."""
    assert message in unused.fails(*arguments)
    assert {path.name for path in unused.home.iterdir()} <= {"sweeps", "bad.yaml"}


BAD_SWEEPS = [
    ("study: [", "not valid YAML"),
    (TINY_SWEEP.replace("grid:", "gird:"), "Did you mean 'grid'?"),
    (TINY_SWEEP.replace("title: A", "title: A: a"), 'Quote a text that holds ": ".'),
    (
        TINY_SWEEP.replace("[2, 3]", "nine"),
        "must be a whole number from 1 to 1000. Received: 'nine'",
    ),
    (TINY_SWEEP.replace("[2, 3]", "[]"), "must list at least one value"),
]


@pytest.mark.parametrize(("text", "message"), BAD_SWEEPS)
def test_bad_sweep_files_are_one_clear_line(unused: Ecsweep, text: str, message: str) -> None:
    """The same through the command line, for a file given by path."""
    (unused.home / "bad.yaml").write_text(text)
    line = unused.fails("study", "./bad.yaml")
    assert line.startswith("ecsweep: bad.yaml: ")
    assert message in line


@pytest.mark.parametrize("name", ["studies.db", "mlflow.db"])
def test_a_database_that_is_none_is_left_alone(ecsweep: Ecsweep, name: str) -> None:
    """A foreign file in the place of a database is named and not touched."""
    path = ecsweep.home / "mlruns" / name
    path.parent.mkdir()
    path.write_text("these are my notes")
    assert f"{path}: not an SQLite database" in ecsweep.fails("study", "tiny")
    assert f"{path}: not an SQLite database" in ecsweep.fails("status", "tiny")
    assert path.read_text() == "these are my notes"


def test_more_training_sequences_than_there_are(ecsweep: Ecsweep) -> None:
    """A size that only the built dataset can refute is refuted before anything is trained."""
    line = ecsweep.fails("study", "tiny", "--set", "train_size=5669")
    assert "larger than the 5668 sequences of enzyme" in line
    line = ecsweep.fails("study", "tiny", "--set", "train_size=1")
    assert "fewer sequences than its 2 classes: take at least 7" in line
    assert not list((ecsweep.home / "mlruns").glob("*.db"))


def test_advised_commands_lead_to_the_same_state(ecsweep: Ecsweep, tmp_path: Path) -> None:
    """What is typed with --home and --storage is repeated in hints, without a password."""
    home = tmp_path / "my home"
    home.mkdir()
    again = "ecsweep study tiny --home 'my home'"
    assert ecsweep.fails("report", "tiny", "--home", "my home").endswith(again)
    assert ecsweep.fails("report", "tiny").endswith("ecsweep study tiny")  # ECSWEEP_HOME holds
    options.place(home, "sqlite:////somewhere/else.db")
    assert hints.command("ui").endswith("my home'")
    assert hints.on("study", "tiny@paper") == (
        f"ecsweep study tiny --scale paper --home '{home}' --storage sqlite:////somewhere/else.db"
    )
    hints.repeat({})


def test_advised_commands_name_a_study_as_it_was_given(ecsweep: Ecsweep) -> None:
    """Outside ``./sweeps`` only the path leads to a study that has not run."""
    folder = ecsweep.home / "in"
    folder.mkdir()
    (folder / "mine.yaml").write_text(TINY_SWEEP.replace("study: tiny", "study: mine"))
    said = ecsweep.fails("report", "in/mine.yaml")
    assert said.endswith("Run it with: ecsweep study in/mine.yaml")
    said = ecsweep.fails("predict", "sweeps/tiny.yaml", "--study", "in/mine.yaml")
    assert said.endswith("Train it: ecsweep study in/mine.yaml --save-models best")
    hints.by_path("mine", "in/mine.yaml")
    assert "--study in/mine.yaml --cell" in hints.command(
        "predict", "FASTA", "--study", "mine", "--cell", "best"
    )
    assert hints.command("data", "build", "enzyme", "--from", "mine").endswith("--from mine")
    hints.repeat({})


def test_what_is_asked_is_answered_or_given(finished: Ecsweep) -> None:
    """At the end of stdin `forget` names the option; nothing is forgotten."""
    assert "give --yes" in finished.fails("forget", "tiny")
    assert "4 complete" in finished.ok("status", "tiny")


def test_tables_fit_the_width_that_is_asked_for(finished: Ecsweep, tmp_path: Path) -> None:
    """In a pipe COLUMNS holds, and lines end with their text."""
    lines = finished.ok("report", "tiny", "--out", str(tmp_path), COLUMNS="60").splitlines()
    assert max(map(len, lines[:4])) <= 60
    assert lines == [line.rstrip() for line in lines]


def test_cards_fit_a_terminal_and_note_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long lines go on indented; a class of which a part has none is said wherever it shows."""
    monkeypatch.setenv("COLUMNS", "60")
    files = [{"file": "a b.tsv", "format": "TSV", "records": 9, "dropped": {"too_long": 9}}]
    counts = {"train": {"3.1": 5}, "valid": {"3.1": 0}}
    output.print_card({"dropped": {f"r{n}": n for n in range(20)}, "class_counts": counts})
    output.print_card({"files": files * 2})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("    ")
    assert "Note: valid is without 3.1." in lines


def test_there_may_be_nothing_to_forget_report_or_verify(ecsweep: Ecsweep) -> None:
    """Commands on an empty home say so, and leave it empty."""
    assert "nothing to forget" in ecsweep.ok("forget", "tiny")
    assert "No dataset is built yet" in ecsweep.ok("data", "verify")
    assert ecsweep.ok("data", "list").endswith("Make one with: ecsweep data import FILE\n")
    assert {path.name for path in ecsweep.home.iterdir()} == {"sweeps"}


def test_a_busy_port_is_named(finished: Ecsweep) -> None:
    """The UI does not start on a port that another program holds."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is not free" in finished.fails("ui", "--port", str(port))


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--storage", "postgresql+psycopg://me:hunter2@127.0.0.1:1/db"], {}),
        (["--storage", "nonsense://me:hunter2@host/db"], {}),
        (["--storage", "nonsense"], {}),
        ([], {"MLFLOW_TRACKING_URI": "nonsense://me:hunter2@host/db"}),
        ([], {"MLFLOW_TRACKING_URI": "postgresql+nothing://me:hunter2@127.0.0.1:1/db"}),
    ],
)
def test_databases_out_of_reach_are_named_without_passwords(
    ecsweep: Ecsweep, arguments: list[str], environment: dict[str, str]
) -> None:
    """An address that does not work is one clear line, its password never shown."""
    line = ecsweep.fails("study", "tiny", *arguments, **environment)
    assert "hunter2" not in line


def test_status_of_a_ledger_that_is_not_there_makes_none(ecsweep: Ecsweep) -> None:
    """Commands that read do not create databases."""
    ecsweep.ok("status", "tiny", "--storage", f"sqlite:///{ecsweep.home}/new.db")
    assert not (ecsweep.home / "new.db").exists()


def test_a_damaged_database_is_one_clear_line(ecsweep: Ecsweep) -> None:
    """A file that begins like SQLite and goes on as garbage."""
    for name in ("studies.db", "mlflow.db"):
        path = ecsweep.home / "mlruns" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"SQLite format 3\0" + b"garbage" * 1000)
        assert str(path) in ecsweep.fails("study", "tiny")
        path.unlink()


def test_studies_are_found_by_the_name_in_the_file(ecsweep: Ecsweep) -> None:
    """`study:` names a sweep, whatever its file is called; a name twice is refused."""
    sweeps = ecsweep.home / "sweeps"
    (sweeps / "tiny.yaml").rename(sweeps / "another-name.yaml")
    (sweeps / "broken.yaml").write_text("study: [")
    assert len(json.loads(ecsweep.ok("plan", "tiny", "--json"))["cells"]) == 4
    assert "not valid YAML" in ecsweep.fails("plan", "broken")
    assert "not valid YAML" in ecsweep.fails("studies")
    (sweeps / "copy.yaml").write_text(TINY_SWEEP)
    assert "names its study 'tiny'" in ecsweep.fails("plan", "tiny")


def test_a_moved_home_says_how_to_go_on(finished: Ecsweep, tmp_path: Path) -> None:
    """MLflow keeps absolute paths: a copy elsewhere is refused, a link to it is not."""
    moved = Ecsweep(tmp_path / "moved")
    shutil.copytree(finished.home, moved.home)
    assert f"this home was {finished.home} when" in moved.fails("status", "tiny")
    link = Ecsweep(tmp_path / "link")
    link.home.symlink_to(finished.home)
    assert "4 complete" in link.ok("status", "tiny")


def test_inline_cannot_be_deterministic(ecsweep: Ecsweep) -> None:
    """Determinism is a switch of a whole process: inline would record what it did not do."""
    options = ("--set", "deterministic=true", "--executor", "inline")
    assert "need worker processes" in ecsweep.fails("study", "tiny", *options)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("nonsense", "KERAS_BACKEND must be one of tensorflow, jax. Received: 'nonsense'."),
        ("jax", "pip install 'ecsweep[jax]'"),
    ],
)
def test_a_backend_that_is_not_there_is_named_before_anything_is_begun(
    ecsweep: Ecsweep, monkeypatch: pytest.MonkeyPatch, backend: str, message: str
) -> None:
    """No cell is recorded as tried."""
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    resolved = planning.resolve(planning.Place(Home(ecsweep.home)), "cnn-filters", spec.Request())
    with pytest.raises(EcsweepError) as caught:
        planning.check_runnable(resolved)
    assert message in str(caught.value)


def test_a_worker_that_cannot_start_says_why(ecsweep: Ecsweep, tmp_path: Path) -> None:
    """A broken installation is no cell's fault: nothing is recorded as failed."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "keras.py").write_text("raise ImportError('half of it is missing')")
    before = os.environ.get("PYTHONPATH", "")
    line = ecsweep.fails("study", "tiny", PYTHONPATH=f"{broken}{os.pathsep}{before}")
    assert "a worker cannot start: " in line
    states = {cell["state"] for cell in ecsweep.cells("tiny")}
    assert states == {"interrupted", "waiting"}


def test_a_full_disk_is_one_clear_line(ecsweep: Ecsweep, tmp_path: Path) -> None:
    """With no room to write, a build fails in one line and leaves nothing behind."""
    import resource

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        ecsweep.command("study", "tiny"),
        cwd=tmp_path,
        env=ecsweep.environment(),
        capture_output=True,
        text=True,
        preexec_fn=no_room,
    )
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Make room" in done.stderr
    assert not list((ecsweep.home / "data").rglob("*.npy"))


@pytest.mark.parametrize(
    ("timing", "todo", "slots", "threads"),
    [("shared", 4, 2, 2), ("shared", 1, 1, 2), ("exclusive", 4, 1, 4)],
)
def test_slots_and_threads(
    ecsweep: Ecsweep,
    monkeypatch: pytest.MonkeyPatch,
    timing: str,
    todo: int,
    slots: int,
    threads: int,
) -> None:
    """Exclusive timing runs one trial at a time; threads do not depend on what is left to run."""
    path = ecsweep.home / "timed.yaml"
    path.write_text(f"{TINY_SWEEP}timing: {timing}\n")
    resolved = planning.resolve(
        planning.Place(Home(ecsweep.home)), str(path), spec.Request(), build=True
    )
    monkeypatch.setattr(app, "usable_cores", lambda: 4)
    options = app.Options(Asked(workers=2))
    no_ledger: Any = None  # only Ray needs one
    executor = app._executor(
        Home(ecsweep.home), resolved, options, resolved.cells[:todo], app.Interrupts(), no_ledger
    )
    assert isinstance(executor, LocalExecutor)
    assert (executor.slots, executor._sharing.threads) == (slots, threads)
    assert executor.company == slots
