"""A model in a user's own file is built: the file is run, and its function called.

Who comes here trains the model or predicts with it; nobody else runs the user's code.
"""

import functools
import hashlib
import linecache
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any, NoReturn

from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS


class OwnModelError(Exception):
    """What a user's own file did wrong while it ran; the message begins with file and line."""


class NotAModelError(OwnModelError):
    """What the file gives is no model at all, whatever the hyperparameters."""


@dataclass(frozen=True)
class OwnFile:
    """A user's file of models: its name and its text, which is all that other machines need."""

    name: str
    """As it was given, for people."""
    text: str = field(repr=False)
    allowed: bool = False
    """Whether the user has named it in this command: only then it may be run."""

    @property
    def sha256(self) -> str:
        """What names the text, on whatever system it was written: 64 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class _Given:
    """The hyperparameters as a user's function sees them: those that its model declares."""

    def __init__(self, values: Mapping[str, Any], model: str, file: str) -> None:
        self.__dict__.update(values)
        self.__dict__["_about"] = (model, file)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        model, file = self.__dict__["_about"]
        frame: FrameType | None = sys._getframe(1)
        while frame and frame.f_code.co_filename != file:
            frame = frame.f_back
        raise NotAModelError(
            f"{file}:{frame.f_lineno if frame else 1}: {model} reads hp.{name}, which it does not "
            "declare. Add it to uses, or with a default to own."
        )

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"hp.{name} cannot be set: hyperparameters are given")


def build(file: OwnFile, model: str, function: str, hp: Hyperparameters, classes: int) -> Any:
    """Run a user's file, and have its function build a model: a `keras.Model`.

    Raises:
        NotAModelError: the file does not run, or its function gives no model.
        OwnModelError: the function fails, perhaps only with these hyperparameters.
    """
    module = _run(file)
    made = getattr(module, function)
    where = f"{file.name}:{_code_line(made)}"
    values = {name: getattr(hp, name) for name in MODELS[model].hyperparameters}
    given = _Given(values, model, file.name)
    try:
        network = made(given, classes)
    except (MemoryError, OwnModelError):
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises: told with its line
        raise OwnModelError(_where(file, error, where)) from error
    return _with_softmax(network, f"{where}: {function}", hp.length, classes)


@functools.lru_cache(maxsize=1)
def _run(file: OwnFile) -> ModuleType:
    """Run a file as a module; its lines show in tracebacks."""
    module = ModuleType("ecsweep_own_models")
    module.__file__ = file.name
    linecache.cache[file.name] = (
        len(file.text), None, file.text.splitlines(keepends=True), file.name
    )  # fmt: skip
    sys.modules[module.__name__] = module  # Keras looks up where a layer's class stands
    try:
        exec(compile(file.text, file.name, "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise NotAModelError(_where(file, error, f"{file.name}:1")) from error
    return module


def _where(file: OwnFile, error: BaseException, otherwise: str) -> str:
    """Return an error in a line, after the last place in the user's file that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file.name]
    said = (str(error).strip().splitlines() or [""])[0]
    place = f"{file.name}:{lines[-1]}" if lines else otherwise
    return f"{place}: {type(error).__name__}: {said}"


def _code_line(function: Any) -> int:
    code = getattr(function, "__code__", None)
    return int(code.co_firstlineno) if code else 1


def _with_softmax(network: Any, where: str, length: int, classes: int) -> Any:
    """Return a network that ends in a softmax of its own, which training leaves out.

    A dense layer's ``activation="softmax"`` becomes a layer; other ends are refused.
    """
    import keras

    if not isinstance(network, keras.Model):
        raise NotAModelError(
            f"{where} must return a keras.Model. Received: {type(network).__name__}."
        )
    shapes = _shapes(network)
    if shapes != ((None, length), (None, classes)):
        raise NotAModelError(
            f"{where} must return a functional keras.Model from tokens (batch, {length}) to "
            f"probabilities (batch, {classes}). Received: {shapes or 'none with one input'}."
        )
    last = network.layers[-1]
    activated = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Dense) and activated:
        last.activation = keras.activations.linear
        return keras.Model(network.input, keras.layers.Softmax()(network.output))
    if isinstance(last, keras.layers.Softmax) or activated:
        return network
    raise NotAModelError(
        f"{where} must end in probabilities: keras.layers.Softmax(), or a Dense layer with "
        f"activation='softmax'. Received: {type(last).__name__}."
    )


def _shapes(network: Any) -> tuple[tuple[int | None, ...], tuple[int | None, ...]] | None:
    """Return the shapes of a network's one input and one output, ``None`` where it has others."""
    try:
        return tuple(network.input.shape), tuple(network.output.shape)
    except (AttributeError, ValueError):  # a subclass of Model, or several inputs
        return None
