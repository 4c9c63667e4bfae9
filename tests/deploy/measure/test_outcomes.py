"""What customers did, worked out by hand."""

from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from deploy.measure.campaigns import find_campaigns
from deploy.measure.observed import labels_of
from deploy.measure.outcomes import (
    Periods,
    audience_of,
    daily_sales,
    given_in,
    interactions_end,
    outcomes,
    who_bought,
)
from recsys.data.tables import read_tables
from recsys.errors import DataError, UsageError
from tests.deploy.measure.shop import START, START_DAY, day, publish_campaign, write
from tests.recsys.builders import Line

PERIODS = Periods(
    start=START,
    end=day(START_DAY + 10),
    before_start=day(START_DAY - 20),
    before_end=START,
    active_from=day(START_DAY - 10),
)
ARMS = {
    "001": "treatment",
    "002": "treatment",
    "003": "control",
    "004": "control",
    "005": "treatment",
}
LINES = [
    # 001 bought long before, before, and twice in the window; one of the baskets has two lines.
    Line("001", "tea", START_DAY - 40, 1, 9.0),
    Line("001", "tea", START_DAY - 20, 2, 1.5),
    Line("001", "cup", START_DAY, 3, 2.0, "x"),
    Line("001", "tea", START_DAY, 1, 1.5, "x"),
    Line("001", "cup", START_DAY + 9, 1, 2.0),
    # Not in the window any more.
    Line("001", "cup", START_DAY + 10, 1, 2.0),
    # 002 was given nothing and bought something; they count all the same.
    Line("002", "cup", START_DAY + 1, 5, 1.0),
    # 003 is active, then stays away.
    Line("003", "jug", START_DAY - 10, 1, 7.0),
    Line("003", "jug", START_DAY - 1, 1, 7.0),
    # 004 bought what others were recommended.
    Line("004", "cup", START_DAY + 2, 1, 2.0),
    # Nobody asked for these two.
    Line("999", "cup", START_DAY + 3, 1, 4.0),
    Line(None, "cup", START_DAY + 3, 1, 8.0, "guest"),
]


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[DataFrame, str]:
    folder = tmp_path_factory.mktemp("outcomes")
    output = folder / "recommendations"
    publish_campaign(output, ARMS, {"001": ["cup", "mug"], "002": [], "005": ["cup"]})
    # A week later they are recommended tea as well.
    publish_campaign(output, ARMS, {"001": ["tea"], "002": []}, start=START_DAY + 7)
    interactions = read_tables(spark, write(folder / "ingested", LINES)).interactions
    return interactions, str(output)


@pytest.fixture(scope="module")
def rows(shop: tuple[DataFrame, str]) -> dict[str, dict[str, object]]:
    interactions, output = shop
    (campaign,) = find_campaigns(output, day(START_DAY + 11), 10)
    assert campaign.lists == ((1, START), (2, day(START_DAY + 7)))
    audience, given = (f(campaign, output, interactions) for f in (audience_of, given_in))
    found = outcomes(interactions, audience, given, PERIODS).toPandas()
    return {row["customer_id"]: row for row in found.to_dict("records")}


def pick(row: dict[str, object], *names: str) -> tuple[object, ...]:
    return tuple(row[name] for name in names)


def test_every_customer_of_the_audience_stands_once(rows: dict[str, dict[str, object]]) -> None:
    assert sorted(rows) == sorted(ARMS)
    assert {c for c, row in rows.items() if row["treated"]} == {"001", "002", "005"}


def test_sales_orders_units_and_items_are_those_of_the_window(
    rows: dict[str, dict[str, object]],
) -> None:
    measures = ("sales", "orders", "units", "items")
    assert pick(rows["001"], *measures) == (9.5, 2, 5, 2)
    assert pick(rows["002"], *measures) == (5.0, 1, 5, 1)
    assert pick(rows["003"], *measures) == (0, 0, 0, 0)
    assert pick(rows["005"], *measures) == (0, 0, 0, 0)


def test_the_time_before_begins_and_ends_where_it_should(
    rows: dict[str, dict[str, object]],
) -> None:
    before = ("before_sales", "before_orders", "before_units", "before_items", "purchases")
    assert pick(rows["001"], *before) == (3.0, 1, 2, 1, 2)
    assert pick(rows["003"], *before) == (14.0, 2, 2, 1, 2)
    assert pick(rows["004"], *before) == (0, 0, 0, 0, 0)


