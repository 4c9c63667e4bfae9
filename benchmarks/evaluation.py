"""Time judging against scoring alone, at the size of a large retailer.

Customers, items and purchases are drawn at random with a popularity tail; a short ALS fit gives
factors as uneven as real ones. Then the same customers are ranked for both questions, once alone
and once with every metric, interval and the hit table.

  python -m benchmarks.evaluation
  python -m benchmarks.evaluation --customers 20000 --items 5000 --events 1100000
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from benchmarks import command
from recsys.data.dataset import Fold, History
from recsys.evaluation import evaluate
from recsys.hit_table import KS, QUESTIONS
from recsys.kernels.blocks import Blocks, block_size, pack
from recsys.models.als import Als, AlsParameters
from recsys.progress import say
from recsys.scoring import Plan, plan_scoring, rank_block
from recsys.session import run_tasks, spark_session

CUT, WINDOW = 365, 28
Events = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the data, fit, time, print."""
    options = _parser().parse_args(arguments)
    random = np.random.default_rng(options.seed)
    spark = spark_session("benchmark")
    with tempfile.TemporaryDirectory(prefix="recsys-benchmark-") as name:
        folder = Path(name)
        fold = make_fold(folder, options.customers, options.items, options.events, random)
        plan = fit(spark, fold.history, options.factors, folder)
        say(f"{fold.history.customers:,} customers × {fold.history.items:,} items")
        for attempt in range(options.repeats):
            scoring = seconds(partial(rank_only, spark, plan, fold))
            judging = seconds(partial(evaluate, spark, plan, fold, folder / f"hits-{attempt}"))
            total, metrics = judging / scoring, (judging - scoring) / scoring
            say(
                f"scoring {scoring:.1f} s, judging {judging:.1f} s: {total:.2f} × scoring, "
                f"the metrics themselves {metrics:.2f} ×"
            )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        say(f"peak memory of the driver's Python process: {peak:.2f} GiB")
    spark.stop()


def make_fold(
    folder: Path, customers: int, items: int, events: int, random: np.random.Generator
) -> Fold:
    """Draw a history of a year and a window after it, and pack both."""
    before = draw(customers, items, events, 0, CUT, random)
    after = draw(customers, items, events * WINDOW // CUT, CUT, CUT + WINDOW, random)
    for name, count in (("customer", customers), ("item", items)):
        (folder / f"{name}s").mkdir()
        ids = {f"{name}_id": [f"{name[0]}{n:06d}" for n in range(count)]}
        if name == "item":
            ids["category"] = [f"group {n % 40}" for n in range(count)]
        pq.write_table(pa.table(ids), folder / f"{name}s" / "part-0.parquet")
    size = block_size(customers, events)
    rows, columns, days = before
    history = History(
        customer_blocks=pack_events(folder / "blocks-customers", before, customers, size),
        item_blocks=pack_events(
            folder / "blocks-items", (columns, rows, days), items, block_size(items, events)
        ),
        customers=customers,
        all_customers=customers,
        items=items,
        before=CUT,
        tables=str(folder),
    )
    return Fold("test", history, pack_events(folder / "truth", after, customers, size))


def draw(
    customers: int, items: int, events: int, first: int, last: int, random: np.random.Generator
) -> Events:
    """Draw purchases: a few heavy customers, a few popular items."""
    activity = random.lognormal(0, 1, customers)
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    return (
        random.choice(customers, events, p=activity / activity.sum()),
        random.choice(items, events, p=popularity / popularity.sum()),
        random.integers(first, last, events),
    )


def pack_events(folder: Path, events: Events, rows: int, size: int) -> Blocks:
    """Pack events of one unit at price 1."""
    folder.mkdir()
    order = np.argsort(events[0], kind="stable")
    row, column, day = (values[order] for values in events)
    counts = []
    for number, start in enumerate(range(0, rows, size)):
        stop = min(rows, start + size)
        inside = slice(*np.searchsorted(row, (start, stop)))
        lines = {"row": row[inside], "column": column[inside], "day": day[inside]}
        ones = np.ones(len(lines["row"]))
        table = pa.table(lines | {"quantity": ones, "revenue": ones})
        counts.append(pack(str(folder), number, start, stop, table))
    return Blocks(str(folder), rows, size, tuple(counts))


def fit(spark: SparkSession, history: History, factors: int, folder: Path) -> Plan:
    """Fit a few iterations of ALS."""
    parameters = AlsParameters(factors=factors, iterations=3)
    (folder / "fitted").mkdir()
    Als(parameters).fit(spark, history, folder / "fitted")
    return plan_scoring(
        spark, "als", parameters, folder / "fitted", history.customers, history, folder / "terms"
    )


def rank_only(spark: SparkSession, plan: Plan, fold: Fold) -> int:
    """Rank the customers that `evaluate` judges; returns how many items were recommended."""

    def task(number: int) -> int:
        history = plan.history
        block = history.customer_blocks.read(number).take(history.customers).before(history.before)
        wanted = np.diff(fold.truth.read(number).take(history.customers).indptr) > 0
        ranked = rank_block(plan, block, wanted, max(KS), tuple(QUESTIONS.values()))
        return sum(int((r.items >= 0).sum()) for _, rankings in ranked for r in rankings)

    return sum(run_tasks(spark, task, fold.truth.covering(fold.history.customers)))


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("evaluation", __doc__)
    for name, value in (
        ("customers", 138_000),
        ("items", 27_000),
        ("events", 12_000_000),
        ("factors", 64),
        ("repeats", 2),
        ("seed", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"default: {value}")
    return parser


if __name__ == "__main__":
    main()
