"""Metrics of a whole set of lists, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.metrics.beyond_accuracy import coverage, gini, novelty, popular_share

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=20)


def test_coverage_counts_items_that_anyone_is_recommended() -> None:
    assert coverage(np.array([3, 0, 1, 0])) == 0.5
    assert coverage(np.array([0, 0])) == 0
    assert coverage(np.array([], dtype=np.int64)) == 0


def test_gini_is_0_where_all_items_get_the_same() -> None:
    assert gini(np.array([4, 4, 4])) == 0


def test_gini_of_one_item_that_gets_all() -> None:
    # (2·4 - 4 - 1) · 8 / (4 · 8): the largest value with four items.
    assert gini(np.array([0, 8, 0, 0])) == 3 / 4


def test_gini_by_hand() -> None:
    # Rising 1, 3: (-1 · 1 + 1 · 3) / (2 · 4).
    assert gini(np.array([3, 1])) == 0.25


def test_gini_without_recommendations() -> None:
    assert gini(np.array([0, 0])) == 0
    assert gini(np.array([], dtype=np.int64)) == 0


@given(COUNTS, st.integers(2, 5))
def test_gini_lies_in_0_to_1_and_does_not_depend_on_scale(counts: list[int], times: int) -> None:
    value = gini(np.array(counts))
    assert -1e-12 <= value < 1
    assert gini(np.array(counts) * times) == pytest.approx(value)


def test_novelty_is_the_mean_information_of_a_recommendation() -> None:
    # Shares ½, ¼, ¼: 1 bit and 2 bits; two recommendations of the first, one of the second.
    assert novelty(np.array([2, 1, 0]), np.array([2.0, 1, 1])) == pytest.approx(4 / 3)


def test_an_item_never_bought_counts_as_half_a_purchase() -> None:
    assert novelty(np.array([0, 1]), np.array([4.0, 0])) == pytest.approx(3)


def test_novelty_without_recommendations() -> None:
    assert novelty(np.array([0, 0]), np.array([1.0, 1])) == 0


def test_popular_share_counts_the_top_tenth() -> None:
    popularity = np.array([1.0] * 9 + [5] + [2] * 9 + [7])
    recommended = np.zeros(20, dtype=np.int64)
    recommended[[0, 9, 19]] = [2, 1, 5]
    assert popular_share(recommended, popularity) == 6 / 8


def test_popular_share_has_at_least_one_item() -> None:
    assert popular_share(np.array([1, 3]), np.array([1.0, 2])) == 3 / 4


def test_popular_share_of_tied_items_takes_the_first() -> None:
    assert popular_share(np.array([1, 3]), np.array([2.0, 2])) == 1 / 4


def test_popular_share_without_recommendations() -> None:
    assert popular_share(np.array([0, 0]), np.array([1.0, 2])) == 0
