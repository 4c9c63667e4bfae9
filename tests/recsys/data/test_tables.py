"""Reading what ingest wrote, or a table of one's own."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.tables import read_tables
from recsys.errors import DataError
from tests.recsys.builders import Line, write_interactions

LINES = [Line("a", "1", 1), Line(None, "2", 1), Line("a", "1", 2)]


def test_ids_come_from_the_interactions_where_there_are_no_other_tables(
    spark: SparkSession, tmp_path: Path
) -> None:
    tables = read_tables(spark, write_interactions(tmp_path / "lines", LINES))
    assert tables.interactions.columns == list(c.INTERACTIONS)
    items = sorted(tables.items.collect())
    assert [row.asDict() for row in items] == [
        {"item_id": i, "description": None, "category": None} for i in ("1", "2")
    ]
    assert [row.asDict() for row in tables.customers.collect()] == [{"customer_id": "a"}]


def test_tables_beside_the_interactions_are_used(spark: SparkSession, tmp_path: Path) -> None:
    write_interactions(tmp_path / "interactions", LINES)
    described = spark.createDataFrame(
        [("1", "tea", "hot")], "item_id string, description string, x string"
    )
    described.write.parquet(str(tmp_path / "items"))
    tables = read_tables(spark, tmp_path)
    assert [row.asDict() for row in tables.items.collect()] == [
        {"item_id": "1", "description": "tea", "x": "hot", "category": None}
    ]
    assert tables.interactions.count() == 3
    assert tables.customers.count() == 1


def test_a_folder_beside_a_table_of_ones_own_is_not_taken_for_its_items(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_interactions(tmp_path / "mine", LINES)
    (tmp_path / "items").mkdir()
    assert read_tables(spark, tmp_path / "mine").items.count() == 2


def test_further_columns_are_left_out(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.selectExpr("*", "'x' AS row").write.parquet(str(tmp_path / "more"))
    assert read_tables(spark, tmp_path / "more").interactions.columns == list(c.INTERACTIONS)


def test_missing_columns_are_named(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.drop("basket_id", "quantity").write.parquet(str(tmp_path / "less"))
    with pytest.raises(DataError, match="less lacks the columns basket_id, quantity: make"):
        read_tables(spark, tmp_path / "less")


def test_a_path_that_holds_no_table(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a Parquet table: give the folder"):
        read_tables(spark, tmp_path / "nowhere")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "lines.csv").write_text("customer_id,item_id\n")
    with pytest.raises(DataError, match="text is not a Parquet table"):
        read_tables(spark, tmp_path / "text")
