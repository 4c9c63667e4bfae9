"""Entries of sparse matrices, against sets."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys.kernels.entries import cells_of, find, rows_of


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_entries_of_another_matrix_are_found(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    one, other = (sp.csr_matrix(random.integers(0, 2, (rows, columns))) for _ in range(2))
    both = {*zip(*other.nonzero(), strict=True)}
    expected = [cell in both for cell in zip(rows_of(one), one.indices, strict=True)]
    found, place = find(cells_of(other), cells_of(one))
    assert found.tolist() == expected
    assert (cells_of(other)[place[found]] == cells_of(one)[found]).all()


def test_nothing_is_found_in_nothing() -> None:
    found, place = find(np.zeros(0, dtype=np.int64), np.arange(4).reshape(2, 2))
    assert not found.any()
    assert place.shape == (2, 2)
