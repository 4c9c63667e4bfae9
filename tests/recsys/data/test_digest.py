"""The digest of a dataset follows its content and nothing else."""

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.data.dataset import Dataset
from recsys.data.digest import TABLES, dataset_digest
from recsys.data.prepare import prepare
from recsys.data.tables import read_tables
from tests.recsys.builders import Line, write_interactions
from tests.recsys.conftest import SPLIT

PARAMETERS = {"test_days": 28}
ROWS = [("a", "1", 2.0), ("b", None, 1.0), ("b", None, 1.0)]
SCHEMA = "left string, right string, amount double"


def digest(
    spark: SparkSession, folder: Path, rows: list[tuple[object, ...]], schema: str = SCHEMA
) -> str:
    """Digest a dataset whose every table holds the same rows."""
    table = spark.createDataFrame(rows, schema).coalesce(1)
    write_all(table, folder)
    return dataset_digest(spark, folder, PARAMETERS)


def write_all(table: DataFrame, folder: Path) -> None:
    table.write.parquet(str(folder / TABLES[0]))
    for name in TABLES[1:]:
        (folder / name).symlink_to(folder / TABLES[0])


@pytest.fixture(scope="module")
def original(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(spark, tmp_path_factory.mktemp("digest"), ROWS)


def test_order_and_partitions_do_not_matter(
    spark: SparkSession, tmp_path: Path, original: str
) -> None:
    write_all(spark.createDataFrame(ROWS[::-1], SCHEMA).repartition(3), tmp_path)
    assert dataset_digest(spark, tmp_path, PARAMETERS) == original


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "1", 2.5), *ROWS[1:]],
        [("a", "1", 2.0), (None, "b", 1.0), ("b", None, 1.0)],
        [("1", "a", 2.0), *ROWS[1:]],
        ROWS[:2],
        [*ROWS, ROWS[0]],
        [("a", "1", 2.0), ("b", "", 1.0), ("b", None, 1.0)],
    ],
    ids=["another value", "null swapped with value", "values swapped", "a twin less", "a row more",
         "empty instead of null"],
)  # fmt: skip
def test_other_content_gives_another_digest(
    spark: SparkSession, tmp_path: Path, original: str, rows: list[tuple[object, ...]]
) -> None:
    assert digest(spark, tmp_path, rows) != original


def test_other_names_or_parameters_give_another_digest(
    spark: SparkSession, tmp_path: Path, original: str
) -> None:
    renamed = digest(spark, tmp_path, ROWS, "left string, right string, price double")
    assert len({original, renamed, dataset_digest(spark, tmp_path, {"test_days": 7})}) == 3


def test_the_same_interactions_in_another_order_and_layout_are_the_same_dataset(
    spark: SparkSession, dataset: Dataset, retailer_lines: list[Line], tmp_path: Path
) -> None:
    table = write_interactions(tmp_path / "reversed", retailer_lines[::-1])
    spark.read.parquet(str(table)).repartition(5).write.parquet(str(tmp_path / "many"))
    other = prepare(spark, read_tables(spark, tmp_path / "many"), tmp_path / "dataset", SPLIT)
    assert other.digest == dataset.digest
    assert other.facts == dataset.facts
    for name in ("customers", "items", "validation", "test"):
        for file in sorted((dataset.path / "blocks" / name).iterdir()):
            twin = other.path / "blocks" / name / file.name
            assert twin.read_bytes() == file.read_bytes()
