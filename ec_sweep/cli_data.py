"""The ``ecsweep data`` commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ec_sweep import hints
from ec_sweep.cli_build import build_dataset, import_files
from ec_sweep.cli_fetch import fetch_cli
from ec_sweep.errors import EcsweepError, ExitCode, nearest
from ec_sweep.options import HERE, Home, Json, complete_dataset, place

if TYPE_CHECKING:
    from ec_sweep.datasets import Dataset
    from ec_sweep.paths import Home as Folder

data_cli = typer.Typer(
    name="data",
    help="Get and import proteins; build, list and check datasets.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
data_cli.add_typer(fetch_cli)
data_cli.command(
    "import", epilog="Example: ecsweep data import proteins.tsv.gz more.dat --name mine"
)(import_files)
data_cli.command("build", epilog="Example: ecsweep data build enzyme --from mine --split cluster")(
    build_dataset
)


@data_cli.callback()
def show_help(context: typer.Context) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


@data_cli.command("list")
def list_datasets(as_json: Json = False, home: Home = HERE) -> None:
    """List the built datasets, and the sources to build them from."""
    from ec_sweep import datasets, output, sources

    where = place(home, reads=True).home
    found, origins = datasets.readable(where), sources.imported(where)
    if as_json:
        cards = {"datasets": [dataset.card for dataset in found]}
        output.print_json(cards | {"sources": [source.card for source in origins]})
        return
    rows = [
        {
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint[:12],
            "split": dataset.card["split"],
            "sizes": "/".join(map(str, dataset.card["sizes"].values())),
            "created": output.minute(dataset.card["created"]),
            "source": dataset.card["source"],
        }
        for dataset in found
    ]
    if not found and not origins:
        typer.echo(f"There is none. Make one with: {hints.command('data', 'import', 'FILE')}")
        return
    headings = ("dataset", "fingerprint", "split", "sizes", "created", "source")
    output.print_columns([{key: key.upper() for key in headings}, *rows], [*headings], cut=True)
    if origins:
        typer.echo()
        rows = [
            {
                "source": source.name,
                "records": f"{source.card['records_kept']:,}",
                "created": output.minute(source.card["created"]),
                "files": ", ".join(file["file"] for file in source.card["files"]),
            }
            for source in origins
        ]
        keys = ["source", "records", "created", "files"]
        output.print_columns([{key: key.upper() for key in keys}, *rows], keys, cut=True)
    build = hints.command("data", "build", "DATASET", "--from", "SOURCE")
    output.next_steps(
        ("Next", datasets.how_to_train([one.name for one in found]) if found else build)
    )


@data_cli.command("show")
def show_dataset(
    name: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A name or fingerprint, or a source.",
            autocompletion=complete_dataset,
        ),
    ],
    class_names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            metavar="FILE",
            help="ENZYME's enzclass.txt, whose class names replace the built-in ones.",
        ),
    ] = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Show the card of a dataset or a source: sizes, classes, drops."""
    from ec_sweep import names, output, sources

    where = place(home, reads=True).home
    is_source = sources.exists(where, name)
    card = sources.get(where, name).card if is_source else _datasets(where, name)[-1].card
    known = names.read(class_names) if class_names else None
    if as_json:
        output.print_json(card)
    else:
        output.print_card(card, known)


@data_cli.command("verify")
def verify_datasets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="A name, fingerprint or source; all if none.",
            autocompletion=complete_dataset,
        ),
    ] = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Check datasets and sources against their checksums."""
    from ec_sweep import datasets, output, sources

    where = place(home, reads=True).home
    of_datasets, origins = {}, []
    if name and sources.exists(where, name):
        origins = [sources.get(where, name)]
    elif name:
        of_datasets = {one.folder: datasets.verify(one) for one in _datasets(where, name)}
    else:
        of_datasets, origins = datasets.verify_all(where), sources.imported(where)
    of_sources = {source.folder.parent: sources.verify(source) for source in origins}
    problems = of_datasets | of_sources
    if as_json:
        output.print_json(
            {
                kind: [{"folder": str(folder), "problem": text} for folder, text in each.items()]
                for kind, each in (("datasets", of_datasets), ("sources", of_sources))
            }
        )
    else:
        if not problems:
            typer.echo("No dataset is built yet.")
        for folder, problem in problems.items():
            # A fingerprint is long, and told apart by how it begins.
            short = folder.parent / folder.name[:12] if folder in of_datasets else folder
            typer.echo(f"{output.relative(folder if problem else short)}: {problem or 'intact'}")
    if any(problems.values()):
        raise typer.Exit(ExitCode.USAGE)


def _datasets(home: "Folder", name: str) -> "list[Dataset]":
    """Return the built datasets that a name or fingerprint means, where it means no source."""
    from ec_sweep import datasets, sources

    names = datasets.names(home)
    begun = any(dataset.fingerprint.startswith(name) for dataset in datasets.readable(home))
    if not begun and name not in names:
        known = [source.name for source in sources.imported(home)]
        raise EcsweepError(
            f"no dataset and no source is named {name!r}."
            f"{nearest(name, [*names, *known])} Datasets: {', '.join(names)}, "
            f"or how a fingerprint begins. Sources: {', '.join(known) or 'none'}."
        )
    return datasets.named(home, name)
