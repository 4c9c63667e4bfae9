"""A share of the customers, for quicker trials; light and heavy buyers keep their shares.

Known customers are ordered by how much they bought and taken in equal steps, so those of whom
little is known are as frequent among the drawn as among all. Guests' baskets are drawn likewise,
items stay all. The blocks are packed anew, beside each other, no row passes the driver.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as c
from recsys.data.dataset import Fold, History
from recsys.kernels.blocks import Block, Blocks, block_size, pack
from recsys.session import Pool, run_tasks
from recsys.storage import Place, make_folder, place_of, read_parquet, write_parquet

Rows = NDArray[np.int64]


def sampled(pool: Pool, fold: Fold, share: float, seed: int, folder: Place) -> Fold:
    """Draw customers and guests' baskets.

    Args:
        pool: where the tasks run.
        fold: of all customers.
        share: of the customers, 0 … 1.
        seed: of the draw.
        folder: to write to; outlives the fold.
    """
    history, random = fold.history, np.random.default_rng(seed)
    bought = _bought(pool, history)
    customers = _in_steps(bought[: history.customers], share, random)
    guests = _in_steps(np.zeros_like(bought[history.all_customers :]), share, random)
    chosen = np.concatenate((customers, guests + history.all_customers))
    _write_tables(history, customers, folder / "tables")
    events = int(share * sum(history.customer_blocks.events))
    size = block_size(len(customers), events, len(guests))
    numbers = np.full(len(bought), -1, dtype=np.int64)
    numbers[chosen] = np.arange(len(chosen))
    items = np.arange(history.item_blocks.rows)
    blocks = partial(_packed, pool)
    small = History(
        customer_blocks=blocks(history.customer_blocks, chosen, None, size, folder / "customers"),
        item_blocks=blocks(
            history.item_blocks, items, numbers, history.item_blocks.size, folder / "items"
        ),
        customers=len(customers),
        all_customers=len(customers),
        items=history.items,
        before=history.before,
        tables=str(folder / "tables"),
    )
    truth = blocks(fold.truth, customers, None, size, folder / "truth")
    return Fold(fold.name, small, truth)


def _bought(pool: Pool, history: History) -> Rows:
    """Count each row's events before the cut, guests' rows too."""
    blocks = history.customer_blocks

    def task(number: int) -> Rows:
        return np.diff(blocks.read(number).before(history.before).indptr)

    return np.concatenate(run_tasks(pool, task, blocks.numbers))


def _in_steps(amounts: NDArray[np.int64], share: float, random: np.random.Generator) -> Rows:
    """Take a share of some rows in equal steps from the smallest to the largest amount."""
    order = np.lexsort((random.random(len(amounts)), amounts))
    count = round(share * len(order))
    steps = (np.arange(count) + random.random()) * (len(order) / max(1, count))
    return np.sort(order[steps.astype(np.int64).clip(0, len(order) - 1)])


def _packed(
    pool: Pool, blocks: Blocks, rows: Rows, numbers: Rows | None, size: int, folder: Place
) -> Blocks:
    """Pack some rows anew.

    Args:
        pool: where the tasks run.
        blocks: of all rows.
        rows: [n] the rows to keep, rising; they become rows 0 … n - 1.
        numbers: [columns] each column's new number, -1 for one that is left out; None where
            columns stay.
        size: rows a block.
        folder: to write to.
    """
    make_folder(folder)
    starts = range(0, len(rows), size)

    def task(number: int) -> int:
        mine = rows[number * size : (number + 1) * size]
        first, last = int(mine[0]) // blocks.size, int(mine[-1]) // blocks.size
        lines = pa.concat_tables(
            [_lines(blocks.read(n), mine, number * size, numbers) for n in range(first, last + 1)]
        )
        if len(lines) == 0:
            return 0
        return pack(str(folder), number, number * size, number * size + len(mine), lines)

    events = run_tasks(pool, task, range(len(starts)))
    return Blocks(str(folder), len(rows), size, tuple(events))


def _lines(block: Block, rows: Rows, start: int, numbers: Rows | None) -> pa.Table:
    """Return the events of a block that are kept, under their new numbers."""
    row = np.repeat(np.arange(block.start, block.start + block.rows), np.diff(block.indptr))
    place = np.searchsorted(rows, row).clip(0, len(rows) - 1)
    kept = rows[place] == row
    column = block.columns.astype(np.int64)
    if numbers is not None:
        column = numbers[column]
        kept &= column >= 0
    values: tuple[NDArray[Any], ...] = (
        *(start + place, column),
        *(block.days, block.quantities, block.revenue),
    )
    names = ("row", "column", "day", "quantity", "revenue")
    return pa.table({name: v[kept] for name, v in zip(names, values, strict=True)})


def _write_tables(history: History, customers: Rows, folder: Place) -> None:
    """Write the tables of the drawn customers and of all items."""
    for name in ("customers", "items"):
        table = read_parquet(place_of(history.tables) / name)
        if name == "customers":
            table = table.take(pa.array(customers))
            place = table.column_names.index(c.CUSTOMER)
            numbers = pa.array(range(len(table)), table.schema.field(place).type)
            table = table.set_column(place, c.CUSTOMER, numbers)
        make_folder(folder / name)
        write_parquet(folder / name / "part-0.parquet", table)
