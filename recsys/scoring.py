"""The one path that turns a fitted recommender and customers into ranked items.

Evaluation and batch scoring both come through here, so what was evaluated is what ships;
`recsys.ranker` says how scores become lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys import columns as c
from recsys.campaign import Campaign, may_repeat
from recsys.data.dataset import History
from recsys.errors import UsageError
from recsys.kernels.blocks import Block
from recsys.models import ALGORITHMS, arrays
from recsys.models.base import Hyperparameters, Ints, decay
from recsys.models.trend import blended, scaled, trend_counts
from recsys.ranker import Customers, Mask, Policy, Ranker, Ranking, Rules
from recsys.session import Pool
from recsys.storage import Place, fetched, make_folder, place_of, read_parquet

SCORES_A_CHUNK = 16_000_000
TREND, SEGMENTS = "trend", "segments"
FALLBACK, FALLBACK_SEGMENTS = "fallback", "fallback_segments"


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
        fit_before: day of the fit's cut: who bought on it or later is folded in; None where the
            history is the fit's own.
        campaign: the rules that lists are made by; None for every item and any number.
        segmented: the terms hold popularity by the campaign's segment, too.
    """

    algorithm: str
    parameters: str
    model: str
    known_customers: int
    terms: str
    history: History
    fit_rows: str | None = None
    fit_before: int | None = None
    campaign: Campaign | None = None
    segmented: bool = False


@dataclass(frozen=True)
class Chunk:
    """Customers of one block who are ranked at once.

    Attributes:
        local: int64 [n], their rows within the block.
        customers: what is known of them.
        again: which of their purchases the campaign may give again; None without a campaign.
    """

    local: Ints
    customers: Customers
    again: Mask | None

    def policies(self, *others: Policy) -> tuple[Policy, ...]:
        """Return the other policies on bought items and, behind them, the campaign's."""
        return others if self.again is None else (*others, self.again)


def plan_scoring(
    pool: Pool,
    algorithm: str,
    parameters: Hyperparameters,
    model: Place,
    known_customers: int,
    history: History,
    terms: Place,
    fit_rows: Place | None = None,
    fit_before: int | None = None,
) -> Plan:
    """Compute the trend at the history's cut and put together what tasks need.

    Args:
        pool: where the tasks run.
        algorithm: name of the recommender.
        parameters: its hyperparameters.
        model: folder of the fitted arrays.
        known_customers: customers that the fit knew.
        history: what is known of the customers.
        terms: folder to write the trend to.
        fit_rows: see `Plan`.
        fit_before: see `Plan`.
    """
    make_folder(terms)
    segments = None
    if parameters.segment_column:
        segments = read_segments(history, parameters.segment_column)
        arrays.write(terms, SEGMENTS, segments + 1)
    counts = trend_counts(pool, history, parameters.trend_days, segments)
    arrays.write(terms, TREND, scaled(blended(counts)))
    return Plan(
        algorithm,
        parameters.model_dump_json(),
        str(model),
        known_customers,
        str(terms),
        history,
        str(fit_rows) if fit_rows else None,
        fit_before,
    )


def add_fallback(pool: Pool, plan: Plan, column: str) -> Plan:
    """Count popularity by a column of the customers table, for short lists to be filled from.

    Raises:
        UsageError: the customers table has no such column.
    """
    segments, terms = read_segments(plan.history, column), place_of(plan.terms)
    days = _parameters(plan).trend_days
    counts = trend_counts(pool, plan.history, days, segments)
    arrays.write(terms, FALLBACK, scaled(blended(counts)))
    arrays.write(terms, FALLBACK_SEGMENTS, segments + 1)
    return replace(plan, segmented=True)


@lru_cache(maxsize=4)
def open_ranker(plan: Plan) -> Ranker:
    """Open a plan once a worker process; its tasks share the mapped files."""
    parameters, terms = _parameters(plan), place_of(plan.terms)
    return Ranker(
        ALGORITHMS[plan.algorithm](parameters).open(arrays.read_all(place_of(plan.model))),
        parameters,
        np.asarray(arrays.read(terms, TREND)),
        read_ids(plan.history.tables, "items", c.ITEM_ID, plan.history.items),
        plan.known_customers,
        plan.campaign.rules if plan.campaign else Rules(),
        np.asarray(arrays.read(terms, FALLBACK)) if plan.segmented else None,
    )


def _parameters(plan: Plan) -> Hyperparameters:
    return ALGORITHMS[plan.algorithm].parameters_class.model_validate_json(plan.parameters)


