"""Show where the time of our own fits and of scoring goes, function by function.

The tasks run under Python's profiler, which Spark turns on in its workers; a compiled loop counts
as one function. What is left of the cores' time is Spark's: starting tasks, waiting for the last
one, moving their results.

  python -m benchmarks.profile --dataset .bench/medium/dataset
"""

import argparse
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks import command
from recsys import campaign
from recsys.batch import Batch, score_block
from recsys.data.dataset import History, load_dataset
from recsys.errors import RecsysError
from recsys.models.als import Als, AlsParameters
from recsys.models.item_item import ItemItem, ItemItemParameters
from recsys.progress import say
from recsys.scoring import plan_scoring
from recsys.session import run_tasks, spark_session
from recsys.strategy import Strategy

SHOWN = 8
ALS = AlsParameters(factors=64, iterations=10, half_life_days=None, trend_power=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and score under the profiler, print tables."""
    options = _parser().parse_args(arguments)
    try:
        history = load_dataset(options.dataset).test.history
    except RecsysError as error:
        raise SystemExit(f"error: {error}") from None
    os.environ["PYSPARK_SUBMIT_ARGS"] = "--conf spark.python.profile=true pyspark-shell"
    spark = spark_session("profile")
    with tempfile.TemporaryDirectory(prefix="recsys-profile-") as scratch:
        for name, work in works(spark, history, Path(scratch)).items():
            say("\n".join(profiled(spark, name, work)))
    spark.stop()


def works(spark: SparkSession, history: History, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is profiled, in the order in which it has to run."""
    fitted, neighbours = folder / "als", folder / "item_item"
    fitted.mkdir()
    neighbours.mkdir()

    def score() -> None:
        plan = plan_scoring(
            spark, Als.name, ALS, fitted, history.customers, history, folder / "terms"
        )
        strategy = Strategy(name="profile", because=0)
        rules = campaign.compiled(strategy, None, history, None, folder / "campaign")
        output = Path(tempfile.mkdtemp(dir=folder))
        plan = replace(plan, campaign=rules)
        batch = Batch(plan, str(output), "run", strategy, "profile", 1, datetime.now(UTC))
        numbers = history.customer_blocks.covering(history.customers)
        run_tasks(spark, partial(score_block, batch), numbers)

    parameters = ItemItemParameters(half_life_days=None)
    return {
        "als: fit": partial(Als(ALS).fit, spark, history, fitted),
        "item_item: fit": partial(ItemItem(parameters).fit, spark, history, neighbours),
        "score every customer": score,
    }


def profiled(spark: SparkSession, name: str, work: Callable[[], object]) -> Iterator[str]:
    """Run once unwatched, which compiles and imports, then watched; yield a table's lines."""
    work()
    collector = spark.sparkContext.profiler_collector
    collector.profilers.clear()
    started = time.perf_counter()
    work()
    wall = time.perf_counter() - started
    total = wall * spark.sparkContext.defaultParallelism
    stats = [profiler.stats() for _, profiler, _ in collector.profilers]
    # Spark prints at the end what it still holds.
    collector.profilers.clear()
    inside = functions(stats)
    yield f"{name}: {wall:.2f} s in {len(stats)} jobs\n\n| function | share of the cores' time |"
    yield "|---|---|"
    for function, seconds in sorted(inside.items(), key=lambda pair: -pair[1])[:SHOWN]:
        yield f"| {function} | {seconds / total:.1%} |"
    yield f"| *all inside the tasks* | {sum(inside.values()) / total:.1%} |\n"


def functions(stats: Sequence[pstats.Stats | None]) -> dict[str, float]:
    """Add up the seconds that each function took itself, without those that it called."""
    found: dict[str, float] = {}
    for one in filter(None, stats):
        for (file, _, function), (_, _, own, _, _) in one.stats.items():  # type: ignore[attr-defined]
            label = f"{Path(file).name} {function}".replace("|", "/")
            found[label] = found.get(label, 0.0) + own
    return found


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("profile", __doc__)
    parser.add_argument("--dataset", required=True, help="folder that `prepare` wrote")
    return parser


if __name__ == "__main__":
    main()
