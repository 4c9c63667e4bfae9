"""Recommend to the customers of a strategy with the model that holds a stage, and publish.

The ledger says which release holds the stage; its approvals are checked, and each of its files
before it is opened. Trend and purchases are refreshed from the newest interactions, the table is
audited, and readers see it only after its commit. A run that was killed goes on where it stopped
when it is called again; a run that is already published says so and does nothing.

  python -m deploy.batch_score --interactions out/ingested --output out/recommendations
  python -m deploy.batch_score … --strategy win_back --slot 2026-11
  python -m deploy.batch_score … --strategy win_back --explain true

Exit codes: 0 published, or published before; 1 could not be done; 2 a parameter is wrong;
3 refused by an audit, the previous table stands. The last line of the output is JSON.
"""

import json
import time
from dataclasses import asdict, dataclass

import mlflow
from pydantic import Field
from pyspark.sql import SparkSession

from deploy import audits, batch_run
from deploy.batch_run import Job
from deploy.publish import committed, publish
from recsys import campaign, cli, tracking
from recsys.errors import DataError
from recsys.progress import say, stage
from recsys.session import spark_session
from recsys.storage import (
    Commit,
    CommitConflict,
    CommitLog,
    folder_exists,
    place_of,
    read_file,
    store_of,
)
from recsys.strategy import Strategy, explained, load_strategy
from registry.kept import without_server
from registry.releases import Release
from registry.rulebook import Rulebook, RuledConfig
from registry.trust import find_holder, holder_of, stage_named, trusted

PUBLISHED, ALREADY, OVERTAKEN = "published", "already published", "overtaken"


class BatchScoreConfig(RuledConfig):
    """Parameters of `batch_score`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: str = Field("Production", description="stage or alias whose holder scores")
    interactions: str = Field(description="folder that ingest wrote; the newest interactions")
    strategy: str = Field(
        "next_best_products", description="name in deploy/strategies, or path of a YAML file"
    )
    k: int | None = Field(None, ge=1, description="items a customer; none: what the strategy says")
    output: str = Field(description="folder or URL to publish to")
    slot: str | None = Field(
        None,
        pattern=r"^[\w.-]+$",
        description="what is published once, such as 2026-11-23; none: every change of model, "
        "strategy or interactions",
    )
    audits: str | None = Field(
        None, description="YAML file with the audits' limits; none: deploy/audits.yaml"
    )
    accept: str | None = Field(
        None, description='publish although an audit fails: "AUDIT=reason; AUDIT=reason"'
    )
    explain: bool = Field(False, description="true: only say what the strategy means")


@dataclass(frozen=True)
class Scored:
    """What a batch run did.

    Attributes:
        status: PUBLISHED, ALREADY or OVERTAKEN.
        output: the published folder.
        commit: number of the commit that readers see.
        release: the version that scored.
        customers: customers in the audience.
        rows: recommendations.
        short: customers who got fewer than k items.
        seconds: how long it took.
    """

    status: str
    output: str
    commit: int
    release: Release
    customers: int
    rows: int
    short: int
    seconds: float

    def line(self) -> str:
        """Return what a scheduler reads, in one line of JSON."""
        values = asdict(self) | {
            "release": f"{self.release.name}/{self.release.version}",
            "seconds": round(self.seconds, 1),
        }
        return json.dumps(values)


def run_batch_score(config: BatchScoreConfig, spark: SparkSession) -> Scored:
    """Score the customers of a strategy and publish.

    Raises:
        UsageError: unknown strategy, a stage that nobody holds, k above the catalogue.
        ModelError: the model was altered, or belongs to other data.
        RegistryError: the ledger does not prove that the release may score.
        AuditRefusedError: the table failed an audit; the previous one still stands.
        PublishError: the table was not published; the previous one still stands.
    """
    strategy, limits, accepted = checked(config)
    rules, holder = config.rulebook(), find_holder(config.model_name, config.stage)
    asked = rules.of(stage_named(config.stage))
    with without_server(holder.digest if holder else None, asked, config.stage):
        return _logged(config, strategy, limits, accepted, rules, spark)


def _logged(
    config: BatchScoreConfig,
    strategy: Strategy,
    limits: audits.Limits,
    accepted: dict[str, str],
    rules: Rulebook,
    spark: SparkSession,
) -> Scored:
    """Do the work in an MLflow run."""
    parameters = config.model_dump(exclude={"explain"}) | {"k": strategy.k}
    with tracking.step_run("batch_score", "batch_score", parameters), stage("batch_score"):
        release = trusted(config.model_name, config.stage, rules)
        say(f"  {config.stage} is version {release.version} of {release.name}")
        inputs = batch_run.digest_of_inputs(config.interactions, strategy)
        job = Job(config.interactions, config.output, config.slot, strategy, release, inputs)
        scored = _run(job, limits, accepted, spark)
        say(
            f"  {scored.status}: {scored.rows:,} recommendations for {scored.customers:,} "
            f"customers, commit {scored.commit} in {config.output}"
        )
        return scored


def checked(config: BatchScoreConfig) -> tuple[Strategy, audits.Limits, dict[str, str]]:
    """Read all that can be wrong without a session: strategy, audits' limits, what is accepted."""
    strategy = load_strategy(config.strategy)
    strategy = strategy.model_copy(update={"k": config.k or strategy.k})
    file = place_of(config.audits or audits.LIMITS)
    data = read_file(file)
    if data is None:
        raise DataError(f"There is no file {file}: give the audits' limits as YAML.")
    limits = audits.Limits.from_yaml(data.decode(), str(file))
    return strategy, limits, audits.accepted_from(config.accept)


