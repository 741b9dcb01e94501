"""The notebook docs/from-python.ipynb, run from its first cell to its last."""

import json
from pathlib import Path

import pytest

from tests.conftest import Ecsweep

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "from-python.ipynb"


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with this interpreter as its kernel; no cell fails."""
    reason = "nbclient and ipykernel, which run notebooks, are not installed"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    nbformat = pytest.importorskip("nbformat", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    for name, value in Ecsweep(tmp_path).environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ECSWEEP_HOME")
    notebook = nbformat.read(NOTEBOOK, 4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()
    assert (tmp_path / "mlruns" / "mlflow.db").exists()


def test_the_notebook_shows_what_it_made() -> None:
    """It is kept with the output of a run, small, and with nothing of the machine it ran on."""
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] == place for place, cell in enumerate(cells, 1))
    assert sum(bool(cell["outputs"]) for cell in cells) >= 5
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    assert len(text) < 60_000
    assert "/tmp/" not in text
    assert "/work/" not in text
    assert "/home/" not in text
