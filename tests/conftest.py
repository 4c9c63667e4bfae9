"""Shared fixtures: one Spark session a test session, MLflow state of its own for each test.

And the small retailer, prepared once with one test window and once with three.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from hypothesis import settings
from mlflow import MlflowClient
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.data.prepare import prepare
from recsys.data.tables import read_tables
from recsys.session import spark_session
from recsys.storage import Place, RemotePath, place_of
from tests import azurite
from tests.recsys.builders import (
    ROLLING,
    ROLLING_CUTS,
    SPLIT,
    Line,
    newcomers,
    retailer,
    write_interactions,
)
from tests.stores import keep_below

# The same examples in every run; `pytest --hypothesis-profile random` draws others. Loops are
# compiled at their first call, which takes longer than an example may.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, max_examples=1000)
settings.load_profile("same")

REAL_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "online-retail"


@pytest.fixture(scope="session", autouse=True)
def _releases(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Copies of verified releases stay in the tests' own folder."""
    os.environ["RECSYS_RELEASES"] = str(tmp_path_factory.mktemp("releases"))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = spark_session("tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of a running Azurite."""
    with azurite.running(tmp_path_factory.mktemp("azurite")) as connection:
        yield connection


@pytest.fixture(params=["disk", "azurite"])
def shared(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """A folder that the tasks of several machines could share, and one on this disk."""
    if request.param == "disk":
        return tmp_path / "shared"
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    container = azurite.container(request.getfixturevalue("emulator"), monkeypatch)
    return place_of(f"{container}/shared")


@pytest.fixture
def cloud(
    spark: SparkSession, emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> RemotePath:
    """A folder in Blob storage that the session's tasks reach, and nothing else in common."""
    container = azurite.container(emulator, monkeypatch)
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RECSYS_SCRATCH", f"{container}/scratch")
    for name in ("AZURE_STORAGE_USE_EMULATOR", "AZURITE_BLOB_STORAGE_URL", "RECSYS_CACHE"):
        monkeypatch.setitem(spark.sparkContext.environment, name, os.environ[name])
    return RemotePath(container)


@pytest.fixture(scope="session")
def online_retail() -> Path:
    """The folder of the real retailer's transactions, which the project does not contain."""
    if not REAL_DATA.exists():
        pytest.skip("needs the UCI Online Retail data in ../shared/data/online-retail")
    return REAL_DATA


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables without runs; making them takes seconds, copying them none."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    MlflowClient().search_experiments()
    mlflow.set_tracking_uri(previous)
    return file


@pytest.fixture
def mlflow_store(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty MLflow store; no run or experiment leaks in or out."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name in [n for n in os.environ if n.startswith("MLFLOW_") or n == "RECSYS_LEDGER"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    previous = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    keep_below(tmp_path)
    yield uri
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(previous)


@pytest.fixture(scope="session")
def retailer_lines() -> list[Line]:
    return retailer()


@pytest.fixture(scope="session")
def interactions_path(retailer_lines: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_interactions(tmp_path_factory.mktemp("retailer") / "table", retailer_lines)


@pytest.fixture(scope="session")
def dataset(
    spark: SparkSession, interactions_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    output = tmp_path_factory.mktemp("prepared") / "dataset"
    return prepare(spark, read_tables(spark, interactions_path), output, SPLIT)


@pytest.fixture(scope="session")
def rolling_lines(retailer_lines: list[Line]) -> list[Line]:
    return [*retailer_lines, *newcomers(ROLLING_CUTS)]


@pytest.fixture(scope="session")
def rolling(
    spark: SparkSession, rolling_lines: list[Line], tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    folder = tmp_path_factory.mktemp("rolling")
    table = write_interactions(folder / "lines", rolling_lines)
    return prepare(spark, read_tables(spark, table), folder / "dataset", ROLLING)
