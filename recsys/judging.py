"""Judge the customers of one block: rank, compare with what they bought, write their rows."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.campaign import may_repeat
from recsys.data.catalogue import read_categories
from recsys.data.dataset import Fold, History
from recsys.hit_table import CAMPAIGN, KS, QUESTIONS, K
from recsys.kernels.blocks import Block
from recsys.kernels.entries import cells_of, find, rows_of
from recsys.metrics import beyond_accuracy
from recsys.metrics.ranking import per_customer, per_customer_revenue
from recsys.models import arrays
from recsys.ranker import NONE, SOURCES, Ranking
from recsys.scoring import Plan, ids_at, rank_block
from recsys.storage import Place, place_of, write_parquet

POPULARITY = "popularity"


@dataclass(frozen=True)
class Judged:
    """What a task counted in its block."""

    recommended: dict[str, NDArray[np.int64]]
    given: int
    seconds: float


@dataclass(frozen=True)
class _Relevant:
    """What the eligible customers bought that counts: one entry a customer and item, in order.

    Attributes:
        eligible: int64 [n], which of the ranked customers bought anything that counts.
        row: int64, the customer, 0 … n - 1.
        item: int64; beyond the history's items where the history does not know it.
        revenue: float64, what it was bought for.
        count: int64 [n], relevant items.
    """

    eligible: NDArray[np.int64]
    row: NDArray[np.int64]
    item: NDArray[np.int64]
    revenue: NDArray[np.float64]
    count: NDArray[np.int64]


def questions_of(plan: Plan) -> tuple[str, ...]:
    """Return what is asked of a recommender; a campaign asks one question more."""
    return (*QUESTIONS, CAMPAIGN) if plan.campaign else tuple(QUESTIONS)


def judge_block(plan: Plan, fold: Fold, number: int, table: Place) -> Judged:
    """Judge the eligible customers of one block and write their rows.

    Args:
        plan: a recommender fitted on the fold's history; `plan.terms` holds POPULARITY.
        fold: history and truth.
        number: of the block.
        table: folder of the hit table.
    """
    history = plan.history
    block = history.customer_blocks.read(number).take(history.customers).before(history.before)
    truth = fold.truth.read(number).take(history.customers)
    width = max(int(truth.columns.max(initial=-1)) + 1, history.items)
    bought, before = (
        b.matrix(weights, width)
        for b, weights in ((truth, truth.revenue), (block, np.ones(len(block.columns))))
    )
    excluded = _excluded(plan, block, before)
    counts = {question: np.zeros(history.items, dtype=np.int64) for question in excluded}
    tables, given, seconds = [], 0, 0.0
    started = time.perf_counter()
    k = min(max(KS), history.items)
    for local, rankings in rank_block(
        plan, block, np.diff(truth.indptr) > 0, k, tuple(QUESTIONS.values())
    ):
        seconds += time.perf_counter() - started
        for question, ranking in zip(excluded, rankings, strict=True):
            given += int((ranking.items >= 0).sum())
            relevant = _relevant(bought[local], excluded[question][local])
            rows = local[relevant.eligible]
            who = _customers(history, block.start + rows, np.diff(before.indptr)[rows], question)
            tables.append(pa.table(who | _judge(plan, relevant, ranking)))
            shown = ranking.items[relevant.eligible, :K]
            counts[question] += np.bincount(shown[shown >= 0], minlength=history.items)
        started = time.perf_counter()
    if tables:
        write_parquet(table / f"part-{number:05d}.parquet", pa.concat_tables(tables))
    return Judged(counts, given, seconds)


def _excluded(plan: Plan, block: Block, before: sp.csr_matrix) -> dict[str, sp.csr_matrix]:
    """Return by question the pairs of a customer and an item that may not be recommended.

    Args:
        plan: with a campaign or without.
        block: the history of some customers.
        before: the same as a matrix [customers, items].
    """
    none = sp.csr_matrix(before.shape)
    excluded = {name: before if seen == "exclude" else none for name, seen in QUESTIONS.items()}
    if plan.campaign:
        again = may_repeat(block, plan.campaign, plan.history.before, plan.history.items)
        # A copy, because `eliminate_zeros` works on the indices themselves.
        barred = sp.csr_matrix((~again, before.indices, before.indptr), before.shape, copy=True)
        barred.eliminate_zeros()
        excluded[CAMPAIGN] = barred
    return excluded


def _relevant(bought: sp.csr_matrix, excluded: sp.csr_matrix) -> _Relevant:
    """Find what counts as relevant: all that was bought and might have been recommended."""
    row, item = rows_of(bought), bought.indices.astype(np.int64)
    revenue = bought.data.astype(np.float64)
    out, _ = find(cells_of(excluded), cells_of(bought))
    row, item, revenue = row[~out], item[~out], revenue[~out]
    count = np.bincount(row, minlength=bought.shape[0])
    eligible = np.flatnonzero(count)
    return _Relevant(
        eligible, np.searchsorted(eligible, row), item, revenue, count[eligible].astype(np.int64)
    )


def _customers(
    history: History, customers: NDArray[np.int64], known: NDArray[np.int64], question: str
) -> dict[str, pa.Array]:
    """Return the columns that say who was asked what.

    Args:
        history: that knows them.
        customers: [n] their indices.
        known: [n] distinct items that they bought before.
        question: that was asked.
    """
    return {
        c.CUSTOMER_ID: ids_at(
            history.tables, "customers", c.CUSTOMER_ID, history.customers, customers
        ),
        hit_table.QUESTION: pa.array([question] * len(customers), pa.string()),
        hit_table.HISTORY: pa.array(known, pa.int32()),
    }


def _judge(plan: Plan, relevant: _Relevant, ranking: Ranking) -> dict[str, pa.Array]:
    """Compare the eligible customers' rankings with what they bought; returns their columns."""
    history, count = plan.history, relevant.count
    shown, sources = ranking.items[relevant.eligible], ranking.sources[relevant.eligible, :K]
    hits, gains = _hits(shown, relevant, history.items)
    revenue = np.bincount(relevant.row, relevant.revenue, len(count)).astype(np.float64)
    metrics = (
        per_customer(hits, count, KS)
        | per_customer_revenue(gains, _dearest(relevant), revenue, KS)
        | _describe(plan, shown[:, :K])
    )
    ids = partial(ids_at, history.tables, "items", c.ITEM_ID, history.items)
    known = relevant.item < history.items
    places = np.flatnonzero(hits) % hits.shape[1] + 1
    columns = {
        hit_table.RELEVANT: pa.array(count, pa.int32()),
        hit_table.BOUGHT: _list_array(
            np.bincount(relevant.row[known], minlength=len(count)),
            ids(relevant.item[known]),
        ),
        hit_table.RECOMMENDED: _list_array((shown >= 0).sum(axis=1), ids(shown[shown >= 0])),
        hit_table.HITS: _list_array(hits.sum(axis=1), pa.array(places, pa.int32())),
    }
    for number, name in enumerate(SOURCES[NONE + 1 :], start=NONE + 1):
        filled = pa.array((sources == number).sum(axis=1), pa.int32())
        columns[hit_table.SOURCE_PREFIX + name] = filled
    return columns | {name: pa.array(values) for name, values in metrics.items()}


