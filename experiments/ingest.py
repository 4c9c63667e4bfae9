"""Turn a retailer's raw transactions into the tables interactions, items and quarantine."""

import time
from typing import Literal

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from recsys import drift
from recsys.cli import run
from recsys.config import Config
from recsys.data.dataset import DESCRIPTION_FILE, load_dataset
from recsys.data.ingest_report import IngestReport
from recsys.data.interactions import REPORT, ingest
from recsys.data.mapping import Mapping
from recsys.data.replace import content_of
from recsys.data.stream.following import Stream, follow
from recsys.data.stream.options import StreamOptions
from recsys.data.stream.publishing import STREAM
from recsys.data.stream.state import NOT_TAKEN, State
from recsys.data.stream.verdicts import Patience
from recsys.data.tables import read_tables
from recsys.errors import DataError, UsageError
from recsys.progress import say
from recsys.session import spark_session
from recsys.storage import beside, exists, fetched, place_of
from recsys.tracking import step_run

# Refused files whose reasons the last line of a run tells; stream.json has all.
SHOWN = 5


class IngestConfig(Config):
    """What to ingest."""

    source: str = Field(description="CSV, CSV.gz or Parquet: a file, a folder, or a glob in quotes")
    output: str = Field(description="folder to write; a former ingest there is replaced")
    mapping: str = Field("online_retail", description="a preset's name, or a YAML file")
    mode: Literal["batch", "stream"] = Field(
        "batch", description="batch: all files, once; stream: each file of a folder, as it arrives"
    )
    dataset: str | None = Field(
        None,
        description="folder that prepare wrote, to tell what has moved since; none: `dataset` "
        "beside the output, where there is one",
    )
    trigger: str | None = Field(
        None, description="stream: go on, with a micro-batch every '1 minute'; none: take and end"
    )
    state: str | None = Field(
        None, description="stream: folder of what was taken; none: OUTPUT.stream"
    )
    max_files: int = Field(1000, ge=1, description="stream: files in a micro-batch")
    quiet_seconds: float = Field(
        5, ge=0, description="stream: a file that changed since is still being written"
    )
    patience_seconds: float = Field(
        3600, ge=0, description="stream: a file without a proper end is waited for so long"
    )

    @property
    def stream(self) -> StreamOptions:
        """How a landing folder is followed."""
        patience = Patience(self.quiet_seconds, self.patience_seconds)
        return StreamOptions(self.trigger, self.state, self.max_files, patience)


def run_ingest(config: IngestConfig, spark: SparkSession) -> IngestReport:
    """Ingest within an MLflow run that keeps the counts by reason and the report.

    Raises:
        UsageError: a wrong parameter.
        DataError: the source cannot be used; the former output still stands.
    """
    mapping = Mapping.load(config.mapping)
    if config.trigger is not None:
        raise UsageError("trigger is for mode=stream: add that, or leave the trigger out.")
    with step_run("ingest", f"ingest {place_of(config.source).name}", config.model_dump()):
        report = ingest(spark, config.source, config.output, mapping)
        _log(report, config)
        _show_drift(config, spark)
    say(summary(report))
    return report


def run_stream(config: IngestConfig, spark: SparkSession) -> Stream:
    """Follow a landing folder within an MLflow run, whose metrics go by publication.

    Raises:
        UsageError: a wrong parameter.
        DataError: the rows cannot be used as they are; the former output still stands.
    """
    mapping, options = Mapping.load(config.mapping), config.stream
    name = f"ingest {place_of(config.source).name}"
    with step_run("ingest", name, config.model_dump()) as run:
        started = time.monotonic()

        def told(stream: Stream) -> None:
            # By id: a micro-batch runs in a thread that knows of no open run.
            metrics = _metrics(stream.tables) if stream.tables else {}
            metrics |= _file_metrics(stream.state) | {"seconds": time.monotonic() - started}
            mlflow.log_metrics(metrics, step=stream.state.number, run_id=run.info.run_id)

        stream = follow(spark, config.source, config.output, mapping, options, told)
        if stream.tables is not None:
            _log(stream.tables, config, STREAM)
            _show_drift(config, spark)
    say(summary(stream.tables) if stream.tables else "nothing is published yet")
    return stream


def left_out(stream: Stream) -> list[str]:
    """Say of each file that was refused why, one line a file."""
    refused = stream.state.with_verdict("refused")
    return [f"{name}: {known.reason}" for name, known in refused.items()]


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
    """Ingest in a Spark session of its own.

    Raises:
        DataError: a stream without a trigger refused files; the tables hold all others.
    """
    if config.mode == "batch":
        run_ingest(config, spark_session("ingest", config.source, config.output))
        return
    places = (config.source, config.output, config.state)
    refused = left_out(run_stream(config, spark_session("ingest", *places)))
    if refused and config.trigger is None:
        raise DataError(
            f"{len(refused)} file(s) of {config.source} were refused, all others were taken; mend "
            f"or remove them, then run again. {'. '.join(refused[:SHOWN])}."
        )


def _log(report: IngestReport, config: IngestConfig, *more: str) -> None:
    """Log the counts and the reports of the tables."""
    mlflow.log_metrics(_metrics(report))
    mlflow.set_tag("recsys.mapping_digest", report.mapping_digest)
    for name in (REPORT, *more):
        mlflow.log_artifact(str(fetched(content_of(config.output) / name)))


def _file_metrics(state: State) -> dict[str, float]:
    """Count the files by what became of them."""
    counts = {verdict: float(len(state.with_verdict(verdict))) for verdict in NOT_TAKEN}
    return {"files/taken": float(len(state.taken))} | {f"files/{n}": v for n, v in counts.items()}


def _show_drift(config: IngestConfig, spark: SparkSession) -> None:
    """Compare what came since the last dataset with what a fit saw in it.

    Raises:
        DataError: the dataset that was asked for is none.
    """
    asked = config.dataset is not None
    place = place_of(config.dataset or "") if asked else beside(place_of(config.output), "dataset")
    if not asked and not exists(content_of(place) / DESCRIPTION_FILE):
        return
    try:
        dataset = load_dataset(place)
    except DataError as error:
        # The tables are good whatever lies beside them.
        if asked:
            raise
        say(f"  drift is not known: {error}")
        return
    interactions = read_tables(spark, config.output).interactions
    moved = drift.drift_since(interactions, dataset.facts["end_day"], dataset.rows)
    if moved is not None:
        drift.show(moved)


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
