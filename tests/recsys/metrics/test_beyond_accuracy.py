"""What lists look like beside being right, worked by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from recsys.metrics.beyond_accuracy import (
    catalogue_draws,
    coverage,
    diversity,
    gini,
    novelty,
    popular_items,
    popular_share,
    self_information,
)

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=20)


def test_coverage_counts_items_that_anyone_is_recommended() -> None:
    assert coverage(np.array([3, 0, 1, 0]), 4) == 0.5
    assert coverage(np.array([0, 0]), 2) == 0
    assert coverage(np.array([], dtype=np.int64), 0) == 0


def test_items_left_out_were_not_recommended() -> None:
    assert coverage(np.array([3, 1]), 8) == 2 / 8
    assert gini(np.array([3, 1]), 8) == gini(np.array([0, 3, 0, 0, 1, 0, 0, 0]), 8)


def test_gini_is_0_where_all_items_get_the_same() -> None:
    assert gini(np.array([4, 4, 4]), 3) == 0


def test_gini_of_one_item_that_gets_all() -> None:
    # (2·4 - 4 - 1) · 8 / (4 · 8): the largest value with four items.
    assert gini(np.array([0, 8, 0, 0]), 4) == 3 / 4


def test_gini_by_hand() -> None:
    # Rising 1, 3: (-1 · 1 + 1 · 3) / (2 · 4).
    assert gini(np.array([3, 1]), 2) == 0.25


def test_gini_without_recommendations() -> None:
    assert gini(np.array([0, 0]), 2) == 0
    assert gini(np.array([], dtype=np.int64), 0) == 0


@given(COUNTS, st.integers(2, 5))
def test_gini_lies_in_0_to_1_and_does_not_depend_on_scale(counts: list[int], times: int) -> None:
    value = gini(np.array(counts), len(counts))
    assert -1e-12 <= value < 1
    assert gini(np.array(counts) * times, len(counts)) == pytest.approx(float(value))


def test_novelty_is_the_mean_information_of_a_customers_list() -> None:
    # Shares ½, ¼, ¼: 1 bit and 2 bits.
    information = self_information(np.array([2.0, 1, 1]))
    assert information.tolist() == [1, 2, 2]
    shown = np.array([[0, 1, -1], [2, 1, 0], [-1, -1, -1]])
    assert novelty(shown, information) == pytest.approx([1.5, 5 / 3, 0])


def test_an_item_never_bought_counts_as_half_a_purchase() -> None:
    assert self_information(np.array([4.0, 0]))[1] == pytest.approx(3)


def test_the_popular_tenth() -> None:
    popularity = np.array([1.0] * 9 + [5] + [2] * 9 + [7])
    assert np.flatnonzero(popular_items(popularity)).tolist() == [9, 19]
    # At least one item, and the first of tied ones.
    assert popular_items(np.array([2.0, 2, 1])).tolist() == [True, False, False]


def test_popular_share_of_each_list() -> None:
    popular = np.array([True, False, False])
    shown = np.array([[0, 1, -1], [1, 2, 0], [-1, -1, -1]])
    assert popular_share(shown, popular) == pytest.approx([1 / 2, 1 / 3, 0])


def test_diversity_is_the_share_of_pairs_in_different_categories() -> None:
    category = np.array([0, 0, 1, 2, -1, -1], dtype=np.int32)
    shown = np.array([[0, 1, 2], [0, 2, 3], [0, 1, -1], [3, -1, -1], [-1, -1, -1], [4, 5, 0]])
    # Pairs alike: 0-1 of three; none of three; the only one; no pair; no pair; the unknown two.
    assert diversity(shown, category) == pytest.approx([2 / 3, 1, 0, 0, 0, 2 / 3])


def test_every_list_alike_has_draws_without_spread() -> None:
    lists = sp.csr_matrix(np.tile([1.0, 1, 0], (30, 1)))
    draws = catalogue_draws(lists, 4, 3, 50)
    assert draws["coverage"].tolist() == [0.5] * 50
    assert np.ptp(draws["gini"]) < 1e-12


def test_draws_follow_from_the_customers_drawn() -> None:
    # Each of 20 customers is shown an item of their own: the draw covers whom it holds.
    draws = catalogue_draws(sp.identity(20, format="csr"), 40, 3, 400)
    expected = 0.5 * (1 - np.exp(-1))
    assert draws["coverage"].mean() == pytest.approx(expected, rel=0.02)
    assert draws["coverage"].max() < 0.5
