"""The ``ecsweep data`` commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ec_sweep.cli_fetch import fetch_cli
from ec_sweep.errors import EcsweepError, ExitCode
from ec_sweep.options import HERE, Home, Json, check_range, place

if TYPE_CHECKING:
    from ec_sweep.recipes import Drawing

data_cli = typer.Typer(
    name="data",
    help="Build, list and check datasets.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
data_cli.add_typer(fetch_cli)


@data_cli.callback()
def show_help(context: typer.Context) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


@data_cli.command("build")
def build_dataset(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="Which one: enzyme or ec37.")],
    source: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="UniProt-style TSV, plain or gzipped."),
    ],
    smallest_class: Annotated[
        int | None,
        typer.Option(
            "--smallest-class",
            metavar="N",
            help="ec37: leave classes of fewer proteins out. [default: 100]",
        ),
    ] = None,
    fractions: Annotated[
        str | None,
        typer.Option(
            metavar="T,V,T",
            help="ec37: draw these shares of train, valid and test; the paper's: 0.056,0.032,0.032",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="T,V,T", help="ec37: draw so many of train, valid and test."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="ec37: training samples drawn and counted; the first trains. [default: 3]",
        ),
    ] = None,
    home: Home = HERE,
) -> None:
    """Build a dataset from a UniProt-style TSV.

    enzyme: enzyme or not, balanced. ec37: sub-classes of EC 3 and EC 7, everything kept unless
    --fractions or --sizes draw from it. The file needs the columns Entry, EC number and
    Sequence. Rows that cannot be used are counted by reason on the dataset's card.
    """
    from ec_sweep import building, datasets, output

    where = place(home).home
    datasets.check_name(name)
    check_range("--smallest-class", smallest_class, 10**9, lowest=5)
    drawing = _drawing(fractions, sizes, samples)
    typer.echo(f"Reading {source} ...")
    built = building.build(where, name, source, smallest_class=smallest_class, drawing=drawing)
    output.print_card(built.card)
    for part, counts in built.card["class_counts"].items():
        empty = [label for label, count in counts.items() if not count]
        if empty:
            typer.echo(f"Note: the drawing left {part} without {', '.join(empty)}.")


def _drawing(fractions: str | None, sizes: str | None, samples: int | None) -> "Drawing | None":
    """Return what the options ask to draw; bad values are errors."""
    from ec_sweep.recipes import Drawing

    check_range("--samples", samples, 100)
    if fractions and sizes:
        raise EcsweepError("--fractions and --sizes exclude each other.")
    if not fractions and not sizes:
        if samples is not None:
            raise EcsweepError("--samples needs --fractions or --sizes: without, all are the same.")
        return None
    wanted = samples or Drawing.samples
    try:
        if sizes:
            train, valid, test = (int(text) for text in sizes.split(","))
            if min(train, valid, test) < 1:
                raise ValueError
            return Drawing(sizes=(train, valid, test), samples=wanted)
        shares = [float(text) for text in str(fractions).split(",")]
        if len(shares) != 3 or not all(0 < share <= 1 for share in shares):
            raise ValueError
    except ValueError:
        option, allowed = ("--sizes", "whole numbers of at least 1") if sizes else (
            "--fractions", "numbers above 0 and up to 1"
        )  # fmt: skip
        raise EcsweepError(
            f"{option} must be three {allowed}, joined by commas: train, valid, test. "
            f"Received: {sizes or fractions!r}."
        ) from None
    return Drawing(fractions=(shares[0], shares[1], shares[2]), samples=wanted)


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
    """Show the card of a dataset: sizes, classes, what was dropped."""
    from ec_sweep import datasets, names, output

    card = datasets.get(place(home).home, name).card
    known = names.read(class_names) if class_names else None
    if as_json:
        output.print_json(card)
    else:
        output.print_card(card, known)


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
