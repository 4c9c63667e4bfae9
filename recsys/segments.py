"""Groups of customers or items in which a recommender is judged by itself.

`activity` groups customers by what they bought before the cut: new, occasional, regular, heavy, a
quarter each as far as ties allow. Any column of the customers table groups customers. A column of
the items table groups purchases: customers are judged by what they bought in the group.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.errors import UsageError
from recsys.metrics.ranking import METRICS
from recsys.storage import Place, fetched, read_parquet

ACTIVITY = "activity"
ACTIVITIES = ("new", "occasional", "regular", "heavy")
UNKNOWN, OTHER = "unknown", "other"
# The largest groups of a column stand by themselves, the rest together.
LABELS = 8
SEGMENTS_HELP = "columns of the customers or items table, by comma, to judge by group"
ID_COLUMNS = {"customers": c.CUSTOMER_ID, "items": c.ITEM_ID}
INTERNAL = {c.CUSTOMER_ID, c.ITEM_ID, c.CUSTOMER, c.ITEM, c.WINDOW, c.DESCRIPTION}


@dataclass(frozen=True)
class Segment:
    """One group.

    Attributes:
        by: `activity`, or the column.
        label: the group's value.
        customers: int [members], rows of the hit table (one question, ordered by customer).
        items: ids of the group's items, None where customers are grouped.
    """

    by: str
    label: str
    customers: NDArray[np.int64]
    items: pa.Array | None = None


def activity(history: NDArray[np.int32]) -> NDArray[np.str_]:
    """Label customers by quarters of the number of items that they bought before.

    Args:
        history: int [customers].
    """
    bounds = np.quantile(history, (0.25, 0.5, 0.75))
    return np.array(ACTIVITIES)[np.searchsorted(bounds, history, side="left")]


def segments(rows: pa.Table, tables: Place, columns: Sequence[str] = ()) -> list[Segment]:
    """Group the rows of a hit table.

    Args:
        rows: one question, ordered by customer.
        tables: folder with the tables `customers` and `items`.
        columns: of the customers or the items table, beside activity.

    Raises:
        UsageError: neither table has such a column.
    """
    labels = activity(rows[hit_table.HISTORY].to_numpy())
    found = [Segment(ACTIVITY, name, np.flatnonzero(labels == name)) for name in ACTIVITIES]
    for column in columns:
        table = _table_with(column, tables)
        ids, values = _labels(tables / table, ID_COLUMNS[table], column)
        found += (_by_customer if table == "customers" else _by_item)(rows, column, ids, values)
    return [segment for segment in found if len(segment.customers)]


def segment_values(rows: pa.Table, segment: Segment, metric: str) -> NDArray[np.float64]:
    """Return a metric of the segment's members, float64 [members].

    Raises:
        UsageError: the segment is one of items, and the metric cannot be cut by item.
    """
    if segment.items is None:
        return np.asarray(hit_table.values(rows, [metric])[segment.customers, 0])
    name, _, k = metric.partition("_at_")
    if name not in METRICS:
        raise UsageError(
            f"{metric} cannot be cut by {segment.by}: choose one of {', '.join(METRICS)}."
        )
    hits = hit_table.hit_places(rows, int(k))
    customer, place, items = hit_table.lists(rows, hit_table.RECOMMENDED)
    inside = np.zeros_like(hits)
    shown = place < int(k)
    inside[customer[shown], place[shown]] = _is_in(items, segment.items)[shown]
    relevant = _bought_in(rows, segment.items)
    members = segment.customers
    return METRICS[name]((hits & inside)[members], relevant[members], int(k))


def _table_with(column: str, tables: Place) -> str:
    known = {
        table: [
            n for n in pq.ParquetDataset(fetched(tables / table)).schema.names if n not in INTERNAL
        ]
        for table in ID_COLUMNS
    }
    for table, names in known.items():
        if column in names:
            return table
    raise UsageError(
        f"segments={column}: no such column; customers have {', '.join(known['customers']) or '-'}"
        f", items have {', '.join(known['items']) or '-'}."
    )


def _labels(table: Place, key: str, column: str) -> tuple[pa.Array, NDArray[np.str_]]:
    """Return ids and their labels, the rarer ones put together."""
    read = read_parquet(table, columns=[key, column]).combine_chunks()
    values = [UNKNOWN if v is None else str(v) for v in read[column].to_pylist()]
    large = {label for label, _ in Counter(values).most_common(LABELS)}
    return read[key].combine_chunks(), np.array([v if v in large else OTHER for v in values])


def _by_customer(
    rows: pa.Table, column: str, ids: pa.Array, values: NDArray[np.str_]
) -> list[Segment]:
    place = pc.index_in(rows[c.CUSTOMER_ID].combine_chunks(), value_set=ids)
    labels = values[place.to_numpy(zero_copy_only=False).astype(np.int64)]
    return [Segment(column, str(n), np.flatnonzero(labels == n)) for n in np.unique(values)]


def _by_item(rows: pa.Table, column: str, ids: pa.Array, values: NDArray[np.str_]) -> list[Segment]:
    found = []
    for name in np.unique(values):
        items = ids.filter(pa.array(values == name))
        found.append(Segment(column, str(name), np.flatnonzero(_bought_in(rows, items)), items))
    return found


def _bought_in(rows: pa.Table, items: pa.Array) -> NDArray[np.int64]:
    """Count each customer's relevant items among some, int [customers]."""
    customer, _, bought = hit_table.lists(rows, hit_table.BOUGHT)
    return np.bincount(customer[_is_in(bought, items)], minlength=len(rows))


def _is_in(ids: pa.Array, items: pa.Array) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = pc.is_in(ids, value_set=items).to_numpy(zero_copy_only=False)
    return inside
