"""What a whole set of lists looks like: coverage, concentration, novelty.

Every function takes how often each item of the catalogue was recommended, int [items].
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def coverage(recommended: Counts) -> float:
    """Share of the catalogue that is recommended to anyone (Ge et al. 2010)."""
    return float((recommended > 0).mean()) if len(recommended) else 0.0


def gini(recommended: Counts) -> float:
    """Concentration of the recommendations: 0 all items alike, towards 1 few items get all.

    Gini = Σ (2 i - n - 1) x_i / (n Σ x), x rising (Fleder & Hosanagar 2009).
    """
    n, total = len(recommended), recommended.sum()
    if n == 0 or total == 0:
        return 0.0
    place = np.arange(1, n + 1)
    return float(((2 * place - n - 1) * np.sort(recommended)).sum() / (n * total))


def novelty(recommended: Counts, popularity: NDArray[np.float64]) -> float:
    """Mean self-information of a recommendation, -log2 p(i), in bits (Zhou et al. 2010).

    Args:
        recommended: int [items].
        popularity: [items], purchases of each item before the cut; p is its share of them, an
            item without one counting as half a purchase.
    """
    if recommended.sum() == 0:
        return 0.0
    share = np.maximum(popularity, 0.5) / max(popularity.sum(), 0.5)
    return float(-(recommended * np.log2(share)).sum() / recommended.sum())


def popular_share(recommended: Counts, popularity: NDArray[np.float64], top: float = 0.1) -> float:
    """Share of the recommendations that go to the `top` share of items by popularity."""
    if recommended.sum() == 0:
        return 0.0
    count = max(1, round(top * len(popularity)))
    best = np.argsort(-popularity, kind="stable")[:count]
    return float(recommended[best].sum() / recommended.sum())