def test_who_ordered_shortly_before_is_active_and_who_never_bought_is_not_known(
    rows: dict[str, dict[str, object]],
) -> None:
    assert [c for c in ARMS if rows[c]["active"]] == ["003"]
    assert [c for c in ARMS if not rows[c]["known"]] == ["005"]


def test_a_recommended_item_counts_from_the_day_it_was_in_the_list(
    rows: dict[str, dict[str, object]],
) -> None:
    told = ("given", "bought_recommended", "recommended_sales")
    # Tea came a week later than they bought it; cups were in the list from the first day.
    assert pick(rows["001"], *told) == (2, True, 8.0)
    assert pick(rows["002"], *told) == (0, False, 0.0)
    # The control arm has no list, whatever it bought.
    assert pick(rows["004"], *told) == (0, False, 0.0)


def test_guests_and_strangers_are_counted_apart(shop: tuple[DataFrame, str]) -> None:
    interactions, output = shop
    (campaign,) = find_campaigns(output, day(START_DAY + 11), 10)
    audience = audience_of(campaign, output, interactions)
    found = who_bought(interactions, audience, PERIODS).collect()
    assert {tuple(row) for row in found} == {
        ("audience", 3, 4, 16.5),
        ("others", 1, 1, 4.0),
        ("guests", 0, 1, 8.0),
    }


def test_daily_sums_give_each_days_mean_and_spread(shop: tuple[DataFrame, str]) -> None:
    interactions, output = shop
    (campaign,) = find_campaigns(output, day(START_DAY + 11), 10)
    audience = audience_of(campaign, output, interactions)
    found = daily_sales(interactions, audience, PERIODS).collect()
    assert [(r["arm"], (r["day"] - START).days, r["sales"], r["squares"]) for r in found] == [
        ("control", 2, 2.0, 4.0),
        ("treatment", 0, 7.5, 56.25),
        ("treatment", 1, 5.0, 25.0),
        ("treatment", 9, 2.0, 9.5**2 - 7.5**2),
    ]


def test_a_day_ends_at_midnight_utc(shop: tuple[DataFrame, str]) -> None:
    assert interactions_end(shop[0]) == day(START_DAY + 11)


def test_no_interactions_are_refused(shop: tuple[DataFrame, str]) -> None:
    with pytest.raises(DataError, match="give the folder that `ingest` wrote"):
        interactions_end(shop[0].where("false"))


def test_labels_put_rare_values_together(spark: SparkSession) -> None:
    ids = [f"{n:02d}" for n in range(30)]
    # Twelve regions, the first ones larger; the last customer is in none.
    regions = [f"r{n % 12:02d}" if n < 29 else None for n in range(30)]
    customers = spark.createDataFrame(
        list(zip(ids, regions, strict=True)), "customer_id string, region string"
    )
    found = dict(labels_of(customers, ["region"]).collect())
    assert found["00"] == "r00"
    assert {found["08"], found["29"]} == {"other"}
    assert len(set(found.values())) == 9
    with pytest.raises(UsageError, match="customers have region"):
        labels_of(customers, ["colour"])


def test_a_customer_who_stands_twice_in_the_customers_table_is_refused(
    spark: SparkSession,
) -> None:
    customers = spark.createDataFrame(
        [("1", "a"), ("2", "a"), ("2", "b"), (None, "a"), (None, "a")],
        "customer_id string, region string",
    )
    with pytest.raises(DataError, match="has customer 2 2 times"):
        labels_of(customers, ["region"])
    assert labels_of(customers.where("region = 'a'"), ["region"]).count() == 4


@pytest.mark.parametrize("damage", ["missing", "cut", "altered"])
def test_an_audience_that_is_not_what_was_published_is_refused(
    spark: SparkSession, tmp_path: Path, damage: str
) -> None:
    publish_campaign(tmp_path, ARMS)
    (campaign,) = find_campaigns(str(tmp_path), day(START_DAY + 11), 10)
    (file,) = tmp_path.rglob("audience/*.parquet")
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        pq.write_table(pq.read_table(file).slice(0, 3), file)
    with pytest.raises(DataError, match="is missing or was changed"):
        audience_of(campaign, str(tmp_path), spark.range(1))


def test_the_day_of_scoring_stands_in_where_no_end_of_the_interactions_is_known(
    tmp_path: Path,
) -> None:
    publish_campaign(tmp_path, ARMS, interactions_end=None, scored_at="2024-05-06T03:00:00+00:00")
    (campaign,) = find_campaigns(str(tmp_path), date(2024, 7, 1), 28)
    assert (campaign.start, campaign.end) == (date(2024, 5, 6), date(2024, 6, 3))
