"""Twenty customers to look at: what they bought, what was recommended, what they bought next."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.data.dataset import Fold, History
from recsys.errors import DataError
from recsys.evaluation import Evaluation
from recsys.kernels.blocks import Block
from recsys.scoring import read_ids
from recsys.storage import Place, place_of, read_parquet

CUSTOMERS = 20
SHOWN = 10
BETWEEN = "  ·  "


def sample_customers(evaluation: Evaluation, fold: Fold, question: str) -> pd.DataFrame:
    """Pick customers from the lightest to the heaviest buyer and put their items side by side.

    Args:
        evaluation: of the window.
        fold: the history and truth that were evaluated.
        question: `discover` or `replenish`.

    Returns:
        One row a customer, newest purchases first; a recommendation that was bought is marked ✓.
    """
    rows = hit_table.of_question(read_parquet(evaluation.table), question)
    picked = rows.take(light_to_heavy(rows)).to_pylist()
    names = item_names(fold.history.tables)
    last = bought_last(fold.history, [row[c.CUSTOMER_ID] for row in picked])
    return pd.DataFrame(
        [
            {
                "customer": row[c.CUSTOMER_ID],
                "items bought before": row[hit_table.HISTORY],
                "bought last": BETWEEN.join(names.get(item, item) for item in bought),
                "recommended": BETWEEN.join(
                    ("✓ " if place in row[hit_table.HITS] else "") + names.get(item, item)
                    for place, item in enumerate(row[hit_table.RECOMMENDED][:SHOWN], start=1)
                ),
            }
            for row, bought in zip(picked, last, strict=True)
        ]
    )


def light_to_heavy(rows: pa.Table, count: int = CUSTOMERS) -> NDArray[np.int64]:
    """Pick customers in equal steps from the lightest to the heaviest buyer.

    Args:
        rows: of a hit table, one question, ordered by customer.
        count: how many to pick; fewer where there are fewer.

    Returns:
        int64 [picked], their rows, the lightest buyer first.
    """
    order = np.argsort(rows[hit_table.HISTORY].to_numpy(), kind="stable")
    steps = np.linspace(0, len(order) - 1, count).astype(np.int64)
    return np.asarray(order[np.unique(steps)])


def item_names(tables: str | Place) -> dict[str, str]:
    """Return id → description, the id where there is none.

    Args:
        tables: folder with a table `items`.

    Raises:
        DataError: there is no such table.
    """
    folder = place_of(tables) / "items"
    try:
        table = read_parquet(folder, columns=[c.ITEM_ID, c.DESCRIPTION]).to_pydict()
    except (OSError, pa.ArrowInvalid):
        raise DataError(f"{folder} is no table: give the folder that `ingest` wrote.") from None
    return {
        item: (description or "").strip() or item
        for item, description in zip(table[c.ITEM_ID], table[c.DESCRIPTION], strict=True)
    }


def bought_last(history: History, customers: Sequence[str], count: int = SHOWN) -> list[list[str]]:
    """Return the ids of the distinct items that customers bought last, the newest first.

    Args:
        history: what is known at the cut.
        customers: ids that the history knows.
        count: items a customer at most.
    """
    rows = _rows(history, customers)
    items = read_ids(history.tables, "items", c.ITEM_ID, history.items)
    blocks = history.customer_blocks
    found = []
    for customer in customers:
        row = rows[customer]
        block = blocks.read(row // blocks.size).before(history.before)
        found.append([str(item) for item in items[_newest(block, row)[:count]]])
    return found


def _rows(history: History, customers: Sequence[str]) -> dict[str, int]:
    """Return id → row of some customers."""
    ids = read_ids(history.tables, "customers", c.CUSTOMER_ID, history.customers)
    return {str(ids[row]): int(row) for row in np.flatnonzero(np.isin(ids, list(customers)))}


def _newest(block: Block, row: int) -> NDArray[np.int32]:
    """Return a row's distinct items, the last bought first."""
    begin, end = block.indptr[row - block.start], block.indptr[row - block.start + 1]
    order = np.lexsort((block.columns[begin:end], -block.days[begin:end]))
    items = block.columns[begin:end][order]
    return np.asarray(items[np.sort(np.unique(items, return_index=True)[1])])
