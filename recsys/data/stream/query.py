"""The streaming query: Spark lists the landing folder and says which files are new."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from recsys.data.source import quiet
from recsys.data.stream.landing import Landing
from recsys.storage import Place, spark_path

FILES = "path string, modificationTime timestamp, length long, content binary"
# Spark passes over files that are older than this, by its own default than a week.
OLDEST = "36500d"


@contextmanager
def new_files(
    spark: SparkSession,
    landing: Landing,
    checkpoint: Place,
    most: int,
    take: Callable[[list[str]], None],
    seconds: int | None,
) -> Iterator[StreamingQuery]:
    """Run a query that hands on the names of new files, and stop it at the end.

    The contents are not read: of all that the source offers, only the path is asked for.

    Args:
        spark: the session.
        landing: folder to list.
        checkpoint: folder where Spark notes what it has listed.
        most: files in a micro-batch.
        take: called with the names of a micro-batch's files; if it raises, so does this.
        seconds: from one micro-batch to the next; None: what is there, and end.
    """
    errors: list[Exception] = []

    def micro_batch(rows: DataFrame, number: int) -> None:
        try:
            take([landing.name_of(row.path) for row in rows.distinct().collect()])
        except Exception as error:
            errors.append(error)
            raise

    options = {
        "maxFilesPerTrigger": str(most),
        "maxFileAge": OLDEST,
        "recursiveFileLookup": str(landing.deep).lower(),
        # A file may have been moved away since it was listed.
        "ignoreMissingFiles": "true",
    }
    files = spark.readStream.format("binaryFile").schema(FILES).options(**options)
    paths = files.load(spark_path(landing.folder)).select("path")
    writer = paths.writeStream.foreachBatch(micro_batch)
    writer = writer.option("checkpointLocation", spark_path(checkpoint))
    every = f"{seconds} seconds"
    writer = writer.trigger(processingTime=every) if seconds else writer.trigger(availableNow=True)
    with _quiet(spark):
        query = writer.start()
        try:
            yield query
        except StreamingQueryException:
            if not errors:
                raise
            raise errors[0] from None
        finally:
            query.stop()


@contextmanager
def _quiet(spark: SparkSession) -> Iterator[None]:
    """Keep stack traces off the terminal: every error reaches the caller as an exception."""
    log, level = logging.getLogger("py4j"), logging.getLogger("py4j").level
    log.setLevel(logging.CRITICAL)
    try:
        with quiet(spark):
            yield
    finally:
        log.setLevel(level)
