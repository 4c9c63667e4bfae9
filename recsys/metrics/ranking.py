"""Ranking metrics of each customer, from which places of their list were hits.

Every function takes `hits` bool [customers, places] (place 0 is the first recommendation; a place
without a recommendation is no hit), `relevant` int [customers] (items that the customer bought in
the window, at least 1, also items that nobody could have recommended) and `k`, and returns
float64 [customers]. A list shorter than k counts as if filled with misses.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def precision(hits: Hits, relevant: Counts, k: int) -> Values:
    """Share of the k places that are hits: |hits| / k (Manning et al. 2008, §8.4)."""
    return np.asarray(hits[:, :k].sum(axis=1) / k)


def recall(hits: Hits, relevant: Counts, k: int) -> Values:
    """Share of the relevant items found: |hits| / |relevant| (Manning et al. 2008, §8.3)."""
    return np.asarray(hits[:, :k].sum(axis=1) / relevant)


def ndcg(hits: Hits, relevant: Counts, k: int) -> Values:
    """Discounted gain over the best possible: Σ hit_r / log2(r + 1), r from 1, binary gain.

    The best possible list has min(k, |relevant|) hits in front (Järvelin & Kekäläinen 2002).
    """
    k_found = min(k, hits.shape[1])
    gain = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate(([0.0], np.cumsum(gain)))[np.minimum(relevant, k)]
    return np.asarray(hits[:, :k_found] @ gain[:k_found] / ideal)


def average_precision(hits: Hits, relevant: Counts, k: int) -> Values:
    """Mean of the precision at each hit: Σ hit_r · precision_r / min(k, |relevant|).

    The denominator is what a perfect list of k would have; its mean over customers is MAP at k.
    """
    shown = hits[:, :k]
    at_place = np.cumsum(shown, axis=1) / np.arange(1, shown.shape[1] + 1)
    return np.asarray((shown * at_place).sum(axis=1) / np.minimum(relevant, k))


def reciprocal_rank(hits: Hits, relevant: Counts, k: int) -> Values:
    """1 / the place of the first hit, 0 without one (Voorhees 1999)."""
    shown = hits[:, :k]
    first = shown.argmax(axis=1)
    return np.asarray(np.where(shown.any(axis=1), 1 / (first + 1), 0.0))


def hit_rate(hits: Hits, relevant: Counts, k: int) -> Values:
    """1 where at least one of the k places is a hit, else 0."""
    return np.asarray(hits[:, :k].any(axis=1), dtype=np.float64)


METRICS: dict[str, Callable[[Hits, Counts, int], Values]] = {
    "precision": precision,
    "recall": recall,
    "ndcg": ndcg,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
}


def per_customer(hits: Hits, relevant: Counts, ks: tuple[int, ...]) -> dict[str, Values]:
    """Compute every metric at every k.

    Returns:
        name such as `ndcg_at_10` → float64 [customers].
    """
    return {
        f"{name}_at_{k}": metric(hits, relevant, k) for k in ks for name, metric in METRICS.items()
    }


def revenue_recall(gains: Values, revenue: Values, k: int) -> Values:
    """Share of the relevant items' revenue that was found: Σ gain_r / Σ revenue.

    Args:
        gains: float64 [customers, places], what the hit at a place was bought for; 0 without one.
        revenue: float64 [customers], what all relevant items were bought for; 0 gives 0.
        k: places that count.
    """
    found = gains[:, :k].sum(axis=1)
    return np.asarray(np.divide(found, revenue, out=np.zeros_like(revenue), where=revenue > 0))


def revenue_ndcg(gains: Values, ideal: Values, k: int) -> Values:
    """Discounted gain over the best possible, a hit's gain being what the item was bought for.

    Σ gain_r / log2(r + 1), r from 1, over that of the dearest items first (Järvelin & Kekäläinen
    2002, with linear gain).

    Args:
        gains: see `revenue_recall`.
        ideal: float64 [customers, at least min(k, most relevant items)], what the relevant items
            were bought for, the dearest first, 0 behind the last.
        k: places that count.
    """
    discounted, best = (
        v[:, :k] @ (1 / np.log2(np.arange(2, min(k, v.shape[1]) + 2))) for v in (gains, ideal)
    )
    return np.asarray(np.divide(discounted, best, out=np.zeros_like(best), where=best > 0))


def per_customer_revenue(
    gains: Values, ideal: Values, revenue: Values, ks: tuple[int, ...]
) -> dict[str, Values]:
    """Compute the metrics weighted by revenue at every k; arguments as in `revenue_ndcg`.

    Returns:
        name such as `revenue_recall_at_10` → float64 [customers].
    """
    recalls = {f"revenue_recall_at_{k}": revenue_recall(gains, revenue, k) for k in ks}
    return recalls | {f"revenue_ndcg_at_{k}": revenue_ndcg(gains, ideal, k) for k in ks}


REVENUE_METRICS = ("revenue_recall", "revenue_ndcg")
