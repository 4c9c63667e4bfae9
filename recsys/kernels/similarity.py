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

from typing import Literal

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
    from recsys.kernels import similarity_rows

    found = np.full((stop - start, count), -1, dtype=np.int32)
    strength = np.zeros((stop - start, count), dtype=np.float32)
    # A row that is empty so far belongs to a customer of a later window: it must not count.
    filled = int((np.diff(matrix.indptr) > 0).sum())
    own = matrix[:, start:stop].tocsc()
    similarity_rows.find_strongest(
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
