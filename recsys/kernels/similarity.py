"""Item-item similarity of a block of items against all, each item's strongest neighbours kept.

With R the weighted matrix (rows: customers and guests' baskets, those without an item left out),
c_ij = (RᵀR)_ij and n_i = c_ii:

cosine   c_ij / (√n_i √n_j + shrink)
jaccard  c_ij / (n_i + n_j - c_ij + shrink)          (R binary)
lift     c_ij · rows / (n_i n_j + shrink · rows)     (R binary)
tfidf    cosine of R with each item scaled by ln(1 + rows / n_i)
bm25     cosine of R with BM25 weights (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75)
"""

from typing import Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Similarity = Literal["cosine", "bm25", "tfidf", "jaccard", "lift"]
BINARY = ("jaccard", "lift", "tfidf", "bm25")
BM25_K1, BM25_B = 1.2, 0.75
CELLS_A_CHUNK = 20_000_000


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
    block: sp.csr_matrix,
    matrix: sp.csr_matrix,
    norms: NDArray[np.float64],
    start: int,
    similarity: Similarity,
    shrink: float,
    count: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the strongest neighbours of a block of items.

    Args:
        block: float32 CSR [block's items, rows], the block's columns of `matrix`, transposed.
        matrix: float32 CSR [rows, items].
        norms: [items], n_i: the squared length of each column of `matrix`.
        start: index of the block's first item.
        similarity: its name.
        shrink: pulls similarities that rest on few rows towards 0.
        count: neighbours kept an item.

    Returns:
        items int32 [block's items, count], strongest first, -1 where there are fewer, and their
        similarities float32, 0 there. Ties go to the lower index.
    """
    found = np.full((block.shape[0], count), -1, dtype=np.int32)
    strength = np.zeros((block.shape[0], count), dtype=np.float32)
    # A row that is empty so far belongs to a customer of a later window: it must not count.
    filled = int((np.diff(matrix.indptr) > 0).sum())
    # A product of sparse matrices may fill up: bound the items multiplied at once.
    chunk = max(1, CELLS_A_CHUNK // matrix.shape[1])
    for first in range(0, block.shape[0], chunk):
        product = block[first : first + chunk] @ matrix
        row = np.repeat(np.arange(product.shape[0]), np.diff(product.indptr))
        column = product.indices
        values = _normalise(
            product.data.astype(np.float64),
            norms[start + first + row],
            norms[column],
            similarity,
            shrink,
            filled,
        )
        keep = (column != start + first + row) & (values > 0)
        row, column, values = row[keep], column[keep], values[keep].astype(np.float32)
        order = np.lexsort((column, -values, row))
        row, column, values = row[order], column[order], values[order]
        begins = np.searchsorted(row, np.arange(product.shape[0]))
        place = np.arange(len(row)) - begins[row]
        top = place < count
        found[first + row[top], place[top]] = column[top]
        strength[first + row[top], place[top]] = values[top]
    return found, strength


def _normalise(
    products: NDArray[np.float64],
    own: NDArray[np.float64],
    other: NDArray[np.float64],
    similarity: Similarity,
    shrink: float,
    rows: int,
) -> NDArray[np.float64]:
    """Turn products c_ij into similarities; see the module's formulas."""
    if similarity == "jaccard":
        return products / (own + other - products + shrink)
    if similarity == "lift":
        return products * rows / (own * other + shrink * rows)
    return products / (np.sqrt(own) * np.sqrt(other) + shrink)
