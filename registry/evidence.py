"""What training runs left in MLflow, as `compare` needs it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from recsys.errors import DataError
from recsys.tracking import ALGORITHM_TAG, CUSTOMERS_TABLE, DIGEST_TAG, MODEL_DIGEST_TAG


@dataclass(frozen=True)
class Entrant:
    """A training run that takes part in a comparison.

    Attributes:
        run_id: its id.
        name: its name in the UI.
        algorithm: name of the recommender.
        model_digest: SHA-256 of the model's manifest.
        model_uri: of the logged model.
        started: milliseconds since 1970.
        metrics: all that it logged.
    """

    run_id: str
    name: str
    algorithm: str
    model_digest: str
    model_uri: str
    started: int
    metrics: dict[str, float]


def entrants(dataset_digest: str) -> list[Entrant]:
    """Return the finished training runs on a dataset, the oldest first.

    Runs of one recommender with equal models (trained again with the same parameters) count once,
    the newest of them.
    """
    client = MlflowClient()
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = mlflow.search_runs(
        experiment_ids=experiments,
        filter_string=(
            f"tags.`{DIGEST_TAG}` = '{dataset_digest}' and tags.`{MODEL_DIGEST_TAG}` != '' "
            "and attributes.status = 'FINISHED'"
        ),
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )
    newest = {e.model_digest: e for e in map(_entrant, runs) if e is not None}
    return sorted(newest.values(), key=lambda e: e.started)


def _entrant(run: Run) -> Entrant | None:
    """Read one run; None where its model was never logged."""
    outputs = run.outputs.model_outputs if run.outputs else []
    if not outputs:
        return None
    tags = run.data.tags
    return Entrant(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        tags[ALGORITHM_TAG],
        tags[MODEL_DIGEST_TAG],
        f"models:/{outputs[0].model_id}",
        run.info.start_time,
        dict(run.data.metrics),
    )


def customers_table(run_id: str, window: str) -> pa.Table:
    """Fetch the table of customers that a run logged for a window.

    Raises:
        DataError: the run has none.
    """
    with tempfile.TemporaryDirectory(prefix="recsys-customers-") as scratch:
        try:
            folder = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=f"{CUSTOMERS_TABLE}/{window}", dst_path=scratch
            )
            return pq.read_table(Path(folder))
        except (MlflowException, OSError, pa.ArrowInvalid):
            raise DataError(
                f"Run {run_id} has no readable table of customers for {window}: train it again."
            ) from None
