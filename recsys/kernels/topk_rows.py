"""The compiled loops of `recsys.kernels.topk`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys.kernels.compiled import exact

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@exact
def take_in(
    found: Ints,
    values: Floats,
    scores: Floats,
    items: Ints,
    tie_order: Ints,
    group: NDArray[np.int32],
    most: int,
) -> None:
    """Take further scored items into sorted lists, in place.

    An item goes in before the first that is worse. What goes out is the list's last or, where the
    item's group is full, the group's last: the worst of the circuit that the item closes.

    Args:
        found: [rows, k], -1 where a list has no item.
        values: [rows, k], -inf there.
        scores: [rows, columns]; -inf marks an item that may not be given.
        items: [columns], the items that were scored.
        tie_order: [all items].
        group: [all items], -1 for none; empty where there are no groups.
        most: items of a group.
    """
    last = found.shape[1] - 1
    for row in range(len(scores)):
        for column in range(scores.shape[1]):
            score = scores[row, column]
            # Most items end here, before anything is looked up.
            if score >= values[row, last] and score > -np.inf:
                insert(found[row], values[row], items[column], score, tie_order, group, most)


@exact
def take_in_entries(
    found: Ints,
    values: Floats,
    indptr: Ints,
    items: Ints,
    scores: Floats,
    tie_order: Ints,
    group: NDArray[np.int32],
    most: int,
) -> None:
    """Take each row's own scored items into its list, in place.

    Args:
        found: see `take_in`.
        values: see `take_in`.
        indptr: [rows + 1], where the entries of each row begin.
        items: [entries].
        scores: [entries]; -inf marks an item that may not be given.
        tie_order: see `take_in`.
        group: see `take_in`.
        most: see `take_in`.
    """
    last = found.shape[1] - 1
    for row in range(len(found)):
        for entry in range(indptr[row], indptr[row + 1]):
            score = scores[entry]
            if score >= values[row, last] and score > -np.inf:
                insert(found[row], values[row], items[entry], score, tie_order, group, most)


@exact
def insert(
    found: Ints,
    values: Floats,
    item: int,
    score: Any,
    tie_order: Ints,
    group: NDArray[np.int32],
    most: int,
) -> None:
    """Put one item into one sorted list where it is good enough; see `take_in`."""
    place = place_of(found, values, score, tie_order[item], tie_order)
    out = len(found) - 1
    if len(group) and group[item] >= 0:
        out = place_out(found, group, group[item], most)
    if place > out:
        return
    for later in range(out, place, -1):
        found[later] = found[later - 1]
        values[later] = values[later - 1]
    found[place] = item
    values[place] = score


@exact
def place_of(found: Ints, values: Floats, score: Any, tie: int, tie_order: Ints) -> int:
    """Return where a score belongs in a sorted list, its length where it belongs behind it."""
    low, high = 0, len(found)
    while low < high:
        middle = (low + high) // 2
        value = values[middle]
        before = value > score or (value == score and tie_order[found[middle]] < tie)
        if found[middle] >= 0 and before:
            low = middle + 1
        else:
            high = middle
    return low


@exact
def place_out(found: Ints, group: NDArray[np.int32], own: int, most: int) -> int:
    """Return the place that is given up for an item: the last of its group where it is full."""
    count, last = 0, 0
    for place in range(len(found)):
        if found[place] >= 0 and group[found[place]] == own:
            count, last = count + 1, place
    return last if count == most else len(found) - 1
