"""A trained model as files: its weights, and a document that says all that predicting needs.

The worker writes both into the attempt's folder. Nothing in them is pickled, so
that a model from elsewhere runs no code of its own when it is read.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ec_sweep import hints, hyperparameters, own_models
from ec_sweep.errors import EcsweepError, printable
from ec_sweep.hyperparameters import Hyperparameters
from ec_sweep.models import MODELS, hyperparameters_of
from ec_sweep.own_building import OwnFile
from ec_sweep.paths import DAMAGED, open_atomically, write_atomically

Array = npt.NDArray[Any]
Keep = Literal["best", "all", "none"]
"""Whose weights stay: of the best complete cell of each dataset of a study, of all, or of none."""

_FORMAT = 1
_DOCUMENT, _WEIGHTS = "model.json", "weights.npz"
_OWN = "own_models.py"
"""The user's file as it was when the model was trained, where the model stands in one."""


@dataclass(frozen=True)
class About:
    """What a model says of itself."""

    model: str
    hyperparameters: Hyperparameters
    classes: tuple[str, ...]
    dataset: Mapping[str, str]
    """``name``, ``fingerprint``, ``split`` and ``source``."""
    shortest: int
    longest: int
    """Residues of the sequences that it was trained on."""
    study: str
    """``name@scale``."""
    cell: str
    seed: int
    keep: Keep
    ecsweep: str
    """The version that trained it."""
    own: OwnFile | None = None
    """The user's file that the model stands in; ``None``: it comes with ecsweep."""
    val_accuracy: float = float("nan")
    """By which the best is told, as in samplers: after the last epoch."""
    test_accuracy: float = float("nan")

    @property
    def fingerprint(self) -> str:
        """The dataset's."""
        return self.dataset["fingerprint"]

    def line(self) -> str:
        """Return the model in a line."""
        data = f"{self.dataset['name']} ({self.dataset['split']} split)"
        return (
            f"{self.model} of cell {self.cell} of {self.study}, trained on {data}: "
            f"validation accuracy {self.val_accuracy:.4f}"
        )


def write(folder: Path, about: About, weights: Sequence[Array]) -> None:
    """Write a model into a folder; it is there when its document is, which comes last."""
    with open_atomically(folder / _WEIGHTS) as file:
        np.savez(file, *weights)
    if about.own:
        write_atomically(folder / _OWN, about.own.text)
    write_atomically(folder / _DOCUMENT, json.dumps(_document(about), indent=1))


def save(
    folder: Path,
    about: About | None,
    weights: Callable[[], Sequence[Array]],
    last: Mapping[str, float],
    final: Mapping[str, float],
    to_beat: float,
) -> None:
    """Write a trial's model, if it is wanted, with the accuracies that it has reached.

    One that is known not to be the best is not: it would be written, sent and thrown away.
    """
    if about is not None and (about.keep == "all" or last["val_accuracy"] > to_beat):
        about = dataclasses.replace(
            about, val_accuracy=last["val_accuracy"], test_accuracy=final["test_accuracy"]
        )
        write(folder, about, weights())


def own_file(folder: Path) -> Path:
    """Return where the model in a folder has its copy of the user's file."""
    return folder / _OWN


def exists(folder: Path) -> bool:
    """Say whether a folder holds a model."""
    return (folder / _DOCUMENT).exists()


def read_about(folder: Path) -> About:
    """Return what the model in a folder says of itself.

    Raises:
        EcsweepError: it is damaged, or of a newer ecsweep.
    """
    path = folder / _DOCUMENT
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise EcsweepError(
                f"{path}: it was saved by another ecsweep ({document['ecsweep']}, format "
                f"{document['format']}); this one reads format {_FORMAT}. Install that one."
            )
        if "own" in document:
            text = (folder / _OWN).read_bytes().decode()
            document["own"] = OwnFile(document["own"], text)
            own_models.know(document["own"])
        return _about(document)
    except OSError as error:
        raise EcsweepError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = printable(f"{type(error).__name__}: {error}")
        raise EcsweepError(
            f"{path}: it is not a model's document, or damaged ({reason})."
        ) from error


def read_weights(folder: Path) -> list[Array]:
    """Return the arrays of the model in a folder; their checksums show damage."""
    path = folder / _WEIGHTS
    try:
        with np.load(path, allow_pickle=False) as found:
            return [found[f"arr_{number}"] for number in range(len(found.files))]
    except DAMAGED as error:
        reason = printable(str(error) or type(error).__name__)
        raise EcsweepError(
            f"{path}: the weights are missing or damaged ({reason}). Train the cell again: "
            f"{hints.command('forget', 'STUDY', '--cell', 'ID')}, then "
            f"{hints.command('study', 'STUDY')}"
        ) from error


def _document(about: About) -> dict[str, Any]:
    declared = MODELS[about.model].hyperparameters
    values = {name: getattr(about.hyperparameters, name) for name in sorted(declared)}
    fields = {field.name: getattr(about, field.name) for field in dataclasses.fields(about)}
    own = {"own": fields.pop("own").name} if about.own else {}
    fields.pop("own", None)
    return {"format": _FORMAT, **fields, **own, "hyperparameters": values}


def _about(document: dict[str, Any]) -> About:
    del document["format"]
    model = document["model"]
    if model not in MODELS:
        raise ValueError(f"no model is named {model!r}")
    values = {
        name: hyperparameters.parse(name, value)
        for name, value in document.pop("hyperparameters").items()
    }
    classes = tuple(document.pop("classes"))
    known = hyperparameters_of(model, values)
    if wrong := MODELS[model].check(known):
        raise ValueError(wrong)
    return About(hyperparameters=known, classes=classes, **document)
