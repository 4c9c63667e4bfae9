"""Views of the models: MLflow's runs, and the ledger's decisions."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import mlflow
import pyarrow as pa
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from pyspark.sql import DataFrame, SparkSession

from deploy.sql.flow import Flow
from recsys import tracking
from recsys.errors import DataError
from recsys.storage.azure import redacted
from registry import history

MAIN_METRICS = (
    "test/ndcg_at_10",
    "test/recall_at_10",
    "test/coverage_at_10",
    "test/replenish/ndcg_at_10",
)
TEXTS = ("run_id", "parent_run_id", "name", "step", "algorithm", "status")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        ("started", pa.timestamp("us", "UTC")),
        ("seconds", pa.float64()),
        *((name.replace("/", "_"), pa.float64()) for name in MAIN_METRICS),
        ("model_digest", pa.string()),
        ("dataset_digest", pa.string()),
        ("parameters", pa.map_(pa.string(), pa.string())),
        ("metrics", pa.map_(pa.string(), pa.float64())),
    ]
)


def model_runs(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the runs of the flow's experiment."""
    rows = [_row(run) for run in _runs()]
    return spark.createDataFrame(pa.Table.from_pylist(rows, SCHEMA))


def promotions(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open who held a stage, by whose decision."""
    rows = history.rows_of(flow.model_name)
    if not rows:
        raise DataError(f"nothing was ever promoted to {flow.model_name}: run promote.")
    return spark.createDataFrame(history.as_table(rows))


def _runs() -> Iterator[Run]:
    """Yield the runs, page by page; raises DataError where there is no such experiment."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", tracking.EXPERIMENT)
    client, token = MlflowClient(), None
    where = redacted(mlflow.get_tracking_uri())
    try:
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise DataError(
                f"{where} has no experiment {name}: run als, or set MLFLOW_TRACKING_URI."
            )
        while True:
            page = client.search_runs([experiment.experiment_id], page_token=token)
            yield from page
            token = page.token
            if not token:
                return
    except MlflowException as error:
        raise DataError(f"{where} does not answer: {redacted(str(error))}") from None


def _row(run: Run) -> dict[str, Any]:
    """Return what an analyst wants to know of a run."""
    info, tags, metrics = run.info, run.data.tags, run.data.metrics
    ended = info.end_time
    return {
        "run_id": info.run_id,
        "parent_run_id": tags.get(MLFLOW_PARENT_RUN_ID),
        "name": info.run_name,
        "step": tags.get(tracking.STEP_TAG),
        "algorithm": tags.get(tracking.ALGORITHM_TAG),
        "status": info.status,
        "started": datetime.fromtimestamp(info.start_time / 1000, UTC),
        "seconds": (ended - info.start_time) / 1000 if ended else None,
        **{name.replace("/", "_"): metrics.get(name) for name in MAIN_METRICS},
        "model_digest": tags.get(tracking.MODEL_DIGEST_TAG),
        "dataset_digest": tags.get(tracking.DIGEST_TAG),
        "parameters": list(run.data.params.items()),
        "metrics": list(metrics.items()),
    }
