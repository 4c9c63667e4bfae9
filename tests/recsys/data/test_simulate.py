"""Simulate: reproducible to the byte, and ingest finds exactly what was planted."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.interactions import ingest
from recsys.data.mapping import Mapping
from recsys.data.simulate import MARKER, SimulateConfig, Simulation, simulate
from recsys.data.till import KINDS
from recsys.errors import UsageError

SMALL = {"customers": 300, "items": 400, "days": 200, "rows_per_customer": 40}


def small(output: Path, **changes: object) -> Simulation:
    return simulate(SimulateConfig.checked({"output": str(output)} | SMALL | changes, "test"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (small(tmp_path / n, seed=s) for n, s in (("a", 1), ("b", 1), ("c", 2)))
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first.digest == again.digest != other.digest
    name = "transactions-2024-01.csv"
    assert content(tmp_path / "a")[name] != content(tmp_path / "c")[name]


def test_the_raw_form_is_a_tills(tmp_path: Path) -> None:
    result = small(tmp_path / "out")
    files = sorted(p.name for p in (tmp_path / "out").glob("*.csv"))
    assert files == [f"transactions-2024-{month:02}.csv" for month in range(1, 8)]
    lines = [f.read_text("utf-8").splitlines() for f in sorted((tmp_path / "out").glob("*.csv"))]
    assert {rows[0] for rows in lines} == {
        "receipt,line,sku,product,department,qty,sold_at,price,loyalty_card,store,region"
    }
    assert sum(len(rows) - 1 for rows in lines) == result.rows
    good = lines[0][1].split(",")
    assert len(good[2]) == 6
    assert good[2].startswith("0")
    assert good[8] == "" or (len(good[8]) == 10 and good[8].startswith("00"))
    assert result.rows == pytest.approx(300 * 40, rel=0.15)
    described = json.loads((tmp_path / "out" / MARKER).read_text())
    assert described["rows"] == result.rows
    assert described["planted"] == result.planted
    assert "output" not in described["parameters"]


def test_ingest_finds_exactly_what_was_planted(spark: SparkSession, tmp_path: Path) -> None:
    result = small(tmp_path / "raw", customers=600, bad_share=0.04)
    report = ingest(spark, str(tmp_path / "raw"), tmp_path / "out", Mapping.load("simulated"))
    assert {str(reason): n for reason, n in report.reasons.items()} == result.planted
    assert set(result.planted) >= set(map(str, KINDS))
    assert report.rows_in == result.rows
    assert report.rows_quarantined == sum(result.planted.values())
    known = pq.read_table(tmp_path / "raw" / "truth" / "customers.parquet")
    bought = pq.read_table(tmp_path / "out" / "interactions").column("customer_id")
    assert set(bought.to_pylist()) - {None} <= set(known.column("customer_id").to_pylist())
    truth = pq.read_table(tmp_path / "raw" / "truth" / "items.parquet").to_pylist()
    items = pq.read_table(tmp_path / "out" / "items").to_pylist()
    category = {i["item_id"]: (i["description"], i["category"]) for i in truth}
    assert items
    assert all(category[i["item_id"]] == (i["description"], i["category"]) for i in items)


def test_the_truth_shows_in_what_customers_buy(tmp_path: Path) -> None:
    """Customers buy their favourite department far more often than others do."""
    small(tmp_path / "out", bad_share=0)
    customers = pq.read_table(tmp_path / "out" / "truth" / "customers.parquet").to_pylist()
    favourite = {c["customer_id"]: c["favourite_category"] for c in customers}
    rows = [
        line.split(",")
        for file in (tmp_path / "out").glob("*.csv")
        for line in file.read_text().splitlines()[1:]
    ]
    known = [(r[8], r[4]) for r in rows if r[8]]
    own = np.mean([favourite[card] == department for card, department in known])
    cards = np.random.default_rng(0).permutation([card for card, _ in known])
    chance = np.mean([favourite[c] == d for c, (_, d) in zip(cards, known, strict=True)])
    assert own > 1.5 * chance


def test_customers_and_items_arrive_over_time(tmp_path: Path) -> None:
    small(tmp_path / "out")
    customers = pq.read_table(tmp_path / "out" / "truth" / "customers.parquet").to_pydict()
    items = pq.read_table(tmp_path / "out" / "truth" / "items.parquet").to_pydict()
    assert any(day >= 200 - 56 for day in customers["arrival_day"])
    assert any(day > 100 for day in items["launch_day"])
    assert any(items["consumable"])
    assert not all(items["consumable"])


def test_only_a_simulation_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "out"
    small(output, seed=1)
    small(output, seed=2, days=40)
    assert len(list(output.glob("*.csv"))) == 2
    other = tmp_path / "photos"
    other.mkdir()
    (other / "dog.jpg").write_text("woof")
    with pytest.raises(UsageError, match="holds something else"):
        small(other)
    assert [p.name for p in other.iterdir()] == ["dog.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "photos"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("customers", 0), ("days", 3), ("seed", -1), ("guest_share", 2), ("start", "soon")],
)
def test_wrong_parameters_are_named(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name}={value!r} is not usable"):
        SimulateConfig.checked({"output": "x", name: value}, "simulate")
