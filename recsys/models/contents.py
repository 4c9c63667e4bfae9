"""The Parquet files of a saved model: judged by what they claim, before an array is made of them.

Their bytes are those that were saved; this is about a model that somebody saved to do harm.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt
from numpy.typing import NDArray

from recsys import columns as c
from recsys.errors import ModelError
from recsys.models import ALGORITHMS, arrays
from recsys.models.manifest import MANIFEST, MODEL_BYTES, FileFacts, damaged, shown
from recsys.storage import Place

ITEMS, CUSTOMERS = "items.parquet", "customers.parquet"
TREND = "trend"
ROWS_A_GROUP = 65_536
# A model that unpacks to more must have at least a byte for so many of them. Ids alone take some
# six bytes a row, and the widest arrays four thousand: only a bomb shrinks to a thousandth.
SMALL_BYTES = 64 << 20
MOST_SHRUNK = 1000
INDEX_AND_ID_BYTES = 8
Columns = Mapping[str, Callable[[pa.DataType], bool]]


@dataclass(frozen=True)
class Shapes:
    """What a model's header claims of its files.

    Attributes:
        algorithm: name of the recommender.
        customers: rows of `customers.parquet`.
        items: rows of `items.parquet`.
        arrays: name → rows and width.
    """

    algorithm: str
    customers: int
    items: int
    arrays: dict[str, tuple[int, int]]


def check(folder: Path, claimed: Shapes, files: Mapping[str, FileFacts]) -> None:
    """Check that a model has the files that its header claims, and that they can be unpacked.

    Args:
        folder: of the saved model, whose files are those of its manifest.
        claimed: by its header.
        files: as its manifest lists them.

    Raises:
        ModelError: naming the file that is not as claimed.
    """
    tables = {ITEMS, CUSTOMERS, *(f"{name}.parquet" for name in claimed.arrays)}
    listed = {name for name in files if name.endswith(".parquet")}
    if odd := sorted(tables ^ listed):
        raise ModelError(
            f"{folder / MANIFEST} lists {', '.join(sorted(listed)) or 'no table'}, but a model of "
            f"{claimed.algorithm} has {', '.join(sorted(tables))}: {odd[0]} is not as it should be."
        )
    items: Columns = {c.ITEM: pt.is_int32, c.ITEM_ID: pt.is_string, TREND: pt.is_float32}
    customers: Columns = {c.CUSTOMER: pt.is_int32, c.CUSTOMER_ID: pt.is_string}
    unpacked = {
        ITEMS: _check_table(folder / ITEMS, claimed.items, items),
        CUSTOMERS: _check_table(folder / CUSTOMERS, claimed.customers, customers),
    }
    for name, (rows, width) in claimed.arrays.items():
        learned = ALGORITHMS[claimed.algorithm].learned[name]
        kind, inner = learned.rows, learned.values
        file = folder / f"{name}.parquet"
        if rows != getattr(claimed, kind):
            raise ModelError(
                f"{file} is claimed to have {rows:,} rows for {getattr(claimed, kind):,} {kind}: "
                "the model is not used."
            )
        values = {"values": pa.list_(inner, width).equals}
        unpacked[file.name] = _check_table(file, rows, values, width * inner.bit_width // 8)
    _check_size(folder, unpacked, files)
    _check_index(folder / ITEMS, claimed.items)
    _check_index(folder / CUSTOMERS, claimed.customers)


def unpack(folder: Path, claimed: Shapes, fitted: Place) -> None:
    """Write a saved model's arrays as files that can be mapped, a group of rows at a time.

    Args:
        folder: of the saved model, that `check` found to be as claimed.
        claimed: by its header.
        fitted: folder to write into.

    Raises:
        ModelError: a file cannot be read, or names an item that is not there.
    """
    for name, (rows, width) in claimed.arrays.items():
        file = folder / f"{name}.parquet"
        inner = ALGORITHMS[claimed.algorithm].learned[name].values
        arrays.create(fitted, name, (rows, width), inner.to_pandas_dtype())
        for start, values in _first_column(file, rows, width):
            if pt.is_integer(inner):
                _check_items(file, values, claimed.items)
            arrays.write_rows(fitted, name, start, values)


def _check_items(file: Path, values: NDArray[Any], items: int) -> None:
    """Check that whole numbers are rows of items, or -1 for none."""
    outside = values[(values < -1) | (values >= items)]
    if len(outside):
        raise ModelError(f"{file} names item {outside[0]:,} of {items:,}: the model is not used.")


def _check_table(
    file: Path, rows: int, columns: Columns, row_bytes: int = INDEX_AND_ID_BYTES
) -> int:
    """Check rows, columns and size by the file's metadata alone; return the bytes unpacked."""
    with _opened(file) as source:
        metadata, schema = source.metadata, source.schema_arrow
        if metadata.num_rows != rows:
            raise ModelError(
                f"{file} has {metadata.num_rows:,} rows, but the model's header says {rows:,}: "
                "the model is not used."
            )
        found = dict(zip(schema.names, schema.types, strict=True))
        if schema.names != list(columns) or not all(columns[n](found[n]) for n in columns):
            told = ", ".join(f"{name} {kind}" for name, kind in found.items())
            raise ModelError(f"{file} has the columns {shown(told, 200)}: the model is not used.")
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    encoded: int = sum(max(0, group.total_byte_size) for group in groups)
    return max(encoded, rows * row_bytes)


def _check_size(folder: Path, unpacked: Mapping[str, int], files: Mapping[str, FileFacts]) -> None:
    """Check that the files have as many bytes as what they unpack to needs."""
    total, packed = sum(unpacked.values()), sum(files[name].bytes for name in unpacked)
    if total > min(MODEL_BYTES, max(SMALL_BYTES, MOST_SHRUNK * packed)):
        worst = max(unpacked, key=lambda name: unpacked[name] / max(1, files[name].bytes))
        raise ModelError(
            f"{folder / worst} would unpack from {files[worst].bytes:,} bytes to "
            f"{unpacked[worst] / 2**30:,.1f} GiB: the model is not used."
        )


def _check_index(file: Path, rows: int) -> None:
    """Check that the first column of a table of ids counts its rows."""
    for start, values in _first_column(file, rows, 1):
        if not np.array_equal(values[:, 0], np.arange(start, start + len(values))):
            raise ModelError(f"{file} does not count its rows from 0: the model is not used.")


def _first_column(file: Path, rows: int, width: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first column in pieces [n, width], each after the number of its first row."""
    start = 0
    with _opened(file) as source:
        for batch in source.iter_batches(ROWS_A_GROUP, columns=source.schema_arrow.names[:1]):
            column = batch.column(0)
            flat = column.flatten() if pt.is_nested(column.type) else column
            values = flat.to_numpy().reshape(len(batch), width)
            if start + len(values) > rows:
                break
            yield start, values
            start += len(values)
        else:
            if start == rows:
                return
    raise damaged(file, f"it does not hold the {rows:,} rows that it claims")


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Open a Parquet file; what it cannot be read for becomes a ModelError."""
    try:
        with pq.ParquetFile(file) as source:
            yield source
    except (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError) as error:
        raise damaged(file, shown(" ".join(str(error).split()), 200)) from None
