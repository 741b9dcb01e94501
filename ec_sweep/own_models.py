"""Models in a user's own file: read for what they declare, run only where one is built.

``MODELS`` at the top of the file maps each model's name to the function that builds it::

    MODELS = {
        "wide": {"build": wide, "uses": ["filters", "hidden"], "own": {"dilation": 2}},
    }

The driver parses the text and never runs it, so that it lives without Keras and without what the
file may do. Workers run it, and so does who predicts with such a model. The text travels with
every task, and its sha256 stands in the ids of these models' cells: a file that was changed makes
other cells. A process knows the models of one file at a time.
"""

import ast
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ec_sweep import hyperparameters
from ec_sweep.errors import EcsweepError, nearest, printable
from ec_sweep.models import MODELS, TRAINING, Model
from ec_sweep.own_building import OwnFile, build

_LARGEST_FILE = 250_000  # bytes
_NAME = re.compile(r"[a-z0-9-]{1,100}")
_OWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN = re.compile(
    r"(train|val|valid|test|published|epoch|fit|best|peak|latency)_.*|.*_ci95|epochs_run|"
    r"parameters|model|dataset|split|seed|cell|n|state|attempts|run_id|params|failure|own"
)
"""Names that tables give to other columns, or that stand for something else."""
_KEYS = ("build", "uses", "own")
_FORM = (
    'MODELS = {"my-model": {"build": FUNCTION, "uses": ["filters", ...], "own": {"NAME": DEFAULT}}}'
)


_known: OwnFile | None = None


