"""Compare two recommenders customer by customer, from the hit tables that their runs logged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.errors import DataError
from recsys.metrics.beyond_accuracy import CATALOGUE_METRICS, catalogue_draws
from recsys.metrics.intervals import Interval, centred_interval, mean_intervals
from recsys.segments import Segment, segment_values

SEED = 21
CATALOGUE_REPLICATES = 500


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion, paired by customer.

    Attributes:
        champion: the champion's value.
        challenger: the challenger's value.
        interval: challenger minus champion with its 95 % bootstrap interval.
        standard_error: of the difference.
        customers: that were judged.
        wins: customers who do better with the challenger; wins, ties and losses are 0 for what
            describes all lists together, such as coverage.
        ties: customers who do alike.
        losses: customers who do worse.
    """

    champion: float
    challenger: float
    interval: Interval
    standard_error: float
    customers: int
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class SegmentDifference:
    """The difference within one segment: `by` names the grouping, `label` the group."""

    by: str
    label: str
    difference: Difference


def paired_rows(
    champion: pa.Table, challenger: pa.Table, question: str
) -> tuple[pa.Table, pa.Table]:
    """Return both tables' rows of a question, row by row the same customers.

    Raises:
        DataError: the tables differ in their customers, or hold none.
    """
    left, right = (hit_table.of_question(table, question) for table in (champion, challenger))
    if not left[c.CUSTOMER_ID].equals(right[c.CUSTOMER_ID]):
        raise DataError(
            "The two runs were judged on different customers: train both on the same dataset."
        )
    return left, right


def paired_differences(
    champion: pa.Table, challenger: pa.Table, metrics: Sequence[str]
) -> dict[str, Difference]:
    """Take the differences of metrics, over paired rows.

    Args:
        champion: rows of one question (see `paired_rows`).
        challenger: the same customers' rows.
        metrics: such as `ndcg_at_10`.

    Raises:
        DataError: a table lacks a metric, or it is not a number for some customers.
    """
    left, right = (hit_table.values(rows, metrics) for rows in (champion, challenger))
    return dict(zip(metrics, differences(left, right), strict=True))


def segment_differences(
    champion: pa.Table, challenger: pa.Table, segments: Sequence[Segment], metric: str
) -> list[SegmentDifference]:
    """Take the difference of a metric within each segment; rows as in `paired_differences`."""
    found = []
    for segment in segments:
        left, right = (segment_values(rows, segment, metric) for rows in (champion, challenger))
        [difference] = differences(left[:, None], right[:, None])
        found.append(SegmentDifference(segment.by, segment.label, difference))
    return found


def catalogue_differences(
    champion: pa.Table, challenger: pa.Table, items: int
) -> dict[str, Difference]:
    """Take the differences of what describes all lists of 10 together: coverage and Gini.

    Args:
        champion: rows of one question (see `paired_rows`).
        challenger: the same customers' rows.
        items: of the catalogue.
    """
    both = hit_table.list_matrices([champion, challenger], hit_table.K)
    counts = [np.asarray(lists.sum(axis=0)).ravel() for lists in both]
    left, right = (catalogue_draws(lists, items, SEED, CATALOGUE_REPLICATES) for lists in both)
    found = {}
    for name, metric in CATALOGUE_METRICS.items():
        before, after = (float(metric(count, items)) for count in counts)
        draws = right[name] - left[name]
        interval = centred_interval(after - before, draws)
        found[f"{name}_at_{hit_table.K}"] = Difference(
            before, after, interval, float(draws.std()), len(champion), 0, 0, 0
        )
    return found


def differences(champion: NDArray[np.float64], challenger: NDArray[np.float64]) -> list[Difference]:
    """Take the paired differences of columns.

    Args:
        champion: float64 [customers, metrics].
        challenger: the same of the challenger, row by row the same customers.
    """
    gained = challenger - champion
    count = len(gained)
    errors = gained.std(axis=0, ddof=min(1, count - 1)) / np.sqrt(count)
    return [
        Difference(
            float(champion[:, column].mean()),
            float(challenger[:, column].mean()),
            interval,
            float(errors[column]),
            count,
            int((gained[:, column] > 0).sum()),
            int((gained[:, column] == 0).sum()),
            int((gained[:, column] < 0).sum()),
        )
        for column, interval in enumerate(mean_intervals(gained, SEED))
    ]
