"""Which bought items speak most for a recommended one.

Item-item: a score is the sum Σ_h w_uh s_hi over the bought items h, so each has its share.
ALS: x_u = A⁻¹ Σ_h c_uh y_h with A = YᵀY + λI + Σ_h (c_uh - 1) y_h y_hᵀ, so the score x_u·y_i is the
sum over bought items of c_uh y_hᵀ A⁻¹ y_i (Hu, Koren & Volinsky 2008, section 5). With
YᵀY + λI = LLᵀ, z = L⁻¹y, Z the history's z and D = diag(c - 1), y_hᵀ A⁻¹ y_i is row h of
Z (I + ZᵀDZ)⁻¹ z_i = (I + KD)⁻¹ Z z_i, K = ZZᵀ: a system as small as the history, where the
definition would invert a factors × factors matrix for each customer.
"""

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

# Of a longer history the strongest so many are asked for reasons.
LONGEST = 128


def whitened(item_factors: Floats, regularization: float) -> Floats:
    """Return z = L⁻¹y of each item, float32 [items, factors]."""
    factors = np.asarray(item_factors, dtype=np.float64)
    gram = factors.T @ factors + regularization * np.eye(factors.shape[1])
    # Without a regularization the factors may be dependent.
    gram += 1e-9 * max(1.0, float(np.trace(gram))) * np.eye(len(gram))
    lower = np.linalg.cholesky(gram)
    solved = scipy.linalg.solve_triangular(lower, factors.T, lower=True)
    return np.ascontiguousarray(solved.T, dtype=np.float32)


def of_factors(vectors: Floats, confidence: sp.csr_matrix, items: Ints, count: int) -> Ints:
    """Find the bought items with the largest shares of ALS scores.

    Args:
        vectors: float32 [all items, factors], `whitened`.
        confidence: float32 CSR [customers, all items].
        items: int64 [customers, k], recommended; -1 for none.
        count: reasons an item.

    Returns:
        int64 [customers, k, count], strongest first; -1 where fewer speak for the item.
    """
    from recsys.kernels import reasons_rows

    found = np.full((*items.shape, count), -1, dtype=np.int64)
    history = strongest(confidence, LONGEST)
    reasons_rows.of_factors(
        np.asarray(history.indptr, dtype=np.int64),
        np.asarray(history.indices, dtype=np.int64),
        np.asarray(history.data, dtype=np.float32),
        np.require(vectors, dtype=np.float32, requirements=["C", "W"]),
        np.ascontiguousarray(items),
        found,
    )
    return found


def of_neighbours(
    similarity: sp.csr_matrix, weights: sp.csr_matrix, items: Ints, count: int
) -> Ints:
    """Find the bought items with the largest shares of item-item scores.

    Args:
        similarity: float32 CSR [all items, all items].
        weights: float32 CSR [customers, all items].
        items: see `of_factors`.
        count: see `of_factors`.

    Returns:
        As `of_factors`.
    """
    from recsys.kernels import reasons_rows

    found = np.full((*items.shape, count), -1, dtype=np.int64)
    history = strongest(weights, LONGEST)
    reasons_rows.of_neighbours(
        np.asarray(history.indptr, dtype=np.int64),
        np.asarray(history.indices, dtype=np.int64),
        np.asarray(history.data, dtype=np.float32),
        np.asarray(similarity.indptr, dtype=np.int64),
        np.asarray(similarity.indices, dtype=np.int32),
        np.asarray(similarity.data, dtype=np.float32),
        np.ascontiguousarray(items),
        found,
    )
    return found


def strongest(weights: sp.csr_matrix, count: int) -> sp.csr_matrix:
    """Keep each row's `count` largest entries; of equals, those of the lower columns."""
    lengths = np.diff(weights.indptr)
    if lengths.max(initial=0) <= count:
        return weights
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((weights.indices, -weights.data, row))
    place = np.arange(len(row)) - weights.indptr[row]
    kept = np.sort(order[place < count])
    indptr = np.concatenate(([0], np.cumsum(np.minimum(lengths, count))))
    return sp.csr_matrix((weights.data[kept], weights.indices[kept], indptr), shape=weights.shape)
