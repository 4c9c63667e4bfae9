"""Which items get the shelf: recommendations and purchases by how popular the items are."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.data.dataset import History
from recsys.hit_table import BOUGHT, RECOMMENDED, K
from recsys.models.trend import block_counts
from recsys.scoring import ids_at

PARTS = 10
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Reach:
    """How far one recommender's lists of 10 reach into the catalogue.

    Attributes:
        items: that anybody is recommended.
        half: the fewest items that get half of all recommendations.
    """

    items: int
    half: int


@dataclass(frozen=True)
class Exposure:
    """Who gets the shelf.

    Attributes:
        catalogue: number of items.
        champion: how far its lists reach.
        challenger: how far its lists reach.
        shares: a tenth of the items each, most bought first: its share of what the customers
            bought, of the champion's and of the challenger's recommendations.
    """

    catalogue: int
    champion: Reach
    challenger: Reach
    shares: list[tuple[float, float, float]]


def exposure(champion: pa.Table, challenger: pa.Table, history: History) -> Exposure:
    """Count recommendations and purchases by the items' popularity.

    Args:
        champion: rows of one question.
        challenger: the same customers' rows.
        history: before the window; tells what is popular.
    """
    index = np.arange(history.items)
    ids = ids_at(history.tables, "items", c.ITEM_ID, history.items, index)
    bought, before, after = (
        _count(rows, name, ids)
        for rows, name in (
            (champion, BOUGHT), (champion, RECOMMENDED), (challenger, RECOMMENDED),
        )
    )  # fmt: skip
    order = np.argsort(-popularity(history), kind="stable")
    shares = [_shares(counts, order) for counts in (bought, before, after)]
    return Exposure(history.items, _reach(before), _reach(after), list(zip(*shares, strict=True)))


def popularity(history: History) -> Counts:
    """Count the events of each item before the cut, guests' too, int64 [items]."""
    numbers = history.item_blocks.covering(history.items)
    return np.concatenate([block_counts(history, number) for number in numbers])


def _count(rows: pa.Table, name: str, ids: pa.Array) -> Counts:
    """Count how often each item is in a column of lists, within the first 10 of recommendations."""
    _, place, items = hit_table.lists(rows, name)
    if name == RECOMMENDED:
        items = items.filter(pa.array(place < K))
    index = pc.index_in(items.cast(pa.string()), value_set=ids).drop_null()
    return np.bincount(index.to_numpy(zero_copy_only=False), minlength=len(ids))


def _shares(counts: Counts, order: NDArray[np.int64]) -> list[float]:
    """Return the share of each tenth of the items."""
    parts = [part for part in np.array_split(counts[order], PARTS) if len(part)]
    return [float(part.sum() / max(counts.sum(), 1)) for part in parts]


def _reach(counts: Counts) -> Reach:
    cumulated = np.cumsum(np.sort(counts)[::-1])
    half = int(np.searchsorted(cumulated, counts.sum() / 2)) + 1
    return Reach(int((counts > 0).sum()), half if counts.any() else 0)
