"""Measure what campaigns did, publish the results, show them in MLflow."""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta

import mlflow
from pyspark.sql import DataFrame, SparkSession

from deploy.measure import planner, words
from deploy.measure.campaigns import Campaign, find_campaigns
from deploy.measure.config import MeasureConfig
from deploy.measure.judged import Measured, measured
from deploy.measure.observed import labels_of, observe
from deploy.measure.outcomes import Periods, interactions_end, interactions_start
from deploy.measure.record import REPORT, Job, log, published
from deploy.publish import committed
from recsys import cli, tracking
from recsys.data.digest import folder_digest
from recsys.data.replace import content_of
from recsys.data.tables import read_tables
from recsys.errors import DataError
from recsys.progress import say, stage
from recsys.storage import CommitLog, exists, read_bytes, store_of
from recsys.view import artifact_address

MEASURED, ALREADY = "measured", "already measured"


@dataclass(frozen=True)
class Outcome:
    """What a measurement left.

    Attributes:
        status: MEASURED or ALREADY.
        output: the published folder.
        commit: number of the commit that readers see.
        report: address of the report.
        found: the campaigns; none where they were measured before.
    """

    status: str
    output: str
    commit: int
    report: str
    found: tuple[Measured, ...] = ()


def run_measure(config: MeasureConfig, spark: SparkSession) -> Outcome:
    """Measure campaigns and publish the results.

    Raises:
        UsageError: there is no such strategy, commit or column.
        DataError: nothing was published, or there are no interactions.
        PublishError: the results were not published; the previous ones still stand.
    """
    parameters = config.model_dump(mode="json", exclude={"plan", "effect"})
    with tracking.step_run("measure", "measure", parameters) as run, stage("measure"):
        retail = read_tables(spark, config.interactions)
        end = interactions_end(retail.interactions)
        campaigns = _campaigns(config, end)
        job = Job(config, campaigns, _digest(config.interactions))
        store = store_of(str(config.place), create=True)
        head = CommitLog(store).head()
        done = committed(store, job.run)
        if done is not None and read_bytes(store, done.payload["manifest"]) is not None:
            say(f"  already measured: commit {done.number} in {config.place}")
            if head is not None and head.number > done.number:
                say("  (readers see the newest; to show this one: python -m deploy.republish)")
            at = str(config.place / job.run / REPORT)
            return Outcome(ALREADY, str(config.place), done.number, at)
        segments = list(dict.fromkeys(cli.names(config.segments)))
        labels = labels_of(retail.customers, segments) if segments else None
        found = tuple(_measured(job, one, retail.interactions, end, labels) for one in campaigns)
        page = log(job, found, run)
        commit = published(store, job, found, page, head.number if head else 0, run)
        mlflow.set_tag("recsys.commit", str(commit.number))
        say("\n".join(["", *words.table(list(found)), ""]))
        for one in found:
            say(f"  {one.campaign.strategy}: {words.sentence(one)}")
        say(f"  commit {commit.number} in {config.place}")
        address = artifact_address(run.info.experiment_id, run.info.run_id, REPORT)
        say(f"  report {config.place / job.run / REPORT}\n         {address}")
        return Outcome(MEASURED, str(config.place), commit.number, address, found)


def _campaigns(config: MeasureConfig, end: date) -> tuple[Campaign, ...]:
    return tuple(
        find_campaigns(
            config.recommendations,
            end,
            config.window_days,
            config.strategy,
            config.commit,
            config.start,
        )
    )


def _digest(interactions: str) -> str:
    """Digest the tables that count: the interactions, and the customers beside them."""
    folder = content_of(interactions)
    beside = folder.parent / "customers"
    folders = [folder, *([beside] if folder.name == "interactions" and exists(beside) else [])]
    return hashlib.sha256("".join(map(folder_digest, folders)).encode()).hexdigest()


def _measured(
    job: Job, campaign: Campaign, interactions: DataFrame, end: date, labels: DataFrame | None
) -> Measured:
    config = job.config
    say(f"  {campaign.strategy}: commit {campaign.commit}, {campaign.model}, from {campaign.start}")
    return measured(
        campaign,
        config.recommendations,
        interactions,
        end,
        config.days_before,
        config.churn_days or config.days_before,
        labels,
    )


def run_plan(config: MeasureConfig, spark: SparkSession) -> None:
    """Print what the next campaign of each strategy needs, from the newest days of the data.

    Raises:
        DataError: the interactions hold fewer days than the window.
    """
    interactions = read_tables(spark, config.interactions).interactions
    end = interactions_end(interactions)
    held = (end - interactions_start(interactions)).days
    if held < config.window_days:
        raise DataError(
            f"The interactions hold {held} days, so they cannot say what customers do in "
            f"{config.window_days}: plan with window_days={held} or fewer."
        )
    for one in _campaigns(config.model_copy(update={"start": None}), end):
        start = end - timedelta(days=config.window_days)
        newest = Campaign(
            one.commit, one.digest, one.facts, start, config.window_days, start, one.lists[:1]
        )
        periods = Periods.of(
            newest, config.window_days, config.days_before, config.churn_days or config.days_before
        )
        observed = observe(newest, config.recommendations, interactions, periods)
        found = planner.baseline(observed, config.window_days, newest.control_share)
        planner.show(one.strategy, found, [config.effect])