def _run(job: Job, limits: audits.Limits, accepted: dict[str, str], spark: SparkSession) -> Scored:
    """Do nothing where the slot is published; else score, audit, commit."""
    started = time.monotonic()
    done = _published_before(job)
    if done is not None:
        say(f"  {job.run} is commit {done.number} already: nothing to do")
        return _told(job, ALREADY, done, started)
    with batch_run.prepared(job, spark) as ready:
        blocks = batch_run.scored_blocks(ready.batch, spark)
        counts = batch_run.counted(ready.batch, blocks)
        findings = audits.audit(counts, batch_run.counts_of(ready.last), limits)
        seconds = time.monotonic() - started
        cores = spark.sparkContext.defaultParallelism
        facts = batch_run.facts_of(job, ready, blocks, counts, seconds, cores)
        batch_run.log(ready, facts, findings)
    findings = audits.decided(findings, accepted)
    facts["audits"] = [asdict(finding) for finding in findings]
    parts = [part for block in blocks for part in block.parts]
    store = store_of(job.output)
    try:
        commit = publish(store, job.run, parts, facts, ready.head)
    except CommitConflict as conflict:
        other = committed(store, job.run)
        if other is None:
            raise
        say(f"  {conflict}")
        return _told(job, OVERTAKEN, other, started)
    mlflow.set_tag("recsys.commit", str(commit.number))
    return _told(job, PUBLISHED, commit, started)


def _published_before(job: Job) -> Commit | None:
    """Return the commit of this slot or, without one, of these inputs, if readers see it."""
    if not folder_exists(job.output):
        return None
    log = CommitLog(store_of(job.output))
    head = log.head()
    if head is None:
        return None
    if job.slot is None:
        return head if f"{job.run}/" in head.payload["manifest"] else None
    for commit in reversed(log.history()):
        facts = commit.payload["facts"]
        if (facts.get("slot"), facts["strategy"]["name"]) == (job.slot, job.strategy.name):
            return commit
    return None


def _told(job: Job, status: str, commit: Commit, started: float) -> Scored:
    """Describe the commit that readers see."""
    counts = commit.payload["facts"]["counts"]
    return Scored(
        status,
        job.output,
        commit.number,
        job.release,
        counts["customers"],
        counts["rows"],
        counts["short"],
        time.monotonic() - started,
    )


def main(config: BatchScoreConfig) -> None:
    """Run the step in a session of its own, after what can be checked without one."""
    strategy, _, _ = checked(config)
    if config.explain:
        say(explained(strategy))
        say(campaign.facts_explained())
        return
    holder_of(config.model_name, config.stage)
    say(
        run_batch_score(
            config, spark_session("batch_score", config.interactions, config.output)
        ).line()
    )


if __name__ == "__main__":
    cli.run(main, BatchScoreConfig, __doc__, "python -m deploy.batch_score")
