"""What comes from files and flags is never code, nor a path outside the home folder."""

import ast
from pathlib import Path

import pytest

import ec_sweep
from tests.conftest import TINY_SWEEP, Ecsweep, new_home

PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.unsafe_load", "yaml.full_load"}


def name_of(node: ast.expr) -> str:
    return ast.unparse(node)


def test_nothing_from_disk_is_ever_code() -> None:
    """No pickle, no eval, no shell, and YAML through our safe loader alone.

    But for the file of models that a user names with --models, and its one place.
    """
    for path in Path(ec_sweep.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None)
                names = {module} if module else {alias.name for alias in node.names}
                assert not PICKLERS & {str(name).split(".")[0] for name in names}, path
            if isinstance(node, ast.Call):
                own = path.stem == "own_building" and name_of(node.func) in ("exec", "compile")
                assert own or name_of(node.func) not in CALLS, path
                given = {word.arg: name_of(word.value) for word in node.keywords}
                assert given.get("allow_pickle", "False") == "False", path
                assert given.get("shell", "False") == "False", path
                assert given.get("safe_mode", "True") == "True", path
                if name_of(node.func) == "yaml.load":
                    assert (path.name, given["Loader"]) == ("documents.py", "_Loader")


ESCAPE = "\x1b[31mred"
HOSTILE = [
    (["study", "../../etc/passwd"], "cannot be read"),
    (["plan", "a\nb"], r"no study is named 'a\nb'"),
    (["plan", f"./{ESCAPE}.yaml"], r"\x1b[31mred.yaml: cannot be read"),
    (["plan", "x" * 5000], "no study is named"),
    (["plan", "/" + "x" * 5000], "cannot be read"),
    (["plan", "./nul\udcff.yaml"], "cannot be read"),
    (["plan", "sweeps/"], "cannot be read"),
    (["plan", "tiny", "--set", "dataset=../../x"], "--set dataset must be a name of lower-case"),
    (["plan", "tiny", "--set", "model=../x"], "--set model must be one of"),
    (["plan", "tiny", "--set", f"{ESCAPE}=1"], r"Received: '\x1b[31mred=1'"),
    (["forget", "tiny", "--cell", "../x"], "has no cell ../x"),
    (["forget", "tiny", "--cell", ESCAPE], r"has no cell \x1b[31mred"),
    (["report", "tiny", "--out", ""], "--out must be a folder"),
    (["report", "tiny", "--out", "sweeps/tiny.yaml"], "--out must be a folder"),
    (["report", "../tiny.yaml"], "cannot be read"),
    (["data", "build", "../x", "--from", "x.tsv"], "no dataset is named '../x'"),
    (["data", "show", "../x"], "no dataset and no source is named '../x'"),
    (["data", "show", ""], "no dataset and no source is named ''"),
    (["study", "tiny", "--home", "sweeps/tiny.yaml"], "must be a folder"),
    (["study", "tiny", "--home", f"{ESCAPE}?"], r"\x1b[31mred? must not have ?"),
    (["study", "tiny", "--home", "x" * 300], "--home cannot be used (File name too long)"),
]


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    return new_home(tmp_path_factory.mktemp("unused"))


@pytest.mark.parametrize(("arguments", "message"), HOSTILE)
def test_hostile_arguments_are_one_printable_line(
    unused: Ecsweep, arguments: list[str], message: str
) -> None:
    """Exit 2, no path outside the home, no control character on the terminal."""
    line = unused.fails(*arguments)
    assert message in line
    assert line.isprintable()
    assert {path.name for path in unused.home.iterdir()} == {"sweeps"}


def test_a_broken_sweep_stops_all_before_anything_runs(ecsweep: Ecsweep) -> None:
    """`study --all` names the file that cannot be read, and has written nothing."""
    (ecsweep.home / "sweeps" / "broken.yaml").write_text("study: [")
    line = ecsweep.fails("study", "--all")
    assert "sweeps/broken.yaml: not valid YAML" in line
    assert not (ecsweep.home / "mlruns").exists()
    (ecsweep.home / "sweeps" / "worse.yaml").write_text(TINY_SWEEP + f"1: {'9' * 5000}")
    assert "sweeps/broken.yaml" in ecsweep.fails("plan", "broken")
    assert "cells" in ecsweep.ok("plan", "tiny")
