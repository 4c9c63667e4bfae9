"""Power: what a test could have seen, plans, and p-values that are judged together."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from recsys.effects.effect import mean_effect
from recsys.effects.power import adjusted, detectable, imbalance_plan, planned, planned_share, seen


def test_what_a_test_could_have_seen_is_found_with_the_power() -> None:
    random = np.random.default_rng(1)
    treated = np.arange(4_000) < 3_000
    smallest = detectable(random.normal(10, 2, 4_000), treated)
    found = [
        mean_effect(random.normal(10, 2, 4_000) + smallest * treated, treated).significant
        for _ in range(1_000)
    ]
    # Three standard errors of 1,000 experiments, and what `smallest` itself is uncertain by.
    assert np.mean(found) == pytest.approx(0.8, abs=0.038 + 0.02)


def test_what_can_be_seen_depends_on_the_interval_alone() -> None:
    treated = np.arange(50) < 30
    values = np.random.default_rng(2).normal(size=50)
    plain, moved = mean_effect(values, treated), mean_effect(values + 9 * treated, treated)
    assert seen(plain) == pytest.approx(seen(moved))
    assert seen(plain) == pytest.approx((1.959964 + 0.841621) * plain.error)
    assert seen(plain, 0.9) > seen(plain, 0.8)


def test_a_plan_of_a_mean_agrees_with_the_textbook() -> None:
    """n = (z + z)² (1/s + 1/(1 − s)) σ² / δ² customers, s the control's share."""
    plan = planned(mean=10, sd=20, effect=0.05, control_share=0.1, customers_a_day=1_000)
    expected = (1.959964 + 0.841621) ** 2 * (1 / 0.1 + 1 / 0.9) * 20**2 / 0.5**2
    assert plan.customers == pytest.approx(expected, rel=1e-3)
    assert plan.control / plan.customers == pytest.approx(0.1, abs=1e-4)
    assert plan.days == np.ceil(plan.customers / 1_000)


def test_cuped_needs_fewer_by_the_square_of_the_correlation() -> None:
    plain, cuped = (planned(10, 20, -0.05, 0.5, correlation=rho) for rho in (0, 0.6))
    assert cuped.customers / plain.customers == pytest.approx(1 - 0.6**2, rel=1e-3)
    assert plain.days is None


def test_a_plan_of_a_share_finds_it_with_the_power() -> None:
    plan = planned_share(0.3, -0.2, control_share=0.4)
    random = np.random.default_rng(3)
    t = random.binomial(plan.treatment, 0.24, 4_000) / plan.treatment
    c = random.binomial(plan.control, 0.30, 4_000) / plan.control
    both = (t * plan.treatment + c * plan.control) / plan.customers
    error = np.sqrt(both * (1 - both) * (1 / plan.treatment + 1 / plan.control))
    assert np.mean(np.abs(t - c) / error > 1.96) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_plan_of_the_sample_ratio_agrees_with_its_formula(share: float) -> None:
    """N = (z + z)² p(1 − p) / (p′ − p)², z of α = 0.001 and of the power."""
    plan = imbalance_plan(share)
    found = share * 0.99 / (1 - share * 0.01)
    needed = (stats.norm.isf(0.0005) + stats.norm.ppf(0.8)) ** 2
    assert plan.customers == pytest.approx(
        needed * share * (1 - share) / (found - share) ** 2, 0.01
    )
    assert imbalance_plan(share, 0.02).customers == pytest.approx(plan.customers / 4, rel=0.02)


def test_p_values_are_judged_together_by_holm() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.2]) == [0.2]
    assert adjusted([]) == []
    assert max(adjusted([0.9, 0.8])) <= 1
    draws = np.random.default_rng(3).random(40) ** 3
    assert adjusted(draws) == pytest.approx(multipletests(draws, method="holm")[1])


@pytest.mark.parametrize(
    "call",
    [
        lambda: planned(0, 1, 0.1, 0.5),
        lambda: planned(1, 0, 0.1, 0.5),
        lambda: planned(1, 1, 0, 0.5),
        lambda: planned(1, 1, 0.1, 1.0),
        lambda: planned(1, 1, 0.1, 0.5, correlation=1),
        lambda: planned(1, 1, 0.1, 0.5, power=1),
        lambda: planned(1, 1, 0.1, 0.5, customers_a_day=0),
        lambda: planned_share(0.5, 1.5, 0.5),
        lambda: planned_share(0, 0.5, 0.5),
        lambda: imbalance_plan(0.5, 0),
    ],
)
def test_what_makes_no_plan_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"needs|between|above 0"):
        call()
