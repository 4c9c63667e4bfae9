"""Rank all items for some customers: the one place where scores become lists.

Personal scores, trend prior, own purchases, seen items, ties by item id, and popularity where the
recommender has nothing more to say.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.kernels.topk import LARGEST_BLOCK, Catalogue, best_of, pruned_top_k, top_k
from recsys.models.base import FactorScorer, Floats, Hyperparameters, Ints, Scorer
from recsys.strategy import Seen

NONE, MODEL, FOLD_IN, POPULARITY = range(4)
SOURCES = ("none", "model", "fold_in", "popularity")
# Own purchases are scored in pieces: 64 MiB of their items' factors.
PAIRS_A_PIECE = 16_000_000


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


class Ranker:
    """Ranks customers with a fitted recommender."""

    def __init__(
        self,
        scorer: Scorer,
        parameters: Hyperparameters,
        trends: Floats,
        item_ids: NDArray[np.str_],
        known_customers: int,
    ) -> None:
        """Keep what ranking needs.

        Args:
            scorer: the fitted recommender.
            parameters: its hyperparameters.
            trends: float32 [1 + segments, items], scaled; row 0 over all customers.
            item_ids: [items].
            known_customers: customers that the fit knew.
        """
        self.scorer, self.parameters, self.trends = scorer, parameters, trends
        self.known_customers = known_customers
        # Never 0, because a silent recommender's -inf times 0 would be no number.
        prior = trends ** np.float32(parameters.trend_power)
        self.priors = np.maximum(prior, np.finfo(np.float32).tiny)
        self.tie_order = np.empty(len(item_ids), dtype=np.int64)
        self.tie_order[np.argsort(item_ids)] = np.arange(len(item_ids))
        self.catalogue = None
        if isinstance(scorer, FactorScorer) and len(trends) == 1:
            # The prior scales the items' factors, so that pruning sees it too.
            factors = _numbers(scorer.item_factors, "item") * self.priors[0][:, None]
            self.catalogue = Catalogue.of(factors)

    @property
    def scores_a_customer(self) -> int:
        """Scores that are held at once for each customer."""
        items = len(self.tie_order)
        return items if self.catalogue is None else min(items, LARGEST_BLOCK)

    def rank(
        self,
        rows: Ints,
        weights: sp.csr_matrix,
        purchases: sp.csr_matrix,
        k: int,
        policies: tuple[Seen, ...],
        segments: Ints | None = None,
    ) -> list[Ranking]:
        """Rank all items for some customers, once for each policy on items that they bought.

        Args:
            rows: [n] the customers' rows in the fit's history.
            weights: CSR [n, items], the history as the fit weighs it.
            purchases: CSR [n, items], own time-decayed purchases.
            k: items a customer.
            policies: what to do with items that the customer has bought.
            segments: [n] the row of `trends` that each customer follows; None for row 0.

        Returns:
            One ranking a policy.
        """
        trend = np.zeros(len(rows), dtype=np.int64) if segments is None else segments
        if self.catalogue is not None and isinstance(self.scorer, FactorScorer):
            vectors = _numbers(self.scorer.vectors(rows, weights), "customer")
            scored = self._by_factors(vectors, self.catalogue, purchases, k, "allow" in policies)
        else:
            scored = self._by_scores(rows, weights, purchases, k, trend)
        return [self._list(scored, rows, purchases, trend, k, policy) for policy in policies]

    def _by_factors(
        self, vectors: Floats, catalogue: Catalogue, purchases: sp.csr_matrix, k: int, own: bool
    ) -> _Scored:
        """Search the catalogue by the items' lengths; own purchases are scored where asked for."""
        speaks: NDArray[np.bool_] = np.any(vectors, axis=1)
        items, values = pruned_top_k(vectors, catalogue, purchases, k, self.tie_order)
        items[~speaks], values[~speaks] = -1, -np.inf
        if not own:
            return _Scored(items, values, np.empty(0, dtype=np.float32))
        row = np.repeat(np.arange(len(vectors)), np.diff(purchases.indptr))
        places = catalogue.places[purchases.indices]
        scores = np.empty(len(row), dtype=np.float32)
        size = max(1, PAIRS_A_PIECE // max(1, vectors.shape[1]))
        for first in range(0, len(row), size):
            piece = slice(first, first + size)
            factors = catalogue.factors[places[piece]]
            scores[piece] = np.einsum("pf,pf->p", vectors[row[piece]], factors)
        scores[~speaks[row]] = -np.inf
        return _Scored(items, values, scores)

    def _by_scores(
        self, rows: Ints, weights: sp.csr_matrix, purchases: sp.csr_matrix, k: int, trend: Ints
    ) -> _Scored:
        """Score every item and take the best."""
        scores = self.scorer.personal(rows, weights)
        scores *= self.priors[0] if len(self.priors) == 1 else self.priors[trend]
        bought = (np.repeat(np.arange(len(rows)), np.diff(purchases.indptr)), purchases.indices)
        own = scores[bought]
        scores[bought] = -np.inf
        return _Scored(*top_k(scores, k, self.tie_order), own)

    def _list(
        self,
        scored: _Scored,
        rows: Ints,
        purchases: sp.csr_matrix,
        trend: Ints,
        k: int,
        policy: Seen,
    ) -> Ranking:
        """Apply one policy and fill up with popularity where the recommender is silent."""
        items, values = scored.items.copy(), scored.values.copy()
        if policy == "allow":
            items, values = self._with_own(scored, purchases, k)
        source = np.where(rows < self.known_customers, MODEL, FOLD_IN)[:, None]
        sources = np.where(items >= 0, source, NONE).astype(np.int8)
        short = np.flatnonzero(items[:, -1] < 0)
        if len(short):
            filler = np.array(self.trends[trend[short]])
            if policy == "exclude":
                own = purchases[short]
                filler[np.repeat(np.arange(len(short)), np.diff(own.indptr)), own.indices] = -np.inf
            given_row, given_place = np.nonzero(items[short] >= 0)
            filler[given_row, items[short][given_row, given_place]] = -np.inf
            more, more_values = top_k(filler, k, self.tie_order)
            _append(items, values, sources, short, more, more_values)
        return Ranking(items, values, sources)

    def _with_own(self, scored: _Scored, purchases: sp.csr_matrix, k: int) -> tuple[Ints, Floats]:
        """Put bought items among the others, with the repeat term on top of their scores."""
        own = scored.own
        if self.parameters.own_weight:
            bonus = np.float32(self.parameters.own_weight) * purchases.data
            own = np.where(np.isneginf(own), 0, own) + bonus
        count = len(scored.items)
        row = np.repeat(np.arange(count), np.diff(purchases.indptr))
        says = ~np.isneginf(own)
        new_row, place = np.nonzero(scored.items >= 0)
        return best_of(
            np.concatenate((new_row, row[says])),
            np.concatenate((scored.items[new_row, place], purchases.indices[says])),
            np.concatenate((scored.values[new_row, place], own[says])),
            count,
            k,
            self.tie_order,
        )


def _numbers(factors: Floats, of: str) -> Floats:
    """Return factors; raises ModelError where some are not numbers, which no search would find."""
    if not np.isfinite(factors).all():
        raise ModelError(f"The model holds {of} factors that are not numbers: train it again.")
    return np.asarray(factors)


def _append(
    items: Ints,
    values: Floats,
    sources: NDArray[np.int8],
    short: Ints,
    more: Ints,
    more_values: Floats,
) -> None:
    """Put further items behind those that the short rows already have."""
    k = items.shape[1]
    have = (items[short] >= 0).sum(axis=1)
    place = have[:, None] + np.arange(k)
    row, column = np.nonzero((place < k) & (more >= 0))
    target = (short[row], place[row, column])
    items[target] = more[row, column]
    values[target] = more_values[row, column]
    sources[target] = POPULARITY
