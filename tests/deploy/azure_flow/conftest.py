"""A cloud with a dataset and a released model, and what runs without faults come to."""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from deploy.azure_batch.backend import AzureBatchBackend
from deploy.azure_batch.following import AzureBatchRun
from deploy.batch_score import BatchScoreConfig, run_batch_score
from deploy.pipeline import Outcome
from experiments.train import run_train
from recsys import columns as c
from recsys.models.als import AlsParameters
from recsys.models.popularity import PopularityParameters
from recsys.published import published_table
from recsys.storage import files_below, local_path, place_of, write_file
from registry.compare import CompareConfig, run_compare
from registry.promote import PromoteConfig, run_promote
from tests import azurite, mlflow_server
from tests.deploy.cloud import Cloud, cloud

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ACCOUNT = "canary"
ALS = AlsParameters(factors=8, iterations=24)
K = 5


@dataclass
class Scene:
    """What the tests of this folder share.

    Attributes:
        cloud: the nodes and the storage.
        folder: of MLflow's database and log.
        keys: the secrets that open storage and Batch.
        digest: of the model that ALS comes to.
        rows: that scoring comes to.
    """

    cloud: Cloud
    folder: Path
    keys: tuple[str, str]
    digest: str
    rows: list[dict[str, Any]]

    def url(self, name: str) -> str:
        return f"{self.cloud.storage}/{name}"

    def rows_of(self, name: str) -> list[dict[str, Any]]:
        return _rows(self.url(name))

    def submit(self, entry: str, parameters: dict[str, Any]) -> AzureBatchRun:
        """Submit an entry point to a driver and two workers."""
        experiment = mlflow.get_experiment_by_name("recsys")
        assert experiment is not None
        config = self.cloud.config(pool={"workers": 2}, capacity_minutes=4)
        uri = mlflow.get_tracking_uri()
        return AzureBatchBackend().run(
            str(ROOT), entry, parameters, None, config, uri, experiment.experiment_id
        )


@pytest.fixture(scope="module")
def scene(
    outcome: Outcome,
    place: Path,
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("cloud")
    before = mlflow.get_tracking_uri()
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    with (
        pytest.MonkeyPatch.context() as patch,
        azurite.running(folder / "azurite", ACCOUNT, key) as connection,
        cloud(connection, folder, patch) as found,
    ):
        container = found.storage.removeprefix("az://")
        artifacts = f"wasbs://{container}@{ACCOUNT}.blob.core.windows.net/mlflow"
        with mlflow_server.running(folder / "mlflow.db", artifacts) as uri:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            patch.setenv("RECSYS_LEDGER", f"{found.storage}/ledger")
            mlflow.set_tracking_uri(uri)
            mlflow.set_experiment("recsys")
            digest = _released(place, spark)
            ingested, table = str(place / "out" / "ingested"), str(folder / "table")
            run_batch_score(BatchScoreConfig(interactions=ingested, output=table, k=K), spark)
            for name in ("dataset", "ingested"):
                _upload(place / "out" / name, f"{found.storage}/{name}")
            yield Scene(found, folder, (key, found.service.key), digest, _rows(table))
    mlflow.set_tracking_uri(before)


def _released(place: Path, spark: SparkSession) -> str:
    """Train and release on this machine; returns the digest of ALS's model."""
    dataset = str(place / "out" / "dataset")
    run_train("popularity", dataset, PopularityParameters(), spark)
    als = run_train("als", dataset, ALS, spark)
    compared = run_compare(CompareConfig(dataset=dataset))
    run_promote(PromoteConfig(version=compared.candidate, reviewer="anna"))
    return MlflowClient().get_run(als.run_id).data.tags["recsys.model_digest"]


def _upload(folder: Path, url: str) -> None:
    for file in files_below(folder):
        name = local_path(file).relative_to(folder).as_posix()
        write_file(place_of(url) / name, local_path(file).read_bytes())


def _rows(output: str) -> list[dict[str, Any]]:
    table = published_table(output).drop_columns(["scored_at"])
    order = [(c.CUSTOMER_ID, "ascending"), (c.RANK, "ascending")]
    return list(table.sort_by(order).to_pylist())
