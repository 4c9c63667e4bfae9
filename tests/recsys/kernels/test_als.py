"""The ALS kernel against its dense formula and the exact solution."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from implicit.cpu import _als

from recsys.kernels import als as kernel
from tests.oracles import als as oracle

REGULARIZATION = 0.7


def drawn(
    seed: int, rows: int = 9, columns: int = 7, factors: int = 3
) -> tuple[sp.csr_matrix, kernel.Floats, kernel.Floats]:
    """Random confidences above and below 1, and factors of both sides."""
    random = np.random.default_rng(seed)
    dense = random.uniform(0.1, 6, (rows, columns)) * (random.random((rows, columns)) < 0.4)
    own, other = (random.normal(0, 0.5, (n, factors)).astype(np.float32) for n in (rows, columns))
    return sp.csr_matrix(dense.astype(np.float32)), own, other


def whole_loss(confidence: sp.csr_matrix, own: kernel.Floats, other: kernel.Floats) -> float:
    _, share = kernel.solve(confidence, own, other, REGULARIZATION, steps=0)
    return share + REGULARIZATION * float((other.astype(np.float64) ** 2).sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_loss_equals_the_dense_formula(seed: int) -> None:
    confidence, own, other = drawn(seed)
    expected = oracle.loss(
        confidence.toarray().astype(float), own.astype(float), other.astype(float), REGULARIZATION
    )
    assert whole_loss(confidence, own, other) == pytest.approx(expected, rel=1e-4)


def test_the_blocks_losses_add_up_to_the_whole() -> None:
    confidence, own, other = drawn(3)
    parts = [
        kernel.solve(confidence[a:b], own[a:b], other, REGULARIZATION)[1]
        for a, b in ((0, 2), (2, 3), (3, 9))
    ]
    _, whole = kernel.solve(confidence, own, other, REGULARIZATION)
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_solve_lowers_the_loss(seed: int) -> None:
    confidence, own, other = drawn(seed)
    solved, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    assert whole_loss(confidence, solved, other) < whole_loss(confidence, own, other)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_many_solves_converge_to_the_exact_ridge_solution(seed: int) -> None:
    confidence, own, other = drawn(seed)
    for _ in range(20):
        own, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    expected = oracle.ridge(confidence.toarray().astype(float), other.astype(float), REGULARIZATION)
    np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("columns", [20, 2000])
@pytest.mark.parametrize("room", [kernel.GATHERED_BYTES, 20 * 20])
def test_agrees_with_implicit(columns: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of few entries, whose vectors are gathered, and rows of too many for the room."""
    monkeypatch.setattr(kernel, "GATHERED_BYTES", room)
    confidence, own, other = drawn(11, rows=6, columns=columns, factors=5)
    gathered = np.diff(confidence.indptr) <= room // (4 * 5)
    assert gathered.all() == (columns == 20 or room == 64 << 20)
    expected = own.copy()
    _als.least_squares_cg(
        confidence, expected, other, REGULARIZATION, num_threads=1, cg_steps=kernel.CG_STEPS
    )
    found, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("limit", ["GATHERED_BYTES", "COPIED_BYTES"])
def test_what_lies_where_does_not_change_a_bit(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    confidence, own, other = drawn(17, rows=30, columns=40, factors=6)
    near, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    monkeypatch.setattr(kernel, limit, 4 * 6 * 10)
    far, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    assert np.array_equal(near, far)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    confidence, own, other = drawn(13, rows=20, columns=30, factors=6)
    whole, _ = kernel.solve(confidence, own, other, REGULARIZATION)
    for row in range(20):
        alone, _ = kernel.solve(confidence[row], own[row : row + 1], other, REGULARIZATION)
        assert np.array_equal(alone[0], whole[row])


def test_a_row_without_entries_has_zero_factors() -> None:
    confidence, own, other = drawn(5)
    empty = sp.csr_matrix(confidence.shape, dtype=np.float32)
    solved, _ = kernel.solve(empty, own, other, REGULARIZATION)
    assert solved.tolist() == np.zeros_like(own).tolist()


def test_solve_leaves_its_arguments_alone() -> None:
    confidence, own, other = drawn(8)
    copies = own.copy(), other.copy(), confidence.copy()
    kernel.solve(confidence, own, other, REGULARIZATION)
    assert np.array_equal(own, copies[0])
    assert np.array_equal(other, copies[1])
    assert (confidence != copies[2]).nnz == 0


def test_start_factors_depend_on_the_seed_and_are_a_prefix_of_more_rows() -> None:
    few, many = kernel.start_factors(4, 3, 7), kernel.start_factors(9, 3, 7)
    assert np.array_equal(few, many[:4])
    assert not np.array_equal(few, kernel.start_factors(4, 3, 8))
    assert few.min() >= 0
    assert 0 < few.max() <= 0.01
