"""The compiled loops of `recsys.kernels.reasons`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernels.compiled import exact, fast

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@fast
def of_factors(
    indptr: Ints, indices: Ints, confidences: Floats, vectors: Floats, items: Ints, found: Ints
) -> None:
    """Solve (I + KD) x = Z z for each customer, and keep the strongest shares c x.

    Args:
        indptr: with `indices` and `confidences` the histories as CSR [customers, all items].
        indices: see `indptr`.
        confidences: see `indptr`.
        vectors: [all items, factors], whitened.
        items: [customers, k].
        found: [customers, k, count], filled with -1; becomes the reasons.
    """
    for row in range(len(indptr) - 1):
        own = indices[indptr[row] : indptr[row + 1]]
        confidence = confidences[indptr[row] : indptr[row + 1]]
        count = len(own)
        if count == 0 or items[row, 0] < 0:
            continue
        given = 0
        while given < items.shape[1] and items[row, given] >= 0:
            given += 1
        system = np.empty((count, count), dtype=np.float64)
        right = np.empty((count, given), dtype=np.float64)
        for a in range(count):
            vector = vectors[own[a]]
            for b in range(count):
                system[a, b] = dot(vector, vectors[own[b]]) * (confidence[b] - 1)
            system[a, a] += 1
            for place in range(given):
                right[a, place] = dot(vector, vectors[items[row, place]])
        solved = np.linalg.solve(system, right)
        share = np.empty(count, dtype=np.float64)
        for place in range(given):
            for a in range(count):
                share[a] = confidence[a] * solved[a, place]
            keep(own, share, found[row, place])


@exact
def of_neighbours(
    indptr: Ints,
    indices: Ints,
    weights: Floats,
    near_indptr: Ints,
    near: NDArray[np.int32],
    similarities: Floats,
    items: Ints,
    found: Ints,
) -> None:
    """Walk each bought item's neighbours and keep the strongest shares.

    Args:
        indptr: with `indices` and `weights` the histories as CSR [customers, all items].
        indices: see `indptr`.
        weights: see `indptr`.
        near_indptr: with `near` and `similarities` the neighbours as CSR [all items, all items].
        near: see `near_indptr`.
        similarities: see `near_indptr`.
        items: [customers, k].
        found: [customers, k, count], filled with -1; becomes the reasons.
    """
    wanted = np.full(len(near_indptr) - 1, -1, dtype=np.int64)
    k = items.shape[1]
    for row in range(len(indptr) - 1):
        begin, count = indptr[row], indptr[row + 1] - indptr[row]
        if count == 0 or items[row, 0] < 0:
            continue
        shares = np.zeros((k, count), dtype=np.float64)
        for place in range(k):
            if items[row, place] >= 0:
                wanted[items[row, place]] = place
        for a in range(count):
            item = indices[begin + a]
            for entry in range(near_indptr[item], near_indptr[item + 1]):
                place = wanted[near[entry]]
                if place >= 0:
                    shares[place, a] = np.float64(weights[begin + a]) * similarities[entry]
        for place in range(k):
            if items[row, place] >= 0:
                wanted[items[row, place]] = -1
                keep(indices[begin : begin + count], shares[place], found[row, place])


@exact
def keep(own: Ints, share: NDArray[np.float64], found: Ints) -> None:
    """Write the items with the largest shares above zero, of equals the first."""
    for rank in range(len(found)):
        best = -1
        for a in range(len(own)):
            if share[a] > 0 and (best < 0 or share[a] > share[best]):
                best = a
        if best < 0:
            break
        found[rank] = own[best]
        share[best] = 0


@fast
def dot(a: Floats, b: Floats) -> Any:
    """Return a·b."""
    total = np.float32(0)
    for place in range(len(a)):
        total += a[place] * b[place]
    return total
