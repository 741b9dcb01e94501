"""The report as one page: every table and figure that was made, and where each number is from."""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ec_sweep import origins, pictures, published, supplement
from ec_sweep.cards import told
from ec_sweep.errors import printable
from ec_sweep.inlining import Inline
from ec_sweep.layouts import Table
from ec_sweep.markup import Markup, lay_out
from ec_sweep.names import name_of
from ec_sweep.origins import Origins
from ec_sweep.report import Report
from ec_sweep.writing import Part

DATA, CLAIMS = "Data", "Claims"
"""Parts that are no study's; studies have names in small letters."""
_TEMPLATES = Path(__file__).parent / "templates"
_FACTS = (
    "source", "created", "split", "split_details", "seed", "filters", "drawing", "records_in",
    "records_kept", "dropped", "sizes", "test_sequences_also_in_train",
    "test_sequences_in_train_families", "migrations",
)  # fmt: skip
"""Of a card, what a page says of a dataset."""


@dataclass(frozen=True)
class Section:
    """What stands under one heading: tables and figures, or sections again."""

    anchor: str
    title: str
    kicker: str = ""
    """What it belongs to, in a few words."""
    notes: Sequence[str] = ()
    facts: Mapping[str, str] | None = None
    tables: Sequence[Markup] = ()
    figures: Sequence[tuple[str, Inline]] = ()
    """How each is read, and the figure."""
    more: Sequence[Markup] = ()
    """Tables that stand below the figures."""
    sections: "Sequence[Section]" = ()


def paper_part(number: int) -> str:
    """Return the name of the part of a table of the paper."""
    return f"Table {number}"


def paper_title(number: int, first: Report) -> str:
    """Return what a table of the paper is about, by the first of its studies."""
    return "Combined models" if number == 7 else first.title


