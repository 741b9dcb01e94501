"""A saved model brought back to predict, in this process and behind MLflow's server alike."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ec_sweep import baselines, encoding, saving, sequences
from ec_sweep.encoding import Tokens
from ec_sweep.errors import EcsweepError
from ec_sweep.models import MODELS
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


def load(folder: Path) -> Classifier:
    """Return the model in a folder, ready to predict.

    Raises:
        EcsweepError: it is damaged, or was saved by another version.
    """
    about, weights = saving.read_about(folder), saving.read_weights(folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # where there is no GPU it says so each time
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in training (`ec_sweep.trial`)
    model = MODELS[about.model].build(about.hyperparameters, len(about.classes))
    try:
        return Classifier(about, _with_weights(about, model, weights))
    except (ValueError, AttributeError, IndexError) as error:
        raise EcsweepError(
            f"{folder}: the weights do not fit the model that its document names "
            f"({str(error).splitlines()[0]})."
        ) from error


def _with_weights(
    about: About, model: Any, weights: list[Array]
) -> Callable[[Tokens], Probabilities]:
    if MODELS[about.model].is_network:
        model.set_weights(weights)
        return lambda tokens: np.asarray(model.predict_on_batch(tokens))
    baselines.restore(about.model, model, weights)
    return lambda tokens: baselines.probabilities(model, tokens, len(about.classes))
