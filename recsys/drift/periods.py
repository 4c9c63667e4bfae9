"""What the interactions before and after a day look like, in numbers small enough for a plot."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.facts import EPOCH

Counts = NDArray[np.int64]
# A year of whole weeks, so that weekdays and most of the seasons weigh alike.
REFERENCE_DAYS = 364
# The most bought items, each by itself; all others are one more.
TOP_ITEMS = 50
# Amounts are counted by powers of two, from 2⁻⁴ to 2¹³.
LEAST, MOST = -4, 13
AMOUNTS = ("unit_price", "quantity", "basket_lines", "basket_value")
AFTER = "after"


@dataclass(frozen=True)
class Period:
    """The interactions of some days.

    Attributes:
        first: its first day.
        lines: int64 [days], interactions of each day from it on.
        counts: quantity → int64 [bins]; `AMOUNTS` by powers of two, `hour` by hours in UTC, `item`
            by the most bought items and the rest.
    """

    first: date
    lines: Counts
    counts: dict[str, Counts]

    @property
    def days(self) -> int:
        """Number of its days."""
        return len(self.lines)

    @property
    def rows(self) -> int:
        """Number of its interactions."""
        return int(self.lines.sum())

    @property
    def weekday(self) -> Counts:
        """Each day's weekday, int64 [days]; 0 is Monday."""
        return (self.first.weekday() + np.arange(self.days)) % 7

    @property
    def weekdays(self) -> Counts:
        """Interactions on Mondays, Tuesdays … Sundays, int64 [7]."""
        return np.bincount(self.weekday, weights=self.lines, minlength=7).astype(np.int64)

    def a_day(self) -> NDArray[np.float64]:
        """Return the interactions a day on each weekday, float64 [7]; NaN where there was none."""
        number = np.bincount(self.weekday, minlength=7)
        return np.where(number > 0, self.weekdays / np.maximum(number, 1), np.nan)


@dataclass(frozen=True)
class Periods:
    """The days before a day, the days from it on, and who and what is new in them.

    Attributes:
        before: what a fit could see, the newest year of it.
        after: what came since.
        past_rows: all interactions before the day.
        top_items: ids that the bins of `item` stand for.
        new_item_rows: interactions after it with items that were never sold before it.
        customers: customers after it.
        new_customers: those of them who never bought before it.
    """

    before: Period
    after: Period
    past_rows: int
    top_items: tuple[str, ...]
    new_item_rows: int
    customers: int
    new_customers: int


def read_periods(interactions: DataFrame, cut: date) -> Periods | None:
    """Describe the interactions on both sides of a day.

    Args:
        interactions: the contract's columns.
        cut: first day that the fit could not see.

    Returns:
        Both periods; None where either has no interactions.
    """
    day = F.to_date(c.TIMESTAMP)
    lines = interactions.withColumns(
        {
            AFTER: day >= F.lit(cut),
            "recent": day >= F.lit(cut - timedelta(days=REFERENCE_DAYS)),
            c.DAY: F.datediff(day, F.lit(EPOCH.date())),
        }
    )
    items = _items(lines)
    if not items["before"].sum() or not items["after"].sum():
        return None
    recent = lines.where("recent")
    parts = [_day_counts(recent), _line_counts(recent), _basket_counts(recent)]
    order = np.lexsort((items["item"], -items["before"]))
    top, rest = order[:TOP_ITEMS], order[TOP_ITEMS:]
    sides = {
        side: np.append(items[side][top], items[side][rest].sum()) for side in ("before", "after")
    }
    new = (items["past"] == 0) & (items["after"] > 0)
    customers, new_customers = _customers(lines)
    number = (cut - EPOCH.date()).days
    return Periods(
        before=_period(parts, sides["before"], number, after=False),
        after=_period(parts, sides["after"], number, after=True),
        past_rows=int(items["past"].sum()),
        top_items=tuple(items["item"][top].tolist()),
        new_item_rows=int(items["after"][new].sum()),
        customers=customers,
        new_customers=new_customers,
    )


