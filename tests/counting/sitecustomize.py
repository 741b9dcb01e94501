"""Counts what costs time, from within the processes of a study.

Python imports this at the start of every process that has this folder on its
PYTHONPATH: the driver and, as they inherit it, its workers. The product knows
nothing of it. What is counted goes to ``$COUNTS``, one file per process.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_FILE = Path(os.environ["COUNTS"]) / f"{os.getpid()}.jsonl"
_OWN = f"{os.sep}ec_sweep{os.sep}"


def _note(kind: str, **what: object) -> None:
    """Keep a count at once: workers are killed."""
    with _FILE.open("a") as file:
        file.write(json.dumps({"kind": kind, **what}) + "\n")


def _callers() -> Iterator[str]:
    """Yield the product's functions that are under way, innermost first."""
    frame: FrameType | None = sys._getframe()
    while frame:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if _OWN in path and "outages" not in path:
            yield f"{Path(path).stem}.{name}"
        frame = frame.f_back


def _statements(module: ModuleType) -> None:
    from sqlalchemy.engine import Engine

    def count(connection: Any, _: Any, statement: str, *__: Any) -> None:
        database = Path(connection.engine.url.database).name
        callers = list(_callers())
        _note("sql", database=database, statement=" ".join(statement.split()), callers=callers)

    def count_commit(connection: Any) -> None:
        database = Path(connection.engine.url.database).name
        _note("commit", database=database, callers=list(_callers()))

    module.event.listen(Engine, "before_cursor_execute", count)
    module.event.listen(Engine, "commit", count_commit)


def _client_calls(module: ModuleType) -> None:
    under_way: list[str] = []

    def counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            if not under_way:  # what MLflow's client asks of itself is one call
                _note("mlflow", name=name, callers=list(_callers()))
            under_way.append(name)
            try:
                return method(*arguments, **named)
            finally:
                under_way.pop()

        return call

    for name, method in list(vars(module.MlflowClient).items()):
        if callable(method) and not name.startswith("_"):
            setattr(module.MlflowClient, name, counted(name, method))


def _traces(module: ModuleType) -> None:
    def count(function: Any) -> None:
        import tensorflow as tf

        fed = []
        for spec in tf.nest.flatten(function.structured_input_signature):
            element = getattr(spec, "element_spec", spec)  # of an iterator: what it yields
            for tensor in tf.nest.flatten(element):
                if isinstance(tensor, tf.TensorSpec):
                    shape = tensor.shape.as_list() if tensor.shape.rank is not None else None
                    fed.append([tensor.dtype.name, tensor.dtype.size, shape])
        of_network = any(tensor.dtype == tf.resource for _, tensor in function.graph.captures)
        _note("trace", name=function.graph.name, of_network=of_network, fed=fed)

    module.CONCRETE_FUNCTION_CALLBACKS.append(count)


def _snapshots_of_worker(module: ModuleType) -> None:
    _around(module, "configure", "getting ready")
    _around(module, "run", "training")


def _snapshots_of_driver(module: ModuleType) -> None:
    _around(module.Driver, "run", "driving")


def _around(place: Any, name: str, when: str) -> None:
    """Note when a function begins and ends, and the modules loaded by then."""
    function = getattr(place, name)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        _note(f"begins {when}")
        try:
            return function(*arguments, **named)
        finally:
            _note(f"ends {when}", modules=sorted({n.partition(".")[0] for n in sys.modules}))

    setattr(place, name, call)


_HOOKS: dict[str, Callable[[ModuleType], None]] = {
    "sqlalchemy": _statements,
    "mlflow.tracking.client": _client_calls,
    "tensorflow.python.eager.polymorphic_function.transform": _traces,
    "ec_sweep.trial": _snapshots_of_worker,
    "ec_sweep.study": _snapshots_of_driver,
}


class _AfterImport(MetaPathFinder):
    """Lets a hook at a module once it has been imported, and imports none itself."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:  # noqa: ARG002 - Python's
        if name not in _HOOKS:
            return None
        spec = PathFinder.find_spec(name, path)
        assert spec
        assert spec.loader
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _HOOKS[name](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _AfterImport())
