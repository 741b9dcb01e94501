"""What MLflow's UI shows of a study as a whole: its description, datasets and first view.

All of it is written once a study, never once a cell, and can be written again.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

MOST = 7_800
"""Characters of a description; MLflow cuts a run's tag off at 8,000."""
VIEW = "ecsweep"
"""The name under which the UI finds the view that a study's page opens with."""
_NOTE = "mlflow.note.content"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""Where the UI's own button *Share* keeps a view, as JSON that it completes with its defaults."""
_SIGNATURE = re.compile(r"\n\n\[//\]: # \(written by ecsweep, ([0-9a-f]{12})\)\Z")
"""The last line, which Markdown does not show: by it a text that somebody changed is told."""


class StudyPage:
    """The page of one study, ``name@scale``, in MLflow's UI."""

    def __init__(self, client: Any, experiment_id: str) -> None:
        """Take a client that tells outages (`Reaching`)."""
        self._client, self._experiment_id = client, experiment_id

    def describe(self, parent: str, text: str, title: str) -> None:
        """Set the description, in Markdown, of the experiment and of the study's own run.

        One that somebody has changed in the UI stays as it is; the ``title`` alone, with which
        a run begins, does not.
        """
        text = _signed(text)
        before = self._client.get_experiment(self._experiment_id).tags.get(_NOTE, "")
        if before != text and _is_ours(before, title):
            self._client.set_experiment_tag(self._experiment_id, _NOTE, text)
        before = self._client.get_run(parent).data.tags.get(_NOTE, "")
        if before != text and _is_ours(before, title):
            self._client.set_tag(parent, _NOTE, text)

    def log_datasets(self, parent: str, cards: Iterable[Mapping[str, Any]]) -> None:
        """Make datasets, given by their cards, inputs of the study's own run."""
        inputs = [_of_card(card) for card in cards]
        if inputs:
            self._client.log_inputs(parent, datasets=inputs)

    @property
    def has_view(self) -> bool:
        """Whether there is a view of `VIEW`'s name; studies of earlier versions have none."""
        return VIEW_TAG in self._client.get_experiment(self._experiment_id).tags

    def offer_view(self, view: Mapping[str, Any]) -> None:
        """Keep a view (`ec_sweep.page_view`) under the name `VIEW`."""
        text = json.dumps(view)
        if self._client.get_experiment(self._experiment_id).tags.get(VIEW_TAG) != text:
            self._client.set_experiment_tag(self._experiment_id, VIEW_TAG, text)


def dataset_name(name: str, split: str) -> str:
    """Return the name under which MLflow shows a dataset."""
    return f"{name}, {split} split"


def digest_of(fingerprint: str) -> str:
    """Return as much of a dataset's fingerprint as MLflow shows beside its name."""
    return fingerprint[:12]


def dataset_input(
    name: str, digest: str, source: str, profile: Mapping[str, Any] | None = None
) -> "DatasetInput":
    """Return a dataset as what a run was trained on; MLflow knows it by name and digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": "string", "required": True} for name in ("sequence", "class")]
    dataset = Dataset(
        name=name,
        digest=digest,
        source_type="local",
        source=json.dumps({"uri": source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _of_card(card: Mapping[str, Any]) -> "DatasetInput":
    """Return the dataset of a card, with what is in it."""
    profile = {
        **{f"{part}_sequences": size for part, size in card["sizes"].items()},
        "classes": len(card["classes"]),
        "test_sequences_also_in_train": card["test_sequences_also_in_train"],
    }
    name = dataset_name(card["name"], card["split"])
    return dataset_input(name, digest_of(card["fingerprint"]), str(card["source"]), profile)


def _signed(text: str) -> str:
    return f"{text}\n\n[//]: # (written by ecsweep, {_digest(text)})"


def _is_ours(note: str, title: str) -> bool:
    """Whether a description is as ecsweep has left it."""
    found = _SIGNATURE.search(note)
    if found is None:
        return note in ("", title)
    return _digest(note[: found.start()]) == found[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
