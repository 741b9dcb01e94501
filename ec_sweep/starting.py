"""Files to begin with: a sweep and a model of one's own, with every part explained."""

import os
import re
from pathlib import Path

from ec_sweep import space
from ec_sweep.errors import EcsweepError

DEFAULT = Path("sweeps") / "my-sweep.yaml"

_SWEEP = """\
# A sweep of your own: which networks are trained, on what. `ecsweep plan {given}` shows its
# cells, `ecsweep study {given}` trains them. Every key but study and a grid may be left out.

# Its name: lower-case letters, digits and hyphens. Runs, tables and reports go by it.
study: {name}
title: Filter sizes of a small CNN

# What is trained on. enzyme (is it one?) and ec37 (which sub-class of EC 3 or EC 7?) have a demo on
# proteins that come with ecsweep; a name of your own is one you built: ecsweep data build --help
dataset: enzyme
# How train, validation and test are told apart: random, identical (equal sequences on one side),
# cluster (whole families on one side) or given (by a column of your file).
split: random

# What all cells share: a model and its hyperparameters. Those not named have the paper's values.
# Models: {models}. One of your own: `ecsweep init my_models.py`.
# A list such as hidden is one value.
fixed:
  model: cnn
  filters: 16
  hidden: [32]
  batch_size: 32
  epochs: 10
  early_stopping: paper       # or patience, none

# What is varied: the cells are all combinations. A list of such mappings is their union; a list of
# one-value mappings names single cells. model, dataset and split may stand here, too.
grid:
  filter_size: [3, 7]
  learning_rate: [0.01, 0.001]

# Replicates: every cell is trained with each of these; tables then show mean and interval.
seeds: [0]

# shared: as many trials side by side as the machine holds. exclusive: one at a time, so that
# training and prediction times can be compared, and stand in the tables.
timing: shared

# What another scale changes. A list replaces an axis of the grid. demo: the sample that comes with
# ecsweep, in minutes. paper (--scale paper): a dataset that you built.
scales:
  demo: {{epochs: 2, length: 128, train_size: 240}}
  paper: {{length: 1000}}

# Where a grid would be too large, a sampler draws cells from it. Then numbers may be ranges:
#   grid:
#     learning_rate: {{low: 1.0e-5, high: 0.01, log: true}}
#     filter_size: {{low: 3, high: 15, step: 2}}
# sampler: tpe                # or random, gp; grid, the default, runs all
# trials: 20                  # cells to draw
# metric: val_accuracy        # what it goes by; or val_loss
# direction: maximize         # as the metric has it: minimize for val_loss
# pruner: median              # or hyperband: end cells early that do worse; a grid takes it, too

# The table of the paper, 1 to 7, that this study makes; it lays the study's own table out likewise.
# table: 3
"""

_MODELS = '''\
"""Models of my own, for: ecsweep study SWEEP --models {file}

ecsweep reads what MODELS below declares without running this file; workers run it. It is one file:
it may import what is installed, but no other file of yours. Its text belongs to the identity of
its cells: when it changes, they are other cells and are trained anew.
"""


def dilated_cnn(hp, classes):
    """Return a `keras.Model` from tokens to the probabilities of so many classes.

    hp.length tokens are whole numbers: 0 to 19 residues, 20 any other letter, 255 padding.
    hp has what the model declares below, and what every network has: length, train_size,
    batch_size, epochs, optimizer, learning_rate, early_stopping, patience, deterministic.
    """
    from keras import layers

    # ecsweep's own parts: the input, one-hot letters (batch, length, 21), and the paper's head of
    # dense layers and softmax, which reads hidden, dropout, activation and initializer.
    from ec_sweep.models import classifier, one_hot, sequence_input

    tokens = sequence_input(hp)
    features = one_hot(tokens)
    for _ in range(hp.blocks):
        features = layers.Conv1D(
            hp.filters,
            hp.filter_size,
            padding="same",
            dilation_rate=hp.dilation,
            activation=hp.activation,
        )(features)
    features = layers.GlobalMaxPooling1D()(features)
    return classifier(hp, classes, tokens, features)


# Each model: the function that builds it; the hyperparameters of ecsweep that it uses, which a
# sweep may then fix or vary; and those of its own with their defaults, whose types say what is
# allowed (numbers, text, true or false, lists of them). Written out: no calls, no variables.
MODELS = {{
    "dilated-cnn": {{
        "build": dilated_cnn,
        "uses": ["filters", "filter_size", "activation", "hidden", "dropout", "initializer"],
        "own": {{"dilation": 2, "blocks": 2}},
    }},
}}
'''


def write(path: Path) -> Path:
    """Write a commented file to begin with: a sweep, or models where its name ends in ``.py``.

    Raises:
        EcsweepError: it is there already, or its name cannot be one.
    """
    if not str(path).isprintable() or {'"', "\\"} & set(str(path)):
        raise EcsweepError(f"{str(path)!r}: a path without quotes, backslashes or line breaks.")
    text = _MODELS.format(file=path) if path.suffix == ".py" else _sweep(path)
    try:
        if path.exists():
            raise EcsweepError(f"{path} is there already, and is left as it is. Name another.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:  # never over one that has just come
            try:
                file.write(text)
                file.flush()
            except BaseException:  # Ctrl-C too: nothing half-written stays, and the error goes on
                path.unlink()
                raise
    except OSError as error:
        raise EcsweepError(f"{path}: cannot be written ({error.strerror}).") from error
    return path


def found_by_name(path: Path) -> bool:
    """Say whether commands find a sweep's file by its study's name alone."""
    return path.suffix == ".yaml" and path.resolve().parent == Path("sweeps").resolve()


def _sweep(path: Path) -> str:
    from ec_sweep.models import MODELS

    if path.suffix not in (".yaml", ".yml") or not re.fullmatch(space.NAME_PATTERN, path.stem):
        raise EcsweepError(
            "a sweep's file must be named as its study, in lower-case letters, digits and hyphens, "
            f"and end in .yaml; a file of models ends in .py. Received: {str(path)!r:.80}."
        )
    given = path.stem if found_by_name(path) else os.fspath(path)
    return _SWEEP.format(name=path.stem, given=given, models=", ".join(MODELS))
