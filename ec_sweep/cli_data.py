"""The ``ecsweep data`` commands."""

from pathlib import Path
from typing import Annotated

import typer

from ec_sweep.errors import ExitCode
from ec_sweep.options import HERE, Home, Json, place

data_cli = typer.Typer(
    name="data",
    help="Build, list and check datasets.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@data_cli.callback()
def show_help(context: typer.Context) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


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
    from ec_sweep import building, datasets, output

    where = place(home).home
    datasets.check_name(name)
    typer.echo(f"Reading {source} ...")
    output.print_card(building.build(where, name, source).card)


@data_cli.command("list")
def list_datasets(as_json: Json = False, home: Home = HERE) -> None:
    """List the built datasets."""
    from ec_sweep import datasets, output

    found = datasets.built(place(home).home)
    if as_json:
        output.print_json({"datasets": [dataset.card for dataset in found]})
        return
    rows = [
        {
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint[:12],
            "sizes": "/".join(map(str, dataset.card["sizes"].values())),
            "created": dataset.card["created"],
            "source": dataset.card["source"],
        }
        for dataset in found
    ]
    headings = {key: key.upper() for key in ("dataset", "fingerprint", "sizes", "created")}
    output.print_columns([headings | {"source": "SOURCE"}, *rows], [*headings, "source"])


@data_cli.command("show")
def show_dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="A name or fingerprint.")],
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Show the card of a dataset: sizes, classes, what was dropped."""
    from ec_sweep import datasets, output

    card = datasets.get(place(home).home, name).card
    if as_json:
        output.print_json(card)
    else:
        output.print_card(card)


@data_cli.command("verify")
def verify_datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="[DATASET]", help="A name or fingerprint; all if none.")
    ] = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Check built datasets against their fingerprints."""
    from ec_sweep import datasets, output

    where = place(home).home
    chosen = [datasets.get(where, name)] if name else datasets.built(where)
    problems = {dataset.folder: datasets.verify(dataset) for dataset in chosen}
    if as_json:
        output.print_json(
            {"datasets": [{"folder": str(f), "problem": text} for f, text in problems.items()]}
        )
    else:
        if not problems:
            typer.echo("No dataset is built yet.")
        for folder, problem in problems.items():
            typer.echo(f"{folder}: {problem or 'intact'}")
    if any(problems.values()):
        raise typer.Exit(ExitCode.USAGE)
