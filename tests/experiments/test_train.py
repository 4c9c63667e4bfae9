"""A training run as MLflow keeps it."""

import uuid
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from experiments.train import run_train
from recsys.data.dataset import Dataset
from recsys.models.popularity import PopularityParameters
from registry.evidence import entrants
from registry.fetching import fetch


def test_a_run_that_was_killed_and_goes_on_completes_its_model(
    spark: SparkSession,
    dataset: Dataset,
    mlflow_store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver of a pool is run again in the same run, which may hold half an upload."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("recsys")
    assert experiment is not None
    run_id = client.create_run(experiment.experiment_id).info.run_id
    for _ in range(2):
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        run_train("popularity", str(dataset.path), PopularityParameters(), spark)
        [model] = client.search_logged_models([experiment.experiment_id])
        whole = fetch(model.model_uri, tmp_path / f"fetched-{uuid.uuid4().hex}")
        [file] = (tmp_path / "artifacts" / "models" / model.model_id).rglob("items.parquet")
        file.write_bytes(file.read_bytes()[:10])
    [entrant] = entrants(dataset.digest)
    assert (entrant.run_id, entrant.model_digest) == (run_id, whole)
    assert entrant.model_uri == f"models:/{model.model_id}"
