"""Judge a fitted recommender on a window: one table with a row a customer, then means.

Two questions are asked of every recommender:

discover    what will the customer buy that they have not bought before? Bought items are excluded
            from the list and from what counts as relevant.
replenish   what will the customer buy? Bought items may be recommended.

A customer is eligible where the history knows them and they bought something relevant in the
window. Items that the history does not know count as relevant, though nothing can find them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.dataset import Fold
from recsys.errors import DataError
from recsys.kernels.blocks import Block
from recsys.metrics import beyond_accuracy
from recsys.metrics.intervals import Interval, mean_intervals
from recsys.metrics.ranking import per_customer
from recsys.scoring import MODEL, Plan, Ranking, check_k, ids_of, rank_block, read_ids
from recsys.session import run_tasks
from recsys.strategy import Seen

KS = (5, 10, 20)
QUESTIONS: dict[str, Seen] = {"discover": "exclude", "replenish": "allow"}
INTERVAL_SEED = 20


@dataclass(frozen=True)
class Evaluation:
    """How a recommender did on one window.

    Attributes:
        window: `validation` or `test`.
        table: folder of Parquet parts: customer_id, question, history (purchases before), relevant,
            recommended (item ids), hits (their places from 1), sources, and a column a metric.
        means: question → metric → mean with interval.
        totals: question → metric of the whole set of lists, such as coverage.
        recommended: question → how often each item was recommended at 10, int [items].
        popularity: [items] purchases before the cut.
    """

    window: str
    table: Path
    means: dict[str, dict[str, Interval]]
    totals: dict[str, dict[str, float]]
    recommended: dict[str, NDArray[np.int64]]
    popularity: NDArray[np.float64]

    def metrics(self) -> dict[str, float]:
        """Return all metrics under the names that runs carry.

        `test/ndcg_at_10` is for discover, `test/replenish/ndcg_at_10` for replenish; the ends of
        a mean's interval have `_low` and `_high` behind its name.
        """
        named = {}
        for question in QUESTIONS:
            prefix = metric_prefix(self.window, question)
            for name, interval in self.means[question].items():
                named[prefix + name] = interval.mean
                named[prefix + name + "_low"] = interval.low
                named[prefix + name + "_high"] = interval.high
            named |= {prefix + name: value for name, value in self.totals[question].items()}
        return named


def metric_prefix(window: str, question: str) -> str:
    """Return what stands before a metric's name; discover is the question asked by default."""
    return f"{window}/" if question == "discover" else f"{window}/{question}/"


def evaluate(spark: SparkSession, plan: Plan, fold: Fold, table: Path) -> Evaluation:
    """Rank all items for every eligible customer and compare with what they bought.

    Args:
        spark: the session.
        plan: a recommender fitted on the fold's history.
        fold: history and truth.
        table: folder to write the table of customers to.

    Raises:
        DataError: no customer is eligible.
    """
    check_k(max(KS), plan.history.items)
    table.mkdir(parents=True, exist_ok=True)

    def task(number: int) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
        return _evaluate_block(plan, fold, number, table)

    done = run_tasks(spark, task, fold.truth.covering(fold.history.customers))
    recommended = {
        question: np.sum([counts[question] for counts, _ in done], axis=0) for question in QUESTIONS
    }
    popularity = np.sum([bought for _, bought in done], axis=0).astype(np.float64)
    customers = pq.read_table(table) if any(table.iterdir()) else None
    means, totals = {}, {}
    for question in QUESTIONS:
        rows = customers and customers.filter(pc.equal(customers["question"], question))
        if not rows:
            raise DataError(
                f"No customer of the {fold.name} window has anything to {question}: "
                "prepare a dataset with a longer window."
            )
        names = [n for n in rows.column_names if "_at_" in n]
        values = np.column_stack([rows[name].to_numpy() for name in names])
        intervals = mean_intervals(values, INTERVAL_SEED)
        means[question] = dict(zip(names, intervals, strict=True))
        totals[question] = _totals(recommended[question], popularity) | {"customers": len(rows)}
    return Evaluation(fold.name, table, means, totals, recommended, popularity)


