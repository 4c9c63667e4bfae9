"""Single customers: what champion and challenger recommend to them, and what they did buy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import columns as c
from recsys import hit_table
from recsys.data.dataset import History
from recsys.hit_table import BOUGHT, HISTORY, HITS, RECOMMENDED, RELEVANT, K
from recsys.samples import bought_last, item_names
from recsys.segments import activity

LOSERS = 10
PURCHASES = 15
Row = Mapping[str, Any]
Names = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """An item in a list of a customer: its name, and whether it was bought."""

    name: str
    bought: bool


@dataclass(frozen=True)
class Purchase:
    """An item that a customer bought, and whose lists of 10 held it."""

    name: str
    champion: bool
    challenger: bool


@dataclass(frozen=True)
class Customer:
    """One customer side by side.

    Attributes:
        id: the customer's.
        activity: new, occasional, regular or heavy.
        before: distinct items bought before the cut.
        history: names of those bought last, the newest first.
        champion: what it recommends.
        challenger: what it recommends.
        values: the deciding metric of the champion's list and of the challenger's.
        purchases: what the customer bought in the window that counts, found items first.
        more: bought items beyond those, such as items that were not yet in the shop at the cut.
    """

    id: str
    activity: str
    before: int
    history: list[str]
    champion: list[Line]
    challenger: list[Line]
    values: tuple[float, float]
    purchases: list[Purchase]
    more: int


def largest_losses(champion: pa.Table, challenger: pa.Table, metric: str) -> NDArray[np.int64]:
    """Return the rows of the customers who lose most, the largest loss first; ties by customer."""
    gained = (hit_table.values(challenger, [metric]) - hit_table.values(champion, [metric]))[:, 0]
    order = np.argsort(gained, kind="stable")[:LOSERS]
    return np.asarray(order[gained[order] < 0])


def side_by_side(
    champion: pa.Table,
    challenger: pa.Table,
    metric: str,
    history: History,
    picked: NDArray[np.int64],
) -> list[Customer]:
    """Describe some customers.

    Args:
        champion: rows of one question, ordered by customer.
        challenger: the same customers' rows.
        metric: whose values are told.
        history: what is known at the cut.
        picked: rows to describe.
    """
    labels = activity(champion[HISTORY].to_numpy())[picked]
    left, right = (rows.take(picked).to_pylist() for rows in (champion, challenger))
    last = bought_last(history, [row[c.CUSTOMER_ID] for row in left])
    names = item_names(history.tables)
    return [
        _customer(*found, metric, names) for found in zip(labels, left, right, last, strict=True)
    ]


def _customer(
    label: str, champion: Row, challenger: Row, last: list[str], metric: str, names: Names
) -> Customer:
    purchases = _purchases(champion, challenger, names)
    return Customer(
        id=champion[c.CUSTOMER_ID],
        activity=str(label),
        before=champion[HISTORY],
        history=[names.get(item, item) for item in last],
        champion=_lines(champion, names),
        challenger=_lines(challenger, names),
        values=(champion[metric], challenger[metric]),
        purchases=purchases[:PURCHASES],
        more=champion[RELEVANT] - min(len(purchases), PURCHASES),
    )


def _lines(row: Row, names: Names) -> list[Line]:
    return [
        Line(names.get(item, item), place in row[HITS])
        for place, item in enumerate(row[RECOMMENDED][:K], start=1)
    ]


def _purchases(champion: Row, challenger: Row, names: Names) -> list[Purchase]:
    """Return what was bought, items that a list held first."""
    lists = [set(row[RECOMMENDED][:K]) for row in (champion, challenger)]
    found = [
        Purchase(names.get(item, item), item in lists[0], item in lists[1])
        for item in champion[BOUGHT]
    ]
    return sorted(found, key=lambda p: -(p.champion + p.challenger))
