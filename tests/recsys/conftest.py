"""The small retailer, prepared once with one test window and once with three."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from tests.recsys.builders import (
    ROLLING_CUTS,
    WINDOW_DAYS,
    Line,
    newcomers,
    retailer,
    write_interactions,
)

SPLIT = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS)
ROLLING = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS, windows=3)


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
