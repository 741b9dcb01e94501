"""The command line: parse, call, print, exit."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ec_sweep import __version__
from ec_sweep.errors import EcsweepError, ExitCode, StudyStoppedError

if TYPE_CHECKING:
    from ec_sweep.app import Place, StudyStatus
    from ec_sweep.spec import Request

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
data_cli = typer.Typer(
    name="data",
    help="Build, list and check datasets.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
cli.add_typer(data_cli)

Home = Annotated[
    Path,
    typer.Option(envvar="ECSWEEP_HOME", help="Folder that holds mlruns/, data/ and reports/."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        envvar="ECSWEEP_STORAGE", help="SQLAlchemy URL of the ledger, instead of the home's."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study's name, or a path to its YAML file.")
]
Scale = Annotated[
    Literal["demo", "paper"],
    typer.Option(help="demo: embedded sample, minutes. paper: a dataset you built, full size."),
]
Seeds = Annotated[
    int | None,
    typer.Option(metavar="N", help="Train each cell with seeds 0 to N-1, N from 1 to 10000."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value; a list replaces an axis."),
]
Defaults = Annotated[
    bool, typer.Option("--defaults", help="Ignore --seeds and --set of the study's last run.")
]
HERE = Path()


@cli.callback()
@data_cli.callback()
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
def list_studies(as_json: Json = False, home: Home = HERE) -> None:  # noqa: ARG001
    """List the sweep definitions: name, table, dataset, cells."""
    from ec_sweep import app, spec

    rows, problems = [], []
    for path in app.sweep_files().values():
        try:
            sweep = spec.load(path)
        except EcsweepError as error:
            problems.append(str(error))
            continue
        cells = spec.cells(sweep, spec.Request())
        names = sorted({cell.dataset for cell in cells})
        rows.append(
            {
                "study": sweep.study,
                "title": sweep.title,
                "table": sweep.table,
                "dataset": ", ".join(names),
                "cells": len(cells),
                "file": str(path),
            }
        )
    if as_json:
        _print_json({"studies": rows})
    else:
        headings = {"study": "STUDY", "table": "TABLE", "dataset": "DATASET", "cells": "CELLS"}
        _print_columns([headings | {"title": "TITLE"}, *rows], [*headings, "title"])
    if problems:
        raise EcsweepError("\necsweep: ".join(problems))


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
    from ec_sweep import app
    from ec_sweep.executors import default_workers
    from ec_sweep.progress import duration

    place = _place(home, storage)
    resolved = app.resolve(place, study, _request(scale, seeds, overrides), follow=not defaults)
    found = app.status(place, resolved)
    if as_json:
        _print_json(found.to_json())
        return
    _say_request(resolved)
    _print_cells(found)
    seconds = found.seconds_left(default_workers())
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
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Run what is not done of a study and write its table.

    The demo scale trains on the sample that comes with ecsweep. For the paper's
    scale, build the dataset from your proteins first (ecsweep data build).
    Safe to repeat, interrupt and kill: the same command goes on.
    """
    from ec_sweep import app
    from ec_sweep.progress import progress

    names = list(app.sweep_files()) if run_all else list(studies or [])
    if not names or (run_all and studies):
        raise EcsweepError("name at least one study, or --all, not both. See: ecsweep studies")
    _check_range("--workers", workers, 1024)
    request = _request(scale, seeds, overrides)
    place = _place(home, storage)
    place.home.prepare()
    options = app.Options(workers, executor, retry_failed)
    code = ExitCode.OK
    for name in names:
        resolved = app.resolve(place, name, request, follow=not defaults, build=True)
        if scale == "demo":
            typer.echo(
                f"{resolved.sweep.study} at demo scale: the embedded sample. "
                f"The real thing: ecsweep study {name} --scale paper"
            )
        _say_request(resolved)
        interrupts = app.Interrupts()
        found = app.run_study(place, resolved, options, progress, interrupts)
        if interrupts.count:
            left = found.count("waiting", "interrupted", "running")
            typer.echo(f"Interrupted with {left} cells left. Go on with: ecsweep study {name}")
            raise typer.Exit(ExitCode.INTERRUPTED)
        _finish_study(place, found)
        if not found.done:
            code = ExitCode.INCOMPLETE
    raise typer.Exit(code)


