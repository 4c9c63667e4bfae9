"""Reading what ingest wrote, or a table of one's own."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

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


@pytest.mark.parametrize("name", ["a?b", "x[1]", "x{1}", "x*", "a\\b"])
def test_a_folders_name_is_no_pattern(spark: SparkSession, tmp_path: Path, name: str) -> None:
    write_interactions(tmp_path / name / "interactions", LINES)
    for other in ("a b", "x1", "xy"):
        write_interactions(tmp_path / other / "interactions", LINES)
    assert read_tables(spark, tmp_path / name).interactions.count() == len(LINES)


def test_further_columns_are_left_out(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.selectExpr("*", "'x' AS row").write.parquet(str(tmp_path / "more"))
    assert read_tables(spark, tmp_path / "more").interactions.columns == list(c.INTERACTIONS)


def test_missing_columns_are_named(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.drop("basket_id", "quantity").write.parquet(str(tmp_path / "less"))
    with pytest.raises(DataError, match="less lacks the columns basket_id, quantity: make"):
        read_tables(spark, tmp_path / "less")


def test_every_column_of_another_type_is_named(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.withColumns(
        {
            "item_id": F.lit(7),
            "customer_id": F.lit(7).cast("long"),
            "timestamp": F.lit("2024-01-01"),
            "unit_price": F.lit("2.5"),
        }
    ).write.parquet(str(tmp_path / "typed"))
    with pytest.raises(DataError) as caught:
        read_tables(spark, tmp_path / "typed")
    assert str(caught.value) == (
        f"{tmp_path / 'typed'} has customer_id as bigint (wanted: string), "
        "item_id as int (wanted: string), timestamp as string (wanted: timestamp), "
        "unit_price as string (wanted: double): make it with `ingest`, or write these columns "
        "with the wanted types, ids as text with their leading zeros."
    )


@pytest.mark.parametrize("kind", ["int", "long", "float", "decimal(12,2)"])
def test_amounts_of_any_numeric_type_become_doubles(
    spark: SparkSession, tmp_path: Path, kind: str
) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    amounts = {name: F.lit(3).cast(kind) for name in ("quantity", "unit_price")}
    table.withColumns(amounts).write.parquet(str(tmp_path / "typed"))
    interactions = read_tables(spark, tmp_path / "typed").interactions
    assert {(row.quantity, row.unit_price) for row in interactions.collect()} == {(3.0, 3.0)}
    assert interactions.schema == read_tables(spark, tmp_path / "lines").interactions.schema


def test_a_time_without_a_zone_is_utc(spark: SparkSession, tmp_path: Path) -> None:
    zoned = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    local = zoned.withColumn("timestamp", F.col("timestamp").cast("timestamp_ntz"))
    local.write.parquet(str(tmp_path / "typed"))
    found = read_tables(spark, tmp_path / "typed").interactions
    assert dict(found.dtypes)["timestamp"] == "timestamp"
    expected = read_tables(spark, tmp_path / "lines").interactions
    assert sorted(map(str, found.collect())) == sorted(map(str, expected.collect()))


def test_a_day_is_no_time(spark: SparkSession, tmp_path: Path) -> None:
    table = spark.read.parquet(str(write_interactions(tmp_path / "lines", LINES)))
    table.withColumn("timestamp", F.to_date("timestamp")).write.parquet(str(tmp_path / "typed"))
    with pytest.raises(DataError, match="has timestamp as date .wanted: timestamp."):
        read_tables(spark, tmp_path / "typed")


def test_ids_of_a_table_beside_are_text_too(spark: SparkSession, tmp_path: Path) -> None:
    write_interactions(tmp_path / "interactions", LINES)
    items = spark.createDataFrame(
        [(1, "tea", "3")], "item_id int, description string, quantity string"
    )
    items.write.parquet(str(tmp_path / "items"))
    with pytest.raises(DataError, match="items has item_id as int .wanted: string.: make"):
        read_tables(spark, tmp_path)
    items.withColumn("item_id", F.lit("1")).write.mode("overwrite").parquet(str(tmp_path / "items"))
    [row] = read_tables(spark, tmp_path).items.collect()
    assert (row.item_id, row.quantity) == ("1", "3")


def test_a_path_that_holds_no_table(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: give the folder"):
        read_tables(spark, tmp_path / "nowhere")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "lines.csv").write_text("customer_id,item_id\n")
    with pytest.raises(DataError, match="text is not a Parquet table"):
        read_tables(spark, tmp_path / "text")
