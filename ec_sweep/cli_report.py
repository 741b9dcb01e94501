"""The ``ecsweep report`` command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ec_sweep import hints
from ec_sweep.errors import EcsweepError
from ec_sweep.options import HERE, Home, Json, Scale, check_range, complete_study, place

if TYPE_CHECKING:
    from ec_sweep.publishing import Publisher


def write_reports(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY", help="Names, or paths to YAML files.", autocompletion=complete_study
        ),
    ] = None,
    report_all: Annotated[
        bool, typer.Option("--all", help="Every study that has run, every table, the claims.")
    ] = False,
    table: Annotated[
        int | None,
        typer.Option(metavar="N", help="Table 1 to 7 of the paper, in its layout."),
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="Check the paper's conclusions against the runs.")
    ] = False,
    scale: Scale = "demo",
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Of csv, latex, markdown, svg, png, pdf and html, joined by commas. "
            "[default: csv,latex,markdown,svg,html]",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder for the files. [default: reports/SCALE in the home]"
        ),
    ] = None,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Write tables and figures of what has run.

    Of a study: its table, scores by class, comparisons, figures. Numbers come from MLflow;
    NAME.provenance.json says from which runs. html is one page of all.
    """
    from ec_sweep import app, planning

    wanted = _formats(formats)
    check_range("--table", table, 7)
    if sum([bool(studies), report_all, table is not None, claims]) != 1:
        raise EcsweepError("report takes one of: STUDY..., --table N, --claims, --all.")
    where = place(home, reads=True)
    names = [planning.name_of(where.home, study) for study in studies or []]
    found = app.publisher(where, scale, wanted, _folder(out), only=names or None)
    (_print_json if as_json else _print)(found, names, table, claims=claims)


def _print(found: "Publisher", names: list[str], table: int | None, *, claims: bool) -> None:
    """Write what is asked for and show it."""
    from ec_sweep import output

    if table is not None:
        laid_out, files = found.paper_table(table)
        output.print_table(laid_out)
        output.print_files("Wrote", files)
    elif claims:
        _check_any(found)
        checked, files = found.claims()
        for laid_out in checked:
            output.print_claims(laid_out)
        output.print_files("Wrote", files)
    elif not names:
        publish(found)
    for name in names:
        output.print_table(found.table(name))
        output.print_files("Wrote", found.study(name))
        _say_left_out(found, name)
    output.next_steps(("Runs", hints.command("ui")))


def _print_json(found: "Publisher", names: list[str], table: int | None, *, claims: bool) -> None:
    """Write what is asked for and print what was written."""
    from ec_sweep import output

    written: list[tuple[str, list[Path]]] = []
    more: dict[str, Any] = {}
    if table is not None:
        written.append((f"Table {table}", found.paper_table(table)[1]))
    elif claims:
        _check_any(found)
        checked, files = found.claims()
        written.append(("Claims", files))
        more["claims"] = [
            {"source": source, "claim": claim, "text": text, "verdict": verdict, "numbers": numbers}
            for source, laid_out in zip(("runs", "paper"), checked, strict=True)
            for (claim, text), (verdict, numbers) in zip(laid_out.rows, laid_out.cells, strict=True)
        ]
    elif names:
        written += [(name, found.study(name)) for name in names]
    else:
        _check_any(found)
        written += found.everything()
    reports = [{"report": what, "files": [str(f) for f in files]} for what, files in written]
    output.print_json(
        {
            "scale": found.scale,
            "reports": [one for one in reports if one["files"]],
            "not_made": [what for what, files in written if not files],
            "left_out": found.left_out,
            **more,
        }
    )
    if found.problems:
        raise EcsweepError(f"{len(found.problems)} reports could not be made: see not_made.")


def _formats(text: str | None) -> list[str]:
    """Return the formats that an option names; others than ours are errors."""
    from ec_sweep import publishing

    asked = publishing.DEFAULT_FORMATS if text is None else text.split(",")
    wanted = [name for name in dict.fromkeys(map(str.strip, asked)) if name]
    unknown = [name for name in wanted if name not in publishing.FORMATS]
    if unknown or not wanted:
        raise EcsweepError(
            f"--format must be of {', '.join(publishing.FORMATS)}. "
            f"Received: {(unknown or [str(text)])[0]!r}."
        )
    return wanted


def _folder(out: str | None) -> Path | None:
    """Return the folder that an option names; what cannot be one is an error."""
    if out is None:
        return None
    try:
        other = Path(out).exists() and not Path(out).is_dir()
    except OSError as error:
        raise EcsweepError(f"--out {out} cannot be used ({error.strerror}).") from error
    if not out.strip() or other:
        raise EcsweepError(f"--out must be a folder, there or to be made. Received: {out!r}.")
    return Path(out)


def publish(found: "Publisher", quiet: bool = False) -> None:
    """Write every report and say what was written, unless ``quiet``."""
    from ec_sweep import output

    _check_any(found)
    for what, files in found.everything():
        if not quiet:
            output.print_files(what, files)
            _say_left_out(found, what)
    if found.problems:
        raise EcsweepError(f"{len(found.problems)} reports could not be made, see above.")


def _check_any(found: "Publisher") -> None:
    """Raise an error when there is nothing to report on."""
    if not found.reports and not found.problems:
        known = hints.command("studies")
        raise EcsweepError(f"nothing has been run at {found.scale} scale yet. See: {known}")


def _say_left_out(found: "Publisher", study: str) -> None:
    """Say what the report of a study with too many rows does not show."""
    if study in found.left_out:
        typer.echo(found.left_out[study])
