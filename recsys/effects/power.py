"""What a test could have seen, and how many customers and days the next one needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy import stats
from statsmodels.stats.gof import chisquare_effectsize
from statsmodels.stats.power import GofChisquarePower, TTestIndPower
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from recsys.effects.effect import LEVEL, TAIL, Effect, Flags, Values, mean_effect
from recsys.effects.sample_ratio import BROKEN, check_share

ALPHA = 1 - LEVEL


@dataclass(frozen=True)
class Plan:
    """How large a test must be.

    Attributes:
        effect: what it is to find, relative to control.
        power: how often it finds an effect of that size.
        treatment: customers needed in the arm.
        control: likewise.
        days: days until so many customers have come; None where their number a day is not given.
    """

    effect: float
    power: float
    treatment: int
    control: int
    days: int | None = None

    @property
    def customers(self) -> int:
        """Customers needed in both arms."""
        return self.treatment + self.control


def detectable(values: Values, treated: Flags, power: float = 0.8) -> float:
    """Return the smallest true difference of means that this test would have found; see `seen`."""
    return seen(mean_effect(values, treated), power)


def seen(effect: Effect, power: float = 0.8) -> float:
    """Return the smallest true difference that a test with this precision would have found.

    (z of 97.5 % + z of the power) standard errors (Bloom 1995), by any method.

    Args:
        effect: what was found; only its interval's width counts.
        power: how often a difference of that size is found.
    """
    _check_power(power)
    return float(stats.norm.ppf(TAIL) + stats.norm.ppf(power)) * effect.error


def planned(
    mean: float,
    sd: float,
    effect: float,
    control_share: float,
    correlation: float = 0.0,
    power: float = 0.8,
    customers_a_day: float | None = None,
) -> Plan:
    """Plan a test of a mean: customers needed to find a relative effect.

    Args:
        mean: of control, such as sales a customer in the window.
        sd: standard deviation over customers.
        effect: relative change to find, such as 0.05; its sign does not matter.
        control_share: share of customers in the control arm.
        correlation: of the outcome with the time before, where CUPED will use it.
        power: how often the effect is to be found.
        customers_a_day: customers who join the test a day.

    Raises:
        ValueError: a number that makes no test.
    """
    check_share(control_share)
    _check_power(power)
    if mean <= 0 or sd <= 0 or effect == 0 or not -1 < correlation < 1:
        raise ValueError(
            "a plan needs mean > 0, sd > 0, an effect that is not 0, a correlation within −1 … 1."
        )
    size = abs(effect) * mean / (sd * np.sqrt(1 - correlation**2))
    needed = TTestIndPower().solve_power(
        size, alpha=ALPHA, power=power, ratio=control_share / (1 - control_share)
    )
    return _plan(effect, power, float(np.squeeze(needed)), control_share, customers_a_day)


def planned_share(
    share: float,
    effect: float,
    control_share: float,
    power: float = 0.8,
    customers_a_day: float | None = None,
) -> Plan:
    """Plan a test of a share, such as churn or conversion; arguments as `planned`.

    Args:
        share: of the control customers to whom it happens.
        effect: relative change of that share to find, such as −0.1.
        control_share: share of customers in the control arm.
        power: how often the effect is to be found.
        customers_a_day: customers who join the test a day.

    Raises:
        ValueError: a number that makes no test.
    """
    check_share(control_share)
    _check_power(power)
    if not 0 < share < 1 or effect == 0 or not 0 <= share * (1 + effect) <= 1:
        raise ValueError("a plan needs shares between 0 and 1, and an effect that is not 0.")
    needed = samplesize_proportions_2indep_onetail(
        share * effect, share, power, ratio=control_share / (1 - control_share), alpha=ALPHA
    )
    return _plan(effect, power, float(needed), control_share, customers_a_day)


def imbalance_plan(
    control_share: float,
    imbalance: float = 0.01,
    power: float = 0.8,
    customers_a_day: float | None = None,
) -> Plan:
    """Return how many customers show that an arm is short, by the check of the sample ratio.

    Args:
        control_share: share of customers in the control arm that is meant.
        imbalance: share of the control customers that got lost, such as 0.01.
        power: how often `sample_ratio` is to call it broken.
        customers_a_day: customers who join the test a day.

    Raises:
        ValueError: a number that makes no test.
    """
    check_share(control_share)
    _check_power(power)
    if not 0 < imbalance < 1:
        raise ValueError(f"imbalance={imbalance} must lie between 0 and 1.")
    left = control_share * (1 - imbalance)
    found = left / (1 - control_share * imbalance)
    size = chisquare_effectsize([1 - control_share, control_share], [1 - found, found])
    needed = GofChisquarePower().solve_power(size, alpha=BROKEN, power=power, n_bins=2)
    total = float(np.squeeze(needed))
    return _plan(imbalance, power, total * (1 - control_share), control_share, customers_a_day)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values that may be judged together, by Holm (1979): one a strategy or segment."""
    order, count = np.argsort(p_values, kind="stable"), len(p_values)
    stepped = np.asarray(p_values, dtype=np.float64)[order] * np.arange(count, 0, -1)
    result = np.empty(count)
    result[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return [float(p) for p in result]


def _plan(
    effect: float, power: float, treatment: float, control_share: float, a_day: float | None
) -> Plan:
    """Round up to whole customers and days."""
    arms = ceil(treatment), ceil(treatment * control_share / (1 - control_share))
    if a_day is not None and a_day <= 0:
        raise ValueError(f"customers_a_day={a_day} must be above 0.")
    days = None if a_day is None else ceil(sum(arms) / a_day)
    return Plan(effect, power, *arms, days)


def _check_power(power: float) -> None:
    if not 0.05 < power < 1:
        raise ValueError(f"power={power} must lie between 0.05 and 1.")
