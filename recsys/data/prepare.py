"""Make a dataset: cut by time, index ids, pack blocks, write tables, compute the digest."""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from pydantic import Field
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.config import Config
from recsys.data.dataset import (
    DESCRIPTION_FILE,
    FORMAT,
    TEST,
    TRAIN,
    VALIDATION,
    Dataset,
    load_dataset,
    window_names,
)
from recsys.data.digest import dataset_digest
from recsys.data.packing import guest_baskets, pack_lines, to_lines, transposed, with_guests
from recsys.data.replace import replaced
from recsys.data.tables import RetailTables
from recsys.errors import DataError
from recsys.kernels.blocks import Blocks, block_size
from recsys.storage import write_atomic

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Split(Config):
    """Number and lengths of the windows at the end of the data."""

    test_days: int = Field(28, ge=1, description="days of each test window")
    validation_days: int = Field(
        28, ge=1, description="days of the validation window, just before the test windows"
    )
    windows: int = Field(
        1, ge=1, description="test windows, one behind the other; the last ends with the data"
    )


@dataclass(frozen=True)
class Cuts:
    """Where the windows lie, in days since 1970-01-01 UTC.

    Attributes:
        first: window → its first day, in the order of time.
        end: the day after the last.
    """

    first: dict[str, int]
    end: int

    @property
    def windows(self) -> tuple[str, ...]:
        """Their names, in the order of time."""
        return tuple(self.first)


def prepare(spark: SparkSession, tables: RetailTables, output: Path, split: Split) -> Dataset:
    """Write a dataset folder and read it back.

    Args:
        spark: the session.
        tables: interactions, items and customers as `ingest` left them.
        output: the folder to write; an older dataset there is replaced once the new one is whole.
        split: number and lengths of the windows.

    Raises:
        UsageError: `output` holds something else, or cannot be written.
        DataError: a window holds nothing to fit on, or nothing to judge by.
    """
    with replaced(output, DESCRIPTION_FILE) as folder:
        _write(spark, tables, find_cuts(tables.interactions, split), split, folder)
    return load_dataset(output)


def find_cuts(interactions: DataFrame, split: Split) -> Cuts:
    """Place the windows at the end of the data; raises DataError where no day is left to train."""
    day = F.unix_date(F.to_date(c.TIMESTAMP))
    bounds = interactions.agg(F.min(day).alias("first"), F.max(day).alias("last")).first()
    if bounds is None or bounds["last"] is None:
        raise DataError("There are no interactions: run ingest on data that has some.")
    start, end = int(bounds["first"]), int(bounds["last"]) + 1
    _, _, *tests = window_names(split.windows)
    first_test = end - split.test_days * split.windows
    validation = first_test - split.validation_days
    if start >= validation:
        raise _too_short(end - start, split)
    starts = {name: first_test + n * split.test_days for n, name in enumerate(tests)}
    return Cuts({TRAIN: start, VALIDATION: validation} | starts, end)


def _too_short(days: int, split: Split) -> DataError:
    """Say that the windows take up all days, and what can be lowered."""
    tests, cure = f"{split.test_days} of test", "validation_days and test_days"
    if split.windows > 1:
        tests = f"{split.windows} test windows of {split.test_days} each (windows={split.windows})"
        cure = "windows, validation_days and test_days"
    return DataError(
        f"The interactions span {days} days, which leaves none to train on before "
        f"{split.validation_days} days of validation and {tests}: "
        f"ingest more history, or lower {cure}."
    )


def with_windows(interactions: DataFrame, cuts: Cuts) -> DataFrame:
    """Add each interaction's day (since 1970-01-01 UTC) and the window that it lies in."""
    window = F.lit(TRAIN)
    for name in cuts.windows[1:]:
        window = F.when(F.col(c.DAY) >= cuts.first[name], name).otherwise(window)
    dated = interactions.withColumn(c.DAY, F.unix_date(F.to_date(c.TIMESTAMP)))
    return dated.select(*c.INTERACTIONS, c.DAY, window.alias(c.WINDOW))


def index_ids(windowed: DataFrame, key: str, index: str, windows: Sequence[str]) -> DataFrame:
    """Index ids by the window that they first appear in, then by id.

    Args:
        windowed: interactions with their windows.
        key: the id's column; rows without one are left out.
        index: name of the number's column.
        windows: their names, in the order of time.

    Returns:
        key, index (int from 0), window; one row an id.
    """
    order = F.array(*map(F.lit, windows))
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
        indexed = index_ids(windowed, key, index, cuts.windows).join(table, key, "left")
        indexed.write.parquet(str(folder / f"all_{name}"))
        ids[name] = spark.read.parquet(str(folder / f"all_{name}"))
        known = ids[name].where(F.col(c.WINDOW) != TEST)
        known.orderBy(index).coalesce(1).write.parquet(str(folder / name))
    _write_windows(windowed, ids, cuts, folder)
    facts = _facts(spark, folder, ids, cuts)
    blocks = _pack_all(spark, folder, facts, cuts)
    parameters = split.model_dump()
    digested = {"format": FORMAT, **parameters}
    description = {
        "format": FORMAT,
        "digest": dataset_digest(spark, folder, (*cuts.windows, *ids), digested),
        "parameters": parameters,
        "facts": facts,
        "blocks": {name: value.to_json() for name, value in blocks.items()},
    }
    for name in ids:
        shutil.rmtree(folder / f"all_{name}")
    write_atomic(folder / DESCRIPTION_FILE, json.dumps(description, indent=2).encode())


