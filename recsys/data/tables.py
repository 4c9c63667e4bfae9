"""Read what `ingest` wrote: interactions, items and customers, checked against the contract."""

from collections.abc import Sequence
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NumericType, StringType, TimestampNTZType, TimestampType

from recsys import columns as c
from recsys.data.replace import content_of
from recsys.errors import DataError
from recsys.storage import Place, exists, spark_source

# Column → the type that it is cast to, and what it may be read as. An id that was read as a number
# has lost its leading zeros, so it is refused; a time without a zone is taken for UTC.
TYPES: dict[str, tuple[str, tuple[type[DataType], ...]]] = {
    **dict.fromkeys((c.CUSTOMER_ID, c.ITEM_ID, c.BASKET_ID), ("string", (StringType,))),
    c.TIMESTAMP: ("timestamp", (TimestampType, TimestampNTZType)),
    **dict.fromkeys((c.QUANTITY, c.UNIT_PRICE), ("double", (NumericType,))),
}


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


def read_tables(spark: SparkSession, path: str | Place) -> RetailTables:
    """Read a folder that `ingest` wrote, or an interactions table of your own.

    Args:
        spark: the session.
        path: ingest's output, or a Parquet table with the interactions' columns; tables `items`
            and `customers` are taken from beside it where they exist.

    Raises:
        DataError: there is no such table, or a column is missing or of another type.
    """
    folder = content_of(path)
    table = folder / "interactions" if exists(folder / "interactions") else folder
    interactions = _checked(_read(spark, table), table, c.INTERACTIONS).select(*c.INTERACTIONS)
    return RetailTables(
        interactions=interactions,
        items=_beside(spark, table, "items", interactions, c.ITEM_ID, (c.DESCRIPTION, c.CATEGORY)),
        customers=_beside(spark, table, "customers", interactions, c.CUSTOMER_ID, ()),
    )


def _read(spark: SparkSession, table: Place) -> DataFrame:
    try:
        return spark.read.parquet(spark_source(table))
    except (PySparkException, Py4JJavaError):
        what = "is not a Parquet table" if exists(table) else "does not exist"
        raise DataError(f"{table} {what}: give the folder that `ingest` wrote.") from None


def _checked(found: DataFrame, table: Place, names: Sequence[str]) -> DataFrame:
    """Cast columns to their types; raises DataError where one is missing or a cast would guess."""
    types = {field.name: field.dataType for field in found.schema}
    missing = [name for name in names if name not in types]
    if missing:
        raise DataError(
            f"{table} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}: "
            f"make it with `ingest`, or write a table with the columns {', '.join(names)}."
        )
    wrong = [
        f"{name} as {types[name].simpleString()} (wanted: {TYPES[name][0]})"
        for name in names
        if not isinstance(types[name], TYPES[name][1])
    ]
    if wrong:
        raise DataError(
            f"{table} has {', '.join(wrong)}: make it with `ingest`, or write these columns with "
            "the wanted types, ids as text with their leading zeros."
        )
    return found.withColumns({name: F.col(name).cast(TYPES[name][0]) for name in names})


def _beside(
    spark: SparkSession,
    table: Place,
    name: str,
    interactions: DataFrame,
    key: str,
    wanted: tuple[str, ...],
) -> DataFrame:
    """Read a table beside the interactions, or make one that only knows the ids."""
    beside = table.parent / name
    if table.name == "interactions" and exists(beside):
        found = _checked(_read(spark, beside), beside, (key,))
    else:
        found = interactions.select(key).where(F.col(key).isNotNull()).distinct()
    for column in wanted:
        if column not in found.columns:
            found = found.withColumn(column, F.lit(None).cast("string"))
    return found
