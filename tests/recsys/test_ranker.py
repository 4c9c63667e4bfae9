"""Lists under a campaign's rules: every list that a customer can get is held to the rules."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.kernels.topk import Caps
from recsys.models.base import Hyperparameters
from recsys.ranker import (
    FOLD_IN,
    MODEL,
    POPULARITY,
    SEGMENT_POPULARITY,
    Customers,
    Ranker,
    Ranking,
    Rules,
)
from recsys.strategy import LADDER, Rung
from tests.recsys.builders import Dots

KNOWN = 3


@dataclass
class Dense:
    """The same scorer for whoever scores every item."""

    dots: Dots

    def personal(self, rows: NDArray[np.int64], weights: sp.csr_matrix) -> NDArray[np.float32]:
        return self.dots.personal(rows, weights)


@dataclass
class Case:
    """A catalogue, rules and customers, all drawn."""

    dots: Dots
    trends: NDArray[np.float32]
    fallback: NDArray[np.float32]
    ids: NDArray[np.str_]
    rules: Rules
    customers: Customers
    again: NDArray[np.bool_]
    k: int

    def rank(self, dense: bool = False) -> Ranking:
        scorer = Dense(self.dots) if dense else self.dots
        parameters = Hyperparameters(trend_power=1.0, repeat_weight=2.0)
        ranker = Ranker(scorer, parameters, self.trends, self.ids, KNOWN, self.rules, self.fallback)
        return ranker.rank(self.customers, self.k, (self.again,))[0]

    def may(self, row: int) -> NDArray[np.bool_]:
        """Tell which items a customer may get, by the definition of the rules."""
        may = np.ones(len(self.ids), dtype=bool)
        if self.rules.allowed is not None:
            may &= self.rules.allowed
        bought = self.customers.purchases
        entries = slice(bought.indptr[row], bought.indptr[row + 1])
        may[bought.indices[entries][~self.again[entries]]] = False
        if self.customers.barred is not None:
            may[self.customers.barred[row].indices] = False
        return may

    def expected(self, row: int) -> list[tuple[int, int]]:
        """Return (item, source) by taking item after item, the model's first."""
        may, ladder = self.may(row), self.rules.ladder
        known = self.customers.rows[row] < KNOWN
        speaks = self.dots.customers[self.customers.rows[row]].any()
        speaks = speaks and ("model" if known else "fold_in") in ladder
        own = self.customers.purchases[row].toarray().ravel()
        trend = self.trends[0]
        factors = self.dots.item_factors * trend[:, None]
        score = self.dots.customers[self.customers.rows[row]] @ factors.T
        score = np.where(speaks, score, -np.inf)
        score = np.where(own > 0, np.where(np.isneginf(score), 0, score) + 2 * own, score)
        model = [i for i in np.flatnonzero(may) if not np.isneginf(score[i])]
        taken = self._taken([], sorted(model, key=lambda i: (-score[i], self.ids[i])))
        result = [(item, MODEL if known else FOLD_IN) for item in taken]
        assert self.customers.fallback is not None
        rung = self.customers.fallback[row] if "segment_popularity" in ladder else 0
        if rung == 0 and "popularity" not in ladder:
            return result
        popular = self.fallback[rung]
        rest = [i for i in np.flatnonzero(may) if i not in taken]
        filled = self._taken(taken, sorted(rest, key=lambda i: (-popular[i], self.ids[i])))
        source = SEGMENT_POPULARITY if rung else POPULARITY
        return result + [(item, source) for item in filled[len(taken) :]]

    def _taken(self, have: list[int], ranked: list[int]) -> list[int]:
        """Go on with a list as far as caps and k let it."""
        caps, taken = self.rules.caps, list(have)
        for item in ranked:
            group = -1 if caps is None else caps.group[item]
            same = sum(caps.group[i] == group for i in taken) if caps is not None else 0
            if len(taken) < self.k and (group < 0 or caps is None or same < caps.most):
                taken.append(int(item))
        return taken


@st.composite
def cases(draw: st.DrawFn) -> Case:
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    customers, items = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    factors = random.integers(-2, 3, (items, 3)).astype(np.float32)
    vectors = random.integers(-2, 3, (6, 3)).astype(np.float32)
    vectors[random.random(6) < 0.3] = 0
    allowed = random.random(items) < draw(st.sampled_from([0.3, 0.8, 1.0]))
    group = random.integers(-1, 3, items).astype(np.int32)
    most = draw(st.sampled_from([None, 1, 2, 4]))
    rungs = draw(st.sets(st.sampled_from(LADDER), min_size=1))
    ladder: tuple[Rung, ...] = tuple(rung for rung in LADDER if rung in rungs)
    bought = random.choice([0, 0, 0.5, 1], (customers, items)).astype(np.float32)
    barred = sp.csr_matrix((random.random((customers, items)) < 0.2).astype(np.float32))
    purchases = sp.csr_matrix(bought)
    return Case(
        Dots(vectors, factors),
        random.choice([0.25, 0.5, 1.0], (1, items)).astype(np.float32),
        random.choice([0.25, 0.5, 1.0], (3, items)).astype(np.float32),
        np.array([f"{n:03d}" for n in random.permutation(items)]),
        Rules(
            allowed if draw(st.booleans()) else None,
            None if most is None else Caps(group, most),
            ladder,
        ),
        Customers(
            random.integers(0, 6, customers),
            purchases,
            purchases,
            fallback=random.integers(0, 3, customers),
            barred=barred if draw(st.booleans()) else None,
        ),
        random.random(purchases.nnz) < draw(st.sampled_from([0.0, 0.5, 1.0])),
        draw(st.integers(1, 12)),
    )


@settings(max_examples=400, deadline=None)
@given(cases(), st.booleans())
def test_a_list_under_rules_equals_one_made_item_by_item(case: Case, dense: bool) -> None:
    ranking = case.rank(dense)
    for row in range(len(ranking.items)):
        given_items = ranking.items[row] >= 0
        pairs = zip(
            ranking.items[row][given_items].tolist(),
            ranking.sources[row][given_items].tolist(),
            strict=True,
        )
        assert list(pairs) == case.expected(row)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_list_is_distinct_eligible_and_as_long_as_the_rules_let_it_be(case: Case) -> None:
    ranking = case.rank()
    caps = case.rules.caps
    for row, items in enumerate(ranking.items):
        found = items[items >= 0]
        may = case.may(row)
        assert len(set(found.tolist())) == len(found)
        assert may[found].all()
        assert (items[len(found) :] == -1).all()
        if caps is not None:
            of_group = np.bincount(caps.group[found][caps.group[found] >= 0], minlength=1)
            assert of_group.max() <= caps.most
        if "popularity" in case.rules.ladder:
            longest = may.sum() if caps is None else caps.longest(may)
            assert len(found) == min(case.k, longest)


@settings(max_examples=50, deadline=None)
@given(cases())
def test_the_same_input_gives_the_same_lists(case: Case) -> None:
    first, second = case.rank(), case.rank()
    np.testing.assert_array_equal(first.items, second.items)
    np.testing.assert_array_equal(first.scores, second.scores)
