"""The commands ``ecsweep data import`` and ``ecsweep data build``."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ec_sweep import hints
from ec_sweep.errors import EcsweepError, printable
from ec_sweep.messages import interruptible
from ec_sweep.options import HERE, Home, Json, check_range, place

if TYPE_CHECKING:
    from ec_sweep.importing import Watch
    from ec_sweep.paths import Home as Folder
    from ec_sweep.recipes import Drawing
    from ec_sweep.transfers import Transfers

_UNCHANGED = "Nothing has changed."
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="Of the files: uniprot-tsv, uniprot-dat, uniprot-fasta, brenda-csv, brenda-fasta, "
        "clean-tsv, csv, fasta or parquet. [default: recognised]",
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="For files without EC numbers: a TSV or CSV with the columns Entry and EC number, "
        "or that of --class-column.",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help=r"Finds both in headers of FASTA, such as '(?P<accession>\S+) EC=(?P<ec>\S+)'.",
    ),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        "--split-column",
        metavar="C",
        help="Column that names train, valid or test in every row, for --split given of data "
        "build.",
    ),
]
FamilyColumn = Annotated[
    str | None,
    typer.Option(
        "--family-column",
        metavar="C",
        help="Column that names the family, which --split cluster keeps on one side.",
    ),
]
Moves = Annotated[
    list[str] | None,
    typer.Option(
        "--transfers",
        metavar="BASE|TABLE",
        help="EC numbers that moved. translocases: those that moved to EC 7, the default. current: "
        "all to this day. none: leave them. TABLE, beside one of these: ENZYME's enzyme.dat, "
        "or your own: a line each of the old number, a tab, and the new ones joined by commas, or "
        "deleted, or kept.",
    ),
]
ClassColumn = Annotated[
    str | None,
    typer.Option(
        "--class-column",
        metavar="C",
        help="Column that names the class of every protein, for a dataset under a name of your "
        "own. EC numbers are not needed then.",
    ),
]
Recipe = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="Which one: enzyme or ec37; or a name of your own, with --class-column.",
        autocompletion=lambda: ["enzyme", "ec37"],
    ),
]
Origin = Annotated[
    list[str],
    typer.Option("--from", metavar="FILE|SOURCE", help="A file, or a source; files repeat it."),
]
Parts = Annotated[
    Literal["random", "identical", "cluster", "given"],
    typer.Option(
        help="random: the paper's. identical: equal sequences on one side. cluster: families "
        "on one side. given: as --split-column says."
    ),
]
Identity = Annotated[
    float | None,
    typer.Option(metavar="X", help="cluster: families by MMseqs2 at this identity. [default: 0.3]"),
]
Stratify = Annotated[
    bool, typer.Option("--stratify/--no-stratify", help="Split each class by itself.")
]
SmallestClass = Annotated[
    int | None,
    typer.Option(
        "--smallest-class",
        metavar="N",
        help="ec37, your own: leave classes of fewer proteins out. [default: 100 and 5]",
    ),
]
Fractions = Annotated[
    str | None,
    typer.Option(
        metavar="T,V,T",
        help="ec37, your own: draw these shares of train, valid and test; the paper's: "
        "0.056,0.032,0.032",
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(metavar="T,V,T", help="ec37, your own: draw so many of train, valid and test."),
]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="ec37, your own: training samples drawn and counted; the first trains. [default: 3]",
    ),
]


def import_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files of proteins.")],
    name: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Its name. [default: the file's]")
    ] = None,
    format_: Format = None,
    labels: Labels = None,
    pattern: Pattern = None,
    split_column: SplitColumn = None,
    family_column: FamilyColumn = None,
    class_column: ClassColumn = None,
    transfers: Moves = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Import files once, as a source from which datasets are built.

    UniProt TSV, flat file and FASTA, BRENDA's sequence downloads, CLEAN-style TSV, CSV, FASTA and
    Parquet; plain, gzipped, zstd or xz. Rows of the same accession become one record with all
    their EC numbers. What cannot be used is counted by reason. A source of the same name is
    replaced when the new one is complete.
    """
    from ec_sweep import importing, output, sources
    from ec_sweep.formats import Options

    where = place(home).home
    chosen = sources.name_of(files[0]) if name is None else name
    _reject_dataset(chosen)
    columns = split_column, family_column, class_column
    options = Options(format_, labels, pattern, *columns)
    table = _transfers(transfers)
    if sources.exists(where, chosen) and not as_json:
        old = sources.get(where, chosen).card
        files_of_old = ", ".join(file["file"] for file in old["files"])
        typer.echo(
            printable(
                f"{chosen} of {output.minute(old['created'])} ({files_of_old}) is replaced "
                "when this is complete."
            )
        )
    with interruptible(_UNCHANGED), _watched(files, quiet=as_json) as watch:
        found = importing.import_files(where, chosen, files, options, table, watch)
    if as_json:
        output.print_json(found.card)
        return
    output.print_card(found.card)
    folder = output.relative(where.sources / chosen)
    dataset = "NAME" if class_column else "enzyme"
    typer.echo(f"Next    {hints.command('data', 'build', dataset, '--from', chosen)}")
    typer.echo(f"Remove  rm -r {shlex.quote(str(folder))}")


