"""Top-k of dense scores and of factors: the same as sorting everything."""

from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels import topk
from recsys.kernels.topk import Caps, Catalogue, pruned_top_k, top_k

NOTHING = -np.inf


def brute_force(row: list[float], k: int, tie_order: list[int]) -> list[int]:
    allowed = [i for i, score in enumerate(row) if score != NOTHING]
    return sorted(allowed, key=lambda i: (-row[i], tie_order[i]))[:k]


def of(rows: list[list[float]]) -> NDArray[np.float32]:
    return np.array(rows, dtype=np.float32)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int], int]:
    items = draw(st.integers(1, 12))
    score = st.sampled_from([NOTHING, -1.5, -0.0, 0.0, 0.25, 1.0, 1.0, 3.5])
    row = st.lists(score, min_size=items, max_size=items)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    return rows, draw(st.permutations(range(items))), draw(st.integers(1, items + 3))


@given(tables())
def test_equals_a_sort_by_score_and_tie_order(
    table: tuple[list[list[float]], list[int], int],
) -> None:
    rows, tie_order, k = table
    items, values = top_k(of(rows), k, np.array(tie_order))
    for row, found, scores in zip(rows, items.tolist(), values.tolist(), strict=True):
        expected = brute_force(row, k, tie_order)
        assert found == expected + [-1] * (k - len(expected))
        assert scores == [row[i] for i in expected] + [NOTHING] * (k - len(expected))


def test_ties_follow_the_given_order_also_at_the_kth_place() -> None:
    items, _ = top_k(of([[1, 2, 1, 1]]), 2, np.array([2, 3, 0, 1]))
    assert items.tolist() == [[1, 2]]


def test_k_of_one() -> None:
    items, values = top_k(of([[0.5, 0.75], [2, -3]]), 1, np.arange(2))
    assert items.tolist() == [[1], [0]]
    assert values.tolist() == [[0.75], [2.0]]


def test_a_k_above_the_number_of_items_pads() -> None:
    items, values = top_k(of([[0.5, NOTHING, 0.75]]), 4, np.arange(3))
    assert items.tolist() == [[2, 0, -1, -1]]
    assert values.tolist() == [[0.75, 0.5, NOTHING, NOTHING]]


def test_a_row_in_which_nothing_is_allowed_stays_empty() -> None:
    items, _ = top_k(of([[NOTHING, NOTHING], [1, NOTHING]]), 1, np.arange(2))
    assert items.tolist() == [[-1], [0]]


def test_no_rows_and_no_items() -> None:
    assert top_k(np.zeros((0, 3), dtype=np.float32), 2, np.arange(3))[0].shape == (0, 2)
    assert top_k(np.zeros((2, 0), dtype=np.float32), 2, np.arange(0))[0].tolist() == [[-1, -1]] * 2


# --- pruned: the same as scoring everything


