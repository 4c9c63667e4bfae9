"""A batch run is killed at any moment: readers see the old table or the new one, never half."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import mlflow
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from deploy.pipeline import Outcome
from recsys.published import published_files, read_manifest, read_published
from recsys.storage import CommitLog, store_of

ROOT = Path(__file__).resolve().parent.parent.parent
K = 5

# Step → the files by which it is seen to have begun.
STEPS = {
    "run begun": "runs/*/*/_run.json",
    "first block": "runs/*/*/blocks/*.json",
    "manifest": "runs/*/*/_manifest-*.json",
    "commit": "_commits/00000002.json",
}
Reader = Callable[[], tuple[int, int]]


def start(place: Path, output: Path, slot: str) -> "subprocess.Popen[bytes]":
    options = {
        "interactions": place / "out" / "ingested",
        "output": output,
        "slot": slot,
        "k": K,
    }
    command = [sys.executable, "-m", "deploy.batch_score"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill the driver alone, as the system does; then whatever it left running."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def readers(spark: SparkSession, output: Path) -> dict[str, Reader]:
    """Return how each user opens the table: number of rows, and of different runs in it."""

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

    return {"pandas": by_pandas, "duckdb": by_duckdb, "spark": by_spark}


@contextmanager
def looping(all_readers: dict[str, Reader], rows: int) -> Iterator[dict[str, int]]:
    """Read in loops meanwhile; every look must find one whole run."""
    ended, looks, wrong = threading.Event(), dict.fromkeys(all_readers, 0), list[str]()

    def loop(name: str) -> None:
        while not ended.is_set():
            try:
                found = all_readers[name]()
                if found != (rows, 1):
                    wrong.append(f"{name} found {found}")
            except Exception as error:
                wrong.append(f"{name}: {error}")
            looks[name] += 1
            time.sleep(0.05)

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


@pytest.fixture
def published(outcome: Outcome, place: Path, tmp_path: Path) -> tuple[Path, int, float]:
    """A first table: its folder, its rows, and how long its run took."""
    output = tmp_path / "table"
    started = time.monotonic()
    assert start(place, output, "first").wait() == 0
    rows = read_manifest(output)[1]["facts"]["counts"]["rows"]
    return output, rows, time.monotonic() - started


def converges(place: Path, output: Path, slot: str) -> None:
    """Run the slot again until it is through; exactly one commit must hold it."""
    assert start(place, output, slot).wait() == 0
    slots = [c.payload["facts"]["slot"] for c in CommitLog(store_of(output)).history()]
    assert slots.count(slot) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step(
    step: str, place: Path, published: tuple[Path, int, float], spark: SparkSession
) -> None:
    output, rows, _ = published
    before = {*output.glob(STEPS[step])}
    with looping(readers(spark, output), rows) as looks:
        process = start(place, output, "second")
        while process.poll() is None and {*output.glob(STEPS[step])} <= before:
            time.sleep(0.002)
        kill(process)
        converges(place, output, "second")
    assert min(looks.values()) > 3


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_killed_at_50_random_moments(
    place: Path, published: tuple[Path, int, float], spark: SparkSession
) -> None:
    """The slot is killed again and again, each time at another moment, and goes on."""
    output, rows, seconds = published
    draw = random.Random(11)
    kills = 0
    with looping(readers(spark, output), rows) as looks:
        for number in range(50):
            slot = f"slot-{number // 5}"
            process = start(place, output, slot)
            try:
                process.wait(draw.uniform(0.3, 1.2) * seconds)
            except subprocess.TimeoutExpired:
                kills += 1
            kill(process)
            if number % 5 == 4:
                converges(place, output, slot)
    assert kills >= 25
    assert min(looks.values()) > 50
