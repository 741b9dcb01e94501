"""The command line: parse, call, print, exit."""

import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ec_sweep import __version__
from ec_sweep.cli_care import cancel_study, see_doctor
from ec_sweep.cli_data import data_cli
from ec_sweep.cli_report import publish, write_reports
from ec_sweep.errors import EcsweepError, ExitCode, StudyStoppedError, printable
from ec_sweep.options import (
    HERE,
    Defaults,
    Home,
    Json,
    Scale,
    Seeds,
    Set,
    Storage,
    StudyName,
    check_range,
    place,
    request,
)

if TYPE_CHECKING:
    from ec_sweep.app import Options
    from ec_sweep.planning import Place, Resolved

cli = typer.Typer(
    name="ecsweep",
    help="Compare neural architectures on protein sequences: sweeps, tracking, tables.",
    epilog="Start with: ecsweep study cnn-filters",
    invoke_without_command=True,
    rich_markup_mode=None,  # rich help alone would double the start-up time
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
cli.add_typer(data_cli)


@cli.callback()
def show_help(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Show the help where no command is given."""
    if version:
        typer.echo(f"ecsweep {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


@cli.command("studies")
def list_studies(as_json: Json = False, home: Home = HERE) -> None:  # noqa: ARG001 - all commands take --home
    """List the sweep definitions: name, table, dataset, cells."""
    from ec_sweep import output, planning, spec

    rows, problems = [], []
    for path in planning.sweep_files().values():
        try:
            sweep = spec.load(path)
        except EcsweepError as error:
            problems.append(str(error))
            continue
        cells = spec.examples(sweep, spec.Request())
        names = sorted({cell.dataset for cell in cells})
        rows.append(
            {
                "study": sweep.study,
                "title": sweep.title,
                "table": sweep.table,
                "dataset": ", ".join(names),
                "cells": sweep.trials or len(cells),
                "file": str(path),
            }
        )
    if as_json:
        output.print_json({"studies": rows})
    else:
        headings = {"study": "STUDY", "table": "TABLE", "dataset": "DATASET", "cells": "CELLS"}
        output.print_columns([headings | {"title": "TITLE"}, *rows], [*headings, "title"])
    if problems:
        raise EcsweepError(*problems)


@cli.command("plan")
def show_plan(
    study: StudyName,
    scale: Scale = "demo",
    seeds: Seeds = None,
    overrides: Set = None,
    defaults: Defaults = False,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Show the cells that a study would run; nothing is written."""
    from ec_sweep import output, planning
    from ec_sweep.machine import default_workers
    from ec_sweep.progress import duration

    where = place(home, storage)
    asked = request(scale, seeds, overrides, defaults)
    resolved = planning.resolve(where, study, asked, follow=not defaults)
    found = planning.status(where, resolved)
    if as_json:
        output.print_json(found.to_json())
        return
    _say_request(resolved)
    output.print_cells(found)
    exclusive = resolved.sweep.timing == "exclusive"
    seconds = found.seconds_left(1 if exclusive else default_workers())
    if seconds:
        typer.echo(f"About {duration(seconds)} for what is left, from earlier cells.")
    if not resolved.datasets:
        typer.echo("The dataset is not built yet: cells get their ids with it.")


@cli.command("study")
def run_studies(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY", help="Names, or paths to YAML files.")
    ] = None,
    run_all: Annotated[bool, typer.Option("--all", help="Run every study known.")] = False,
    scale: Scale = "demo",
    seeds: Seeds = None,
    overrides: Set = None,
    defaults: Defaults = False,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trials side by side, 1 to 1024. [default: what fits the machine]"
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed and not available cells again.")
    ] = False,
    executor: Annotated[
        Literal["local", "inline"],
        typer.Option(help="local: worker processes. inline: in this process, for debugging."),
    ] = "local",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait while another driver runs the study.")
    ] = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Run what is not done of a study and write its table.

    The demo scale trains on the sample that comes with ecsweep. For the paper's
    scale, build the dataset from your proteins first (ecsweep data build).
    Safe to repeat, interrupt and kill: the same command goes on.
    """
    from ec_sweep import app, planning

    names = list(planning.sweep_files()) if run_all else list(studies or [])
    if not names or (run_all and studies):
        raise EcsweepError("name at least one study, or --all, not both. See: ecsweep studies")
    check_range("--workers", workers, 1024)
    asked = request(scale, seeds, overrides, defaults)
    if workers and executor == "inline":
        raise EcsweepError("--executor inline runs one trial at a time: leave --workers out.")
    where = place(home, storage)
    requests = {name: planning.applicable(name, asked) if run_all else asked for name in names}
    for name, wanted in requests.items():  # nothing is written before all are known to be runnable
        planning.check_runnable(planning.resolve(where, name, wanted, follow=not defaults))
    where.home.prepare()
    options = app.Options(workers, executor, retry_failed, wait=typer.echo if wait else None)
    resolved = [
        planning.resolve(where, name, wanted, follow=not defaults, build=True)
        for name, wanted in requests.items()
    ]
    if run_all:
        done = _run_all(where, resolved, options)
    else:
        done = [_run_study(where, study, options) for study in resolved]
    raise typer.Exit(ExitCode.OK if all(done) else ExitCode.INCOMPLETE)


@cli.command("status")
def show_status(
    study: StudyName,
    scale: Scale = "demo",
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Show the cells of a study with their state."""
    from ec_sweep import locks, output, planning

    where = place(home, storage)
    resolved = planning.resolve(where, study, request(scale))
    found = planning.status(where, resolved)
    if as_json:
        output.print_json(found.to_json())
        return
    _say_request(resolved)
    output.print_cells(found)
    if found.count("running") and not locks.holder_of(where.home, resolved.name, where.storage):
        typer.echo(f"Nothing runs it any more: ecsweep study {study} goes on from there.")


