"""What commands print: tables in columns, cards, cells and JSON."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ec_sweep import columns, hints, names, tables
from ec_sweep.cards import shown, told
from ec_sweep.databases import masked
from ec_sweep.describing import axis_in_words, counts
from ec_sweep.ec import EcNumber
from ec_sweep.errors import plural, printable
from ec_sweep.layouts import Table
from ec_sweep.mlflow_store import is_local, tracking_uri
from ec_sweep.paths import Home
from ec_sweep.planning import StudyStatus
from ec_sweep.recipes import RECIPES
from ec_sweep.spec import Sampled
from ec_sweep.stored import SavedModel, TrackedRun

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

_ENDLESS = 10_000
"""Characters that no table is wide."""


def print_table(table: Table) -> None:
    """Print a table with caption and notes."""
    with _console() as console:
        console.print(printable(table.caption), markup=False)
        for part in _parts(table, console):
            console.print(part)
        for note in table.notes:
            console.print(printable(note), markup=False)
        if table.files_only:
            same = ", ".join(name for name in table.metrics if name in table.files_only)
            console.print(f"{same} (micro) equal ACC: they stand in the files.", markup=False)


def _parts(table: Table, console: "Console") -> "Iterator[RichTable]":
    """Yield a table, in parts of as many columns as the width holds."""
    endless = console.options.update(width=_ENDLESS)
    left = tables.columns_of(table)
    while left:
        for count in range(len(left), 0, -1):
            part = tables.terminal(table, left[:count])
            if count == 1 or console.measure(part, options=endless).maximum <= console.width:
                yield part
                left = left[count:]
                break


def print_claims(table: Table) -> None:
    """Print which conclusions hold, each with its numbers below."""
    from rich.padding import Padding
    from rich.text import Text

    with _console() as console:
        console.print(table.caption, markup=False)
        for (claim, text), (verdict, numbers) in zip(table.rows, table.cells, strict=True):
            console.print(Text(f"{claim:3} {text}: {verdict}"))
            console.print(Padding(Text(numbers, "dim"), (0, 0, 0, 4)))
        for note in table.notes:
            console.print(printable(note), markup=False)
        console.print()


@contextmanager
def _console() -> "Iterator[Console]":
    """Yield what lays text out; in a pipe as wide as COLUMNS says, without blanks at the ends."""
    from rich.console import Console

    console = Console(highlight=False, width=None if _has_width() else 120)
    with console.capture() as drawn:
        yield console
    for line in drawn.get().splitlines():
        typer.echo(line.rstrip())


def print_files(what: str, files: Sequence[Path]) -> None:
    """Print what was written where, in a line: the files' names without what they share."""
    if not files:
        typer.echo(what)
        return
    typer.echo(f"{what}  {relative(files[0].parent)}/")
    for stem in dict.fromkeys(map(_stem, files)):
        kinds = [file.name.partition(".")[2] for file in files if _stem(file) == stem]
        typer.echo(f"    {stem}." + (kinds[0] if len(kinds) == 1 else f"{{{','.join(kinds)}}}"))


def print_cells(found: StudyStatus) -> None:
    """Print the cells of a study, a line each, and their count by state."""
    resolved = found.resolved
    label = resolved.plan.label
    rows = [
        {
            "cell": cell.cell.id or "-",
            "state": cell.state.replace("_", " "),
            "attempts": str(len(cell.attempts)),
            "what": label(cell.cell),
            "failure": (cell.attempts[-1].failure or "") if cell.attempts else "",
        }
        for cell in found.cells
    ]
    headings = {"cell": "CELL", "state": "STATE", "attempts": "ATTEMPTS", "what": "WHAT"}
    print_columns([headings | {"failure": ""}, *rows], [*headings, "failure"])
    states = counts(found)
    cells = f"{len(found.cells)} {plural('cell', len(found.cells))}"
    typer.echo(f"{resolved.name}: {cells}{f': {states}' if states else ''}.")
    if resolved.sampled:
        typer.echo(drawing_in_words(resolved.sampled, len(found.cells)))


def print_reasons(found: StudyStatus, runs: Iterable[TrackedRun]) -> None:
    """Print why cells failed or are not available, each reason once with the first of its cells."""
    said = {run.run_id: run.tags.get("ecsweep.message", "") for run in runs}
    cells: dict[str, list[str]] = {}
    for cell in found.cells:
        if cell.state in ("failed", "not_available"):
            reason = said.get(cell.attempts[-1].run_id, "").partition("\n")[0]
            cells.setdefault(reason, []).append(str(cell.cell.id))
    for reason, own in cells.items():
        more = f" and {len(own) - 3} more" if len(own) > 3 else ""
        if reason:
            say(f"{', '.join(own[:3])}{more}: {reason}")