@st.composite
def searches(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float32], sp.csr_matrix]:
    """Factors of small whole numbers, so that scores are exact and ties are many."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    customers, items, width = draw(st.integers(1, 6)), draw(st.integers(1, 60)), 3
    vectors = random.integers(-2, 3, (customers, width)).astype(np.float32)
    factors = random.integers(-2, 3, (items, width)).astype(np.float32)
    # Some items are much longer than others, some have no length at all.
    factors *= random.choice([0, 1, 1, 4, 16], (items, 1)).astype(np.float32)
    seen = random.random((customers, items)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    return vectors, factors, sp.csr_matrix(seen.astype(np.float32))


@settings(max_examples=300, deadline=None)
@given(
    searches(),
    st.integers(1, 12),
    st.sampled_from([1, 2, 7, 256]),
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.randoms(),
)
def test_pruning_equals_scoring_everything(
    search: tuple[NDArray[np.float32], NDArray[np.float32], sp.csr_matrix],
    k: int,
    first_block: int,
    allowed_share: float | None,
    shuffle: Random,
) -> None:
    vectors, factors, seen = search
    tie_order = np.array(shuffle.sample(range(len(factors)), len(factors)))
    scores = vectors @ factors.T
    scores[seen.toarray() > 0] = NOTHING
    allowed = None
    if allowed_share is not None:
        allowed = np.array([shuffle.random() < allowed_share for _ in factors])
        scores[:, ~allowed] = NOTHING
    expected = top_k(scores, k, tie_order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "FIRST_BLOCK", first_block)
        found = pruned_top_k(vectors, Catalogue.of(factors, allowed), seen, k, tie_order)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def uneven(items: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(50, 16)).astype(np.float32)
    lengths = 1 / np.arange(1, items + 1) ** 0.7
    return vectors, (random.normal(size=(items, 16)) * lengths[:, None]).astype(np.float32)


def test_pruning_of_real_numbers_finds_the_same_scores() -> None:
    vectors, factors = uneven(5000)
    nothing = sp.csr_matrix((50, 5000), dtype=np.float32)
    expected = top_k(vectors @ factors.T, 20, np.arange(5000))
    found = pruned_top_k(vectors, Catalogue.of(factors), nothing, 20, np.arange(5000))
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)
    assert (found[0] == expected[0]).mean() > 0.999


def test_uneven_lengths_are_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, factors = uneven(5000)
    seen: list[int] = []
    of_block = topk._improved

    def counted(found: Any, values: Any, scores: Any, *rest: Any) -> object:
        seen.append(scores.size)
        return of_block(found, values, scores, *rest)

    monkeypatch.setattr(topk, "_improved", counted)
    nothing = sp.csr_matrix((50, 5000), dtype=np.float32)
    pruned_top_k(vectors, Catalogue.of(factors), nothing, 10, np.arange(5000))
    assert sum(seen) < 0.3 * 50 * 5000


def test_blocks_cover_the_catalogue_once_and_grow() -> None:
    blocks = list(Catalogue.of(np.ones((10_000, 2), dtype=np.float32)).blocks())
    assert blocks[0] == (0, 256)
    assert [stop for _, stop in blocks[:-1]] == [start for start, _ in blocks[1:]]
    assert blocks[-1][1] == 10_000
    assert max(stop - start for start, stop in blocks) <= 4096


def test_a_customer_without_a_direction_gets_items_by_tie_order() -> None:
    factors = np.array([[1.0, 0], [0, 2]], dtype=np.float32)
    nothing = sp.csr_matrix((1, 2), dtype=np.float32)
    zeros = np.zeros((1, 2), dtype=np.float32)
    found, values = pruned_top_k(zeros, Catalogue.of(factors), nothing, 2, np.array([0, 1]))
    assert found.tolist() == [[0, 1]]
    assert values.tolist() == [[0, 0]]


def capped(
    scores: NDArray[np.float32], k: int, tie_order: NDArray[np.int64], caps: Caps
) -> list[list[int]]:
    """Take items in falling order and skip those whose group is full."""
    lists = []
    for row in scores:
        chosen: list[int] = []
        for item in sorted(np.flatnonzero(row > NOTHING), key=lambda i: (-row[i], tie_order[i])):
            group = caps.group[item]
            full = group >= 0 and sum(caps.group[i] == group for i in chosen) == caps.most
            if len(chosen) < k and not full:
                chosen.append(int(item))
        lists.append(chosen)
    return lists


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 3), st.integers(1, 4))
def test_lists_with_caps_equal_those_made_item_by_item(
    seed: int, k: int, most: int, groups: int
) -> None:
    random = np.random.default_rng(seed)
    customers, items = 4, int(random.integers(1, 60))
    factors = random.integers(-2, 3, (items, 3)).astype(np.float32)
    # Whole groups are far ahead of others, so that the best of a block are often all of one.
    group = random.integers(-1, groups, items).astype(np.int32)
    factors *= (group + 2)[:, None].astype(np.float32)
    vectors = random.integers(-2, 3, (customers, 3)).astype(np.float32)
    tie_order = random.permutation(items)
    seen = sp.csr_matrix(random.random((customers, items)) < 0.2)
    caps = Caps(group, most)
    scores = vectors @ factors.T
    scores[seen.toarray()] = NOTHING
    expected = capped(scores, k, tie_order, caps)
    dense, _ = top_k(scores, k, tie_order, caps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "FIRST_BLOCK", 8)
        pruned, _ = pruned_top_k(vectors, Catalogue.of(factors), seen, k, tie_order, caps)
    for found in (dense, pruned):
        assert [row[row >= 0].tolist() for row in found] == expected
        assert all(len(row) <= caps.longest(np.ones(items, dtype=bool)) for row in expected)
