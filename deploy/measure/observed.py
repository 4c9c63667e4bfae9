"""A campaign's customers as arrays: their outcomes and the groups that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from deploy.measure.campaigns import Campaign
from deploy.measure.outcomes import (
    ORDERS,
    PURCHASES,
    SALES,
    WHO,
    Periods,
    audience_of,
    daily_sales,
    given_in,
    outcomes,
    who_bought,
)
from recsys import columns as c
from recsys.errors import DataError, UsageError
from recsys.segments import ACTIVITY, LABELS, OTHER, UNKNOWN, activity
from recsys.session import scratch_folder
from recsys.storage import read_parquet, spark_path

SEGMENT = "segment_{}"
CUSTOMERS = "customers"


@dataclass(frozen=True)
class Observed:
    """What is known of a campaign's customers, ids left out.

    Attributes:
        table: see `outcomes`, ordered by customer id, with the segments' columns.
        daily: see `daily_sales`; None where no day of the window is there.
        bought: who → customers, orders, sales; see `who_bought`.
    """

    table: pa.Table
    daily: pa.Table | None
    bought: dict[str, dict[str, float]]

    def values(self, name: str) -> NDArray[Any]:
        """Return a column [customers]."""
        return np.asarray(self.table[name].to_numpy())


def observe(
    campaign: Campaign,
    output: str,
    interactions: DataFrame,
    periods: Periods,
    labels: DataFrame | None = None,
) -> Observed:
    """Compute what a campaign's customers did; a table of numbers is all that the driver sees.

    Args:
        campaign: what to follow.
        output: the folder that batch_score publishes to.
        interactions: the newest ones.
        periods: the days that count.
        labels: see `labels_of`; None for no groups but those of activity.
    """
    audience, given = (f(campaign, output, interactions) for f in (audience_of, given_in))
    rows = outcomes(interactions, audience, given, periods)
    if labels is not None:
        rows = rows.join(labels, c.CUSTOMER_ID, "left").fillna(UNKNOWN, labels.columns)
    with scratch_folder(interactions.sparkSession, "measure") as scratch:
        # By way of a file, for no row shall pass through the driver's JVM.
        path = scratch / "outcomes"
        rows.write.parquet(spark_path(path))
        # In one order, for sums of doubles depend on it.
        table = read_parquet(path).sort_by(c.CUSTOMER_ID).drop_columns([c.CUSTOMER_ID])
    if periods.end <= periods.start:
        return Observed(_with_activity(table), None, {})
    bought = {
        row[WHO]: {name: float(row[name] or 0) for name in (CUSTOMERS, ORDERS, SALES)}
        for row in who_bought(interactions, audience, periods).collect()
    }
    daily = daily_sales(interactions, audience, periods).toArrow()
    return Observed(_with_activity(table), daily, bought)


def _with_activity(table: pa.Table) -> pa.Table:
    """Add the quarters of the customers by what they had bought before the campaign."""
    quarters = pa.array(activity(table[PURCHASES].to_numpy()).tolist(), pa.string())
    return table.append_column(SEGMENT.format(ACTIVITY), quarters)


def labels_of(customers: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Return customer_id and `segment_<column>` for columns of the customers table.

    The largest groups of a column stand by themselves, the rest together.

    Raises:
        UsageError: the table has no such column.
        DataError: a customer is in it more than once.
    """
    own = [name for name in customers.columns if name != c.CUSTOMER_ID]
    twice = customers.dropna(subset=c.CUSTOMER_ID).groupBy(c.CUSTOMER_ID).count().where("count > 1")
    if (doubled := twice.orderBy(c.CUSTOMER_ID).first()) is not None:
        raise DataError(
            f"The customers table has customer {doubled[c.CUSTOMER_ID]} {doubled['count']} times: "
            "ingest it with one row a customer."
        )
    labels = []
    for column in columns:
        if column not in own:
            raise UsageError(
                f"segments={column}: no such column; customers have {', '.join(own) or 'none'}."
            )
        value = F.coalesce(F.col(column).cast("string"), F.lit(UNKNOWN)).alias(column)
        counts = customers.select(value).groupBy(column).count()
        rows = counts.orderBy(F.desc("count"), column).limit(LABELS).collect()
        label = F.when(value.isin([row[column] for row in rows]), value).otherwise(OTHER)
        labels.append(label.alias(SEGMENT.format(column)))
    return customers.select(c.CUSTOMER_ID, *labels)
