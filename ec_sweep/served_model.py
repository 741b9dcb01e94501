"""The script of a saved model that MLflow runs to load it; never imported by ecsweep itself.

Keras is loaded with the weights alone: the driver runs this script too, when it
logs a model, and lives without it.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class ProteinClassifier(PythonModel):
    """Takes raw sequences and returns the probability of each class."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights."""
        from ec_sweep import serving

        # Who has MLflow load a model has it run this script of the model's, too.
        self._model = serving.load(Path(context.artifacts["model"]), trusted=True)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's arguments
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002 - MLflow's arguments
    ) -> pd.DataFrame:
        """Return a column for each class, a row for each sequence."""
        found: pd.DataFrame = self._model.serve(model_input)
        return found


mlflow.models.set_model(ProteinClassifier())
