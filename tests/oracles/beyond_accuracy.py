"""Metrics beside accuracy, of one list straight from its items, or of all lists together."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations


def novelty(shown: Sequence[int], bought: Counter[int]) -> float:
    """Return the mean of -log2 of each item's share of all purchases, half a purchase at least."""
    total = sum(bought.values())
    bits = [math.log2(total / max(bought[item], 0.5)) for item in shown]
    return sum(bits) / len(bits) if bits else 0.0


def diversity(shown: Sequence[int], category: Sequence[int]) -> float:
    """Return the share of pairs that lie in different categories, pair by pair."""
    apart = [category[one] != category[other] for one, other in combinations(shown, 2)]
    return sum(apart) / len(apart) if apart else 0.0


def coverage(lists: Sequence[Sequence[int]], items: int) -> float:
    """Return the share of the catalogue that stands in any list."""
    return len({item for shown in lists for item in shown}) / items


def gini(lists: Sequence[Sequence[int]], items: int) -> float:
    """Return half the mean difference between two items, relative to the mean of an item."""
    times = Counter(item for shown in lists for item in shown)
    apart = sum(abs(times[one] - times[other]) for one in range(items) for other in range(items))
    return apart / (2 * items * sum(times.values()))
