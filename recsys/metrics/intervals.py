"""Intervals of means by bootstrap over customers (Efron & Tibshirani 1993, percentile method)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over customers and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float


def bootstrap_means(
    values: NDArray[np.float64], seed: int, replicates: int = REPLICATES
) -> NDArray[np.float64]:
    """Draw customers with replacement and take the means.

    Args:
        values: [customers, columns]; the columns of one customer are drawn together.
        seed: of the draws; the same seed and number of customers draw the same customers.
        replicates: number of draws.

    Returns:
        float64 [replicates, columns].
    """
    random = np.random.default_rng(seed)
    customers = len(values)
    means = np.empty((replicates, values.shape[1]))
    for draw in range(replicates):
        times = np.bincount(random.integers(0, customers, customers), minlength=customers)
        means[draw] = times @ values / customers
    return means


def mean_intervals(
    values: NDArray[np.float64], seed: int, replicates: int = REPLICATES
) -> list[Interval]:
    """Return the mean of each column with its 95 % interval; see `bootstrap_means`."""
    draws = bootstrap_means(values, seed, replicates)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]
