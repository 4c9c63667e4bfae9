"""The driver and the worker where no cluster is needed to see what they do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.cluster import driver
from deploy.cluster.rendezvous import Rendezvous
from deploy.cluster.task import NodeTask


def environment(folder: Path, command: str) -> dict[str, str]:
    return {
        "AZ_BATCH_JOB_ID": "job",
        "AZ_BATCH_TASK_ID": "driver",
        "AZ_BATCH_ACCOUNT_URL": "http://127.0.0.1:1",
        "AZ_BATCH_TASK_WORKING_DIR": str(folder),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "RECSYS_STORAGE": str(folder / "storage"),
        "RECSYS_COMMAND": command,
        "RECSYS_WORKERS": "0",
        "RECSYS_CAPACITY_MINUTES": "1",
        "RECSYS_MAX_HOURS": "1",
    }


def run(folder: Path, command: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "deploy.cluster.node", "driver"]
    values = os.environ | environment(folder, command)
    return subprocess.run(words, env=values, capture_output=True, text=True)


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_tasks_exit_code_is_the_entry_points(tmp_path: Path, command: str, code: int) -> None:
    assert run(tmp_path, command).returncode == code


def test_the_entry_point_finds_what_it_needs(tmp_path: Path) -> None:
    shown = run(tmp_path, "echo $SPARK_MASTER $RECSYS_SCRATCH $RECSYS_SLOT; which python").stdout

    assert f"local[*] {tmp_path}/storage/jobs/job/scratch job\n" in shown
    assert str(Path(sys.executable).parent / "python") in shown


def test_what_tasks_shared_is_removed_at_the_end(tmp_path: Path) -> None:
    run(tmp_path, f"mkdir -p {tmp_path}/storage/jobs/job/scratch && touch $RECSYS_SCRATCH/x")

    assert [p for p in (tmp_path / "storage").rglob("*") if p.is_file()] == []


def test_a_signal_ends_the_entry_point_too(tmp_path: Path) -> None:
    values = os.environ | environment(tmp_path, f"touch {tmp_path}/begun; exec sleep 617")
    words = [sys.executable, "-m", "deploy.cluster.node", "driver"]
    process = subprocess.Popen(words, env=values, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists():
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 128 + signal.SIGTERM
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_driver_that_was_overtaken_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ASK_EVERY", 0.2)
    task = NodeTask.from_environment(environment(tmp_path, "sleep 617"))
    rendezvous = Rendezvous(task.storage, task.job_id)
    own = rendezvous.take_over("spark://a:1", "s")
    rendezvous.take_over("spark://b:2", "s")

    assert driver._entry_point(task, dict(os.environ), (rendezvous, own)) == driver.RENDEZVOUS
