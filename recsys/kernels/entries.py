"""Where a sparse matrix has entries, and which of them another one has, too."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def rows_of(matrix: sp.csr_matrix) -> Ints:
    """Return the row of each entry, int64 [entries]."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def cells_of(matrix: sp.csr_matrix) -> Ints:
    """Return each entry's place, row × width + column: int64 [entries], rising."""
    return np.asarray(rows_of(matrix) * matrix.shape[1] + matrix.indices)


def find(rising: Ints, wanted: Ints) -> tuple[Mask, Ints]:
    """Return which of the wanted numbers are among the rising ones, and where.

    Args:
        rising: [n], sorted.
        wanted: of any shape.

    Returns:
        Two arrays of that shape; a place means something only where the number was found.
    """
    if len(rising) == 0:
        return np.zeros(wanted.shape, dtype=bool), np.zeros(wanted.shape, dtype=np.int64)
    place = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return rising[place] == wanted, place
