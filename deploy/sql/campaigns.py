"""Views of what was published: the tables of commits, never of a glob."""

import sys
from collections.abc import Iterable, Iterator
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.window import Window

from deploy.sql.flow import Flow
from recsys import columns as c
from recsys.errors import DataError
from recsys.published import (
    AUDIENCE,
    RECOMMENDATIONS,
    manifest_of,
    read_published,
    run_of,
)
from recsys.storage import (
    Commit,
    CommitLog,
    Place,
    folder_exists,
    keys_of,
    read_bytes,
    store_of,
)

COMMIT = "commit"
RESULTS = "campaign_results"
MEASURED, NEWEST = "measured", "newest"


def recommendations(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the newest commit of each strategy."""
    return _union(_read(spark, folder, RECOMMENDATIONS, commit) for folder, commit in _newest(flow))


def recommendations_history(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open every commit whose files are kept."""
    return _union(
        _read(spark, folder, RECOMMENDATIONS, commit)
        for folder in flow.recommendations
        for commit in _kept(folder, _commits(folder))
    )


def audience(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the audience of the newest commit of each strategy."""
    return _union(
        _read(spark, folder, AUDIENCE, commit).withColumn(c.STRATEGY, F.lit(_strategy(commit)))
        for folder, commit in _newest(flow)
    )


def campaign_results(spark: SparkSession, flow: Flow) -> DataFrame:
    """Open the newest measurement of each commit of recommendations."""
    commits = _log(flow.results)
    if not commits:
        raise DataError(f"nothing was measured in {flow.results} yet: run measure.")
    found = _union(
        _read(spark, flow.results, RESULTS, commit)
        .withColumn("measured_at", F.to_timestamp(F.lit(commit.time)))
        .withColumn(MEASURED, _measured(commit))
        for commit in _kept(flow.results, commits)
    )
    same = Window.partitionBy(c.STRATEGY, "recommendations_commit", MEASURED)
    newest = found.withColumn(NEWEST, F.max(COMMIT).over(same))
    return newest.where(F.col(COMMIT) == F.col(NEWEST)).drop(NEWEST, MEASURED)


def _measured(commit: Commit) -> Column:
    """Return which commit a row is of, by its digest: two folders may have one of each number."""
    campaigns = commit.payload["facts"].get("campaigns", [])
    digests = [
        F.when(F.col(c.STRATEGY) == one["strategy"], one["recommendations_digest"])
        for one in campaigns
    ]
    return F.coalesce(*digests, F.lit(None).cast("string"))


def _newest(flow: Flow) -> Iterator[tuple[Place, Commit]]:
    """Yield each folder's newest commit of each strategy; says whose tables were deleted."""
    for folder in flow.recommendations:
        for name, commit in {_strategy(commit): commit for commit in _commits(folder)}.items():
            if read_bytes(store_of(folder), commit.payload["manifest"]) is None:
                told = f"{name} is left out, its tables in {folder} were deleted: run batch_score."
                print(told, file=sys.stderr, flush=True)
            else:
                yield folder, commit


def _commits(folder: Place) -> list[Commit]:
    """Return a published folder's commits, the oldest first."""
    commits = _log(folder)
    if not commits:
        raise DataError(f"nothing was published in {folder} yet: run batch_score.")
    if "strategy" not in commits[-1].payload["facts"]:
        raise DataError(f"{folder} holds no recommendations: give what batch_score publishes to.")
    return commits


def _log(folder: Place) -> list[Commit]:
    return CommitLog(store_of(folder)).history() if folder_exists(folder) else []


def _kept(folder: Place, commits: list[Commit]) -> Iterator[Commit]:
    """Yield the commits whose files are all there: `collect` deletes those of old ones."""
    store = store_of(folder)
    there = keys_of(store, "runs")
    for commit in commits:
        if commit.payload["manifest"] in there:
            files = manifest_of(store, commit)["files"]
            if all(f"{run_of(commit)}/{part['path']}" in there for part in files):
                yield commit


def _read(spark: SparkSession, folder: Place, table: str, commit: Commit) -> DataFrame:
    """Open a table of one commit, with the commit's number in each row."""
    found = read_published(spark, str(folder), table, commit.number)
    return found.withColumn(COMMIT, F.lit(commit.number))


def _strategy(commit: Commit) -> str:
    return str(commit.payload["facts"]["strategy"]["name"])


def _union(frames: Iterable[DataFrame]) -> DataFrame:
    found = list(frames)
    if not found:
        raise DataError("all of its tables were deleted: run the step that makes it again.")
    return reduce(DataFrame.unionByName, found)
