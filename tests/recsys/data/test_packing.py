"""Packing with Spark: rows of guests, both directions, one job for all tables."""

from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from recsys.data.packing import guest_baskets, pack_lines, to_lines, transposed, with_guests
from recsys.kernels.blocks import Blocks

SCHEMA = (
    "customer_id string, customer int, item int, basket_id string, day int, "
    "quantity double, unit_price double"
)
ROWS = [
    ("a", 0, 1, "x", 10, 2.0, 1.5),
    ("a", 0, 1, "y", 10, 1.0, 2.0),
    ("b", 1, 0, "z", 11, 1.0, 4.0),
    (None, None, 2, "q", 12, 3.0, 1.0),
    (None, None, 0, "p", 9, 1.0, 1.0),
    (None, None, 2, "p", 9, 1.0, 1.0),
]


@pytest.fixture(scope="module")
def lines(spark: SparkSession) -> DataFrame:
    rows = spark.createDataFrame(ROWS, SCHEMA)
    return to_lines(with_guests(rows, guest_baskets(rows, 2)), "customers")


def dense(blocks: Blocks, width: int) -> list[list[float]]:
    parts = [block.matrix(block.quantities, width).toarray() for block in blocks]
    return np.concatenate(parts).tolist()


def test_each_basket_of_guests_is_a_row_behind_the_customers_in_basket_order(
    lines: DataFrame,
) -> None:
    found = sorted(
        (r["row"], r["column"], r["day"], r["quantity"], r["revenue"]) for r in lines.collect()
    )
    assert found == [
        (0, 1, 10, 1.0, 2.0),
        (0, 1, 10, 2.0, 3.0),
        (1, 0, 11, 1.0, 4.0),
        (2, 0, 9, 1.0, 1.0),
        (2, 2, 9, 1.0, 1.0),
        (3, 2, 12, 3.0, 3.0),
    ]


def test_tables_are_packed_in_one_go_with_block_sizes_of_their_own(
    lines: DataFrame, tmp_path: Path
) -> None:
    sizes = {"customers": (5, 2), "items": (3, 3)}
    packed = pack_lines(lines.unionByName(transposed(lines)), tmp_path, sizes)
    # Row 4 has no event: its block has no file, and is still read.
    assert packed["customers"].events == (2, 3, 0)
    assert packed["items"].events == (5,)
    by_customer = dense(packed["customers"], 3)
    assert by_customer == [[0, 3, 0], [1, 0, 0], [1, 0, 1], [0, 0, 3], [0, 0, 0]]
    assert dense(packed["items"], 5) == np.transpose(by_customer).tolist()
    block = packed["customers"].read(0)
    assert (block.days.tolist(), block.revenue.tolist()) == ([10, 11], [5.0, 4.0])