def _write_windows(
    windowed: DataFrame, ids: dict[str, DataFrame], cuts: Cuts, folder: Path
) -> None:
    """Write the interactions with their positions, a table a window."""
    indexed = windowed.join(ids["items"].select(c.ITEM_ID, c.ITEM), c.ITEM_ID).join(
        ids["customers"].select(c.CUSTOMER_ID, c.CUSTOMER), c.CUSTOMER_ID, "left"
    )
    for window in cuts.windows:
        part = indexed.where(F.col(c.WINDOW) == window)
        part.select(*c.INTERACTIONS, c.CUSTOMER, c.ITEM, c.DAY).sortWithinPartitions(
            c.CUSTOMER, c.ITEM, *c.INTERACTIONS
        ).write.parquet(str(folder / window))


def _facts(
    spark: SparkSession, folder: Path, ids: dict[str, DataFrame], cuts: Cuts
) -> dict[str, Any]:
    """Count what a reader of a result needs to know about the data."""
    judging = cuts.windows[1:]
    facts: dict[str, Any] = {
        "first_day": cuts.first[TRAIN],
        **{f"{window}_cut_day": cuts.first[window] for window in judging},
        "end_day": cuts.end,
        **{f"{window}_cut": _iso(cuts.first[window]) for window in judging},
        "end": _iso(cuts.end),
    }
    for name, index in (("items", c.ITEM), ("customers", c.CUSTOMER)):
        facts |= _known_facts(ids[name], name, index, cuts)
    facts |= _window_facts(spark, folder, facts, cuts)
    for window in cuts.windows:
        if facts[f"{window}_rows"] == 0:
            raise DataError(f"The {window} window holds no interactions: choose other lengths.")
    for window in judging:
        if facts[f"{window}_known_customers"] == 0:
            raise DataError(
                f"No customer of the {window} window was known before it, so nothing can be "
                f"judged: choose a longer window, or ingest data with customer ids."
            )
    return facts


def _known_facts(ids: DataFrame, name: str, index: str, cuts: Cuts) -> dict[str, int]:
    """Count the ids known by the end of each window but the last, after which nobody asks."""
    count, distinct = F.count("*").alias("count"), F.count_distinct(index).alias("distinct")
    rows = ids.groupBy(c.WINDOW).agg(count, distinct).collect()
    if any(row["count"] > row["distinct"] for row in rows):
        raise DataError(f"The table {name} has an id more than once: keep one row of each id.")
    counted = {row[c.WINDOW]: row["distinct"] for row in rows}
    windows = cuts.windows[:-1]
    known = accumulate(counted.get(window, 0) for window in windows)
    return {f"{window}_{name}": total for window, total in zip(windows, known, strict=True)}


def _window_facts(
    spark: SparkSession, folder: Path, facts: dict[str, Any], cuts: Cuts
) -> dict[str, Any]:
    """Count each window's rows and guests, and what the fit before it cannot know."""
    customers_known, items_known = (_known(facts, name, cuts) for name in ("customers", "items"))
    known = F.col(c.CUSTOMER) < customers_known
    counted = (
        read_windows(spark, folder, cuts.windows)
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
    for window in cuts.windows:
        row = found.get(window, {})
        for name in ("rows", "guest_rows", "known_customers"):
            result[f"{window}_{name}"] = row.get(name, 0)
        if window != TRAIN and row:
            new = row["buyers"] - row["known_customers"]
            result[f"{window}_cold_customer_share"] = _share(new, row["buyers"])
            result[f"{window}_cold_item_share"] = _share(row["cold_item_rows"], row["rows"])
    return result


def _known(facts: dict[str, Any], name: str, cuts: Cuts) -> Column:
    """Return how many ids the fit before a row's window knows; train's own are all known."""
    known = F.lit(2**31 - 1)
    for before, window in pairwise(cuts.windows):
        known = F.when(F.col(c.WINDOW) == window, facts[f"{before}_{name}"]).otherwise(known)
    return known


def read_windows(spark: SparkSession, folder: Path, windows: Iterable[str]) -> DataFrame:
    """Read a dataset's tables of interactions as one, with the window each row lies in."""
    tables = (
        spark.read.parquet(str(folder / window)).withColumn(c.WINDOW, F.lit(window))
        for window in windows
    )
    return reduce(DataFrame.unionByName, tables)


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _iso(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()


def _pack_all(
    spark: SparkSession, folder: Path, facts: dict[str, Any], cuts: Cuts
) -> dict[str, Blocks]:
    """Pack the history by customer and by item, and each window's truth by customer.

    The history reaches to the last cut; a fit before an earlier one leaves later events out.
    """
    *before, _ = cuts.windows
    customers, items = (facts[f"{before[-1]}_{name}"] for name in ("customers", "items"))
    windows = read_windows(spark, folder, cuts.windows)
    history = windows.where(F.col(c.WINDOW) != TEST)
    baskets = guest_baskets(history, customers)
    by_customer = to_lines(with_guests(history, baskets), "customers")
    truth = windows.where((F.col(c.WINDOW) != TRAIN) & (F.col(c.CUSTOMER) < customers))
    truth = to_lines(truth.withColumn("row", F.col(c.CUSTOMER)), c.WINDOW)
    events = sum(facts[f"{window}_rows"] for window in before)
    size = block_size(customers, events)
    sizes = {
        "customers": (customers + baskets.count(), size),
        "items": (items, block_size(items, events)),
        **dict.fromkeys(cuts.windows[1:], (customers, size)),
    }
    pairs = history.where(F.col(c.CUSTOMER).isNotNull()).select(c.CUSTOMER, c.ITEM).distinct()
    facts["density"] = _share(pairs.count(), customers * items)
    lines = by_customer.unionByName(transposed(by_customer)).unionByName(truth)
    return pack_lines(lines, folder / "blocks", sizes)
