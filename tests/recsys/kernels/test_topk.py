"""Top-k of dense scores: the same as sorting everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels.topk import top_k

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
