"""The order of a block's events: by row, column and day, whatever order their lines come in."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def order_events(
    row: Ints, column: Ints, day: Ints, amounts: list[NDArray[np.float64]]
) -> tuple[Ints, Ints]:
    """Sort lines by event; those of one event by their amounts, so that sums never vary.

    Args:
        row: [lines], at least one line; from 0.
        column: [lines], from 0.
        day: [lines].
        amounts: [lines] each, the first counts most.

    Returns:
        [lines] the order, and [events] the places in it where the next event begins.
    """
    order, key = _by_key(row, column, day)
    first = np.ones(len(order), dtype=bool)
    first[1:] = key[1:] != key[:-1]
    alike = ~first
    alike[:-1] |= ~first[1:]
    lines, event = order[alike], np.cumsum(first)[alike]
    order[alike] = lines[np.lexsort((*(values[lines] for values in reversed(amounts)), event))]
    return order, np.flatnonzero(first)


def _by_key(row: Ints, column: Ints, day: Ints) -> tuple[Ints, Ints]:
    """Return the order by row, column and day, and in that order a number for each event."""
    columns, earliest = int(column.max()) + 1, int(day.min())
    days = int(day.max()) - earliest + 1
    if (int(row.max()) + 1) * columns * days <= np.iinfo(np.int64).max:
        key = (row * columns + column) * days + (day - earliest)
        # Lines come in runs that are sorted already, which this kind of sort only has to merge.
        order = np.argsort(key, kind="stable")
        return order, key[order]
    order = np.lexsort((day, column, row))
    row, column, day = row[order], column[order], day[order]
    first = (row[1:] != row[:-1]) | (column[1:] != column[:-1]) | (day[1:] != day[:-1])
    return order, np.concatenate(([0], np.cumsum(first)))
