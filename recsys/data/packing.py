"""Pack interactions into blocks: tasks exchange lines as files, so no row passes through the JVM.

row group of Parquet ── read, sort by block ──► an exchange file a table, a batch a block
batches of a block   ── map to memory, sort by row ──► block-00000.arrow
"""

import random
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.guests import GUEST
from recsys.errors import DataError
from recsys.kernels import blocks as kernel
from recsys.kernels.blocks import Blocks, pack
from recsys.session import run_tasks
from recsys.storage import (
    Place,
    files_in,
    make_folder,
    opened,
    place_of,
    read_range,
    remove_folder,
    writing,
)

# What a task reads and sorts at a time, which takes about half a gigabyte. Who writes what is to be
# packed cuts their files at this many lines, so that tasks have about as much to do.
LINES_AT_A_TIME = 2_000_000
READS_AT_ONCE = 8
READ = (c.CUSTOMER, GUEST, c.ITEM, c.DAY, c.QUANTITY, c.UNIT_PRICE)
EXCHANGED = pa.schema(
    [
        ("row", pa.int32()),
        ("column", pa.int32()),
        ("day", pa.int32()),
        ("quantity", pa.float64()),
        ("revenue", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Target:
    """A table of blocks to pack.

    Attributes:
        name: its folder's name.
        sources: folders of Parquet files with the columns of READ; a line is its customer's or,
            where `customer` is null, the guest's; one without either, or without item, is left out.
        rows: rows of the whole table; lines of further rows are left out.
        size: rows a block.
        by_item: rows are items and columns customers, not the other way round.
    """

    name: str
    sources: tuple[Place, ...]
    rows: int
    size: int
    by_item: bool = False

    def bounds(self, block: int) -> tuple[int, int]:
        """Return the first row of a block and the one after its last."""
        return block * self.size, min(self.rows, (block + 1) * self.size)


@dataclass(frozen=True)
class Piece:
    """Lines of one block: a record batch, which is a piece of an exchange file."""

    target: Target
    block: int
    file: str
    start: int
    bytes: int
    lines: int


Group = tuple[str, int, tuple[Target, ...]]
Lines = dict[str, NDArray[Any]]


def pack_tables(spark: SparkSession, targets: Sequence[Target], folder: Place) -> dict[str, Blocks]:
    """Pack tables of blocks, all in one exchange.

    Args:
        spark: the session.
        targets: the tables.
        folder: where their folders go.

    Returns:
        name → blocks.

    Raises:
        DataError: a block has more lines than a task can pack.
    """
    exchange = folder / "exchange"
    for path in (exchange, *(folder / target.name for target in targets)):
        make_folder(path)
    try:
        found = run_tasks(spark, partial(_sort_by_block, str(exchange)), _groups(targets))
        pieces: dict[tuple[str, int], list[Piece]] = defaultdict(list)
        for piece in (piece for group in found for piece in group):
            pieces[piece.target.name, piece.block].append(piece)
        jobs = list(pieces.values())
        for job in jobs:
            _check_size(job)
        # Tasks take neighbours: those of the largest table shall not all come to one.
        random.Random(0).shuffle(jobs)
        counts = run_tasks(spark, partial(_pack_block, str(folder)), jobs)
    finally:
        remove_folder(exchange)
    events = {(job[0].target.name, job[0].block): n for job, n in zip(jobs, counts, strict=True)}
    return {
        target.name: Blocks(
            str(folder / target.name),
            target.rows,
            target.size,
            tuple(events.get((target.name, n), 0) for n in range(-(-target.rows // target.size))),
        )
        for target in targets
    }


def _groups(targets: Sequence[Target]) -> list[Group]:
    """List the row groups of all sources, each with the tables that its lines belong to."""
    users: dict[Place, list[Target]] = defaultdict(list)
    for target in targets:
        for source in target.sources:
            users[source].append(target)
    return [
        (str(file), number, tuple(users[source]))
        for source in users
        for file in files_in(source, ".parquet")
        for number in range(_row_groups(file))
    ]


def _sort_by_block(folder: str, group: Group) -> list[Piece]:
    """Write the lines of a row group by block, one file a table, as many at a time as fit memory.

    A second attempt writes other files; only those count that the pieces name.
    """
    source, number, targets = group
    pieces: list[Piece] = []
    files = [f"{folder}/{target.name}-{uuid.uuid4().hex}" for target in targets]
    with (
        ExitStack() as stack,
        opened(place_of(source)) as file,
        pq.ParquetFile(file) as parquet,
    ):
        sinks = [stack.enter_context(writing(place_of(file))) for file in files]
        for batch in parquet.iter_batches(LINES_AT_A_TIME, [number], list(READ)):
            lines = _lines(batch)
            for sink, name, target in zip(sinks, files, targets, strict=True):
                for block, part in _parts(target, lines):
                    start, data = sink.tell(), part.serialize()
                    sink.write(data)
                    pieces.append(Piece(target, block, name, start, data.size, part.num_rows))
    return pieces


def _row_groups(file: Place) -> int:
    with opened(file) as source, pq.ParquetFile(source) as parquet:
        return int(parquet.num_row_groups)


def _lines(batch: pa.RecordBatch) -> Lines:
    """Return customer's or guest's row, item, day, quantity and revenue of each line."""
    customer, guest, item, day = (
        batch[name].fill_null(-1).to_numpy() for name in (c.CUSTOMER, GUEST, c.ITEM, c.DAY)
    )
    quantity, price = (
        batch[name].to_numpy(zero_copy_only=False) for name in (c.QUANTITY, c.UNIT_PRICE)
    )
    return {
        c.CUSTOMER: np.where(customer < 0, guest, customer),
        c.ITEM: item,
        "day": day,
        "quantity": quantity,
        "revenue": quantity * price,
    }


def _parts(target: Target, lines: Lines) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Return the lines of each block of a table, where there are any."""
    names = (c.ITEM, c.CUSTOMER) if target.by_item else (c.CUSTOMER, c.ITEM)
    row, column = (lines[name] for name in names)
    inside = np.flatnonzero((row >= 0) & (row < target.rows) & (column >= 0))
    # Two bytes or fewer are sorted by counting, which takes a pass a byte.
    blocks = -(-target.rows // target.size)
    block = (row[inside] // target.size).astype(np.min_scalar_type(blocks))
    order = inside[np.argsort(block, kind="stable")]
    values = (row, column, lines["day"], lines["quantity"], lines["revenue"])
    batch = pa.record_batch([pa.array(v[order]) for v in values], schema=EXCHANGED)
    counts = np.bincount(block, minlength=blocks)
    starts = np.cumsum(counts) - counts
    for number in np.flatnonzero(counts).tolist():
        yield number, batch.slice(int(starts[number]), int(counts[number]))


def _check_size(pieces: Sequence[Piece]) -> None:
    """Raise DataError where a block has more lines than a task can pack."""
    target, lines = pieces[0].target, sum(piece.lines for piece in pieces)
    if lines > kernel.MOST_LINES:
        start, stop = target.bounds(pieces[0].block)
        kind = "item" if target.by_item else "customer"
        raise DataError(
            f"{stop - start:,} {kind}s have {lines:,} interactions, more than the "
            f"{kernel.MOST_LINES:,} that one block can hold (rows {start} to {stop - 1} of "
            f"{target.name}): an id that stands for many, such as one for all strangers at a "
            f"till, has to be left out or, for customers, made null before ingest."
        )


def _pack_block(folder: str, pieces: Sequence[Piece]) -> int:
    """Write one block from its pieces; return its number of events."""

    def read(piece: Piece) -> pa.RecordBatch:
        data = read_range(place_of(piece.file), piece.start, piece.bytes)
        return pa.ipc.read_record_batch(data, EXCHANGED)

    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        batches = list(threads.map(read, pieces))
    target, block = pieces[0].target, pieces[0].block
    lines = pa.Table.from_batches(batches)
    return pack(f"{folder}/{target.name}", block, *target.bounds(block), lines)
