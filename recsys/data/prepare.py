"""Make a dataset: cut by time, index ids, pack blocks, write tables, compute the digest."""

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import Field
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.config import Config
from recsys.data.dataset import (
    DESCRIPTION_FILE,
    FORMAT,
    TEST,
    TRAIN,
    VALIDATION,
    WINDOWS,
    Dataset,
    load_dataset,
)
from recsys.data.digest import dataset_digest
from recsys.data.packing import guest_baskets, pack_lines, to_lines, transposed, with_guests
from recsys.data.tables import RetailTables
from recsys.errors import DataError
from recsys.kernels.blocks import Blocks, block_size
from recsys.storage import replace_folder, write_atomic

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Split(Config):
    """Lengths of the two windows at the end of the data, in days."""

    test_days: int = Field(28, ge=1, description="days of the test window, at the end of the data")
    validation_days: int = Field(
        28, ge=1, description="days of the validation window, just before the test window"
    )


@dataclass(frozen=True)
class Cuts:
    """First days (since 1970-01-01 UTC) of the windows, and the day after the last."""

    train: int
    validation: int
    test: int
    end: int


def prepare(spark: SparkSession, tables: RetailTables, output: Path, split: Split) -> Dataset:
    """Write a dataset folder and read it back.

    Args:
        spark: the session.
        tables: interactions, items and customers as `ingest` left them.
        output: the folder to write; an older dataset there is replaced once the new one is whole.
        split: lengths of the windows.

    Raises:
        DataError: a window holds nothing to fit on, or nothing to judge by, or `output` holds
            something else.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file: choose another output.")
    if output.exists() and any(output.iterdir()) and not (output / DESCRIPTION_FILE).exists():
        raise DataError(f"{output} holds files that are no dataset: choose another output.")
    cuts = find_cuts(tables.interactions, split)
    temporary = output.with_name(f".{output.name}.preparing")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _write(spark, tables, cuts, split, temporary)
        load_dataset(temporary)
        replace_folder(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_dataset(output)


def find_cuts(interactions: DataFrame, split: Split) -> Cuts:
    """Place the windows at the end of the data; raises DataError where no day is left to train."""
    day = F.unix_date(F.to_date(c.TIMESTAMP))
    bounds = interactions.agg(F.min(day).alias("first"), F.max(day).alias("last")).first()
    if bounds is None or bounds["last"] is None:
        raise DataError("There are no interactions: run ingest on data that has some.")
    end = int(bounds["last"]) + 1
    test = end - split.test_days
    cuts = Cuts(int(bounds["first"]), test - split.validation_days, test, end)
    if cuts.train >= cuts.validation:
        raise DataError(
            f"The interactions span {end - cuts.train} days, which leaves none to train on before "
            f"{split.validation_days} days of validation and {split.test_days} of test: "
            "ingest more history, or lower validation_days and test_days."
        )
    return cuts


def with_windows(interactions: DataFrame, cuts: Cuts) -> DataFrame:
    """Add each interaction's day (since 1970-01-01 UTC) and the window that it lies in."""
    window = (
        F.when(F.col(c.DAY) < cuts.validation, TRAIN)
        .when(F.col(c.DAY) < cuts.test, VALIDATION)
        .otherwise(TEST)
    )
    dated = interactions.withColumn(c.DAY, F.unix_date(F.to_date(c.TIMESTAMP)))
    return dated.select(*c.INTERACTIONS, c.DAY, window.alias(c.WINDOW))


def index_ids(windowed: DataFrame, key: str, index: str) -> DataFrame:
    """Index ids by the window that they first appear in, then by id.

    Args:
        windowed: interactions with their windows.
        key: the id's column; rows without one are left out.
        index: name of the number's column.

    Returns:
        key, index (int from 0), window; one row an id.
    """
    order = F.array(*map(F.lit, WINDOWS))
    first = (
        windowed.where(F.col(key).isNotNull())
        .groupBy(key)
        .agg(F.min(F.array_position(order, F.col(c.WINDOW))).cast("int").alias("place"))
    )
    # One task numbers the ids. It only streams sorted ids, and the numbers come out the same
    # whatever the number of partitions.
    number = F.row_number().over(Window.orderBy("place", key)) - 1
    return first.select(
        key, number.alias(index), F.element_at(order, F.col("place")).alias(c.WINDOW)
    )


def _write(
    spark: SparkSession, tables: RetailTables, cuts: Cuts, split: Split, folder: Path
) -> None:
    """Write everything that a dataset holds into an empty folder."""
    windowed = with_windows(tables.interactions, cuts)
    ids = {}
    for name, table, key, index in (
        ("items", tables.items, c.ITEM_ID, c.ITEM),
        ("customers", tables.customers, c.CUSTOMER_ID, c.CUSTOMER),
    ):
        indexed_ids = index_ids(windowed, key, index).join(table, key, "left")
        indexed_ids.write.parquet(str(folder / f"all_{name}"))
        ids[name] = spark.read.parquet(str(folder / f"all_{name}"))
        known = ids[name].where(F.col(c.WINDOW) != TEST)
        known.orderBy(index).coalesce(1).write.parquet(str(folder / name))
    indexed = windowed.join(ids["items"].select(c.ITEM_ID, c.ITEM), c.ITEM_ID).join(
        ids["customers"].select(c.CUSTOMER_ID, c.CUSTOMER), c.CUSTOMER_ID, "left"
    )
    for window in WINDOWS:
        part = indexed.where(F.col(c.WINDOW) == window)
        part.select(*c.INTERACTIONS, c.CUSTOMER, c.ITEM, c.DAY).sortWithinPartitions(
            c.CUSTOMER, c.ITEM, *c.INTERACTIONS
        ).write.parquet(str(folder / window))
    facts = _facts(spark, folder, ids, cuts)
    blocks = _pack_all(spark, folder, facts)
    parameters = split.model_dump()
    description = {
        "format": FORMAT,
        "digest": dataset_digest(spark, folder, {"format": FORMAT, **parameters}),
        "parameters": parameters,
        "facts": facts,
        "blocks": {name: value.to_json() for name, value in blocks.items()},
    }
    for name in ids:
        shutil.rmtree(folder / f"all_{name}")
    write_atomic(folder / DESCRIPTION_FILE, json.dumps(description, indent=2).encode())


