"""Popularity: the trend alone, and whose own purchases come on top."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys.errors import UsageError
from recsys.models.popularity import Popularity, PopularityParameters
from recsys.ranker import Customers, Ranker
from recsys.strategy import Seen

IDS = np.array(["a", "b", "c"])
TREND = np.array([[0.2, 1.0, 0.5]], dtype=np.float32)


def ranked(parameters: PopularityParameters, policy: Seen) -> list[list[str]]:
    """Rank for a customer who bought c a half-life ago, and one who bought nothing."""
    purchases = sp.csr_matrix(np.array([[0, 0, 0.5], [0, 0, 0]], dtype=np.float32))
    ranker = Ranker(Popularity(parameters).open({}), parameters, TREND, IDS, 2)
    ranking = ranker.rank(Customers(np.arange(2), purchases, purchases), 3, (policy,))[0]
    return [[str(IDS[i]) for i in row if i >= 0] for row in ranking.items]


def test_orders_by_the_trend_and_puts_own_purchases_on_top() -> None:
    # c: 0.5 + 3 · 0.5 = 2 is more than b's 1.
    assert ranked(PopularityParameters(), "allow") == [["c", "b", "a"], ["b", "c", "a"]]


def test_without_repeat_own_purchases_do_not_count() -> None:
    without = PopularityParameters(repeat=False)
    assert ranked(without, "allow") == [["b", "c", "a"]] * 2


def test_what_was_bought_is_left_out_where_it_is_excluded() -> None:
    assert ranked(PopularityParameters(), "exclude") == [["b", "a"], ["b", "c", "a"]]


def test_its_half_life_is_the_trends() -> None:
    assert PopularityParameters(half_life_days=14).trend_days == 14
    # All-time popularity: a purchase ten years ago still counts in full.
    all_time = PopularityParameters(half_life_days=None).trend_days
    assert 0.5 ** (3650 / all_time) == pytest.approx(1, abs=1e-5)


def test_popularity_is_the_trend_itself_and_has_no_other_power() -> None:
    with pytest.raises(UsageError, match="trend_power"):
        PopularityParameters.checked({"trend_power": 0.5}, "here")
