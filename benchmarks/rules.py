"""Time what a strategy's rules cost: every customer scored plainly, and with all rules on.

A retailer of a million customers is drawn and prepared once, and ALS fitted for a few iterations.
Then, in turn, each scoring writes its table as `batch_score` does: new items alone (*plain*); with
audience, hold-out, allowed items, bought items by category, at most three of a category, nothing
from the last run and popularity by country (*rules*); and with three reasons a row (*reasons*).

  python -m benchmarks.rules
  python -m benchmarks.rules --customers 100000 --items 20000 --interactions 5000000
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks import command
from benchmarks.data import Size, drawn, prepared
from benchmarks.memory import Peaks
from recsys import campaign
from recsys import columns as c
from recsys.batch import Batch, BlockScored, score_block
from recsys.data.dataset import History
from recsys.kernels.blocks import Blocks
from recsys.models import arrays
from recsys.models.als import Als, AlsParameters
from recsys.past import PastRun, pack_given
from recsys.progress import say
from recsys.published import RECOMMENDATIONS
from recsys.scoring import Plan, add_fallback, plan_scoring
from recsys.session import run_tasks, spark_session
from recsys.strategy import HoldOut, SeenByCategory, Strategy

SEED, CATEGORIES, COUNTRIES = 3, 40, 12
PLAIN = Strategy(name="plain", k=20, because=0)
RULES = Strategy(
    name="rules",
    k=20,
    seen=SeenByCategory(
        others="exclude",
        categories={f"category {n}": 30 if n % 2 else "allow" for n in range(CATEGORIES // 2)},
    ),
    most_a_category=3,
    rest_runs=1,
    segment="country",
    hold_out=HoldOut(share=0.1, salt="benchmark"),
    because=0,
)
REASONS = RULES.model_copy(update={"name": "reasons", "because": 3})


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, fit, score in turn, print."""
    options = _parser().parse_args(arguments)
    size = Size(options.customers, options.items, options.interactions)
    folder = Path(options.cache) / f"rules-{size.customers}-{size.items}-{size.interactions}"
    interactions = drawn(size, folder / "interactions")
    spark = spark_session("benchmark rules")
    history = prepared(spark, interactions, folder / "dataset").test.history
    with tempfile.TemporaryDirectory(prefix="recsys-rules-") as scratch:
        history = described(history, Path(scratch) / "tables")
        say("\n".join(compared(spark, history, Path(scratch), options.repeats)))
    spark.stop()


def described(history: History, tables: Path) -> History:
    """Return the history with categories and countries, which the drawn retailer lacks."""
    for name, column, kinds in (
        ("items", c.CATEGORY, CATEGORIES),
        ("customers", "country", COUNTRIES),
    ):
        table = pq.read_table(Path(history.tables) / name)
        kind = np.random.default_rng(SEED).integers(0, kinds, len(table))
        names = pa.array([f"{column} {n}" for n in range(kinds)]).take(pa.array(kind))
        if column in table.column_names:
            table = table.drop_columns(column)
        (tables / name).mkdir(parents=True)
        pq.write_table(table.append_column(column, names), tables / name / "part-0.parquet")
    return replace(history, tables=str(tables))


def compared(spark: SparkSession, history: History, folder: Path, repeats: int) -> Iterator[str]:
    """Yield the report's lines.

    Args:
        spark: the session.
        history: what is known of the customers.
        folder: for the fit and the tables.
        repeats: turns.
    """
    parameters, fitted = AlsParameters(factors=64, iterations=3), folder / "fitted"
    fitted.mkdir()
    Als(parameters).fit(spark, history, fitted)
    plan = plan_scoring(
        spark, Als.name, parameters, fitted, history.customers, history, folder / "terms"
    )
    plan = add_fallback(spark, plan, "country")
    last = past(scored(spark, plan, PLAIN, None, folder / "last")[1])
    given = pack_given(spark, str(folder / "last"), [last], history, folder / "given")
    seconds: dict[str, list[float]] = {}
    peaks = Peaks()
    for turn in range(repeats):
        for strategy in (PLAIN, RULES, REASONS):
            output = folder / f"{strategy.name}-{turn}"
            with watched(peaks):
                took, blocks = scored(spark, plan, strategy, given, output)
            seconds.setdefault(strategy.name, []).append(took)
            rows = sum(block.counts["rows"] for block in blocks)
            say(f"  turn {turn + 1}, {strategy.name}: {took:.1f} s, {rows:,} rows")
    yield f"{history.customers:,} customers × {history.items:,} items, k = {PLAIN.k}:"
    plain = seconds[PLAIN.name]
    for name, values in seconds.items():
        ratios = [value / of for value, of in zip(values, plain, strict=True)]
        yield (
            f"  {name}: {statistics.median(values):.1f} s ({min(values):.1f} – {max(values):.1f}), "
            f"{statistics.median(ratios):.2f} × plain ({min(ratios):.2f} – {max(ratios):.2f})"
        )
    yield "  peak memory, MiB: " + ", ".join(f"{n} {b >> 20:,}" for n, b in peaks.highest.items())


def scored(
    spark: SparkSession, plan: Plan, strategy: Strategy, given: Blocks | None, output: Path
) -> tuple[float, list[BlockScored]]:
    """Score every customer by a strategy; returns the seconds and what the tasks wrote."""
    rules = campaign.compiled(strategy, None, plan.history, given, output / "campaign")
    if strategy.name != PLAIN.name:
        random = np.random.default_rng(SEED)
        for name, rows in (
            (campaign.AUDIENCE, plan.history.customers),
            (campaign.ALLOWED, plan.history.items),
        ):
            arrays.write(output / "campaign", name, random.random(rows) < 0.9)
    plan = replace(plan, campaign=rules, segmented=strategy.segment is not None)
    batch = Batch(plan, str(output), "run", strategy, "benchmark", 1, datetime.now(UTC))
    numbers = plan.history.customer_blocks.covering(plan.history.customers)
    started = time.perf_counter()
    blocks = run_tasks(spark, partial(score_block, batch), numbers)
    return time.perf_counter() - started, blocks


def past(blocks: list[BlockScored]) -> PastRun:
    """Take a table for the last run's."""
    parts = [part for block in blocks for part in block.parts if part.table == RECOMMENDATIONS]
    return PastRun(1, "run", {}, tuple(parts))


@contextmanager
def watched(peaks: Peaks) -> Iterator[None]:
    """Look at the memory of this process and all that it started, twice a second."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            peaks.sample(os.getpid())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("rules", __doc__)
    for name, value in (
        ("customers", 1_000_000),
        ("items", 50_000),
        ("interactions", 40_000_000),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    parser.add_argument("--cache", default=".bench", help="folder of the data; default: .bench")
    return parser


if __name__ == "__main__":
    main()
