"""A real Spark master and real workers on nodes of the stand-in."""

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.deploy.azure_batch.test_backend import submit
from tests.deploy.cloud import Cloud, project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MLPROJECT = """
name: tiny
entry_points:
  main:
    parameters:
      seconds: {type: float, default: 0}
    command: python work.py {seconds}
"""
# Each of eight tasks says where it ran; the sum is right only if each ran.
WORK = """
import os, socket, sys, time
from recsys.session import spark_session

seconds = float(sys.argv[1])
context = spark_session("tiny").sparkContext

def task(number):
    time.sleep(seconds)
    return number, os.environ["SPARK_LOCAL_IP"]

print("driver at", os.environ["SPARK_LOCAL_IP"], flush=True)
found = context.parallelize(range(8), 8).map(task).collect()
print("sum", sum(number for number, _ in found), flush=True)
print("places", sorted({place for _, place in found}), flush=True)
"""


@pytest.fixture
def cluster(batch: Cloud, tmp_path: Path) -> Cloud:
    batch.project = project(tmp_path / "spark", {"MLproject": MLPROJECT, "work.py": WORK})
    return batch


def test_a_driver_and_two_workers_form_a_cluster(
    cluster: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = {"workers": 2, "driver": "dedicated"}
    # The first executor must not be through with all tasks before the second has come.
    submitted = submit(cluster, {"seconds": 2}, pool=pool, capacity_minutes=2)

    assert submitted.wait()

    shown = capfd.readouterr().out
    assert "2 of 2 workers" in shown
    assert "sum 28" in shown
    # The pool may have shrunk by now, so the addresses are the printed ones.
    places = re.search(r"places \['([^']+)', '([^']+)'\]", shown)
    assert places is not None
    assert f"driver at {places[1]}" not in shown
    assert f"driver at {places[2]}" not in shown
    assert "driver at 127." in shown
    assert cluster.service.running() == []
    assert MlflowClient().get_run(submitted.run_id).info.status == "FINISHED"


def test_a_driver_without_workers_gives_up_and_says_why(
    cluster: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.service.capacity = 0
    pool = {"workers": 2, "driver": "dedicated"}
    submitted = submit(cluster, {}, pool=pool, capacity_minutes=0.2)

    assert not submitted.wait()

    assert "exit code 75: no worker came in time" in capfd.readouterr().out
    assert submitted.client.get_job(submitted.job_id).state == "completed"
    assert cluster.service.running() == []
