"""Ranking metrics of one customer, straight from a list of items and the set they bought."""

import math
from collections.abc import Sequence


def metrics(recommended: Sequence[str], bought: set[str], k: int) -> dict[str, float]:
    """Return every metric at k by its textbook definition."""
    top = list(recommended)[:k]
    found = [place for place, item in enumerate(top, start=1) if item in bought]
    best = min(k, len(bought))
    gain = sum(1 / math.log2(place + 1) for place in found)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, best + 1))
    precisions = [sum(other <= place for other in found) / place for place in found]
    return {
        f"precision_at_{k}": len(found) / k,
        f"recall_at_{k}": len(found) / len(bought),
        f"ndcg_at_{k}": gain / ideal,
        f"map_at_{k}": sum(precisions) / best,
        f"mrr_at_{k}": 1 / found[0] if found else 0.0,
        f"hit_rate_at_{k}": 1.0 if found else 0.0,
    }