def _facts(
    spark: SparkSession, folder: Path, ids: dict[str, DataFrame], cuts: Cuts
) -> dict[str, Any]:
    """Count what a reader of a result needs to know about the data."""
    facts: dict[str, Any] = {
        "first_day": cuts.train,
        "validation_cut_day": cuts.validation,
        "test_cut_day": cuts.test,
        "end_day": cuts.end,
        "validation_cut": _iso(cuts.validation),
        "test_cut": _iso(cuts.test),
        "end": _iso(cuts.end),
    }
    for name, index in (("items", c.ITEM), ("customers", c.CUSTOMER)):
        count, distinct = F.count("*").alias("count"), F.count_distinct(index).alias("distinct")
        rows = ids[name].groupBy(c.WINDOW).agg(count, distinct).collect()
        if any(row["count"] > row["distinct"] for row in rows):
            raise DataError(f"The table {name} has an id more than once: keep one row of each id.")
        counted = {row[c.WINDOW]: row["distinct"] for row in rows}
        facts[f"train_{name}"] = counted.get(TRAIN, 0)
        facts[f"validation_{name}"] = facts[f"train_{name}"] + counted.get(VALIDATION, 0)
    facts |= _window_facts(spark, folder, facts)
    for window in WINDOWS:
        if facts[f"{window}_rows"] == 0:
            raise DataError(f"The {window} window holds no interactions: choose other lengths.")
    for window in (VALIDATION, TEST):
        if facts[f"{window}_known_customers"] == 0:
            raise DataError(
                f"No customer of the {window} window was known before it, so nothing can be "
                f"judged: choose a longer window, or ingest data with customer ids."
            )
    return facts


def _window_facts(spark: SparkSession, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Count each window's rows and guests, and what the fit before it cannot know."""
    everything = F.lit(2**31 - 1)
    customers_known, items_known = (
        F.when(F.col(c.WINDOW) == VALIDATION, facts[f"train_{name}"])
        .when(F.col(c.WINDOW) == TEST, facts[f"validation_{name}"])
        .otherwise(everything)
        for name in ("customers", "items")
    )
    known = F.col(c.CUSTOMER) < customers_known
    counted = (
        read_windows(spark, folder)
        .groupBy(c.WINDOW)
        .agg(
            F.count("*").alias("rows"),
            F.count_if(F.col(c.CUSTOMER).isNull()).alias("guest_rows"),
            F.count_distinct(c.CUSTOMER).alias("buyers"),
            F.count_distinct(F.when(known, F.col(c.CUSTOMER))).alias("known_customers"),
            F.count_if(F.col(c.ITEM) >= items_known).alias("cold_item_rows"),
        )
    )
    found = {row[c.WINDOW]: row.asDict() for row in counted.collect()}
    result: dict[str, Any] = {}
    for window in WINDOWS:
        row = found.get(window, {})
        for name in ("rows", "guest_rows", "known_customers"):
            result[f"{window}_{name}"] = row.get(name, 0)
        if window != TRAIN and row:
            new = row["buyers"] - row["known_customers"]
            result[f"{window}_cold_customer_share"] = _share(new, row["buyers"])
            result[f"{window}_cold_item_share"] = _share(row["cold_item_rows"], row["rows"])
    return result


def read_windows(spark: SparkSession, folder: Path) -> DataFrame:
    """Read the three tables of a dataset as one, with the window each row lies in."""
    tables = (
        spark.read.parquet(str(folder / window)).withColumn(c.WINDOW, F.lit(window))
        for window in WINDOWS
    )
    return reduce(DataFrame.unionByName, tables)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _iso(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()


def _pack_all(spark: SparkSession, folder: Path, facts: dict[str, Any]) -> dict[str, Blocks]:
    """Pack the history by customer and by item, and each window's truth by customer."""
    customers, items = facts["validation_customers"], facts["validation_items"]
    windows = read_windows(spark, folder)
    history = windows.where(F.col(c.WINDOW) != TEST)
    baskets = guest_baskets(history, customers)
    by_customer = to_lines(with_guests(history, baskets), "customers")
    truth = windows.where((F.col(c.WINDOW) != TRAIN) & (F.col(c.CUSTOMER) < customers))
    truth = to_lines(truth.withColumn("row", F.col(c.CUSTOMER)), c.WINDOW)
    events = facts["train_rows"] + facts["validation_rows"]
    rows = customers + baskets.count()
    size = block_size(customers, events)
    sizes = {
        "customers": (rows, size),
        "items": (items, block_size(items, events)),
        VALIDATION: (customers, size),
        TEST: (customers, size),
    }
    pairs = history.where(F.col(c.CUSTOMER).isNotNull()).select(c.CUSTOMER, c.ITEM).distinct()
    facts["density"] = _share(pairs.count(), customers * items)
    lines = by_customer.unionByName(transposed(by_customer)).unionByName(truth)
    return pack_lines(lines, folder / "blocks", sizes)
