"""Exact top-k, ties broken by a given order: of dense scores, and of factors without all scores.

Where a list may hold only so many items of a group, the best list is the one that takes items in
falling order and skips those whose group is full. What a list skips or drops can never come back
by looking at further items (lists with caps are the independent sets of a matroid; Edmonds 1971),
so items may come block by block here too.

Of factors: items are tried in falling order of their vectors' length, block by block. By the
Cauchy–Schwarz inequality no later item can score more than |customer| · |longest item left|, so a
customer leaves as soon as that is below the k-th best score found.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.kernels.entries import rows_of

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


@dataclass(frozen=True)
class Caps:
    """At most so many items of one group in a list.

    Attributes:
        group: int [items]; -1 for an item that counts in no group.
        most: items of a group, at least 1.
    """

    group: NDArray[np.int32]
    most: int

    def longest(self, allowed: NDArray[np.bool_]) -> int:
        """Return how long a list of allowed items [items] can get."""
        group = self.group[allowed]
        return int((group < 0).sum() + np.minimum(np.bincount(group[group >= 0]), self.most).sum())


def top_k(scores: Floats, k: int, tie_order: Ints, caps: Caps | None = None) -> tuple[Ints, Floats]:
    """Find each row's k best items.

    Args:
        scores: float32 [rows, items]; -inf marks an item that may not be given.
        k: at least 1.
        tie_order: [items], the place of each item among equals; lower comes first.
        caps: how many of a group a list may hold; None for any number.

    Returns:
        items int64 [rows, k], best first, -1 where a row has fewer, and their scores, -inf there.
    """
    empty = _empty(len(scores), k)
    return _improved(*empty, scores, np.arange(scores.shape[1]), tie_order, caps)


def pruned_top_k(
    vectors: Floats,
    catalogue: Catalogue,
    excluded: sp.csr_matrix,
    k: int,
    tie_order: Ints,
    caps: Caps | None = None,
) -> tuple[Ints, Floats]:
    """Find each customer's k items with the largest dot products, computing as few as it can.

    Args:
        vectors: float32 [customers, factors].
        catalogue: the items' factors.
        excluded: CSR [customers, items]; items with an entry may not be given.
        k: at least 1.
        tie_order: see `top_k`.
        caps: see `top_k`.

    Returns:
        As `top_k`.
    """
    count = len(vectors)
    found, values = _empty(count, k)
    out_row = rows_of(excluded)
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
        found[active], values[active] = _improved(
            found[active],
            values[active],
            scores,
            catalogue.items[start:stop],
            tie_order,
            caps,
        )
    return found, values


def with_entries(
    found: Ints,
    values: Floats,
    entries: sp.csr_matrix,
    tie_order: Ints,
    caps: Caps | None = None,
) -> tuple[Ints, Floats]:
    """Take each row's own scored items into its list.

    Args:
        found: int64 [rows, k], lists as `top_k` returns them.
        values: float32 [rows, k], their scores.
        entries: float32 CSR [rows, all items], scores of items that are in no list yet; -inf marks
            an item that may not be given.
        tie_order: see `top_k`.
        caps: see `top_k`.

    Returns:
        As `top_k`.
    """
    from recsys.kernels import topk_rows

    found, values = np.array(found), np.array(values)
    topk_rows.take_in_entries(
        found,
        values,
        np.array(entries.indptr, dtype=np.int64),
        np.array(entries.indices, dtype=np.int64),
        np.array(entries.data, dtype=np.float32),
        *_order(tie_order, caps),
    )
    return found, values


def _empty(rows: int, k: int) -> tuple[Ints, Floats]:
    """Return lists that hold nothing yet."""
    return (
        np.full((rows, k), -1, dtype=np.int64),
        np.full((rows, k), -np.inf, dtype=np.float32),
    )


def _improved(
    found: Ints,
    values: Floats,
    scores: Floats,
    items: Ints,
    tie_order: Ints,
    caps: Caps | None,
) -> tuple[Ints, Floats]:
    """Return lists [rows, k] with further items taken in.

    Args:
        found: the lists so far.
        values: their scores.
        scores: float32 [rows, columns]; -inf marks an item that may not be given.
        items: int64 [columns], the items that were scored.
        tie_order: see `top_k`.
        caps: see `top_k`.
    """
    from recsys.kernels import topk_rows

    found, values = np.array(found), np.array(values)
    topk_rows.take_in(
        found,
        values,
        np.require(scores, dtype=np.float32, requirements=["C", "W"]),
        np.array(items, dtype=np.int64),
        *_order(tie_order, caps),
    )
    return found, values


def _order(tie_order: Ints, caps: Caps | None) -> tuple[Ints, NDArray[np.int32], int]:
    """Return tie order, groups and cap as the compiled loops take them."""
    group = caps.group if caps else np.empty(0)
    return (
        np.require(tie_order, dtype=np.int64, requirements=["C", "W"]),
        np.require(group, dtype=np.int32, requirements=["C", "W"]),
        caps.most if caps else 0,
    )
