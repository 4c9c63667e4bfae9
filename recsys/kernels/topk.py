"""Exact top-k, ties broken by a given order: of dense scores, and of factors without all scores.

Of factors: items are tried in falling order of their vectors' length, block by block. By the
Cauchy–Schwarz inequality no later item can score more than |customer| · |longest item left|, so a
customer leaves as soon as that is below the k-th best score found.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# The first block settles most customers where lengths are uneven. Where they are even, nobody
# leaves and the search becomes the plain product, block by block: as each block doubles what was
# seen, about k items a customer pass the k-th best score so far, and only those are sorted.
FIRST_BLOCK = 256
LARGEST_BLOCK = 4096
# Scores are rounded to float32, so one may lie a little above its bound.
SLACK = np.float32(1 + 1e-4)


@dataclass(frozen=True)
class Catalogue:
    """Factors of the items that may be given, in falling order of length.

    Attributes:
        items: int64 [allowed items], the item at each place.
        places: int64 [items], the place of each item, -1 where it is not allowed.
        factors: float32 [allowed items, factors], by place.
        lengths: float32 [allowed items], by place.
    """

    items: Ints
    places: Ints
    factors: Floats
    lengths: Floats

    @classmethod
    def of(cls, factors: Floats, allowed: NDArray[np.bool_] | None = None) -> "Catalogue":
        """Order items by length.

        Args:
            factors: float32 [items, factors].
            allowed: bool [items], the allow-list; None for every item.
        """
        lengths = np.linalg.norm(factors, axis=1).astype(np.float32)
        items = np.argsort(-lengths, kind="stable")
        if allowed is not None:
            items = items[allowed[items]]
        places = np.full(len(factors), -1, dtype=np.int64)
        places[items] = np.arange(len(items))
        return cls(items, places, np.ascontiguousarray(factors[items]), lengths[items])

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield first place and end of each block."""
        start, size = 0, FIRST_BLOCK
        while start < len(self.items):
            stop = min(start + size, len(self.items))
            yield start, stop
            start, size = stop, min(2 * size, LARGEST_BLOCK)


def top_k(scores: Floats, k: int, tie_order: Ints) -> tuple[Ints, Floats]:
    """Find each row's k best items.

    Args:
        scores: float32 [rows, items]; -inf marks an item that may not be given.
        k: at least 1.
        tie_order: [items], the place of each item among equals; lower comes first.

    Returns:
        items int64 [rows, k], best first, -1 where a row has fewer, and their scores, -inf there.
    """
    row, item = _candidates(scores, np.full(len(scores), -np.inf, dtype=np.float32), k)
    return best_of(row, item, scores[row, item], len(scores), k, tie_order)


def pruned_top_k(
    vectors: Floats, catalogue: Catalogue, excluded: sp.csr_matrix, k: int, tie_order: Ints
) -> tuple[Ints, Floats]:
    """Find each customer's k items with the largest dot products, computing as few as it can.

    Args:
        vectors: float32 [customers, factors].
        catalogue: the items' factors.
        excluded: CSR [customers, items]; items with an entry may not be given.
        k: at least 1.
        tie_order: see `top_k`.

    Returns:
        As `top_k`.
    """
    count = len(vectors)
    found = np.full((count, k), -1, dtype=np.int64)
    values = np.full((count, k), -np.inf, dtype=np.float32)
    out_row = np.repeat(np.arange(count), np.diff(excluded.indptr))
    out_place = catalogue.places[excluded.indices]
    by_place = np.argsort(out_place, kind="stable")
    out_row, out_place = out_row[by_place], out_place[by_place]
    reach = np.linalg.norm(vectors, axis=1).astype(np.float32) * SLACK
    local = np.empty(count, dtype=np.int64)
    active = np.arange(count)
    for start, stop in catalogue.blocks():
        active = active[reach[active] * catalogue.lengths[start] >= values[active, -1]]
        if len(active) == 0:
            break
        everyone = len(active) == count
        scores = (vectors if everyone else vectors[active]) @ catalogue.factors[start:stop].T
        local[:] = -1
        local[active] = np.arange(len(active))
        inside = slice(*np.searchsorted(out_place, (start, stop)))
        row = local[out_row[inside]]
        scores[row[row >= 0], out_place[inside][row >= 0] - start] = -np.inf
        row, place = _candidates(scores, values[active, -1], k)
        rows, again = np.unique(row, return_inverse=True)
        item, value = catalogue.items[place + start], scores[row, place]
        touched = active[rows]
        kept = found[touched] >= 0
        old = np.repeat(np.arange(len(rows)), kept.sum(axis=1))
        found[touched], values[touched] = best_of(
            np.concatenate((old, again)),
            np.concatenate((found[touched][kept], item)),
            np.concatenate((values[touched][kept], value)),
            len(rows),
            k,
            tie_order,
        )
    return found, values


def best_of(
    row: Ints, item: Ints, value: Floats, rows: int, k: int, tie_order: Ints
) -> tuple[Ints, Floats]:
    """Sort scored items of several rows and keep k a row.

    Args:
        row: int64 [scored], from 0.
        item: int64 [scored], distinct within a row.
        value: float32 [scored], the scores.
        rows: number of rows.
        k: at least 1.
        tie_order: see `top_k`.

    Returns:
        As `top_k`.
    """
    found = np.full((rows, k), -1, dtype=np.int64)
    values = np.full((rows, k), -np.inf, dtype=np.float32)
    order = np.lexsort((tie_order[item], -value, row))
    row, item, value = row[order], item[order], value[order]
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(rows))[row]
    top = place < k
    found[row[top], place[top]] = item[top]
    values[row[top], place[top]] = value[top]
    return found, values


def _candidates(scores: Floats, least: Floats, k: int) -> tuple[Ints, Ints]:
    """Return the cells that may be among their row's k best, ties at the k-th place included.

    Args:
        scores: float32 [rows, items].
        least: float32 [rows], what a row's k-th best is known to reach.
        k: at least 1.
    """
    items = scores.shape[1]
    open_rows = np.flatnonzero(np.isneginf(least))
    if k < items and len(open_rows):
        least = least.copy()
        least[open_rows] = np.partition(scores[open_rows], items - k, axis=1)[:, items - k]
    may = scores >= least[:, None]
    if np.isneginf(least).any():
        may &= scores > -np.inf
    cells = np.flatnonzero(may)
    row = cells // max(items, 1)
    return row, cells - row * items
