"""Effects, groups and verdicts, on customers made by hand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from deploy.measure import outcomes as o
from deploy.measure import words
from deploy.measure.campaigns import Campaign, find_campaigns
from deploy.measure.judged import Measured
from deploy.measure.metrics import BOUGHT, CHURN, DESCRIBED, METRICS, PRIMARY
from deploy.measure.observed import SEGMENT, Observed
from deploy.measure.outcomes import Periods
from deploy.measure.plots import figures
from deploy.measure.report import render
from deploy.measure.results import SCHEMA, Result, as_table, results
from recsys.effects.sample_ratio import sample_ratio
from tests.deploy.measure.shop import START_DAY, day, halves, publish_campaign


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    folder = tmp_path_factory.mktemp("campaign")
    publish_campaign(folder, halves(4))
    return find_campaigns(str(folder), day(START_DAY + 28), 28)[0]


def observed(customers: int = 400, lift: float = 0.0, seed: int = 1, **columns: object) -> Observed:
    """Customers whose sales follow what they were before; the treated buy more by `lift`."""
    random = np.random.default_rng(seed)
    treated = np.arange(customers) % 2 == 0
    taste = random.gamma(4, 1, customers)
    orders = random.poisson(taste).astype(float)
    before = random.poisson(taste).astype(float)
    sales = orders * 10 * (1 + lift * treated)
    values = {
        o.TREATED: treated,
        o.SALES: sales,
        o.ORDERS: orders,
        o.UNITS: 2 * orders,
        o.ITEMS: orders,
        o.before(o.SALES): 10 * before,
        o.before(o.ORDERS): before,
        o.before(o.ITEMS): before,
        o.ACTIVE: before > 0,
        o.BOUGHT_RECOMMENDED: treated & (orders > 3),
        o.RECOMMENDED_SALES: np.where(treated, sales / 2, 0.0),
        SEGMENT.format("activity"): np.where(before > 3, "heavy", "new"),
        **columns,
    }
    return Observed(pa.table(values), None, {})


def of(rows: list[Result], metric: str, segment: str = "all") -> Result:
    return next(row for row in rows if (row.metric, row.segment) == (metric, segment))


def test_every_metric_stands_for_all_customers_and_for_each_group(campaign: Campaign) -> None:
    rows = results(campaign, 28, observed(), None)
    names = [metric.name for metric in METRICS] + list(DESCRIBED)
    assert [row.metric for row in rows] == names * 3
    assert {(row.segment_by, row.segment) for row in rows} == {
        ("all", "all"),
        ("activity", "new"),
        ("activity", "heavy"),
    }
    assert as_table(rows).schema == SCHEMA


def test_sales_are_adjusted_and_the_interval_holds_the_planted_effect(campaign: Campaign) -> None:
    found = observed(lift=0.3)
    row = of(results(campaign, 28, found, None), PRIMARY)
    sales, treated = found.values(o.SALES), found.values(o.TREATED)
    truth = 0.3 * sales[~treated].mean()
    assert row.method == "CUPED"
    assert row.low is not None and row.high is not None
    assert row.low < truth < row.high
    plain = stats.ttest_ind(sales[treated], sales[~treated], equal_var=False)
    width = plain.confidence_interval().high - plain.confidence_interval().low
    assert row.variance_reduction == pytest.approx(
        1 - ((row.high - row.low) / width) ** 2, abs=0.02
    )
    assert row.verdict == "better"


def test_ratios_are_those_of_the_sums(campaign: Campaign) -> None:
    found = observed(lift=0.5)
    row = of(results(campaign, 28, found, None), "basket_value")
    assert (row.control, row.treatment) == (pytest.approx(10), pytest.approx(15))
    assert row.relative == pytest.approx(0.5)
    size = of(results(campaign, 28, found, None), "basket_size")
    assert (size.difference, size.verdict) == (pytest.approx(0), "not seen")


def test_churn_is_asked_of_the_active_alone_and_less_is_better(campaign: Campaign) -> None:
    found = observed(customers=2_000)
    orders = found.values(o.ORDERS).copy()
    active, treated = found.values(o.ACTIVE), found.values(o.TREATED)
    orders[~treated & (np.arange(2_000) % 5 == 1)] = 0
    changed = observed(customers=2_000, **{o.ORDERS: orders})
    row = of(results(campaign, 28, changed, None), "churn")
    assert row.control == pytest.approx((orders[active & ~treated] == 0).mean())
    assert row.treatment == pytest.approx((orders[active & treated] == 0).mean())
    assert (row.treatment_customers, row.control_customers) == (
        (active & treated).sum(),
        (active & ~treated).sum(),
    )
    assert row.difference is not None and row.difference < 0
    assert row.verdict == "better"


def test_recommended_sales_are_told_of_the_treated_alone(campaign: Campaign) -> None:
    found = observed()
    row = of(results(campaign, 28, found, None), "recommended_sales_per_customer")
    treated = found.values(o.TREATED)
    assert row.treatment == pytest.approx(found.values(o.RECOMMENDED_SALES)[treated].mean())
    assert (row.control, row.difference, row.verdict) == (None, None, "descriptive")


def test_a_void_campaign_tells_no_effect_at_all(campaign: Campaign) -> None:
    rows = results(campaign, 28, observed(lift=1.0), "the arms are broken")
    told = [row for row in rows if row.verdict != "descriptive"]
    assert {row.verdict for row in told} == {"void"}
    assert {row.void_reason for row in told} == {"the arms are broken"}
    assert {row.difference for row in told} == {row.p_value for row in told} == {None}


def test_a_small_arm_is_void_while_others_are_not(campaign: Campaign) -> None:
    labels = np.full(400, "many", dtype=object)
    labels[:30] = "few"
    rows = results(campaign, 28, observed(**{SEGMENT.format("region"): labels}), None)
    few = of(rows, PRIMARY, "few")
    assert few.void_reason == "too few customers: 15 in the treatment arm, 20 are needed"
    assert of(rows, PRIMARY, "many").void_reason is None


@pytest.mark.parametrize("ordered", [0, 19, 20])
def test_money_orders_and_items_need_customers_who_ordered_in_both_arms(
    campaign: Campaign, ordered: int
) -> None:
    orders = np.ones(400)
    orders[1 + 2 * ordered :: 2] = 0
    sales = 10 * orders
    rows = results(campaign, 28, observed(**{o.ORDERS: orders, o.SALES: sales}), None)
    for metric in METRICS:
        reason = of(rows, metric.name).void_reason
        if ordered == 20 or metric.name in (BOUGHT, CHURN):
            assert reason is None
        else:
            assert reason == (
                f"only {ordered} customers of the control arm ordered in the window, 20 are needed "
                "for an interval that holds"
            )


def test_where_only_sales_are_void_words_and_report_say_so(campaign: Campaign) -> None:
    orders = np.ones(400)
    orders[1 + 2 * 9 :: 2] = 0
    seen = observed(**{o.ORDERS: orders, o.SALES: 10 * orders})
    rows = tuple(results(campaign, 28, seen, None))
    periods = Periods.of(campaign, 28, 84, 84)
    check = sample_ratio(200, 200, 0.5)
    found = Measured(campaign, periods, 28, seen, check, check, None, None, (), rows)
    assert words.headline(found) == "✗ Sales cannot be judged"
    sentence = words.sentence(found)
    assert sentence.startswith("What it did to sales cannot be judged: only 9 customers of the")
    assert found.overall(BOUGHT).verdict == "better"
    page = render([found], {campaign.strategy: figures(found)}, {})
    assert page.count(sentence) == 1
    assert "<strong>No effect is told" not in page
    assert "▲ better" in page
    assert "held out of 400 customers who bought before" in page


def test_where_few_buy_a_small_control_arm_does_not_call_luck_better(campaign: Campaign) -> None:
    """Without an effect, 15 % of 60 held out customers buy: their mean is none to compare with."""
    treated = np.arange(600) >= 60
    alarms = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        orders = (random.random(600) < 0.15).astype(float)
        sales = orders * random.lognormal(3, 1.5, 600)
        found = observed(
            600,
            **{
                o.TREATED: treated,
                o.ORDERS: orders,
                o.SALES: sales,
                o.ITEMS: orders,
                o.before(o.SALES): np.zeros(600),
            },
        )
        alarms += of(results(campaign, 28, found, None), PRIMARY).verdict in ("better", "worse")
    assert alarms <= 0.05 * 300


def test_groups_are_judged_together_by_holm(campaign: Campaign) -> None:
    labels = np.array([f"g{n // 2 % 5}" for n in range(400)])
    rows = results(campaign, 28, observed(**{SEGMENT.format("region"): labels}), None)
    groups = [row for row in rows if (row.segment_by, row.metric) == ("region", PRIMARY)]
    p_values = sorted(row.p_value or 0 for row in groups)
    smallest = min(groups, key=lambda row: row.p_value or 0)
    assert len(groups) == 5
    assert smallest.p_adjusted == pytest.approx(min(1, 5 * p_values[0]))
    everyone = of(rows, PRIMARY)
    assert everyone.p_adjusted == everyone.p_value


def test_a_group_that_only_seems_to_gain_gets_no_verdict(campaign: Campaign) -> None:
    """One of 20 groups leaves 0 out by luck; together they do not."""
    labels = np.array([f"g{n // 2 % 20:02d}" for n in range(2_000)])
    for seed in range(50):
        found = observed(2_000, seed=seed, **{SEGMENT.format("region"): labels})
        rows = results(campaign, 28, found, None)
        groups = [row for row in rows if (row.segment_by, row.metric) == ("region", PRIMARY)]
        lucky = [row for row in groups if (row.p_value or 1) < 0.05 <= (row.p_adjusted or 1)]
        if lucky:
            break
    assert lucky
    assert {row.verdict for row in lucky} == {"not seen"}


def test_what_could_have_been_seen_is_two_point_eight_standard_errors(campaign: Campaign) -> None:
    row = of(results(campaign, 28, observed(), None), PRIMARY)
    assert row.low is not None and row.high is not None
    error = (row.high - row.low) / (2 * stats.norm.ppf(0.975))
    assert row.detectable == pytest.approx((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * error)
    assert row.relative_detectable == pytest.approx((row.detectable or 0) / (row.control or 1))
    assert replace(row, control=0.0).relative_detectable is None


def test_the_same_customers_give_the_same_rows(campaign: Campaign) -> None:
    first, second = (as_table(results(campaign, 28, observed(), None)) for _ in range(2))
    assert first.equals(second)
