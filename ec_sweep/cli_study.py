"""`ecsweep study`: run studies and show what came of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ec_sweep.cli_report import publish
from ec_sweep.errors import EcsweepError, ExitCode, StudyStoppedError
from ec_sweep.messages import complain
from ec_sweep.options import (
    HERE,
    Defaults,
    Home,
    Json,
    Models,
    Scale,
    Seeds,
    Set,
    Storage,
    complete_study,
    know_models,
    place,
    request,
    running_options,
)

if TYPE_CHECKING:
    from ec_sweep.app import Options
    from ec_sweep.planning import Place, Resolved, StudyStatus
    from ec_sweep.voice import Voice


Studies = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STUDY", help="Names, or paths to YAML files.", autocompletion=complete_study
    ),
]
All = Annotated[bool, typer.Option("--all", help="Run every study known.")]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Trials side by side, 1 to 1024. [default: what cores, GPUs and memory hold]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads-per-worker",
        metavar="N",
        help="Cores that each trial computes with, 1 to 1024. [default: 1, or cores / --workers]",
    ),
]
GpuShare = Annotated[
    str,
    typer.Option(
        metavar="N",
        help="Trials that share a GPU, 1 to 64. auto: begins with one, more while that is faster.",
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Run failed and not available cells again.")
]
Where = Annotated[
    Literal["local", "inline", "ray"],
    typer.Option(
        "--executor",
        help="local: worker processes. ray: a Ray cluster. inline: in this process, to debug.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        envvar="RAY_ADDRESS",
        show_envvar=False,
        help="ray: the cluster, auto (where this machine belongs to one), HOST:PORT or "
        "ray://HOST:10001. [default: RAY_ADDRESS, or one on this machine alone]",
    ),
]
GpusPerTrial = Annotated[
    float | None,
    typer.Option(
        metavar="G",
        help="ray: a trial's part of a GPU, above 0 to 1; 0: none. [default: 1 if there are any]",
    ),
]
MemoryPerTrial = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="ray: a trial's part of a node, such as 4G. [default: 2.5G]"),
]
Artifacts = Annotated[
    str | None,
    typer.Option(
        envvar="ECSWEEP_ARTIFACTS",
        metavar="URL",
        help="ray: where checkpoints and models go, that every node reaches: s3://…, file://… or "
        "a shared folder. Without it a trial that is lost begins again.",
    ),
]
CheckpointEvery = Annotated[
    str,
    typer.Option(metavar="TIME", help="From one checkpoint of a trial to the next: 90s, 5m, 1h."),
]
TrialTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Fail a trial that takes longer: 90s, 30m, 2h.")
]
Silence = Annotated[
    str, typer.Option(metavar="TIME", help="Take a worker that says nothing so long for hung.")
]
SaveModels = Annotated[
    Literal["best", "all", "none"],
    typer.Option(
        help="Keep trained models for ecsweep predict. best: of each dataset of the study the one "
        "with the highest validation accuracy after its last epoch (never by the test set)."
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait while another driver runs the study.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Say nothing but what went wrong, on stderr.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say what every epoch of every cell gave.")
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log",
        metavar="FILE",
        envvar="ECSWEEP_LOG",
        help="Append to FILE, with the time, all that happens: every epoch, too.",
    ),
]


def run_studies(
    studies: Studies = None,
    run_all: All = False,
    scale: Scale = "demo",
    seeds: Seeds = None,
    overrides: Set = None,
    defaults: Defaults = False,
    models: Models = None,
    workers: Workers = None,
    threads_per_worker: Threads = None,
    gpu_share: GpuShare = "auto",
    retry_failed: RetryFailed = False,
    executor: Where = "local",
    address: Address = None,
    gpus_per_trial: GpusPerTrial = None,
    memory_per_trial: MemoryPerTrial = None,
    artifacts: Artifacts = None,
    checkpoint_every: CheckpointEvery = "5m",
    trial_timeout: TrialTimeout = None,
    silence: Silence = "30m",
    save_models: SaveModels = "best",
    wait: Wait = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log: LogFile = None,
    as_json: Json = False,
    home: Home = HERE,
    storage: Storage = None,
) -> None:
    """Run what is not done of a study and write its table.

    The demo scale trains on the sample that comes with ecsweep. For the paper's
    scale, build the dataset from your proteins first (ecsweep data build).
    Safe to repeat, interrupt and kill: the same command goes on.
    """
    from ec_sweep import output, planning, running, voice

    names = list(planning.sweep_files()) if run_all else list(studies or [])
    if not names or (run_all and studies):
        raise EcsweepError("name at least one study, or --all, not both. See: ecsweep studies")
    asked = request(scale, seeds, overrides, defaults)
    with voice.speaking(quiet=quiet, verbose=verbose, log=log, silent=as_json) as says:
        options = running_options(
            workers=workers, threads=threads_per_worker, gpu_share=gpu_share, executor=executor,
            address=address, gpus=gpus_per_trial, memory=memory_per_trial, artifacts=artifacts,
            retry_failed=retry_failed, checkpoint_every=checkpoint_every, timeout=trial_timeout,
            silence=silence, save_models=save_models, wait=says.say if wait else None,
        )  # fmt: skip
        where = place(home, storage)
        know_models(models)
        requests = {name: planning.applicable(name, asked) if run_all else asked for name in names}
        resolved = running.runnable(where, requests, follow=not defaults)
        try:
            done = (_run_all if run_all else _run_each)(where, resolved, options, says)
        finally:
            if as_json:
                output.print_json({"studies": says.documents})
        raise typer.Exit(ExitCode.OK if all(done) else ExitCode.INCOMPLETE)


def _run_each(
    where: "Place", studies: "list[Resolved]", options: "Options", says: "Voice"
) -> list[bool]:
    """Run studies one after the other; returns which are done."""
    return [_run_study(where, study, options, says) for study in studies]


def _run_all(
    where: "Place", studies: "list[Resolved]", options: "Options", says: "Voice"
) -> list[bool]:
    """Run studies one after the other, then write every report; returns which are done."""
    from ec_sweep import app, publishing

    done = []
    for number, study in enumerate(studies, 1):
        says.say(f"== Study {number} of {len(studies)}: {study.sweep.study}")
        try:
            done.append(_run_study(where, study, options, says))
        except StudyStoppedError as error:
            says.note(str(error))
            complain(str(error), keep="\n")  # the other studies may be fine
            done.append(False)
    found = app.publisher(where, studies[0].request.scale, publishing.DEFAULT_FORMATS)
    publish(found, quiet=says.quiet)
    return done


def _run_study(where: "Place", resolved: "Resolved", options: "Options", says: "Voice") -> bool:
    """Run one study and show its table; returns whether nothing failed."""
    from ec_sweep import running

    try:
        found = running.run(where, resolved, options, says)
    except KeyboardInterrupt:  # all is said
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    _show_end(where, found, says)
    return found.done


def _show_end(where: "Place", found: "StudyStatus", says: "Voice") -> None:
    """Write a study's table, show it, and say where things are."""
    from ec_sweep import app, choosing, describing, experiments, output, tables

    name, scale = found.resolved.sweep.study, found.resolved.request.scale
    made = app.publisher(where, scale, tables.FORMATS, only=[name])
    files = made.table_of(name)
    tracker = experiments.find_tracker(where.home, found.resolved.name)
    models = choosing.best_models(tracker) if tracker else []
    says.note(f"{found.resolved.name}: {describing.counts(found)}")
    for file in files:
        says.note(f"Wrote {file}")
    says.documents.append(
        found.to_json()
        | {
            "files": list(map(str, files)),
            "models": [
                {"model": f"models:/{model.model_id}", "cell": model.cell,
                 "dataset": model.dataset, "val_accuracy": model.val_accuracy}
                for model in models
            ],
        }
    )  # fmt: skip
    if not says.quiet:
        output.print_end(found, made.table(name), files, where.home)
        output.print_models(models, name, scale)
