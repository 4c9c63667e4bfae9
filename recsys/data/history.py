"""The newest interactions: as a fitted model sees them, and all of them, for a new fit."""

import io
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.cuts import cut_behind_all, with_windows
from recsys.data.dataset import FORMAT, TRAIN, History
from recsys.data.digest import dataset_digest
from recsys.data.facts import known_facts
from recsys.data.guests import GUEST, with_rows, write_guests
from recsys.data.packing import LINES_AT_A_TIME, Target, pack_tables
from recsys.data.prepare import index_ids
from recsys.data.tables import RetailTables
from recsys.errors import ModelError
from recsys.kernels.blocks import block_size
from recsys.storage import Place, read_parquet, spark_path, spark_source, write_file

FEWEST_KNOWN = 0.5


@dataclass(frozen=True)
class NewestHistory:
    """What a fitted model can use of the newest interactions.

    Attributes:
        history: packed; rows are the customers of the interactions, columns the model's items.
        fit_rows: file of int64 [customers], each customer's row in the fit.
        known_share: share of the interactions that concern items which the model knows.
        new_customers: customers that the fit did not know.
    """

    history: History
    fit_rows: Place
    known_share: float
    new_customers: int


@dataclass(frozen=True)
class CompleteHistory:
    """All interactions, for a fit that nothing is kept back from.

    Attributes:
        history: packed; rows are all customers, columns all items.
        digest: SHA-256 over interactions, items and customers; never that of a dataset, whose
            windows can judge.
    """

    history: History
    digest: str


def pack_newest(
    spark: SparkSession,
    retail: RetailTables,
    items: Place,
    customers: Place,
    known_customers: int,
    folder: Place,
) -> NewestHistory:
    """Index and pack interactions with a saved model's ids.

    Args:
        spark: the session.
        retail: interactions, and what is known of the customers.
        items: the model's table of items.
        customers: the model's table of customers.
        known_customers: how many customers the fit knew.
        folder: an empty folder to write to.

    Raises:
        ModelError: the model knows less than half of what was bought: it belongs to other data.
    """
    tables = folder / "tables"
    known_items = spark.read.parquet(spark_source(items)).select(c.ITEM_ID, c.ITEM)
    _index_customers(spark, retail, customers, known_customers, tables / "customers")
    categories = retail.items.select(c.ITEM_ID, c.CATEGORY).dropDuplicates([c.ITEM_ID])
    with_category = known_items.join(categories, c.ITEM_ID, "left")
    with_category.orderBy(c.ITEM).coalesce(1).write.parquet(spark_path(tables / "items"))
    fit_rows = np.array(read_parquet(tables / "customers", columns=["fit_row"])["fit_row"])
    data = io.BytesIO()
    np.save(data, fit_rows.astype(np.int64), allow_pickle=False)
    write_file(folder / "fit_rows.npy", data.getbuffer())
    indexed = retail.interactions.join(known_items, c.ITEM_ID, "left")
    bought = indexed.where(F.col(c.ITEM).isNotNull())
    guests = write_guests(bought, len(fit_rows), folder / "guests")
    rows = with_rows(indexed, spark.read.parquet(spark_source(tables / "customers")), guests)
    seen = _write_rows(rows, folder / "interactions")
    known_share = seen["known"] / max(seen["rows"], 1)
    if known_share < FEWEST_KNOWN:
        raise ModelError(
            f"The model knows only {known_share:.0%} of what was bought in these interactions: "
            "it was trained on other data. Give the interactions of the same retailer, or train "
            "on these."
        )
    count = len(read_parquet(items, columns=[c.ITEM]))
    history = _pack(spark, seen, len(fit_rows), guests.count(), count, folder)
    new = int((fit_rows >= known_customers).sum())
    return NewestHistory(history, folder / "fit_rows.npy", known_share, new)


