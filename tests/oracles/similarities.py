"""Item-item similarities, each computed cell by cell from a dense matrix [rows, items]."""

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
BM25_K1, BM25_B = 1.2, 0.75


def similarity(matrix: Matrix, name: str, shrink: float) -> Matrix:
    """Return [items, items]; rows without any item are not counted as rows."""
    matrix = matrix[(matrix > 0).any(axis=1)]
    rows, items = matrix.shape
    bought = (matrix > 0).astype(float)
    buyers = bought.sum(axis=0)
    result = np.zeros((items, items))
    if name in ("jaccard", "lift"):
        for i in range(items):
            for j in range(items):
                both = float((bought[:, i] * bought[:, j]).sum())
                if both == 0:
                    continue
                if name == "jaccard":
                    either = float(np.maximum(bought[:, i], bought[:, j]).sum())
                    result[i, j] = both / (either + shrink)
                else:
                    result[i, j] = both * rows / (buyers[i] * buyers[j] + shrink * rows)
        return result
    weighted = _weighted(matrix, bought, buyers, name)
    for i in range(items):
        for j in range(items):
            both = float((weighted[:, i] * weighted[:, j]).sum())
            if both:
                lengths = np.linalg.norm(weighted[:, i]) * np.linalg.norm(weighted[:, j])
                result[i, j] = both / (lengths + shrink)
    return result


def _weighted(matrix: Matrix, bought: Matrix, buyers: Matrix, name: str) -> Matrix:
    rows, items = matrix.shape
    if name == "cosine":
        return matrix
    weighted = np.zeros_like(matrix)
    mean_length = bought.sum() / rows
    for r in range(rows):
        length = bought[r].sum()
        for i in range(items):
            if not bought[r, i]:
                continue
            if name == "tfidf":
                weighted[r, i] = math.log(1 + rows / buyers[i])
            else:
                rarity = math.log(1 + (rows - buyers[i] + 0.5) / (buyers[i] + 0.5))
                damping = BM25_K1 * (1 - BM25_B + BM25_B * length / mean_length)
                weighted[r, i] = rarity * (BM25_K1 + 1) / (1 + damping)
    return weighted


def strongest(similarities: Matrix, item: int, count: int) -> list[int]:
    """Return an item's neighbours, strongest first, ties by index; zeros are no neighbours."""
    values = similarities[item].astype(np.float32)
    others = [j for j in range(len(values)) if j != item and values[j] > 0]
    return sorted(others, key=lambda j: (-values[j], j))[:count]
