"""One task of a batch run: rank a block of customers, write their rows and what was counted.

A task leaves a record behind its files. A run that was killed goes on with the blocks that have
none; two runs of the same slot leave the same rows, and whoever commits first decides.
"""

import json
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from io import BytesIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from obstore.store import ObjectStore

from recsys import columns as c
from recsys import schemas
from recsys.campaign import ALLOWED, AUDIENCE, Campaign
from recsys.hold_out import CONTROL, TREATMENT, held_out
from recsys.kernels.entries import cells_of, find
from recsys.published import AUDIENCE as AUDIENCE_TABLE
from recsys.published import RECOMMENDATIONS, Part, write_part
from recsys.ranker import FOLD_IN, MODEL, SOURCES, Ranking
from recsys.scoring import Chunk, Plan, all_ids, chunks, ids_at, open_ranker
from recsys.storage import put, read_bytes, store_of
from recsys.strategy import Strategy

TOO_FEW_ITEMS = "no further item that the rules allow"
LADDER_ENDS = "no further item without popularity, which the ladder lacks"


@dataclass(frozen=True)
class Batch:
    """What every row of a batch run carries, and where the rows go.

    Attributes:
        plan: the recommender, the customers and the campaign.
        output: the published folder.
        run: the run's folder in it.
        strategy: what may be recommended.
        model_name: of the release.
        model_version: of the release.
        scored_at: one instant for the whole run.
    """

    plan: Plan
    output: str
    run: str
    strategy: Strategy
    model_name: str
    model_version: int
    scored_at: datetime

    @property
    def campaign(self) -> Campaign:
        """The campaign that the plan scores by."""
        if self.plan.campaign is None:
            raise ValueError("a batch run needs a campaign")
        return self.plan.campaign


@dataclass(frozen=True)
class BlockScored:
    """What one task wrote and counted.

    Attributes:
        parts: its files, one a table that has rows.
        counts: customers, control, short, rows, personal (rows scored by the model), duplicates
            (items that a customer was given twice), compared (customers who were given something
            in the last run, too) and same (items given in both).
        sources: rows by source.
        shortfalls: customers with fewer than k items, by reason.
        scores: sum of the personal rows' scores, and of their squares.
        resumed: the block was done before this run began.
    """

    parts: tuple[Part, ...]
    counts: dict[str, int]
    sources: dict[str, int]
    shortfalls: dict[str, int]
    scores: tuple[float, float]
    resumed: bool = False


def score_block(batch: Batch, number: int) -> BlockScored:
    """Rank the customers of one block and write their recommendations and audience rows."""
    store = store_of(batch.output)
    done = _done(store, batch, number)
    if done is not None:
        return done
    plan, campaign = batch.plan, batch.campaign
    history = plan.history
    block = history.customer_blocks.read(number).take(history.customers)
    customers = np.arange(block.start, block.start + block.rows)
    meant = np.asarray(campaign.read(AUDIENCE)[customers], dtype=bool)
    control = np.zeros(block.rows, dtype=bool)
    control[meant] = held_out(batch.strategy.hold_out, _customer_ids(batch, customers[meant]))
    given = np.zeros(block.rows, dtype=np.int32)
    tally = _Tally(np.zeros(history.items, dtype=np.int64))
    tables = []
    for chunk in chunks(plan, block, meant & ~control, campaign.given_lately(number)):
        ranker = open_ranker(plan)
        (ranking,) = ranker.rank(chunk.customers, batch.strategy.k, chunk.policies())
        reasons = ranker.reasons(chunk.customers, ranking, batch.strategy.because)
        given[chunk.local] = (ranking.items >= 0).sum(axis=1)
        tables.append(_recommendations(batch, block.start + chunk.local, ranking, reasons))
        tally.add(ranking)
        _compare(batch, tally, number, chunk, ranking)
    audience = _audience(batch, customers[meant], given[meant], control[meant])
    parts = _write(store, batch, number, {AUDIENCE_TABLE: audience}, tables)
    result = _described(parts, audience, tally)
    return _leave_record(store, batch, number, result, tally.items)


@dataclass
class _Tally:
    """What is counted over the chunks of a block; `items` [items] how often each was given."""

    items: NDArray[np.int64]
    sources: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(len(SOURCES), dtype=np.int64)
    )
    scores: tuple[float, float] = (0.0, 0.0)
    duplicates: int = 0
    compared: int = 0
    same: int = 0

    def add(self, ranking: Ranking) -> None:
        """Count one chunk's lists."""
        is_given = ranking.items >= 0
        self.items += np.bincount(ranking.items[is_given], minlength=len(self.items))
        self.sources += np.bincount(ranking.sources[is_given], minlength=len(SOURCES))
        personal = is_given & np.isin(ranking.sources, (MODEL, FOLD_IN))
        scores = ranking.scores[personal].astype(np.float64)
        self.scores = (
            self.scores[0] + float(scores.sum()),
            self.scores[1] + float(scores @ scores),
        )
        rising = np.sort(ranking.items, axis=1)
        self.duplicates += int(((rising[:, 1:] == rising[:, :-1]) & (rising[:, 1:] >= 0)).sum())


def _compare(batch: Batch, tally: _Tally, number: int, chunk: Chunk, ranking: Ranking) -> None:
    """Count how much of the last run's lists came again."""
    given = batch.campaign.given
    if given is None:
        return
    block, width = given.read(number).before(1), batch.plan.history.items
    last = block.matrix(np.ones(len(block.columns)), width)[chunk.local]
    tally.compared += int((np.diff(last.indptr) > 0).sum())
    row, place = np.nonzero(ranking.items >= 0)
    again, _ = find(cells_of(last), row * width + ranking.items[row, place])
    tally.same += int(again.sum())


