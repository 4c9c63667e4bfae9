"""Recommend to every customer with the model that holds a stage, and publish the table.

The stage is resolved to one version once, its files are checked against the digest taken when it
was registered, trend and purchases are refreshed from the newest interactions, and readers see
the new table only after its commit.

  python -m deploy.batch_score --interactions out/ingested --output out/recommendations
"""

import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from deploy.publish import publish
from recsys import cli, tracking
from recsys.batch import Batch, BlockScored, score_block
from recsys.config import Config
from recsys.data.history import NewestHistory, pack_newest
from recsys.data.tables import read_tables
from recsys.errors import DataError, PublishError
from recsys.models import files
from recsys.progress import say, stage
from recsys.scoring import Plan, check_k, plan_scoring
from recsys.session import run_tasks, spark_session
from recsys.strategy import Strategy, load_strategy
from registry.releases import Release, holder_of, verified_model

STRATEGIES = Path(__file__).parent / "strategies"


class BatchScoreConfig(Config):
    """Parameters of `batch_score`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: str = Field("Production", description="stage or alias whose holder scores")
    interactions: str = Field(description="folder that ingest wrote; the newest interactions")
    strategy: str = Field(
        "next_best_products", description="name in deploy/strategies, or path of a YAML file"
    )
    k: int | None = Field(None, ge=1, description="items a customer; none: what the strategy says")
    output: str = Field(description="folder to publish to")


@dataclass(frozen=True)
class Scored:
    """What a batch run published.

    Attributes:
        output: the published folder.
        commit: number of its commit.
        release: the version that scored.
        customers: customers in the audience.
        rows: recommendations.
        short: customers who got fewer than k items.
    """

    output: Path
    commit: int
    release: Release
    customers: int
    rows: int
    short: int


def run_batch_score(config: BatchScoreConfig, spark: SparkSession) -> Scored:
    """Score every customer of the interactions and publish.

    Raises:
        UsageError: unknown strategy, a stage that nobody holds, k above the catalogue.
        ModelError: the model was altered, or belongs to other data.
        PublishError: the table was not published; the previous one still stands.
    """
    strategy = load_strategy(config.strategy, STRATEGIES)
    k = config.k or strategy.k
    parameters = config.model_dump() | {"k": k}
    with tracking.step_run("batch_score", "batch_score", parameters), stage("batch_score"):
        release = holder_of(config.model_name, config.stage)
        say(f"  {config.stage} is version {release.version} of {release.name}")
        with tempfile.TemporaryDirectory(prefix="recsys-batch-") as scratch:
            plan, newest = _plan(config, k, release, Path(scratch), spark)
            scored = _score_and_publish(
                spark, Path(config.output), plan, newest, strategy, k, release
            )
        say(
            f"  {scored.rows:,} recommendations for {scored.customers:,} customers, "
            f"commit {scored.commit} in {config.output}"
        )
        return scored


def _plan(
    config: BatchScoreConfig, k: int, release: Release, scratch: Path, spark: SparkSession
) -> tuple[Plan, NewestHistory]:
    """Load the release, pack the newest interactions with its ids, refresh the trend."""
    with verified_model(release) as model:
        fitted = scratch / "fitted"
        header = files.load(model, fitted)
        check_k(k, header.items)
        newest = pack_newest(
            spark,
            read_tables(spark, config.interactions),
            model / files.ITEMS,
            model / files.CUSTOMERS,
            header.customers,
            scratch / "newest",
        )
    if newest.history.customers == 0:
        raise DataError("No interaction has a customer id, so there is nobody to recommend to.")
    plan = plan_scoring(
        spark,
        header.algorithm,
        header.parameters,
        fitted,
        header.customers,
        newest.history,
        scratch / "terms",
        newest.fit_rows,
    )
    return plan, newest


def _score_and_publish(
    spark: SparkSession,
    output: Path,
    plan: Plan,
    newest: NewestHistory,
    strategy: Strategy,
    k: int,
    release: Release,
) -> Scored:
    """Write the parts from the tasks, check that nobody is missing, commit, log."""
    now = datetime.now(UTC)
    run = output / "runs" / f"{now:%Y-%m-%d}" / f"{now:%H%M%S}-{uuid.uuid4().hex[:8]}"
    run.mkdir(parents=True)
    batch = Batch(plan, str(run), strategy, k, release.name, release.version, now)
    numbers = newest.history.customer_blocks.covering(newest.history.customers)
    blocks: list[BlockScored] = run_tasks(spark, partial(score_block, batch), numbers)
    parts = [part for block in blocks for part in block.parts]
    rows, customers = (
        sum(part.rows for part in parts if part.table == table)
        for table in ("recommendations", "audience")
    )
    if customers != newest.history.customers:
        raise PublishError(
            f"{customers:,} of {newest.history.customers:,} customers were scored, so nothing was "
            "published: run batch_score again."
        )
    short = sum(block.short for block in blocks)
    counts = {
        "customers": customers,
        "recommendations": rows,
        "short_customers": short,
        "new_customers": newest.new_customers,
        "known_interactions_share": round(newest.known_share, 6),
    }
    sources = sum((Counter(block.sources) for block in blocks), Counter())
    facts = counts | {
        "sources": dict(sorted(sources.items())),
        "model_name": release.name,
        "model_version": release.version,
        "model_digest": release.digest,
        "strategy": strategy.model_dump() | {"k": k},
        "code_version": tracking.code_version(),
        "scored_at": now.isoformat(timespec="seconds"),
    }
    commit = publish(output, run, parts, facts)
    mlflow.log_metrics(counts | {f"rows/{name}": n for name, n in sources.items()})
    mlflow.set_tags({"recsys.model_version": f"{release.name}/{release.version}"})
    mlflow.log_dict(facts | {"commit": commit.number, "run": str(run)}, "batch_score.json")
    return Scored(output, commit.number, release, customers, rows, short)


def main(config: BatchScoreConfig) -> None:
    """Run the step in a session of its own, after what can be checked without one."""
    load_strategy(config.strategy, STRATEGIES)
    holder_of(config.model_name, config.stage)
    run_batch_score(config, spark_session("batch_score"))


if __name__ == "__main__":
    cli.run(main, BatchScoreConfig, __doc__, "python -m deploy.batch_score")
