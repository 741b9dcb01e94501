"""optuna-dashboard on the ledger, which it may read and not write.

Its pages have buttons that rename and delete studies. Behind a server that
answers only questions, on a database that refuses to write, they do nothing.
"""

import importlib.util
import json
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ec_sweep import ledger_store
from ec_sweep.errors import EcsweepError, heed_interrupts
from ec_sweep.planning import Place
from ec_sweep.ui import LOCAL, check_address

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_REFUSED = "ecsweep shows the ledger to read. Change it with ecsweep study, forget and doctor."


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several questions at once; none keeps the command from ending."""

    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing of a request."""


def serve(place: Place, port: int, announce: Callable[[str], None]) -> None:
    """Serve the dashboard on 127.0.0.1 until Ctrl-C."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise EcsweepError(
            "optuna-dashboard is not installed. Install it with: pip install 'ecsweep[dashboard]'"
        )
    check_address(LOCAL, port)
    heed_interrupts()
    try:
        storage = ledger_store.open_to_read(place.home, place.storage)
        from optuna_dashboard import wsgi

        app = reading(wsgi(storage))
        with make_server(LOCAL, port, app, server_class=_Server, handler_class=_Silent) as server:
            announce(f"http://{LOCAL}:{port}/dashboard")
            server.serve_forever()
    except KeyboardInterrupt:
        return


def reading(app: "WSGIApplication") -> "WSGIApplication":
    """Pass on to an application what only reads, and comes from this machine's own pages.

    A page elsewhere that has its name resolved to 127.0.0.1 asks for that name. The port may be
    another one, ssh's.
    """

    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environ.get("HTTP_HOST", "").partition(":")[0] not in (LOCAL, "localhost"):
            return _refuse(start, "403 Forbidden", f"Ask for {LOCAL} or localhost.")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start, "405 Method Not Allowed", _REFUSED)
        return app(environ, start)

    return answer


def _refuse(start: "StartResponse", status: str, reason: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
