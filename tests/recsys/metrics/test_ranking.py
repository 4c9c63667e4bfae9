"""Ranking metrics: cases worked by hand, named by their edge, and what always holds."""

from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.metrics.ranking import METRICS, per_customer, per_customer_revenue
from tests.oracles import ranking as oracle

# One customer: which places are hits, how many items they bought, k →
#   precision, recall, ndcg, average precision, reciprocal rank, hit rate
SECOND = 1 / log2(3)
THIRD = 1 / log2(4)
CASES = {
    "no hit": ("....", 2, 4, (0, 0, 0, 0, 0, 0)),
    "every place a hit": ("xxx", 3, 3, (1, 1, 1, 1, 1, 1)),
    "first place of two relevant": (
        "x...",
        2,
        4,
        (1 / 4, 1 / 2, 1 / (1 + SECOND), 1 / 2, 1, 1),
    ),
    "hits at second and third place": (
        ".xx.",
        2,
        4,
        (2 / 4, 1, (SECOND + THIRD) / (1 + SECOND), (1 / 2 + 2 / 3) / 2, 1 / 2, 1),
    ),
    "only hit beyond k": ("..x", 1, 2, (0, 0, 0, 0, 0, 0)),
    "more relevant than k": ("xx", 5, 2, (1, 2 / 5, 1, 1, 1, 1)),
    "fewer relevant than k": ("x..", 1, 3, (1 / 3, 1, 1, 1, 1, 1)),
    "list shorter than k": (".x", 1, 5, (1 / 5, 1, SECOND, 1 / 2, 1 / 2, 1)),
    "k above the catalogue": (
        "x.x",
        2,
        10,
        (2 / 10, 1, (1 + THIRD) / (1 + SECOND), (1 + 2 / 3) / 2, 1, 1),
    ),
    "no list at all": ("", 3, 5, (0, 0, 0, 0, 0, 0)),
    "k of one": ("xx", 2, 1, (1, 1 / 2, 1, 1, 1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case: str) -> None:
    places, relevant, k, expected = CASES[case]
    hits = np.array([[place == "x" for place in places]], dtype=bool).reshape(1, len(places))
    if not places:
        hits = np.zeros((1, k), dtype=bool)
    found = [float(metric(hits, np.array([relevant]), k)[0]) for metric in METRICS.values()]
    assert found == pytest.approx(list(expected))


def test_each_customer_is_judged_alone() -> None:
    hits = np.array([[True, False], [False, True], [False, False]])
    values = per_customer(hits, np.array([1, 2, 3]), (1, 2))
    assert values["hit_rate_at_1"].tolist() == [1, 0, 0]
    assert values["recall_at_2"].tolist() == [1, 0.5, 0]
    assert values["mrr_at_2"].tolist() == [1, 0.5, 0]
    assert sorted(values) == sorted(f"{name}_at_{k}" for name in METRICS for k in (1, 2))


def test_a_customer_without_relevant_items_has_no_recall() -> None:
    """At least one is relevant by contract: evaluation leaves all other customers out."""
    with np.errstate(invalid="ignore"):
        values = per_customer(np.array([[False]]), np.array([0]), (1,))
    assert all(np.isnan(values[f"{name}_at_1"][0]) for name in ("recall", "ndcg", "map"))


def test_an_item_listed_twice_would_count_twice() -> None:
    """The items of a list are distinct by contract: places alone do not tell a duplicate."""
    values = per_customer(np.array([[True, True]]), np.array([1]), (2,))
    assert values["recall_at_2"].tolist() == [2]


@st.composite
def judged(draw: st.DrawFn) -> tuple[list[bool], int]:
    hits = draw(st.lists(st.booleans(), min_size=1, max_size=12))
    return hits, draw(st.integers(max(1, sum(hits)), 15))


@given(judged(), st.integers(1, 12))
def test_equals_the_textbook_definitions(case: tuple[list[bool], int], k: int) -> None:
    hits, relevant = case
    k = min(k, len(hits))
    recommended = [f"item {place}" for place in range(len(hits))]
    bought = {item for item, hit in zip(recommended, hits, strict=True) if hit}
    bought |= {f"missed {n}" for n in range(relevant - len(bought))}
    found = per_customer(np.array([hits]), np.array([relevant]), (k,))
    assert {name: float(v[0]) for name, v in found.items()} == pytest.approx(
        oracle.metrics(recommended, bought, k)
    )


@given(judged())
def test_every_metric_lies_between_0_and_1(case: tuple[list[bool], int]) -> None:
    hits, relevant = case
    ks = tuple(range(1, len(hits) + 1))
    for values in per_customer(np.array([hits]), np.array([relevant]), ks).values():
        assert 0 <= values[0] <= 1 + 1e-12


@given(judged())
def test_recall_and_hit_rate_never_fall_with_k(case: tuple[list[bool], int]) -> None:
    hits, relevant = case
    ks = tuple(range(1, len(hits) + 1))
    values = per_customer(np.array([hits]), np.array([relevant]), ks)
    for name in ("recall", "hit_rate"):
        assert (np.diff([values[f"{name}_at_{k}"][0] for k in ks]) >= 0).all()


@given(judged())
def test_ndcg_is_1_exactly_for_an_ideal_list(case: tuple[list[bool], int]) -> None:
    hits, relevant = case
    k = len(hits)
    ideal = all(hits[: min(k, relevant)])
    ndcg = per_customer(np.array([hits]), np.array([relevant]), (k,))[f"ndcg_at_{k}"][0]
    assert (abs(ndcg - 1) < 1e-9) == ideal


@given(judged(), st.data())
def test_moving_a_hit_forward_never_hurts(
    case: tuple[list[bool], int], data: st.DataObject
) -> None:
    hits, relevant = case
    place = data.draw(st.integers(0, len(hits) - 1))
    better = sorted(hits[: place + 1], reverse=True) + hits[place + 1 :]
    k = data.draw(st.integers(1, len(hits)))
    before, after = (
        per_customer(np.array([h]), np.array([relevant]), (k,)) for h in (hits, better)
    )
    for name in before:
        assert after[name][0] >= before[name][0] - 1e-12


def test_revenue_metrics_by_hand() -> None:
    # Bought for 8, 4 and 1; the list finds 4 at the first place and 1 at the third.
    gains = np.array([[4.0, 0, 1, 0]])
    ideal = np.array([[8.0, 4, 1, 0]])
    found = per_customer_revenue(gains, ideal, np.array([13.0]), (1, 3))
    assert found["revenue_recall_at_1"] == pytest.approx([4 / 13])
    assert found["revenue_recall_at_3"] == pytest.approx([5 / 13])
    assert found["revenue_ndcg_at_1"] == pytest.approx([4 / 8])
    best = 8 + 4 * SECOND + 1 * THIRD
    assert found["revenue_ndcg_at_3"] == pytest.approx([(4 + THIRD) / best])


def test_revenue_metrics_of_a_list_shorter_than_k() -> None:
    found = per_customer_revenue(
        np.array([[0.0, 5]]), np.array([[5.0, 3, 0, 0]]), np.array([8.0]), (4,)
    )
    assert found["revenue_recall_at_4"] == pytest.approx([5 / 8])
    assert found["revenue_ndcg_at_4"] == pytest.approx([5 * SECOND / (5 + 3 * SECOND)])


def test_what_was_bought_for_nothing_has_no_revenue_to_find() -> None:
    found = per_customer_revenue(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros(1), (2,))
    assert {name: value[0] for name, value in found.items()} == {
        "revenue_recall_at_2": 0,
        "revenue_ndcg_at_2": 0,
    }


@given(judged())
def test_equal_prices_make_the_revenue_metrics_the_plain_ones(
    case: tuple[list[bool], int],
) -> None:
    hits, relevant = np.array([case[0]]), np.array([case[1]])
    k = hits.shape[1]
    ideal = (np.arange(k) < relevant[:, None]) * 2.5
    plain = per_customer(hits, relevant, (k,))
    weighted = per_customer_revenue(hits * 2.5, ideal, relevant * 2.5, (k,))
    for name in ("recall", "ndcg"):
        assert weighted[f"revenue_{name}_at_{k}"] == pytest.approx(plain[f"{name}_at_{k}"])
