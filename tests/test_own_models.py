"""Models in a user's own file: declared without being run, and run where they are trained."""

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import keras
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest

from ec_sweep import hyperparameters, own_models, saving, serving, spec
from ec_sweep.errors import EcsweepError
from ec_sweep.failures import classify
from ec_sweep.logged_models import LoggedModels
from ec_sweep.models import MODELS, hyperparameters_of, kind
from ec_sweep.own_building import NotAModelError, OwnFile, OwnModelError
from ec_sweep.spec import Request
from tests.conftest import Ecsweep

TEXT = '''\
"""A model of my own."""


def wide(hp, classes):
    from keras import layers

    from ec_sweep.models import classifier, one_hot, sequence_input

    tokens = sequence_input(hp)
    features = layers.Conv1D(hp.filters, 3, dilation_rate=hp.dilation, padding="same")(
        one_hot(tokens)
    )
    for size in hp.sizes:
        features = layers.Dense(size, activation=hp.kind)(features)
    return classifier(hp, classes, tokens, layers.GlobalMaxPooling1D()(features))


MODELS = {
    "wide": {
        "build": wide,
        "uses": ["filters", "hidden", "activation", "dropout", "initializer"],
        "own": {"dilation": 2, "kind": "relu", "sizes": [4, 4], "scale": 1.5, "twice": False},
    },
}
'''
SWEEP = """\
study: own
dataset: enzyme
fixed: {filters: 4, hidden: [8], batch_size: 16, epochs: 1}
grid:
  - {model: [cnn], filter_size: [3]}
  - {model: [wide], dilation: [1, 2]}
scales: {demo: {length: 40, train_size: 64}}
"""


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    yield
    own_models.know(None)


def file(text: str = TEXT, name: str = "my_models.py") -> OwnFile:
    return OwnFile(name, text, allowed=True)


def model(body: str, entry: str = '{"build": m}', before: str = "") -> str:
    """Return a file with one model, m, whose function begins at line 2."""
    return f'{before}\ndef m(hp, classes):\n{body}\n\nMODELS = {{"m": {entry}}}\n'


def build(text: str, **values: object) -> keras.Model:
    """Build the one model of a file, for 3 classes of sequences of 20."""
    own_models.know(file(text))
    (name,) = [name for name, known in MODELS.items() if known.source]
    return MODELS[name].build(hyperparameters_of(name, {"length": 20, **values}), 3)


def cell(text: str = TEXT, **values: object) -> spec.Cell:
    own_models.know(file(text))
    sweep = spec.Sweep(
        study="own",
        dataset="enzyme",
        fixed={"model": "wide", **values},
        grid={"learning_rate": [0.1]},
    )
    (found,) = spec.cells(sweep, Request())
    return found.on({("enzyme", "random"): "f" * 64})


def test_what_a_file_declares_is_known_without_running_it(tmp_path: Path) -> None:
    """Models, their functions and hyperparameters; the file may do what it likes when it is run."""
    ran = tmp_path / "ran"
    before = f"import keras, no_such_module\nopen({str(ran)!r}, 'w')\nraise SystemExit\n"
    own_models.know(file(before + TEXT))
    known = MODELS["wide"]
    assert {"length", "epochs", "filters", "dilation", "twice"} <= known.hyperparameters
    assert "filter_size" not in known.hyperparameters
    assert known.own == {
        "dilation": 2, "kind": "relu", "sizes": (4, 4), "scale": 1.5, "twice": False,
    }  # fmt: skip
    assert not ran.exists()


