"""Pack interactions into blocks: one task a block, all tables of a dataset in one job."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.kernels.blocks import Blocks, pack


def guest_baskets(history: DataFrame, customers: int) -> DataFrame:
    """Give the baskets of guests numbers; a guest's basket is a row behind the customers' rows."""
    baskets = history.where(F.col(c.CUSTOMER_ID).isNull()).select(c.BASKET_ID).distinct()
    number = F.row_number().over(Window.orderBy(c.BASKET_ID)) - 1 + customers
    return baskets.select(c.BASKET_ID, number.alias("guest"))


def with_guests(history: DataFrame, baskets: DataFrame) -> DataFrame:
    """Add the row that an interaction belongs to: the customer's, or the guest basket's."""
    guests = history.where(F.col(c.CUSTOMER_ID).isNull()).join(baskets, c.BASKET_ID)
    known = history.where(F.col(c.CUSTOMER_ID).isNotNull())
    return known.withColumn("row", F.col(c.CUSTOMER)).unionByName(
        guests.withColumn("row", F.col("guest")).drop("guest")
    )


def to_lines(rows: DataFrame, table: str) -> DataFrame:
    """Select what is packed: table, row, column (the item), day, quantity, revenue."""
    name = F.col(table) if table in rows.columns else F.lit(table)
    return rows.select(
        name.alias("table"),
        F.col("row").cast("int").alias("row"),
        F.col(c.ITEM).cast("int").alias("column"),
        F.col(c.DAY).cast("int").alias("day"),
        F.col(c.QUANTITY).alias("quantity"),
        (F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)).alias("revenue"),
    )


def transposed(lines: DataFrame) -> DataFrame:
    """Swap rows and columns: the same lines by item."""
    return lines.select(
        F.lit("items").alias("table"),
        F.col("column").alias("row"),
        F.col("row").alias("column"),
        "day",
        "quantity",
        "revenue",
    )


def pack_lines(
    lines: DataFrame, folder: Path, sizes: dict[str, tuple[int, int]]
) -> dict[str, Blocks]:
    """Pack lines into blocks, one task a block, all tables in one job.

    Args:
        lines: see `to_lines`.
        folder: where the tables' folders of blocks go.
        sizes: table → rows of the whole table, rows a block.
    """
    for name in sizes:
        (folder / name).mkdir(parents=True, exist_ok=True)
    size = F.create_map(*(F.lit(v) for name, (_, size) in sizes.items() for v in (name, size)))
    located = lines.withColumn("block", F.floor(F.col("row") / size[F.col("table")]).cast("int"))
    packed = located.groupBy("table", "block").applyInArrow(
        _packer(str(folder), sizes), "table string, block int, events long"
    )
    events = {(row["table"], row["block"]): row["events"] for row in packed.collect()}
    return {
        name: Blocks(
            str(folder / name),
            rows,
            size,
            tuple(events.get((name, number), 0) for number in range(-(-rows // size))),
        )
        for name, (rows, size) in sizes.items()
    }


def _packer(
    folder: str, sizes: dict[str, tuple[int, int]]
) -> Callable[[tuple[pa.Scalar, ...], pa.Table], pa.Table]:
    """Return the function that packs one block's lines in a task."""

    def pack_block(key: tuple[pa.Scalar, ...], lines: pa.Table) -> pa.Table:
        name, number = key[0].as_py(), int(key[1].as_py())
        rows, size = sizes[name]
        start = number * size
        events = pack(f"{folder}/{name}", number, start, min(rows, start + size), lines)
        return pa.table(
            {
                "table": pa.array([name], pa.string()),
                "block": pa.array([number], pa.int32()),
                "events": pa.array([events], pa.int64()),
            }
        )

    return pack_block
