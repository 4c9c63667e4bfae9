"""The one path that turns a fitted recommender and customers into ranked items.

Evaluation and batch scoring both come through here, so what was evaluated is what ships:
personal scores, trend prior, own purchases, seen items, ties by item id, and popularity where
the recommender has nothing more to say.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.dataset import History
from recsys.errors import UsageError
from recsys.kernels.blocks import Block
from recsys.kernels.topk import top_k
from recsys.models import ALGORITHMS, arrays
from recsys.models.base import Floats, Hyperparameters, Ints, Scorer, decay
from recsys.models.trend import blended, scaled, trend_counts
from recsys.strategy import Seen

NONE, MODEL, FOLD_IN, POPULARITY = range(4)
SOURCES = ("none", "model", "fold_in", "popularity")
SCORES_A_CHUNK = 16_000_000
TREND, SEGMENTS = "trend", "segments"


@dataclass(frozen=True)
class Plan:
    """All that a task needs to rank customers; small, because it travels with every task.

    Attributes:
        algorithm: name of the recommender.
        parameters: its hyperparameters, as JSON.
        model: folder of the fitted arrays.
        known_customers: customers that the fit knew.
        terms: folder with the trend at `history.before`.
        history: what is known of the customers.
        fit_rows: file of int64 [customers], each customer's row in the fit (known_customers for
            one that it did not know); None where the history is the fit's own.
    """

    algorithm: str
    parameters: str
    model: str
    known_customers: int
    terms: str
    history: History
    fit_rows: str | None = None


@dataclass(frozen=True)
class Ranking:
    """Ranked items of some customers.

    Attributes:
        items: int64 [n, k], best first, -1 where there are fewer.
        scores: float32 [n, k].
        sources: int8 [n, k], an index into SOURCES.
    """

    items: Ints
    scores: Floats
    sources: NDArray[np.int8]


def plan_scoring(
    spark: SparkSession,
    algorithm: str,
    parameters: Hyperparameters,
    model: Path,
    known_customers: int,
    history: History,
    terms: Path,
    fit_rows: Path | None = None,
) -> Plan:
    """Compute the trend at the history's cut and put together what tasks need.

    Args:
        spark: the session.
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        model: folder of the fitted arrays.
        known_customers: customers that the fit knew.
        history: what is known of the customers.
        terms: folder to write the trend to.
        fit_rows: see `Plan`.
    """
    terms.mkdir(parents=True, exist_ok=True)
    segments = None
    if parameters.segment_column:
        segments = read_segments(history, parameters.segment_column)
        arrays.write(terms, SEGMENTS, segments + 1)
    counts = trend_counts(spark, history, parameters.trend_days, segments)
    arrays.write(terms, TREND, scaled(blended(counts)))
    return Plan(
        algorithm,
        parameters.model_dump_json(),
        str(model),
        known_customers,
        str(terms),
        history,
        str(fit_rows) if fit_rows else None,
    )


class Ranker:
    """Ranks customers with a fitted recommender."""

    def __init__(
        self,
        scorer: Scorer,
        parameters: Hyperparameters,
        trends: Floats,
        item_ids: NDArray[np.str_],
        known_customers: int,
    ) -> None:
        """Keep what ranking needs.

        Args:
            scorer: the fitted recommender.
            parameters: its hyperparameters.
            trends: float32 [1 + segments, items], scaled; row 0 over all customers.
            item_ids: [items].
            known_customers: customers that the fit knew.
        """
        self.scorer, self.parameters, self.trends = scorer, parameters, trends
        self.known_customers = known_customers
        # Never 0, because a silent recommender's -inf times 0 would be no number.
        prior = trends ** np.float32(parameters.trend_power)
        self.priors = np.maximum(prior, np.finfo(np.float32).tiny)
        self.tie_order = np.empty(len(item_ids), dtype=np.int64)
        self.tie_order[np.argsort(item_ids)] = np.arange(len(item_ids))

    def rank(
        self,
        rows: Ints,
        weights: sp.csr_matrix,
        purchases: sp.csr_matrix,
        k: int,
        policies: tuple[Seen, ...],
        segments: Ints | None = None,
    ) -> list[Ranking]:
        """Rank all items for some customers, once for each policy on items that they bought.

        Args:
            rows: [n] the customers' rows in the fit's history.
            weights: CSR [n, items], the history as the fit weighs it.
            purchases: CSR [n, items], own time-decayed purchases.
            k: items a customer.
            policies: what to do with items that the customer has bought.
            segments: [n] the row of `trends` that each customer follows; None for row 0.

        Returns:
            One ranking a policy.
        """
        trend = np.zeros(len(rows), dtype=np.int64) if segments is None else segments
        base = self.scorer.personal(rows, weights)
        base *= self.priors[0] if segments is None else self.priors[trend]
        return [self._top(rows, base, purchases, trend, k, policy) for policy in policies]

    def _top(
        self, rows: Ints, base: Floats, purchases: sp.csr_matrix, trend: Ints, k: int, policy: Seen
    ) -> Ranking:
        """Apply one policy and fill up with popularity where the recommender is silent."""
        scores = base.copy()
        row = np.repeat(np.arange(len(rows)), np.diff(purchases.indptr))
        own = (row, purchases.indices)
        allowed = np.ones(scores.shape, dtype=bool) if policy == "exclude" else None
        if allowed is not None:
            scores[own] = -np.inf
            allowed[own] = False
        elif self.parameters.own_weight:
            silent = np.isneginf(scores[own])
            scores[own] = np.where(silent, 0, scores[own])
            scores[own] += np.float32(self.parameters.own_weight) * purchases.data
        items, values = top_k(scores, k, self.tie_order)
        source = np.where(rows < self.known_customers, MODEL, FOLD_IN)[:, None]
        sources = np.where(items >= 0, source, NONE).astype(np.int8)
        short = np.flatnonzero(items[:, -1] < 0)
        if len(short):
            filler = np.array(self.trends[trend[short]])
            if allowed is not None:
                filler[~allowed[short]] = -np.inf
            given_row, given_place = np.nonzero(items[short] >= 0)
            filler[given_row, items[short][given_row, given_place]] = -np.inf
            more, more_values = top_k(filler, k, self.tie_order)
            _append(items, values, sources, short, more, more_values)
        return Ranking(items, values, sources)


def _append(
    items: Ints,
    values: Floats,
    sources: NDArray[np.int8],
    short: Ints,
    more: Ints,
    more_values: Floats,
) -> None:
    """Put further items behind those that the short rows already have."""
    k = items.shape[1]
    have = (items[short] >= 0).sum(axis=1)
    place = have[:, None] + np.arange(k)
    row, column = np.nonzero((place < k) & (more >= 0))
    target = (short[row], place[row, column])
    items[target] = more[row, column]
    values[target] = more_values[row, column]
    sources[target] = POPULARITY


@lru_cache(maxsize=4)
def open_ranker(plan: Plan) -> Ranker:
    """Open a plan once a worker process; its tasks share the mapped files."""
    recommender = ALGORITHMS[plan.algorithm]
    parameters = recommender.parameters_class.model_validate_json(plan.parameters)
    return Ranker(
        recommender(parameters).open(arrays.read_all(Path(plan.model))),
        parameters,
        np.asarray(arrays.read(Path(plan.terms), TREND)),
        read_ids(plan.history.tables, "items", c.ITEM_ID, plan.history.items),
        plan.known_customers,
    )


def rank_block(
    plan: Plan, block: Block, wanted: NDArray[np.bool_], k: int, policies: tuple[Seen, ...]
) -> Iterator[tuple[Ints, list[Ranking]]]:
    """Rank the wanted customers of a block, as many at once as fit in memory.

    Args:
        plan: the recommender and the history.
        block: history of consecutive customers, nothing after the cut.
        wanted: bool [block's rows].
        k: items a customer.
        policies: see `Ranker.rank`.

    Yields:
        The customers' rows within the block, and one ranking a policy.
    """
    ranker, history = open_ranker(plan), plan.history
    parameters = ranker.parameters
    weights = parameters.matrix(block, history.before, history.items)
    decayed = decay(block.days, history.before, parameters.repeat_half_life_days)
    purchases = block.matrix(decayed, history.items)
    segments = arrays.read(Path(plan.terms), SEGMENTS) if parameters.segment_column else None
    fit_rows = np.load(plan.fit_rows, mmap_mode="r") if plan.fit_rows else None
    chosen = np.flatnonzero(wanted)
    size = max(1, SCORES_A_CHUNK // max(1, history.items))
    for first in range(0, len(chosen), size):
        local = chosen[first : first + size]
        rows = local + block.start
        fitted = rows if fit_rows is None else np.asarray(fit_rows[rows])
        segment = None if segments is None else np.asarray(segments[rows])
        yield local, ranker.rank(fitted, weights[local], purchases[local], k, policies, segment)


def read_ids(tables: str, table: str, column: str, count: int) -> NDArray[np.str_]:
    """Read the first `count` ids of a table, in index order; once a process while it stays.

    Returns:
        str [count].
    """
    folder = Path(tables) / table
    return _read_ids(folder, column, count, folder.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read_ids(folder: Path, column: str, count: int, written: int) -> NDArray[np.str_]:
    """Read ids; `written` tells a table from another that took its place."""
    ids = pq.read_table(folder, columns=[column])[column].slice(0, count)
    result: NDArray[np.str_] = np.array(ids.to_pylist(), dtype=object).astype(str)
    return result


def read_segments(history: History, column: str) -> NDArray[np.int32]:
    """Turn a column of the customers table into numbers, in the order of its values.

    Returns:
        int32 [customers]; -1 where a customer has no value.

    Raises:
        UsageError: the customers table has no such column.
    """
    table = pq.read_table(Path(history.tables) / "customers").slice(0, history.customers)
    known = [n for n in table.column_names if n not in (c.CUSTOMER, c.CUSTOMER_ID, c.WINDOW)]
    if column not in known:
        raise UsageError(
            f"segment={column}: the customers table has no such column "
            f"(it has {', '.join(known) or 'none'})."
        )
    values = table[column].to_pylist()
    number = {value: i for i, value in enumerate(sorted({v for v in values if v is not None}))}
    return np.array([number.get(value, -1) for value in values], dtype=np.int32)


def check_k(k: int, items: int) -> None:
    """Raise UsageError where a customer cannot be given k distinct items."""
    if k < 1:
        raise UsageError(f"k={k} is too few: ask for at least 1.")
    if k > items:
        raise UsageError(f"k={k} is more than the {items} items of the catalogue: lower k.")


def ids_of(ids: NDArray[np.str_], index: Ints) -> pa.Array:
    """Return the ids at an index as an Arrow array of strings."""
    return pa.array(ids[index], pa.string())
