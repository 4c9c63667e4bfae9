"""A training run goes on where it was killed, and comes out the same wherever its files lie."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, load_dataset
from recsys.models import ALGORITHMS
from recsys.models.als import AlsParameters
from recsys.session import ROOT, scratch_folder
from recsys.storage import RemotePath, files_below, local_path, read_parquet, write_file
from recsys.training import train

PARAMETERS = AlsParameters(factors=4, iterations=12)
SMALL = {"als": PARAMETERS.model_dump(), "item_item": {"neighbours": 10}}
PATIENCE = 300


@contextmanager
def training(dataset: Dataset, checkpoints: Path, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Run `train als` in a process group of its own, which is killed at the end."""
    command = [sys.executable, "-m", "experiments.train", "als", "--dataset", str(dataset.path)]
    for name in ("factors", "iterations"):
        command += [f"--{name}", str(getattr(PARAMETERS, name))]
    command += ["--checkpoints", str(checkpoints)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_checkpoint(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not list(folder.glob("als-*/state.json")):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(
    spark: SparkSession,
    dataset: Dataset,
    tmp_path: Path,
    mlflow_store: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A child of its own: not one of this session's Spark.
    for name in [n for n in os.environ if n.startswith("PYSPARK_GATEWAY")]:
        monkeypatch.delenv(name)
    checkpoints, log = tmp_path / "checkpoints", tmp_path / "log"
    with training(dataset, checkpoints, log) as process:
        wait_for_checkpoint(process, checkpoints)
    assert list(checkpoints.glob("als-*/state.json"))

    with training(dataset, checkpoints, log) as process:
        assert process.wait(PATIENCE) == 0, log.read_text("utf-8")
    assert "going on after iteration" in log.read_text("utf-8")
    assert not checkpoints.exists()

    runs = mlflow.search_runs(experiment_names=["recsys"], output_format="list")
    finished = [run for run in runs if run.info.status == "FINISHED"]
    assert len(finished) == 1
    whole = train(spark, dataset, "als", PARAMETERS, tmp_path, tmp_path / "model")
    assert finished[0].data.tags["recsys.model_digest"] == whole.digest
    logged = finished[0].data.metrics
    for name, value in whole.validation.metrics().items():
        assert logged[name] == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_over_a_cloud_all_comes_out_the_same(
    spark: SparkSession, dataset: Dataset, cloud: RemotePath, tmp_path: Path, algorithm: str
) -> None:
    """Tasks that share no disk fit, judge and save as those that do, to the last bit."""
    parameters = ALGORITHMS[algorithm].parameters_class(**SMALL.get(algorithm, {}))
    (tmp_path / "scratch").mkdir()
    here = train(spark, dataset, algorithm, parameters, tmp_path / "scratch", tmp_path / "here")
    remote = cloud / "dataset"
    for file in files_below(dataset.folder):
        name = local_path(file).relative_to(local_path(dataset.folder)).as_posix()
        write_file(remote / name, local_path(file).read_bytes())
    with scratch_folder(spark, "test") as scratch:
        assert isinstance(scratch, RemotePath)
        there = train(
            spark,
            load_dataset(remote),
            algorithm,
            parameters,
            scratch,
            tmp_path / "there",
            cloud / "checkpoints" / algorithm,
        )
        tables = [read_parquet(e.table).to_pandas() for e in (here.test, there.test)]
    assert there.digest == here.digest
    assert there.steps == here.steps
    assert there.test.metrics() == here.test.metrics()
    assert tables[0].equals(tables[1])
    assert not files_below(cloud / "scratch")
    assert not files_below(cloud / "checkpoints")