@cli.command("forget")
def forget_cells(
    study: StudyName,
    cell: Annotated[str | None, typer.Option(metavar="ID", help="One cell only.")] = None,
    scale: Scale = "demo",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Forget results, so that their cells are trained anew.

    The runs go to MLflow's bin, from where `mlflow runs restore` brings them back to view.
    """
    from ec_sweep import app, planning

    where = place(home, storage)
    resolved = planning.resolve(where, study, request(scale))
    what = f"cell {cell} of {resolved.name}" if cell else f"all cells of {resolved.name}"
    if not app.attempts_at(where, resolved, cell):
        typer.echo(f"There is nothing to forget of {what}.")
        return
    if not yes and not typer.confirm(f"Forget {what}?"):
        typer.echo("Nothing is forgotten.")
        return
    typer.echo(f"Forgot {app.forget(where, resolved, cell)} attempts at {what}.")


cli.command("report")(write_reports)
cli.command("cancel")(cancel_study)
cli.command("doctor")(see_doctor)


@cli.command("ui")
def open_ui(
    port: Annotated[int, typer.Option(metavar="N", help="Port to listen on.")] = 5000,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; see the warning first.")
    ] = "127.0.0.1",
    home: Home = HERE,
) -> None:
    """Open the MLflow UI on 127.0.0.1, which only this machine reaches."""
    from ec_sweep import ui

    check_range("--port", port, 65_535)
    if warning := ui.warning(host, port):
        typer.echo(warning, err=True)

    def announce(address: str) -> None:
        typer.echo(f"MLflow UI on {address} (Ctrl-C ends it)")

    code = ui.serve(place(home).home, host, port, announce)
    raise typer.Exit(code)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = cli(standalone_mode=False)
    except typer.TyperException as error:
        code = _fail(" ".join(error.format_message().split()))
    except EcsweepError as error:
        for message in error.args:  # one line each
            code = _fail(message)
    except StudyStoppedError as error:
        _fail(str(error), keep="\n")
        code = ExitCode.INCOMPLETE
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except Exception as error:
        from ec_sweep.paths import no_room

        problem = no_room(error)
        if problem is None:
            _fail(traceback.format_exc())  # a bug: all of it, but for passwords
            code = ExitCode.INCOMPLETE
        else:
            code = _fail(f"{problem}. Make room; the same command then goes on.")
    sys.exit(int(code or 0))


def _run_all(where: "Place", studies: "list[Resolved]", options: "Options") -> list[bool]:
    """Run studies one after the other, then write every report; returns which are done."""
    from ec_sweep import app, publishing

    done = []
    for number, study in enumerate(studies, 1):
        typer.echo(f"== Study {number} of {len(studies)}: {study.sweep.study}")
        try:
            done.append(_run_study(where, study, options))
        except StudyStoppedError as error:
            _fail(str(error), keep="\n")  # the other studies may be fine
            done.append(False)
    publish(app.publisher(where, studies[0].request.scale, publishing.DEFAULT_FORMATS))
    return done


def _run_study(where: "Place", resolved: "Resolved", options: "Options") -> bool:
    """Run one study and show its table; returns whether nothing failed."""
    from ec_sweep import app, layouts, output, tables
    from ec_sweep.progress import progress

    name, scale = resolved.sweep.study, resolved.request.scale
    if scale == "demo":
        typer.echo(f"Demo scale (embedded sample). Full size: ecsweep study {name} --scale paper")
    _say_request(resolved)
    interrupts = app.Interrupts()
    found = app.run_study(where, resolved, options, progress, interrupts)
    if interrupts.count and not found.done:
        again = name if scale == "demo" else f"{name} --scale {scale}"
        typer.echo(f"Interrupted with {found.left} cells left. Go on with: ecsweep study {again}")
        raise typer.Exit(ExitCode.INTERRUPTED)
    made = app.publisher(where, scale, tables.FORMATS, only=[name])
    files = made.table_of(name)
    output.print_end(found, layouts.study_table(made.report(name)), files, where.home)
    return found.done


def _fail(message: str, keep: str = "") -> ExitCode:
    from ec_sweep.databases import without_secrets

    print(f"ecsweep: {without_secrets(printable(message, keep))}", file=sys.stderr)
    return ExitCode.USAGE


def _say_request(resolved: "Resolved") -> None:
    """Say where seeds and overrides come from, and which they replace."""
    from ec_sweep.planning import options_of

    before = resolved.before
    if before == resolved.request:
        typer.echo(f"As last asked for: {options_of(before)} (the file's own: --defaults)")
    elif before:
        typer.echo(f"Instead of what was last asked for: {options_of(before)}")


if __name__ == "__main__":
    main()
