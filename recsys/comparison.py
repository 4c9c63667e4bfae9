"""Compare two recommenders customer by customer, from the tables that their runs logged."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys import columns as c
from recsys.errors import DataError
from recsys.metrics.intervals import Interval, mean_intervals

SEED = 21


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion, paired by customer.

    Attributes:
        interval: mean difference with its 95 % bootstrap interval.
        wins: customers who do better with the challenger.
        ties: customers who do alike.
        losses: customers who do worse.
    """

    interval: Interval
    wins: int
    ties: int
    losses: int


def paired_difference(
    champion: pa.Table, challenger: pa.Table, question: str, metric: str
) -> Difference:
    """Take the difference of a metric over all eligible customers.

    Args:
        champion: table of customers of the champion's run (see `Evaluation.table`).
        challenger: the challenger's.
        question: `discover` or `replenish`.
        metric: such as `ndcg_at_10`.

    Raises:
        DataError: the tables differ in their customers, or lack the metric.
    """
    left, right = (_values(table, question, metric) for table in (champion, challenger))
    if len(left) == 0:
        raise DataError(f"No customer was judged on {question!r}: choose another question.")
    if not left[c.CUSTOMER_ID].equals(right[c.CUSTOMER_ID]):
        raise DataError(
            "The two runs were judged on different customers: train both on the same dataset."
        )
    values = right[metric].to_numpy() - left[metric].to_numpy()
    if not np.isfinite(values).all():
        raise DataError(f"{metric} is not a number for some customers: train the runs again.")
    return Difference(
        mean_intervals(values[:, None], SEED)[0],
        int((values > 0).sum()),
        int((values == 0).sum()),
        int((values < 0).sum()),
    )


def _values(table: pa.Table, question: str, metric: str) -> pa.Table:
    """Return customer_id and the metric of one question, ordered by customer."""
    if metric not in table.column_names:
        known = ", ".join(name for name in table.column_names if "_at_" in name)
        raise DataError(f"No run logged {metric!r} a customer: choose one of {known}.")
    rows = table.filter(pc.equal(table["question"], question))
    return rows.select([c.CUSTOMER_ID, metric]).sort_by(c.CUSTOMER_ID).combine_chunks()
