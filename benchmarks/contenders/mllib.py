"""Spark MLlib's ALS, with the session settings of this project."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.recommendation import ALS, ALSModel
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from benchmarks.contenders.child import MARGIN, Clock, Job, run
from recsys.session import spark_session


def als(job: Job, clock: Clock) -> None:
    """Count each pair, fit, save."""
    spark = _session(clock)
    with clock.phase("pack"):
        pairs = _purchases(spark, job).groupBy("customer", "item").count().persist()
        pairs.count()
    with clock.phase("fit"):
        model = implicit_als(job.factors, job.iterations, job.seed).fit(pairs)
    with clock.phase("save"):
        model.write().save(f"{job.work}/model")


def score(job: Job, clock: Clock) -> None:
    """Take k + MARGIN items, remove the bought ones, keep k, write Parquet."""
    spark = _session(clock)
    model = _model(spark, job)
    best = Window.partitionBy("customer").orderBy(F.desc("score"), "item")
    with clock.phase("score"):
        found = _exploded(model.recommendForAllUsers(job.k + MARGIN))
        bought = _purchases(spark, job).distinct()
        unseen = found.join(bought, ["customer", "item"], "left_anti")
        ranked = unseen.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= job.k)
        ranked.write.parquet(f"{job.work}/recommendations")
    given = spark.read.parquet(f"{job.work}/recommendations").groupBy("customer").count()
    full = given.where(F.col("count") == job.k).count()
    clock.facts["customers_with_fewer_than_k"] = job.customers - full


def score_with_bought(job: Job, clock: Clock) -> None:
    """Take k items, bought or not: its best case."""
    spark = _session(clock)
    model = _model(spark, job)
    with clock.phase("score"):
        found = _exploded(model.recommendForAllUsers(job.k))
        found.write.parquet(f"{job.work}/recommendations")


def implicit_als(
    factors: int, iterations: int, seed: int, regularization: float = 0.1, alpha: float = 1.0
) -> ALS:
    """Return MLlib's ALS for columns customer, item, count; the defaults are MLlib's own."""
    return ALS(
        rank=factors,
        maxIter=iterations,
        regParam=regularization,
        alpha=alpha,
        implicitPrefs=True,
        userCol="customer",
        itemCol="item",
        ratingCol="count",
        seed=seed,
    )


def _purchases(spark: SparkSession, job: Job) -> DataFrame:
    """Read who bought what."""
    found = spark.read.parquet(*job.tables).where(F.col("customer").isNotNull())
    return found.select(F.col("customer").cast("int"), F.col("item").cast("int"))


def _exploded(lists: DataFrame) -> DataFrame:
    """Turn lists into rows."""
    rows = lists.select("customer", F.explode("recommendations").alias("found"))
    return rows.select("customer", "found.item", F.col("found.rating").alias("score"))


def _model(spark: SparkSession, job: Job) -> ALSModel:
    """Make MLlib's model of our own factors, held in memory as its fit leaves them."""
    java_als = spark._jvm.org.apache.spark.ml.recommendation  # type: ignore[union-attr]
    frames = [_factors(spark, job, side)._jdf for side in ("customer", "item")]
    model = java_als.ALSModel("benchmark", job.factors, *frames)
    return ALSModel(model.setUserCol("customer").setItemCol("item"))


def _factors(spark: SparkSession, job: Job, side: str) -> DataFrame:
    """Read one side's factors as MLlib keeps them: id, features."""
    factors = np.load(Path(job.fitted) / f"{side}_factors.npy", mmap_mode="r")
    folder = Path(job.work) / f"{side}_factors"
    folder.mkdir()
    size = -(-len(factors) // 8)
    for start in range(0, len(factors), size):
        part = np.ascontiguousarray(factors[start : start + size])
        offsets = np.arange(0, part.size + 1, part.shape[1], dtype=np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(part.ravel()))
        ids = np.arange(start, start + len(part), dtype=np.int32)
        table = pa.table({"id": ids, "features": lists})
        pq.write_table(table, folder / f"part-{start}.parquet")
    frame = spark.read.parquet(str(folder)).persist()
    frame.count()
    return frame


def _session(clock: Clock) -> SparkSession:
    """Start Spark, and fit a few pairs so that its classes are loaded."""
    spark = spark_session("benchmark MLlib")
    pairs = spark.range(4_000).select(
        (F.col("id") % 200).cast("int").alias("customer"),
        (F.col("id") % 37).cast("int").alias("item"),
    )
    model = implicit_als(4, 2, 1).fit(pairs.groupBy("customer", "item").count())
    model.recommendForAllUsers(5).count()
    blas = spark._jvm.dev.ludovic.netlib.blas.BLAS  # type: ignore[union-attr]
    clock.facts["blas"] = blas.getInstance().getClass().getSimpleName()
    return spark


if __name__ == "__main__":
    run({f.__name__: f for f in (als, score, score_with_bought)})
