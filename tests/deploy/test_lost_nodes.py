"""Batch runs on a small Spark cluster of real executors, which are killed or too slow."""

import os
import signal
import time
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from deploy.pipeline import Outcome
from recsys.published import read_published
from recsys.storage import CommitLog, store_of
from tests.deploy.drivers import Driver, ended, start
from tests.processes import executors

KILLS = 3

# A batch run whose tasks take their time, in a session with other settings.
CHILD = """
import sys, time
from pyspark import TaskContext
from deploy import batch_run, batch_score
from recsys import cli, session

def slow(batch, number, score=batch_run.score_block):
    {slow}
    return score(batch, number)

batch_run.score_block = slow
session.SETTINGS |= {settings}
cli.run(batch_score.main, batch_score.BatchScoreConfig, None, "test", sys.argv[1:])
"""


def start_slow(place: Path, output: Path, slow: str, settings: dict[str, str]) -> Driver:
    program = ("-c", CHILD.format(slow=slow, settings=settings))
    master = "local-cluster[2,1,1024]"
    return start(place / "out" / "ingested", output, "x", program, SPARK_MASTER=master)


def rows(spark: SparkSession, output: Path) -> DataFrame:
    return read_published(spark, output).drop("scored_at")


def assert_as_clean(spark: SparkSession, place: Path, output: Path) -> None:
    """The one commit holds what the run without faults holds."""
    assert len(CommitLog(store_of(output)).history()) == 1
    clean, found = rows(spark, place / "out" / "recommendations"), rows(spark, output)
    assert found.count() > 0
    assert found.exceptAll(clean).count() == clean.exceptAll(found).count() == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_executors_killed_three_times_change_nothing(
    outcome: Outcome, place: Path, tmp_path: Path, spark: SparkSession
) -> None:
    output = tmp_path / "table"
    process = start_slow(place, output, "time.sleep(2)", {})
    killed = 0
    try:
        while process.poll() is None and killed < KILLS:
            time.sleep(0.2)
            blocks = len([*output.glob("runs/*/*/blocks/*.json")])
            running = executors(process.pid)
            # One at a time, each after another block was done.
            if blocks > killed and len(running) == 2:
                os.kill(running[0], signal.SIGKILL)
                killed += 1
    finally:
        ended(process)
    assert killed == KILLS
    assert_as_clean(spark, place, output)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_tasks_that_run_twice_at_once_change_nothing(
    outcome: Outcome, place: Path, tmp_path: Path, spark: SparkSession
) -> None:
    """Each task's first attempt dawdles, so that speculation starts a second beside it."""
    settings = {
        "spark.speculation": "true",
        "spark.speculation.interval": "20ms",
        "spark.speculation.multiplier": "1.01",
        "spark.speculation.quantile": "0.01",
        "spark.speculation.task.duration.threshold": "1s",
    }
    slow = "time.sleep(0.1 if TaskContext.get().attemptNumber() else 4)"
    output = tmp_path / "table"
    ended(start_slow(place, output, slow, settings))
    parts = [*output.glob("runs/*/*/recommendations/part-*.parquet")]
    blocks = [*output.glob("runs/*/*/blocks/*.json")]
    assert len(parts) >= len(blocks)
    assert_as_clean(spark, place, output)
