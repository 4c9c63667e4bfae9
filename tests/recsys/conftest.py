"""The small retailer, prepared once."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from tests.recsys.builders import WINDOW_DAYS, Line, retailer, write_interactions

SPLIT = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS)


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
