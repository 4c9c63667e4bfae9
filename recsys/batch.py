"""One task of a batch run: rank a block of customers and write their rows."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import TaskContext

from recsys import columns as c
from recsys import schemas
from recsys.data.dataset import History
from recsys.published import Part, write_part
from recsys.ranker import SOURCES, Ranking
from recsys.scoring import Plan, ids_at, rank_block
from recsys.strategy import Strategy

TREATMENT = "treatment"
TOO_FEW_ITEMS = "too few items that the strategy allows"


@dataclass(frozen=True)
class Batch:
    """What every row of a batch run carries, and where the rows go.

    Attributes:
        plan: the recommender and the customers.
        run: the run's folder.
        strategy: what may be recommended.
        k: items a customer.
        model_name: of the release.
        model_version: of the release.
        scored_at: one instant for the whole run.
    """

    plan: Plan
    run: str
    strategy: Strategy
    k: int
    model_name: str
    model_version: int
    scored_at: datetime


@dataclass(frozen=True)
class BlockScored:
    """What one task wrote.

    Attributes:
        parts: its files, one a table.
        short: customers who got fewer than k items.
        sources: how many rows came from each source.
    """

    parts: tuple[Part, ...]
    short: int
    sources: dict[str, int]


def score_block(batch: Batch, number: int) -> BlockScored:
    """Rank the customers of one block and write their recommendations and audience rows."""
    history = batch.plan.history
    block = history.customer_blocks.read(number).take(history.customers)
    everyone = np.ones(block.rows, dtype=bool)
    recommended, audience = [], []
    for local, (ranking,) in rank_block(
        batch.plan, block, everyone, batch.k, (batch.strategy.seen,)
    ):
        customers = block.start + local
        recommended.append(_recommendations(batch, customers, ranking))
        audience.append(_audience(batch, customers, ranking))
    rows, people = pa.concat_tables(recommended), pa.concat_tables(audience)
    # A task that runs again writes other names; the manifest lists those of the one that counted.
    context = TaskContext.get()
    name = f"part-{number:05d}-{context.taskAttemptId() if context else 0}.parquet"
    run = Path(batch.run)
    parts = (
        write_part(run, "recommendations", name, rows),
        write_part(run, "audience", name, people),
    )
    counts = rows[c.SOURCE].value_counts().to_pylist()
    return BlockScored(
        parts, people[c.SHORTFALL].drop_null().length(), {n["values"]: n["counts"] for n in counts}
    )


def _ids(history: History, customers: NDArray[np.int64]) -> pa.Array:
    """Return the ids of some customers."""
    return ids_at(history.tables, "customers", c.CUSTOMER_ID, history.customers, customers)


def _recommendations(batch: Batch, customers: NDArray[np.int64], ranking: Ranking) -> pa.Table:
    """Turn a ranking into rows of the recommendations table."""
    row, place = np.nonzero(ranking.items >= 0)
    count, history = len(row), batch.plan.history
    items = ranking.items[row, place]
    columns = [
        _ids(history, customers[row]),
        pa.array(place + 1, pa.int32()),
        ids_at(history.tables, "items", c.ITEM_ID, history.items, items),
        pa.array(ranking.scores[row, place], pa.float32()),
        pa.array(np.array(SOURCES)[ranking.sources[row, place]], pa.string()),
        pa.nulls(count, pa.list_(pa.string())),
        pa.repeat(batch.strategy.name, count),
        pa.repeat(batch.model_name, count),
        pa.repeat(pa.scalar(batch.model_version, pa.int32()), count),
        pa.repeat(pa.scalar(batch.scored_at, pa.timestamp("us", tz="UTC")), count),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.RECOMMENDATIONS)


def _audience(batch: Batch, customers: NDArray[np.int64], ranking: Ranking) -> pa.Table:
    """Turn a ranking into rows of the audience table, one a customer."""
    given = (ranking.items >= 0).sum(axis=1)
    reasons = [TOO_FEW_ITEMS if short else None for short in given < batch.k]
    columns = [
        _ids(batch.plan.history, customers),
        pa.repeat(TREATMENT, len(customers)),
        pa.array(given, pa.int32()),
        pa.array(reasons, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.AUDIENCE)
