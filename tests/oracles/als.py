"""Implicit-feedback ALS written out densely in float64 (Hu, Koren & Volinsky 2008)."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def loss(confidence: Matrix, own: Matrix, other: Matrix, regularization: float) -> float:
    """Sum over every cell; a cell without confidence was not observed and weighs 1."""
    total = 0.0
    for u in range(confidence.shape[0]):
        for i in range(confidence.shape[1]):
            predicted = float(own[u] @ other[i])
            observed = confidence[u, i] > 0
            weight = confidence[u, i] if observed else 1.0
            total += weight * ((1.0 if observed else 0.0) - predicted) ** 2
    return total + regularization * float((own**2).sum() + (other**2).sum())


def ridge(confidence: Matrix, other: Matrix, regularization: float) -> Matrix:
    """Solve each row exactly with the other side held fixed."""
    rows = []
    for weights in confidence:
        observed = weights > 0
        scale = np.where(observed, weights, 1.0)
        left = (other.T * scale) @ other + regularization * np.eye(other.shape[1])
        right = (other.T * scale) @ observed.astype(float)
        rows.append(np.linalg.solve(left, right))
    return np.array(rows)
