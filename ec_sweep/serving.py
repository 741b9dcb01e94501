"""A saved model brought back to predict, in this process and behind MLflow's server alike."""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep import baselines, encoding, saving, sequences
from ec_sweep.encoding import Tokens
from ec_sweep.errors import EcsweepError, first_line
from ec_sweep.models import MODELS
from ec_sweep.own_building import OwnFile, OwnModelError
from ec_sweep.saving import About, Array

Probabilities = npt.NDArray[np.float32]
_SERVED_AT_ONCE = 32
"""Sequences of a request that the network takes at a time."""


class Classifier:
    """A saved model with its weights."""

    def __init__(self, about: About, predict: Callable[[Tokens], Probabilities]) -> None:
        self.about = about
        self._predict = predict

    def probabilities(self, texts: list[str], batch_size: int) -> Probabilities:
        """Return ``float32[n, classes]`` of sequences of letters A-Z, each by itself.

        The network sees batches of one shape, for which it compiles once.
        """
        about = self.about
        tokens = np.empty((len(texts), about.hyperparameters.length), np.uint8)
        encoding.encode(texts, tokens)
        found = np.empty((len(texts), len(about.classes)), np.float32)
        for start in range(0, len(tokens), batch_size):
            some = tokens[start : start + batch_size]
            filled = np.concatenate([some, np.repeat(some[:1], batch_size - len(some), axis=0)])
            found[start : start + len(some)] = self._predict(filled)[: len(some)]
        return found

    def serve(self, rows: Any) -> Any:
        """Answer a request of MLflow's: a table with the column ``sequence`` gives one of classes.

        Raises:
            MlflowException: of bad input, which its server answers with 400.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        texts, problems = [], []
        for row, text in enumerate(rows["sequence"]):
            entry = sequences.examine(str(text), self.about.hyperparameters.length)
            texts.append(entry.sequence)
            problems += [f"sequence {row}: {entry.problem}"] if entry.problem else []
        if problems:
            raise MlflowException.invalid_parameter_value(
                f"{'; '.join(problems[:10])}. Allowed are one or more letters A to Z each."
            )
        batch_size = 1 if len(texts) == 1 else _SERVED_AT_ONCE
        found = self.probabilities(texts, batch_size)
        return pd.DataFrame(found, columns=list(self.about.classes))


@contextmanager
def held_back() -> Iterator[None]:
    """Hold back what TensorFlow writes to stderr as it starts, past all that it can be told.

    It is shown where that fails.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:  # whatever it is: what TensorFlow said before may be the reason
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def load(folder: Path, own: OwnFile | None = None, *, trusted: bool = False) -> Classifier:
    """Return the model in a folder, ready to predict.

    One that stands in a user's own file is built by running that file: ``own`` is the file that
    the user has named for it; of a ``trusted`` folder its own copy is run.

    Raises:
        EcsweepError: it is damaged, was saved by another version, or may not be run.
    """
    about, weights = saving.read_about(folder), saving.read_weights(folder)
    if not trusted:
        _check_own(folder, about, own)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where there is no GPU it says so each time
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in training (`ec_sweep.trial`)
    try:
        model = MODELS[about.model].build(about.hyperparameters, len(about.classes))
    except OwnModelError as error:
        raise EcsweepError(str(error)) from error
    try:
        return Classifier(about, _with_weights(about, model, weights))
    except (ValueError, AttributeError, IndexError) as error:
        raise EcsweepError(
            f"{folder}: the weights do not fit the model that its document names "
            f"({first_line(error)})."
        ) from error


def _check_own(folder: Path, about: About, own: OwnFile | None) -> None:
    """Raise an error when a model would run a file that the user has not named for it."""
    if about.own is None or (own and own.sha256 == about.own.sha256):
        return
    file = saving.own_file(folder)
    if own is None:
        raise EcsweepError(
            f"the model {about.model} stands in {about.own.name}, which is run only where you name "
            f"it: add --models {about.own.name}, or --models {shlex.quote(str(file))}, as it was "
            "when the model was trained."
        )
    raise EcsweepError(
        f"{own.name} is not as it was when the model {about.model} was trained. That text stands "
        f"in {file}: look at it, and give it with --models {shlex.quote(str(file))}"
    )


def _with_weights(
    about: About, model: Any, weights: list[Array]
) -> Callable[[Tokens], Probabilities]:
    if MODELS[about.model].is_network:
        model.set_weights(weights)
        return lambda tokens: np.asarray(model.predict_on_batch(tokens))
    baselines.restore(about.model, model, weights)
    return lambda tokens: baselines.probabilities(model, tokens, len(about.classes))
