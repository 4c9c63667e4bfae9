"""Twenty customers to look at: what they bought, what was recommended, what they bought next."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import columns as c
from recsys.data.dataset import Fold
from recsys.evaluation import Evaluation
from recsys.kernels.blocks import Block
from recsys.scoring import read_ids

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
    rows = pq.read_table(
        evaluation.table,
        columns=[c.CUSTOMER_ID, "question", "history", "recommended", "hits"],
        filters=pc.field("question") == question,
    ).to_pandas()
    rows = rows.sort_values(["history", c.CUSTOMER_ID], kind="stable")
    picked = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, CUSTOMERS).astype(int))]
    names = _item_names(fold)
    items = read_ids(fold.history.tables, "items", c.ITEM_ID, fold.history.items)
    place = _places(fold, list(picked[c.CUSTOMER_ID]))
    table = []
    for row in picked.itertuples():
        index = place[row.customer_id]
        bought = _newest(_block(fold, index), index)
        given = [
            ("✓ " if rank in set(row.hits) else "") + names.get(item, item)
            for rank, item in enumerate(row.recommended[:SHOWN], start=1)
        ]
        table.append(
            {
                "customer": row.customer_id,
                "items bought before": row.history,
                "bought last": BETWEEN.join(names.get(i, i) for i in items[bought[:SHOWN]]),
                "recommended": BETWEEN.join(given),
            }
        )
    return pd.DataFrame(table)


def _item_names(fold: Fold) -> dict[str, str]:
    """Return id → description, the id where there is none."""
    table = pq.read_table(
        Path(fold.history.tables) / "items", columns=[c.ITEM_ID, c.DESCRIPTION]
    ).to_pydict()
    return {i: d or i for i, d in zip(table[c.ITEM_ID], table[c.DESCRIPTION], strict=True)}


def _places(fold: Fold, customers: list[str]) -> dict[str, int]:
    """Return id → row of some customers."""
    wanted = set(customers)
    ids = read_ids(fold.history.tables, "customers", c.CUSTOMER_ID, fold.history.customers)
    return {str(ids[row]): int(row) for row in np.flatnonzero(np.isin(ids, list(wanted)))}


def _block(fold: Fold, row: int) -> Block:
    blocks = fold.history.customer_blocks
    return blocks.read(row // blocks.size).before(fold.history.before)


def _newest(block: Block, row: int) -> np.ndarray:
    """Return a row's distinct items, the last bought first."""
    begin, end = block.indptr[row - block.start], block.indptr[row - block.start + 1]
    order = np.lexsort((block.columns[begin:end], -block.days[begin:end]))
    items = block.columns[begin:end][order]
    return items[np.sort(np.unique(items, return_index=True)[1])]
