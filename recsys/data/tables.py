"""Read what `ingest` wrote: interactions, items and customers, checked against the contract."""

from dataclasses import dataclass
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.errors import DataError


@dataclass(frozen=True)
class RetailTables:
    """A retailer's tables (docs/tables.md).

    Attributes:
        interactions: the contract's columns.
        items: item_id, description, category and whatever else the source has.
        customers: customer_id and whatever else the source has.
    """

    interactions: DataFrame
    items: DataFrame
    customers: DataFrame


def read_tables(spark: SparkSession, path: str | Path) -> RetailTables:
    """Read a folder that `ingest` wrote, or an interactions table of your own.

    Args:
        spark: the session.
        path: ingest's output, or a Parquet table with the interactions' columns; tables `items`
            and `customers` are taken from beside it where they exist.

    Raises:
        DataError: there is no such table, or a column is missing.
    """
    folder = Path(path)
    table = folder / "interactions" if (folder / "interactions").exists() else folder
    interactions = _read(spark, table)
    missing = [name for name in c.INTERACTIONS if name not in interactions.columns]
    if missing:
        raise DataError(
            f"{table} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
            "make interactions with `ingest`, or write a table with the columns "
            f"{', '.join(c.INTERACTIONS)}."
        )
    interactions = interactions.select(*c.INTERACTIONS)
    return RetailTables(
        interactions=interactions,
        items=_beside(spark, table, "items", interactions, c.ITEM_ID, (c.DESCRIPTION, c.CATEGORY)),
        customers=_beside(spark, table, "customers", interactions, c.CUSTOMER_ID, ()),
    )


def _read(spark: SparkSession, table: Path) -> DataFrame:
    try:
        return spark.read.parquet(str(table))
    except (PySparkException, Py4JJavaError):
        raise DataError(
            f"{table} is not a Parquet table: give the folder that `ingest` wrote."
        ) from None


def _beside(
    spark: SparkSession,
    table: Path,
    name: str,
    interactions: DataFrame,
    key: str,
    wanted: tuple[str, ...],
) -> DataFrame:
    """Read a table beside the interactions, or make one that only knows the ids."""
    beside = table.parent / name
    if table.name == "interactions" and beside.exists():
        found = _read(spark, beside)
    else:
        found = interactions.select(key).where(F.col(key).isNotNull()).distinct()
    for column in wanted:
        if column not in found.columns:
            found = found.withColumn(column, F.lit(None).cast("string"))
    return found
