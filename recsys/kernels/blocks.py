"""Packed interactions: one Arrow file a block of rows, memory-mapped by whoever needs it.

A row is a customer (or a guest's basket) and its columns are items, or the other way round. An
event is "this row met this column on this day"; several lines of one day are one event. A file
holds one record a row with list columns, which is the CSR layout: the list offsets are `indptr`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.kernels.events import order_events
from recsys.storage import Place, fetched, place_of, write_file

# A task that packs a block of a million events takes about 150 MB for it.
EVENTS_A_BLOCK = 1_000_000
# Enough that a small pool of cores shares the work evenly.
FEWEST_BLOCKS = 8
# Every block costs a file, and some milliseconds of each pass over the blocks.
MOST_BLOCKS = 1_000
# About 7 GB for the task that packs them, and far below what the lists' int32 offsets can count.
MOST_LINES = 50_000_000


@dataclass(frozen=True)
class Block:
    """The events of consecutive rows, in CSR form.

    Attributes:
        start: index of the first row.
        indptr: int64 [rows + 1]; row r's events are indptr[r] … indptr[r + 1].
        columns: int32 [events], rising within a row.
        days: int32 [events], days since 1970-01-01 UTC.
        quantities: float32 [events], units.
        revenue: float32 [events], quantity × price.
    """

    start: int
    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]
    days: NDArray[np.int32]
    quantities: NDArray[np.float32]
    revenue: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    def before(self, day: int) -> Self:
        """Return the block with only the events before `day`."""
        return self.where(self.days < day)

    def where(self, keep: NDArray[np.bool_]) -> Self:
        """Return the block with only the events that `keep` [events] marks."""
        if keep.all():
            return self
        kept = np.concatenate(([0], np.cumsum(keep)))
        return type(self)(
            self.start,
            kept[self.indptr].astype(np.int64),
            self.columns[keep],
            self.days[keep],
            self.quantities[keep],
            self.revenue[keep],
        )

    def take(self, stop: int) -> Self:
        """Return the block without its rows from index `stop` (of the whole table) on."""
        rows = min(self.rows, max(0, stop - self.start))
        end = self.indptr[rows]
        return type(self)(
            self.start,
            self.indptr[: rows + 1],
            self.columns[:end],
            self.days[:end],
            self.quantities[:end],
            self.revenue[:end],
        )

    def matrix(self, weights: NDArray[Any], width: int) -> sp.csr_matrix:
        """Sum event weights into a matrix.

        Args:
            weights: [events].
            width: number of columns; events of columns beyond it are left out.

        Returns:
            float32 CSR [rows, width], columns rising, each at most once in a row.
        """
        row, column, inside, starts = self._pairs(width)
        values = np.asarray(weights, dtype=np.float64)[inside]
        data = np.add.reduceat(values, starts) if len(starts) else values
        indptr = np.zeros(self.rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(row[starts], minlength=self.rows), out=indptr[1:])
        return sp.csr_matrix(
            (data.astype(np.float32), column[starts], indptr), shape=(self.rows, width)
        )

    def last_days(self, width: int) -> NDArray[np.int32]:
        """Return the last day of each entry of `matrix`, int32 [entries]; `width` as there."""
        _, column, inside, starts = self._pairs(width)
        ends = np.append(starts[1:], len(column))[: len(starts)] - 1
        return np.asarray(self.days[inside][ends], dtype=np.int32)

    def _pairs(
        self, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_], NDArray[np.int64]]:
        """Find the pairs (row, column) below `width`.

        Returns:
            Row and column of each event inside, which events those are, and which of them is the
            first of each pair.
        """
        inside = self.columns < width
        row = np.repeat(np.arange(self.rows, dtype=np.int64), np.diff(self.indptr))[inside]
        column = self.columns[inside]
        first = np.ones(len(column), dtype=bool)
        first[1:] = (row[1:] != row[:-1]) | (column[1:] != column[:-1])
        return row, column, inside, np.flatnonzero(first)


@dataclass(frozen=True)
class Blocks:
    """A folder of blocks, cut by row.

    Attributes:
        path: the folder, on a disk or a URL.
        rows: number of rows over all blocks.
        size: rows a block (the last has fewer).
        events: number of events in each block, so that a lost file is noticed.
    """

    path: str
    rows: int
    size: int
    events: tuple[int, ...]

    @property
    def numbers(self) -> range:
        """The blocks' numbers."""
        return range(len(self.events))

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the first row of a block and the one after its last."""
        return number * self.size, min(self.rows, (number + 1) * self.size)

    def covering(self, stop: int) -> list[int]:
        """Return the numbers of the blocks that hold rows before `stop`."""
        return [n for n in self.numbers if self.bounds(n)[0] < stop]

    def read(self, number: int) -> Block:
        """Map one block into memory; raises DataError where the file is missing or another's."""
        start, stop = self.bounds(number)
        file = block_file(self.path, number)
        if self.events[number] == 0:
            nothing = np.zeros(0, dtype=np.float32)
            ints = nothing.astype(np.int32)
            return Block(
                start, np.zeros(stop - start + 1, dtype=np.int64), ints, ints, nothing, nothing
            )
        try:
            with pa.memory_map(str(fetched(file))) as source:
                table = pa.ipc.open_file(source).read_all()
        except (OSError, pa.ArrowInvalid, DataError) as error:
            raise DataError(f"{file} cannot be read ({error}): run prepare again.") from None
        foreign = DataError(f"{file} does not belong to this dataset: run prepare again.")
        if table.column_names != list(LISTS) or len(table) != stop - start:
            raise foreign
        lists = {name: table[name].chunk(0) for name in LISTS}
        columns = lists["columns"]
        if len(columns.values) != self.events[number]:
            raise foreign
        return Block(
            start,
            columns.offsets.to_numpy().astype(np.int64),
            *(lists[name].values.to_numpy() for name in LISTS),
        )

    def __iter__(self) -> Iterator[Block]:
        """Map the blocks one after another."""
        return (self.read(number) for number in self.numbers)

    def to_json(self) -> dict[str, Any]:
        """Return what the dataset's description keeps; the folder is known from its place."""
        return {k: v for k, v in asdict(self).items() if k != "path"}

    @classmethod
    def from_json(cls, path: str, values: dict[str, Any]) -> Self:
        """Rebuild from `to_json`."""
        return cls(path, values["rows"], values["size"], tuple(values["events"]))


