"""The digest of a dataset follows its content and nothing else."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.data.digest import dataset_digest
from recsys.data.prepare import prepare
from recsys.data.tables import read_tables
from tests.recsys.builders import SPLIT, Line, write_interactions

TABLE = "train"
PARAMETERS = {"test_days": 28}
NAMES = ("left", "right", "amount")
TYPES = (pa.string(), pa.string(), pa.float64())
Row = tuple[str | None, str | None, float]
ROWS: list[Row] = [("a", "1", 2.0), ("b", None, 1.0), ("b", None, 1.0)]


def digest(
    spark: SparkSession,
    folder: Path,
    rows: list[Row],
    names: tuple[str, ...] = NAMES,
    files: int = 1,
    parameters: dict[str, int] = PARAMETERS,
) -> str:
    """Digest a dataset of one table, its rows dealt out to some files."""
    (folder / TABLE).mkdir()
    for number in range(files):
        columns = zip(*rows[number::files], strict=True)
        table = pa.table(
            [pa.array(c, t) for c, t in zip(columns, TYPES, strict=True)], names=list(names)
        )
        pq.write_table(table, folder / TABLE / f"part-{number}.parquet")
    return dataset_digest(spark, folder, (TABLE,), parameters)


@pytest.fixture(scope="module")
def original(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest(spark, tmp_path_factory.mktemp("digest"), ROWS)


def test_order_and_partitions_do_not_matter(
    spark: SparkSession, tmp_path: Path, original: str
) -> None:
    assert digest(spark, tmp_path, ROWS[::-1], files=3) == original


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
    spark: SparkSession, tmp_path: Path, original: str, rows: list[Row]
) -> None:
    assert digest(spark, tmp_path, rows) != original


def test_another_column_name_gives_another_digest(
    spark: SparkSession, tmp_path: Path, original: str
) -> None:
    assert digest(spark, tmp_path, ROWS, ("left", "right", "price")) != original


def test_other_parameters_give_another_digest(
    spark: SparkSession, tmp_path: Path, original: str
) -> None:
    assert digest(spark, tmp_path, ROWS, parameters={"test_days": 7}) != original


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
