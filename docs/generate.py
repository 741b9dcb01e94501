"""Write the reference, docs/reference/, from the code: python docs/generate.py.

tests/test_docs.py fails where the pages that are there are not what this writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from ec_sweep import documented, glossary, hyperparameters, space
from ec_sweep.cli import cli
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS
from ec_sweep.report import TIMES
from ec_sweep.spec import Sweep

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Made by docs/generate.py: change the code, and run that. -->\n\n"


def pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    made = {
        "cli.md": command_line(),
        "sweep-file.md": sweep_file(),
        "hyperparameters.md": of_hyperparameters(),
        "models.md": of_models(),
        "metrics.md": metrics_and_tags(),
    }
    return {name: f"{NOTE}{text.rstrip()}\n" for name, text in made.items()}


def command_line() -> str:
    """Return what each command says of itself with --help."""
    parts = [
        "# Command line",
        "Every command as its `--help` says it. `--json` prints one JSON document and nothing else "
        "on stdout. Exit codes: 0 all is done; 1 a cell failed or was interrupted, or `doctor` "
        "left something; 2 bad usage, sweep, data or home; 130 interrupted, what is done is kept.",
        _fenced(_help([])),
    ]
    for path in _commands(typer.main.get_command(cli), []):
        parts += [f"## {' '.join(path)}", _fenced(_help(path))]
    return "\n\n".join(parts)


def _commands(command: Any, path: list[str]) -> Iterable[list[str]]:
    for name, child in getattr(command, "commands", {}).items():
        yield [*path, name]
        yield from _commands(child, [*path, name])


def _help(path: list[str]) -> str:
    # The folder for completion scripts and the like must not show, nor a terminal's width.
    environment = {"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    done = CliRunner().invoke(cli, [*path, "--help"], prog_name="ecsweep", env=environment)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.strip().splitlines())


def _fenced(text: str) -> str:
    return f"```text\n{text}\n```"


def sweep_file() -> str:
    """Return the keys of a sweep file: type, default and meaning."""
    found = Sweep.model_json_schema()
    about = documented.attributes(Sweep)
    rows = [
        (
            f"`{key}`",
            _type(schema),
            "**needed**" if key in (*found["required"], "grid") else _default(schema["default"]),
            about[key],
        )
        for key, schema in found["properties"].items()
    ]
    ends = {"low": "lowest value", "high": "highest value"}
    ends |= {"log": "`true`: drawn evenly by magnitude", "step": "only every so many"}
    parts = [
        "# Sweep file",
        "A sweep is one YAML document. `ecsweep schema` prints its JSON Schema, by which an editor "
        "completes and checks it ([how](../sweeps.md#have-your-editor-check-it)). Keys that are "
        "not listed here are refused.",
        _table(("key", "type", "default", "meaning"), rows),
        "Under `fixed`, `grid` and `scales` stand [hyperparameters](hyperparameters.md) and "
        f"{_listed(('dataset', *space.CHOICES))}. `dataset` and `split` "
        "may stand at the top instead. `grid` takes a list of values for each; a scale takes a "
        "value, or for what `grid` varies a list that replaces it.",
        "## Names that are no hyperparameters",
        _table(
            ("name", "values"),
            [
                (
                    "`dataset`",
                    "`enzyme`, `ec37`, or one of your own by its name",
                ),
                ("`model`", _listed(MODELS)),
                ("`split`", _listed(space.SPLITS)),
            ],
        ),
        "## Ranges",
        "With a `sampler`, a number's axis may be a range instead of a list:",
        _table(("key", "meaning"), [(f"`{key}`", text) for key, text in ends.items()]),
    ]
    return "\n\n".join(parts)


def of_hyperparameters() -> str:
    """Return every hyperparameter: values, default, which models have it, and meaning."""
    about, values = documented.attributes(Hyperparameters), Hyperparameters()
    networks = tuple(name for name, model in MODELS.items() if model.is_network)
    groups = {tuple(MODELS): "all", networks: "all networks"}
    rows = []
    for name in hyperparameters.NAMES:
        having = [m for m, model in MODELS.items() if name in model.hyperparameters]
        default = hyperparameters.to_json({name: getattr(values, name)})[name]
        rows.append(
            (
                f"`{name}`",
                hyperparameters.allowed(name),
                "`null`" if default is None else _default(default),
                groups.get(tuple(having)) or _listed(having),
                about[name],
            )
        )
    heading = (
        "# Hyperparameters\n\nAny of them may stand in `fixed`, in `grid`, under a scale, and in "
        "`--set`. The defaults are the paper's scale; what the paper leaves open, and what was "
        "chosen, is in [fidelity](../fidelity.md). Numbers may be written as YAML 1.1 reads them: "
        "`1e-3` is one."
    )
    return f"{heading}\n\n{_table(('name', 'values', 'default', 'models', 'meaning'), rows)}"


def of_models() -> str:
    """Return every model: what it is and its hyperparameters."""
    parts = ["# Models", "What a sweep names with `model`, and the hyperparameters that each has."]
    for name, model in MODELS.items():
        said = (model.build.__doc__ or "").strip().removeprefix("Build ").replace("``", "`")
        own = sorted(model.hyperparameters, key=hyperparameters.NAMES.index)
        parts += [
            f"## {name}",
            *(" ".join(text.split()) for text in f"{said[0].upper()}{said[1:]}".split("\n\n")),
            f"Hyperparameters: {_listed(own)}.",
        ]
    return "\n\n".join(parts)


def metrics_and_tags() -> str:
    """Return what each metric and tag of a run means."""
    parts = [
        "# Metrics and tags",
        "What MLflow holds of each attempt at a cell. Times are in seconds unless the name says "
        "otherwise, losses in nats, scores between 0 and 1. Beside these stand every "
        "hyperparameter, `model`, `dataset`, `split` and `seed` as params, and the artifact "
        "`predictions.npz`: `ids`, `labels` and `probabilities` of the test sequences.",
        "## After each epoch",
        "The step is the epoch, from 1.",
        _metrics(glossary.EPOCH_METRICS),
        "## At the end",
        _metrics(glossary.FINAL_METRICS),
        "## In reports",
        "Reports add these, and leave out those marked *alone* where the trial shared machine or "
        "GPU with others (`ecsweep.concurrency` above 1). With several seeds a value is the mean, "
        "and `<metric>_ci95` half of its 95 % interval (Student's t); at the paper's scale "
        "`published_<metric>` is the paper's.",
        _metrics(glossary.DERIVED_METRICS),
        "## Tags",
        _table(("tag", "meaning"), [(f"`ecsweep.{k}`", v) for k, v in glossary.TAGS.items()]),
        "## Tags of the environment",
        "Where and how an attempt ran: provenance, no part of the cell's identity.",
        _table(
            ("tag", "meaning"),
            [(f"`ecsweep.environment.{key}`", text) for key, text in glossary.ENVIRONMENT.items()],
        ),
    ]
    return "\n\n".join(parts)


def _metrics(found: Mapping[str, str]) -> str:
    rows = [(f"`{n}`", text, "*alone*" if n in TIMES else "") for n, text in found.items()]
    return _table(("metric", "meaning", ""), rows)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _type(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema's type in words."""
    options = schema.get("anyOf", [schema])
    if "enum" in schema or any("enum" in option for option in options):
        values = [value for option in options for value in option.get("enum", ())]
        return _listed(values)
    words = {"object": "mapping", "array": "list", "integer": "whole number", "string": "text"}
    kinds = [words[option["type"]] for option in options if option["type"] != "null"]
    return " or ".join(kinds)


def _default(value: object) -> str:
    if value in (None, "", {}, []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    cells = ([text.replace("|", "\\|") for text in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
