"""Which bought items speak for a recommended one, against the definition."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels import reasons
from recsys.kernels.reasons import of_factors, of_neighbours, strongest, whitened

REGULARIZATION = 0.7


def shares(
    factors: NDArray[np.float64], confidence: NDArray[np.float64], item: int
) -> NDArray[np.float64]:
    """Return each item's share of a score by inverting the whole system."""
    weights = np.where(confidence > 0, confidence - 1, 0)
    system = factors.T @ factors + REGULARIZATION * np.eye(factors.shape[1])
    system += (factors * weights[:, None]).T @ factors
    solved = np.linalg.solve(system, factors[item])
    return np.asarray(confidence * (factors @ solved))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_reasons_of_als_are_the_largest_shares_of_its_score(seed: int) -> None:
    random = np.random.default_rng(seed)
    items, customers, k, count = 12, 3, 4, 3
    factors = random.normal(size=(items, 5)).astype(np.float32)
    # Confidences below, at and above 1.
    confidence = random.choice([0, 0, 0.3, 1, 4.5], (customers, items)).astype(np.float32)
    given_items = np.array([random.permutation(items)[:k] for _ in range(customers)])
    found = of_factors(
        whitened(factors, REGULARIZATION), sp.csr_matrix(confidence), given_items, count
    )
    for row in range(customers):
        for place in range(k):
            share = shares(
                factors.astype(np.float64), confidence[row].astype(np.float64),
                given_items[row, place],
            )  # fmt: skip
            named = found[row, place][found[row, place] >= 0]
            expected = np.sort(share[share > 1e-5])[::-1][:count]
            np.testing.assert_allclose(share[named][: len(expected)], expected, atol=1e-4)
            assert (confidence[row, named] > 0).all()
            assert len(set(named.tolist())) == len(named)


def test_the_shares_of_a_score_add_up_to_it() -> None:
    random = np.random.default_rng(1)
    factors = random.normal(size=(8, 3))
    confidence = random.choice([0, 2.0, 4.0], 8)
    weights = np.where(confidence > 0, confidence - 1, 0)
    system = factors.T @ factors + REGULARIZATION * np.eye(3)
    system += (factors * weights[:, None]).T @ factors
    customer = np.linalg.solve(system, factors.T @ confidence)
    assert shares(factors, confidence, 5).sum() == pytest.approx(customer @ factors[5])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_reasons_of_item_item_are_the_largest_summands(seed: int) -> None:
    random = np.random.default_rng(seed)
    items, customers, k, count = 10, 3, 4, 2
    similarity = random.choice([0, 0, 0.25, 0.5, 0.75], (items, items)).astype(np.float32)
    weights = random.choice([0, 0.5, 1, 2], (customers, items)).astype(np.float32)
    given_items = np.array([random.permutation(items)[:k] for _ in range(customers)])
    given_items[0, 2:] = -1
    found = of_neighbours(sp.csr_matrix(similarity), sp.csr_matrix(weights), given_items, count)
    for row in range(customers):
        for place in range(k):
            item = given_items[row, place]
            share = weights[row] * similarity[:, item] if item >= 0 else np.zeros(items)
            order = [i for i in np.argsort(-share, kind="stable") if share[i] > 0][:count]
            assert found[row, place].tolist() == order + [-1] * (count - len(order))


def test_customers_without_a_history_have_no_reasons() -> None:
    nothing = sp.csr_matrix((1, 3), dtype=np.float32)
    wanted = np.array([[0, 1]])
    factors = whitened(np.ones((3, 2), dtype=np.float32), REGULARIZATION)
    assert (of_factors(factors, nothing, wanted, 2) == -1).all()
    assert (of_neighbours(sp.csr_matrix(np.eye(3)), nothing, wanted, 2) == -1).all()


def test_of_a_long_history_the_strongest_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sp.csr_matrix(np.array([[3, 1, 3, 2], [0, 0, 5, 0]], dtype=np.float32))
    kept = strongest(weights, 2)
    assert kept.toarray().tolist() == [[3, 0, 3, 0], [0, 0, 5, 0]]
    monkeypatch.setattr(reasons, "LONGEST", 1)
    similar = sp.csr_matrix(np.ones((4, 4), dtype=np.float32))
    assert of_neighbours(similar, weights, np.array([[1], [1]]), 2)[:, 0].tolist() == [
        [0, -1],
        [2, -1],
    ]
