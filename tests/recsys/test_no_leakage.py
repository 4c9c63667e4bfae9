"""A canary in each window: an item that nobody before the cut could know, and that all buy after.

Whoever could see the window would recommend it to everyone. (That another future leaves a fit as
it is, to the bit, is in models/test_contract.py.)
"""

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, Fold
from recsys.data.prepare import prepare
from recsys.data.tables import read_tables
from recsys.evaluation import Evaluation, evaluate
from recsys.models import ALGORITHMS
from recsys.scoring import plan_scoring
from tests.recsys.builders import (
    ROLLING,
    ROLLING_CUTS,
    WINDOW_DAYS,
    Line,
    folds,
    write_interactions,
)

# Who buys nothing but the canary in each window, though they were there from the start.
LONELY = "lonely"


def canary(window: str) -> str:
    """Return an id that sorts before all others, so that numbering by id would let it in."""
    return f"!!{window}"


@pytest.fixture(scope="module")
def lines(rolling_lines: list[Line]) -> list[Line]:
    first = min(line.day for line in rolling_lines)
    customers = sorted({line.customer for line in rolling_lines if line.customer})
    planted = [
        Line(customer, canary(window), cut + WINDOW_DAYS // 2, 5.0)
        for window, cut in ROLLING_CUTS.items()
        for customer in (*customers, LONELY)
    ]
    return [*rolling_lines, Line(LONELY, "003", first), *planted]


@pytest.fixture(scope="module")
def planted(
    spark: SparkSession, lines: list[Line], tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    folder = tmp_path_factory.mktemp("planted")
    table = write_interactions(folder / "lines", lines)
    return prepare(spark, read_tables(spark, table), folder / "dataset", ROLLING)


def judge(spark: SparkSession, name: str, fold: Fold, folder: Path) -> Evaluation:
    """Fit a recommender with its defaults and judge it."""
    parameters = ALGORITHMS[name].parameters_class()
    history, fitted = fold.history, folder / "fitted"
    fitted.mkdir()
    ALGORITHMS[name](parameters).fit(spark, history, fitted)
    plan = plan_scoring(
        spark, name, parameters, fitted, history.customers, history, folder / "terms"
    )
    return evaluate(spark, plan, fold, folder / "table")


@pytest.mark.parametrize("window", ROLLING_CUTS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_canary_is_never_recommended_and_counts_as_missed(
    spark: SparkSession,
    lines: list[Line],
    planted: Dataset,
    tmp_path: Path,
    name: str,
    window: str,
) -> None:
    cut = ROLLING_CUTS[window]
    before, after = defaultdict(set), defaultdict(set)
    for line in lines:
        if line.customer and line.day < cut + WINDOW_DAYS:
            (before if line.day < cut else after)[line.customer].add(line.item)
    rows = pq.read_table(judge(spark, name, folds(planted)[window], tmp_path).table).to_pylist()
    assert len(rows) == 2 * len(before)
    for row in rows:
        customer = row["customer_id"]
        relevant = after[customer] - (before[customer] if row["question"] == "discover" else set())
        assert canary(window) in relevant
        assert canary(window) not in row["recommended"]
        assert row["relevant"] == len(relevant)
        found = len(relevant & set(row["recommended"][:20]))
        assert row["recall_at_20"] == pytest.approx(found / len(relevant))
        assert row["recall_at_20"] <= 1 - 1 / len(relevant)
        if customer == LONELY:
            assert (row["relevant"], row["recall_at_20"], row["ndcg_at_20"]) == (1, 0, 0)


def test_who_saw_the_window_recommends_the_canary(
    spark: SparkSession, planted: Dataset, tmp_path: Path
) -> None:
    rows = pq.read_table(judge(spark, "popularity", planted.test, tmp_path).table).to_pylist()
    asked = [row for row in rows if row["question"] == "replenish"]
    assert asked
    assert all(canary("test_2") in row["recommended"] for row in asked)
