"""Turn a retailer's raw transactions into the tables interactions, items and quarantine."""

from typing import Literal

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from recsys.cli import run
from recsys.config import Config
from recsys.data.interactions import REPORT, IngestReport, ingest
from recsys.data.mapping import Mapping
from recsys.data.replace import content_of
from recsys.errors import UsageError
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import fetched, place_of
from recsys.tracking import step_run


class IngestConfig(Config):
    """What to ingest."""

    source: str = Field(description="CSV, CSV.gz or Parquet: a file, a folder, or a glob in quotes")
    output: str = Field(description="folder to write; a former ingest there is replaced")
    mapping: str = Field("online_retail", description="a preset's name, or a YAML file")
    mode: Literal["batch", "stream"] = Field("batch", description="batch: all files, once")


def run_ingest(config: IngestConfig, spark: SparkSession) -> IngestReport:
    """Ingest within an MLflow run that keeps the counts by reason and the report.

    Raises:
        UsageError: a wrong parameter.
        DataError: the source cannot be used; the former output still stands.
    """
    mapping = Mapping.load(config.mapping)
    if config.mode == "stream":
        raise UsageError("mode=stream is not available yet: use mode=batch.")
    with step_run("ingest", f"ingest {place_of(config.source).name}", config.model_dump()):
        report = ingest(spark, config.source, config.output, mapping)
        mlflow.log_metrics(_metrics(report))
        mlflow.set_tag("recsys.mapping_digest", report.mapping_digest)
        mlflow.log_artifact(str(fetched(content_of(config.output) / REPORT)))
    say(summary(report))
    return report


def summary(report: IngestReport) -> str:
    """Say what became of the rows, one line a reason."""
    share = 100 / report.rows_in
    lines = [
        f"{report.rows_in:>12,} rows in",
        f"{report.rows_accepted:>12,} accepted ({report.rows_accepted * share:.2f} %): "
        f"{report.customers:,} customers, {report.items:,} items, "
        f"{report.first:%Y-%m-%d} … {report.last:%Y-%m-%d}, guests {report.guest_share:.1%}",
        f"{report.rows_quarantined:>12,} quarantined ({report.rows_quarantined * share:.2f} %); "
        "a row may have several reasons:",
    ]
    by_count = sorted(report.reasons.items(), key=lambda pair: -pair[1])
    lines += [f"{n:>12,}   {reason:<24} {n * share:6.2f} %" for reason, n in by_count]
    lines += [f"  heavy customers: {report.heavy_customers:,}, {report.heavy_share:.1%} of rows"]
    return "\n".join([*lines, *(f"  warning: {text}" for text in report.warnings)])


def main(config: IngestConfig) -> None:
    """Ingest in a Spark session of its own."""
    run_ingest(config, spark_session("ingest", config.source, config.output))


def _metrics(report: IngestReport) -> dict[str, float]:
    """Name the counts as the run shows them."""
    names = (
        "rows_in", "rows_accepted", "rows_quarantined", "customers", "items", "guest_share",
        "units_netted", "heavy_customers", "heavy_share",
    )  # fmt: skip
    values = {name: float(getattr(report, name)) for name in names}
    return values | {f"quarantine/{reason}": n for reason, n in report.reasons.items()}


if __name__ == "__main__":
    run(main, IngestConfig, __doc__, "python -m experiments.ingest")
