"""Judging a recommender: one window worked by hand, and a retailer against an oracle."""

from collections import Counter, defaultdict
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.campaign import compiled
from recsys.data.dataset import Dataset, Fold, History
from recsys.errors import DataError
from recsys.evaluation import Evaluation, evaluate
from recsys.hit_table import KS
from recsys.metrics.ranking import METRICS
from recsys.models import ALGORITHMS
from recsys.models.base import Hyperparameters
from recsys.scoring import Plan, plan_scoring
from recsys.strategy import Strategy
from tests.oracles import ranking as oracle
from tests.recsys.builders import TEST_CUT, Event, Line, fold_of, history_of

CUT, ITEMS, GUESTS = 50, 25, 25
CANARY = ITEMS  # an item that the history does not know
# Guest g bought items 0 … 24 - g, so that popularity is the order of the items. Customer 0 bought
# items 0 and 5, the others one each.
BEFORE: list[Event] = [
    *((4 + guest, item, CUT - 1) for guest in range(GUESTS) for item in range(ITEMS - guest)),
    *((0, 0, CUT - 1), (0, 5, CUT - 1), (1, 1, CUT - 1), (2, 3, CUT - 1), (3, 4, CUT - 1)),
]
# Customer 0 buys 0 again and 2 for the first time, customer 1 only what nobody could know,
# customer 2 nothing, customer 3 only 4 again.
AFTER: list[Event] = [(0, 0, CUT), (0, 2, CUT), (0, 2, CUT + 1), (1, CANARY, CUT), (3, 4, CUT + 2)]
Rows = dict[tuple[str, str], dict[str, Any]]


def fitted_plan(
    spark: SparkSession, name: str, parameters: Hyperparameters, history: History, folder: Path
) -> Plan:
    model = folder / "fitted"
    model.mkdir(parents=True)
    ALGORITHMS[name](parameters).fit(spark, history, model)
    return plan_scoring(
        spark, name, parameters, model, history.customers, history, folder / "terms"
    )


def all_time_popularity(
    spark: SparkSession, fold: Fold, folder: Path, strategy: Strategy | None = None
) -> Evaluation:
    parameters = ALGORITHMS["popularity"].parameters_class(half_life_days=None, repeat=False)
    plan = fitted_plan(spark, "popularity", parameters, fold.history, folder)
    if strategy:
        rules = compiled(strategy, None, fold.history, None, folder / "campaign")
        plan = replace(plan, campaign=rules)
    return evaluate(spark, plan, fold, folder / "table")


