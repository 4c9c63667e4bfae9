"""What became of a source's rows: the counts of an ingest, and the limits they must keep."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from recsys import columns as c
from recsys.config import Config
from recsys.data.mapping import Mapping
from recsys.data.reasons import Reason
from recsys.data.rules import NETTED
from recsys.data.source import FILE
from recsys.errors import DataError


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


def report_of(
    judged: DataFrame, source: str, mapping: Mapping, files: Sequence[str]
) -> IngestReport:
    """Count what was judged.

    Raises:
        DataError: there are no rows, or none that can be used.
    """
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


def check_limits(
    report: IngestReport,
    judged: DataFrame,
    mapping: Mapping,
    now: datetime,
    newest: Collection[str] | None,
) -> None:
    """Stop where a rule hits too many rows, or the data is old.

    Args:
        report: the counts.
        judged: the counted rows.
        mapping: has the limits.
        now: the present.
        newest: URIs of the files that a broken limit may be due to; None for all.

    Raises:
        DataError: a limit is broken; names the file that has the most such rows.
    """
    for reason, count in report.reasons.items():
        share, limit = count / report.rows_in, mapping.limit(reason)
        if share > limit:
            raise DataError(
                f"{count:,} of {report.rows_in:,} rows ({share:.1%}) are {reason}, more than the "
                f"limit of {limit:.1%}: mend the source, or raise fail_share_of.{reason} (or "
                f"fail_share) in the mapping.{_worst_file(judged, reason, newest)}"
            )
    age = mapping.stale_after_days
    if age is not None and report.last < now - timedelta(days=age):
        raise DataError(
            f"the last sale is of {report.last:%Y-%m-%d}, more than {age} days ago: fetch newer "
            "data, or raise stale_after_days in the mapping."
        )


def _worst_file(judged: DataFrame, reason: Reason, newest: Collection[str] | None) -> str:
    """Say which of the newest files has the most rows with a reason."""
    hit = judged.where(F.array_contains(c.REASONS, str(reason)))
    if newest is not None:
        hit = hit.where(F.col(FILE).isin(*newest))
    worst = hit.groupBy(FILE).count().orderBy(F.desc("count"), FILE).head()
    if worst is None:
        return ""
    name = unquote(worst[FILE]).rpartition("/")[2]
    return f" Most of them stand in {name} ({worst['count']:,})."
