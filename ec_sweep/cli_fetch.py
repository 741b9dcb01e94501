"""The ``ecsweep data fetch`` commands."""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ec_sweep import hints
from ec_sweep.errors import EcsweepError, ExitCode, printable
from ec_sweep.messages import interruptible
from ec_sweep.options import HERE, Home, Json, check_range, place

fetch_cli = typer.Typer(
    name="fetch",
    help="Get data from where it is published.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

_LENGTH = "(length:[50 TO 1000])"  # the paper's
_PLAIN_EVERY = 10.0  # seconds between two lines where there is no terminal
_BRENDA = """\
BRENDA asks everyone to accept its licence on its own site, so ecsweep does not fetch from it.

What     Sequences by EC class, as "CSV" or FASTA: files such as 3__BRENDA_sequences.csv
Where    https://www.brenda-enzymes.org/sequences.php
Not      brenda_YYYY_N.txt.tar.gz and .json.tar.gz (download.php): they hold no sequences
Licence  CC BY 4.0; cite BRENDA. Terms: https://www.brenda-enzymes.org/copy.php

Then     ecsweep data import *__BRENDA_sequences.csv --name brenda
         ecsweep data build ec37 --from brenda

BRENDA holds enzymes alone. Proteins without an EC number, which the dataset enzyme needs too:
         ecsweep data fetch uniprot"""


@fetch_cli.callback()
def show_help(context: typer.Context) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


Query = Annotated[
    str | None,
    typer.Option(metavar="QUERY", help="A search in UniProt's syntax, instead of the default."),
]
Reviewed = Annotated[
    bool | None,
    typer.Option(
        "--reviewed/--all",
        help="Swiss-Prot alone, or all of UniProtKB.",
        show_default="reviewed",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where to. [default: data/downloads/uniprot-….tsv.gz]"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin anew instead of going on after a cut.")
]
Tries = Annotated[
    int, typer.Option(metavar="N", help="Give up when a page fails so often in a row.")
]
Server = Annotated[
    str,
    typer.Option(metavar="URL", envvar="ECSWEEP_UNIPROT", help="UniProt's address, or a mirror's."),
]


@fetch_cli.command("uniprot")
def fetch_uniprot(
    query: Query = None,
    reviewed: Reviewed = None,
    out: Out = None,
    force: Force = False,
    restart: Restart = False,
    tries: Tries = 8,
    server: Server = "https://rest.uniprot.org",
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Get proteins from UniProt's REST service, as a gzipped TSV.

    The default search is (reviewed:true) AND (length:[50 TO 1000]): the paper's lengths, from
    today's Swiss-Prot, enzymes or not, fragments too. It is not the paper's data, which were
    BRENDA's of 2018.

    A cut costs nothing: the same command goes on. The number of proteins is checked against
    what UniProt announces; query, release, date and checksum are noted in FILE.json.
    HTTPS_PROXY and the like are respected.
    """
    from ec_sweep.fetching import Fetch
    from ec_sweep.output import print_json, relative
    from ec_sweep.uniprot import Service

    check_range("--tries", tries, 100)
    if out is not None and out.suffix != ".gz":
        raise EcsweepError(f"--out must end in .tsv.gz, which is what is written. Received: {out}.")
    asked, name = _search(query, reviewed)
    where = place(home).home
    path = out or where.downloads / name
    if not as_json:
        _say(f"UniProt: {asked}")
    with (
        interruptible("What is there is kept: the same command goes on."),
        _progress(quiet=as_json) as (note, progress),
    ):
        fetch = Fetch(Service(server, tries, note), asked, path, note=note, progress=progress)
        found = fetch.run(force=force, restart=restart)
    file = relative(path)
    if as_json:
        print_json({"path": str(path), **found})
        return
    release = f"release {found['release']}" if found["release"] else "an unnamed release"
    _say(f"{file}: {found['count']:,} proteins of {release}, complete.")
    _say(f"Next    {hints.command('data', 'import', str(file))}")
    _say(f"or      {hints.command('data', 'build', 'enzyme', '--from', str(file))}")


def _search(query: str | None, reviewed: bool | None) -> tuple[str, str]:
    """Return the search that the options ask for, and the name of its file."""
    if query is None:
        if reviewed is False:
            return _LENGTH, "uniprot-all.tsv.gz"
        return f"(reviewed:true) AND {_LENGTH}", "uniprot-reviewed.tsv.gz"
    if reviewed is not None:
        raise EcsweepError("--query replaces the whole search: leave out --reviewed and --all.")
    if not query.strip() or not query.isprintable():
        raise EcsweepError(
            "--query must not be empty, nor have line breaks. "
            f"See https://www.uniprot.org/help/text-search. Received: {query!r}."
        )
    return query, f"uniprot-{hashlib.sha256(query.encode()).hexdigest()[:8]}.tsv.gz"


@fetch_cli.command("brenda")
def explain_brenda(home: Home = HERE) -> None:  # noqa: ARG001 - all commands take --home
    """Say what to download from BRENDA by hand, under its licence."""
    typer.echo(_BRENDA)
    raise typer.Exit(ExitCode.USAGE)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Show how far a download is: a bar in a terminal, a line now and then elsewhere."""
    if quiet:
        yield lambda _: None, lambda *_: None
        return
    if not sys.stdout.isatty():
        yield _say, _Lines().show
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as shown:
        task = shown.add_task("proteins", total=None)

        def note(text: str) -> None:
            shown.console.print(printable(text), markup=False, highlight=False)

        yield note, lambda count, total: shown.update(task, completed=count, total=total)


def _say(text: str) -> None:
    print(printable(text), flush=True)


class _Lines:
    """Lines of progress for logs and pipes."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, count: int, total: int) -> None:
        """Say how many proteins are there, unless that was said a moment ago."""
        if time.monotonic() >= self._next or count == total:
            self._next = time.monotonic() + _PLAIN_EVERY
            _say(f"{count:,} of {total:,} proteins")
