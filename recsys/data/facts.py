"""What a reader of a result needs to know about a dataset: cuts, counts, shares."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.cuts import Cuts
from recsys.data.dataset import TRAIN
from recsys.errors import DataError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cut_facts(cuts: Cuts) -> dict[str, Any]:
    """Name the days and instants of the cuts."""
    judging = cuts.windows[1:]
    return {
        "first_day": cuts.first[TRAIN],
        **{f"{window}_cut_day": cuts.first[window] for window in judging},
        "end_day": cuts.end,
        **{f"{window}_cut": _iso(cuts.first[window]) for window in judging},
        "end": _iso(cuts.end),
    }


def known_facts(ids: DataFrame, name: str, index: str, cuts: Cuts) -> dict[str, int]:
    """Count the ids known by the end of each window but the last, after which nobody asks."""
    count, distinct = F.count("*").alias("count"), F.count_distinct(index).alias("distinct")
    rows = ids.groupBy(c.WINDOW).agg(count, distinct).collect()
    if any(row["count"] > row["distinct"] for row in rows):
        raise DataError(f"The table {name} has an id more than once: keep one row of each id.")
    counted = {row[c.WINDOW]: row["distinct"] for row in rows}
    windows = cuts.windows[:-1]
    known = accumulate(counted.get(window, 0) for window in windows)
    return {f"{window}_{name}": total for window, total in zip(windows, known, strict=True)}


def window_facts(interactions: DataFrame, known: dict[str, int], cuts: Cuts) -> dict[str, Any]:
    """Count each window's rows and guests, and what the fit before it cannot know.

    Args:
        interactions: columns window, customer, item.
        known: see `known_facts`, of both customers and items.
        cuts: the windows.

    Raises:
        DataError: a window holds no rows, or nobody that the fit before it knows.
    """
    customers_known, items_known = (_known(known, name, cuts) for name in ("customers", "items"))
    # Customer by customer first: counting distinct ones at once would copy every row for it.
    buyers = interactions.groupBy(c.WINDOW, c.CUSTOMER).agg(
        F.count("*").alias("rows"), F.count_if(F.col(c.ITEM) >= items_known).alias("cold_item_rows")
    )
    guest_rows = F.when(F.col(c.CUSTOMER).isNull(), F.col("rows")).otherwise(0)
    counted = buyers.groupBy(c.WINDOW).agg(
        F.sum("rows").alias("rows"),
        F.sum(guest_rows).alias("guest_rows"),
        F.count(c.CUSTOMER).alias("buyers"),
        F.count_if(F.col(c.CUSTOMER) < customers_known).alias("known_customers"),
        F.sum("cold_item_rows").alias("cold_item_rows"),
    )
    found = {row[c.WINDOW]: row.asDict() for row in counted.collect()}
    result: dict[str, Any] = {}
    for window in cuts.windows:
        if window not in found:
            raise DataError(f"The {window} window holds no interactions: choose other lengths.")
        row = found[window]
        for name in ("rows", "guest_rows", "known_customers"):
            result[f"{window}_{name}"] = row[name]
        if window == TRAIN:
            continue
        if row["known_customers"] == 0:
            raise DataError(
                f"No customer of the {window} window was known before it, so nothing can be "
                f"judged: choose a longer window, or ingest data with customer ids."
            )
        new = row["buyers"] - row["known_customers"]
        result[f"{window}_cold_customer_share"] = share(new, row["buyers"])
        result[f"{window}_cold_item_share"] = share(row["cold_item_rows"], row["rows"])
    return result


def _known(known: dict[str, int], name: str, cuts: Cuts) -> Column:
    """Return how many ids the fit before a row's window knows; train's own are all known."""
    count = F.lit(2**31 - 1)
    for before, window in pairwise(cuts.windows):
        count = F.when(F.col(c.WINDOW) == window, known[f"{before}_{name}"]).otherwise(count)
    return count


def share(part: int, whole: int) -> float:
    """Return a part's share of a whole, 0 where there is none."""
    return round(part / whole, 6) if whole else 0.0


def _iso(day: int) -> str:
    return (EPOCH + timedelta(days=day)).isoformat()
