"""Bootstrap intervals: their draws, and how often they cover the truth."""

import numpy as np
import pytest

from recsys.metrics.intervals import bootstrap_means, centred_interval, mean_intervals, resamples


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(1).normal(size=(50, 2))
    assert mean_intervals(values, 5) == mean_intervals(values, 5)
    assert mean_intervals(values, 5) != mean_intervals(values, 6)


def test_a_column_without_spread_has_an_interval_without_width() -> None:
    interval = mean_intervals(np.full((20, 1), 0.25), 1)[0]
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.25, 0.25, 0.25))


def test_one_customer_is_drawn_every_time() -> None:
    interval = mean_intervals(np.array([[0.5]]), 1)[0]
    assert (interval.value, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_a_customers_columns_are_drawn_together() -> None:
    first = np.random.default_rng(2).random(30)
    draws = bootstrap_means(np.column_stack([first, 1 - first]), 3, 100)
    np.testing.assert_allclose(draws.sum(axis=1), 1)
    assert draws[:, 0].std() > 0


def test_draws_spread_as_the_standard_error() -> None:
    values = np.random.default_rng(4).normal(size=(400, 1))
    draws = bootstrap_means(values, 5, 2000)
    assert draws.shape == (2000, 1)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.1)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.01)


def test_about_95_of_100_intervals_cover_the_true_mean() -> None:
    trials = 600
    random = np.random.default_rng(6)
    below = above = 0
    for trial in range(trials):
        interval = mean_intervals(random.normal(3, 2, (60, 1)), trial, 300)[0]
        assert interval.low <= interval.value <= interval.high
        below += interval.high < 3
        above += interval.low > 3
    # 90 % or 99 % intervals would lie outside these bounds, as would one-sided ones.
    assert 0.92 < 1 - (below + above) / trials < 0.975
    assert min(below, above) > 0.01 * trials


def test_a_customer_is_drawn_a_poisson_number_of_times() -> None:
    draws = np.concatenate(list(resamples(500, 3, 400)))
    assert draws.shape == (400, 500)
    # Poisson(1): e⁻¹ not at all, e⁻¹ once, half of that twice; mean and variance 1.
    for times, share in ((0, np.exp(-1)), (1, np.exp(-1)), (2, np.exp(-1) / 2)):
        assert (draws == times).mean() == pytest.approx(share, abs=0.005)
    assert draws.mean() == pytest.approx(1, abs=0.01)
    assert draws.var() == pytest.approx(1, abs=0.02)
    # Independent of each other.
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.2


def test_a_draw_never_leaves_everybody_out() -> None:
    assert np.concatenate(list(resamples(1, 3, 200))).min() >= 1


def test_batches_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resamples(7, 3, 11)))
    monkeypatch.setattr("recsys.metrics.intervals.DRAWS_A_BATCH", 15)
    batches = list(resamples(7, 3, 11))
    assert [len(batch) for batch in batches] == [2, 2, 2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), whole)


def test_a_centred_interval_lies_around_the_value_with_the_spread_of_the_draws() -> None:
    draws = np.random.default_rng(8).normal(0.3, 0.01, 4000)
    interval = centred_interval(0.5, draws)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.01, abs=0.002)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.01, abs=0.002)
