"""What lists look like beside being right: novel, diverse, spread over the catalogue.

Metrics of one list take `shown` int [customers, places], the recommended items, -1 where there is
none, and return float64 [customers]; an empty list has 0. Metrics of all lists together take
`recommended`, how often each item of the catalogue was recommended.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.metrics.intervals import resamples

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Amounts = NDArray[np.int64] | NDArray[np.float64]
POPULAR = 0.1


def self_information(popularity: Values) -> Values:
    """Return how surprising each item is in bits: -log2 p(i) (Zhou et al. 2010).

    Args:
        popularity: [items], purchases of each item before the cut; p is its share of them, an
            item without one counting as half a purchase.
    """
    share = np.maximum(popularity, 0.5) / max(popularity.sum(), 0.5)
    return np.asarray(-np.log2(share))


def popular_items(popularity: Values) -> NDArray[np.bool_]:
    """Mark the tenth of the items that was bought most before the cut; ties by index."""
    count = max(1, round(POPULAR * len(popularity)))
    popular = np.zeros(len(popularity), dtype=bool)
    popular[np.argsort(-popularity, kind="stable")[:count]] = True
    return popular


def novelty(shown: Counts, information: Values) -> Values:
    """Mean self-information of the recommended items, in bits (Zhou et al. 2010)."""
    return _mean(information, shown)


def popular_share(shown: Counts, popular: NDArray[np.bool_]) -> Values:
    """Share of the recommendations that go to the popular tenth of the catalogue."""
    return _mean(popular.astype(np.float64), shown)


def diversity(shown: Counts, category: NDArray[np.int32]) -> Values:
    """Share of the pairs in a list that lie in different categories (Ziegler et al. 2005).

    Intra-list diversity with distance 1 between categories and 0 inside one; a list with fewer
    than two items has 0.

    Args:
        shown: int [customers, places].
        category: int [items]; -1 is one category, of all items whose category is unknown.
    """
    given = shown >= 0
    codes = np.where(given, category[shown], -2)
    alike = codes[:, :, None] == codes[:, None, :]
    both = given[:, :, None] & given[:, None, :]
    pairs = both.sum(axis=(1, 2)) - given.sum(axis=1)
    same = (alike & both).sum(axis=(1, 2)) - given.sum(axis=1)
    return np.where(pairs > 0, 1 - same / np.maximum(pairs, 1), 0.0)


def coverage(recommended: Amounts, items: int) -> Values:
    """Share of the catalogue that is recommended to anyone (Ge et al. 2010).

    Args:
        recommended: [..., at most items], how often each item was recommended; items left out
            were not.
        items: of the catalogue.

    Returns:
        float64 [...].
    """
    return np.asarray((recommended > 0).sum(axis=-1) / max(items, 1))


def gini(recommended: Amounts, items: int) -> Values:
    """Concentration of the recommendations: 0 all items alike, towards 1 few items get all.

    Gini = Σ (2 i - n - 1) x_i / (n Σ x), x rising (Fleder & Hosanagar 2009); 0 where nothing is
    recommended. Arguments and result as in `coverage`.
    """
    rising = np.sort(recommended, axis=-1)
    # Items left out come first in the order, with x = 0.
    place = np.arange(items - rising.shape[-1] + 1, items + 1)
    total = np.asarray(rising.sum(axis=-1), dtype=np.float64)
    weighted = np.asarray(rising @ (2.0 * place - items - 1))
    return np.divide(weighted, items * total, out=np.zeros_like(total), where=total > 0)


def catalogue_draws(
    lists: sp.csr_matrix, items: int, seed: int, replicates: int
) -> dict[str, Values]:
    """Draw customers and describe all their lists together.

    Args:
        lists: CSR [customers, at most items] of ones.
        items: of the catalogue.
        seed: see `resamples`.
        replicates: number of draws.

    Returns:
        coverage, gini → float64 [replicates].
    """
    found: dict[str, list[Values]] = {name: [] for name in CATALOGUE_METRICS}
    for weights in resamples(lists.shape[0], seed, replicates):
        recommended = np.asarray((lists.T @ weights.T).T)
        for name, metric in CATALOGUE_METRICS.items():
            found[name].append(metric(recommended, items))
    return {name: np.concatenate(draws) for name, draws in found.items()}


def _mean(of_item: Values, shown: Counts) -> Values:
    """Average a value of the items over each customer's list."""
    given = shown >= 0
    total = np.where(given, of_item[shown], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(given.sum(axis=1), 1))


CATALOGUE_METRICS = {"coverage": coverage, "gini": gini}
