"""A stream is killed at any moment, and started again: its tables are those of a batch ingest."""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from recsys import hadoop
from recsys.data.ingest_report import IngestReport
from recsys.data.interactions import ingest
from recsys.data.mapping import Mapping
from recsys.data.replace import content_of, current
from recsys.data.stream.state import open_state, state_place
from recsys.storage import Place, place_of, read_file, read_parquet, write_file
from tests import azurite

ROOT = Path(__file__).resolve().parents[4]
# Random moments of a kill on disk; on Azurite a fifth of them.
MOMENTS = int(os.environ.get("RECSYS_KILLS", "50"))
TABLES = ("interactions", "items", "customers", "quarantine")
# Days whose files are there when the first stream starts; the others arrive while streams run.
BEGUN = 20
# Days that arrive while one stream runs.
MOST = 10

Driver = subprocess.Popen[bytes]


class Till:
    """The days of Online Retail, which arrive in a landing folder bit by bit, some of them late."""

    def __init__(self, days: list[Path], place: Place, log: Path, draw: random.Random) -> None:
        self.waiting, self.landing, self.output = days, place / "landing", place / "out"
        self.log, self.draw, self.here = log, draw, list[Path]()
        self.draw.shuffle(self.waiting)

    def arrive(self, number: int) -> None:
        """Let some days arrive; each file appears whole."""
        for _ in range(min(number, len(self.waiting))):
            day = self.waiting.pop()
            if isinstance(self.landing, Path):
                self.landing.mkdir(parents=True, exist_ok=True)
            write_file(self.landing / day.name, day.read_bytes())
            self.here.append(day)

    def start(self, *more: str) -> Driver:
        """Start a stream in this process's MLflow store."""
        options = {"source": self.landing, "output": self.output, "mode": "stream"}
        # Every day's limits are not those of the year.
        options |= {"quiet_seconds": 0, "max_files": 10, "mapping": self.log.parent / "map.yaml"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with self.log.open("ab") as log:
            return Driver(
                [sys.executable, "-m", "experiments.ingest", *words, *more],
                cwd=ROOT,
                env=os.environ | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ends_well(self, driver: Driver) -> None:
        """Wait for a stream's end."""
        try:
            assert driver.wait(300) == 0, self.log.read_text()[-3000:]
        finally:
            clean(driver)


def clean(driver: Driver) -> None:
    """Kill whatever a driver that has ended left running."""
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()


@pytest.fixture(scope="session")
def by_day(online_retail: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("days")
    with tarfile.open(online_retail / "by-day.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return sorted((folder / "by-day").glob("*.csv"))


@pytest.fixture
def mapping(tmp_path: Path) -> Mapping:
    """The preset, with limits that hold for any choice of days."""
    preset = (ROOT / "recsys" / "data" / "mappings" / "online_retail.yaml").read_text("utf-8")
    (tmp_path / "map.yaml").write_text(f"{preset}\nfail_share: 1\n", "utf-8")
    return Mapping.load(str(tmp_path / "map.yaml"))


def whole(output: Place) -> None:
    """What stands in the output must be one whole ingest."""
    if current(output) is None:
        return
    content = content_of(output)
    report = IngestReport.model_validate_json(read_file(content / "ingest.json") or b"")
    for table, expected in (
        ("interactions", report.rows_accepted),
        ("quarantine", report.rows_quarantined),
    ):
        assert len(read_parquet(content / table, columns=[])) == expected


def equals_batch(spark: SparkSession, till: Till, mapping: Mapping, folder: Path) -> None:
    """The stream's tables must be those of the batch ingest of the files that have arrived."""
    source = folder / "same"
    source.mkdir(exist_ok=True)
    for day in till.here:
        with suppress(FileExistsError):
            (source / day.name).hardlink_to(day)
    report = ingest(spark, str(source), folder / "batch", mapping, datetime.now(UTC))
    content = content_of(till.output)
    streamed = IngestReport.model_validate_json(read_file(content / "ingest.json") or b"")
    assert streamed.model_dump(exclude={"source"}) == report.model_dump(exclude={"source"})
    for table in TABLES:
        assert rows(content / table) == rows(folder / "batch" / table), table
    told = json.loads(read_file(content / "stream.json") or b"")
    assert (told["refused"], told["waiting"], told["duplicates"]) == ({}, {}, {})


def rows(table: Place) -> "Counter[str]":
    found = read_parquet(table).to_pandas()
    return Counter(found.astype(str).agg("|".join, axis=1))


def killed_again_and_again(
    spark: SparkSession, till: Till, mapping: Mapping, folder: Path, wanted: int
) -> None:
    """Kill streams at random moments of their lives, while files arrive; then let one end."""
    till.arrive(BEGUN)
    began = time.monotonic()
    till.ends_well(till.start())
    lasts = time.monotonic() - began
    # The query named them, in micro-batches of ten; what looks again would take all at once.
    assert till.log.read_text().count("▸ look at 10 file(s)") == BEGUN // 10
    kills, ended, left = 0, 0, list[Driver]()
    a_round = max(5, wanted // 4)
    while kills < wanted:
        began, driver = time.monotonic(), till.start()
        left.append(driver)
        moment = till.draw.uniform(0.2, 1.0) * lasts
        time.sleep(moment / 2)
        till.arrive(min(MOST, max(1, 150 // wanted)))
        with suppress(subprocess.TimeoutExpired):
            driver.wait(moment / 2)
        if driver.poll() is None:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            kills += 1
        else:
            assert driver.returncode == 0, till.log.read_text()[-3000:]
            # On a machine that has become faster, kill earlier.
            ended, lasts = ended + 1, time.monotonic() - began
        whole(till.output)
        if kills == wanted or (kills and kills % a_round == 0 and driver.returncode):
            till.ends_well(till.start())
            equals_batch(spark, till, mapping, folder)
            for dead in left:
                clean(dead)
    print(f"{kills} kills, {ended} streams ended before theirs, {len(till.here)} files")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_on_disk(
    spark: SparkSession, mlflow_store: str, by_day: list[Path], mapping: Mapping, tmp_path: Path
) -> None:
    till = Till([*by_day], tmp_path / "shop", tmp_path / "log", random.Random(11))
    killed_again_and_again(spark, till, mapping, tmp_path, MOMENTS)


@pytest.fixture
def blob(emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A container, for processes that start Spark with the jars for it."""
    if not any(hadoop.jars_folder().glob(hadoop.DRIVER_JAR)):
        hadoop.fetch_jars()
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    yield place_of(azurite.container(emulator, monkeypatch)) / "shop"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_random_moments_in_the_cloud(
    spark: SparkSession,
    mlflow_store: str,
    blob: Place,
    by_day: list[Path],
    mapping: Mapping,
    tmp_path: Path,
) -> None:
    till = Till([*by_day], blob, tmp_path / "log", random.Random(12))
    killed_again_and_again(spark, till, mapping, tmp_path, max(1, MOMENTS // 5))
    assert open_state(state_place(till.output), mapping).folders


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_with_a_trigger_the_tables_follow_until_the_stream_is_told_to_end(
    spark: SparkSession, mlflow_store: str, by_day: list[Path], mapping: Mapping, tmp_path: Path
) -> None:
    till = Till([*by_day], tmp_path / "shop", tmp_path / "log", random.Random(13))
    till.arrive(3)
    driver = till.start("--trigger", "1 second", "--patience_seconds", "3600")
    try:
        wait_for(till, 3, driver)
        till.arrive(2)
        wait_for(till, 5, driver)
        # Half a file, which Spark lists once, and the rest of it.
        day = till.waiting.pop()
        text = day.read_bytes()
        half = Path(str(till.landing)) / day.name
        half.write_bytes(text[: len(text) // 2])
        wait_for(till, 5, driver, waiting=1)
        half.write_bytes(text)
        till.here.append(day)
        wait_for(till, 6, driver)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(120) == 0, till.log.read_text()[-3000:]
    finally:
        clean(driver)
    equals_batch(spark, till, mapping, tmp_path)
    (run,) = mlflow.search_runs(output_format="list")
    assert run.info.status == "FINISHED"
    taken = mlflow.MlflowClient().get_metric_history(run.info.run_id, "files/taken")
    assert {metric.value for metric in taken} >= {3.0, 5.0, 6.0}
    assert "Traceback" not in till.log.read_text()


def wait_for(till: Till, files: int, driver: Driver, waiting: int = 0) -> None:
    """Wait until the tables are those of so many files."""
    for _ in range(1200):
        assert driver.poll() is None, till.log.read_text()[-3000:]
        with suppress(FileNotFoundError):
            told = json.loads((Path(str(till.output)) / "stream.json").read_text())
            if (told["files"], len(told["waiting"])) == (files, waiting):
                return
        time.sleep(0.1)
    raise AssertionError(till.log.read_text()[-3000:])
