"""What customers were given before: the contact rule and the audits look back at it."""

import uuid
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from recsys import columns as c
from recsys.data.dataset import History
from recsys.data.guests import GUEST
from recsys.data.packing import Target, pack_tables
from recsys.kernels.blocks import Blocks
from recsys.published import RECOMMENDATIONS, Part, manifest_of, parts_of, read_part, run_of
from recsys.scoring import all_ids
from recsys.session import run_tasks
from recsys.storage import CommitLog, Place, make_folder, store_of, write_parquet


@dataclass(frozen=True)
class PastRun:
    """A published run of the same strategy.

    Attributes:
        commit: number of the commit that readers saw last of it.
        run: its folder.
        facts: of its manifest.
        parts: files of its recommendations.
    """

    commit: int
    run: str
    facts: dict[str, Any]
    parts: tuple[Part, ...]


def past_runs(output: str, strategy: str, count: int | None = None) -> list[PastRun]:
    """Find the last published runs of a strategy, the newest first.

    Args:
        output: the published folder.
        strategy: the strategy's name.
        count: at most so many; None for all.
    """
    store = store_of(output)
    log, found = CommitLog(store), list[PastRun]()
    head = log.head()
    for number in range(head.number if head else 0, 0, -1):
        if len(found) == count:
            break
        commit = log.read(number)
        # A table that was published again counts once.
        if run_of(commit) in [past.run for past in found]:
            continue
        if commit.payload["facts"]["strategy"]["name"] == strategy:
            manifest = manifest_of(store, commit)
            parts = tuple(parts_of(manifest, RECOMMENDATIONS))
            found.append(PastRun(number, run_of(commit), manifest["facts"], parts))
    return found


def pack_given(
    spark: SparkSession, output: str, runs: list[PastRun], history: History, folder: Place
) -> Blocks | None:
    """Pack what customers got in past runs: an event's day is the run, 0 the newest.

    Args:
        spark: the session.
        output: the published folder.
        runs: the newest first.
        history: whose customers and items count.
        folder: an empty folder to write to.

    Returns:
        Blocks of the same customers as the history's; None where there are no past runs.
    """
    work = [(age, past.run, part) for age, past in enumerate(runs) for part in past.parts]
    if not work:
        return None
    lines = folder / "lines"
    make_folder(lines)
    run_tasks(spark, partial(_write_lines, output, history, lines), work)
    target = Target("given", (lines,), history.customers, history.customer_blocks.size)
    return pack_tables(spark, (target,), folder)["given"]


def _write_lines(output: str, history: History, lines: Place, work: tuple[int, str, Part]) -> None:
    """Turn one file's rows into lines that can be packed; unknown customers and items fall out."""
    age, run, part = work
    rows = read_part(store_of(output), run, part, [c.CUSTOMER_ID, c.ITEM_ID])
    customer, item = (
        pc.index_in(rows[column], value_set=all_ids(history.tables, table, column, count))
        for table, column, count in (
            ("customers", c.CUSTOMER_ID, history.customers),
            ("items", c.ITEM_ID, history.items),
        )
    )
    known = pc.and_(pc.is_valid(customer), pc.is_valid(item))
    count = len(rows)
    table = pa.table(
        {
            c.CUSTOMER: customer,
            GUEST: pa.nulls(count, pa.int32()),
            c.ITEM: item,
            c.DAY: pa.repeat(pa.scalar(age, pa.int32()), count),
            c.QUANTITY: pa.repeat(1.0, count),
            c.UNIT_PRICE: pa.repeat(0.0, count),
        }
    )
    write_parquet(lines / f"{uuid.uuid4().hex}.parquet", table.filter(known))
