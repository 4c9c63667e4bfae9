"""Views of what `ingest` wrote."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from deploy.sql.flow import Flow
from recsys import columns as c
from recsys.data.replace import content_of
from recsys.data.tables import RetailTables, read_tables
from recsys.errors import DataError
from recsys.storage import exists, spark_source


def tables(spark: SparkSession, flow: Flow) -> RetailTables:
    """Open the retailer's tables; raises DataError where nothing was ingested."""
    if not exists(content_of(flow.interactions)):
        raise DataError(f"nothing was ingested into {flow.interactions} yet: run ingest.")
    return read_tables(spark, flow.interactions)


def interactions(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the accepted rows with their sales."""
    found = tables(spark, flow).interactions
    return found.withColumn("sales", F.col(c.QUANTITY) * F.col(c.UNIT_PRICE))


def items(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the catalogue."""
    return tables(spark, flow).items


def quarantine(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the rows that were refused; raises DataError where there is no such table."""
    tables(spark, flow)
    folder = content_of(flow.interactions) / "quarantine"
    if not exists(folder):
        raise DataError(f"{flow.interactions} has no table quarantine: run ingest.")
    return spark.read.parquet(spark_source(folder))
