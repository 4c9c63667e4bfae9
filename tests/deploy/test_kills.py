"""A batch run is killed at any moment: readers see the old table or the new one, never half."""

import fnmatch
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from deploy.pipeline import Outcome
from recsys.published import published_files, published_table, read_manifest, read_published
from recsys.storage import CommitLog, keys_of, store_of
from tests import azurite
from tests.deploy.drivers import Driver, clean, ended, kill, start

# Step → the files by which it is seen to have begun.
STEPS = {
    "run begun": "runs/*/_run.json",
    "first block": "runs/*/blocks/*.json",
    "manifest": "runs/*/_manifest-*.json",
    "commit": "_commits/*.json",
}
# Between two looks of one reader; without it the readers leave no time to those who write.
PAUSE = 0.3
# Random moments of a kill on disk; on Azurite a fifth of them.
MOMENTS = int(os.environ.get("RECSYS_KILLS", "50"))
Reader = Callable[[], tuple[int, int]]


@dataclass(frozen=True)
class Published:
    """A first table.

    Attributes:
        interactions: folder that it is made from.
        output: folder or URL.
        rows: number of its rows.
        seconds: how long its run took.
    """

    interactions: Path
    output: str
    rows: int
    seconds: float

    def start(self, slot: str) -> Driver:
        """Start a run of another slot."""
        return start(self.interactions, self.output, slot)

    def converges(self, slot: str) -> None:
        """Run a slot until it is through; exactly one commit must hold it."""
        ended(self.start(slot))
        log = CommitLog(store_of(self.output))
        slots = [commit.payload["facts"]["slot"] for commit in log.history()]
        assert slots.count(slot) == 1


@pytest.fixture(scope="module", params=["disk", "azurite"])
def table(
    request: pytest.FixtureRequest,
    outcome: Outcome,
    place: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Published]:
    with pytest.MonkeyPatch.context() as patch:
        output = str(tmp_path_factory.mktemp("killed") / "table")
        if request.param == "azurite":
            output = azurite.container(request.getfixturevalue("emulator"), patch) + "/table"
        started = time.monotonic()
        interactions = place / "out" / "ingested"
        ended(start(interactions, output, "first"))
        rows = read_manifest(output)[1]["facts"]["counts"]["rows"]
        yield Published(interactions, output, rows, time.monotonic() - started)


def readers(spark: SparkSession, output: str) -> dict[str, Reader]:
    """Return how each user opens the table: number of rows, and of different runs in it."""

    def by_arrow() -> tuple[int, int]:
        table = published_table(output)
        return len(table), len(set(table["scored_at"].to_pylist()))

    def by_pandas() -> tuple[int, int]:
        table = pd.concat(pd.read_parquet(file) for file in published_files(output))
        return len(table), table["scored_at"].nunique()

    def by_duckdb() -> tuple[int, int]:
        files = published_files(output)
        found = duckdb.execute(
            "select count(*), count(distinct scored_at) from read_parquet(?)", [files]
        ).fetchone()
        assert found is not None
        return found[0], found[1]

    def by_spark() -> tuple[int, int]:
        table = read_published(spark, output)
        row = table.agg(F.count("*"), F.count_distinct("scored_at")).collect()[0]
        return row[0], row[1]

    if "://" in output:
        return {"arrow": by_arrow}
    return {"arrow": by_arrow, "pandas": by_pandas, "duckdb": by_duckdb, "spark": by_spark}


@contextmanager
def looping(all_readers: dict[str, Reader], rows: int) -> Iterator[dict[str, int]]:
    """Read in loops meanwhile; every look must find one whole run."""
    ended, looks, wrong = threading.Event(), dict.fromkeys(all_readers, 0), list[str]()

    def loop(name: str) -> None:
        while not ended.wait(PAUSE):
            try:
                found = all_readers[name]()
                if found != (rows, 1):
                    wrong.append(f"{name} found {found}")
            except Exception as error:
                wrong.append(f"{name}: {error}")
            looks[name] += 1

    threads = [threading.Thread(target=loop, args=(name,)) for name in all_readers]
    for thread in threads:
        thread.start()
    try:
        yield looks
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(step: str, table: Published, spark: SparkSession) -> None:
    store = store_of(table.output)

    def begun() -> set[str]:
        return set(fnmatch.filter(keys_of(store, STEPS[step].split("/")[0]), STEPS[step]))

    before = begun()
    with looping(readers(spark, table.output), table.rows) as looks:
        driver = table.start(step.replace(" ", "-"))
        while driver.poll() is None and begun() <= before:
            time.sleep(0.005)
        kill(driver)
        table.converges(step.replace(" ", "-"))
        clean(driver)
    assert begun() > before
    assert min(looks.values()) > 3


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_random_moments(table: Published, spark: SparkSession) -> None:
    """The slot is killed again and again, each time at another moment, and goes on."""
    wanted = max(1, MOMENTS // 5) if "://" in table.output else MOMENTS
    draw, kills, slot, seconds = random.Random(11), 0, 0, table.seconds
    with looping(readers(spark, table.output), table.rows) as looks:
        while kills < wanted:
            drivers = []
            for _ in range(5):
                started = time.monotonic()
                drivers.append(table.start(f"slot-{slot}"))
                try:
                    drivers[-1].wait(draw.uniform(0.3, 1.0) * seconds)
                    # The machine is faster now than when the first table was made.
                    if len(drivers) == 1:
                        seconds = time.monotonic() - started
                except subprocess.TimeoutExpired:
                    kills += 1
                    kill(drivers[-1])
            table.converges(f"slot-{slot}")
            for driver in drivers:
                clean(driver)
            slot += 1
    # A first slot may have been through before it could be killed.
    assert slot <= wanted + 1
    assert min(looks.values()) > wanted
