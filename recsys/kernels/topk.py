"""Exact top-k of dense scores, ties broken by a given order."""

import numpy as np
from numpy.typing import NDArray


def top_k(
    scores: NDArray[np.float32], k: int, tie_order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find each row's k best items.

    Args:
        scores: float32 [rows, items]; -inf marks an item that may not be given.
        k: at least 1.
        tie_order: [items], the place of each item among equals; lower comes first.

    Returns:
        items int64 [rows, k], best first, -1 where a row has fewer, and their scores, -inf there.
    """
    rows, items = scores.shape
    found = np.full((rows, k), -1, dtype=np.int64)
    values = np.full((rows, k), -np.inf, dtype=np.float32)
    if rows == 0 or items == 0:
        return found, values
    if k < items:
        threshold = np.partition(scores, items - k, axis=1)[:, items - k, None]
    else:
        threshold = np.full((rows, 1), -np.inf, dtype=np.float32)
    # All that reaches the k-th best score, ties beyond k included; then sort and cut.
    row, item = np.nonzero((scores >= threshold) & (scores > -np.inf))
    value = scores[row, item]
    order = np.lexsort((tie_order[item], -value, row))
    row, item, value = row[order], item[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    top = place < k
    found[row[top], place[top]] = item[top]
    values[row[top], place[top]] = value[top]
    return found, values
