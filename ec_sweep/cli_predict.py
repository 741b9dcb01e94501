"""`ecsweep predict`: classify the sequences of a FASTA file with a saved model."""

import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from ec_sweep.errors import EcsweepError, interrupts_wait
from ec_sweep.messages import interruptible
from ec_sweep.options import (
    HERE,
    Home,
    Json,
    Models,
    Scale,
    check_range,
    complete_study,
    know_models,
    place,
)

if TYPE_CHECKING:
    from ec_sweep.predicting import Tally

Fasta = Annotated[
    Path, typer.Argument(metavar="FASTA", help="FASTA file, plain or gzipped; - for stdin.")
]
Study = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="STUDY",
        help="Use a model saved by this study.",
        autocompletion=complete_study,
    ),
]
Cell = Annotated[
    str,
    typer.Option(
        "--cell",
        metavar="ID",
        help="Its cell, or how its ID begins: best is the one with the highest validation "
        "accuracy of those saved.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Instead of a study: a model's folder, a file in it, or models:/ID.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the table here, when complete. [default: stdout]"),
]
BatchSize = Annotated[
    int, typer.Option(metavar="N", help="Sequences that the model takes at a time.")
]
Top = Annotated[
    int | None,
    typer.Option(metavar="N", help="Only the N most probable classes, the first of them first."),
]

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Leave out what is said of model and speed on stderr.")
]


def classify_sequences(
    fasta: Fasta,
    study: Study = None,
    scale: Scale = "demo",
    cell: Cell = "best",
    model: Model = None,
    out: Out = None,
    batch_size: BatchSize = 64,
    top: Top = None,
    models: Models = None,
    quiet: Quiet = False,
    as_json: Json = False,
    home: Home = HERE,
) -> None:
    """Classify the sequences of a FASTA file, as TSV.

    A row for each, in order. Columns: id, predicted class, the probability of each class, and
    flags. cut: only the first residues, as many as in training, were read; short, long: outside
    what the model was trained on; nonstandard: other letters were read as X. Where nothing can be
    predicted the probabilities are empty and the flag says why: no_sequence, invalid_sequence.
    """
    check_range("--batch-size", batch_size, 65_536)
    check_range("--top", top, 1_000_000)
    if (study is None) == (model is None):
        raise EcsweepError("name a model: either --study STUDY or --model MODEL.")
    if out is not None:
        _check_out(out)
    where = place(home, reads=study is not None).home
    own = know_models(models)
    with interruptible(f"{out} is not written." if out else ""):
        with interrupts_wait():
            from ec_sweep import choosing, planning, predicting, saving, sequences, serving
        with contextlib.closing(sequences.open_stream(fasta)) as stream:
            if model is not None:
                folder = choosing.named(where, model)
            else:
                assert study is not None
                folder = choosing.of_study(where, planning.name_of(where, study), scale, cell)
            about = saving.read_about(folder)
            name = "stdin" if str(fasta) == "-" else str(fasta)
            entries = sequences.read(stream, name, about.hyperparameters.length)
            first = next(entries)  # what is no FASTA is said before Keras is waited for
            with interrupts_wait(), serving.held_back():
                classifier = serving.load(folder, own)
            if not quiet:
                known = [about.line(), choosing.address(folder)]
                print(", ".join(filter(None, known)), file=sys.stderr)
            with _output(out) as file:
                tally = predicting.classify(
                    itertools.chain([first], entries), classifier, file,
                    batch_size=batch_size, top=top, as_json=as_json,
                    show=(lambda _: None) if quiet else _show,
                )  # fmt: skip
    if not quiet:
        _show(tally, end=True)


def _check_out(out: Path) -> None:
    """Raise an error where the table could not be put in place in the end."""
    try:
        if out.is_dir():
            raise EcsweepError(f"--out must be a file, which {out} is not: it is a folder.")
        if out.exists() and not out.is_file():
            raise EcsweepError(
                f"--out must be a file, put in place when it is complete, which {out} is not. "
                f"Write there as it comes: leave --out away, and add > {shlex.quote(str(out))}"
            )
        if not out.parent.is_dir():
            raise EcsweepError(f"--out {out}: there is no folder {out.parent}. Make it first.")
        with TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise EcsweepError(f"--out {out} cannot be written ({error.strerror}).") from error


@contextmanager
def _output(out: Path | None) -> Iterator[BinaryIO]:
    """Open where the table goes: a file that appears when complete, or standard output.

    A reader that has seen enough, such as ``head``, ends the command quietly.
    """
    from ec_sweep.paths import open_atomically

    if out is not None:
        with open_atomically(out) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # Python writes to it once more at the end
        raise typer.Exit from None


def _show(tally: "Tally", end: bool = False) -> None:
    """Show progress on stderr: in place in a terminal, else only what it came to."""
    if sys.stderr.isatty():
        print(f"\r\033[K{tally.line()}", end="\n" if end else "", file=sys.stderr, flush=True)
    elif end:
        print(tally.line(), file=sys.stderr)
