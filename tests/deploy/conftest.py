"""For all tests of this folder: the flow once on a small simulated retailer, and a cloud."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from obstore.store import ObjectStore
from pyspark.sql import SparkSession

from deploy.pipeline import Outcome, PipelineConfig, run_pipeline
from experiments.simulate import run_simulate
from recsys.data.simulate import SimulateConfig
from recsys.storage import store_of
from tests import azurite
from tests.deploy.cloud import Cloud, cloud
from tests.stores import keep_below


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flow")


@pytest.fixture(scope="package")
def outcome(spark: SparkSession, place: Path) -> Iterator[Outcome]:
    """The flow on 300 customers, in an MLflow store of its own."""
    previous = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
            patch.delenv(name, raising=False)
        mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
        keep_below(place)
        run_simulate(SimulateConfig(output=str(place / "raw"), customers=300, items=120, days=200))
        config = PipelineConfig(
            data=str(place / "raw" / "*.csv"),
            mapping="simulated",
            output=str(place / "out"),
            k=5,
        )
        yield run_pipeline(config, spark)
        mlflow.set_tracking_uri(previous)


@pytest.fixture(params=["disk", "azurite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "azurite":
        return azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/table"
    return str(tmp_path / "table")


@pytest.fixture
def store(url: str) -> ObjectStore:
    return store_of(url, create=True)


@pytest.fixture(scope="package")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; making one takes seconds, copying it none."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    mlflow.create_experiment("recsys")
    mlflow.set_tracking_uri(previous)
    return file


@pytest.fixture
def batch(
    emulator: str, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cloud]:
    """A cloud for one test, and an MLflow store that its nodes see."""
    for name in [n for n in os.environ if n.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    previous = mlflow.get_tracking_uri()
    with cloud(emulator, tmp_path, monkeypatch) as found:
        shutil.copy(empty_store, found.disk / "mlflow.db")
        uri = f"sqlite:///{found.disk / 'mlflow.db'}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        yield found
    mlflow.set_tracking_uri(previous)
