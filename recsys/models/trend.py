"""Time-decayed purchase counts an item: the trend prior, the popularity baseline, the fallback."""

import numpy as np
from numpy.typing import NDArray

from recsys.data.dataset import History
from recsys.models.base import Floats, decay
from recsys.session import Pool, run_tasks

# An item that nobody bought lately keeps this share of the strongest trend, so that the prior
# orders it but never erases what a model learnt about it.
FLOOR = 1e-3
# A segment with this many (decayed) purchases counts half by itself, half as all customers do.
OWN_PURCHASES = 1000.0


def trend_counts(
    pool: Pool,
    history: History,
    half_life: float,
    segments: NDArray[np.int32] | None = None,
) -> Floats:
    """Count purchases, each weighing 0.5^(age / half_life); guests count too.

    Args:
        pool: where the tasks run.
        history: what is known at the cut.
        half_life: days.
        segments: [customers] each customer's segment from 0, or None for one segment.

    Returns:
        float32 [1 + segments, items]: row 0 over all customers, then one row a segment.
    """
    numbers = history.item_blocks.covering(history.items)
    count = 0 if segments is None else int(segments.max(initial=-1)) + 1

    def count_block(number: int) -> Floats:
        block = history.item_blocks.read(number).before(history.before).take(history.items)
        item = np.repeat(np.arange(block.rows), np.diff(block.indptr))
        weights = decay(block.days, history.before, half_life).astype(np.float64)
        result = np.zeros((1 + count, block.rows))
        result[0] = np.bincount(item, weights, block.rows)
        if segments is not None:
            known = block.columns < len(segments)
            known[known] = segments[block.columns[known]] >= 0
            cell = segments[block.columns[known]] * block.rows + item[known]
            result[1:] = np.bincount(cell, weights[known], count * block.rows).reshape(count, -1)
        return np.asarray(result, dtype=np.float32)

    return np.concatenate(run_tasks(pool, count_block, numbers), axis=1)


def purchase_counts(pool: Pool, history: History) -> NDArray[np.int64]:
    """Count each item's purchase days over all customers and guests, int64 [items]."""
    numbers = history.item_blocks.covering(history.items)
    return np.concatenate(run_tasks(pool, lambda number: block_counts(history, number), numbers))


def block_counts(history: History, number: int) -> NDArray[np.int64]:
    """Count the purchase days of one block's items."""
    block = history.item_blocks.read(number).before(history.before).take(history.items)
    return np.diff(block.indptr).astype(np.int64)


def blended(counts: Floats) -> Floats:
    """Let a segment that bought little lean on all customers.

    Args:
        counts: float32 [1 + segments, items], row 0 over all customers.

    Returns:
        The same, each segment's row with OWN_PURCHASES purchases added as all customers make them.
    """
    everyone = counts[:1] / max(float(counts[0].sum()), 1e-30)
    result = counts + np.float32(OWN_PURCHASES) * everyone
    result[0] = counts[0]
    return np.asarray(result, dtype=np.float32)


def scaled(counts: Floats) -> Floats:
    """Scale counts [segments, items] to FLOOR … 1 a segment."""
    top = np.maximum(counts.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(FLOOR + (1 - FLOOR) * counts / top, dtype=np.float32)
