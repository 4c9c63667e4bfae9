"""The digest of a dataset: the same content gives the same digest, however it is partitioned."""

import hashlib
import json
from collections.abc import Iterable
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys.errors import DataError
from recsys.storage import Place, digests_in, spark_source


def dataset_digest(
    spark: SparkSession, folder: Place, tables: Iterable[str], parameters: dict[str, Any]
) -> str:
    """Digest the tables of a dataset folder together with the parameters that cut them.

    Rows are hashed one by one and the hashes added up, which does not depend on their order;
    two differently salted 64-bit sums and the row count make a table's part.

    Args:
        spark: the session.
        folder: the dataset's folder.
        tables: names of its tables.
        parameters: what else the digest covers.

    Returns:
        64 hexadecimal digits.
    """
    columns: dict[str, list[str]] = {}
    hashes = []
    for name in tables:
        table = spark.read.parquet(spark_source(folder / name))
        columns[name] = sorted(table.columns)
        # A null is hashed as such: xxhash64 alone skips it, and (a, null) would equal (null, a).
        values = [v for column in columns[name] for v in (F.col(column), F.isnull(column))]
        salted = (
            F.xxhash64(F.lit(salt), *values).cast("decimal(38,0)").alias(salt) for salt in "ab"
        )
        hashes.append(table.select(F.lit(name).alias("name"), *salted))
    sums = (
        reduce(DataFrame.unionByName, hashes)
        .groupBy("name")
        .agg(F.count("*").alias("rows"), F.sum("a").alias("a"), F.sum("b").alias("b"))
    )
    parts = {
        "parameters": parameters,
        "columns": columns,
        "sums": sorted(
            [row["name"], row["rows"], str(row["a"]), str(row["b"])] for row in sums.collect()
        ),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def folder_digest(folder: Place) -> str:
    """Digest the content of all files below a folder, in no order and whatever their names.

    In a cloud the versions that the storage gave the files stand for their content.

    Raises:
        DataError: there is no such folder, or it holds nothing.
    """
    found = digests_in(folder)
    if not found:
        raise DataError(f"There is nothing in {folder}: give the folder that `ingest` wrote.")
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()
