"""MLflow's UI on the home folder's runs, as a server process that ends with the command."""

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from ec_sweep import databases, gone, hints
from ec_sweep.errors import EcsweepError, heed_interrupts
from ec_sweep.experiments import find_tracker
from ec_sweep.mlflow_store import is_remote, refuse_foreign, tracking_uri
from ec_sweep.paths import Home, check_sqlite
from ec_sweep.study_page import VIEW

LOCAL = "127.0.0.1"
"""The address that only programs of this machine reach."""


def page_of(home: Home, study: str) -> str:
    """Return where a study, ``name@scale``, has its page, as it follows the UI's address."""
    tracker = find_tracker(home, study)
    if tracker is None or not tracker.asked:
        name, _, scale = study.partition("@")
        raise EcsweepError(
            f"{name} has not been run at {scale} scale. Run it with: {hints.on('study', study)}"
        )
    view = f"viewStateShareKey={VIEW}&" if tracker.has_view else ""
    # Beside training there is a menu for work with language models, in which nobody is here.
    return f"/#/experiments/{tracker.experiment_id}/runs?{view}workflowType=machine_learning"


def server_elsewhere(home: Home) -> str | None:
    """Return the address of the MLflow server that has the runs, ``None`` where none has."""
    uri = tracking_uri(home)
    return uri.rstrip("/") if is_remote(uri) else None


def serve(home: Home, host: str, port: int, announce: Callable[[str], None]) -> int:
    """Run the MLflow UI until it ends or Ctrl-C; returns its exit code."""
    check(home)
    family = check_address(host, port)
    names = _names(host)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(home),  # not an argument: it may hold a password
        "PYTHONWARNINGS": "ignore",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a dozen processes that nobody here needs
        # Only these names reach it: a web page elsewhere cannot make a browser ask in its stead.
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*names, *(f"{name}:{port}" for name in names)]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in names),
    }
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port),
        "--workers", "1", "--uvicorn-opts", "--log-level warning",
        "--default-artifact-root", home.artifacts.resolve().as_uri(),
    ]  # fmt: skip
    log = home.work / f"ui-{port}.log"
    home.make_work()
    heed_interrupts()
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        while not _answers(family, host, port):
            if server.poll() is not None:
                said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise EcsweepError(f"the MLflow UI did not start. Its last words: {said[-1]}")
            time.sleep(0.2)
        announce(f"http://{names[0]}:{port}")
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end_group(server)
        log.unlink(missing_ok=True)


def warning(host: str, port: int) -> str | None:
    """Return what to say of an address that other machines reach, ``None`` of one they do not."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return None
    if host == "localhost":
        return None
    return (
        f"Warning: whoever reaches {host} port {port} can read, change and delete all runs; there "
        "is no password. Safer: leave --host out, and on your own machine run "
        f"ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}, then open http://127.0.0.1:{port}"
    )


def check(home: Home) -> None:
    """Raise an error where there is nothing to show."""
    uri = tracking_uri(home)
    if is_remote(uri):
        raise EcsweepError("MLFLOW_TRACKING_URI is a server: open its address in a browser.")
    if uri == f"sqlite:///{home.mlflow_db}":
        gone.check_tracking(home)
        if not home.mlflow_db.exists():
            raise EcsweepError(f"{home.mlflow_db} does not exist yet. Run a study first.")
        check_sqlite(home.mlflow_db)
    elif databases.is_server(uri) and not refuse_foreign(uri):
        raise EcsweepError(f"{databases.masked(uri)} holds no runs yet. Run a study first.")


def check_address(host: str, port: int) -> socket.AddressFamily:
    """Raise an error where a server cannot listen; returns the kind of address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise EcsweepError(
            f"port {port} on {host} is not free ({getattr(error, 'strerror', None) or error}). "
            f"Choose another with --port{'' if host == LOCAL else ' or --host'}."
        ) from error
    return family


def _names(host: str) -> list[str]:
    """Return the names by which browsers may ask for the UI, as they stand in an address."""
    local = [LOCAL, "localhost", "[::1]"]
    if warning(host, 0) is None:
        return local
    names = [socket.gethostname(), socket.getfqdn()]
    if host not in ("0.0.0.0", "::"):
        return list(dict.fromkeys([_bracketed(host), *names, *local]))
    import psutil

    addresses = [
        _bracketed(address.address.partition("%")[0])
        for interface in psutil.net_if_addrs().values()
        for address in interface
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return list(dict.fromkeys([*names, *addresses, *local]))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _answers(family: socket.AddressFamily, host: str, port: int) -> bool:
    with socket.socket(family) as probe:
        return probe.connect_ex((host, port)) == 0


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children: politely, and after ten seconds for certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            return