def _hits(
    shown: NDArray[np.int64], relevant: _Relevant, items: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which places were bought, and what for; [n, places] each."""
    width = max(int(relevant.item.max(initial=-1)) + 1, items)
    cells = np.arange(len(shown))[:, None] * width + shown
    # -1 (no recommendation) must be no customer's item.
    hits, place = find(relevant.row * width + relevant.item, np.where(shown >= 0, cells, -1))
    gains = np.zeros(shown.shape)
    gains[hits] = relevant.revenue[place[hits]]
    return hits, gains


def _dearest(relevant: _Relevant) -> NDArray[np.float64]:
    """Return what each customer's relevant items were bought for, the dearest first, [n, 20]."""
    order = np.lexsort((-relevant.revenue, relevant.row))
    row = relevant.row[order]
    place = np.arange(len(row)) - np.repeat(
        np.cumsum(relevant.count) - relevant.count, relevant.count
    )
    ideal = np.zeros((len(relevant.count), max(KS)))
    inside = place < max(KS)
    ideal[row[inside], place[inside]] = relevant.revenue[order][inside]
    return ideal


def _describe(plan: Plan, shown: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Describe lists of 10 by what the catalogue says of their items."""
    popularity = np.asarray(arrays.read(place_of(plan.terms), POPULARITY), dtype=np.float64)
    found = {
        f"novelty_at_{K}": beyond_accuracy.novelty(
            shown, beyond_accuracy.self_information(popularity)
        ),
        f"popular_share_at_{K}": beyond_accuracy.popular_share(
            shown, beyond_accuracy.popular_items(popularity)
        ),
    }
    category, names = read_categories(plan.history)
    if names:
        found[f"diversity_at_{K}"] = beyond_accuracy.diversity(shown, category)
    return found


def _list_array(lengths: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """Put values, one list after another, into lists."""
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
