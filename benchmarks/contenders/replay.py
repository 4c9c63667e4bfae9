"""RePlay (`replay-rec`), in an environment of its own, with the session settings of this project.

Imports nothing that its environment lacks.
"""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from replay.data import (  # type: ignore[import-not-found]
    Dataset,
    FeatureHint,
    FeatureInfo,
    FeatureSchema,
    FeatureType,
)
from replay.models import ALSWrap, ItemKNN  # type: ignore[import-not-found]

from benchmarks.contenders.child import Clock, Job, run
from recsys.session import spark_session

SCHEMA = FeatureSchema(
    [
        FeatureInfo("user_id", FeatureType.CATEGORICAL, FeatureHint.QUERY_ID),
        FeatureInfo("item_id", FeatureType.CATEGORICAL, FeatureHint.ITEM_ID),
        FeatureInfo("count", FeatureType.NUMERICAL, FeatureHint.RATING),
    ]
)


def als(job: Job, clock: Clock) -> None:
    """Count each pair, fit, save."""
    spark = _session()
    with clock.phase("pack"):
        dataset = _dataset(spark, job)
    model = _als(job)
    with clock.phase("fit"):
        model.fit(dataset)
    with clock.phase("save"):
        for name, frame in (("user", model.model.userFactors), ("item", model.model.itemFactors)):
            frame.write.parquet(f"{job.work}/{name}_factors")


def item_item(job: Job, clock: Clock) -> None:
    """Count each pair, find every item's neighbours."""
    spark = _session()
    with clock.phase("pack"):
        dataset = _dataset(spark, job)
    model = ItemKNN(num_neighbours=job.neighbours)
    with clock.phase("fit"):
        model.fit(dataset)
        model.similarity.count()


def score(job: Job, clock: Clock) -> None:
    """Rank every customer with its own factors, bought items excluded, to Parquet."""
    dataset = _dataset(_session(), job)
    model = _als(job)
    model.fit(dataset)
    with clock.phase("score"):
        found = model.predict(dataset, k=job.k, filter_seen_items=True)
        found.write.parquet(f"{job.work}/recommendations")


def _als(job: Job) -> ALSWrap:
    """Make the model; it does not expose iterations, and MLlib's default is 10."""
    return ALSWrap(rank=job.factors, implicit_prefs=True, seed=job.seed)


def _dataset(spark: SparkSession, job: Job) -> Dataset:
    """Count who bought what; ids are numbers from 0 already."""
    found = spark.read.parquet(*job.tables).where(F.col("customer").isNotNull())
    # RePlay joins by columns of its own that are called `item` and `query`.
    pairs = found.select(
        F.col("customer").cast("int").alias("user_id"), F.col("item").cast("int").alias("item_id")
    )
    counted = pairs.groupBy("user_id", "item_id").agg(F.count("*").cast("double").alias("count"))
    counted.persist().count()
    return Dataset(
        feature_schema=SCHEMA,
        interactions=counted,
        categorical_encoded=True,
        check_consistency=False,
    )


def _session() -> SparkSession:
    """Start Spark and its first tasks."""
    spark = spark_session("benchmark RePlay")
    spark.range(4_000).groupBy((F.col("id") % 37).alias("item")).count().collect()
    return spark


if __name__ == "__main__":
    run({f.__name__: f for f in (als, item_item, score)})