def _items(lines: DataFrame) -> dict[str, NDArray[Any]]:
    """Count each item's interactions: in the recent past, in all the past, and since."""
    after = F.col(AFTER)
    counted = lines.groupBy(c.ITEM_ID).agg(
        F.count_if(~after & F.col("recent")).alias("before"),
        F.count_if(~after).alias("past"),
        F.count_if(after).alias("after"),
    )
    table: pa.Table = counted.toArrow()
    found = {name: table[name].to_numpy() for name in ("before", "past", "after")}
    return found | {"item": np.array(table[c.ITEM_ID].to_pylist(), dtype=str)}


def _customers(lines: DataFrame) -> tuple[int, int]:
    """Count the customers since the day, and those of them who are new."""
    known = lines.where(F.col(c.CUSTOMER_ID).isNotNull()).groupBy(c.CUSTOMER_ID)
    bought = known.agg(F.bool_or(AFTER).alias("since"), F.bool_and(AFTER).alias("new"))
    row = bought.agg(F.count_if("since"), F.count_if("new")).collect()[0]
    return int(row[0]), int(row[1])


def _day_counts(lines: DataFrame) -> pa.Table:
    """Count lines by side and day."""
    return lines.groupBy(AFTER, c.DAY).agg(F.count("*").alias("rows")).toArrow()


def _line_counts(lines: DataFrame) -> pa.Table:
    """Count lines by side, hour, price and quantity, all at once."""
    counted = lines.groupBy(
        AFTER,
        F.hour(c.TIMESTAMP).alias("hour"),
        _power(F.col(c.UNIT_PRICE)).alias("unit_price"),
        _power(F.col(c.QUANTITY)).alias("quantity"),
    )
    return counted.agg(F.count("*").alias("rows")).toArrow()


def _basket_counts(lines: DataFrame) -> pa.Table:
    """Count baskets by side, number of lines and value."""
    value = F.sum(F.col(c.QUANTITY) * F.col(c.UNIT_PRICE))
    baskets = lines.groupBy(AFTER, c.BASKET_ID).agg(
        _power(F.count("*")).alias("basket_lines"), _power(value).alias("basket_value")
    )
    counted = baskets.groupBy(AFTER, "basket_lines", "basket_value")
    return counted.agg(F.count("*").alias("rows")).toArrow()


def _power(amount: Column) -> Column:
    """Return the bin of an amount: how often it can be halved."""
    return F.greatest(F.lit(LEAST), F.least(F.lit(MOST), F.floor(F.log2(amount)))).cast("int")


def _period(parts: list[pa.Table], items: Counts, cut: int, after: bool) -> Period:
    """Put one side's counts together; each reaches to the cut, also where no lines do."""
    days, lines, baskets = (_side(part, after) for part in parts)
    first = cut if after else int(days[c.DAY].min())
    end = int(days[c.DAY].max()) + 1 if after else cut
    counts = {"hour": _summed(lines, "hour", 24), "item": items}
    for part, names in ((lines, AMOUNTS[:2]), (baskets, AMOUNTS[2:])):
        counts |= {name: _summed(part, name, MOST - LEAST + 1, LEAST) for name in names}
    return Period(
        first=EPOCH.date() + timedelta(days=first),
        lines=_summed(days, c.DAY, end - first, first),
        counts=counts,
    )


def _side(table: pa.Table, after: bool) -> dict[str, Counts]:
    chosen = table.filter(pa.compute.equal(table[AFTER], after)).drop_columns(AFTER)
    return {name: chosen[name].to_numpy().astype(np.int64) for name in chosen.column_names}


def _summed(part: dict[str, Counts], name: str, bins: int, least: int = 0) -> Counts:
    """Add up the rows of each bin, int64 [bins]."""
    return np.bincount(part[name] - least, weights=part["rows"], minlength=bins).astype(np.int64)
