"""Options that several commands share, and what becomes of them."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ec_sweep import hints
from ec_sweep.errors import EcsweepError

if TYPE_CHECKING:
    from ec_sweep.app import Options
    from ec_sweep.membership import Wanted
    from ec_sweep.own_building import OwnFile
    from ec_sweep.planning import Place
    from ec_sweep.saving import Keep
    from ec_sweep.sharing import Asked
    from ec_sweep.spec import Request


def complete_study(incomplete: str) -> Iterable[tuple[str, str]]:
    """Return the studies that a shell offers."""
    from ec_sweep import completing

    return completing.studies(incomplete)


def complete_setting(incomplete: str) -> Iterable[str]:
    """Return what a shell offers for ``--set``."""
    from ec_sweep import completing

    return completing.settings(incomplete)


def complete_dataset(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """Return the datasets and sources that a shell offers."""
    from ec_sweep import completing

    return completing.datasets(incomplete, Path(ctx.params.get("home") or environment_home()))


Home = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        envvar="ECSWEEP_HOME",
        help="Folder that holds mlruns/, data/ and reports/. [default: this one]",
        show_default=False,
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="ECSWEEP_STORAGE",
        help="SQLAlchemy URL of the ledger, instead of the home's.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study's name, or a path to its YAML file.",
        autocompletion=complete_study,
    ),
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
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value; a list replaces an axis.",
        autocompletion=complete_setting,
    ),
]
Defaults = Annotated[
    bool, typer.Option("--defaults", help="Ignore --seeds and --set of the study's last run.")
]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="FILE",
        help="Python file with models of your own, which then may be run.",
    ),
]
HERE = Path()
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST = 1e9  # seconds
_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LARGEST = 10**15  # bytes


def place(home: Path, storage: str | None = None, *, reads: bool = False) -> "Place":
    """Return where a command's state is; hints from now on lead there too.

    A command that only ``reads`` needs a home folder that is there.
    """
    from ec_sweep import databases, mlflow_store, paths, planning

    _check_home(home, reads)
    usual = environment_home().absolute()
    typed = {"--home": str(home)} if home.absolute() != usual else {}
    if storage and storage != os.environ.get("ECSWEEP_STORAGE"):
        typed["--storage"] = databases.masked(storage)
    hints.repeat(typed)
    folder = paths.Home(home.resolve())
    tracking = mlflow_store.tracking_uri(folder)
    if storage or not mlflow_store.is_local(folder):
        databases.check_apart(storage, str(folder.studies_db), tracking)
    if storage and "--storage" in typed and databases.has_password(storage):
        with databases.connection(storage):
            pass  # where it does not work, that is all there is to say
        typer.echo(
            "Warning: other users of this machine can see the password of --storage in the list of "
            "processes. Set ECSWEEP_STORAGE instead, or leave it to PGPASSWORD or ~/.pgpass.",
            err=True,
        )
    return planning.Place(folder, storage)


def _check_home(home: Path, reads: bool) -> None:
    """Raise an error when a home folder is none, or is not there to be read."""
    try:
        there = home.exists()
    except OSError as error:  # a name that no file system takes
        raise EcsweepError(f"--home cannot be used ({error.strerror}): {home!s:.80}") from error
    if there and not home.is_dir():
        raise EcsweepError(f"--home (ECSWEEP_HOME) must be a folder. Received: {home}, a file.")
    if reads and not there:
        raise EcsweepError(
            f"there is no home folder {home} (--home, ECSWEEP_HOME). Only a study, and building or "
            "importing data, make one."
        )


def know_models(file: Path | None) -> "OwnFile | None":
    """Know the models of a user's own file, and have advised commands name it; returns it."""
    from ec_sweep import own_models

    if file is None:
        return None
    found = own_models.read(file)
    own_models.know(found)
    hints.with_models(str(file))
    return found


def environment_home() -> Path:
    """Return the home folder where none is named: ``ECSWEEP_HOME``, else the current folder."""
    return Path(os.environ.get("ECSWEEP_HOME") or HERE)


def request(
    scale: str,
    seeds: int | None = None,
    overrides: list[str] | None = None,
    defaults: bool = False,
) -> "Request":
    """Return the request that the options make; bad values are errors."""
    from ec_sweep import spec

    check_range("--seeds", seeds, 10_000)
    if defaults and (seeds or overrides):
        raise EcsweepError("--defaults asks for the file as it is: leave out --seeds and --set.")
    pairs = [spec.parse_override(text) for text in overrides or []]
    twice = [name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1]
    if twice:
        raise EcsweepError(f"--set {twice[0]} is given twice. A list of values replaces an axis.")
    return spec.Request(scale, seeds, tuple(pairs))


