"""Ours: fits on packed blocks and scores with the batch run's own tasks."""

import importlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

from benchmarks.contenders.child import Clock, Job, run
from recsys import campaign
from recsys.batch import Batch, BlockScored, score_block
from recsys.data.dataset import History, load_dataset
from recsys.data.packing import Target, pack_tables
from recsys.models import files
from recsys.models.als import Als, AlsParameters
from recsys.models.item_item import ItemItem, ItemItemParameters
from recsys.scoring import plan_scoring
from recsys.session import run_tasks, spark_session
from recsys.strategy import Strategy


def als(job: Job, clock: Clock) -> None:
    """Fit ALS and save the model."""
    spark = _session()
    history = _packed(spark, job, clock)
    fitted = Path(job.fitted)
    fitted.mkdir(parents=True)
    parameters = _als_parameters(job)
    with clock.phase("fit"):
        Als(parameters).fit(spark, history, fitted)
    header = files.Header(
        Als.name, parameters, "benchmark", history.before, history.customers, history.items
    )
    trend = np.ones(history.items, dtype=np.float32)
    with clock.phase("save"):
        files.save(fitted, header, history, trend, Path(job.work) / "model")


def item_item(job: Job, clock: Clock) -> None:
    """Find every item's neighbours."""
    spark = _session()
    history = _packed(spark, job, clock)
    parameters = ItemItemParameters(
        similarity="cosine", neighbours=job.neighbours, half_life_days=None
    )
    fitted = Path(job.work) / "fitted"
    fitted.mkdir()
    with clock.phase("fit"):
        ItemItem(parameters).fit(spark, history, fitted)


def score(job: Job, clock: Clock, trend_power: float = 0.0) -> None:
    """Rank every customer, bought items excluded, and write Parquet as `batch_score` does."""
    spark = _session()
    history = load_dataset(job.dataset).test.history
    parameters = _als_parameters(job, trend_power)
    work = Path(job.work)
    with clock.phase("plan"):
        plan = plan_scoring(
            spark,
            Als.name,
            parameters,
            Path(job.fitted),
            history.customers,
            history,
            work / "terms",
        )
        # As the peers do: new items for everyone, by the model alone, without reasons.
        strategy = Strategy(name="benchmark", k=job.k, because=0)
        rules = campaign.compiled(strategy, None, history, None, work / "campaign")
    work.joinpath("output").mkdir()
    plan = replace(plan, campaign=rules)
    output = str(work / "output")
    batch = Batch(plan, output, "run", strategy, "benchmark", 1, datetime.now(UTC))
    numbers = history.customer_blocks.covering(history.customers)
    with clock.phase("score"):
        blocks: list[BlockScored] = run_tasks(spark, partial(score_block, batch), numbers)
    clock.facts["customers_with_fewer_than_k"] = sum(b.counts["short"] for b in blocks)


def score_with_trend(job: Job, clock: Clock) -> None:
    """Rank with the trend prior that the project's ALS has by default."""
    score(job, clock, AlsParameters().trend_power)


def _als_parameters(job: Job, trend_power: float = 0.0) -> AlsParameters:
    """Return what the peers do too: every purchase weighs alike, nothing but the factors scores."""
    return AlsParameters(
        factors=job.factors,
        iterations=job.iterations,
        seed=job.seed,
        half_life_days=None,
        trend_power=trend_power,
    )


def _packed(spark: SparkSession, job: Job, clock: Clock) -> History:
    """Pack the history before the test cut anew, as `prepare` does once for all fits."""
    history = load_dataset(job.dataset).test.history
    tables = tuple(Path(table) for table in job.tables)
    by_customer, by_item = history.customer_blocks, history.item_blocks
    targets = (
        Target("customers", tables, by_customer.rows, by_customer.size),
        Target("items", tables, by_item.rows, by_item.size, by_item=True),
    )
    with clock.phase("pack"):
        blocks = pack_tables(spark, targets, Path(job.work) / "blocks")
    return replace(history, customer_blocks=blocks["customers"], item_blocks=blocks["items"])


def _session() -> SparkSession:
    """Start Spark and its Python workers."""
    spark = spark_session("benchmark ours")
    run_tasks(spark, _warm, range(4 * spark.sparkContext.defaultParallelism))
    return spark


def _warm(number: int) -> int:
    """Import in a worker what all tasks use."""
    kernels = ("recsys.kernels.als_rows", "recsys.kernels.similarity_rows")
    # Arrow imports pandas when it first hands an array to NumPy.
    for module in ("pandas", "recsys.batch", "recsys.data.packing", *kernels):
        importlib.import_module(module)
    return number


if __name__ == "__main__":
    run({f.__name__: f for f in (als, item_item, score, score_with_trend)})
