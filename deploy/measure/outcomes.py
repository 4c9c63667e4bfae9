"""What each customer of an audience did: before the campaign and in its window.

Intention to treat: everyone in the audience counts by the arm that was drawn, also who bought
nothing and who was given nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from deploy.measure.campaigns import Campaign
from recsys import columns as c
from recsys.errors import DataError
from recsys.hold_out import TREATMENT
from recsys.published import (
    AUDIENCE,
    RECOMMENDATIONS,
    parts_of,
    read_manifest,
    read_part,
    read_published,
    run_of,
)
from recsys.storage import store_of

TREATED, GIVEN, KNOWN, ACTIVE, PURCHASES = "treated", "given", "known", "active", "purchases"
SALES, ORDERS, UNITS, ITEMS = "sales", "orders", "units", "items"
BOUGHT_RECOMMENDED, RECOMMENDED_SALES = "bought_recommended", "recommended_sales"
MEASURES = (SALES, ORDERS, UNITS, ITEMS)
FROM_DAY, PERIOD, WHO, LAST = "from_day", "period", "who", "last"
NOW, BEFORE, EARLIER = "now", "before", "earlier"
SQUARES = "squares"
GUESTS, OTHERS = "guests", "others"
# Sums of doubles depend on their order in the last digits, which Spark does not fix.
DIGITS = 4


@dataclass(frozen=True)
class Periods:
    """The days that count; each starts with its first and ends before its last.

    Attributes:
        start: of the window.
        end: of the window, or of the interactions where they end before it.
        before_start: of the time before.
        before_end: of the time before.
        active_from: who ordered from this day until `before_end` can churn.
    """

    start: date
    end: date
    before_start: date
    before_end: date
    active_from: date

    @classmethod
    def of(cls, campaign: Campaign, days: int, before_days: int, churn_days: int) -> "Periods":
        """Return a campaign's periods where `days` of its window are there."""
        before_end = campaign.before_end
        return cls(
            campaign.start,
            campaign.start + timedelta(days=days),
            before_end - timedelta(days=before_days),
            before_end,
            before_end - timedelta(days=churn_days),
        )


def before(measure: str) -> str:
    """Name the column of a measure in the time before."""
    return f"before_{measure}"


def interactions_end(interactions: DataFrame) -> date:
    """Return the first day after the newest interaction; raises DataError where there is none."""
    return _day(interactions, F.max) + timedelta(days=1)


def interactions_start(interactions: DataFrame) -> date:
    """Return the day of the oldest interaction; raises DataError where there is none."""
    return _day(interactions, F.min)


def _day(interactions: DataFrame, chosen: Callable[[Column], Column]) -> date:
    row = interactions.agg(chosen(F.to_date(c.TIMESTAMP))).first()
    if row is None or row[0] is None:
        raise DataError("There are no interactions: give the folder that `ingest` wrote.")
    day: date = row[0]
    return day


def audience_of(campaign: Campaign, output: str, like: DataFrame) -> DataFrame:
    """Read a campaign's audience: customer_id, arm, items; `like` is of the session to read in.

    Raises:
        DataError: a file is missing, or is not what was published.
    """
    commit, manifest = read_manifest(output, campaign.commit)
    for part in parts_of(manifest, AUDIENCE):
        # Only checked: Spark reads them without the driver.
        read_part(store_of(output), run_of(commit), part, columns=[])
    return read_published(like.sparkSession, output, AUDIENCE, campaign.commit).select(
        c.CUSTOMER_ID, c.ARM, c.ITEMS
    )


def given_in(campaign: Campaign, output: str, like: DataFrame) -> DataFrame:
    """Return what was recommended: customer_id, item_id, from_day; each pair once."""
    spark = like.sparkSession
    lists = None
    for number, day in campaign.lists:
        rows = read_published(spark, output, RECOMMENDATIONS, number).select(
            c.CUSTOMER_ID, c.ITEM_ID, F.lit(day).alias(FROM_DAY)
        )
        lists = rows if lists is None else lists.unionByName(rows)
    if lists is None:
        raise ValueError("a campaign has at least the list of its own commit")
    return lists.groupBy(c.CUSTOMER_ID, c.ITEM_ID).agg(F.min(FROM_DAY).alias(FROM_DAY))


