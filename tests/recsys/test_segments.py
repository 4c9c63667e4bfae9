"""Groups of customers and of items, and metrics within them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UsageError
from recsys.hit_table import of_question
from recsys.metrics.ranking import per_customer
from recsys.segments import ACTIVITIES, Segment, activity, segment_values, segments
from tests.recsys.hit_rows import hit_table

CATEGORY = {"x": "tea", "y": "tea", "z": "jam", "w": None}
COUNTRY = {"a": "FR", "b": "FR", "c": "UK", "d": None, "e": "UK"}
ROWS = {
    "a": {"recommended": ["x", "z"], "bought": ["x", "y"], "ndcg_at_10": 0.1, "history": 1},
    "b": {"recommended": ["z", "y"], "bought": ["y"], "ndcg_at_10": 0.2, "history": 4},
    "c": {"recommended": ["w"], "bought": ["w", "z"], "ndcg_at_10": 0.3, "history": 9},
    "d": {"recommended": [], "bought": ["z"], "ndcg_at_10": 0.4, "history": 20},
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for name, column, values in (
        ("items", "category", CATEGORY),
        ("customers", "country", COUNTRY),
    ):
        key = {"items": "item_id", "customers": "customer_id"}[name]
        (folder / name).mkdir()
        table = pa.table({key: list(values), column: list(values.values())})
        pq.write_table(table, folder / name / "part-0.parquet")
    return folder


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return of_question(hit_table(ROWS), "discover")


def found(rows: pa.Table, tables: Path, *columns: str) -> dict[tuple[str, str], Segment]:
    return {(s.by, s.label): s for s in segments(rows, tables, columns)}


def test_activity_makes_quarters_of_the_history() -> None:
    labels = activity(np.array([1, 2, 3, 4, 5, 6, 7, 8]))
    assert labels.tolist() == [name for name in ACTIVITIES for _ in range(2)]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_who_bought_more_is_never_in_a_lower_quarter(history: list[int]) -> None:
    order = [ACTIVITIES.index(label) for label in activity(np.array(sorted(history)))]
    assert order == sorted(order)


def test_equal_histories_are_one_group(tables: Path) -> None:
    rows = of_question(hit_table({n: {"history": 3} for n in "abcd"}), "discover")
    assert list(found(rows, tables)) == [("activity", "new")]


def test_a_customers_column_groups_customers(rows: pa.Table, tables: Path) -> None:
    groups = found(rows, tables, "country")
    members = {label: s.customers.tolist() for (by, label), s in groups.items() if by == "country"}
    assert members == {"FR": [0, 1], "UK": [2], "unknown": [3]}
    assert segment_values(rows, groups["country", "FR"], "ndcg_at_10").tolist() == [0.1, 0.2]


def test_an_items_column_judges_by_what_was_bought_of_the_group(
    rows: pa.Table, tables: Path
) -> None:
    groups = found(rows, tables, "category")
    tea = groups["category", "tea"]
    assert tea.customers.tolist() == [0, 1]
    # a: x found at the first place, y not; b: y found at the second.
    hits = np.array([[True, False], [False, True]])
    expected = per_customer(hits, np.array([2, 1]), (10,))
    for name in ("ndcg_at_10", "recall_at_10", "mrr_at_10"):
        assert segment_values(rows, tea, name) == pytest.approx(expected[name])
    assert segment_values(rows, groups["category", "jam"], "recall_at_10").tolist() == [0, 0]
    assert segment_values(rows, groups["category", "unknown"], "recall_at_10").tolist() == [1]


def test_recommendations_of_other_groups_are_no_hits(rows: pa.Table, tables: Path) -> None:
    jam = found(rows, tables, "category")["category", "jam"]
    # c bought w and z; only w was found, which is no jam.
    assert jam.customers.tolist() == [2, 3]
    assert segment_values(rows, jam, "hit_rate_at_10").tolist() == [0, 0]


def test_a_metric_that_no_item_group_has_is_refused(rows: pa.Table, tables: Path) -> None:
    tea = found(rows, tables, "category")["category", "tea"]
    with pytest.raises(UsageError, match="revenue_recall_at_10 cannot be cut by category"):
        segment_values(rows, tea, "revenue_recall_at_10")


def test_rare_values_are_put_together(tables: Path, tmp_path: Path) -> None:
    names = [f"{n:02d}" for n in range(20)]
    (tmp_path / "customers").mkdir()
    (tmp_path / "items").symlink_to(tables / "items")
    table = pa.table({"customer_id": names, "town": [n if n < "12" else "12" for n in names]})
    pq.write_table(table, tmp_path / "customers" / "part-0.parquet")
    rows = of_question(hit_table({name: {} for name in names}), "discover")
    towns = [s for s in segments(rows, tmp_path, ["town"]) if s.by == "town"]
    assert len(towns) == 9
    assert sum(len(s.customers) for s in towns) == 20
    assert {s.label: len(s.customers) for s in towns}["other"] == 5


def test_an_unknown_column_names_the_known_ones(rows: pa.Table, tables: Path) -> None:
    with pytest.raises(UsageError, match="customers have country, items have category"):
        segments(rows, tables, ["colour"])