def test_the_driver_loads_no_keras_for_it(tmp_path: Path) -> None:
    """Not even where the file imports it at its top."""
    (tmp_path / "my_models.py").write_text("import keras\nimport tensorflow\n" + TEXT)
    code = (
        "import sys; from pathlib import Path; from ec_sweep import own_models\n"
        "own_models.know(own_models.read(Path('my_models.py')))\n"
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr


def test_own_hyperparameters_are_checked_by_the_type_of_their_default() -> None:
    """Whole numbers, numbers, text, true or false, and lists; what is refused is told."""
    own_models.know(file())
    assert hyperparameters.parse("dilation", 3) == 3
    assert hyperparameters.parse("scale", 2) == 2.0
    assert hyperparameters.parse("scale", "1e-2") == 0.01
    assert hyperparameters.parse("sizes", [1, 2]) == (1, 2)
    assert hyperparameters.is_list("sizes")
    assert hyperparameters.number_type("dilation") is int
    for name, value, allowed in (
        ("dilation", 1.5, "a whole number"),
        ("dilation", True, "a whole number"),
        ("kind", 3, "text of up to 100 characters"),
        ("twice", "yes", "true or false"),
        ("sizes", ["a"], "a list of 1 to 16 entries, each a whole number"),
        ("scale", "nan", "a number"),
    ):
        with pytest.raises(ValueError, match=allowed):
            hyperparameters.parse(name, value)


def test_a_cell_of_ones_own_model_is_the_text_too() -> None:
    """Another text is another cell; a value that is the default, or how lines end, is not."""
    known = cell().id
    assert known == cell(dilation=2, sizes=[4, 4]).id
    assert known != cell(dilation=3).id
    assert known != cell(TEXT + "# changed\n").id
    assert cell().params["sizes"] == [4, 4]
    assert cell().params["learning_rate"] == 0.1


def test_lines_may_end_as_on_any_system(tmp_path: Path) -> None:
    """A file with CR LF, or a byte order mark, is the same file."""
    (tmp_path / "a.py").write_bytes(TEXT.encode())
    (tmp_path / "b.py").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    one, other = (own_models.read(tmp_path / name) for name in ("a.py", "b.py"))
    assert one.sha256 == other.sha256


def test_models_that_come_with_ecsweep_are_untouched() -> None:
    """Their ids do not depend on what else is known; and what was known is forgotten."""
    sweep = spec.Sweep(study="own", dataset="enzyme", fixed={"model": "cnn"}, grid={"epochs": [1]})
    (before,) = spec.cells(sweep, Request())
    own_models.know(file())
    (beside,) = spec.cells(sweep, Request())
    where = {("enzyme", "random"): "f" * 64}
    assert before.on(where).id == beside.on(where).id
    assert own_models.file_of("cnn") is None
    own_models.know(None)
    assert "wide" not in MODELS
    assert "dilation" not in hyperparameters.names()


def test_networks_of_different_texts_are_of_different_kinds() -> None:
    """A worker would else train a changed model with the network compiled before."""
    kinds = set()
    for text in (TEXT, TEXT + "# changed\n"):
        own_models.know(file(text))
        kinds.add(kind("wide", hyperparameters_of("wide", {})))
    own_models.know(file())
    kinds.add(kind("wide", hyperparameters_of("wide", {"dilation": 3})))
    assert len(kinds) == 3
    same = {kind("wide", hyperparameters_of("wide", {"epochs": n})) for n in (1, 2)}
    assert len(same) == 1


def test_own_hyperparameters_survive_the_way_to_a_worker() -> None:
    """Tasks are pickled."""
    own_models.know(file())
    hp = hyperparameters_of("wide", {"dilation": 5, "filters": 7})
    copy = pickle.loads(pickle.dumps(hp))
    assert copy == hp
    assert (copy.dilation, copy.filters, copy.kind, copy.epochs) == (5, 7, "relu", 30)
    with pytest.raises(AttributeError):
        _ = copy.nothing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def m(:\n", "my_models.py:1: not valid Python: invalid syntax"),
        ("x = 1\n", "my_models.py:1: it has no line that names its models: MODELS = "),
        ("\nMODELS = make()\n", "my_models.py:2: MODELS must be written out"),
        ("MODELS = {}\n", "my_models.py:1: MODELS must be written out"),
        ("if True:\n MODELS = {'m': {}}\n", "my_models.py:1: MODELS must be written out"),
        (model(" pass") + 'MODELS["b"] = {}\n', "py:6: MODELS must be written out in one"),
        (model(" pass") + "MODELS |= more\n", "my_models.py:6: MODELS must be written out in one"),
        (model(" pass") + "MODELS.update(b={})\n", "6: MODELS must be written out in one place"),
        (model(" pass") + model(" pass"), "my_models.py:10: MODELS must be written out in one"),
        ('MODELS = {"m": {"build": m}}\n', "build must be a function of this file, by its name"),
        (model(" pass", '{"build": "m"}'), "my_models.py:5: m: build must be a function"),
        (model(" pass", '{"uses": []}'), 'm lacks "build"'),
        (model(" pass", '{"builds": m}'), "unknown key 'builds'. Did you mean 'build'?"),
        (model(" pass", "m"), "m must be written out"),
        (model(" pass", '{"build": m, "uses": ["filter"]}'), "Did you mean 'filters'?"),
        (model(" pass", '{"build": m, "uses": "filters"}'), "must be a list of names"),
        (model(" pass", '{"build": m, "uses": NAMES}'), "must be written out, without names"),
        (model(" pass", '{"build": m, "own": {"epochs": 3}}'), "epochs is a hyperparameter of"),
        (model(" pass", '{"build": m, "own": {"n": 3}}'), "not one that a table has"),
        (model(" pass", '{"build": m, "own": {"Size": 3}}'), "must be of a-z, 0-9 and _"),
        (model(" pass", '{"build": m, "own": {"size": None}}'), "the default of size must be a"),
        (model(" pass", '{"build": m, "own": {"size": []}}'), "the default of size must be a"),
        (model(" pass", '{"build": m, "own": {"size": [1, "a"]}}'), "the default of size must"),
        (model(" pass", '{"build": m, "own": {"size": 2e9}}'), "the default of size must be a"),
        ("def m(hp): pass\nMODELS = {'m': {'build': m}}\n", "my_models.py:1: m must take two"),
        ("def m(a, b, c): pass\nMODELS = {'m': {'build': m}}\n", "m must take two arguments"),
        (model(" pass").replace('"m"', '"cnn"'), "cnn comes with ecsweep"),
        (model(" pass").replace('"m"', '"My Model"'), "must be of lower-case letters"),
        (
            "def m(a, b): pass\nMODELS = {'m': {'build': m}, 'm': {'build': m}}",
            "m is named twice",
        ),
        (
            "def m(a, b): pass\nMODELS = {'m': {'build': m, 'own': {'s': 1}},\n"
            "'k': {'build': m, 'own': {'s': 1.5}}}",
            "s is of one type in m and of another in k",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_told_in_one_line(text: str, said: str) -> None:
    """With file and line, before anything is run; what was known stays known."""
    own_models.know(file())
    with pytest.raises(EcsweepError, match=re.escape(said)) as error:
        own_models.know(file(text))
    assert "\n" not in str(error.value)
    assert "wide" in MODELS


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read"), (b"\xff", "not UTF-8"), (b" " * 300_000, "larger than")],
)
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    """One line that names it."""
    path = tmp_path / "my_models.py"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EcsweepError, match=said):
        own_models.read(path)


def test_a_model_is_built_with_what_it_declares() -> None:
    """Those of ecsweep and its own, each with its value or default."""
    built = build(TEXT, filters=5, dilation=3, sizes=(7,), hidden=(6,))
    assert (built.input_shape, built.output_shape) == ((None, 20), (None, 3))
    convolution = next(one for one in built.layers if isinstance(one, keras.layers.Conv1D))
    assert (convolution.filters, convolution.dilation_rate) == (5, (3,))
    assert [one.units for one in built.layers if isinstance(one, keras.layers.Dense)] == [7, 6, 3]


TOKENS = ' import keras\n x = tokens = keras.Input((hp.length,), dtype="uint8")\n'
FLOATS = TOKENS + ' x = keras.ops.cast(x, "float32")\n'


@pytest.mark.parametrize(
    "end",
    [
        'x = keras.layers.Dense(classes, activation="softmax")(x)',
        "x = keras.layers.Softmax()(keras.layers.Dense(classes)(x))",
        'x = keras.layers.Activation("softmax")(keras.layers.Dense(classes)(x))',
    ],
)
def test_any_softmax_may_end_a_model(end: str) -> None:
    """Training leaves it out: what comes before it are scores, not probabilities."""
    built = build(model(f"{FLOATS} {end}\n return keras.Model(tokens, x)"))
    batch = np.arange(40, dtype=np.uint8).reshape(2, 20)
    probabilities = built.predict_on_batch(batch)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])
    scores = keras.Model(built.input, built.layers[-1].input).predict_on_batch(batch)
    expected = np.exp(scores - scores.max(axis=1, keepdims=True))
    assert probabilities == pytest.approx(expected / expected.sum(axis=1, keepdims=True), abs=1e-6)
    assert np.ptp(scores) > 1  # not probabilities already


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (model(" return 3"), "my_models.py:2: m must return a keras.Model. Received: int."),
        (
            model(f"{FLOATS} return keras.Model(tokens, keras.layers.Dense(classes)(x))"),
            "must end in probabilities",
        ),
        (
            model(f"{FLOATS} return keras.Model(tokens, keras.layers.Dense(7)(x))"),
            "(batch, 20) to probabilities (batch, 3)",
        ),
        (model(" return hp.units"), "my_models.py:3: m reads hp.units, which it does not declare"),
        (model(" hp.length = 3"), "my_models.py:3: AttributeError: hp.length cannot be set"),
        (model(" pass", before="import no_such_module"), "my_models.py:1: ModuleNotFoundError"),
        (model(" pass", before="raise SystemExit(3)"), "my_models.py:1: SystemExit: 3"),
    ],
)
def test_what_is_no_model_is_told_with_its_line(text: str, said: str) -> None:
    """What the function gives, what it reads, and what the file does when it is run."""
    with pytest.raises(OwnModelError, match=re.escape(said)) as error:
        build(text)
    assert "\n" not in str(error.value)