def outcomes(
    interactions: DataFrame, audience: DataFrame, given: DataFrame, periods: Periods
) -> DataFrame:
    """Return one row a customer of the audience.

    Args:
        interactions: the contract's columns.
        audience: see `audience_of`.
        given: see `given_in`.
        periods: the days that count.

    Returns:
        customer_id, treated, given (items in the list), the measures in the window and `before_…`
        (sales: quantity × price; orders: baskets; units; items: different ones), purchases (receipt
        lines before the campaign), known (has any interaction), active (ordered from `active_from`
        until `before_end`), bought_recommended and recommended_sales (of items in the customer's
        list, from the day it was in it).
    """
    day = F.to_date(c.TIMESTAMP)
    period = (
        F.when((day >= periods.start) & (day < periods.end), NOW)
        .when((day >= periods.before_start) & (day < periods.before_end), BEFORE)
        .when(day < periods.before_start, EARLIER)
    )
    bought = (
        interactions.where(F.col(c.CUSTOMER_ID).isNotNull())
        .select("*", day.alias(c.DAY), period.alias(PERIOD))
        .join(given, [c.CUSTOMER_ID, c.ITEM_ID], "left")
    )
    money = F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)
    recommended = F.coalesce(F.col(c.DAY) >= F.col(FROM_DAY), F.lit(False))
    by_period = bought.groupBy(c.CUSTOMER_ID, PERIOD).agg(
        F.round(F.sum(money), DIGITS).alias(SALES),
        F.count_distinct(c.BASKET_ID).alias(ORDERS),
        F.round(F.sum(c.QUANTITY), DIGITS).alias(UNITS),
        F.count_distinct(c.ITEM_ID).alias(ITEMS),
        F.count("*").alias(PURCHASES),
        F.max(c.DAY).alias(LAST),
        F.max(recommended).alias(BOUGHT_RECOMMENDED),
        F.round(F.sum(F.when(recommended, money).otherwise(0.0)), DIGITS).alias(RECOMMENDED_SALES),
    )
    is_now, is_before = F.col(PERIOD) == NOW, F.col(PERIOD) == BEFORE
    earlier = F.coalesce(F.col(PERIOD).isin(BEFORE, EARLIER), F.lit(False))
    active = earlier & (F.col(LAST) >= periods.active_from)
    by_customer = by_period.groupBy(c.CUSTOMER_ID).agg(
        *(F.sum(F.when(is_now, F.col(name))).alias(name) for name in MEASURES),
        *(F.sum(F.when(is_before, F.col(name))).alias(before(name)) for name in MEASURES),
        F.sum(F.when(earlier, F.col(PURCHASES))).alias(PURCHASES),
        F.lit(True).alias(KNOWN),
        F.max(active).alias(ACTIVE),
        F.max(is_now & F.col(BOUGHT_RECOMMENDED)).alias(BOUGHT_RECOMMENDED),
        F.sum(F.when(is_now, F.col(RECOMMENDED_SALES))).alias(RECOMMENDED_SALES),
    )
    flags = (KNOWN, ACTIVE, BOUGHT_RECOMMENDED)
    numbers = (*MEASURES, *map(before, MEASURES), PURCHASES, RECOMMENDED_SALES)
    return (
        audience.withColumnRenamed(c.ITEMS, GIVEN)
        .join(by_customer, c.CUSTOMER_ID, "left")
        .select(
            c.CUSTOMER_ID,
            (F.col(c.ARM) == TREATMENT).alias(TREATED),
            GIVEN,
            *(F.coalesce(F.col(name).cast("double"), F.lit(0.0)).alias(name) for name in numbers),
            *(F.coalesce(F.col(name), F.lit(False)).alias(name) for name in flags),
        )
    )


def daily_sales(interactions: DataFrame, audience: DataFrame, periods: Periods) -> DataFrame:
    """Return arm, day, sales, and by how much the sum of squared totals a customer grew that day.

    With them the mean of what a customer has spent up to a day, and its standard error, are sums.
    """
    day = F.to_date(c.TIMESTAMP)
    money = F.round(F.sum(F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)), DIGITS)
    bought = (
        interactions.where((day >= periods.start) & (day < periods.end))
        .groupBy(c.CUSTOMER_ID, day.alias(c.DAY))
        .agg(money.alias(SALES))
        .join(audience, c.CUSTOMER_ID, "inner")
    )
    so_far = Window.partitionBy(c.CUSTOMER_ID).orderBy(c.DAY)
    so_far = so_far.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    total = F.sum(SALES).over(so_far)
    grown = bought.withColumn(SQUARES, total**2 - (total - F.col(SALES)) ** 2)
    return (
        grown.groupBy(c.ARM, c.DAY)
        .agg(*(F.round(F.sum(name), DIGITS).alias(name) for name in (SALES, SQUARES)))
        .orderBy(c.ARM, c.DAY)
    )


def who_bought(interactions: DataFrame, audience: DataFrame, periods: Periods) -> DataFrame:
    """Return who (audience, guests, others), customers, orders and sales in the window."""
    day = F.to_date(c.TIMESTAMP)
    who = (
        F.when(F.col(c.CUSTOMER_ID).isNull(), GUESTS)
        .when(F.col(c.ARM).isNull(), OTHERS)
        .otherwise(AUDIENCE)
    )
    return (
        interactions.where((day >= periods.start) & (day < periods.end))
        .join(audience, c.CUSTOMER_ID, "left")
        .groupBy(who.alias(WHO))
        .agg(
            F.count_distinct(c.CUSTOMER_ID).alias("customers"),
            F.count_distinct(c.BASKET_ID).alias(ORDERS),
            F.round(F.sum(F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)), DIGITS).alias(SALES),
        )
        .select(WHO, "customers", ORDERS, SALES)
    )
