"""Guests' baskets are rows behind the customers' rows."""

from pathlib import Path

from pyspark.sql import SparkSession

from recsys.data.guests import with_rows, write_guests

SCHEMA = "customer_id string, item_id string, basket_id string"
ROWS = [
    ("a", "1", "x"),
    ("b", "2", "y"),
    (None, "3", "q"),
    (None, "1", "p"),
    (None, "3", "p"),
    # A receipt's number that a customer's receipt has as well.
    (None, "2", "y"),
]


def test_each_basket_is_a_row_in_the_order_of_its_id(spark: SparkSession, tmp_path: Path) -> None:
    interactions = spark.createDataFrame(ROWS, SCHEMA)
    customers = spark.createDataFrame([("a", 0), ("b", 1)], "customer_id string, customer int")
    guests = write_guests(interactions, 2, tmp_path / "guests")
    assert sorted(map(tuple, guests.collect())) == [("p", 2), ("q", 3), ("y", 4)]
    later = spark.createDataFrame([*ROWS, (None, "1", "later")], SCHEMA)
    found = with_rows(later, customers, guests)
    named = found.select("customer_id", "basket_id", "item_id", "customer", "guest").collect()
    assert sorted(map(tuple, named), key=str) == sorted(
        [
            ("a", "x", "1", 0, None),
            ("b", "y", "2", 1, None),
            (None, "p", "1", None, 2),
            (None, "p", "3", None, 2),
            (None, "q", "3", None, 3),
            (None, "y", "2", None, 4),
            (None, "later", "1", None, None),
        ],
        key=str,
    )


def test_there_need_not_be_any_guests(spark: SparkSession, tmp_path: Path) -> None:
    interactions = spark.createDataFrame(ROWS[:2], SCHEMA)
    customers = spark.createDataFrame([("a", 0), ("b", 1)], "customer_id string, customer int")
    guests = write_guests(interactions, 2, tmp_path / "guests")
    assert guests.count() == 0
    assert with_rows(interactions, customers, guests).where("guest is not null").count() == 0
