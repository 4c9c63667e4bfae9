"""Make a dataset: cut by time, index ids, write tables, pack blocks, compute the digest."""

import json
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.cuts import Cuts, Split, find_cuts, window_of, with_windows
from recsys.data.dataset import DESCRIPTION_FILE, FORMAT, TEST, Dataset, load_dataset
from recsys.data.digest import dataset_digest
from recsys.data.facts import cut_facts, known_facts, share, window_facts
from recsys.data.guests import GUEST, with_rows, write_guests
from recsys.data.packing import LINES_AT_A_TIME, Target, pack_tables
from recsys.data.replace import replaced
from recsys.data.tables import RetailTables
from recsys.kernels.blocks import Blocks, block_size
from recsys.session import run_tasks
from recsys.storage import Place, move, remove_folder, spark_path, spark_source, write_file

__all__ = ["Split", "prepare"]


def prepare(spark: SparkSession, tables: RetailTables, output: Place, split: Split) -> Dataset:
    """Write a dataset folder and read it back.

    Args:
        spark: the session.
        tables: interactions, items and customers as `ingest` left them.
        output: the folder to write; an older dataset there is replaced once the new one is whole.
        split: number and lengths of the windows.

    Raises:
        UsageError: `output` holds something else, or cannot be written.
        DataError: a window holds nothing to fit on, or nothing to judge by; or a block is too
            large to pack.
    """
    with replaced(output, DESCRIPTION_FILE) as folder:
        _write(spark, tables, find_cuts(tables.interactions, split), split, folder)
    return load_dataset(output)


def _write(
    spark: SparkSession, tables: RetailTables, cuts: Cuts, split: Split, folder: Place
) -> None:
    """Write everything that a dataset holds into an empty folder."""
    scratch = folder / "scratch"
    windowed = with_windows(tables.interactions, cuts)
    facts, ids = cut_facts(cuts), {}
    for name, table, key, index in (
        ("items", tables.items, c.ITEM_ID, c.ITEM),
        ("customers", tables.customers, c.CUSTOMER_ID, c.CUSTOMER),
    ):
        indexed = index_ids(windowed, key, index, cuts).join(table, key, "left")
        indexed.write.parquet(spark_path(scratch / name))
        ids[name] = spark.read.parquet(spark_source(scratch / name))
        facts |= known_facts(ids[name], name, index, cuts)
        known = ids[name].where(F.col(c.WINDOW) != TEST)
        known.orderBy(index).coalesce(1).write.parquet(spark_path(folder / name))
    customers = facts[f"{cuts.windows[-2]}_customers"]
    history = windowed.where(F.col(c.WINDOW) != TEST)
    guests = write_guests(history, customers, scratch / "guests")
    rows = with_rows(windowed, ids["customers"], guests).join(
        ids["items"].select(c.ITEM_ID, c.ITEM), c.ITEM_ID
    )
    facts |= _write_windows(rows, facts, cuts, folder)
    blocks = _pack_all(spark, folder, facts, guests.count(), cuts)
    facts["density"] = _density(spark, blocks["customers"], facts, cuts)
    remove_folder(scratch)
    parameters = split.model_dump()
    digested = {"format": FORMAT, **parameters}
    description = {
        "format": FORMAT,
        "digest": dataset_digest(spark, folder, (*cuts.windows, *ids), digested),
        "parameters": parameters,
        "facts": facts,
        "blocks": {name: value.to_json() for name, value in blocks.items()},
    }
    write_file(folder / DESCRIPTION_FILE, json.dumps(description, indent=2).encode())


def index_ids(windowed: DataFrame, key: str, index: str, cuts: Cuts) -> DataFrame:
    """Index ids by the window that they first appear in, then by id.

    Args:
        windowed: interactions with their days.
        key: the id's column; rows without one are left out.
        index: name of the number's column.
        cuts: the windows.

    Returns:
        key, index (int from 0), window; one row an id.
    """
    first = windowed.where(F.col(key).isNotNull()).groupBy(key).agg(F.min(c.DAY).alias(c.DAY))
    found = first.select(key, window_of(F.col(c.DAY), cuts).alias(c.WINDOW))
    place = F.array_position(F.array(*map(F.lit, cuts.windows)), F.col(c.WINDOW))
    # One task numbers the ids. It only streams sorted ids, and the numbers come out the same
    # whatever the number of partitions.
    number = F.row_number().over(Window.orderBy(place, key)) - 1
    return found.select(key, number.alias(index), c.WINDOW)


def _write_windows(
    rows: DataFrame, known: dict[str, Any], cuts: Cuts, folder: Place
) -> dict[str, Any]:
    """Write the interactions with their positions, a table a window, and count what they hold."""
    together = folder / "windows"
    # Ids of baskets may be used again: what happens in the last window is never a fit's guest.
    guest = F.when(F.col(c.WINDOW) != TEST, F.col(GUEST)).alias(GUEST)
    rows.select(*c.INTERACTIONS, c.CUSTOMER, guest, c.ITEM, c.DAY, c.WINDOW).sortWithinPartitions(
        c.WINDOW, c.CUSTOMER, c.ITEM, *c.INTERACTIONS
    ).write.option("maxRecordsPerFile", LINES_AT_A_TIME).partitionBy(c.WINDOW).parquet(
        spark_path(together)
    )
    facts = window_facts(rows.sparkSession.read.parquet(spark_source(together)), known, cuts)
    for window in cuts.windows:
        move(together / f"{c.WINDOW}={window}", folder / window)
    remove_folder(together)
    return facts


def _pack_all(
    spark: SparkSession, folder: Place, facts: dict[str, Any], guests: int, cuts: Cuts
) -> dict[str, Blocks]:
    """Pack the history by customer and by item, and each window's truth by customer.

    The history reaches to the last cut; a fit before an earlier one leaves later events out.
    """
    *before, _ = cuts.windows
    history = tuple(folder / window for window in before)
    customers, items = (facts[f"{before[-1]}_{name}"] for name in ("customers", "items"))
    events, strangers = (
        sum(facts[f"{window}_{rows}"] for window in before) for rows in ("rows", "guest_rows")
    )
    size = block_size(customers, events - strangers, guests)
    targets = (
        Target("customers", history, customers + guests, size),
        Target("items", history, items, block_size(items, events), by_item=True),
        *(Target(window, (folder / window,), customers, size) for window in cuts.windows[1:]),
    )
    return pack_tables(spark, targets, folder / "blocks")


def _density(spark: SparkSession, blocks: Blocks, facts: dict[str, Any], cuts: Cuts) -> float:
    """Return the share of all pairs of a known customer and item that met before the last cut."""
    customers, items = (facts[f"{cuts.windows[-2]}_{name}"] for name in ("customers", "items"))

    def count_pairs(number: int) -> int:
        block = blocks.read(number).take(customers)
        return int(block.matrix(block.quantities, items).nnz)

    return share(sum(run_tasks(spark, count_pairs, blocks.covering(customers))), customers * items)
