"""Small data for tests: a seeded retailer, and histories packed by hand without Spark."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.data.dataset import Dataset, Fold, History
from recsys.data.prepare import Split
from recsys.kernels.blocks import Blocks, block_size, pack

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_DAY = 19_723  # 2024-01-01
DAYS, WINDOW_DAYS = 100, 14
TEST_CUT = FIRST_DAY + DAYS - WINDOW_DAYS
VALIDATION_CUT = TEST_CUT - WINDOW_DAYS
CUTS = {"validation": VALIDATION_CUT, "test": TEST_CUT}
ROLLING_CUTS = {
    name: TEST_CUT - number * WINDOW_DAYS
    for number, name in ((3, "validation"), (2, "test_3"), (1, "test_2"), (0, "test"))
}
SPLIT = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS)
ROLLING = Split(test_days=WINDOW_DAYS, validation_days=WINDOW_DAYS, windows=3)
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("item_id", pa.string()),
        ("basket_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("quantity", pa.float64()),
        ("unit_price", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Line:
    """One line of a receipt; `customer` is None for a guest."""

    customer: str | None
    item: str
    day: int
    quantity: float = 1.0
    price: float = 2.5
    basket: str = ""

    @property
    def row(self) -> dict[str, object]:
        basket = self.basket or f"{self.customer}-{self.day}"
        time = EPOCH + timedelta(days=self.day, hours=self.day % 24)
        values = (self.customer, self.item, basket, time, self.quantity, self.price)
        return dict(zip(SCHEMA.names, values, strict=True))


def write_interactions(folder: Path, lines: Iterable[Line]) -> Path:
    """Write an interactions table, and return its folder."""
    folder.mkdir(parents=True)
    rows = [line.row for line in lines]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "part-0.parquet")
    return folder


def retailer(seed: int = 5) -> list[Line]:
    """Draw a small retailer: four tastes, repeat purchases, guests, late customers and items.

    Customers 45 to 52 are new in the validation window, 53 to 55 in the test window. Item 028 is
    new in the validation window, 029 in the test window.
    """
    random = np.random.default_rng(seed)
    lines = [Line("00", "000", FIRST_DAY), Line("01", "001", FIRST_DAY + DAYS - 1)]
    starts = {**dict.fromkeys(range(45), 0), **dict.fromkeys(range(45, 53), 73)}
    starts |= dict.fromkeys(range(53, 56), 88)
    for customer, start in starts.items():
        visits = random.choice(np.arange(start, DAYS), min(12, DAYS - start), replace=False)
        for visit in visits:
            liked = (customer % 4) * 7 + random.choice(7, 3, replace=False)
            items = [*liked, *random.integers(0, 28, 1)]
            items += [28] * int(visit >= 75 and customer % 3 == 0)
            items += [29] * int(visit >= 87 and customer % 2 == 0)
            for item in items:
                amount = float(random.integers(1, 6))
                day = FIRST_DAY + int(visit)
                lines.append(Line(f"{customer:02d}", f"{item:03d}", day, amount))
    for guest in range(40):
        day = FIRST_DAY + int(random.integers(0, DAYS))
        for item in random.integers(0, 28, 2):
            lines.append(Line(None, f"{item:03d}", day, basket=f"guest-{guest:02d}"))
    return lines


def newcomers(cuts: Mapping[str, int]) -> list[Line]:
    """Give each window a customer and two items of its own, whose ids sort before all others."""
    return [
        line
        for window, cut in cuts.items()
        for line in (
            Line(f"!{window}", f"!{window}", cut),
            Line(f"!{window}", "004", FIRST_DAY + DAYS - 1),
            Line(None, f"!{window}-guest", cut, basket=f"!{window}"),
        )
    ]


def changed_after(lines: Sequence[Line], cut: int) -> list[Line]:
    """Rewrite all that happened from a day on; the last day stays, because windows end there."""
    last = max(line.day for line in lines)
    kept = [line for line in lines if line.day < cut]
    later = [line for line in lines if line.day >= cut]
    # Deleted, altered, added: ids that sort before all others, and guests among the first.
    altered = [replace(line, item="005", quantity=9.0) for line in later[::3]]
    added = [
        added
        for n, day in enumerate(range(cut, last + 1))
        for added in (
            Line(f"!new{n}", "!first", day),
            Line(f"!new{n}", "007", day),
            Line("03", "012", day, 40.0),
            Line(None, "!second", day, basket=f"!guest{n}"),
            Line(None, "003", day, basket=f"!guest{n}"),
        )
    ]
    return [*added, *reversed(kept), *altered, Line("02", "002", last)]


def folds(dataset: Dataset) -> dict[str, Fold]:
    """Return window → fold, in the order of time."""
    ordered = (dataset.validation, *reversed(dataset.earlier), dataset.test)
    return {fold.name: fold for fold in ordered}


Event = tuple[int, int, int]


def pack_events(folder: Path, events: Sequence[Event], rows: int, size: int) -> Blocks:
    """Pack (row, column, day) events of one unit at price 1."""
    folder.mkdir(parents=True)
    counts = []
    for number, start in enumerate(range(0, rows, size)):
        stop = min(rows, start + size)
        inside = [event for event in events if start <= event[0] < stop]
        if not inside:
            counts.append(0)
            continue
        row, column, day = (pa.array(values, pa.int32()) for values in zip(*inside, strict=True))
        ones = pa.array(np.ones(len(inside)))
        names = ("row", "column", "day", "quantity", "revenue")
        lines = pa.table(dict(zip(names, (row, column, day, ones, ones), strict=True)))
        counts.append(pack(str(folder), number, start, stop, lines))
    return Blocks(str(folder), rows, size, tuple(counts))


def history_of(
    folder: Path,
    events: Sequence[Event],
    customers: int,
    items: int,
    before: int,
    guests: int = 0,
) -> History:
    """Pack (customer, item, day) events; customers are `c000` …, items `i000` …, guests behind.

    Item i is of the category `group i % 3`.
    """
    for name, prefix, count in (("customer", "c", customers), ("item", "i", items)):
        (folder / f"{name}s").mkdir(parents=True)
        ids = {
            name: pa.array(range(count), pa.int32()),
            f"{name}_id": [f"{prefix}{index:03d}" for index in range(count)],
            "description": [f"{name} {index}" for index in range(count)],
        }
        if name == "item":
            ids["category"] = [f"group {index % 3}" for index in range(count)]
        pq.write_table(pa.table(ids), folder / f"{name}s" / "part-0.parquet")
    rows = customers + guests
    turned = [(item, row, day) for row, item, day in events]
    return History(
        customer_blocks=pack_events(
            folder / "blocks" / "customers", events, rows, block_size(customers, len(events))
        ),
        item_blocks=pack_events(
            folder / "blocks" / "items", turned, items, block_size(items, len(events))
        ),
        customers=customers,
        all_customers=customers,
        items=items,
        before=before,
        tables=str(folder),
    )


def fold_of(folder: Path, history: History, events: Sequence[Event]) -> Fold:
    """Judge a history by (customer, item, day) events after its cut."""
    size = history.customer_blocks.size
    truth = pack_events(folder / "truth", events, history.customers, size)
    return Fold("test", history, truth)


@dataclass
class Dots:
    """A scorer by dot products; a customer of zeros is silent."""

    customers: NDArray[np.float32]
    item_factors: NDArray[np.float32]

    def vectors(self, rows: NDArray[np.int64], weights: sp.csr_matrix) -> NDArray[np.float32]:
        return self.customers[rows]

    def personal(self, rows: NDArray[np.int64], weights: sp.csr_matrix) -> NDArray[np.float32]:
        scores = self.customers[rows] @ self.item_factors.T
        scores[~self.customers[rows].any(axis=1)] = -np.inf
        return scores
