"""Saved models whose files are those of their manifest, and which do harm by what they hold.

Each attack alters a saved model and makes its manifest fit; see `tests.registry.malicious`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.registry.malicious import (
    CUSTOMERS,
    ITEMS,
    LEARNED,
    NEIGHBOURS,
    WIDTH,
    Attack,
    Payload,
    resign,
)


def _header(data: Path, **changes: Any) -> None:
    header = json.loads((data / "model.json").read_text()) | changes
    (data / "model.json").write_text(json.dumps(header))
    resign(data)


def _says(**changes: Any) -> Callable[[Path, Payload], None]:
    return lambda data, payload: _header(data, **changes)


def _array(name: str, values: pa.Array, **changes: Any) -> Callable[[Path, Payload], None]:
    def build(data: Path, payload: Payload) -> None:
        pq.write_table(pa.table({"values": values}), data / f"{name}.parquet")
        _header(data, **changes)

    return build


def _lists_of(values: NDArray[Any], width: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), width)


def _pickled_table(data: Path, payload: Payload) -> None:
    (data / "items.parquet").write_bytes(payload.pickle)
    resign(data)


def _pickled_type(data: Path, payload: Payload) -> None:
    """Ask Arrow for a type of one's own, which it once took from a pickle (CVE-2023-47248)."""
    table = pq.read_table(data / "items.parquet")
    names = {"name": "arrow.py_extension_type", "metadata": payload.pickle}
    field = table.schema.field(0).with_metadata(
        {f"ARROW:extension:{key}": value for key, value in names.items()}
    )
    extended = table.cast(table.schema.set(0, field)).append_column("x", table[0])
    pq.write_table(extended, data / "items.parquet")
    resign(data)


def _large_header(data: Path, payload: Payload) -> None:
    _header(data, versions={"recsys": payload.code * 20_000})


def _deep_header(data: Path, payload: Payload) -> None:
    (data / "model.json").write_text('{"arrays":' * 100_000)
    resign(data)


def _bomb(data: Path, payload: Payload) -> None:
    """Claim rows by the million, in files of some kilobytes."""
    rows = 4_000_000
    index = pa.array(np.zeros(rows, dtype=np.int32))
    ids = pa.DictionaryArray.from_arrays(index, pa.array(["c"])).cast(pa.string())
    factors = _lists_of(np.zeros((rows, WIDTH), dtype=np.float32), WIDTH)
    tables = {
        "customers": {"customer": index, "customer_id": ids},
        "customer_factors": {"values": factors},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), data / f"{name}.parquet", compression="zstd")
    shapes = {"customer_factors": [rows, WIDTH], "item_factors": [ITEMS, WIDTH]}
    _header(data, customers=rows, arrays=shapes)


def _other_index(data: Path, payload: Payload) -> None:
    table = pq.read_table(data / "items.parquet")
    index = pa.array([0, 1, 2, 3, 1_000_000], pa.int32())
    pq.write_table(table.set_column(0, "item", index), data / "items.parquet")
    resign(data)


def _null(data: Path, payload: Payload) -> None:
    flat = pa.array([1.0, None, *range(13)], pa.float32())
    values = pa.FixedSizeListArray.from_arrays(flat, WIDTH)
    pq.write_table(pa.table({"values": values}), data / "item_factors.parquet")
    resign(data)


def _more_tables(data: Path, payload: Payload) -> None:
    (data / "more.parquet").write_bytes(payload.pickle)
    resign(data)


FACTORS = LEARNED["als"]["item_factors"]
ENTRIES = [CUSTOMERS, WIDTH]
# For ALS.
CLAIM_ATTACKS = (
    Attack("pickle as a table", _pickled_table, r"items\.parquet is damaged"),
    Attack("pickled type", _pickled_type, r"items\.parquet has the columns"),
    Attack("large header", _large_header, r"model\.json has more than 1,048,576 bytes"),
    Attack("deep header", _deep_header, r"model\.json is damaged"),
    Attack("more tables", _more_tables, r"manifest\.json lists .*more\.parquet is not as it"),
    Attack("bomb", _bomb, r"customer.*\.parquet would unpack from .* bytes to 0\.\d GiB"),
    Attack(
        "huge shape",
        _says(arrays={"customer_factors": [CUSTOMERS, 10**9], "item_factors": [ITEMS, WIDTH]}),
        r"customer_factors\.parquet has the columns",
    ),
    Attack(
        "more rows than there are",
        _says(customers=10**9, arrays={"customer_factors": [10**9, 3], "item_factors": [5, 3]}),
        r"customers\.parquet has 6 rows, but the model's header says 1,000,000,000",
    ),
    Attack(
        "rows of nobody",
        _says(arrays={"customer_factors": ENTRIES, "item_factors": [ITEMS + 1, WIDTH]}),
        r"item_factors\.parquet is claimed to have 6 rows for 5 items",
    ),
    Attack("too many items", _says(items=2**31), r"model\.json: items=2147483648 is not usable"),
    Attack("negative items", _says(items=-1), r"model\.json: items=-1 is not usable"),
    Attack("true items", _says(items=True), r"model\.json: items=True is not usable"),
    Attack("endless cut", _says(before=10**300), r"model\.json: before=1000"),
    Attack("other parameters", _says(parameters={"run": "x"}), r"model\.json: unknown parameter"),
    Attack("more keys", _says(loader="os.system"), r"model\.json: unknown parameter 'loader'"),
    Attack("no arrays", _says(arrays={}), r"model\.json should name the arrays .*customer_factors"),
    Attack(
        "doubles",
        _array("item_factors", _lists_of(FACTORS.astype(np.float64), WIDTH)),
        r"item_factors\.parquet has the columns values fixed_size_list<.*double",
    ),
    Attack(
        "lists of any length",
        _array("item_factors", pa.array([[1.0]] * ITEMS, pa.list_(pa.float32()))),
        r"item_factors\.parquet has the columns values list<",
    ),
    Attack("other index", _other_index, r"items\.parquet does not count its rows from 0"),
)
# As claimed, and still not to be unpacked.
UNPACKED_ATTACKS = (Attack("nulls", _null, r"item_factors\.parquet is damaged"),)
# For item-item, whose arrays hold indices that compiled loops follow.
INDEX_ATTACKS = (
    Attack(
        "item outside",
        _array("neighbours", _lists_of(np.where(NEIGHBOURS == 2, 2**30, NEIGHBOURS), WIDTH)),
        r"neighbours\.parquet names item 1,073,741,824 of 5",
    ),
    Attack(
        "negative item",
        _array("neighbours", _lists_of(np.where(NEIGHBOURS == 2, -2, NEIGHBOURS), WIDTH)),
        r"neighbours\.parquet names item -2 of 5",
    ),
    Attack(
        "items as fractions",
        _array("neighbours", _lists_of(NEIGHBOURS.astype(np.float32), WIDTH)),
        r"neighbours\.parquet has the columns",
    ),
)
