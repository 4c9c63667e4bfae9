"""The hit table: how each judged customer did, a row a customer and question.

customer_id, question   whose list, and what was asked
history                 distinct items bought before the cut
relevant                items bought in the window that count
bought                  ids of those that the history knows
recommended             ids of the list, best first
hits                    places in the list, from 1, that were bought
source_model, …         places filled by each source
ndcg_at_10, …           metrics of this list, a column each

Every run logs its tables. All means, intervals, segments and comparisons are computed from them,
so two runs are compared without loading either model.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns as c
from recsys.errors import DataError
from recsys.strategy import Seen

# Two questions are asked of every recommender (see `recsys.evaluation`).
QUESTIONS: dict[str, Seen] = {"discover": "exclude", "replenish": "allow"}
# A third is asked where a run is judged under a strategy's own rule on bought items.
CAMPAIGN = "campaign"
KS = (5, 10, 20)
# Lists of this length decide and are described; the others show how results depend on it.
K = 10
QUESTION, HISTORY, RELEVANT = "question", "history", "relevant"
BOUGHT, RECOMMENDED, HITS = "bought", "recommended", "hits"
SOURCE_PREFIX = "source_"


def metric_name(question: str, name: str) -> str:
    """Return a metric's name with its question; discover is the one asked by default."""
    return name if question == "discover" else f"{question}/{name}"


def of_question(table: pa.Table, question: str) -> pa.Table:
    """Return one question's rows, ordered by customer.

    Raises:
        DataError: nobody was judged on it.
    """
    rows = table.filter(pc.equal(table[QUESTION], question))
    if len(rows) == 0:
        raise DataError(f"No customer was judged on {question!r}: choose another question.")
    return rows.sort_by(c.CUSTOMER_ID).combine_chunks()


def metric_names(table: pa.Table | pa.Schema) -> list[str]:
    """Return the names of the metrics' columns."""
    names = table.column_names if isinstance(table, pa.Table) else table.names
    return [name for name in names if "_at_" in name]


def values(rows: pa.Table, metrics: Sequence[str]) -> NDArray[np.float64]:
    """Return metrics as float64 [customers, metrics].

    Raises:
        DataError: the table lacks one, or it is not a number for some customers.
    """
    for name in metrics:
        if name not in rows.column_names:
            known = ", ".join(metric_names(rows))
            raise DataError(f"No run logged {name!r} a customer: choose one of {known}.")
    found = np.column_stack([rows[name].to_numpy() for name in metrics])
    if not np.isfinite(found).all():
        wrong = [n for n, column in zip(metrics, found.T, strict=True) if np.isnan(column).any()]
        raise DataError(
            f"{', '.join(wrong)} is not a number for some customers: train the runs again."
        )
    return found


def lists(rows: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], pa.Array]:
    """Return a column of lists as one row an element: customer's row, place from 0, value."""
    column = rows[name].combine_chunks()
    lengths = pc.list_value_length(column).to_numpy().astype(np.int64)
    customer = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(customer)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return customer, place, pc.list_flatten(column)


def list_matrices(tables: Sequence[pa.Table], k: int) -> list[sp.csr_matrix]:
    """Return what each customer is recommended, with one numbering of items for all tables.

    Args:
        tables: rows of one question each.
        k: places that count.

    Returns:
        A float64 CSR [customers, items that any table recommends] of ones a table.
    """
    rows, ids = [], []
    for table in tables:
        customer, place, items = lists(table, RECOMMENDED)
        rows.append(customer[place < k])
        ids.append(items.filter(pa.array(place < k)).cast(pa.string()))
    codes = pa.chunked_array(ids, pa.string()).dictionary_encode()
    width = len(codes.chunk(0).dictionary) if codes.num_chunks else 0
    bounds = np.cumsum([0, *map(len, ids)])
    column = codes.combine_chunks().indices.to_numpy() if width else np.empty(0, dtype=np.int32)
    return [
        sp.csr_matrix((np.ones(len(row)), (row, column[begin:end])), shape=(len(table), width))
        for table, row, begin, end in zip(tables, rows, bounds[:-1], bounds[1:], strict=True)
    ]


def hit_places(rows: pa.Table, k: int) -> NDArray[np.bool_]:
    """Return which of the first k places were bought, bool [customers, k]."""
    found = np.zeros((len(rows), k), dtype=bool)
    customer, _, places = lists(rows, HITS)
    place = places.to_numpy() - 1
    found[customer[place < k], place[place < k]] = True
    return found
