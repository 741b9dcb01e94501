"""`ecsweep ui` and `ecsweep dashboard`: look at studies in a browser."""

import webbrowser
from typing import Annotated

import typer

from ec_sweep import databases
from ec_sweep.options import HERE, Home, Scale, Storage, check_range, complete_study, place

Host = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Address to listen on; see the warning first.")
]
Port = Annotated[int, typer.Option(metavar="N", help="Port to listen on.")]
OfStudy = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="STUDY",
        help="Land on this study's page.",
        autocompletion=complete_study,
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Open it in your browser.")]
_HIGHEST_PORT = 65_535


def open_ui(
    study: OfStudy = None,
    scale: Scale = "demo",
    open_browser: Open = False,
    port: Port = 5000,
    host: Host = "127.0.0.1",
    home: Home = HERE,
) -> None:
    """Open the MLflow UI, or a study in it, on 127.0.0.1."""
    from ec_sweep import planning, ui

    check_range("--port", port, _HIGHEST_PORT)
    where = place(home, reads=True).home
    server = ui.server_elsewhere(where)
    if not server:
        ui.check(where)
    what = page = ""
    if study:
        name = f"{planning.name_of(where, study)}@{scale}"
        what, page = f"{name}: ", ui.page_of(where, name)
    if study and server:
        _land(f"{what}{databases.masked(server)}{page}", server + page, open_browser)
        return
    if warning := ui.warning(host, port):
        typer.echo(warning, err=True)

    def announce(address: str) -> None:
        said = f"{what}MLflow UI on {address}{page} (Ctrl-C ends it)"
        _land(said, address + page, open_browser)

    raise typer.Exit(ui.serve(where, host, port, announce))


def open_dashboard(
    port: Port = 8080,
    open_browser: Open = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Open optuna-dashboard on 127.0.0.1; it only reads the ledger.

    It shows the trials of each study: history, importances, slices, contours. What its
    buttons would change is refused, by the server and by the database.
    """
    from ec_sweep import dashboard

    check_range("--port", port, _HIGHEST_PORT)
    where = place(home, storage, reads=True)

    def announce(address: str) -> None:
        _land(f"optuna-dashboard on {address} (Ctrl-C ends it)", address, open_browser)

    dashboard.serve(where, port, announce)


def _land(said: str, address: str, open_browser: bool) -> None:
    """Say where to look, and open it where that is asked for."""
    typer.echo(said)
    if open_browser and not webbrowser.open(address):
        typer.echo("No browser was found to open it: open the address yourself.", err=True)
