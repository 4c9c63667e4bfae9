"""The view of customers: recency, frequency, monetary value, segment, lifetime value.

Everything is counted back from the end of the interactions, so the same table gives the same rows
on any day.

Scores are quintiles (Hughes, Strategic Database Marketing, 1994). Orders to expect are a breakdown
by initial purchasing level (Goodhardt and Ehrenberg, "Conditional Trend Analysis", Journal of
Marketing Research, 1967): what those who had ordered as often in the period before the last one
ordered in the last one.
"""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from deploy.sql.flow import Flow
from deploy.sql.retail import tables
from recsys import columns as c

PERIOD = 91
QUINTILES = [0.2, 0.4, 0.6, 0.8]
# Exact up to so many customers; beyond, a cut may be off by one customer in so many.
ACCURACY = 10_000
# From so many orders a period on, customers are one level: too few have the same number.
MOST_ORDERS = 7
RECENT = f"orders_last_{PERIOD}_days"


@dataclass(frozen=True)
class Segment:
    """A group of customers.

    Attributes:
        name: of the group.
        rule: a Spark SQL condition; the first that holds decides.
        meaning: in words.
    """

    name: str
    rule: str
    meaning: str


SEGMENTS = (
    Segment(
        "champions",
        "r_score >= 4 AND f_score >= 4 AND m_score >= 4",
        "bought lately, often, and for much",
    ),
    Segment("loyal", "r_score >= 3 AND f_score >= 4", "buy often, and not long ago"),
    Segment("new", "r_score >= 4 AND frequency = 1", "one order, lately"),
    Segment("promising", "r_score >= 3", "bought lately, but not often"),
    Segment("at risk", "f_score >= 3", "bought several times, but not lately"),
    Segment("lost", "TRUE", "bought seldom, and long ago"),
)


def customers(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the customers with what their orders say of them, and the retailer's own columns."""
    retail = tables(spark, flow)
    facts = _facts(_baskets(retail.interactions))
    scored = facts.crossJoin(F.broadcast(_summary(facts))).withColumns(
        {
            "r_score": 5 - _cuts_below("r_cuts", "recency_days"),
            "f_score": 1 + _cuts_below("f_cuts", "frequency"),
            "m_score": 1 + _cuts_below("m_cuts", "monetary"),
        }
    )
    valued = _expected(scored).withColumns(
        {
            "segment": _segment(),
            "expected_sales": F.col("expected_orders") * F.col("average_basket"),
        }
    )
    valued = valued.withColumn("lifetime_value", F.expr("monetary + coalesce(expected_sales, 0)"))
    told = valued.drop("r_cuts", "f_cuts", "m_cuts", "spans", "earlier", "age")
    return told.join(_own(retail.customers, told), c.CUSTOMER_ID, how="left")


def _own(customers: DataFrame, told: DataFrame) -> DataFrame:
    """Return the retailer's own columns; one that is named as ours begins with `own_`."""
    ours = {name.lower() for name in told.columns} - {c.CUSTOMER_ID}
    return customers.select(
        *(
            F.col(f"`{name}`").alias(f"own_{name}" if name.lower() in ours else name)
            for name in customers.columns
        )
    )


def _baskets(interactions: DataFrame) -> DataFrame:
    """Put each order of a known customer into one row: when, how long ago, for how much."""
    end = interactions.agg(F.date_add(F.max(c.TIMESTAMP), 1).alias("as_of"))
    known = interactions.where(F.col(c.CUSTOMER_ID).isNotNull())
    orders = known.groupBy(c.CUSTOMER_ID, c.BASKET_ID).agg(
        F.min(c.TIMESTAMP).alias("bought"),
        F.sum(F.col(c.QUANTITY) * F.col(c.UNIT_PRICE)).alias("sales"),
        F.sum(c.QUANTITY).alias("units"),
    )
    return orders.crossJoin(F.broadcast(end)).withColumn("age", F.datediff("as_of", "bought"))


def _facts(baskets: DataFrame) -> DataFrame:
    """Sum up each customer; `earlier` counts the orders of the period before the last one."""
    age = F.col("age")
    return (
        baskets.groupBy(c.CUSTOMER_ID, "as_of")
        .agg(
            F.min("bought").alias("first_purchase"),
            F.max("bought").alias("last_purchase"),
            F.min(age).alias("recency_days"),
            F.max(age).alias("age"),
            F.count("*").alias("frequency"),
            F.sum("sales").alias("monetary"),
            F.sum("units").alias("units"),
            F.count_if(age <= PERIOD).alias(RECENT),
            F.count_if(age.between(PERIOD + 1, 2 * PERIOD)).alias("earlier"),
        )
        .withColumn("average_basket", F.col("monetary") / F.col("frequency"))
    )


def _summary(facts: DataFrame) -> DataFrame:
    """Return one row: the quintiles' cuts, and whether the interactions span two periods."""
    return facts.agg(
        F.percentile_approx("recency_days", QUINTILES, ACCURACY).alias("r_cuts"),
        F.percentile_approx("frequency", QUINTILES, ACCURACY).alias("f_cuts"),
        F.percentile_approx("monetary", QUINTILES, ACCURACY).alias("m_cuts"),
        (F.max("age") >= 2 * PERIOD).alias("spans"),
    )


def _expected(facts: DataFrame) -> DataFrame:
    """Add the orders to expect: those that the last period's level brought before, in proportion.

    They are null where the interactions span less than two periods, or nobody was at the level.
    """

    def level(orders: str) -> Column:
        return F.least(F.col(orders), F.lit(MOST_ORDERS)).alias("level")

    known = facts.where((F.col("age") > PERIOD) & F.col("spans"))
    levels = known.groupBy(level("earlier")).agg(
        F.avg("earlier").alias("mean"), F.avg(RECENT).alias("next")
    )
    joined = facts.withColumn("level", level(RECENT)).join(F.broadcast(levels), "level", how="left")
    # Only the highest level has customers with different numbers of orders.
    share = F.when(F.col("level") == MOST_ORDERS, F.col(RECENT) / F.col("mean")).otherwise(1.0)
    return joined.withColumn("expected_orders", F.col("next") * share).drop("level", "mean", "next")


def _cuts_below(cuts: str, value: str) -> Column:
    """Count the cuts below a value: none in the lowest fifth, four in the highest."""
    return F.size(F.filter(cuts, lambda cut: cut < F.col(value)))


def _segment() -> Column:
    """Return the first segment whose rule holds."""
    rules = " ".join(f"WHEN {s.rule} THEN '{s.name}'" for s in SEGMENTS)
    return F.expr(f"CASE {rules} END")