def next_run(found: StudyStatus) -> str:
    """Say what the next ``ecsweep study`` would run."""
    again = found.count("failed", "not_available")
    retried = f"{again} that failed or are not available run with --retry-failed"
    if not found.left:
        return f"A study would run nothing{f': {retried}' if again else ', all is done'}."
    return f"A study would run {found.left} cells{f'; {retried}' if again else ''}."


def drawing_in_words(sampled: Sampled, known: int) -> str:
    """Say how many cells have been drawn, how, and from what."""
    axes = ", ".join(f"{name} {axis_in_words(axis)}" for name, axis in sampled.axes.items())
    aim = "" if sampled.sampler == "random" else f" to {sampled.direction} {sampled.metric}"
    return f"{known} of {sampled.trials} drawn; {sampled.sampler}{aim}: {axes}."


def print_card(card: dict[str, Any], class_names: Mapping[EcNumber, str] | None = None) -> None:
    """Print a card, a line for each key; its files and what its classes are stand below."""
    for key, value in shown(card, RECIPES).items():
        title = key.replace("_", " ")
        if key == "files":
            typer.echo(f"{title}:")
            for file in value:
                say(f"    {_file_in_words(file)}")
            continue
        if key == "migrations" and not any(value.values()):
            value = None
        say(f"{title}: {told(value)}")
        if key == "classes" and card["name"] in RECIPES:
            meanings = {name: names.name_of(name, class_names) for name in value}
            for name, meaning in meanings.items():
                if meaning:
                    say(f"    {name:5} {meaning}")
    for part, held in card.get("class_counts", {}).items():
        empty = [label for label, count in held.items() if not count]
        if empty:
            say(f"Note: {part} is without {', '.join(empty)}.")


def say(text: str) -> None:
    """Print a line, which goes on indented where a terminal, or COLUMNS, is narrower."""
    width = shutil.get_terminal_size().columns if _has_width() else None
    typer.echo(printable(columns.filled(text, width), keep="\n"))


def _has_width() -> bool:
    """Say whether there is a width that lines should keep to, as there is not in a pipe."""
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def _file_in_words(file: dict[str, Any]) -> str:
    """Return what a card says of a file that was read, less its checksum."""
    records = f"{file['records']:,} {plural('record', file['records'])}"
    words = f"{file['file']}: {file['format']}, {records}"
    if file["dropped"]:
        words += f", of them dropped: {told(file['dropped'])}"
    if fetched := file.get("fetched"):
        words += f"; fetched {fetched['fetched'][:10]}, release {fetched['release']}"
    return words


def print_columns(rows: list[dict[str, Any]], keys: list[str], cut: bool = False) -> None:
    """Print rows under each other in columns; the first row holds the headings.

    In a terminal that is too narrow, long fields go on below; with ``cut``,
    lines are cut to its width.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    cells = [["" if row[key] is None else printable(str(row[key])) for key in keys] for row in rows]
    for line in (columns.cut if cut else columns.wrapped)(cells, width):
        typer.echo(line)


def next_steps(*commands: tuple[str, str]) -> None:
    """Say in a terminal which commands may come next, each with what it does.

    A pipe gets results alone.
    """
    if sys.stdout.isatty():
        for what, line in commands:
            say(f"{what:7} {line}")


def minute(created: str) -> str:
    """Return a time of a card to the minute."""
    return created[:16].replace("T", " ")


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2))


def relative(path: Path) -> Path:
    """Return a path as seen from the current folder, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def print_end(found: StudyStatus, table: Table, files: Sequence[Path], home: Home) -> None:
    """Print a study's table and where things are."""
    print_table(table)
    name = found.resolved.name
    failed = found.count("failed")
    if failed:
        say(
            f"{failed} {plural('cell', failed)} failed. Reasons: {hints.on('status', name)}; "
            f"again: {hints.on('study', name, '--retry-failed')}"
        )
    print_files("Tables", files)
    say(f"More    {hints.on('report', name)}   (figures, classes, comparisons)")
    place = relative(home.mlflow_db) if is_local(home) else masked(tracking_uri(home))
    study, _, scale = name.partition("@")
    command = hints.command("ui", "--study", study, scale=scale)
    say(f"Runs    {command}   ({place})")


def print_models(best: Sequence[SavedModel], study: str, scale: str) -> None:
    """Print how the best saved model of each dataset is used."""
    for model in best:
        cell = ("--cell", model.cell) if len(best) > 1 else ()
        command = hints.command("predict", "FASTA", "--study", study, *cell, scale=scale)
        accuracy = f"validation accuracy {model.val_accuracy:.4f}, cell {model.cell}"
        say(f"Model   {command}   ({accuracy}, models:/{model.model_id})")


def _stem(file: Path) -> str:
    return file.name.partition(".")[0]
