"""Drift on hand-made interactions: what is counted, what warns, and what does not."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import mlflow
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from pyspark.sql import DataFrame, SparkSession

from recsys import columns as c
from recsys.drift import Finding, Limits, Period, Periods, drift_between, read_periods, show
from recsys.drift.findings import FEWEST_BASKETS, FEWEST_DAYS, _days, psi, psi_by_chance
from recsys.drift.periods import LEAST, REFERENCE_DAYS

CUT = date(2024, 6, 3)  # a Monday
Row = tuple[str | None, str, str, datetime, float, float]
LIMITS = Limits.shipped()


def frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    types = "string", "string", "string", "timestamp", "double", "double"
    schema = ", ".join(f"{n} {t}" for n, t in zip(c.INTERACTIONS, types, strict=True))
    return spark.createDataFrame(rows, schema)


def row(day: int, customer: str | None, item: str, basket: str, price: float = 1.0) -> Row:
    at = datetime(CUT.year, CUT.month, CUT.day, 10) + timedelta(days=day)
    return customer, item, basket, at, 1.0, price


def trade(first: int, days: int, seed: int, scale: float = 1.0) -> list[Row]:
    """Sales of a steady shop: each day 40 lines of 10 items at prices about 8."""
    draw = np.random.default_rng(seed)
    return [
        row(
            day,
            f"c{draw.integers(30):02d}",
            f"i{draw.integers(10)}",
            f"{day}-{line // 4}",
            scale * float(draw.choice([2, 4, 8, 16])),
        )
        for day in range(first, first + days)
        for line in range(40)
    ]


def periods(spark: SparkSession, rows: list[Row]) -> Periods:
    found = read_periods(frame(spark, rows), CUT)
    assert found is not None
    return found


def test_psi_is_the_hand_worked_sum() -> None:
    # 0.25 · ln 2 + 0.25 · ln 1.5
    found = psi(np.array([50_000, 50_000]), np.array([25_000, 75_000]))
    assert found == pytest.approx(0.27465, abs=1e-4)


COUNTS = st.lists(st.integers(0, 1000), min_size=3, max_size=3).map(np.array)


@given(COUNTS, COUNTS)
def test_psi_is_symmetric_never_negative_and_0_for_the_same(a: np.ndarray, b: np.ndarray) -> None:
    assert psi(a, b) == pytest.approx(psi(b, a))
    assert psi(a, b) >= 0
    assert psi(a, a) == 0


def test_chance_alone_stays_below_its_bound() -> None:
    draw = np.random.default_rng(1)
    share = [0.1, 0.2, 0.3, 0.4]
    above = 0
    for _ in range(2000):
        a, b = draw.multinomial(200, share), draw.multinomial(500, share)
        above += psi(a, b) > psi_by_chance(a, b)
    assert above <= 10  # one in a thousand is meant; smoothing makes it rarer


def test_both_sides_are_counted(spark: SparkSession) -> None:
    rows = [
        row(-REFERENCE_DAYS - 1, "old", "relic", "b0"),
        row(-2, "a", "x", "b1", 4.0),
        row(-1, None, "x", "b2", 5.0),
        row(-1, None, "y", "b2", 0.01),
        row(2, "a", "relic", "b3"),
        row(7, "new", "fresh", "b4"),
        row(8, None, "fresh", "b5"),
    ]
    found = periods(spark, rows)
    assert (found.past_rows, found.new_item_rows) == (4, 2)
    assert (found.customers, found.new_customers) == (2, 1)
    assert found.top_items == ("x", "y", "fresh", "relic")
    assert found.before.counts["item"].tolist() == [2, 1, 0, 0, 0]
    assert found.after.counts["item"].tolist() == [0, 0, 2, 1, 0]
    assert (found.before.first, found.before.days, found.before.rows) == (date(2024, 6, 1), 2, 3)
    assert (found.after.first, found.after.days, found.after.rows) == (CUT, 9, 3)
    # Saturday one, Sunday two lines; since then a Monday, a Tuesday and, before them, a Wednesday.
    assert found.before.weekdays.tolist() == [0, 0, 0, 0, 0, 1, 2]
    assert found.after.weekdays.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert found.after.a_day()[:3].tolist() == [0.5, 0.5, 1]
    assert np.isnan(found.before.a_day()[0])
    prices = found.before.counts["unit_price"]
    # 0.01 lies below the least bin, 4 and 5 in the one from 4 on.
    assert (prices[0], prices[2 - LEAST], prices.sum()) == (1, 2, 3)
    assert found.before.counts["basket_lines"][[-LEAST, 1 - LEAST]].tolist() == [1, 1]
    assert found.before.counts["hour"][10] == 3


def test_without_days_on_both_sides_there_is_nothing_to_compare(spark: SparkSession) -> None:
    assert read_periods(frame(spark, [row(-1, "a", "x", "b")]), CUT) is None
    assert read_periods(frame(spark, [row(1, "a", "x", "b")]), CUT) is None


def test_a_steady_shop_gives_no_warning(spark: SparkSession) -> None:
    found = periods(spark, trade(-56, 56, 1) + trade(0, 14, 2))
    assert drift_between(found, LIMITS, found.past_rows).warnings == ()


def test_what_changed_is_named_and_nothing_else(spark: SparkSession) -> None:
    changed = [
        (customer, "launch" if item in ("i0", "i1") else item, basket, at, units, price)
        for customer, item, basket, at, units, price in trade(0, 14, 2, scale=100)
        if at.weekday() != 2
    ]
    found = periods(spark, trade(-56, 56, 1) + changed)
    drift = drift_between(found, LIMITS, found.past_rows * 2)
    assert {finding.name for finding in drift.findings if finding.warns} == {
        "psi/unit_price", "psi/basket_value", "psi/item", "new_item_share",
        "volume/wednesday", "restated",
    }  # fmt: skip
    assert any("of items that the fit never saw" in text for text in drift.warnings)
    assert any("or twice? wednesdays 0 instead of 40" in text for text in drift.warnings)


def days_of(first: date, lines: Sequence[int], baskets: int) -> Period:
    """Make a period of lines a day, in so many baskets altogether."""
    counts = {"basket_lines": np.array([baskets])}
    return Period(first=first, lines=np.array(lines), counts=counts)


def single_days(lines: Sequence[int], baskets_a_day: int = 30) -> list[Finding]:
    """Return what is found on single days since, after eight weeks of 60 lines on open days."""
    usual = [60 if day % 7 < 6 else 0 for day in range(56)]
    before = days_of(CUT - timedelta(days=56), usual, 48 * baskets_a_day)
    return _days(before, days_of(CUT, lines, 1), LIMITS)


@pytest.mark.parametrize("days", [14, 28])
@pytest.mark.parametrize("copies", [0, 2])
def test_one_day_that_is_missing_or_came_twice_is_named(days: int, copies: int) -> None:
    # The shop sells twice as much as before, and is closed on Sundays: no reason to name a day.
    draw = np.random.default_rng(days)
    lines = [int(draw.poisson(120)) if day % 7 < 6 else 0 for day in range(days)]
    assert [finding.warns for finding in single_days(lines)] == [False]
    lines[8] = copies * 120
    [finding] = single_days(lines)
    assert finding.warns
    assert f"twice? 2024-06-11 {copies * 120} instead of 1" in finding.text
    assert finding.text.count("instead of") == 1


@pytest.mark.parametrize("first", [0, 7])
def test_a_missing_week_is_seen_wherever_it_lies(first: int) -> None:
    lines = [60 if day % 7 < 6 else 0 for day in range(14)]
    lines[first : first + 6] = [0] * 6
    # What is missing at the very end cannot be told from data that does not reach further.
    [finding] = single_days([*lines, 60])
    assert (finding.warns, finding.value) == (True, 1)
    assert f"twice? {CUT + timedelta(days=first)} 0 instead of 60, " in finding.text
    assert finding.text.endswith(", and 1 more")


def test_single_days_of_a_small_shop_or_of_less_than_a_week_say_nothing() -> None:
    assert single_days([60] * 5 + [0] * 9, baskets_a_day=FEWEST_BASKETS - 1) == []
    assert single_days([60] * (FEWEST_DAYS - 2) + [0]) == []
    assert single_days([0] * 6 + [60]) == []


def test_few_rows_do_not_warn_of_what_they_cannot_know(spark: SparkSession) -> None:
    found = periods(spark, trade(-56, 56, 1) + trade(0, 14, 2)[:12])
    drift = drift_between(found, LIMITS)
    assert not [f for f in drift.findings if f.warns and f.name.startswith("psi/")]


def test_the_run_shows_it(
    spark: SparkSession, mlflow_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = drift_between(periods(spark, trade(-56, 56, 1) + trade(0, 14, 2, 100)), LIMITS)
    with mlflow.start_run() as run:
        show(drift)
    client, run_id = MlflowClient(), run.info.run_id
    assert client.get_run(run_id).data.metrics["drift/psi/unit_price"] > 1
    assert "PSI" in client.get_run(run_id).data.tags["recsys.drift"]
    files = {file.path for file in client.list_artifacts(run_id, "plots")}
    assert files == {f"plots/{n}.png" for n in ("drift", "drift_amounts", "drift_weekdays")}
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/drift.json")["after"]["days"] == 14
    assert "drift: unit price is spread otherwise" in capsys.readouterr().out
