"""Customers, worked by hand: recency, frequency, monetary value, scores, segments, expectation."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from deploy.sql.customers import PERIOD, SEGMENTS
from deploy.sql.flow import flow_of
from deploy.sql.query import query
from tests.recsys.builders import Line, write_interactions

END = 1_000  # as_of: the day after the newest interaction


def ago(days: int) -> int:
    """Return the day that lies so many days before the end."""
    return END - days


def bought(
    spark: SparkSession, folder: Path, lines: list[Line], **own: list[str]
) -> dict[str, Row]:
    write_interactions(folder / "ingested" / "interactions", lines)
    if own:
        (folder / "ingested" / "customers").mkdir()
        pq.write_table(pa.table(own), folder / "ingested" / "customers" / "part-0.parquet")
    rows = query(spark, flow_of(str(folder)), "SELECT * FROM customers").collect()
    assert len({row["customer_id"] for row in rows}) == len(rows)
    return {row["customer_id"]: row for row in rows}


def test_orders_are_summed_up_as_of_the_newest_interaction(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = bought(
        spark,
        tmp_path,
        [
            Line("01", "a", ago(30), quantity=2, price=5.0, basket="x"),
            Line("01", "b", ago(30), quantity=1, price=10.0, basket="x"),
            Line("01", "a", ago(10), quantity=1, price=4.0, basket="y"),
            Line(None, "a", ago(1)),
        ],
    )
    assert list(rows) == ["01"]
    row = rows["01"].asDict()
    assert {k: row[k] for k in ("recency_days", "frequency", "monetary", "units")} == {
        "recency_days": 10,
        "frequency": 2,
        "monetary": 24.0,
        "units": 4.0,
    }
    assert (row["average_basket"], row["orders_last_91_days"]) == (12.0, 2)
    assert (row["as_of"] - row["first_purchase"].date()).days == 30
    assert (row["as_of"] - row["last_purchase"].date()).days == 10


def test_scores_are_quintiles_and_the_same_values_have_the_same(
    spark: SparkSession, tmp_path: Path
) -> None:
    # Customer n bought n·10 days ago, once, for n; ten customers, two a fifth.
    lines = [Line(f"{n:02}", "a", ago(10 * n), price=float(n)) for n in range(1, 11)]
    rows = bought(spark, tmp_path, [*lines, Line(None, "a", ago(1))])
    assert [rows[f"{n:02}"]["r_score"] for n in range(1, 11)] == [5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    assert [rows[f"{n:02}"]["m_score"] for n in range(1, 11)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {row["f_score"] for row in rows.values()} == {1}


def test_the_first_rule_that_holds_names_the_segment(spark: SparkSession, tmp_path: Path) -> None:
    # Five customers, one a fifth by recency; the first and the fourth order often.
    lines = [Line(f"{n}", "a", ago(20 * n), price=float(n)) for n in range(1, 6)]
    lines += [Line("1", "a", ago(d), price=9.0) for d in range(21, 41)]
    lines += [Line("4", "a", ago(d), price=1.0) for d in range(81, 101)]
    rows = bought(spark, tmp_path, [*lines, Line(None, "a", ago(1))])
    assert {n: rows[n]["segment"] for n in rows} == {
        "1": "champions",
        "2": "new",
        "3": "promising",
        "4": "at risk",
        "5": "lost",
    }


def test_the_last_rule_holds_for_everyone_who_is_left() -> None:
    assert SEGMENTS[-1].rule == "TRUE"


def test_expected_orders_are_what_the_same_number_brought_before(
    spark: SparkSession, tmp_path: Path
) -> None:
    before, now = ago(PERIOD + 10), ago(10)
    lines = [
        Line("old", "a", ago(2 * PERIOD)),  # spans two periods: one order then, none now
        *(Line("twice", "a", day, price=8.0) for day in (before, now, now + 1)),
        Line("gone", "a", before),
        Line("late", "a", now, price=3.0),
        Line(None, "a", ago(1)),
    ]
    rows = bought(spark, tmp_path, lines)
    # One order in the period before: old 0, twice 2, gone 0 in the last one, so 2 / 3 on average.
    assert rows["late"]["expected_orders"] == pytest.approx(2 / 3)
    assert rows["late"]["expected_sales"] == pytest.approx(2 / 3 * 3.0)
    assert rows["late"]["lifetime_value"] == pytest.approx(3.0 + 2.0)
    # Nobody had two orders before, or none: nothing can be said, and nothing is added.
    assert rows["twice"]["expected_orders"] is None
    assert rows["twice"]["lifetime_value"] == 24.0


def test_many_orders_are_expected_in_proportion(spark: SparkSession, tmp_path: Path) -> None:
    lines = [Line("many", "a", ago(PERIOD + 1 + n), price=1.0) for n in range(10)]
    lines += [Line("many", "a", ago(1 + n), price=1.0) for n in range(20)]
    lines += [Line("old", "a", ago(3 * PERIOD))]
    rows = bought(spark, tmp_path, lines)
    # Ten orders brought twenty, so twenty bring forty.
    assert rows["many"]["expected_orders"] == pytest.approx(40.0)


def test_a_short_history_expects_nothing(spark: SparkSession, tmp_path: Path) -> None:
    lines = [Line("1", "a", ago(2 * PERIOD - 1)), Line("1", "a", ago(1))]
    row = bought(spark, tmp_path, lines)["1"]
    assert row["expected_orders"] is None
    assert row["lifetime_value"] == row["monetary"] == 5.0


def test_the_retailers_own_columns_stand_behind_and_none_is_lost(
    spark: SparkSession, tmp_path: Path
) -> None:
    own = {"customer_id": ["1"], "Segment": ["gold"], "Home country": ["GB"]}
    row = bought(spark, tmp_path, [Line("1", "a", ago(1))], **own)["1"]
    assert (row["own_Segment"], row["Home country"], row["segment"]) == ("gold", "GB", "new")
