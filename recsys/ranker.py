"""Rank all items for some customers: the one place where scores become lists.

Personal scores, trend prior, own purchases, a campaign's rules, ties by item id, and popularity
where the recommender has nothing more to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.kernels.entries import cells_of, find, rows_of
from recsys.kernels.topk import LARGEST_BLOCK, Caps, Catalogue, pruned_top_k, top_k, with_entries
from recsys.models.base import Explains, FactorScorer, Floats, Hyperparameters, Ints, Scorer
from recsys.strategy import LADDER, Rung, Seen

SOURCES = ("none", *LADDER)
NONE, MODEL, FOLD_IN, SEGMENT_POPULARITY, POPULARITY = range(len(SOURCES))
# Own purchases are scored in pieces: 64 MiB of their items' factors.
PAIRS_A_PIECE = 16_000_000

Mask = NDArray[np.bool_]
# For all bought items alike, or for each entry of the purchases whether it may be given again.
Policy = Seen | Mask


@dataclass(frozen=True)
class Rules:
    """What a list may hold; the same for all customers.

    Attributes:
        allowed: bool [items]; None for every item.
        caps: how many items of a category a list may hold; None for any number.
        ladder: where items may come from.
    """

    allowed: Mask | None = None
    caps: Caps | None = None
    ladder: tuple[Rung, ...] = LADDER


@dataclass(frozen=True)
class Customers:
    """Some customers, and what is known of them.

    Attributes:
        rows: int64 [n], their rows in the fit's history; from `known_customers` on for those to
            fold in.
        weights: CSR [n, items], the history as the fit weighs it.
        purchases: CSR [n, items], own time-decayed purchases.
        trend: int64 [n], the row of `trends` that each follows; None for row 0.
        fallback: int64 [n], the row of `fallback` that each falls back to; None for `trend`.
        barred: CSR [n, items], items with an entry may not be given; None for no such items.
    """

    rows: Ints
    weights: sp.csr_matrix
    purchases: sp.csr_matrix
    trend: Ints | None = None
    fallback: Ints | None = None
    barred: sp.csr_matrix | None = None


@dataclass(frozen=True)
class Ranking:
    """Ranked items of some customers.

    Attributes:
        items: int64 [n, k], best first, -1 where there are fewer.
        scores: float32 [n, k].
        sources: int8 [n, k], an index into SOURCES.
    """

    items: Ints
    scores: Floats
    sources: NDArray[np.int8]


@dataclass(frozen=True)
class _Scored:
    """What one pass over the catalogue found, before any policy on bought items.

    Attributes:
        items: int64 [n, k], the best items that the customer has not bought.
        values: float32 [n, k], their scores.
        own: float32 [own purchases], scores of the bought items, -inf where silent; empty where
            no policy asks for them.
    """

    items: Ints
    values: Floats
    own: Floats


@dataclass(frozen=True)
class Ranker:
    """Ranks customers with a fitted recommender.

    Attributes:
        scorer: the fitted recommender.
        parameters: its hyperparameters.
        trends: float32 [1 + segments, items], scaled; row 0 over all customers.
        item_ids: str [items].
        known_customers: customers that the fit knew.
        rules: what a list may hold.
        fallback: float32 [1 + segments, items], popularity to fill up with; None for `trends`.
    """

    scorer: Scorer
    parameters: Hyperparameters
    trends: Floats
    item_ids: NDArray[np.str_]
    known_customers: int
    rules: Rules = Rules()
    fallback: Floats | None = None
    priors: Floats = field(init=False)
    tie_order: Ints = field(init=False)
    catalogue: Catalogue | None = field(init=False)

    def __post_init__(self) -> None:
        """Derive what every call needs."""
        # Never 0, because a silent recommender's -inf times 0 would be no number.
        prior = self.trends ** np.float32(self.parameters.trend_power)
        priors = np.maximum(prior, np.finfo(np.float32).tiny)
        tie_order = np.empty(len(self.item_ids), dtype=np.int64)
        tie_order[np.argsort(self.item_ids)] = np.arange(len(self.item_ids))
        catalogue = None
        if isinstance(self.scorer, FactorScorer) and len(self.trends) == 1:
            # The prior scales the items' factors, so that pruning sees it too.
            factors = _numbers(self.scorer.item_factors, "item") * priors[0][:, None]
            catalogue = Catalogue.of(factors, self.rules.allowed)
        derived = {"priors": priors, "tie_order": tie_order, "catalogue": catalogue}
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @property
    def scores_a_customer(self) -> int:
        """Scores that are held at once for each customer."""
        items = len(self.tie_order)
        return items if self.catalogue is None else min(items, LARGEST_BLOCK)

    def rank(self, customers: Customers, k: int, policies: Sequence[Policy]) -> list[Ranking]:
        """Rank all items for some customers, once for each policy on items that they bought.

        Args:
            customers: the customers.
            k: items a customer.
            policies: what to do with items that the customer has bought.

        Returns:
            One ranking a policy.
        """
        again = [self._again(customers, policy) for policy in policies]
        scored = self._scored(customers, self._longest(k), any(mask.any() for mask in again))
        return [self._list(scored, customers, k, mask) for mask in again]

    def reasons(self, customers: Customers, ranking: Ranking, count: int) -> Ints:
        """Name the bought items that speak most for each ranked item.

        Args:
            customers: the customers who were ranked.
            ranking: their items.
            count: at most so many reasons an item.

        Returns:
            int64 [n, k, count], strongest first, -1 where there are fewer: everywhere where an item
            comes from popularity or the recommender knows no reasons.
        """
        if count == 0 or not isinstance(self.scorer, Explains):
            return np.full((*ranking.items.shape, count), -1, dtype=np.int64)
        personal = np.isin(ranking.sources, (MODEL, FOLD_IN))
        items = np.where(personal, ranking.items, -1)
        return self.scorer.reasons(customers.weights, items, count)

    def _longest(self, k: int) -> int:
        """Return how many items a list can hold at most."""
        caps, allowed = self.rules.caps, self.rules.allowed
        if caps is None:
            return k
        everything = np.ones(len(self.tie_order), dtype=bool)
        return max(1, min(k, caps.longest(everything if allowed is None else allowed)))

    def _again(self, customers: Customers, policy: Policy) -> Mask:
        """Mark the own purchases [entries] that may be given again."""
        purchases = customers.purchases
        if isinstance(policy, str):
            mask: Mask = np.full(purchases.nnz, policy == "allow")
        else:
            mask = policy.copy()
        if self.rules.allowed is not None:
            mask &= self.rules.allowed[purchases.indices]
        if customers.barred is not None and mask.any():
            mask &= ~find(cells_of(customers.barred), cells_of(purchases))[0]
        return mask

    def _scored(self, customers: Customers, k: int, own: bool) -> _Scored:
        """Find the best items that a customer has not bought; score own purchases if asked for."""
        if self.catalogue is not None and isinstance(self.scorer, FactorScorer):
            vectors = _numbers(self.scorer.vectors(customers.rows, customers.weights), "customer")
            vectors = np.where(self._silenced(customers)[:, None], 0, vectors)
            return self._by_factors(vectors, self.catalogue, customers, k, own)
        return self._by_scores(customers, k)

    def _silenced(self, customers: Customers) -> Mask:
        """Mark customers [n] for whom the ladder does not let the model speak."""
        ladder = self.rules.ladder
        rungs = ("model" not in ladder, "fold_in" not in ladder)
        return np.where(customers.rows < self.known_customers, *rungs).astype(bool)

    def _by_factors(
        self, vectors: Floats, catalogue: Catalogue, customers: Customers, k: int, own: bool
    ) -> _Scored:
        """Search the catalogue by the items' lengths; own purchases are scored where asked for."""
        purchases, barred = customers.purchases, customers.barred
        speaks: Mask = np.any(vectors, axis=1)
        excluded = purchases if barred is None else _union(purchases, barred)
        found = pruned_top_k(vectors, catalogue, excluded, k, self.tie_order, self.rules.caps)
        items, values = found
        items[~speaks], values[~speaks] = -1, -np.inf
        if not own:
            return _Scored(items, values, np.empty(0, dtype=np.float32))
        row = rows_of(purchases)
        places = catalogue.places[purchases.indices]
        scores = np.empty(len(row), dtype=np.float32)
        size = max(1, PAIRS_A_PIECE // max(1, vectors.shape[1]))
        for first in range(0, len(row), size):
            piece = slice(first, first + size)
            factors = catalogue.factors[places[piece]]
            scores[piece] = np.einsum("pf,pf->p", vectors[row[piece]], factors)
        scores[~speaks[row]] = -np.inf
        return _Scored(items, values, scores)

    def _by_scores(self, customers: Customers, k: int) -> _Scored:
        """Score every item and take the best."""
        purchases, barred = customers.purchases, customers.barred
        scores = self.scorer.personal(customers.rows, customers.weights)
        scores *= self.priors[0] if len(self.priors) == 1 else self.priors[_trend(customers)]
        scores[self._silenced(customers)] = -np.inf
        bought = (rows_of(purchases), purchases.indices)
        own = scores[bought]
        scores[bought] = -np.inf
        self._forbid(scores, barred)
        return _Scored(*top_k(scores, k, self.tie_order, self.rules.caps), own)

    def _forbid(self, scores: Floats, barred: sp.csr_matrix | None) -> None:
        """Take out of scores [n, items] what no policy may give back."""
        if self.rules.allowed is not None:
            scores[:, ~self.rules.allowed] = -np.inf
        if barred is not None:
            scores[rows_of(barred), barred.indices] = -np.inf

    def _list(self, scored: _Scored, customers: Customers, k: int, again: Mask) -> Ranking:
        """Apply one policy and fill up with popularity where the recommender is silent."""
        items, values = scored.items, scored.values
        if again.any():
            items, values = self._with_own(scored, customers.purchases, again)
        items, values = _padded(items, values, k)
        source = np.where(customers.rows < self.known_customers, MODEL, FOLD_IN)[:, None]
        sources = np.where(items >= 0, source, NONE).astype(np.int8)
        self._fill(items, values, sources, customers, again)
        return Ranking(items, values, sources)

    def _with_own(
        self, scored: _Scored, purchases: sp.csr_matrix, again: Mask
    ) -> tuple[Ints, Floats]:
        """Put bought items among the others, with the repeat term on top of their scores."""
        own = scored.own
        if self.parameters.own_weight:
            bonus = np.float32(self.parameters.own_weight) * purchases.data
            own = np.where(np.isneginf(own), 0, own) + bonus
        says = ~np.isneginf(own) & again
        own = np.where(says, own, -np.inf)
        entries = sp.csr_matrix((own, purchases.indices, purchases.indptr), purchases.shape)
        return with_entries(scored.items, scored.values, entries, self.tie_order, self.rules.caps)

    def _fill(
        self,
        items: Ints,
        values: Floats,
        sources: NDArray[np.int8],
        customers: Customers,
        again: Mask,
    ) -> None:
        """Put popular items behind those that the customers already have, in place."""
        k, ladder = items.shape[1], self.rules.ladder
        table = self.trends if self.fallback is None else self.fallback
        rung = _trend(customers) if customers.fallback is None else customers.fallback
        of_segment = (rung > 0) & (customers.fallback is not None)
        if "segment_popularity" not in ladder:
            rung, of_segment = np.where(of_segment, 0, rung), np.zeros_like(of_segment)
        short = np.flatnonzero((items[:, -1] < 0) & (of_segment | ("popularity" in ladder)))
        if len(short) == 0:
            return
        filler = np.array(table[rung[short]])
        own = sp.csr_matrix(
            (~again, customers.purchases.indices, customers.purchases.indptr),
            shape=customers.purchases.shape,
        )[short]
        row, column = rows_of(own)[own.data], own.indices[own.data]
        filler[row, column] = -np.inf
        self._forbid(filler, None if customers.barred is None else customers.barred[short])
        # What a customer has stays where it is: popularity is at most 1.
        have = items[short]
        row, place = np.nonzero(have >= 0)
        filler[row, have[row, place]] = 1 + k - place
        more, more_values = top_k(filler, k, self.tie_order, self.rules.caps)
        new = (have < 0) & (more >= 0)
        row, place = np.nonzero(new)
        target = (short[row], place)
        items[target], values[target] = more[new], more_values[new]
        sources[target] = np.where(of_segment[short[row]], SEGMENT_POPULARITY, POPULARITY)


def _trend(customers: Customers) -> Ints:
    """Return the row of the trend [n] of each customer."""
    if customers.trend is None:
        return np.zeros(len(customers.rows), dtype=np.int64)
    return customers.trend


def _union(a: sp.csr_matrix, b: sp.csr_matrix) -> sp.csr_matrix:
    """Return a matrix [n, items] with an entry wherever one of the two has one."""
    ones = (
        sp.csr_matrix((np.ones(m.nnz, dtype=np.float32), m.indices, m.indptr), shape=m.shape)
        for m in (a, b)
    )
    return (next(ones) + next(ones)).tocsr()


def _numbers(factors: Floats, of: str) -> Floats:
    """Return factors; raises ModelError where some are not numbers, which no search would find."""
    if not np.isfinite(factors).all():
        raise ModelError(f"The model holds {of} factors that are not numbers: train it again.")
    return np.asarray(factors)


def _padded(items: Ints, values: Floats, k: int) -> tuple[Ints, Floats]:
    """Return a copy of lists that may be shorter than k [n, ≤ k], as lists of length k."""
    missing = ((0, 0), (0, k - items.shape[1]))
    return (
        np.pad(items, missing, constant_values=-1),
        np.pad(values, missing, constant_values=-np.inf),
    )
