"""From raw transactions to interactions: judge every row, keep what is sound, count the rest."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.config import Config
from recsys.data.mapping import Mapping
from recsys.data.reasons import Reason
from recsys.data.replace import replaced
from recsys.data.rules import (
    NETTED,
    item_columns,
    judge_rows,
    merge,
    normalise,
    refuse_guest_returns,
    settle,
)
from recsys.data.source import LINE, SOURCE, Files, find_files, read_rows, reading
from recsys.errors import DataError
from recsys.progress import stage
from recsys.storage import (
    Place,
    files_in,
    opened,
    place_of,
    remove_folder,
    spark_path,
    write_file,
)

REPORT = "ingest.json"


class IngestReport(Config):
    """What became of a source's rows; stands in the output as ingest.json."""

    source: str
    files: tuple[str, ...]
    mapping_version: int
    mapping_digest: str
    rows_in: int
    rows_accepted: int
    rows_quarantined: int
    reasons: dict[Reason, int]  # a row may have several
    customers: int
    items: int
    guest_share: float  # of accepted rows
    first: datetime
    last: datetime
    units_netted: float
    heavy_customers: int
    heavy_share: float  # of accepted rows
    warnings: tuple[str, ...]


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
        UsageError: the source does not exist, or the output holds something else.
        DataError: the source cannot be used; nothing was written.
    """
    files = find_files(source, mapping)
    binding = mapping.bind(files.columns, source)
    now = now or datetime.now(UTC)
    with replaced(place_of(output), REPORT) as folder:
        work = folder / "work"
        with stage(f"judge {len(files.paths)} file(s)"), reading(spark, files):
            rows = normalise(_spread(read_rows(spark, files, mapping), files), binding, mapping)
            once = _kept(judge_rows(rows, mapping, now), work / "rows")
        with stage("settle duplicates and returns"):
            once = refuse_guest_returns(once)
            judged = merge(once, _kept(settle(once), work / "settled"))
        with stage("count"):
            report = _report(judged, source, mapping, [p.rpartition("/")[2] for p in files.paths])
            _check(report, mapping, now)
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


def _report(judged: DataFrame, source: str, mapping: Mapping, files: list[str]) -> IngestReport:
    """Count what was judged."""
    rows, buyers = _count_rows(judged), _count_customers(judged, mapping)
    rows_in, kept = rows["rows"], rows["accepted"]
    reasons = {reason: rows[reason] for reason in Reason if rows[reason]}
    if rows_in == 0:
        raise DataError(f"{source} has a header but no rows: give files with transactions.")
    if kept == 0:
        worst = max(reasons, key=lambda reason: reasons[reason])
        raise DataError(
            f"all {rows_in:,} rows of {source} would be quarantined, most as {worst}: "
            "check that the mapping fits this source."
        )
    return IngestReport(
        source=source,
        files=tuple(files),
        mapping_version=mapping.version,
        mapping_digest=mapping.digest,
        rows_in=rows_in,
        rows_accepted=kept,
        rows_quarantined=rows_in - kept,
        reasons=reasons,
        customers=buyers["customers"],
        items=rows["items"],
        guest_share=rows["guests"] / kept,
        first=datetime.fromisoformat(rows["first"]).replace(tzinfo=UTC),
        last=datetime.fromisoformat(rows["last"]).replace(tzinfo=UTC),
        units_netted=rows["netted"],
        heavy_customers=buyers["heavy"],
        heavy_share=buyers["heavy_rows"] / kept,
        warnings=tuple(
            f"{reason}: {count:,} rows, {count / rows_in:.1%} of all"
            for reason, count in reasons.items()
            if count / rows_in > mapping.warn_share
        ),
    )


def _count_rows(judged: DataFrame) -> dict[str, Any]:
    """Count rows and reasons, all in one pass."""
    sound = F.size(c.REASONS) == 0
    counts = judged.agg(
        F.count("*").alias("rows"),
        F.count_if(sound).alias("accepted"),
        F.count_if(sound & F.col(c.CUSTOMER_ID).isNull()).alias("guests"),
        F.count_distinct(F.when(sound, F.col(c.ITEM_ID))).alias("items"),
        # As text: a driver in another time zone must not shift them.
        F.min(F.when(sound, F.col(c.TIMESTAMP))).cast("string").alias("first"),
        F.max(F.when(sound, F.col(c.TIMESTAMP))).cast("string").alias("last"),
        F.sum(NETTED).alias("netted"),
        *[F.count_if(F.array_contains(c.REASONS, str(r))).alias(r) for r in Reason],
    )
    return counts.collect()[0].asDict()


def _count_customers(judged: DataFrame, mapping: Mapping) -> dict[str, Any]:
    """Count customers, and the rows of those who buy more than a household does."""
    sound = judged.where((F.size(c.REASONS) == 0) & F.col(c.CUSTOMER_ID).isNotNull())
    heavy = F.col("count") > mapping.heavy_customer_rows
    counts = (
        sound.groupBy(c.CUSTOMER_ID)
        .count()
        .agg(
            F.count("*").alias("customers"),
            F.count_if(heavy).alias("heavy"),
            F.coalesce(F.sum(F.when(heavy, F.col("count"))), F.lit(0)).alias("heavy_rows"),
        )
    )
    return counts.collect()[0].asDict()


def _check(report: IngestReport, mapping: Mapping, now: datetime) -> None:
    """Stop where a rule hits too many rows, or the data is old."""
    for reason, count in report.reasons.items():
        share, limit = count / report.rows_in, mapping.limit(reason)
        if share > limit:
            raise DataError(
                f"{count:,} of {report.rows_in:,} rows ({share:.1%}) are {reason}, more than the "
                f"limit of {limit:.1%}: mend the source, or raise fail_share_of.{reason} (or "
                "fail_share) in the mapping."
            )
    age = mapping.stale_after_days
    if age is not None and report.last < now - timedelta(days=age):
        raise DataError(
            f"the last sale is of {report.last:%Y-%m-%d}, more than {age} days ago: fetch newer "
            "data, or raise stale_after_days in the mapping."
        )


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


def _kept(rows: DataFrame, folder: Place) -> DataFrame:
    """Write an intermediate table, so that what follows does not compute it again."""
    rows.write.option("compression", "snappy").parquet(spark_path(folder))
    return rows.sparkSession.read.parquet(spark_path(folder))


def _spread(rows: DataFrame, files: Files) -> DataFrame:
    """Share out the rows of few files: a compressed file is read by one task."""
    tasks = 2 * rows.sparkSession.sparkContext.defaultParallelism
    return rows.repartition(tasks, SOURCE, LINE) if len(files.paths) < tasks else rows
