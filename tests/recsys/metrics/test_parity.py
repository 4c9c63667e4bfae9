"""Parity with independent implementations: ranx, and trec_eval in C through pytrec_eval.

They and we must agree for every single customer to 1e-9. Where a definition differs, `as_ours`
says how and undoes it; the tolerance stays. docs/metrics.md tells the sizes of these differences,
and those to RecTools and recommenders.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pytrec_eval import RelevanceEvaluator
from ranx import Qrels, Run, evaluate

from benchmarks.libraries import Lists, Truth, ranx_values, trec_values
from recsys.metrics import beyond_accuracy
from recsys.metrics.ranking import METRICS, per_customer, per_customer_revenue
from tests.oracles import beyond_accuracy as oracle

KS = (1, 5, 10, 20)
TOLERANCE = 1e-9
LIBRARIES = {"ranx": ranx_values, "pytrec_eval": trec_values}
WINDOW = pd.Timedelta(days=28)
pytestmark = pytest.mark.filterwarnings("ignore:unsafe cast")


@dataclass(frozen=True)
class Shape:
    """Ranges that random customers are drawn from: length of a list, number of relevant items."""

    items: int
    listed: tuple[int, int]
    relevant: tuple[int, int]
    customers: int = 60


SHAPES = {
    "lists longer than every k": Shape(items=100, listed=(21, 30), relevant=(1, 15)),
    "lists shorter than k, some empty": Shape(items=60, listed=(0, 8), relevant=(1, 10)),
    "more relevant items than k": Shape(items=80, listed=(10, 25), relevant=(21, 60)),
    "one relevant item": Shape(items=30, listed=(0, 30), relevant=(1, 1)),
    "k above the number of items": Shape(items=4, listed=(0, 4), relevant=(1, 4)),
    "one customer": Shape(items=20, listed=(12, 12), relevant=(8, 8), customers=1),
}


def draw(shape: Shape, seed: int) -> tuple[Lists, Truth]:
    """Draw distinct items a list; half as many items again are unknown to every list."""
    random = np.random.default_rng(seed)
    lists, truth = {}, {}
    for customer in range(shape.customers):
        listed = random.integers(*shape.listed, endpoint=True)
        relevant = random.integers(*shape.relevant, endpoint=True)
        lists[customer] = random.permutation(shape.items)[:listed].tolist()
        bought = random.permutation(shape.items * 3 // 2)[:relevant].tolist()
        truth[customer] = dict(zip(bought, random.integers(1, 1000, relevant), strict=True))
    return lists, truth


def popular_items(file: Path) -> tuple[Lists, Truth]:
    """Recommend what was popular before the last 28 days and what the customer has not yet."""
    columns = ["InvoiceNo", "StockCode", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID"]
    rows = pd.read_csv(file, usecols=columns, dtype={"InvoiceNo": str, "StockCode": str})
    sold = (rows["Quantity"] > 0) & (rows["UnitPrice"] > 0) & ~rows["InvoiceNo"].str.startswith("C")
    rows = rows[sold & rows["CustomerID"].notna()]
    rows["item"] = pd.factorize(rows["StockCode"].str.upper())[0]
    rows["revenue"] = rows["Quantity"] * rows["UnitPrice"]
    day = pd.to_datetime(rows["InvoiceDate"])
    late = day > day.max() - WINDOW
    before, window = rows[~late], rows[late]
    popular = before.groupby("item")["CustomerID"].nunique().sort_values(ascending=False)
    owned = before.groupby("CustomerID")["item"].agg(set)
    lists, truth = {}, {}
    for customer, bought in window.groupby("CustomerID"):
        has = owned.get(customer, set())
        gains = np.ceil(bought.groupby("item")["revenue"].sum()).astype(int)
        gains = gains[~gains.index.isin(has)]
        if len(gains):
            lists[int(customer)] = [i for i in popular.index[: 20 + len(has)] if i not in has][:20]
            truth[int(customer)] = gains.to_dict()
    return lists, truth


def our_values(lists: Lists, truth: Truth) -> dict[str, NDArray[np.float64]]:
    """Return our metrics, binary and weighted by revenue, customers in the order of the truth."""
    places = max(len(shown) for shown in lists.values())
    relevant = np.array([len(gains) for gains in truth.values()])
    gains = np.zeros((len(truth), places))
    ideal = np.zeros((len(truth), max(relevant)))
    for row, (customer, bought) in enumerate(truth.items()):
        for place, item in enumerate(lists[customer]):
            gains[row, place] = bought.get(item, 0)
        ideal[row, : len(bought)] = sorted(bought.values(), reverse=True)
    revenue = per_customer_revenue(gains, ideal, ideal.sum(axis=1), KS)
    return per_customer(gains > 0, relevant, KS) | revenue


def as_ours(
    library: str, metric: str, k: int, theirs: NDArray[np.float64], relevant: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Undo the differences of definition; there are these two."""
    if metric == "map":
        # Both divide by all relevant items, we by those that k places can hold.
        return theirs * relevant / np.minimum(relevant, k)
    if library == "pytrec_eval" and metric == "mrr":
        # trec_eval's recip_rank knows no k: a first hit beyond it counts 0 with us.
        return np.where(theirs > 1 / (k + 0.5), theirs, 0.0)
    return theirs