def build_dataset(
    name: Recipe,
    origin: Origin,
    split: Parts = "random",
    identity: Identity = None,
    stratify: Stratify = True,
    smallest_class: SmallestClass = None,
    fractions: Fractions = None,
    sizes: Sizes = None,
    samples: Samples = None,
    format_: Format = None,
    labels: Labels = None,
    pattern: Pattern = None,
    split_column: SplitColumn = None,
    family_column: FamilyColumn = None,
    class_column: ClassColumn = None,
    transfers: Moves = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Build a dataset from files, or from a source that was imported.

    enzyme: enzyme or not; of every part as many of each are drawn as there are of the rarer.
    ec37: sub-classes of EC 3 and EC 7, everything kept unless
    --fractions or --sizes draw from it. Any other name: the classes of --class-column, likewise.
    Records that cannot be used are counted by reason on the
    dataset's card, which also says how many test sequences stand in train.
    """
    from ec_sweep import building, datasets, output
    from ec_sweep.building import Reading
    from ec_sweep.dividing import Split
    from ec_sweep.formats import Options

    where = place(home).home
    check_range("--smallest-class", smallest_class, 10**9, lowest=5)
    drawing = _drawing(fractions, sizes, samples)
    divided = Split(split, identity, stratify)
    columns = split_column, family_column, class_column
    options = Options(format_, labels, pattern, *columns)
    source = _source(where, origin)
    if source and (options != Options() or transfers):
        raise EcsweepError(
            f"{source} is imported already: how files are read, and --transfers, go with "
            "ecsweep data import."
        )
    files = [Path(text) for text in origin]
    # What is half made goes, and MMseqs2 ends too.
    with interruptible(_UNCHANGED), _watched([] if source else files, as_json) as watch:
        reading = None if source else Reading(options, _transfers(transfers), watch)
        built = building.build(
            where, name, source or files,
            split=divided, smallest_class=smallest_class, drawing=drawing, reading=reading,
        )  # fmt: skip
    if as_json:
        output.print_json(built.card)
        return
    output.print_card(built.card)
    output.next_steps(("Next", datasets.how_to_train([name])))


def _source(home: "Folder", origin: list[str]) -> str | None:
    """Return the name of the source that is meant, ``None`` where files are."""
    from ec_sweep import sources

    named = [text for text in origin if sources.is_name(text) and not Path(text).exists()]
    known = [text for text in named if (home.sources / text).exists() or "." not in text]
    if known and len(origin) > 1:
        raise EcsweepError(
            f"--from takes several files, or one source. {known[0]} is no file. "
            "To join files, import them together."
        )
    return known[0] if known else None


def _reject_dataset(name: str) -> None:
    """Raise an error if a source would be named as a dataset is."""
    from ec_sweep.recipes import RECIPES

    if name in RECIPES:
        raise EcsweepError(f"{name} is the name of a dataset. Choose another with --name.")


def _transfers(chosen: list[str] | None) -> "Transfers":
    """Return the table of EC numbers that moved."""
    from ec_sweep import transfers

    bases = [text for text in chosen or () if text in transfers.BASES]
    tables = [text for text in chosen or () if text not in transfers.BASES]
    if len(bases) > 1 or len(tables) > 1:
        raise EcsweepError(
            f"--transfers takes one of {', '.join(transfers.BASES)}, and one table beside it. "
            f"Received: {', '.join(chosen or ())}."
        )
    base = bases[0] if bases else transfers.TRANSLOCASES
    return transfers.load(Path(tables[0]), base) if tables else transfers.built_in(base)


@contextmanager
def _watched(files: list[Path], quiet: bool = False) -> "Iterator[Watch]":
    """Show how far files are read: a bar in a terminal, one line elsewhere."""
    if files and not quiet:
        typer.echo(printable(f"Reading {', '.join(map(str, files))} ..."))
    if quiet or not files or not sys.stdout.isatty():
        yield lambda *_: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: tuple[Any, ...] = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


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
