"""Commands as children of a process that has imported what they import.

Imports are most of what a short command costs. A child is a process as ``python -m ec_sweep.cli``
starts one, with arguments, folder, environment, standard streams and exit code of its own; only
the interpreter's start and the imports lie behind it. ``Ecsweep.start`` starts Python itself, and
so does whatever changes how Python starts.

    python -m tests.forking FD      # takes orders from a socket, which it has as this file
"""

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

_LARGEST = 1 << 18  # bytes of an order: arguments and environment
_WITH_KERAS = {"cpu_layers", "networks", "feeding", "training", "trial"}
_LATE = ("mlflow.store.tracking.sqlalchemy_store", "optuna.storages", "pandas", "alembic.command")
"""What a command imports only as it runs."""
_OWN_START = ("PYTHON", "LD_", "MALLOC", "GLIBC", "OMP", "OPENBLAS", "MATPLOTLIB")
"""Beginnings of variables that are read when Python or a library starts."""
_measuring: dict[str, str] = {}
"""Variables that have coverage measured."""


def measure_here_alone() -> None:
    """Have coverage measured in this process and in commands that are forked, in no others.

    Of processes that are killed, as workers are, no measurement arrives, and it slows all.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        _measuring[name] = os.environ.pop(name)


def can_run(environment: dict[str, str]) -> bool:
    """Whether an environment leaves alone what is read before a command begins."""
    changed = {k for k, v in environment.items() if os.environ.get(k) != v}
    changed |= os.environ.keys() - environment.keys()
    return not any(name.startswith(_OWN_START) for name in changed)


def run(
    arguments: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    timeout: float,
    cores: tuple[int, ...] = (),
) -> "subprocess.CompletedProcess[str]":
    """Run a command; as `subprocess.run` with pipes for its output and nothing to read.

    With ``cores`` it has these processors alone.
    """
    ends = [os.pipe() for _ in range(2)]
    order = json.dumps(
        {"arguments": arguments, "folder": str(folder), "env": environment, "cores": cores}
    )
    server = _server()
    socket.send_fds(server, [order.encode()], [written for _, written in ends])
    for _, written in ends:
        os.close(written)
    pid = int(server.recv(64))
    texts = _read_to_end([read for read, _ in ends], time.monotonic() + timeout)
    if texts is None:
        os.kill(pid, signal.SIGKILL)
    code = int(server.recv(64))
    command = ["ecsweep", *arguments]
    if texts is None:
        raise subprocess.TimeoutExpired(command, timeout)
    return subprocess.CompletedProcess(command, code, *texts)


def _read_to_end(pipes: list[int], deadline: float) -> list[str] | None:
    """Return what comes through each pipe until all its writers are gone; ``None``: too late."""
    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                data = os.read(key.fd, 1 << 16)
                found[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
        ended = not selector.get_map()
    for pipe in pipes:
        os.close(pipe)
    return [data.decode() for data in found.values()] if ended else None


@cache
def _server() -> socket.socket:
    """Start the process that forks, once for each process of tests; it ends with that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ECSWEEP", "MLFLOW"))}
    kept["MLFLOW_LOGGING_LEVEL"] = "WARNING"  # as commands set it before they import MLflow
    subprocess.Popen(
        [sys.executable, "-m", "tests.forking", str(theirs.fileno())],
        cwd=Path(__file__).parents[1],
        env=kept | _measuring,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # no terminal either: a child's streams are block-buffered
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    return ours


def main() -> None:
    """Import, then fork for each order and say its process and what that ended with."""
    orders = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    gc.freeze()  # or a child would copy what it looks through
    while True:
        data, streams, _, _ = socket.recv_fds(orders, _LARGEST, 2)
        if not data:
            return
        pid = os.fork()
        if pid == 0:
            orders.close()
            break
        for stream in streams:
            os.close(stream)
        orders.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        orders.send(str(os.waitstatus_to_exitcode(status)).encode())
    _become_the_command(json.loads(data), streams)


def _become_the_command(order: dict[str, Any], streams: "list[int] | array.array[int]") -> None:
    for number, stream in enumerate(streams, 1):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(str(order["folder"]))
    os.environ.clear()
    os.environ.update(order["env"])
    if order["cores"]:
        os.sched_setaffinity(0, order["cores"])
    sys.path[0] = str(order["folder"])
    sys.argv = ["ecsweep", *order["arguments"]]
    if "coverage" in sys.modules:
        sys.meta_path.insert(0, _UntilKeras())
    try:
        runpy.run_module("ec_sweep.cli", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    finally:
        threading._shutdown()  # type: ignore[attr-defined] # as Python does before it ends
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(int(code or 0))  # to take all modules down would take longer than most commands


class _UntilKeras(MetaPathFinder):
    """Ends the measuring of coverage where Keras begins, which would take several times as long."""

    def find_spec(self, name: str, *_: object) -> None:
        if name in ("keras", "tensorflow.python"):  # TensorFlow alone is also only looked for
            import coverage

            sys.meta_path.remove(self)
            measuring = coverage.Coverage.current()
            if measuring:
                measuring.stop()


def _import_all() -> None:
    """Import all that commands do, but the command line itself, which each child runs anew."""
    import ec_sweep

    names = {module.name for module in pkgutil.iter_modules(ec_sweep.__path__)}
    for name in sorted(names - _WITH_KERAS - {"cli"}):
        importlib.import_module(f"ec_sweep.{name}")
    for name in _LATE:
        importlib.import_module(name)
    assert not sys.modules.keys() & {"tensorflow", "keras", "ray"}


if __name__ == "__main__":
    main()
