"""The command line: parse, call, print, exit."""

import shlex
import sys
import traceback
from typing import Annotated

import typer

from ec_sweep import __version__, hints
from ec_sweep.cli_browse import open_dashboard, open_ui
from ec_sweep.cli_care import cancel_study, see_doctor
from ec_sweep.cli_data import data_cli
from ec_sweep.cli_init import write_files
from ec_sweep.cli_predict import classify_sequences
from ec_sweep.cli_report import write_reports
from ec_sweep.cli_study import run_studies
from ec_sweep.errors import EcsweepError, ExitCode, StudyStoppedError, plural
from ec_sweep.messages import complain, of_usage, say_data, say_lost, say_request
from ec_sweep.options import (
    HERE,
    Defaults,
    Home,
    Json,
    Models,
    Scale,
    Seeds,
    Set,
    Storage,
    StudyName,
    know_models,
    place,
    request,
)

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
def list_studies(as_json: Json = False, models: Models = None, home: Home = HERE) -> None:  # noqa: ARG001 - all commands take --home
    """List the sweep definitions: name, table, dataset, cells.

    Those of ./sweeps first, then those that come with ecsweep.
    """
    from ec_sweep import output, planning, spec

    know_models(models)
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
        output.print_columns([headings | {"title": "TITLE"}, *rows], [*headings, "title"], cut=True)
        plan, run = hints.command("plan", "STUDY"), hints.command("study", "STUDY")
        output.next_steps(("Next", f"{plan}   (what it takes), {run}   (runs it)"))
    if problems:
        raise EcsweepError(*problems)