def rows_of(evaluation: Evaluation) -> Rows:
    rows = pq.read_table(evaluation.table).to_pylist()
    found = {(row["question"], row["customer_id"]): row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def worked(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("worked")
    history = history_of(folder / "history", BEFORE, 4, ITEMS, CUT, GUESTS)
    fold = fold_of(folder, history, AFTER)
    return all_time_popularity(spark, fold, folder / "run")


def test_who_has_nothing_relevant_is_not_judged(worked: Evaluation) -> None:
    assert set(rows_of(worked)) == {
        ("discover", "c000"),
        ("discover", "c001"),
        ("replenish", "c000"),
        ("replenish", "c001"),
        ("replenish", "c003"),
    }
    assert worked.totals["discover"]["customers"] == 2
    assert worked.totals["replenish"]["customers"] == 3


def test_discover_leaves_bought_items_out_of_list_and_truth(worked: Evaluation) -> None:
    row = rows_of(worked)["discover", "c000"]
    assert row["recommended"][:6] == ["i001", "i002", "i003", "i004", "i006", "i007"]
    assert (row["history"], row["relevant"], row["hits"]) == (2, 1, [2])
    assert len(row["recommended"]) == max(KS)
    assert row["precision_at_5"] == 1 / 5
    assert row["recall_at_5"] == 1
    assert row["ndcg_at_5"] == pytest.approx(1 / log2(3))
    assert row["mrr_at_5"] == row["map_at_5"] == 1 / 2


def test_replenish_allows_bought_items(worked: Evaluation) -> None:
    row = rows_of(worked)["replenish", "c000"]
    assert row["recommended"] == [f"i{item:03d}" for item in range(max(KS))]
    assert (row["relevant"], row["hits"]) == (2, [1, 3])
    assert row["precision_at_5"] == 2 / 5
    assert row["recall_at_5"] == 1
    assert row["ndcg_at_5"] == pytest.approx((1 + 1 / 2) / (1 + 1 / log2(3)))
    assert row["map_at_5"] == pytest.approx((1 + 2 / 3) / 2)
    row = rows_of(worked)["replenish", "c003"]
    assert row["hits"] == [5]
    assert row["ndcg_at_5"] == pytest.approx(1 / log2(6))


def test_a_campaign_is_judged_by_its_own_rule_on_bought_items(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Customer 0 bought item 0 long ago and 5 just now, and buys 0 again and 2 for the first time.

    Customer 3 bought 4 just now and buys it again, which the rule does not let count.
    """
    before = [e for e in BEFORE if e != (0, 0, CUT - 1)] + [(0, 0, CUT - 40)]
    history = history_of(tmp_path / "history", before, 4, ITEMS, CUT, GUESTS)
    fold = fold_of(tmp_path, history, AFTER)
    judged = all_time_popularity(spark, fold, tmp_path / "run", Strategy(name="month", seen=30))
    rows = rows_of(judged)
    assert {key for key in rows if key[0] == "campaign"} == {
        ("campaign", "c000"),
        ("campaign", "c001"),
    }
    row = rows["campaign", "c000"]
    assert row["recommended"][:6] == ["i000", "i001", "i002", "i003", "i004", "i006"]
    assert (row["relevant"], row["hits"]) == (2, [1, 3])
    assert judged.metrics()["test/campaign/customers"] == 2
    assert rows["discover", "c000"]["recommended"][0] == "i001"


@pytest.mark.parametrize(("seen", "question"), [("exclude", "discover"), ("allow", "replenish")])
def test_a_campaign_that_asks_a_usual_question_gets_the_usual_answer(
    spark: SparkSession, tmp_path: Path, seen: Any, question: str
) -> None:
    history = history_of(tmp_path / "history", BEFORE, 4, ITEMS, CUT, GUESTS)
    fold = fold_of(tmp_path, history, AFTER)
    judged = all_time_popularity(spark, fold, tmp_path / "run", Strategy(name="usual", seen=seen))
    assert judged.estimates["campaign"] == judged.estimates[question]
    assert judged.totals["campaign"] == judged.totals[question]


@pytest.mark.parametrize("seen", ["exclude", "allow", 30])
def test_a_campaign_leaves_the_usual_answers_alone(
    spark: SparkSession, tmp_path: Path, worked: Evaluation, seen: Any
) -> None:
    history = history_of(tmp_path / "history", BEFORE, 4, ITEMS, CUT, GUESTS)
    fold = fold_of(tmp_path, history, AFTER)
    judged = all_time_popularity(spark, fold, tmp_path / "run", Strategy(name="any", seen=seen))
    usual = {key: row for key, row in rows_of(judged).items() if key[0] != "campaign"}
    assert usual == rows_of(worked)
    for question in ("discover", "replenish"):
        assert judged.estimates[question] == worked.estimates[question]
        assert judged.totals[question] == worked.totals[question]


def test_what_nobody_could_know_counts_with_zero(worked: Evaluation) -> None:
    for question in ("discover", "replenish"):
        row = rows_of(worked)[question, "c001"]
        assert (row["relevant"], row["hits"]) == (1, [])
        assert {row[f"{name}_at_{k}"] for name in METRICS for k in KS} == {0}


def test_means_are_over_every_judged_customer(worked: Evaluation) -> None:
    metrics = worked.metrics()
    assert metrics["test/recall_at_5"] == pytest.approx(1 / 2)
    assert metrics["test/ndcg_at_10"] == pytest.approx((1 / log2(3)) / 2)
    assert metrics["test/replenish/recall_at_5"] == pytest.approx(2 / 3)
    assert metrics["test/replenish/mrr_at_20"] == pytest.approx((1 + 1 / 5) / 3)
    assert metrics["test/recall_at_10_low"] == 0
    assert metrics["test/recall_at_10_high"] == 1


def test_totals_describe_the_lists_of_10(worked: Evaluation) -> None:
    # c000 is shown 1-4 and 6-11, c001 0 and 2-10: items 0 to 11 but 5 for one of them.
    expected = Counter([*range(1, 5), *range(6, 12), 0, *range(2, 11)])
    assert worked.recommended["discover"].tolist() == [expected[item] for item in range(ITEMS)]
    assert worked.estimates["discover"]["coverage_at_10"].value == 12 / 25
    assert worked.estimates["replenish"]["coverage_at_10"].value == 10 / 25
    # Guests' purchases count: item i was bought by 25 - i of them.
    own = [1, 1, 0, 1, 1, 1] + [0] * 19
    assert worked.popularity.tolist() == [25 - i + n for i, n in enumerate(own)]
    # Items 0 to 9 of three categories: 4, 3 and 3 alike, so 6 + 3 + 3 of 45 pairs.
    diversity = worked.estimates["replenish"]["diversity_at_10"].value
    assert diversity == pytest.approx(1 - 12 / 45)
    # The most popular tenth: round(2.5) = 2 items, 0 and 1, which every list of 10 holds.
    assert worked.estimates["replenish"]["popular_share_at_10"].value == pytest.approx(2 / 10)


def test_revenue_metrics_weigh_what_was_paid(worked: Evaluation) -> None:
    # Every event is worth 1: customer 0 bought 0 for 1 and 2 for 2 in two events.
    row = rows_of(worked)["replenish", "c000"]
    assert row["revenue_recall_at_5"] == 1
    assert row["revenue_ndcg_at_5"] == pytest.approx((1 + 2 / 2) / (2 + 1 / log2(3)))


def test_sources_and_known_purchases_are_told(worked: Evaluation) -> None:
    row = rows_of(worked)["replenish", "c000"]
    assert row["bought"] == ["i000", "i002"]
    assert (row["source_model"], row["source_fold_in"], row["source_popularity"]) == (10, 0, 0)
    assert worked.totals["replenish"]["served_by_model"] == 1
    assert worked.totals["replenish"]["served_by_popularity"] == 0
    # The canary has no id that the history knows.
    assert rows_of(worked)["discover", "c001"]["bought"] == []


def test_metric_names(worked: Evaluation) -> None:
    ranking = {
        f"{name}_at_{k}" for name in (*METRICS, "revenue_recall", "revenue_ndcg") for k in KS
    }
    lists = {
        f"{name}_at_10" for name in ("coverage", "novelty", "gini", "popular_share", "diversity")
    }
    ends = {f"{n}_{end}" for n in ranking | lists if "_at_10" in n for end in ("low", "high")}
    sources = ("model", "fold_in", "segment_popularity", "popularity")
    totals = {"customers", *(f"served_by_{source}" for source in sources)}
    named = ranking | lists | ends | totals
    expected = {f"test/{name}" for name in named} | {f"test/replenish/{name}" for name in named}
    assert set(worked.metrics()) == expected
    assert worked.items_per_second > 0


def test_a_window_in_which_all_was_bought_before_has_nothing_to_discover(
    spark: SparkSession, tmp_path: Path
) -> None:
    history = history_of(tmp_path / "history", BEFORE, 4, ITEMS, CUT, GUESTS)
    fold = fold_of(tmp_path, history, [(3, 4, CUT)])
    with pytest.raises(DataError, match="No customer of the test window has anything to discover"):
        all_time_popularity(spark, fold, tmp_path / "run")


def test_an_empty_window(spark: SparkSession, tmp_path: Path) -> None:
    history = history_of(tmp_path / "history", BEFORE, 4, ITEMS, CUT, GUESTS)
    with pytest.raises(DataError, match="No customer of the test window has anything to discover"):
        all_time_popularity(spark, fold_of(tmp_path, history, []), tmp_path / "run")


def test_a_catalogue_smaller_than_the_longest_list(spark: SparkSession, tmp_path: Path) -> None:
    history = history_of(tmp_path / "history", [(0, 3, 1), (0, 4, 1)], 1, 6, CUT)
    evaluation = all_time_popularity(spark, fold_of(tmp_path, history, [(0, 5, CUT)]), tmp_path)
    row = rows_of(evaluation)["replenish", "c000"]
    assert row["recommended"] == ["i003", "i004", "i000", "i001", "i002", "i005"]
    # A list shorter than k counts as if filled with misses.
    assert row["precision_at_20"] == 1 / 20
    assert row["recall_at_20"] == 1


# --- the retailer, against an oracle that reads the receipts


@pytest.fixture(scope="module")
def judged(
    spark: SparkSession, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    folder = tmp_path_factory.mktemp("judged")
    parameters = ALGORITHMS["item_item"].parameters_class()
    plan = fitted_plan(spark, "item_item", parameters, dataset.test.history, folder)
    return evaluate(spark, plan, dataset.test, folder / "table")


def test_every_row_equals_the_oracles(judged: Evaluation, retailer_lines: list[Line]) -> None:
    before, after = defaultdict(set), defaultdict(set)
    for line in retailer_lines:
        if line.customer is not None:
            (before if line.day < TEST_CUT else after)[line.customer].add(line.item)
    rows = rows_of(judged)
    for question in ("discover", "replenish"):
        truth = {customer: after[customer] for customer in before}
        if question == "discover":
            truth = {customer: items - before[customer] for customer, items in truth.items()}
        truth = {customer: items for customer, items in truth.items() if items}
        assert {customer for q, customer in rows if q == question} == set(truth)
        for customer, bought in truth.items():
            row = rows[question, customer]
            shown = row["recommended"]
            assert row["relevant"] == len(bought)
            assert row["history"] == len(before[customer])
            assert row["hits"] == [n for n, item in enumerate(shown, 1) if item in bought]
            assert len(set(shown)) == len(shown)
            if question == "discover":
                assert not before[customer] & set(shown)
            for k in KS:
                expected = oracle.metrics(shown, bought, k)
                assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_means_and_counts_follow_from_the_rows(judged: Evaluation, dataset: Dataset) -> None:
    ids = pq.read_table(dataset.path / "items")["item_id"].to_pylist()
    rows = rows_of(judged)
    for question in ("discover", "replenish"):
        mine = [row for (q, _), row in rows.items() if q == question]
        for name, interval in judged.estimates[question].items():
            if name not in ("coverage_at_10", "gini_at_10"):
                assert interval.value == pytest.approx(np.mean([row[name] for row in mine]))
            assert interval.low <= interval.value <= interval.high
        shown = Counter(item for row in mine for item in row["recommended"][:10])
        assert judged.recommended[question].tolist() == [shown[item] for item in ids]
        assert judged.estimates[question]["coverage_at_10"].value == len(shown) / len(ids)


def test_an_item_that_first_sells_in_the_window_is_never_recommended(
    judged: Evaluation, retailer_lines: list[Line]
) -> None:
    """Item 029 would be a perfect hit for half of the customers, for who could see the future."""
    buyers = {line.customer for line in retailer_lines if line.item == "029"}
    rows = rows_of(judged)
    assert sum(customer in buyers for _, customer in rows) > 20
    assert not any("029" in row["recommended"] for row in rows.values())


def test_the_validation_window_judges_only_customers_of_train(
    spark: SparkSession, dataset: Dataset, tmp_path: Path
) -> None:
    evaluation = all_time_popularity(spark, dataset.validation, tmp_path)
    customers = {int(customer) for _, customer in rows_of(evaluation)}
    assert customers
    assert max(customers) < 45
    assert not any("028" in row["recommended"] for row in rows_of(evaluation).values())
    assert "validation/ndcg_at_10" in evaluation.metrics()
