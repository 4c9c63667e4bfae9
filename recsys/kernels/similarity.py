"""Item-item similarity of some items to all others, each item's strongest neighbours kept.

With R the weighted matrix (rows: customers and guests' baskets, those without an item left out),
c_ij = (RᵀR)_ij and n_i = c_ii:

cosine   c_ij / (√n_i √n_j + shrink)
jaccard  c_ij / (n_i + n_j - c_ij + shrink)          (R binary)
lift     c_ij · rows / (n_i n_j + shrink · rows)     (R binary)
tfidf    cosine of R with each item scaled by ln(1 + rows / n_i)
bm25     cosine of R with BM25 weights (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75)

All of them are c_ij / (f_i f_j + g_i + g_j - o c_ij + shrink), which is what the kernel computes.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.kernels.blocks import Block

Similarity = Literal["cosine", "bm25", "tfidf", "jaccard", "lift"]
BINARY = ("jaccard", "lift", "tfidf", "bm25")
BM25_K1, BM25_B = 1.2, 0.75


def newest_items(block: Block, most: int) -> Block:
    """Keep of each row only the events of the items that it met last.

    A row of n items adds n² products, so that few heavy rows can cost more than all others.

    Args:
        block: the events.
        most: items kept a row; of items last met on the same day, the lower indices are kept.
    """
    keep = np.ones(len(block.columns), dtype=bool)
    for row in np.flatnonzero(np.diff(block.indptr) > most):
        events = slice(block.indptr[row], block.indptr[row + 1])
        items, begins = np.unique(block.columns[events], return_index=True)
        last = np.maximum.reduceat(block.days[events], begins)
        dropped = items[np.lexsort((items, -last))[most:]]
        keep[events] = ~np.isin(block.columns[events], dropped)
    return block.where(keep)


def row_and_item_weights(
    similarity: Similarity, lengths: NDArray[np.int64], buyers: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the factors that tfidf and bm25 put on R's entries, 1 for the other similarities.

    Args:
        similarity: its name.
        lengths: [rows] items of each row.
        buyers: [items] rows of each item.

    Returns:
        float32 [rows] and float32 [items]; an entry is multiplied by both.
    """
    rows, items = np.ones(len(lengths)), np.ones(len(buyers))
    filled = int((lengths > 0).sum())
    if similarity == "tfidf":
        items = np.log1p(filled / np.maximum(buyers, 1))
    elif similarity == "bm25":
        items = np.log1p((filled - buyers + 0.5) / (buyers + 0.5))
        mean = lengths.sum() / max(filled, 1)
        rows = (BM25_K1 + 1) / (BM25_K1 * (1 - BM25_B + BM25_B * lengths / max(mean, 1e-9)) + 1)
    return rows.astype(np.float32), items.astype(np.float32)


def neighbours_of(
    matrix: sp.csr_matrix,
    norms: NDArray[np.float64],
    start: int,
    stop: int,
    similarity: Similarity,
    shrink: float,
    count: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the strongest neighbours of the items from `start` to `stop`.

    An item's result does not depend on the range that it is asked for in. Beside the range's
    own entries and results, memory holds one number an item.

    Args:
        matrix: float32 CSR [rows, items], R.
        norms: [items], n_i: the squared length of each column of `matrix`.
        start: index of the first item.
        stop: index after the last.
        similarity: its name.
        shrink: pulls similarities that rest on few rows towards 0.
        count: neighbours kept an item.

    Returns:
        items int32 [stop - start, count], strongest first, -1 where there are fewer, and their
        similarities float32, 0 there. Ties go to the lower index.
    """
    found = np.full((stop - start, count), -1, dtype=np.int32)
    strength = np.zeros((stop - start, count), dtype=np.float32)
    # A row that is empty so far belongs to a customer of a later window: it must not count.
    filled = int((np.diff(matrix.indptr) > 0).sum())
    own = matrix[:, start:stop].tocsc()
    _compiled()(
        *(own.indptr, own.indices, own.data),
        *(matrix.indptr, matrix.indices, matrix.data),
        *_denominator(similarity, norms, filled),
        # Numba compiles once more for every other type of argument.
        float(shrink),
        start,
        found,
        strength,
    )
    return found, strength


def _denominator(
    similarity: Similarity, norms: NDArray[np.float64], rows: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return f [items], g [items] and o of the module's common formula."""
    nothing = np.zeros(len(norms))
    if similarity == "jaccard":
        return nothing, norms, 1.0
    if similarity == "lift":
        return norms / np.sqrt(max(rows, 1)), nothing, 0.0
    return np.sqrt(norms), nothing, 0.0


@cache
def _compiled() -> Callable[..., None]:
    """Compile the kernel, or load what an earlier process on this machine compiled."""
    # Importing Numba takes a second, which only a task of a fit should spend.
    import numba

    # NumPy's error model: 0 / 0, where an item has no buyer, is NaN and no neighbour.
    compiled: Callable[..., None] = numba.njit(cache=True, error_model="numpy")(_strongest)
    return compiled


def _strongest(
    own_indptr: NDArray[Any],
    own_rows: NDArray[Any],
    own_data: NDArray[np.float32],
    indptr: NDArray[Any],
    columns: NDArray[Any],
    data: NDArray[np.float32],
    factors: NDArray[np.float64],
    summands: NDArray[np.float64],
    overlap: float,
    shrink: float,
    start: int,
    found: NDArray[np.int32],
    strength: NDArray[np.float32],
) -> None:
    """Multiply item by item into one dense row (Gustavson 1978) and keep its strongest cells.

    Args:
        own_indptr: with `own_rows` and `own_data` the asked columns of R as CSC [rows, asked].
        own_rows: see `own_indptr`.
        own_data: see `own_indptr`.
        indptr: with `columns` and `data` the whole of R as CSR [rows, items].
        columns: see `indptr`.
        data: see `indptr`.
        factors: [items], f of the module's common formula.
        summands: [items], its g.
        overlap: its o.
        shrink: its shrink.
        start: index of the first item asked for.
        found: [asked, count], filled with -1; becomes the neighbours.
        strength: [asked, count], filled with 0; becomes their similarities.
    """
    items, count = len(factors), found.shape[1]
    products = np.zeros(items, dtype=np.float32)
    values = np.zeros(items, dtype=np.float32)
    for asked in range(len(own_indptr) - 1):
        for entry in range(own_indptr[asked], own_indptr[asked + 1]):
            row, weight = own_rows[entry], own_data[entry]
            basket = columns[indptr[row] : indptr[row + 1]]
            values_of_row = data[indptr[row] : indptr[row + 1]]
            for position in range(len(basket)):
                # Unsigned: spares the test for a negative index, a tenth of the time.
                products[np.uint32(basket[position])] += weight * values_of_row[position]
        item = start + asked
        products[item] = 0
        factor, summand = factors[item], summands[item] + shrink
        for other in range(items):
            product = products[other]
            values[other] = product / (
                factor * factors[other] + summand + summands[other] - overlap * product
            )
        products[:] = 0
        best, who = strength[asked], found[asked]
        kept, weakest = 0, np.float32(0)
        for other in range(items):
            value = values[other]
            # Strictly stronger: of equals, the lower index came first and stays ahead.
            if value > weakest:
                kept = min(kept + 1, count)
                place = kept - 1
                while place > 0 and best[place - 1] < value:
                    best[place], who[place] = best[place - 1], who[place - 1]
                    place -= 1
                best[place], who[place] = value, other
                if kept == count:
                    weakest = best[count - 1]