LISTS = ("columns", "days", "quantities", "revenue")


def block_size(rows: int, events: int, behind: int = 0) -> int:
    """Choose the rows a block: about EVENTS_A_BLOCK events, at least FEWEST_BLOCKS blocks.

    Args:
        rows: rows to share out.
        events: their events.
        behind: further rows behind these, with few events each; they share the size, which
            grows where they are so many that there were more than MOST_BLOCKS blocks.
    """
    blocks = max(FEWEST_BLOCKS, -(-events // EVENTS_A_BLOCK))
    return max(1, -(-rows // blocks), -(-(rows + behind) // MOST_BLOCKS))


def block_file(path: str, number: int) -> Place:
    """Return where a block lies."""
    return place_of(path) / f"block-{number:05d}.arrow"


def pack(path: str, number: int, start: int, stop: int, lines: pa.Table) -> int:
    """Write one block.

    Args:
        path: the folder.
        number: the block's number.
        start: its first row; `stop`: the row after its last.
        stop: see `start`.
        lines: columns row, column, day (integers), quantity, revenue; one or more, in any order.

    Returns:
        The number of events written.
    """
    row, column, day = (
        lines[name].to_numpy().astype(np.int64) for name in ("row", "column", "day")
    )
    amounts = [lines[name].to_numpy() for name in ("quantity", "revenue")]
    row -= start
    order, starts = order_events(row, column, day, amounts)
    row, column, day = (values[order[starts]] for values in (row, column, day))
    sums = [np.add.reduceat(v[order].astype(np.float64), starts) for v in amounts]
    offsets = np.zeros(stop - start + 1, dtype=np.int32)
    np.cumsum(np.bincount(row, minlength=stop - start), out=offsets[1:])
    values = (
        column.astype(np.int32),
        day.astype(np.int32),
        *(s.astype(np.float32) for s in sums),
    )
    table = pa.table(
        {
            name: pa.ListArray.from_arrays(pa.array(offsets), pa.array(value))
            for name, value in zip(LISTS, values, strict=True)
        }
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, len(table)))
    write_file(block_file(path, number), memoryview(sink.getvalue()))
    return len(starts)