def read(path: Path) -> OwnFile:
    """Return a file of models that the user has named.

    Raises:
        EcsweepError: it cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise EcsweepError(f"--models {path}: not a file.")
        content = path.read_bytes()
        if len(content) > _LARGEST_FILE:
            raise EcsweepError(f"{path}: larger than {_LARGEST_FILE} bytes; not a file of models.")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise EcsweepError(f"--models {path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise EcsweepError(f"{path}: not UTF-8 text ({error.reason}).") from error
    return OwnFile(str(path), text.replace("\r\n", "\n").replace("\r", "\n"), allowed=True)


def know(file: OwnFile | None) -> None:
    """Know the models of this file from now on, and those of no other.

    Raises:
        EcsweepError: the file declares none, or what it declares is not allowed.
    """
    global _known
    if file == _known:
        return
    found = _declared(file) if file else {}
    for name in [name for name, model in MODELS.items() if model.source]:
        del MODELS[name]
    defaults = {own: default for model in found.values() for own, default in model.own.items()}
    hyperparameters.know_own(defaults)
    MODELS.update(found)
    _known = file


def known() -> OwnFile | None:
    """Return the file whose models are known."""
    return _known


def file_of(model: str) -> OwnFile | None:
    """Return the file that a model stands in, ``None`` for one that comes with ecsweep."""
    return _known if MODELS[model].source else None


def document(models: Iterable[str]) -> dict[str, Any]:
    """Return what a stored plan keeps of the file that some of these models stand in."""
    file = next(filter(None, map(file_of, dict.fromkeys(models))), None)
    return {"models": {"file": file.name, "text": file.text}} if file else {}


def check_allowed(models: Iterable[str]) -> None:
    """Raise an error when a model would run a file that the user has not named."""
    for model in models:
        file = file_of(model)
        if file and not file.allowed:
            raise EcsweepError(
                f"the model {model} stands in {file.name}, which is run only where you name it: "
                f"add --models {file.name}"
            )


def _declared(file: OwnFile) -> dict[str, Model]:
    """Return the models that a file declares, found without running it."""
    try:
        tree = ast.parse(file.text, file.name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or str(error) or type(error).__name__
        raise EcsweepError(f"{file.name}:{line}: not valid Python: {printable(reason)}.") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    reader = _Reader(file, functions)
    found: dict[str, Model] = {}
    for key, value in reader.registry(tree):
        name = reader.name(key, found)
        found[name] = reader.model(name, value)
    _check_agreement(file, found)
    return found


def _check_agreement(file: OwnFile, found: Mapping[str, Model]) -> None:
    """Raise an error where one name means different things to different models."""
    kinds: dict[str, tuple[set[type], str]] = {}
    for name, model in found.items():
        for own, default in model.own.items():
            several = isinstance(default, tuple)
            kind = {tuple, *map(type, default)} if several else {type(default)}
            before, other = kinds.setdefault(own, (kind, name))
            if kind != before:
                raise EcsweepError(
                    f"{file.name}: {own} is of one type in {other} and of another in {name}. "
                    "Give one of them another name."
                )


def _changes_registry(node: ast.AST) -> bool:
    """Whether a node gives ``MODELS`` a value, or adds to it, changes or removes some of it."""
    match node:
        case ast.Name(id="MODELS", ctx=ast.Store() | ast.Del()):
            return True
        case ast.Subscript(value=ast.Name(id="MODELS"), ctx=ast.Store() | ast.Del()):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="MODELS"), attr=called)):
            return called in {"update", "setdefault", "pop", "popitem", "clear", "__setitem__"}
    return False


@dataclass(frozen=True)
class _Reader:
    """Reads what a file declares; whatever is wrong is told with its line."""

    file: OwnFile
    functions: Mapping[str, ast.FunctionDef]

    def refuse(self, node: ast.AST | None, what: str) -> NoReturn:
        """Raise the error that something at a place of the file is wrong."""
        line = getattr(node, "lineno", 1)
        raise EcsweepError(f"{self.file.name}:{line}: {printable(what)}")

    def registry(self, tree: ast.Module) -> list[tuple[ast.expr | None, ast.expr]]:
        """Return keys and values of ``MODELS``."""
        named = [part for part in tree.body if any(map(_changes_registry, ast.walk(part)))]
        if not named:
            self.refuse(None, f"it has no line that names its models: {_FORM}")
        value = named[0].value if isinstance(named[0], ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Dict) or not value.keys:
            self.refuse(named[0], f"MODELS must be written out: {_FORM}")
        if len(named) > 1:
            self.refuse(named[1], f"MODELS must be written out in one place: {_FORM}")
        return list(zip(value.keys, value.values, strict=True))

    def name(self, key: ast.expr | None, found: Mapping[str, Model]) -> str:
        """Return the name of a model."""
        name = key.value if isinstance(key, ast.Constant) else None
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            shown = ast.unparse(key) if key else "**"
            self.refuse(
                key,
                "a model's name must be of lower-case letters, digits and hyphens, in quotes. "
                f"Received: {shown:.80}.",
            )
        if name in MODELS and not MODELS[name].source:
            self.refuse(key, f"{name} comes with ecsweep. Give your model another name.")
        if name in found:
            self.refuse(key, f"{name} is named twice.")
        return name

    def model(self, name: str, value: ast.expr) -> Model:
        """Return a model as its entry declares it."""
        if not isinstance(value, ast.Dict):
            self.refuse(value, f"{name} must be written out: {_FORM}")
        parts: dict[str, ast.expr] = {}
        for key, part in zip(value.keys, value.values, strict=True):
            said = key.value if isinstance(key, ast.Constant) else None
            if said not in _KEYS:
                shown = ast.unparse(key) if key else "**"
                self.refuse(
                    key or value,
                    f"{name}: unknown key {shown:.80}.{nearest(str(said), _KEYS)} "
                    f"Allowed: {', '.join(_KEYS)}.",
                )
            parts[str(said)] = part
        function = self._function(name, parts.get("build"), value)
        uses, own = self._uses(name, parts.get("uses")), self._own(name, parts.get("own"))
        return Model(
            functools.partial(build, self.file, name, function),
            frozenset({*TRAINING, *uses, *own}),
            own=own,
            source=self.file.sha256,
        )

    def _function(self, name: str, value: ast.expr | None, entry: ast.expr) -> str:
        """Return the name of the function that builds a model."""
        if value is None:
            self.refuse(entry, f'{name} lacks "build": the function that builds it.')
        if not isinstance(value, ast.Name) or value.id not in self.functions:
            known = ", ".join(self.functions) or "none"
            self.refuse(
                value,
                f"{name}: build must be a function of this file, by its name. "
                f"Received: {ast.unparse(value):.80}. There: {known}.",
            )
        node = self.functions[value.id]
        given = node.args.posonlyargs + node.args.args
        needed = len(given) - len(node.args.defaults)
        lacking = [d for d in node.args.kw_defaults if d is None]
        if needed > 2 or (len(given) < 2 and not node.args.vararg) or lacking:
            self.refuse(
                node, f"{node.name} must take two arguments: the hyperparameters, and the number "
                "of classes.",
            )  # fmt: skip
        return value.id

    def _uses(self, name: str, value: ast.expr | None) -> set[str]:
        """Return the hyperparameters of ecsweep that a model uses."""
        uses = self._literal(value, f"{name}: uses", [])
        if not isinstance(uses, list | tuple | set) or not all(isinstance(u, str) for u in uses):
            self.refuse(value, f"{name}: uses must be a list of names of hyperparameters.")
        for used in uses:
            if used not in hyperparameters.NAMES:
                self.refuse(
                    value,
                    f"{name}: uses {used!r:.80}, which is no hyperparameter of ecsweep."
                    f"{nearest(used, hyperparameters.NAMES)} One of its own goes under own, with "
                    f"its default. Known: {', '.join(hyperparameters.NAMES)}.",
                )
        return set(uses)

    def _own(self, name: str, value: ast.expr | None) -> dict[str, Any]:
        """Return a model's own hyperparameters with their defaults."""
        own = self._literal(value, f"{name}: own", {})
        if not isinstance(own, dict):
            self.refuse(value, f'{name}: own must map names to defaults, as {{"dilation": 2}}.')
        found = {}
        for key, default in own.items():
            if not isinstance(key, str) or not _OWN_NAME.fullmatch(key) or _TAKEN.fullmatch(key):
                self.refuse(
                    value,
                    f"{name}: own names {key!r:.80}: a name must be of a-z, 0-9 and _, and not "
                    "one that a table has for something else.",
                )
            if key in hyperparameters.NAMES:
                self.refuse(value, f"{name}: {key} is a hyperparameter of ecsweep: put it in uses.")
            try:
                found[key] = hyperparameters.own_value(default)
            except ValueError as error:
                self.refuse(
                    value,
                    f"{name}: the default of {key} must be {error}. Received: {default!r:.80}.",
                )
        return found

    def _literal(self, value: ast.expr | None, what: str, otherwise: Any) -> Any:
        if value is None:
            return otherwise
        try:
            return ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            self.refuse(value, f"{what} must be written out, without names and calls.")