@cli.command("plan", epilog="Example: ecsweep plan cnn-filters --scale paper --seeds 3")
def show_plan(
    study: StudyName,
    scale: Scale = "demo",
    seeds: Seeds = None,
    overrides: Set = None,
    defaults: Defaults = False,
    models: Models = None,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Show the cells that a study would run, and what they take.

    Time and memory come from earlier cells, here or in other studies of the same home; each
    line says from which, and how sure that makes it. Nothing is written.
    """
    from ec_sweep import cell_data, estimates, gone, outlook, output, planning

    where = place(home, storage, reads=True)
    know_models(models)
    asked = request(scale, seeds, overrides, defaults)
    resolved = planning.resolve(where, study, asked, follow=not defaults)
    found = planning.status(where, resolved)
    say_lost(gone.of_status(where, found))
    costs = estimates.estimate(where.home, found)
    if as_json:
        output.print_json(found.to_json() | {"estimate": costs.to_json()})
        return
    say_request(resolved)
    say_data(resolved)
    output.print_cells(found)
    output.say(output.next_run(found))
    for line in outlook.lines(costs):
        output.say(line)
    for line in costs.warnings:
        typer.echo(f"Warning: {line}", err=True)
    if found.orphaned and not resolved.missing:
        typer.echo(
            f"{len(found.orphaned)} other cells are recorded that are not asked for now: left "
            "alone, and in no table."
        )
    if resolved.missing:
        which = ", ".join(f"{name} ({split} split)" for name, split in resolved.missing)
        typer.echo(f"Dataset not built yet: {which}. Cells get their ids with it.")
        if scale != "demo":
            typer.echo(cell_data.how_to_build(resolved.missing))
    elif found.left:
        same = shlex.split(planning.options_of(resolved.request))
        again = hints.command("study", study, *same, scale=scale)
        output.next_steps(("Run it", again))


cli.command("study", epilog="Example: ecsweep study cnn-filters --set epochs=5")(run_studies)


@cli.command("schema")
def print_schema(home: Home = HERE) -> None:  # noqa: ARG001 - all commands take --home
    """Print the JSON Schema of sweep files, by which editors check.

    Keep it beside your sweeps: ecsweep schema > sweeps/sweep.schema.json. A file whose first line
    is "# yaml-language-server: $schema=sweep.schema.json" is then completed and checked as you
    type, in editors with a YAML language server.
    """
    import json

    from ec_sweep import sweep_schema

    typer.echo(json.dumps(sweep_schema.schema()))  # for programs: without 170 kB of indentation


@cli.command("status", epilog="Example: ecsweep status cnn-filters --json")
def show_status(
    study: StudyName,
    scale: Scale = "demo",
    defaults: Defaults = False,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Show the cells of a study, their states, and its nodes.

    States: waiting, running, complete, pruned, interrupted (ecsweep study goes on with it),
    failed and not available (only ecsweep study --retry-failed runs them again).
    """
    from ec_sweep import experiments, gone, locks, output, places, planning

    where = place(home, storage, reads=True)
    resolved = planning.resolve(where, study, request(scale), follow=not defaults)
    found = planning.status(where, resolved)
    say_lost(gone.of_status(where, found))
    tracker = experiments.find_tracker(where.home, resolved.name)
    runs = tracker.runs() if tracker else []
    nodes = places.by_node(runs)
    if as_json:
        used = {"nodes": {name: use.to_json() for name, use in nodes.items()}} if nodes else {}
        output.print_json(found.to_json() | used)
        return
    say_request(resolved)
    output.print_cells(found)
    output.print_reasons(found, runs)
    if nodes:
        typer.echo(f"On nodes: {'; '.join(f'{name} {use}' for name, use in nodes.items())}.")
    if found.count("running") and not locks.holder_of(where.home, resolved.name, where.storage):
        again = hints.command("study", study, scale=scale)
        typer.echo(f"Nothing runs it any more: {again} goes on from there.")
    elif found.done:
        output.next_steps(("Report", hints.command("report", study, scale=scale)))
    elif not found.count("running"):
        retry = () if found.left else ("--retry-failed",)
        output.next_steps(("Run it", hints.command("study", study, *retry, scale=scale)))


@cli.command("forget", epilog="Example: ecsweep forget cnn-filters --cell aace394fa857")
def forget_cells(
    study: StudyName,
    cell: Annotated[str | None, typer.Option(metavar="ID", help="One cell only.")] = None,
    scale: Scale = "demo",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Forget results, so that their cells are trained anew.

    Attempts leave the ledger; checkpoints and saved models are removed for good. Runs and what
    they measured go to MLflow's bin, which keeps them until `mlflow gc`; `mlflow runs restore`
    brings them back to view, for MLflow alone: their cells stay to be trained again.
    """
    from ec_sweep import app, gone, output, planning

    if as_json and not yes:
        raise EcsweepError("--json leaves no room for a question: give --yes too.")
    where = place(home, storage, reads=True)
    resolved = planning.resolve(where, study, request(scale))
    what = f"cell {cell} of {resolved.name}" if cell else f"all cells of {resolved.name}"
    document = {"study": resolved.sweep.study, "scale": scale, "cell": cell}
    attempts = app.attempts_at(where, resolved, cell)
    if not attempts:
        say_lost(gone.of_status(where, planning.status(where, resolved)))
        if as_json:
            output.print_json(document | {"attempts": 0})
        else:
            typer.echo(f"There is nothing to forget of {what}.")
        return
    question = (
        f"Forget {what}, {attempts} {plural('attempt', attempts)}? Models and checkpoints go for "
        "good, and the next study trains anew."
    )
    if not yes and not _confirmed(question):
        typer.echo("Nothing is forgotten.")
        return
    forgotten = app.forget(where, resolved, cell)
    if as_json:
        output.print_json(document | {"attempts": forgotten})
        return
    typer.echo(f"Forgot {forgotten} attempts at {what}. Files in reports stay as they are.")
    output.next_steps(("Again", hints.command("study", study, scale=scale)))


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        raise EcsweepError("nothing is forgotten without an answer: give --yes.") from None


cli.command("init")(write_files)
cli.command("report", epilog="Example: ecsweep report --table 5 --format csv")(write_reports)
cli.command("predict", epilog="Example: ecsweep predict x.fasta --study cnn-filters > classes.tsv")(
    classify_sequences
)
cli.command("cancel")(cancel_study)
cli.command("doctor")(see_doctor)
cli.command("ui")(open_ui)
cli.command("dashboard")(open_dashboard)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = cli(standalone_mode=False)
    except typer.TyperException as error:
        code = complain(of_usage(error))
    except EcsweepError as error:
        for message in error.args:  # one line each
            code = complain(message)
    except StudyStoppedError as error:
        complain(str(error), keep="\n")
        code = ExitCode.INCOMPLETE
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except Exception as error:
        from ec_sweep.paths import no_room

        problem = no_room(error)
        if isinstance(error, PermissionError) and error.filename:
            code = complain(
                f"{error.filename}: {error.strerror}. A home folder has to be yours to read and to "
                "write; --home names another."
            )
        elif problem is None:
            complain(traceback.format_exc(), keep="\n")  # a bug: all of it, but for passwords
            code = ExitCode.INCOMPLETE
        else:
            code = complain(f"{problem}. Make room; the same command then goes on.")
    sys.exit(int(code or 0))


if __name__ == "__main__":
    main()