@cli.command("status")
def show_status(
    study: StudyName,
    scale: Scale = "demo",
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Show the cells of a study with their state."""
    from ec_sweep import app

    place = _place(home, storage)
    resolved = app.resolve(place, study, _request(scale, None, None))
    found = app.status(place, resolved)
    if as_json:
        _print_json(found.to_json())
        return
    _say_request(resolved)
    _print_cells(found)


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
    from ec_sweep import app

    place = _place(home, storage)
    resolved = app.resolve(place, study, _request(scale, None, None))
    what = f"cell {cell} of {resolved.name}" if cell else f"all cells of {resolved.name}"
    if not yes:
        typer.confirm(f"Forget {what}?", abort=True)
    typer.echo(f"Forgot {app.forget(place, resolved, cell)} attempts at {what}.")


@cli.command("report")
def write_reports(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY", help="Names, or paths to YAML files.")
    ] = None,
    report_all: Annotated[bool, typer.Option("--all", help="Every study that has run.")] = False,
    scale: Scale = "demo",
    formats: Annotated[
        str, typer.Option("--format", help="Of csv, latex and markdown, joined by commas.")
    ] = "csv,latex,markdown",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: reports/SCALE in the home.")
    ] = None,
    home: Home = HERE,
) -> None:
    """Write the tables of studies that have run.

    Numbers come from MLflow; NAME.provenance.json says from which runs.
    """
    from ec_sweep import app, spec, tables

    wanted = [name.strip() for name in formats.split(",")]
    unknown = [name for name in wanted if name not in tables.FORMATS]
    if unknown:
        raise EcsweepError(
            f"--format must be of {', '.join(tables.FORMATS)}. Received: {unknown[0]!r}."
        )
    place = _place(home, None)
    if report_all:
        names = app.reported_studies(place, scale)
    else:
        names = [spec.load(app.find_sweep(study)).study for study in studies or []]
    if not names:
        raise EcsweepError("name a study that has run, or --all after one has.")
    for name in names:
        found, files = app.write_report(place, f"{name}@{scale}", wanted, out)
        _print_table(found)
        typer.echo("Wrote " + ", ".join(map(str, files)))


@cli.command("ui")
def open_ui(
    port: Annotated[int, typer.Option(metavar="N", help="Port on 127.0.0.1.")] = 5000,
    home: Home = HERE,
) -> None:
    """Open the MLflow UI on 127.0.0.1."""
    from ec_sweep import app

    _check_range("--port", port, 65_535)

    def announce(address: str) -> None:
        typer.echo(f"MLflow UI on {address} (Ctrl-C ends it)")

    code = app.serve_ui(_place(home, None).home, port, announce)
    raise typer.Exit(code)


@data_cli.command("build")
def build_dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="Which dataset: enzyme.")],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="UniProt-style TSV, plain or gzipped."),
    ],
    home: Home = HERE,
) -> None:
    """Build a dataset from a UniProt-style TSV.

    The file needs the columns Entry, EC number and Sequence; other columns may stand beside
    them. Rows that cannot be used are counted by reason on the dataset's card.
    """
    from ec_sweep import datasets

    place = _place(home, None)
    datasets.check_name(name)
    place.home.prepare()
    typer.echo(f"Reading {source} ...", err=True)
    _print_card(datasets.build(place.home, name, source).card)


@data_cli.command("list")
def list_datasets(as_json: Json = False, home: Home = HERE) -> None:
    """List the built datasets."""
    from ec_sweep import app

    built = app.built_datasets(_place(home, None).home)
    if as_json:
        _print_json({"datasets": [dataset.card for dataset in built]})
        return
    rows = [
        {
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint[:12],
            "sizes": "/".join(map(str, dataset.card["sizes"].values())),
            "created": dataset.card["created"],
            "source": dataset.card["source"],
        }
        for dataset in built
    ]
    headings = {key: key.upper() for key in ("dataset", "fingerprint", "sizes", "created")}
    _print_columns([headings | {"source": "SOURCE"}, *rows], [*headings, "source"])


@data_cli.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="A name or fingerprint.")],
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Show the card of a dataset: sizes, classes, what was dropped."""
    from ec_sweep import app

    card = app.find_dataset(_place(home, None).home, name).card
    if as_json:
        _print_json(card)
    else:
        _print_card(card)


@data_cli.command("verify")
def verify_datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="A name or fingerprint; all if none.")
    ] = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Check built datasets against their fingerprints."""
    from ec_sweep import app, datasets

    place = _place(home, None).home
    chosen = [app.find_dataset(place, name)] if name else app.built_datasets(place)
    problems = {dataset.folder: datasets.verify(dataset) for dataset in chosen}
    if as_json:
        _print_json(
            {"datasets": [{"folder": str(f), "problem": text} for f, text in problems.items()]}
        )
    else:
        for folder, problem in problems.items():
            typer.echo(f"{folder}: {problem or 'intact'}")
    if any(problems.values()):
        raise typer.Exit(ExitCode.INCOMPLETE)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = cli(standalone_mode=False)
    except typer.TyperException as error:
        code = _fail(" ".join(error.format_message().split()))
    except EcsweepError as error:
        code = _fail(str(error))
    except StudyStoppedError as error:
        _fail(str(error))
        code = ExitCode.INCOMPLETE
    except (typer.Abort, KeyboardInterrupt):
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    except Exception as error:
        from ec_sweep.paths import no_room

        problem = no_room(error)
        if problem is None:
            raise
        code = _fail(f"{problem}. Make room; the same command then goes on.")
    sys.exit(int(code or 0))


def _fail(message: str) -> ExitCode:
    print(f"ecsweep: {message}", file=sys.stderr)
    return ExitCode.USAGE


def _place(home: Path, storage: str | None) -> "Place":
    from ec_sweep import app, paths

    return app.Place(paths.Home(home.resolve()), storage)


def _request(scale: str, seeds: int | None, overrides: list[str] | None) -> "Request":
    from ec_sweep import spec

    _check_range("--seeds", seeds, 10_000)
    return spec.Request(scale, seeds, tuple(spec.parse_override(text) for text in overrides or []))


def _check_range(option: str, value: int | None, highest: int) -> None:
    if value is not None and not 1 <= value <= highest:
        raise EcsweepError(f"{option} must be from 1 to {highest}. Received: {value}.")


def _say_request(resolved: Any) -> None:
    if resolved.followed:
        typer.echo(
            f"As last asked for: {resolved.command} (the file's own values: --defaults)", err=True
        )


def _finish_study(place: "Place", found: "StudyStatus") -> None:
    from ec_sweep import app, tables

    made, files = app.write_report(place, found.resolved.name, tables.FORMATS, None)
    _print_table(made)
    failed = found.count("failed")
    if failed:
        typer.echo(
            f"{failed} cells failed. Reasons: ecsweep status {made.study} --scale {made.scale}; "
            f"again: ecsweep study {made.study} --scale {made.scale} --retry-failed"
        )
    typer.echo(f"Tables  {_relative(files[0].parent)}/{made.study}.{{csv,tex,md,provenance.json}}")
    typer.echo(f"Runs    ecsweep ui   ({_relative(place.home.mlflow_db)})")


def _print_table(made: Any) -> None:
    from rich.console import Console

    from ec_sweep import tables

    table = tables.layout(made)
    width = None if sys.stdout.isatty() else 120
    console = Console(highlight=False, width=width)
    console.print(table.caption, markup=False)
    console.print(tables.terminal(table))
    for note in table.notes:
        console.print(note, markup=False)


def _print_cells(found: "StudyStatus") -> None:
    resolved = found.resolved
    label = resolved.plan.label
    rows = [
        {
            "cell": cell.cell.id or "-",
            "state": cell.state,
            "attempts": str(len(cell.attempts)),
            "what": label(cell.cell),
            "failure": (cell.attempts[-1].failure or "") if cell.attempts else "",
        }
        for cell in found.cells
    ]
    headings = {"cell": "CELL", "state": "STATE", "attempts": "ATTEMPTS", "what": "WHAT"}
    _print_columns([headings | {"failure": ""}, *rows], [*headings, "failure"])
    states = dict.fromkeys(cell.state for cell in found.cells)
    counts = ", ".join(f"{found.count(state)} {state.replace('_', ' ')}" for state in states)
    typer.echo(f"{resolved.name}: {len(found.cells)} cells: {counts}.")


def _print_card(card: dict[str, Any]) -> None:
    for key, value in card.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        if isinstance(value, dict):
            shown = "; ".join(
                f"{name}: {', '.join(f'{k} {v:,}' for k, v in inner.items())}"
                if isinstance(inner, dict)
                else f"{name} {inner:,}" if isinstance(inner, int) else f"{name} {inner}"
                for name, inner in value.items()
            )  # fmt: skip
        typer.echo(f"{key.replace('_', ' ')}: {shown}")


def _print_columns(rows: list[dict[str, Any]], keys: list[str]) -> None:
    cells = [["" if row[key] is None else str(row[key]) for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        typer.echo(line.rstrip())


def _print_json(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=2))


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    main()