def pack_complete(spark: SparkSession, retail: RetailTables, folder: Place) -> CompleteHistory:
    """Index and pack all interactions with ids of their own.

    Args:
        spark: the session.
        retail: what `ingest` wrote.
        folder: an empty folder to write to.

    Raises:
        DataError: there are no interactions, an id is listed more than once, or a block is too
            large to pack.
    """
    cuts = cut_behind_all(retail.interactions)
    windowed = with_windows(retail.interactions, cuts)
    ids: dict[str, DataFrame] = {}
    known: dict[str, int] = {}
    for name, table, key, index in (
        ("items", retail.items, c.ITEM_ID, c.ITEM),
        ("customers", retail.customers, c.CUSTOMER_ID, c.CUSTOMER),
    ):
        path = spark_path(folder / "tables" / name)
        indexed = index_ids(windowed, key, index, cuts).join(table, key, "left")
        indexed.orderBy(index).coalesce(1).write.parquet(path)
        ids[name] = spark.read.parquet(spark_source(folder / "tables" / name))
        known |= known_facts(ids[name], name, index, cuts)
    customers, items = known[f"{TRAIN}_customers"], known[f"{TRAIN}_items"]
    guests = write_guests(windowed, customers, folder / "guests")
    rows = with_rows(windowed, ids["customers"], guests).join(
        ids["items"].select(c.ITEM_ID, c.ITEM), c.ITEM_ID
    )
    seen = _write_rows(rows, folder / "interactions")
    history = _pack(spark, seen, customers, guests.count(), items, folder)
    tables = ("interactions", *(f"tables/{name}" for name in ids))
    digested = {"format": FORMAT, "kept_back": "nothing"}
    return CompleteHistory(history, dataset_digest(spark, folder, tables, digested))


def _index_customers(
    spark: SparkSession,
    retail: RetailTables,
    customers: Place,
    known_customers: int,
    target: Place,
) -> None:
    """Give each customer of the interactions a number, by id, and its row in the fit."""
    known = spark.read.parquet(spark_source(customers)).select(
        c.CUSTOMER_ID, F.col(c.CUSTOMER).alias("fit_row")
    )
    named = retail.interactions.where(F.col(c.CUSTOMER_ID).isNotNull())
    found = named.select(c.CUSTOMER_ID).distinct().join(retail.customers, c.CUSTOMER_ID, "left")
    number = F.row_number().over(Window.orderBy(c.CUSTOMER_ID)) - 1
    found.join(known, c.CUSTOMER_ID, "left").select(
        *found.columns,
        number.alias(c.CUSTOMER),
        F.coalesce("fit_row", F.lit(known_customers)).cast("long").alias("fit_row"),
    ).coalesce(1).write.parquet(spark_path(target))


def _write_rows(rows: DataFrame, path: Place) -> dict[str, int]:
    """Write what is packed of the rows with known items; count all on the way."""
    seen = Observation()
    day = F.unix_date(F.to_date(c.TIMESTAMP)).alias(c.DAY)
    rows.select(c.CUSTOMER, GUEST, c.ITEM, day, c.QUANTITY, c.UNIT_PRICE).observe(
        seen,
        F.count(F.lit(1)).alias("rows"),
        F.count(c.ITEM).alias("known"),
        F.count(F.when(F.col(c.CUSTOMER).isNotNull(), F.col(c.ITEM))).alias("known_customers"),
        F.max(c.DAY).alias("last"),
    ).where(F.col(c.ITEM).isNotNull()).write.option("maxRecordsPerFile", LINES_AT_A_TIME).parquet(
        spark_path(path)
    )
    return seen.get


def _pack(
    spark: SparkSession,
    seen: dict[str, int],
    customers: int,
    guests: int,
    items: int,
    folder: Place,
) -> History:
    """Pack the written rows, by customer and by item."""
    sources = (folder / "interactions",)
    size = block_size(customers, seen["known_customers"], guests)
    targets = (
        Target("customers", sources, customers + guests, size),
        Target("items", sources, items, block_size(items, seen["known"]), by_item=True),
    )
    blocks = pack_tables(spark, targets, folder / "blocks")
    return History(
        customer_blocks=blocks["customers"],
        item_blocks=blocks["items"],
        customers=customers,
        all_customers=customers,
        items=items,
        before=seen["last"] + 1,
        tables=str(folder / "tables"),
    )