def check_range(option: str, value: int | None, highest: int, lowest: int = 1) -> None:
    """Raise an error when a number given lies outside ``lowest`` to ``highest``."""
    if value is not None and not lowest <= value <= highest:
        raise EcsweepError(f"{option} must be from {lowest} to {highest}. Received: {value}.")


def sharing(
    workers: int | None, threads: int | None, gpu_share: int | str, executor: str
) -> "Asked":
    """Return what is asked for about workers; what this machine cannot give is an error."""
    from ec_sweep.machine import visible_gpus
    from ec_sweep.sharing import Asked

    check_range("--workers", workers, 1024)
    check_range("--threads-per-worker", threads, 1024)
    said = str(gpu_share)
    share = None if said == "auto" else int(said) if said.isdecimal() else 0
    if share is not None and not 1 <= share <= 64:
        raise EcsweepError(
            f"--gpu-share must be auto or a whole number from 1 to 64. Received: {gpu_share!r:.80}."
        )
    for option, value in (("--workers", workers), ("--gpu-share", share)):
        if value and executor == "inline":
            raise EcsweepError(f"--executor inline runs one trial at a time: leave {option} out.")
    asked = Asked(workers, threads, share)
    if share and executor == "local":
        asked.check(visible_gpus())
    return asked


def running_options(
    *,
    workers: int | None,
    threads: int | None,
    gpu_share: int | str,
    executor: str,
    address: str | None,
    gpus: float | None,
    memory: int | str | None,
    artifacts: str | None,
    retry_failed: bool,
    checkpoint_every: float | str,
    timeout: float | str | None,
    silence: float | str,
    save_models: "Keep",
    wait: Callable[[str], None] | None,
) -> "Options":
    """Return how a study is to be run; bad values are errors.

    ``wait`` is told what a study waits for that another driver runs; ``None``: it does not wait.
    """
    from ec_sweep import app
    from ec_sweep.attempts import Limits

    shared = sharing(workers, threads, gpu_share, executor)
    most = None if timeout is None else seconds("--trial-timeout", timeout)
    limits = Limits(seconds("--checkpoint-every", checkpoint_every), most, save_models)
    hung = seconds("--silence", silence)
    wanted = on_cluster(executor, address, gpus, memory, artifacts, shared)
    return app.Options(shared, executor, retry_failed, limits, hung, wanted, artifacts, wait)


def on_cluster(
    executor: str,
    address: str | None,
    gpus: float | None,
    memory: int | str | None,
    artifacts: str | None,
    shared: "Asked",
) -> "Wanted":
    """Return what is asked of a Ray cluster; options of another executor are errors."""
    from ec_sweep.membership import Wanted

    if executor != "ray":
        given = {"--gpus-per-trial": gpus, "--memory-per-trial": memory}
        if address != os.environ.get("RAY_ADDRESS"):
            given["--address"] = address
        if artifacts != os.environ.get("ECSWEEP_ARTIFACTS"):
            given["--artifacts"] = artifacts
        for option, value in given.items():
            if value is not None:
                raise EcsweepError(f"{option} is for --executor ray. Received: {executor}.")
        return Wanted()
    if shared.gpu_share:
        raise EcsweepError(
            "--gpu-share is for this machine's GPUs. With --executor ray give each trial its part: "
            f"--gpus-per-trial {1 / shared.gpu_share:g}"
        )
    if gpus is not None and not 0 <= gpus <= 1:
        raise EcsweepError(
            "--gpus-per-trial must be from 0 to 1: a trial trains on one GPU, or on a part of one. "
            f"Received: {gpus:g}."
        )
    size = None if memory is None else _bytes("--memory-per-trial", memory)
    return Wanted(address, shared.threads, gpus, size, shared.workers)


def _bytes(option: str, value: int | str) -> int:
    """Return a size given as 800M, 4G or in bytes."""
    text = str(value)
    number, unit = (
        (text[:-1], text[-1].upper()) if text[-1:].upper() in {*_SIZES} - {""} else (text, "")
    )
    try:
        found = int(float(number) * _SIZES[unit])
    except (ValueError, OverflowError):
        found = 0
    if not 0 < found <= _LARGEST:
        raise EcsweepError(f"{option} must be a size such as 800M or 4G. Received: {text!r:.80}.")
    return found


def seconds(option: str, value: float | str) -> float:
    """Return a time given as 90, 90s, 30m, 2h or 1d in seconds."""
    text = str(value)
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        found = float(number) * _UNITS[unit]
    except ValueError:
        found = -1
    if not 0 < found <= _LONGEST:
        raise EcsweepError(
            f"{option} must be a time such as 90s, 30m, 2h or 1d. Received: {text!r}."
        )
    return found