def _write(
    store: ObjectStore,
    batch: Batch,
    number: int,
    tables: dict[str, pa.Table],
    recommended: list[pa.Table],
) -> tuple[Part, ...]:
    """Write the tables that have rows."""
    if recommended:
        tables = {RECOMMENDATIONS: pa.concat_tables(recommended), **tables}
    # A task that runs again writes other names; the manifest lists those of the one that counted.
    name = f"part-{number:05d}-{uuid.uuid4().hex[:12]}.parquet"
    return tuple(
        write_part(store, batch.run, table, name, rows)
        for table, rows in tables.items()
        if len(rows)
    )


def _described(parts: tuple[Part, ...], audience: pa.Table, tally: _Tally) -> BlockScored:
    """Put together what the driver and the audits want to know."""
    arms = Counter(audience[c.ARM].to_pylist())
    shortfalls = Counter(audience[c.SHORTFALL].drop_null().to_pylist())
    sources = {name: int(n) for name, n in zip(SOURCES, tally.sources, strict=True) if n}
    counts = {
        "customers": len(audience),
        "control": arms[CONTROL],
        "short": shortfalls.total(),
        "rows": int(tally.sources.sum()),
        "personal": int(tally.sources[[MODEL, FOLD_IN]].sum()),
        "duplicates": tally.duplicates,
        "compared": tally.compared,
        "same": tally.same,
    }
    return BlockScored(parts, counts, sources, dict(shortfalls), tally.scores)


# ------------------------------------------------------------------------------- records


def _record(batch: Batch, number: int) -> str:
    return f"{batch.run}/blocks/{number:05d}.json"


def _done(store: ObjectStore, batch: Batch, number: int) -> BlockScored | None:
    """Return what an earlier task of the same run left, None where it left nothing whole."""
    data = read_bytes(store, _record(batch, number))
    if data is None:
        return None
    values = json.loads(data)
    parts = tuple(Part(**part) for part in values.pop("parts"))
    for part in parts:
        found = read_bytes(store, f"{batch.run}/{part.path}")
        if found is None or not part.matches(found):
            return None
    return BlockScored(parts, **values | {"scores": tuple(values["scores"]), "resumed": True})


def _leave_record(
    store: ObjectStore,
    batch: Batch,
    number: int,
    result: BlockScored,
    items: NDArray[np.int64],
) -> BlockScored:
    """Write what the block holds, last of all."""
    counted = BytesIO()
    np.save(counted, items.astype(np.int32), allow_pickle=False)
    put(store, f"{batch.run}/blocks/{number:05d}.npy", counted.getvalue())
    put(store, _record(batch, number), json.dumps(asdict(result), sort_keys=True).encode())
    return result


def items_given(batch: Batch, numbers: list[int]) -> NDArray[np.int64]:
    """Add up how often each item [items] was given in the blocks."""
    store = store_of(batch.output)
    total = np.zeros(batch.plan.history.items, dtype=np.int64)
    for number in numbers:
        data = read_bytes(store, f"{batch.run}/blocks/{number:05d}.npy")
        if data is not None:
            total += np.load(BytesIO(data), allow_pickle=False)
    return total


def items_allowed(batch: Batch) -> int:
    """Count the items that the campaign may give."""
    return int(batch.campaign.read(ALLOWED).sum())


# ------------------------------------------------------------------------------- rows


def _customer_ids(batch: Batch, customers: NDArray[np.int64]) -> pa.Array:
    """Return the ids of some customers."""
    history = batch.plan.history
    return ids_at(history.tables, "customers", c.CUSTOMER_ID, history.customers, customers)


def _recommendations(
    batch: Batch,
    customers: NDArray[np.int64],
    ranking: Ranking,
    reasons: NDArray[np.int64],
) -> pa.Table:
    """Turn a ranking into rows of the recommendations table."""
    row, place = np.nonzero(ranking.items >= 0)
    count, history = len(row), batch.plan.history
    item_ids = all_ids(history.tables, "items", c.ITEM_ID, history.items)
    columns = [
        _customer_ids(batch, customers[row]),
        pa.array(place + 1, pa.int32()),
        item_ids.take(pa.array(ranking.items[row, place])),
        pa.array(ranking.scores[row, place], pa.float32()),
        pa.array(np.array(SOURCES)[ranking.sources[row, place]], pa.string()),
        _lists(reasons[row, place], item_ids),
        pa.repeat(batch.strategy.name, count),
        pa.repeat(batch.model_name, count),
        pa.repeat(pa.scalar(batch.model_version, pa.int32()), count),
        pa.repeat(pa.scalar(batch.scored_at, pa.timestamp("us", tz="UTC")), count),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.RECOMMENDATIONS)


def _lists(reasons: NDArray[np.int64], item_ids: pa.StringArray) -> pa.ListArray:
    """Turn reasons [n, count] into lists of ids, null where there is no reason."""
    named = reasons >= 0
    lengths = named.sum(axis=1)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    return pa.ListArray.from_arrays(
        offsets, item_ids.take(pa.array(reasons[named])), mask=pa.array(lengths == 0)
    )


def _audience(
    batch: Batch,
    customers: NDArray[np.int64],
    given: NDArray[np.int32],
    control: NDArray[np.bool_],
) -> pa.Table:
    """Write one row for each customer whom the strategy means."""
    reason = TOO_FEW_ITEMS if "popularity" in batch.strategy.ladder else LADDER_ENDS
    short = (given < batch.strategy.k) & ~control
    columns = [
        _customer_ids(batch, customers),
        pa.array(np.where(control, CONTROL, TREATMENT), pa.string()),
        pa.array(given, pa.int32()),
        pa.array([reason if is_short else None for is_short in short], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=schemas.AUDIENCE)