def _totals(recommended: NDArray[np.int64], popularity: NDArray[np.float64]) -> dict[str, float]:
    """Describe the lists of 10 as a whole."""
    return {
        "coverage_at_10": beyond_accuracy.coverage(recommended),
        "novelty_at_10": beyond_accuracy.novelty(recommended, popularity),
        "gini_at_10": beyond_accuracy.gini(recommended),
        "popular_share_at_10": beyond_accuracy.popular_share(recommended, popularity),
    }


def _evaluate_block(
    plan: Plan, fold: Fold, number: int, table: Path
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Evaluate the customers of one block and write their rows.

    Returns:
        How often each item was recommended (a question each) and bought before.
    """
    history = plan.history
    block = history.customer_blocks.read(number).take(history.customers).before(history.before)
    truth = fold.truth.read(number).take(history.customers)
    counts = {question: np.zeros(history.items, dtype=np.int64) for question in QUESTIONS}
    tables = []
    policies = tuple(QUESTIONS.values())
    for local, rankings in rank_block(plan, block, np.diff(truth.indptr) > 0, max(KS), policies):
        for question, ranking in zip(QUESTIONS, rankings, strict=True):
            judged, shown = _judge(plan, block, truth, local, question, ranking)
            tables.append(judged)
            counts[question] += np.bincount(shown[shown >= 0], minlength=history.items)
    if tables:
        pq.write_table(pa.concat_tables(tables), table / f"part-{number:05d}.parquet")
    return counts, np.bincount(block.columns, minlength=history.items).astype(np.int64)


def _judge(
    plan: Plan,
    block: Block,
    truth: Block,
    local: NDArray[np.int64],
    question: str,
    ranking: Ranking,
) -> tuple[pa.Table, NDArray[np.int64]]:
    """Compare one chunk's rankings with what was bought.

    Returns:
        The rows of the eligible customers, and the items recommended to them at 10.
    """
    history = plan.history
    width = int(max(truth.columns.max(initial=-1), history.items - 1)) + 1
    ones = np.ones(len(truth.columns), dtype=np.float32)
    bought = truth.matrix(ones, width)[local]
    bought.data[:] = 1
    before = block.matrix(np.ones(len(block.columns), dtype=np.float32), width)[local]
    if QUESTIONS[question] == "exclude":
        known = before.copy()
        known.data[:] = 1
        bought = bought - bought.multiply(known)
        bought.eliminate_zeros()
        bought = bought.tocsr()
    relevant = np.diff(bought.indptr).astype(np.int64)
    row = np.repeat(np.arange(len(local)), relevant)
    # A cell's number tells customer and item at once; -1 (no recommendation) is in no cell.
    cells = row.astype(np.int64) * width + bought.indices
    asked = np.where(ranking.items >= 0, np.arange(len(local))[:, None] * width + ranking.items, -1)
    eligible = relevant > 0
    hits = np.isin(asked, cells)[eligible]
    shown = ranking.items[eligible]
    customers = read_ids(history.tables, "customers", c.CUSTOMER_ID, history.customers)
    items = read_ids(history.tables, "items", c.ITEM_ID, history.items)
    given = (shown >= 0).sum(axis=1)
    offsets = pa.array(np.concatenate(([0], np.cumsum(given))), pa.int32())
    places = np.flatnonzero(hits) % hits.shape[1] + 1
    hit_offsets = pa.array(np.concatenate(([0], np.cumsum(hits.sum(axis=1)))), pa.int32())
    from_model = (ranking.sources[eligible] == MODEL).sum(axis=1)
    columns = {
        c.CUSTOMER_ID: ids_of(customers, block.start + local[eligible]),
        "question": pa.array([question] * int(eligible.sum()), pa.string()),
        "history": pa.array(np.diff(before.indptr)[eligible], pa.int32()),
        "relevant": pa.array(relevant[eligible], pa.int32()),
        "from_model": pa.array(from_model, pa.int32()),
        "recommended": pa.ListArray.from_arrays(offsets, ids_of(items, shown[shown >= 0])),
        "hits": pa.ListArray.from_arrays(hit_offsets, pa.array(places, pa.int32())),
    }
    metrics = per_customer(hits, relevant[eligible], KS)
    return pa.table(columns | {n: pa.array(v) for n, v in metrics.items()}), shown[:, :10]
