"""How rows look on a terminal, on a page, and in files."""

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from deploy.sql.shown import aligned, as_csv, as_markdown, as_text, cell, write
from recsys.errors import UsageError

TABLE = pa.table({"item": ["mug", None], "price": [2.5, 10.0], "sold": [1, 12_345]})


def test_columns_are_aligned_numbers_to_the_right() -> None:
    assert aligned(TABLE) == [
        "item  price   sold",
        "----  -----  -----",
        "mug     2.5      1",
        "null     10  12345",
    ]


def test_a_page_has_the_same_rows_and_keeps_bars_in_text() -> None:
    assert as_markdown(pa.table({"a": ["x|y"], "n": [1]})) == [
        "| a | n |",
        "| --- | ---: |",
        "| x\\|y | 1 |",
    ]


def test_each_value_is_one_line() -> None:
    assert cell(datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2024-01-02 03:04:05"
    assert cell(date(2024, 1, 2)) == "2024-01-02"
    assert cell(["a", None]) == "[a, null]"
    assert cell([("a", 1.0), ("b", None)]) == "{a: 1, b: null}"
    assert cell("two\nlines") == "two lines"
    assert cell("x" * 100) == "x" * 59 + "…"
    assert cell(0.1 + 0.2) == "0.3"
    assert cell(1 / 3) == "0.3333333333"


@pytest.mark.parametrize("amount", ["12345678912.34", "99999999.99", "-123456789012345", "0.05"])
def test_amounts_are_shown_in_full(amount: str) -> None:
    assert cell(float(amount)) == amount
    assert cell(float("nan")) == "nan"
    assert cell(1.5e300) == "1.5e+300"


def test_that_there_are_more_rows_is_said(spark: SparkSession) -> None:
    assert as_text(spark.range(3), 3).endswith("\n 2\n(3 rows)")
    assert as_text(spark.range(1), 3).endswith("(1 row)")
    assert as_text(spark.range(4), 3).splitlines()[-2:] == [
        " 2",
        "(the first 3 rows; --rows shows more, --format csv or parquet writes all)",
    ]


def test_columns_of_one_name_are_shown_both(spark: SparkSession) -> None:
    assert as_text(spark.sql("SELECT 1 AS a, 2 AS a"), 5).splitlines()[2] == "1  2"


def test_csv_keeps_leading_zeros_and_writes_arrays_as_json(
    spark: SparkSession, tmp_path: Path
) -> None:
    frame = spark.sql("SELECT '0012' AS id, array('a', 'b') AS because, 1.5D AS score")
    assert as_csv(frame).decode() == '"id","because","score"\n"0012","[""a"",""b""]",1.5\n'
    assert write(frame, "csv", tmp_path / "new" / "rows.csv") == 1
    types = pyarrow.csv.ConvertOptions(column_types={"id": pa.string()})
    back = pyarrow.csv.read_csv(tmp_path / "new" / "rows.csv", convert_options=types)
    assert back["id"].to_pylist() == ["0012"]


def test_csv_has_variants_as_json_and_no_form_for_bytes(spark: SparkSession) -> None:
    variant = spark.sql("""SELECT parse_json('{"a": 1}') AS x""")
    assert as_csv(variant).decode() == '"x"\n"{""a"":1}"\n'
    with pytest.raises(UsageError, match=r"no form for the bytes of x: cast .* as hex\(x\)"):
        as_csv(spark.sql("SELECT X'00ff' AS x"))


def test_parquet_keeps_the_types(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.sql("SELECT '0012' AS id, array('a') AS because, TIMESTAMP '2024-01-02 03:04:05'")
    assert write(frame, "parquet", tmp_path / "rows.parquet") == 1
    back = pq.read_table(tmp_path / "rows.parquet")
    assert back.to_pylist()[0]["because"] == ["a"]
    assert back.column(2).to_pylist() == [datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)]
