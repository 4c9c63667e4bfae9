"""Implicit-feedback ALS for one block of rows: implicit's compiled conjugate-gradient kernel.

Minimises Σ c_ui (1 - x_u·y_i)² over observed pairs + Σ (x_u·y_i)² over all others
+ λ (Σ|x_u|² + Σ|y_i|²), with confidences c (Hu, Koren & Volinsky 2008), solved by a few conjugate
gradient steps a row (Takács, Pilászy & Tikk 2011).
"""

import os
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.sparse as sp
from implicit.cpu import _als
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CG_STEPS = 3


def start_factors(rows: int, factors: int, seed: int) -> Floats:
    """Draw small positive factors [rows, factors], the same whatever the partitioning."""
    random = np.random.default_rng(seed)
    return random.random((rows, factors), dtype=np.float32) * np.float32(0.01)


def solve(confidence: sp.csr_matrix, own: Floats, other: Floats, regularization: float) -> Floats:
    """Improve the factors of a block's rows with the other side's factors held fixed.

    Args:
        confidence: float32 CSR [rows, columns].
        own: [rows, factors], where to start from.
        other: [columns, factors].
        regularization: λ.

    Returns:
        float32 [rows, factors].
    """
    result = np.array(own, dtype=np.float32, order="C")
    _als.least_squares_cg(
        confidence, result, _plain(other), regularization, num_threads=1, cg_steps=CG_STEPS
    )
    return result


def loss(confidence: sp.csr_matrix, own: Floats, other: Floats, regularization: float) -> float:
    """Return a block's share of the loss, the other side's |y|² left out.

    The kernel divides by the sum of all weights and adds both sides' regularization; undone here,
    the shares of all blocks add up.
    """
    own, other = np.array(own, dtype=np.float32, order="C"), _plain(other)
    mean = _als.calculate_loss(confidence, own, other, regularization, num_threads=1)
    cells = confidence.shape[0] * confidence.shape[1]
    weight = float(confidence.data.sum(dtype=np.float64)) + cells - confidence.nnz
    squares = float(np.einsum("if,if->", other, other, dtype=np.float64))
    return float(float(mean) * weight - regularization * squares)


def _plain(array: NDArray[Any]) -> Floats:
    """Return a writable C-ordered float32 array, which the kernel asks for.

    A file that is mapped copy-on-write is passed as it is: no copy of the other side's factors.
    """
    return np.require(array, dtype=np.float32, requirements=["C", "W"])
