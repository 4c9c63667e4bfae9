"""From raw transactions to interactions: judge every row, keep what is sound, count the rest."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.data.faults import explained
from recsys.data.ingest_report import IngestReport, check_limits, report_of
from recsys.data.mapping import Mapping
from recsys.data.replace import lies_in, replaced
from recsys.data.rules import (
    item_columns,
    judge_rows,
    merge,
    normalise,
    refuse_guest_returns,
    settle,
)
from recsys.data.source import LINE, SOURCE, Files, find_files, read_rows, reading
from recsys.errors import DataError, UsageError
from recsys.progress import stage
from recsys.storage import (
    Place,
    files_in,
    opened,
    place_of,
    remove_folder,
    spark_path,
    spark_source,
    write_file,
)

REPORT = "ingest.json"
WORK = "work"


def ingest(
    spark: SparkSession,
    source: str,
    output: str | Place,
    mapping: Mapping,
    now: datetime | None = None,
) -> IngestReport:
    """Turn a retailer's transactions into the tables interactions, items, customers and quarantine.

    Args:
        spark: a session in UTC, as `spark_session` makes it.
        source: a CSV, CSV.gz or Parquet file, a folder of such files, or a glob.
        output: folder to make; a former ingest there is replaced as a whole.
        mapping: what the source's columns and values mean.
        now: where the future begins; default: the present.

    Raises:
        UsageError: the source does not exist or lies in the output, or the output holds something
            else.
        DataError: the source cannot be used; nothing was written.
    """
    files, place = find_files(source, mapping), place_of(output)
    if any(lies_in(place_of(path), place) for path in files.paths):
        raise UsageError(
            f"{source} lies in {place}, which is replaced as a whole: choose another output."
        )
    now = now or datetime.now(UTC)
    names = [path.rpartition("/")[2] for path in files.paths]
    with explained(), replaced(place, REPORT) as folder:
        with stage(f"judge {len(names)} file(s)"), reading(spark, files):
            rows = judge_rows(normalised(spark, files, mapping), mapping, now)
            once = kept(rows, folder / WORK / "rows")
        return write_tables(once, folder, source, names, mapping, now)


def normalised(spark: SparkSession, files: Files, mapping: Mapping) -> DataFrame:
    """Read files, each row with the typed columns of an interaction; see `normalise`.

    Raises:
        DataError: the mapping names a column that the files do not have.
    """
    binding = mapping.bind(files.columns, files.name)
    return normalise(_spread(read_rows(spark, files, mapping), files), binding, mapping)


def write_tables(
    once: DataFrame,
    folder: Place,
    source: str,
    names: Sequence[str],
    mapping: Mapping,
    now: datetime,
    newest: Collection[str] | None = None,
) -> IngestReport:
    """Settle rows that were judged one by one, count them, check the limits, write the tables.

    Args:
        once: what `judge_rows` returned, as `kept` in `folder`'s work folder.
        folder: to write into; the work folder in it is removed at the end.
        source: the source as the user gave it.
        names: of its files.
        mapping: its limits stop the ingest.
        now: where the future begins.
        newest: URIs of the files that a broken limit may be due to; None for all.

    Raises:
        DataError: the rows cannot be used as they are.
    """
    work = folder / WORK
    with stage("settle duplicates and returns"):
        once = refuse_guest_returns(once)
        judged = merge(once, kept(settle(once), work / "settled"))
    with stage("count"):
        report = report_of(judged, source, mapping, names)
        check_limits(report, judged, mapping, now, newest)
    with stage("write the tables"):
        _write(judged, folder, mapping)
        _check_sum(folder, report)
    remove_folder(work)
    write_file(folder / REPORT, (report.model_dump_json(indent=2) + "\n").encode())
    return report


def accepted(judged: DataFrame) -> DataFrame:
    """Keep the rows without a reason, as interactions."""
    return judged.where(F.size(c.REASONS) == 0).select(*c.INTERACTIONS)


def quarantined(judged: DataFrame) -> DataFrame:
    """Keep the rows with a reason, as they were read.

    A malformed row cannot be assigned to columns, so its whole line stands in the first one.
    """
    names = judged.select(f"{SOURCE}.*").columns
    fields = [
        F.when(F.col(LINE).isNotNull(), F.col(LINE) if i == 0 else F.lit(None))
        .otherwise(F.col(SOURCE)[name])
        .alias(name)
        for i, name in enumerate(names)
    ]
    return judged.where(F.size(c.REASONS) > 0).select(*fields, c.REASONS)


def items(judged: DataFrame, mapping: Mapping) -> DataFrame:
    """Describe each accepted item by its most frequent values; the smallest where several are."""
    modes = [F.mode(name, deterministic=True).alias(name) for name in item_columns(mapping)]
    return judged.where(F.size(c.REASONS) == 0).groupBy(c.ITEM_ID).agg(*modes)


def customers(judged: DataFrame, mapping: Mapping) -> DataFrame:
    """Describe each customer of accepted rows like `items`."""
    modes = [F.mode(name, deterministic=True).alias(name) for name in mapping.customer_columns]
    known = judged.where((F.size(c.REASONS) == 0) & F.col(c.CUSTOMER_ID).isNotNull())
    if not modes:
        return known.select(c.CUSTOMER_ID).distinct()
    return known.groupBy(c.CUSTOMER_ID).agg(*modes)


def _write(judged: DataFrame, folder: Place, mapping: Mapping) -> None:
    """Write the tables, sorted so that a rerun's files are alike."""
    order = (c.TIMESTAMP, c.BASKET_ID, c.ITEM_ID, c.CUSTOMER_ID, c.QUANTITY, c.UNIT_PRICE)
    accepted(judged).sortWithinPartitions(*order).write.parquet(spark_path(folder / "interactions"))
    described = items(judged, mapping).coalesce(1).sortWithinPartitions(c.ITEM_ID)
    described.write.parquet(spark_path(folder / "items"))
    people = customers(judged, mapping).coalesce(1).sortWithinPartitions(c.CUSTOMER_ID)
    people.write.parquet(spark_path(folder / "customers"))
    refused = quarantined(judged)
    refused.sortWithinPartitions(*refused.columns).write.parquet(spark_path(folder / "quarantine"))


def _check_sum(folder: Place, report: IngestReport) -> None:
    """Count the written tables again: in = accepted + quarantined, exactly."""
    kept, refused = (_rows_in(folder / n) for n in ("interactions", "quarantine"))
    if (kept, refused) != (report.rows_accepted, report.rows_quarantined):
        raise DataError(
            f"{report.rows_in} rows were read but {kept} accepted and {refused} quarantined: "
            "this is a fault of the ingest; please report it with ingest.json."
        )


def _rows_in(table: Place) -> int:
    """Count the rows that the files of a table say they hold."""
    rows = 0
    for file in files_in(table, ".parquet"):
        with opened(file) as source, pq.ParquetFile(source) as parquet:
            rows += int(parquet.metadata.num_rows)
    return rows


def kept(rows: DataFrame, folder: Place) -> DataFrame:
    """Write an intermediate table, so that what follows does not compute it again."""
    rows.write.option("compression", "snappy").parquet(spark_path(folder))
    return rows.sparkSession.read.parquet(spark_source(folder))


def _spread(rows: DataFrame, files: Files) -> DataFrame:
    """Share out the rows of few files: a compressed file is read by one task."""
    tasks = 2 * rows.sparkSession.sparkContext.defaultParallelism
    return rows.repartition(tasks, SOURCE, LINE) if len(files.paths) < tasks else rows