def test_an_error_in_the_function_names_the_users_line() -> None:
    """Even when it is raised elsewhere; memory that ran out is still known as that."""
    text = model(' import json\n json.loads("{")\n return 1')
    with pytest.raises(OwnModelError, match=r"my_models.py:4: JSONDecodeError: Expecting") as error:
        build(text)
    assert not isinstance(error.value, NotAModelError)  # other hyperparameters may be fine
    assert classify(error.value).failure == "error"
    with pytest.raises(OwnModelError) as error:
        build(model(' raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")'))
    assert classify(error.value).failure == "oom"
    with pytest.raises(MemoryError):
        build(model(" raise MemoryError"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ecsweep:
    """A home in which a study with a model of one's own has run, its file since removed."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "own.yaml").write_text(SWEEP)
    (folder / "my_models.py").write_text(TEXT)
    home = Ecsweep(folder)
    said = home.ok(
        "study", "own", "--models", "my_models.py", "--workers", "1", "--save-models", "all"
    )
    assert "[3/3]" in said
    assert "wide" in said
    (folder / "my_models.py").rename(folder / "kept.py")
    return home


def test_what_has_run_is_known_without_the_file(ran: Ecsweep) -> None:
    """By name and by path; the file is asked for again where it would be run."""
    cells = ran.cells("own")
    assert [cell["state"] for cell in cells] == ["complete"] * 3
    assert [cell["params"].get("dilation") for cell in cells] == [None, 1, 2]
    assert ran.cells("sweeps/own.yaml") == cells
    assert "Dilation" in ran.ok("report", "own", "--format", "csv")
    tidy = (ran.home / "reports" / "demo" / "own.csv").read_text().splitlines()
    assert "dilation" in tidy[0].split(",")
    said = ran.fails("study", "own")
    assert "run only where you name it: add --models my_models.py" in said
    missing = ran.fails("study", "own", "--models", "my_models.py")
    assert "--models my_models.py: cannot be read" in missing


def test_the_same_text_under_another_name_is_done(ran: Ecsweep) -> None:
    """The text is the identity, not where it stands; a changed one makes new cells."""
    plan = ran.ok("plan", "own", "--models", "kept.py")
    assert "A study would run nothing" in plan
    (ran.home / "changed.py").write_text(
        TEXT.replace("Conv1D(hp.filters, 3", "Conv1D(hp.filters, 5")
    )
    plan = ran.ok("plan", "own", "--models", "changed.py")
    assert "A study would run 2 cells" in plan
    assert "2 other cells are recorded" in plan


def test_a_saved_model_is_used_with_its_own_text_alone(ran: Ecsweep) -> None:
    """The file must be named, and be as it was; the model keeps a copy, which may be named too."""
    (ran.home / "some.fasta").write_text(">one\n" + "MKTAYIAKQR" * 6 + "\n")
    (cell,) = [c["cell"] for c in ran.cells("own") if c["params"].get("dilation") == 2]
    arguments = ("predict", "some.fasta", "--study", "own", "--cell", cell)
    said = ran.fails(*arguments)
    assert "the model wide stands in my_models.py, which is run only where you name it" in said
    (ran.home / "other.py").write_text(TEXT + "# changed\n")
    said = ran.fails(*arguments, "--models", "other.py")
    assert "other.py is not as it was when the model wide was trained" in said
    copy = said.rpartition("--models ")[2].strip()
    assert Path(copy).read_text() == TEXT
    found = ran.ok(*arguments, "--models", "kept.py")
    assert ran.ok(*arguments, "--models", copy) == found
    # MLflow runs what it is asked to load.
    served = mlflow.pyfunc.load_model(str(Path(copy).parents[2]))
    answer = served.predict(pd.DataFrame({"sequence": ["MKTAYIAKQR" * 6]}))
    row = found.splitlines()[1].split("\t")
    assert answer.to_numpy()[0] == pytest.approx([float(text) for text in row[2:4]], abs=1e-6)
    with pytest.raises(EcsweepError, match="run only where you name it"):
        serving.load(Path(copy).parent)


def test_recording_a_model_leaves_the_models_of_the_driver(
    ran: Ecsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an earlier driver's worker has left may be of an older file: cells keep theirs."""
    (saved, *_) = (ran.home / "mlruns" / "artifacts").rglob(saving._OWN)
    newer = OwnFile("newer.py", TEXT + "# newer\n", allowed=True)
    own_models.know(newer)
    models, known = LoggedModels(None, "0"), []
    monkeypatch.setattr(models, "_log", lambda *_: known.append(own_models.known()))
    models.record("run", SimpleNamespace(model=saved.parent))  # type: ignore[arg-type]
    assert [file.text for file in known] == [TEXT]
    assert own_models.known() == newer


def test_a_study_of_a_broken_model_ends_with_one_line(ran: Ecsweep) -> None:
    """At its first cell: no other one can be trained. Exit code 2, with file and line."""
    (ran.home / "broken.py").write_text(model(" return hp"))
    (ran.home / "broken.yaml").write_text(
        SWEEP.replace("study: own", "study: broken").replace("wide", "m").replace(
            "dilation: [1, 2]", "learning_rate: [0.1, 0.01]"
        )
    )  # fmt: skip
    arguments = ("study", "broken.yaml", "--models", "broken.py", "--workers", "1")
    done = ran.run(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr == ("ecsweep: broken.py:2: m must return a keras.Model. Received: _Given.\n")


def test_a_name_that_is_no_model_says_how_ones_own_are_named(ecsweep: Ecsweep) -> None:
    """One line, with the option; the list of studies takes it as well."""
    (ecsweep.home / "sweeps" / "own.yaml").write_text(SWEEP)
    (ecsweep.home / "my_models.py").write_text(TEXT)
    for command in (["plan", "own"], ["studies"]):
        done = ecsweep.run(*command)
        assert done.returncode == 2
        assert "'wide'. A model of your own: study and plan take --models FILE." in done.stderr
    assert "own " in ecsweep.ok("studies", "--models", "my_models.py")
    plan = json.loads(ecsweep.ok("plan", "own", "--json", "--models", "my_models.py"))
    assert [cell["params"]["model"] for cell in plan["cells"]] == ["cnn", "wide", "wide"]
    assert not list(ecsweep.home.glob("mlruns/*.db"))
