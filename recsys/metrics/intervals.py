"""Intervals by bootstrap over customers (Efron & Tibshirani 1993, percentile method).

Every customer is drawn a Poisson(1) number of times (Hanley & MacGibbon 2006), which among many
customers is drawing with replacement, and needs no count of the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

REPLICATES = 1000
LEVEL = 0.95
# So many (replicate, customer) pairs are drawn at once: 32 MiB of weights.
DRAWS_A_BATCH = 4_000_000
# Among more customers it never happens that nobody is drawn (e⁻¹⁰⁰).
FEW = 100
# Two random bytes → how often a customer is drawn.
STEPS = 2**16
TIMES = stats.poisson.ppf((np.arange(STEPS) + 0.5) / STEPS, 1).astype(np.float64)


@dataclass(frozen=True)
class Interval:
    """An estimate over customers and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


def resamples(customers: int, seed: int, replicates: int) -> Iterator[NDArray[np.float64]]:
    """Draw customers again and again.

    Args:
        customers: how many there are.
        seed: of the draws; the same seed and number of customers draw the same customers.
        replicates: number of draws.

    Yields:
        float64 [some replicates, customers]: how often each customer was drawn.
    """
    random = np.random.default_rng(seed)
    size = max(1, DRAWS_A_BATCH // max(1, customers))
    for first in range(0, replicates, size):
        shape = (min(size, replicates - first), customers)
        weights = TIMES[random.integers(0, STEPS, shape, dtype=np.uint16)]
        # Of very few customers, all may be left out: such a draw takes everyone once.
        if customers < FEW:
            weights[~weights.any(axis=1)] = 1
        yield weights


def bootstrap_means(
    values: NDArray[np.float64], seed: int, replicates: int = REPLICATES
) -> NDArray[np.float64]:
    """Draw customers and take the means.

    Args:
        values: [customers, columns]; the columns of one customer are drawn together.
        seed: see `resamples`.
        replicates: number of draws.

    Returns:
        float64 [replicates, columns].
    """
    with_ones = np.column_stack([values, np.ones(len(values))])
    draws = resamples(len(values), seed, replicates)
    # The column of ones sums the weights.
    summed = np.concatenate([weights @ with_ones for weights in draws])
    return np.asarray(summed[:, :-1] / summed[:, -1:])


def mean_intervals(
    values: NDArray[np.float64], seed: int, replicates: int = REPLICATES
) -> list[Interval]:
    """Return the mean of each column with its 95 % interval; see `bootstrap_means`."""
    low, high = percentiles(bootstrap_means(values, seed, replicates))
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def centred_interval(value: float, draws: NDArray[np.float64]) -> Interval:
    """Return the spread of the draws around the value.

    For what a resample underestimates, such as coverage: it repeats customers, so it holds fewer
    distinct lists than the whole. The draws are moved by their mean's distance from the value.

    Args:
        value: of the whole.
        draws: float64 [replicates].
    """
    low, high = percentiles(draws - draws.mean() + value)
    return Interval(value, float(low), float(high))


def percentiles(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ends [2, columns] of the 95 % interval of the draws [replicates, columns]."""
    tail = 100 * (1 - LEVEL) / 2
    return np.asarray(np.percentile(draws, [tail, 100 - tail], axis=0))
