"""A training run as MLflow keeps it."""

import mlflow
import pytest
from pyspark.sql import SparkSession

from experiments.train import run_train
from recsys.data.dataset import Dataset
from recsys.models.popularity import PopularityParameters
from registry.evidence import entrants


def test_a_run_that_was_killed_and_went_on_keeps_the_last_model(
    spark: SparkSession, dataset: Dataset, mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver of a pool is run again in the same run, which may hold half an upload."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("recsys")
    assert experiment is not None
    run_id = client.create_run(experiment.experiment_id).info.run_id
    found = []
    for _ in range(2):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        run_train("popularity", str(dataset.path), PopularityParameters(), spark)
        found += client.search_logged_models([experiment.experiment_id])
    first, last = found
    assert first.model_id != last.model_id
    [entrant] = entrants(dataset.digest)
    assert entrant.run_id == run_id
    assert entrant.model_uri == f"models:/{last.model_id}"