def rank_block(
    plan: Plan, block: Block, wanted: NDArray[np.bool_], k: int, policies: tuple[Policy, ...]
) -> Iterator[tuple[Ints, list[Ranking]]]:
    """Rank the wanted customers of a block, as many at once as fit in memory.

    Args:
        plan: the recommender and the history.
        block: history of consecutive customers, nothing after the cut.
        wanted: bool [block's rows].
        k: items a customer.
        policies: see `Ranker.rank`.

    Yields:
        The customers' rows within the block, and one ranking a policy; where the plan has a
        campaign, one more by its rule on bought items.
    """
    for chunk in chunks(plan, block, wanted):
        yield chunk.local, open_ranker(plan).rank(chunk.customers, k, chunk.policies(*policies))


def chunks(
    plan: Plan, block: Block, wanted: NDArray[np.bool_], given: Block | None = None
) -> Iterator[Chunk]:
    """Cut the wanted customers of a block into chunks that fit in memory.

    Args:
        plan: see `rank_block`.
        block: see `rank_block`.
        wanted: see `rank_block`.
        given: items that these customers shall not get (`Campaign.given_lately`); None for none.
    """
    ranker, history, terms = open_ranker(plan), plan.history, place_of(plan.terms)
    parameters = ranker.parameters
    weights = parameters.matrix(block, history.before, history.items)
    decayed = decay(block.days, history.before, parameters.repeat_half_life_days)
    purchases = block.matrix(decayed, history.items)
    trend = _mapped(terms, SEGMENTS, parameters.segment_column is not None)
    fallback = _mapped(terms, FALLBACK_SEGMENTS, plan.segmented)
    barred = None
    if given is not None:
        barred = given.matrix(np.ones(len(given.columns)), history.items)[: block.rows]
    again = None
    if plan.campaign is not None:
        allowed = may_repeat(block, plan.campaign, history.before, history.items)
        again = sp.csr_matrix((allowed, purchases.indices, purchases.indptr), purchases.shape)
    fitted = _fit_rows(plan, block)
    chosen = np.flatnonzero(wanted)
    size = max(1, SCORES_A_CHUNK // max(1, ranker.scores_a_customer))
    for first in range(0, len(chosen), size):
        local = chosen[first : first + size]
        rows = local + block.start
        customers = Customers(
            fitted[local],
            weights[local],
            purchases[local],
            None if trend is None else np.asarray(trend[rows]),
            None if fallback is None else np.asarray(fallback[rows]),
            None if barred is None else barred[local],
        )
        yield Chunk(local, customers, None if again is None else again[local].data)


def _mapped(terms: Place, name: str, wanted: bool) -> NDArray[np.int32] | None:
    return arrays.read(terms, name) if wanted else None


def _fit_rows(plan: Plan, block: Block) -> Ints:
    """Return each of the block's customers' row in the fit, known_customers for who is folded in.

    Who bought since the fit is known better by their purchases than by their old factors.
    """
    rows = np.arange(block.start, block.start + block.rows)
    if plan.fit_rows is not None:
        rows = np.array(_fit_rows_of(plan.fit_rows)[block.start : rows[-1] + 1])
    if plan.fit_before is not None:
        row = np.repeat(np.arange(block.rows), np.diff(block.indptr))
        rows[row[block.days >= plan.fit_before]] = plan.known_customers
    return rows


def _fit_rows_of(file: str) -> Ints:
    rows: Ints = np.load(fetched(place_of(file)), mmap_mode="r", allow_pickle=False)
    return rows


def read_ids(tables: str, table: str, column: str, count: int) -> NDArray[np.str_]:
    """Read the first `count` ids of a table, in index order; once a process while it stays.

    Returns:
        str [count].
    """
    folder = fetched(place_of(tables) / table)
    return _ids(folder, column, count, folder.stat().st_mtime_ns)[0]


def ids_at(tables: str, table: str, column: str, count: int, index: Ints) -> pa.Array:
    """Return the ids at some indices as an Arrow array; other arguments as in `read_ids`."""
    return all_ids(tables, table, column, count).take(pa.array(index))


def all_ids(tables: str, table: str, column: str, count: int) -> pa.StringArray:
    """Return the first `count` ids as an Arrow array; see `read_ids`."""
    folder = fetched(place_of(tables) / table)
    return _ids(folder, column, count, folder.stat().st_mtime_ns)[1]


@lru_cache(maxsize=8)
def _ids(
    folder: Place, column: str, count: int, written: int
) -> tuple[NDArray[np.str_], pa.StringArray]:
    """Read ids for NumPy and for Arrow; `written` tells a table from one that took its place."""
    ids = read_parquet(folder, columns=[column])[column].slice(0, count).combine_chunks()
    return np.array(ids.to_pylist(), dtype=object).astype(str), ids.cast(pa.string())


def read_segments(history: History, column: str) -> NDArray[np.int32]:
    """Turn a column of the customers table into numbers, in the order of its values.

    Returns:
        int32 [customers]; -1 where a customer has no value.

    Raises:
        UsageError: the customers table has no such column.
    """
    table = read_parquet(place_of(history.tables) / "customers").slice(0, history.customers)
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
