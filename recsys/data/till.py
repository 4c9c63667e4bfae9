"""Write purchases as a till exports them: one CSV file a month, bad rows included."""

from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from recsys.data.market import DEPARTMENTS, REGIONS, STORES, Ints, Market
from recsys.data.purchases import Purchases
from recsys.data.reasons import Reason

COLUMNS = (
    "receipt", "line", "sku", "product", "department", "qty", "sold_at", "price",
    "loyalty_card", "store", "region",
)  # fmt: skip
# Reason → the column that is spoilt, and the values it is spoilt with.
SPOILT: dict[Reason, tuple[str, tuple[str, ...]]] = {
    Reason.BAD_ENCODING: ("product", ("Caf\ufffd Blend", "Broken\x00Label")),
    Reason.MISSING_ITEM_ID: ("sku", ("", "  ")),
    Reason.MISSING_BASKET_ID: ("receipt", ("",)),
    Reason.NON_PRODUCT: ("sku", ("POSTAGE", "CARRIAGE", "DISCOUNT", "GIFTCARD", "BAGCHARGE")),
    Reason.BAD_NUMBER: ("qty", ("two", "1O", "")),
    Reason.ZERO_QUANTITY: ("qty", ("0",)),
    Reason.ABSURD_QUANTITY: ("qty", ("99999", "5012345678900")),
    Reason.ZERO_OR_NEGATIVE_PRICE: ("price", ("0.00", "-1.00")),
    Reason.ABSURD_PRICE: ("price", ("99999.99",)),
    Reason.BAD_TIMESTAMP: ("sold_at", ("2024-13-45 10:00:00", "yesterday", "")),
    Reason.ANCIENT_TIMESTAMP: ("sold_at", ("1970-01-01 00:00:00",)),
    Reason.FUTURE_TIMESTAMP: ("sold_at", ("2199-01-01 12:00:00",)),
}
KINDS = (*SPOILT, Reason.DUPLICATE_ROW, Reason.MALFORMED_ROW)
PROMOTION = 0.8
EPOCH = np.datetime64("1970-01-01", "D")


class Till:
    """Turns rows of purchases into the text of an export."""

    def __init__(
        self, market: Market, purchases: Purchases, start: date, rng: np.random.Generator
    ) -> None:
        """Prepare the texts that rows share."""
        self.purchases = purchases
        self.origin = int((np.datetime64(start, "D") - EPOCH).astype(int)) * 86_400
        weeks = int(purchases.time.max() // (7 * 86_400)) + 1
        self.promoted = rng.random((weeks, len(market.pence))) < 0.08
        self.sku = _numbers(np.arange(1, len(market.pence) + 1), 6)
        self.product = pa.array(market.names)
        self.department = pa.array([DEPARTMENTS[d][0] for d in market.department])
        pence = np.stack([market.pence, np.rint(market.pence * PROMOTION)], axis=1).ravel()
        self.price = pa.array([f"{p // 100:.0f}.{p % 100:02.0f}" for p in pence])
        stores = np.arange(STORES)
        self.store = _numbers(stores + 1, 3)
        self.region = pa.array([REGIONS[s % len(REGIONS)] for s in stores])

    def rows(self, chosen: npt.NDArray[np.intp]) -> pa.Table:
        """Return the chosen rows as text, columns as in COLUMNS."""
        p = self.purchases
        item, time, customer = p.item[chosen], p.time[chosen], p.customer[chosen]
        promoted = self.promoted[time // (7 * 86_400), item]
        clock = pa.array(self.origin + time).cast(pa.timestamp("s")).cast(pa.string())
        guest = pa.array(customer < 0)
        card = pc.if_else(guest, pa.scalar(""), _numbers(customer + 1, 10))
        texts = (
            _numbers(p.basket[chosen], 9),
            pa.array(p.line[chosen]).cast(pa.string()),
            self.sku.take(pa.array(item)),
            self.product.take(pa.array(item)),
            self.department.take(pa.array(item)),
            pa.array(p.quantity[chosen]).cast(pa.string()),
            clock,
            self.price.take(pa.array(2 * item + promoted)),
            card,
            self.store.take(pa.array(p.store[chosen])),
            self.region.take(pa.array(p.store[chosen])),
        )
        return pa.table(dict(zip(COLUMNS, texts, strict=True)))


def plant(purchases: Purchases, share: float, rng: np.random.Generator) -> dict[Reason, Ints]:
    """Choose the sales of which a spoilt copy is added, about `share` of all rows.

    Returns:
        reason → (rows,) positions in time order; no sale is chosen twice.
    """
    each = int(len(purchases.time) * share / len(KINDS))
    sales = np.flatnonzero(purchases.quantity > 0)
    chosen = rng.choice(sales, min(each * len(KINDS), len(sales)), replace=False)
    return {kind: np.sort(chosen[i :: len(KINDS)]) for i, kind in enumerate(KINDS)}


def write_months(till: Till, planted: dict[Reason, Ints], folder: Path) -> int:
    """Write `transactions-YYYY-MM.csv` files; return the number of rows in them."""
    clock = (till.origin + till.purchases.time).astype("datetime64[s]").astype("datetime64[M]")
    months, starts = np.unique(clock, return_index=True)
    rows = 0
    for month, start, end in zip(months, starts, [*starts[1:], len(clock)], strict=True):
        path = folder / f"transactions-{month}.csv"
        tables = [till.rows(np.arange(start, end))]
        for reason, positions in planted.items():
            here = positions[(positions >= start) & (positions < end)]
            if len(here) and reason != Reason.MALFORMED_ROW:
                tables.append(_spoil(till.rows(here), reason))
        table = pa.concat_tables(tables)
        options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none")
        pa_csv.write_csv(table, path, options)
        cut = planted.get(Reason.MALFORMED_ROW, np.empty(0, np.int64))
        cut = cut[(cut >= start) & (cut < end)]
        _append_cut_rows(path, till.rows(cut))
        rows += table.num_rows + len(cut)
    return rows


def _spoil(rows: pa.Table, reason: Reason) -> pa.Table:
    """Make rows bad in one way; an exact copy is bad as it is."""
    if reason not in SPOILT:
        return rows
    column, values = SPOILT[reason]
    spoilt = pa.array(values).take(pa.array(np.arange(rows.num_rows) % len(values)))
    return rows.set_column(COLUMNS.index(column), column, spoilt)


def _append_cut_rows(path: Path, rows: pa.Table) -> None:
    """Append rows whose last fields are missing, as a till leaves them that lost power."""
    lines = [",".join(row.values()) + "\n" for row in rows.select(COLUMNS[:6]).to_pylist()]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(lines)


def _numbers(values: Ints, width: int) -> pa.Array:
    """Write numbers with leading zeros."""
    return pc.utf8_lpad(pa.array(values).cast(pa.string()), width, "0")
