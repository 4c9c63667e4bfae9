"""Saved models in MLflow: logged in the flavour that it serves, each once."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model

from recsys import __version__
from recsys.once import made
from recsys.serving import SIGNATURE


def log_model(
    saved: Path, run: Run, metadata: Mapping[str, str], example: pd.DataFrame | None = None
) -> LoggedModel:
    """Log a saved model as the open run's own, in the flavour that MLflow serves.

    Whoever opens a killed run again goes on with the model that it began.

    Args:
        saved: folder of the model's plain data.
        run: that is open.
        metadata: that MLflow shows beside the model.
        example: input that the model's page shows; None for none.
    """
    client, run_id = mlflow.MlflowClient(), run.info.run_id
    key = f"source_run_id = '{run_id}'"

    def begun() -> LoggedModel | None:
        found = client.search_logged_models([run.info.experiment_id], filter_string=key)
        return found[0] if found else None

    def begin() -> LoggedModel:
        return client.create_logged_model(run.info.experiment_id, "model", run_id)

    def linked() -> bool | None:
        outputs = client.get_run(run_id).outputs
        known = outputs.model_outputs if outputs else []
        return any(one.model_id == model.model_id for one in known) or None

    def link() -> bool:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        return True

    model = made(begun, begin)
    # Not by mlflow.pyfunc.log_model: it fails where run and model are linked already.
    made(linked, link)
    with tempfile.TemporaryDirectory(prefix="recsys-model-") as scratch, warnings.catch_warnings():
        # The signature is written down, not guessed from an example.
        warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)
        folder = f"{scratch}/model"
        mlflow.pyfunc.save_model(
            folder,
            loader_module="recsys.serving",
            data_path=str(saved),
            signature=SIGNATURE,
            input_example=example,
            pip_requirements=[f"recsys=={__version__}"],
            metadata=dict(metadata),
            mlflow_model=Model(
                artifact_path=model.artifact_location,
                run_id=run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            ),
        )
        client.log_model_artifacts(model.model_id, folder)
    return client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