def render(
    name: str,
    scale: str,
    parts: Mapping[str, Part],
    reports: Mapping[str, Report],
    studies: Sequence[str],
    said: Sequence[str],
    mlflow: str,
) -> str:
    """Return a page that needs nothing beside itself.

    Args:
        name: of its file, which decides on its title.
        scale: of all its runs.
        parts: what it shows.
        reports: of every study that numbers may come from.
        studies: those whose datasets are shown.
        said: what could not be made or is left out, a sentence each.
        mlflow: where the MLflow UI may be found.
    """
    import jinja2

    sources = Origins(reports, mlflow)
    sections = [*_results(parts, reports, sources)]
    if CLAIMS in parts:
        sections.append(_claims(parts[CLAIMS], scale, sources))
    cards = {c["fingerprint"]: c for study in studies for c in reports[study].cards.values()}
    data = _data(cards.values(), parts, sources)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    style, script = (
        (_TEMPLATES / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    text: str = environment.get_template("page.html.j2").render(
        title=_title(name, scale, reports),
        scale=scale,
        sections=[*data, *sections],
        entries=sources.entries(cards),
        summary=_summary(reports, studies),
        said=said,
        mlflow=mlflow,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return text


def _shown(value: object) -> object:
    """Return a value of the template with escapes for what cannot be shown."""
    return printable(value, keep="\n") if type(value) is str else value


def _title(name: str, scale: str, reports: Mapping[str, Report]) -> str:
    what = reports[name].title or name if name in reports else None
    if name == "report":
        what = "Results"
    elif name == "claims":
        what = "The paper's conclusions"
    elif what is None:
        what = f"Table {name.removeprefix('table')} of the paper"
    return f"{what}, {scale} scale"


def _summary(reports: Mapping[str, Report], studies: Sequence[str]) -> str:
    """Say how much was run, by which version; nothing where no study has its part in the page."""
    if not studies:
        return ""
    cells = [cell for study in studies for cell in reports[study].provenance["cells"].values()]
    done = sum(bool(cell["runs"]) for cell in cells)
    versions = sorted({cell["code"] for cell in cells if cell["code"]})
    several = "study" if len(studies) == 1 else "studies"
    by = f", by ecsweep {' and '.join(versions)}" if versions else ""
    return f"{len(studies)} {several}, {done:,} of {len(cells):,} cells trained and tested{by}."


def _results(
    parts: Mapping[str, Part], reports: Mapping[str, Report], sources: Origins
) -> Iterator[Section]:
    """Yield the tables of the paper, each with the studies that it is made of, then the rest."""
    left = [name for name in parts if name in reports]
    for number, studies in {1: (), **published.STUDIES}.items():
        part = parts.get(paper_part(number))
        if part is None:
            continue
        own = [study for study in studies if study in left]
        left = [study for study in left if study not in own]
        shown = list(part.tables.values())
        title = "Classes" if number == 1 else paper_title(number, reports[studies[0]])
        whole = Section(
            anchor=f"table-{number}",
            title=f"Table {number}. {title}",
            tables=[lay_out(name, table, sources) for name, table in part.tables.items()],
            figures=_drawn(part),
        )
        inner = [_study(reports[study], parts[study], sources, shown) for study in own]
        yield _merged(whole, inner[0]) if len(inner) == 1 else replace(whole, sections=inner)
    for study in left:
        yield _study(reports[study], parts[study], sources, ())


def _merged(whole: Section, study: Section) -> Section:
    """Return a table of the paper and the one study that it is made of, under one heading."""
    return replace(
        study, title=whole.title, tables=[*whole.tables, *study.tables],
        figures=[*whole.figures, *study.figures],
    )  # fmt: skip


def _study(made: Report, part: Part, sources: Origins, before: Sequence[Table]) -> Section:
    """Return the section of a study; a table that stands before it is not repeated."""
    known = [(table.rows, table.cells) for table in before]
    new = {name: t for name, t in part.tables.items() if (t.rows, t.cells) not in known}
    for name in {f"{made.study}-classes", f"{made.study}-comparisons"} & new.keys():
        new[name] = supplement.in_words(made, new[name])
    laid_out = {name: lay_out(name, table, sources) for name, table in new.items()}
    return Section(
        anchor=f"study-{made.study}",
        title=made.title or made.study,
        kicker=f"Study {made.study}",
        notes=["Not as its file has it: values were replaced by --set."] * made.changed,
        tables=[table for name, table in laid_out.items() if name == made.study],
        figures=_drawn(part),
        more=[table for name, table in laid_out.items() if name != made.study],
    )


def _drawn(part: Part) -> list[tuple[str, Inline]]:
    found = [(reading, drawn.result().inline) for reading, drawn in part.figures.values()]
    return [(reading, inline) for reading, inline in found if inline]


def _claims(part: Part, scale: str, sources: Origins) -> Section:
    """Return what holds by the runs, and apart from it what holds by the paper's own tables."""
    laid_out = {name: lay_out(name, table, sources) for name, table in part.tables.items()}
    titles = {"claims": f"By the runs at {scale} scale", "claims-printed": "By its own tables"}
    return Section(
        anchor="conclusions",
        title="The paper's conclusions",
        sections=[
            Section(anchor=name, title=titles[name], tables=[table])
            for name, table in laid_out.items()
        ],
    )


def _data(
    cards: Iterable[Mapping[str, Any]], parts: Mapping[str, Part], sources: Origins
) -> Iterator[Section]:
    """Yield what the datasets are, where there are any."""
    drawn = parts.get(DATA, Part()).figures
    sections = []
    for card in cards:
        name = pictures.of_dataset(card).name
        reading, figure = drawn[name]
        inline = figure.result().inline
        assert inline is not None, name
        sections.append(
            Section(
                anchor=origins.of_dataset(card["fingerprint"]),
                title=f"{card['name']}, {card['split']} split",
                kicker="Dataset",
                facts=_facts(card),
                figures=[(reading, inline)],
                more=[lay_out(name, _classes(card), sources)],
            )
        )
    if sections:
        yield Section(anchor="data", title="Data", sections=sections)


def _facts(card: Mapping[str, Any]) -> dict[str, str]:
    """Return what a card says of a dataset, in words."""
    facts = {"Fingerprint": card["fingerprint"]}
    for key in _FACTS:
        value = card.get(key)
        if value not in (None, {}, []) and not (key == "migrations" and not any(value.values())):
            facts[key.replace("_", " ").capitalize()] = told(value)
    files = [f"{f['file']} ({f['format']}, {f['records']:,} records)" for f in card["files"]]
    return facts | {"Files": "; ".join(files)}


def _classes(card: Mapping[str, Any]) -> Table:
    """Lay out how many sequences of each class each part has."""
    counts = card["class_counts"]
    meanings = {name: name_of(name) or "" for name in card["classes"]}
    named = any(meanings.values())
    rows: list[tuple[str, ...]] = [(n, meanings[n]) if named else (n,) for n in card["classes"]]
    total: tuple[str, ...] = ("Total", "") if named else ("Total",)
    return Table(
        row_names=["Class", "Meaning"] if named else ["Class"],
        rows=[*rows, total],
        metrics=[part.capitalize() for part in counts],
        cells=[
            *([f"{own.get(name, 0):,}" for own in counts.values()] for name in card["classes"]),
            [f"{sum(own.values()):,}" for own in counts.values()],
        ],
        caption=f"Sequences of each class of the dataset {card['name']}, {card['split']} split.",
        label="",
        notes=["Studies use as many of each part as their tables say."],
        apart=1,
    )
