"""Effects: cases worked by hand, what must not change them, and independent oracles."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep

from recsys.effects.effect import (
    FEWEST,
    Effect,
    Flags,
    Values,
    cuped_effect,
    mean_effect,
    proportion_effect,
    ratio_effect,
)

TREATED = np.array([True, True, True, False, False])
Retailer = tuple[Values, Values, Values, Flags]


def retailer(seed: int, customers: int = 400, control_share: float = 0.3) -> Retailer:
    """Draw sales, sales before, orders and arms."""
    random = np.random.default_rng(seed)
    activity = random.lognormal(0, 0.9, customers)
    orders = random.poisson(activity).astype(float)
    sales = orders * random.lognormal(3, 0.5, customers)
    before = random.poisson(3 * activity) * random.lognormal(3, 0.5, customers)
    return sales, before, orders, random.random(customers) >= control_share


def all_effects(drawn: Retailer) -> list[Effect]:
    sales, before, orders, treated = drawn
    return [
        mean_effect(sales, treated),
        cuped_effect(sales, before, treated),
        ratio_effect(sales, orders, treated),
        proportion_effect(orders > 0, treated),
    ]


def test_means_worked_by_hand() -> None:
    found = mean_effect(np.array([2.0, 4.0, 6.0, 1.0, 3.0]), TREATED)
    assert (found.treatment, found.control, found.difference) == (4, 2, 2)
    assert found.customers == (3, 2)
    # s² = 4 and 2, so the squared error is 4/3 + 2/2 = 7/3 with (7/3)² / ((4/3)²/2 + 1²/1) df.
    freedom = (7 / 3) ** 2 / ((4 / 3) ** 2 / 2 + 1)
    margin = stats.t.ppf(0.975, freedom) * np.sqrt(7 / 3)
    assert (found.low, found.high) == pytest.approx((2 - margin, 2 + margin))
    assert found.p_value == pytest.approx(2 * stats.t.sf(2 / np.sqrt(7 / 3), freedom))
    assert found.relative == 1
    assert not found.significant


def test_a_ratio_worked_by_hand() -> None:
    numerator = np.array([10.0, 30.0, 20.0, 5.0, 15.0])
    denominator = np.array([1.0, 2.0, 1.0, 1.0, 1.0])
    found = ratio_effect(numerator, denominator, TREATED)
    # 60 of 4 against 20 of 2.
    assert (found.treatment, found.control, found.difference) == (15, 10, 5)
    # Without each of the treated 50/3, 30/2, 40/3; without each of control 15, 5.
    treatment = (50 / 3 - 15) ** 2 + 0 + (40 / 3 - 15) ** 2
    control = (15 - 10) ** 2 + (5 - 10) ** 2
    # Kish: as good as 4² / (1 + 4 + 1) and 2² / (1 + 1) customers.
    freedom = (treatment + control) ** 2 / (treatment**2 / (16 / 6 - 1) + control**2 / 1)
    margin = stats.t.ppf(0.975, freedom) * np.sqrt(treatment + control)
    assert (found.low, found.high) == pytest.approx((5 - margin, 5 + margin))


def test_cuped_takes_away_what_the_time_before_explains_entirely() -> None:
    before = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = cuped_effect(10 * before + 7 * TREATED, before, TREATED)
    assert found.difference == pytest.approx(7)
    assert found.high - found.low == pytest.approx(0, abs=1e-9)
    assert found.variance_reduction == pytest.approx(1)
    assert found.method == "CUPED"


def test_shares_worked_by_hand() -> None:
    """Newcombe 1998, table II, example (a): 56/70 against 48/80, method 10."""
    events = np.repeat([True, False, True, False], [56, 14, 48, 32])
    treated = np.repeat([True, False], [70, 80])
    found = proportion_effect(events, treated)
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize("seed", range(3))
def test_means_agree_with_scipy(seed: int) -> None:
    sales, _, _, treated = retailer(seed)
    found = mean_effect(sales, treated)
    test = stats.ttest_ind(sales[treated], sales[~treated], equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert (found.low, found.high, found.p_value) == pytest.approx((low, high, test.pvalue))


@pytest.mark.parametrize("seed", range(3))
def test_cuped_is_a_regression_on_arm_and_the_time_before(seed: int) -> None:
    sales, before, _, treated = retailer(seed, 2_000)
    found = cuped_effect(sales, before, treated)
    columns = sm.add_constant(np.column_stack([treated, before]).astype(float))
    fit = sm.OLS(sales, columns).fit(cov_type="HC2")
    assert found.difference == pytest.approx(fit.params[1])
    # The sandwich weighs each customer by how the arms differed before; by chance, a little.
    assert found.error == pytest.approx(fit.bse[1], rel=0.04)
    plain = mean_effect(sales, treated)
    assert found.variance_reduction == pytest.approx(1 - (found.error / plain.error) ** 2)
    assert found.variance_reduction > 0.15


def test_a_ratios_interval_agrees_with_a_bootstrap_over_customers() -> None:
    sales, _, orders, treated = retailer(5, 1_000)
    found = ratio_effect(sales, orders, treated)
    random = np.random.default_rng(6)
    draws = []
    for arm in (treated, ~treated):
        y, x = sales[arm], orders[arm]
        chosen = random.integers(0, len(y), (2_000, len(y)))
        draws.append(y[chosen].sum(axis=1) / x[chosen].sum(axis=1))
    assert found.error == pytest.approx((draws[0] - draws[1]).std(), rel=0.06)


@pytest.mark.parametrize("seed", range(3))
def test_a_ratio_is_a_weighted_regression_through_the_origin(seed: int) -> None:
    sales, _, orders, treated = retailer(seed)
    found, squares, freedoms = ratio_effect(sales, orders, treated), [], []
    for arm, ratio in ((treated, found.treatment), (~treated, found.control)):
        y, x = (values[arm & (orders > 0)] for values in (sales, orders))
        fit = sm.WLS(y, x, weights=1 / x).fit(cov_type="HC3")
        assert ratio == pytest.approx(fit.params[0])
        squares.append(fit.bse[0] ** 2)
        freedoms.append(x.sum() ** 2 / (x**2).sum() - 1)
    parts = np.array(squares) / sum(squares)
    margin = stats.t.ppf(0.975, 1 / (parts**2 / freedoms).sum()) * np.sqrt(sum(squares))
    assert (found.high - found.low) / 2 == pytest.approx(margin)


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_customers_without_an_order_do_not_move_a_ratio(seed: int, more: int) -> None:
    sales, _, orders, treated = retailer(seed, 60)
    one = ratio_effect(sales, orders, treated)
    arms = np.concatenate([treated, np.arange(more) % 2 == 0])
    other = ratio_effect(*(np.append(v, np.zeros(more)) for v in (sales, orders)), arms)
    assert (other.difference, other.low, other.high, other.p_value) == pytest.approx(
        (one.difference, one.low, one.high, one.p_value)
    )


@pytest.mark.parametrize(("hits", "others"), [(0, 0), (0, 3), (3, 0), (50, 20), (12, 1), (40, 9)])
def test_shares_agree_with_statsmodels(hits: int, others: int) -> None:
    events = np.concatenate([np.arange(50) < hits, np.arange(20) < others])
    found = proportion_effect(events, np.repeat([True, False], [50, 20]))
    expected = confint_proportions_2indep(hits, 50, others, 20, method="newcomb")
    assert (found.low, found.high) == pytest.approx(expected)
    assert 0 <= found.p_value <= 1
    assert found.low < found.high


@given(st.integers(0, 10_000))
def test_swapped_arms_negate_the_difference(seed: int) -> None:
    sales, before, orders, treated = retailer(seed, 60)
    there = all_effects((sales, before, orders, treated))
    back = all_effects((sales, before, orders, ~treated))
    for one, other in zip(there, back, strict=True):
        assert (one.difference, one.low, one.high) == pytest.approx(
            (-other.difference, -other.high, -other.low), abs=1e-9
        )
        assert (one.treatment, one.control) == pytest.approx((other.control, other.treatment))
        assert one.p_value == pytest.approx(other.p_value)


@given(st.integers(0, 10_000), st.floats(0.01, 1e4), st.floats(-1e3, 1e3))
def test_units_and_zero_points_do_not_matter(seed: int, unit: float, moved: float) -> None:
    sales, before, orders, treated = retailer(seed, 60)
    plain, cuped, ratio, _ = all_effects((sales, before, orders, treated))
    for one, other in (
        (plain, mean_effect(unit * sales + moved, treated)),
        (cuped, cuped_effect(unit * sales + moved, 3 * before + 1, treated)),
        (ratio, ratio_effect(unit * sales, orders, treated)),
    ):
        assert (other.difference, other.low, other.high) == pytest.approx(
            (unit * one.difference, unit * one.low, unit * one.high), rel=1e-6, abs=1e-6
        )
        assert other.p_value == pytest.approx(one.p_value, rel=1e-5)


@given(st.integers(0, 10_000))
def test_an_effect_added_to_every_treated_customer_is_found_exactly(seed: int) -> None:
    sales, before, _, treated = retailer(seed, 60)
    more = sales + 5 * treated
    for effect in (mean_effect, lambda v, t: cuped_effect(v, before, t)):
        one, other = effect(sales, treated), effect(more, treated)
        assert other.difference - one.difference == pytest.approx(5)
        assert other.high - other.low == pytest.approx(one.high - one.low)


@given(st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_the_relative_interval_tells_of_0_what_the_other_one_does(seed: int, share: float) -> None:
    drawn = retailer(seed, 200, share)
    _, _, orders, treated = drawn
    # With fewer customers who ordered in an arm, sales an order have no interval.
    assume(min(np.count_nonzero(orders[arm]) for arm in (treated, ~treated)) >= FEWEST)
    for found in all_effects(drawn):
        if found.relative is None or found.relative_low is None or found.relative_high is None:
            continue
        assert found.relative_low <= found.relative + 1e-12
        assert found.relative <= found.relative_high + 1e-12
        assert (found.relative_low > 1e-9) <= (found.low > 0)
        assert (found.relative_high < -1e-9) <= (found.high < 0)


def test_the_relative_interval_of_means_is_fiellers() -> None:
    sales, _, _, treated = retailer(3, 4_000)
    found = mean_effect(sales, treated)
    assert found.relative is not None
    # Fieller's set: every ratio r at which treatment − r control is not refused.
    y, x = sales[treated], sales[~treated]
    low, high = found.relative_low, found.relative_high
    assert low is not None
    assert high is not None
    freedom = stats.ttest_ind(y, x, equal_var=False).df
    for end in (low, high):
        error = np.sqrt(y.var(ddof=1) / len(y) + (1 + end) ** 2 * x.var(ddof=1) / len(x))
        t = (y.mean() - (1 + end) * x.mean()) / error
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, freedom))


def test_without_sales_in_control_nothing_is_relative() -> None:
    found = proportion_effect(np.arange(40) < 5, np.arange(40) < 20)
    assert found.control == 0
    assert (found.relative, found.relative_low, found.relative_high) == (None, None, None)
    assert found.low < found.difference == 0.25 < found.high


def test_without_events_in_treatment_all_is_lost() -> None:
    found = proportion_effect(np.arange(40) >= 30, np.arange(40) < 20)
    assert found.relative == found.relative_low == -1
    assert found.relative_high is not None
    assert -1 < found.relative_high < 0


def test_where_nobody_did_anything_there_is_no_difference() -> None:
    nothing = np.zeros(5)
    for found in (mean_effect(nothing, TREATED), cuped_effect(nothing, np.arange(5.0), TREATED)):
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
        assert not found.significant
    shares = proportion_effect(nothing > 0, TREATED)
    assert shares.p_value == 1
    assert shares.low < 0 < shares.high


def test_where_nobody_differed_before_cuped_is_welch() -> None:
    sales, _, _, treated = retailer(1)
    assert cuped_effect(sales, np.full(len(sales), 0.1), treated) == mean_effect(sales, treated)


def test_a_step_between_arms_without_spread_is_certain() -> None:
    found = mean_effect(np.array([3.0, 3, 3, 1, 1]), TREATED)
    assert (found.low, found.high, found.p_value) == (2, 2, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_effect(np.ones(5), np.arange(5) < 1), "arms have 1 and 4 customers"),
        (lambda: mean_effect(np.ones(4), TREATED), "one value a customer"),
        (lambda: mean_effect(np.array([1, 2, np.nan, 3, 4]), TREATED), "no finite number"),
        (lambda: cuped_effect(np.ones(5), np.full(5, np.inf), TREATED), "no finite number"),
        (lambda: mean_effect(np.ones(5), TREATED.astype(int)), "must be bool"),
        (lambda: ratio_effect(np.ones(5), np.array([1.0, 1, 1, 1, 0]), TREATED), "0 but for"),
        (lambda: ratio_effect(np.ones(5), np.array([1.0, 1, 1, 2, -1]), TREATED), "below 0"),
        (lambda: proportion_effect(np.ones(5, bool), np.ones(5, bool)), "5 and 0 customers"),
    ],
)
def test_what_cannot_be_compared_is_refused(call: Callable[[], Effect], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_interval_decides_about_significance() -> None:
    found = mean_effect(np.array([2.0, 4.0, 6.0, 1.0, 3.0]), TREATED)
    assert replace(found, low=0.1).significant
    assert replace(found, high=-0.1).significant
