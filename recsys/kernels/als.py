"""Implicit-feedback ALS for some rows.

Minimises Σ c_ui (1 - x_u·y_i)² over observed pairs + Σ (x_u·y_i)² over all others
+ λ (Σ|x_u|² + Σ|y_i|²), with confidences c (Hu, Koren & Volinsky 2008), by a few conjugate
gradient steps a row (Takács, Pilászy & Tikk 2011).

`recsys.kernels.als_rows` is the compiled loop. A row's step multiplies YᵀCY by a vector: YᵀY once
for all rows, and what its own entries add. The other side's vectors that a row needs lie scattered
over much memory, so they are gathered once, and all its steps read them in a row. The first
product also tells the row's loss.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CG_STEPS = 3
GATHERED_BYTES = 64 << 20
COPIED_BYTES = 512 << 20


def start_factors(rows: int, factors: int, seed: int) -> Floats:
    """Draw small positive factors [rows, factors], the same whatever the partitioning."""
    random = np.random.default_rng(seed)
    return random.random((rows, factors), dtype=np.float32) * np.float32(0.01)


def solve(
    confidence: sp.csr_matrix,
    own: Floats,
    other: Floats,
    regularization: float,
    steps: int = CG_STEPS,
) -> tuple[Floats, float]:
    """Improve the factors of some rows with the other side's factors held fixed.

    Args:
        confidence: float32 CSR [rows, columns].
        own: [rows, factors], where to start from.
        other: [columns, factors].
        regularization: λ.
        steps: conjugate gradient steps.

    Returns:
        float32 [rows, factors], and the rows' share of the loss of `own`, which lacks the other
        side's λ Σ|y|²: the shares of all rows add up.
    """
    from recsys.kernels import als_rows

    result = np.array(own, dtype=np.float32, order="C")
    other = _at_hand(other)
    gram = other.T @ other + np.float32(regularization) * np.eye(other.shape[1], dtype=np.float32)
    loss = als_rows.solve_rows(
        np.asarray(confidence.indptr),
        np.asarray(confidence.indices),
        np.asarray(confidence.data),
        *(result, other, gram, _room(confidence, other.shape[1]), steps),
    )
    return result, float(loss)


def _at_hand(factors: Floats) -> Floats:
    """Return factors plain and writable, so that Numba compiles for one type only.

    NumPy asks for huge pages for what it allocates itself, among which rows at random places are
    found faster than in a mapped file; a large array stays mapped, for a machine to hold it once.
    """
    if factors.nbytes <= COPIED_BYTES:
        return np.array(factors, dtype=np.float32, order="C")
    return np.require(np.asarray(factors), dtype=np.float32, requirements=["C", "W"])


def _room(confidence: sp.csr_matrix, width: int) -> Floats:
    """Return room for the vectors of the longest row, as far as memory allows."""
    longest = int(np.diff(confidence.indptr).max(initial=1))
    return np.empty((min(longest, GATHERED_BYTES // (4 * width)), width), dtype=np.float32)