def assert_parity(library: str, lists: Lists, truth: Truth) -> None:
    """Compare every metric at every k for every customer."""
    ours, theirs = our_values(lists, truth), LIBRARIES[library](lists, truth, KS)
    relevant = np.array([len(gains) for gains in truth.values()])
    for metric in [*METRICS, "revenue_ndcg"]:
        for k in KS:
            name = f"{metric}_at_{k}"
            found = np.array([theirs[name][customer] for customer in truth])
            found = as_ours(library, metric, k, found, relevant)
            assert np.abs(ours[name] - found).max() <= TOLERANCE, name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_random_customers(library: str, shape: str) -> None:
    for seed in range(3):
        assert_parity(library, *draw(SHAPES[shape], seed))


@pytest.fixture(scope="module")
def retailer(online_retail: Path) -> tuple[Lists, Truth]:
    return popular_items(online_retail / "online_retail.csv.gz")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_real_retailer(library: str, retailer: tuple[Lists, Truth]) -> None:
    lists, truth = retailer
    assert len(truth) > 1000
    assert our_values(lists, truth)["hit_rate_at_20"].mean() > 0.1
    assert_parity(library, lists, truth)


# --- what the libraries do where our lists cannot be: reasons why we hand them what we do


def test_trec_eval_leaves_out_a_customer_without_a_list_that_ranx_refuses() -> None:
    """We hand over an empty list, which counts 0 in all three."""
    # Ids of eight letters: ranx compiles itself anew for another width.
    one, other, item = "customer1", "customer2", "itemitem"
    truth, shown = {one: {item: 1}, other: {item: 1}}, {one: {item: 1.0}}
    assert set(RelevanceEvaluator(truth, {"recip_rank"}).evaluate(shown)) == {one}
    with pytest.raises(AssertionError, match="do not match"):
        evaluate(Qrels(truth), Run(shown), "mrr")


def test_trec_eval_orders_equal_scores_by_item() -> None:
    """Our lists are in order; we hand over scores without ties."""
    shown = {"a": {"x": 1.0, "y": 1.0}}
    found = RelevanceEvaluator({"a": {"x": 1}}, {"recip_rank"}).evaluate(shown)
    assert found["a"]["recip_rank"] == 0.5


# --- metrics that neither library has, against their definitions


def test_revenue_recall_is_the_share_of_the_relevant_revenue() -> None:
    for shape in SHAPES.values():
        lists, truth = draw(shape, seed=5)
        ours = our_values(lists, truth)
        for k in KS:
            expected = [
                sum(gains.get(item, 0) for item in lists[customer][:k]) / sum(gains.values())
                for customer, gains in truth.items()
            ]
            found = ours[f"revenue_recall_at_{k}"]
            assert np.abs(found - expected).max() <= TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_beyond_accuracy(shape: str) -> None:
    items = SHAPES[shape].items
    lists = list(draw(SHAPES[shape], seed=6)[0].values())
    random = np.random.default_rng(6)
    category = random.integers(-1, 4, items).astype(np.int32)
    popularity = random.integers(0, 5, items)
    bought = Counter(dict(enumerate(popularity.tolist())))
    shown = np.full((len(lists), max(map(len, lists))), -1)
    for row, listed in zip(shown, lists, strict=True):
        row[: len(listed)] = listed
    information = beyond_accuracy.self_information(popularity.astype(np.float64))
    recommended = np.bincount(shown[shown >= 0], minlength=items)
    pairs = {
        "novelty": (
            beyond_accuracy.novelty(shown, information),
            [oracle.novelty(listed, bought) for listed in lists],
        ),
        "diversity": (
            beyond_accuracy.diversity(shown, category),
            [oracle.diversity(listed, category.tolist()) for listed in lists],
        ),
        "coverage": (beyond_accuracy.coverage(recommended, items), oracle.coverage(lists, items)),
        "gini": (beyond_accuracy.gini(recommended, items), oracle.gini(lists, items)),
    }
    for name, (ours, expected) in pairs.items():
        assert np.abs(ours - expected).max() <= TOLERANCE, name
