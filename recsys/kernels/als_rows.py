"""The compiled loops of `recsys.kernels.als`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernels.compiled import fast

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Float = np.float32 | float

# A squared residual below this is none.
SETTLED = 1e-20


@fast
def solve_rows(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    confidences: Floats,
    own: Floats,
    other: Floats,
    gram: Floats,
    gathered: Floats,
    steps: int,
) -> Float:
    """Take conjugate gradient steps for each row, in place.

    Args:
        indptr: [rows + 1] of the confidences' CSR.
        indices: [entries].
        confidences: [entries].
        own: [rows, factors], changed.
        other: [columns, factors].
        gram: [factors, factors], YᵀY + λI.
        gathered: [most, factors], room for the vectors of a row's columns, so that every step
            reads them one after another; a row of more columns reads them where they lie.
        steps: at most this many.

    Returns:
        Σ c (1 - s)² - s² over all entries + Σ xᵀ(YᵀY + λI)x over all rows, with s = x·y, for
        `own` as it came in.
    """
    width = own.shape[1]
    most = len(gathered)
    positions = np.arange(most)
    residual = np.empty(width, dtype=np.float32)
    direction = np.empty(width, dtype=np.float32)
    product = np.empty(width, dtype=np.float32)
    loss: Float = 0.0
    for row in range(len(indptr) - 1):
        begin, end = indptr[row], indptr[row + 1]
        x, count = own[row], end - begin
        confidence = confidences[begin:end]
        vectors, places = other, indices[begin:end].astype(np.int64)
        if count <= most:
            gather(other, places, gathered)
            vectors, places = gathered, positions[:count]
        # The residual of the normal equations: Σ c y - (YᵀY + λI + Σ (c - 1) y yᵀ) x.
        multiply(gram, x, residual)
        loss += dot(x, residual)
        scale(residual, np.float32(-1))
        loss += add_targets(vectors, places, confidence, x, residual)
        if count == 0:
            x[:] = 0
            continue
        direction[:] = residual
        old = dot(residual, residual)
        for _ in range(steps):
            if old < SETTLED:
                break
            multiply(gram, direction, product)
            add_products(vectors, places, confidence, direction, product)
            length = old / dot(direction, product)
            for place in range(width):
                x[place] += length * direction[place]
                residual[place] -= length * product[place]
            new = dot(residual, residual)
            for place in range(width):
                direction[place] = residual[place] + new / old * direction[place]
            old = new
    return loss


@fast
def gather(vectors: Floats, places: Ints, to: Floats) -> None:
    """Copy vectors [:, factors] at some places to the first rows of another array."""
    for entry in range(len(places)):
        vector = vectors[places[entry]]
        for place in range(len(vector)):
            to[entry, place] = vector[place]


@fast
def add_targets(vectors: Floats, places: Ints, confidences: Floats, x: Floats, to: Floats) -> Float:
    """Add Σ (c - (c - 1) x·y) y, and return Σ c (1 - x·y)² - (x·y)², over one row's entries."""
    loss: Float = 0.0
    for entry in range(len(places)):
        y, confidence = vectors[places[entry]], confidences[entry]
        score = np.float32(0)
        for place in range(len(x)):
            score += x[place] * y[place]
        loss += confidence * (1 - score) ** 2 - score**2
        weight = confidence - (confidence - 1) * score
        for place in range(len(x)):
            to[place] += weight * y[place]
    return loss


@fast
def add_products(vectors: Floats, places: Ints, confidences: Floats, x: Floats, to: Floats) -> None:
    """Add Σ (c - 1) (x·y) y over one row's entries."""
    for entry in range(len(places)):
        y = vectors[places[entry]]
        score = np.float32(0)
        for place in range(len(x)):
            score += x[place] * y[place]
        weight = (confidences[entry] - 1) * score
        for place in range(len(x)):
            to[place] += weight * y[place]


@fast
def multiply(matrix: Floats, vector: Floats, to: Floats) -> None:
    """Write matrix · vector."""
    for row in range(len(to)):
        to[row] = dot(matrix[row], vector)


@fast
def dot(a: Floats, b: Floats) -> Float:
    """Return a·b."""
    total = np.float32(0)
    for place in range(len(a)):
        total += a[place] * b[place]
    return total


@fast
def scale(vector: Floats, factor: Float) -> None:
    """Multiply in place."""
    for place in range(len(vector)):
        vector[place] *= factor
