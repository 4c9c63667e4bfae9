"""A retailer that goes on: reproducible, consistent with what came before, of known effect."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from recsys.data.continued import CUSTOMERS, MARKER, ContinueConfig, continued, expected
from recsys.data.interactions import ingest
from recsys.data.mapping import Mapping
from recsys.data.simulate import SimulateConfig, Simulation, simulate
from recsys.errors import DataError, UsageError
from tests.recsys.campaigns import publish

PEOPLE, ITEMS, DAYS, FIRST = 600, 200, 180, "2024-06-29"


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulation in `raw` and a campaign in `recommendations`."""
    folder = tmp_path_factory.mktemp("before")
    simulate(SimulateConfig(output=str(folder / "raw"), customers=PEOPLE, items=ITEMS, days=DAYS))
    publish(folder / "recommendations", PEOPLE, ITEMS)
    return folder


def after(before: Path, output: Path, **changes: Any) -> Simulation:
    given: dict[str, Any] = {
        "output": str(output),
        "continues": str(before / "raw"),
        "recommendations": str(before / "recommendations"),
    }
    return continued(ContinueConfig.checked(given | changes, "simulate"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Read the sound rows: the planted ones are gone with `bad_share` 0."""
    rows = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


def truth(folder: Path) -> dict[str, Any]:
    described: dict[str, Any] = json.loads((folder / MARKER).read_text("utf-8"))
    return described


def test_the_same_parameters_give_the_same_bytes(before: Path, tmp_path: Path) -> None:
    first, again, other = (
        after(before, tmp_path / name, seed=seed) for name, seed in (("a", 8), ("b", 8), ("c", 9))
    )
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first.digest == again.digest != other.digest


def test_nothing_changes_where_there_is_no_effect(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "out", effect=0)
    described, table = truth(tmp_path / "out"), pq.read_table(tmp_path / "out" / CUSTOMERS)
    for part in ("treated", "expected"):
        assert {change["difference"] for change in described[part].values()} == {0}
    assert table["sales"].equals(table["sales_without"])
    assert sum(table["orders"].to_pylist()) > 100


def test_control_customers_do_the_same_with_every_effect(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "none", effect=0)
    after(before, tmp_path / "much", effect=1, basket_effect=1)
    none, much = (pq.read_table(tmp_path / n / CUSTOMERS).to_pylist() for n in ("none", "much"))
    pairs = [(a, b) for a, b in zip(none, much, strict=True) if a["arm"] == "control"]
    assert len(pairs) > 100
    assert all(a == b for a, b in pairs)
    treated = [b for b in much if b["arm"] == "treatment"]
    assert sum(b["orders"] for b in treated) > 1.5 * sum(b["orders_without"] for b in treated)


def test_receipts_are_numbered_on_and_days_follow(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "out", after_days=10)
    earlier = {row["receipt"] for row in rows_of(before / "raw")}
    rows = rows_of(tmp_path / "out")
    receipts = {row["receipt"] for row in rows} - {""}
    assert receipts.isdisjoint(earlier)
    assert min(map(int, receipts)) == max(int(number) for number in earlier if number) + 1
    days = sorted({row["sold_at"][:10] for row in rows if row["sold_at"]} - {"yesterday"})
    ours = [day for day in days if day.startswith(("2024-06", "2024-07"))]
    assert ours[0] == truth(tmp_path / "out")["first_day"] == FIRST
    assert ours[-1] == "2024-07-08"


def test_who_left_stays_away_and_others_arrive(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "out", after_days=60)
    people = pq.read_table(before / "raw" / "truth" / "customers.parquet").to_pydict()
    left = {
        name
        for name, day in zip(people["customer_id"], people["departure_day"], strict=True)
        if day < DAYS - 1
    }
    there = {row["loyalty_card"] for row in rows_of(tmp_path / "out")} - {"", None}
    assert len(left) > 50
    assert there.isdisjoint(left)
    assert any(int(card) > PEOPLE for card in there)
    # Those whose market merely ended come back as they did before.
    assert len(there) > 0.4 * PEOPLE


def test_the_effects_come_to_what_they_should_on_average(before: Path, tmp_path: Path) -> None:
    found: dict[str, list[float]] = {"orders_per_customer": [], "silent_share": []}
    for seed in range(24):
        after(before, tmp_path / "out", seed=seed, effect=0.5, churn=0.4, churn_effect=0.5)
        for name, values in found.items():
            values.append(truth(tmp_path / "out")["treated"][name]["difference"])
    # Who was treated is the same in all; the average is over these customers.
    arms = pq.read_table(tmp_path / "out" / CUSTOMERS)["arm"].to_pylist()
    assert {"treatment", "control"} == set(arms)
    for name, values in found.items():
        promised = truth(tmp_path / "out")["expected"][name]["difference"]
        assert np.mean(values) == pytest.approx(promised, rel=0.15)


def test_the_relative_lift_of_orders_is_the_effect_itself() -> None:
    config = ContinueConfig(output="", effect=0.2, churn=0)
    found = expected(np.array([0.5, 2.0, 0.0]), config)
    assert found["orders_per_customer"]["relative"] == pytest.approx(0.2)
    silent = found["silent_share"]
    assert silent["without"] == pytest.approx((np.exp(-0.5) + np.exp(-2) + 1) / 3)
    assert silent["with"] == pytest.approx((np.exp(-0.6) + np.exp(-2.4) + 1) / 3)


def test_an_order_is_worth_more_by_the_basket_effect(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "out", after_days=120, effect=0, basket_effect=0.5)
    treated = truth(tmp_path / "out")["treated"]
    assert treated["orders_per_customer"]["relative"] == pytest.approx(0, abs=0.01)
    assert treated["sales_per_order"]["relative"] == pytest.approx(0.5, abs=0.05)


def test_added_orders_hold_recommended_items(before: Path, tmp_path: Path) -> None:
    lists = [
        (row["customer_id"], row["item_id"])
        for path in (before / "recommendations").rglob("recommendations/*.parquet")
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]
    bought = []
    for share in (0, 1):
        after(before, tmp_path / "out", effect=2, recommended_share=share)
        pairs = {(row["loyalty_card"], row["sku"]) for row in rows_of(tmp_path / "out")}
        bought.append(len(pairs & set(lists)))
    assert bought[1] > 4 * bought[0]


def test_ingest_of_both_folders_finds_the_truth(
    spark: SparkSession, before: Path, tmp_path: Path
) -> None:
    """What each customer spent after the campaign, as `ingest` sees it, is what was written."""
    result = after(before, tmp_path / "out", effect=0.3, basket_effect=0.2, churn_effect=0.5)
    (tmp_path / "both").mkdir()
    for name, place in (("raw", before / "raw"), ("after", tmp_path / "out")):
        (tmp_path / "both" / name).symlink_to(place)
    source = str(tmp_path / "both" / "*" / "transactions-*.csv")
    report = ingest(spark, source, tmp_path / "ingested", Mapping.load("simulated"))
    earlier = json.loads((before / "raw" / "truth" / "simulation.json").read_text())
    assert report.rows_in == result.rows + earlier["rows"]
    assert {str(reason): n for reason, n in report.reasons.items()} == {
        reason: earlier["planted"].get(reason, 0) + result.planted.get(reason, 0)
        for reason in {*earlier["planted"], *result.planted}
    }
    rows = (
        spark.read.parquet(str(tmp_path / "ingested" / "interactions"))
        .where(F.col("timestamp") >= FIRST)
        .groupBy("customer_id")
        .agg(
            F.sum(F.col("quantity") * F.col("unit_price")).alias("sales"),
            F.countDistinct("basket_id").alias("orders"),
        )
        .collect()
    )
    seen = {row["customer_id"]: (row["orders"], row["sales"]) for row in rows}
    people = pq.read_table(tmp_path / "out" / CUSTOMERS).to_pylist()
    assert len(people) == int(0.9 * PEOPLE)
    for person in people:
        orders, sales = seen.get(person["customer_id"], (0, 0.0))
        assert orders == person["orders"]
        assert sales == pytest.approx(person["sales"])


def test_the_newest_commit_counts_or_the_one_that_is_named(before: Path, tmp_path: Path) -> None:
    after(before, tmp_path / "first")
    publish(tmp_path / "more", PEOPLE, ITEMS, control_share=0.1)
    publish(tmp_path / "more", PEOPLE, ITEMS, control_share=0.7)
    after(before, tmp_path / "newest", recommendations=str(tmp_path / "more"))
    after(before, tmp_path / "named", recommendations=str(tmp_path / "more"), commit=1)
    newest, named = (truth(tmp_path / name) for name in ("newest", "named"))
    assert (newest["commit"], named["commit"]) == (2, 1)
    assert newest["arms"]["control"] > 3 * named["arms"]["control"]


def test_what_cannot_go_on_is_refused(before: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes, message in (
        ({"customers": 50}, "customers: the earlier simulation's stay in force"),
        ({"recommendations": None}, "continues and recommendations together"),
        ({"continues": str(tmp_path)}, "is no simulation"),
    ):
        with pytest.raises(UsageError, match=message):
            after(before, out, **changes)
    with pytest.raises(UsageError, match="holds something else"):
        after(before, before / "raw")
    with pytest.raises(DataError, match="There is no folder"):
        after(before, out, recommendations=str(tmp_path / "nothing"))
    publish(tmp_path / "others", PEOPLE, ITEMS, width=9)
    with pytest.raises(UsageError, match="ids that are not the simulation's"):
        after(before, out, recommendations=str(tmp_path / "others"))
    publish(tmp_path / "many", 2 * PEOPLE, ITEMS)
    with pytest.raises(UsageError, match="ids that the simulation does not have"):
        after(before, out, recommendations=str(tmp_path / "many"))
    assert not out.exists()
