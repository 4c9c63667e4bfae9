import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import pytest
from azure.batch.models._models import BatchJobTerminateOptions
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend import loader
from obstore.store import ObjectStore

from deploy.azure_batch import following
from deploy.azure_batch.backend import AzureBatchBackend
from deploy.azure_batch.following import AzureBatchRun
from recsys.storage import keys_of, remove, store_of
from tests.deploy.cloud import POOL, Cloud

Parameters = dict[str, Any]
SPOT_AND_DEDICATED = {"driver": "dedicated"}


def submit(batch: Cloud, parameters: Parameters | None = None, **config: Any) -> AzureBatchRun:
    experiment = MlflowClient().get_experiment_by_name("recsys")
    assert experiment
    return AzureBatchBackend().run(
        str(batch.project),
        "main",
        parameters or {},
        None,
        batch.config(**config),
        MlflowClient().tracking_uri,
        experiment.experiment_id,
    )


def run_of(submitted: AzureBatchRun) -> Run:
    return MlflowClient().get_run(submitted.run_id)


def error_of(submitted: AzureBatchRun) -> str:
    return str(run_of(submitted).data.tags["recsys.error"])


def wait_until(batch: Cloud, state: str) -> None:
    """Wait until the only job's driver is in a state."""
    for _ in range(200):
        tasks = [job.tasks.get("driver") for job in list(batch.service.jobs.values())]
        if tasks and tasks[0] is not None and tasks[0].state == state:
            return
        time.sleep(0.1)
    raise AssertionError(f"the driver is not {state}")


def creations(batch: Cloud, path: str) -> int:
    return sum(r[:2] == ("POST", path) for r in batch.service.requests)


def left(batch: Cloud) -> set[str]:
    """Return the folders that hold something in storage."""
    store: ObjectStore = store_of(batch.storage)
    return {key.split("/")[0] for key in keys_of(store, "")}


def test_a_run_finishes_and_its_output_is_shown(
    batch: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    submitted = submit(batch, {"text": 'it\'s $HOME; a "test"'})

    assert submitted.wait()

    shown = capfd.readouterr().out
    assert 'hello from local[*] with it\'s $HOME; a "test"' in shown
    assert "error: on standard error" in shown
    assert "exit code 0: done" in shown
    assert run_of(submitted).info.status == submitted.get_status() == "FINISHED"
    assert run_of(submitted).data.tags["recsys.job_id"] == f"recsys-{submitted.run_id}"
    assert left(batch) == {"projects"}


def test_a_failed_entry_point_is_told_in_words(
    batch: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    submitted = submit(batch, {"code": 3})

    assert not submitted.wait()

    assert "exit code 3: refused by an audit" in capfd.readouterr().out
    assert run_of(submitted).info.status == "FAILED"
    assert "refused by an audit" in error_of(submitted)


def test_a_cancelled_run_is_killed_and_nothing_is_left_running(batch: Cloud) -> None:
    submitted = submit(batch, {"seconds": 600})
    wait_until(batch, "running")

    submitted.cancel()

    assert run_of(submitted).info.status == "KILLED"
    assert batch.service.running() == []


def test_a_job_that_is_ended_from_outside_is_killed(batch: Cloud) -> None:
    submitted = submit(batch, {"seconds": 600})
    wait_until(batch, "running")
    options = BatchJobTerminateOptions(termination_reason="UserTerminate")
    submitted.client.begin_terminate_job(submitted.job_id, options, polling_interval=0)

    assert not submitted.wait()

    assert run_of(submitted).info.status == "KILLED"
    assert "ended from outside" in error_of(submitted)


def test_the_same_run_is_submitted_once_and_then_followed(
    batch: Cloud, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = submit(batch, {"seconds": 2})
    monkeypatch.setenv("MLFLOW_RUN_ID", first.run_id)
    second = submit(batch, {"seconds": 2})

    assert (second.run_id, second.job_id) == (first.run_id, first.job_id)
    assert second.wait()
    assert len(batch.service.jobs) == 1
    assert "is there already: following it" in capfd.readouterr().out


def test_a_lost_answer_makes_no_second_job(batch: Cloud) -> None:
    batch.service.faults.add("POST", "/jobs", "lost", 1)

    submitted = submit(batch)

    assert submitted.wait()
    assert creations(batch, "/jobs") == 2
    assert len(batch.service.jobs) == 1


def test_a_busy_service_is_asked_again_when_it_says(batch: Cloud) -> None:
    batch.service.faults.add("POST", "/jobs", 429, 1, retry_after=1)
    start = time.monotonic()

    assert submit(batch).wait()

    assert time.monotonic() - start > 1
    assert creations(batch, "/jobs") == 2


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_service_that_fails_now_and_then_does_not_end_the_run(batch: Cloud) -> None:
    submitted = submit(batch, {"seconds": 1})
    batch.service.faults.add("GET", "/jobs", 503, 6)

    assert submitted.wait()


def test_a_service_that_stays_away_is_named_in_bounded_time(
    batch: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE", 1)
    monkeypatch.setattr(following, "TERMINATED_WITHIN", 1)
    submitted = submit(batch, {"seconds": 600})
    submitted.client._config.retry_policy.total_retries = 1
    batch.service.faults.add("GET", "/jobs", 503, 10_000)

    assert not submitted.wait()

    assert "Batch refused (ServerBusy)" in error_of(submitted)


def test_capacity_that_never_comes_is_named(batch: Cloud) -> None:
    batch.service.capacity = 0
    submitted = submit(batch, capacity_minutes=0.03)

    assert not submitted.wait()

    assert "No usable node came within 0.03 minutes" in error_of(submitted)
    assert run_of(submitted).info.status == "FAILED"
    assert submitted.client.get_job(submitted.job_id).state == "completed"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_pools_own_reason_is_told(batch: Cloud) -> None:
    batch.service.capacity = 0
    submitted = submit(batch, capacity_minutes=0.1)
    wait_until(batch, "active")
    threading.Timer(2, batch.service.clock.advance, (3600,)).start()

    assert not submitted.wait()

    assert "AllocationTimedOut" in error_of(submitted)


def test_a_driver_that_needs_a_dedicated_node_does_not_take_a_spot_node(batch: Cloud) -> None:
    batch.service.dedicated_capacity = 0
    submitted = submit(batch, capacity_minutes=0.03, pool=SPOT_AND_DEDICATED)

    assert not submitted.wait()

    assert "No usable node came" in error_of(submitted)


def test_a_start_task_that_fails_is_named_with_the_end_of_its_log(batch: Cloud) -> None:
    submitted = submit(batch, pool={"environment": "/opt/nothing"})

    assert not submitted.wait()

    assert "The start task of node tvmps_" in error_of(submitted)
    assert "/opt/nothing is not the project's environment" in error_of(submitted)
    assert submitted.client.get_job(submitted.job_id).state == "completed"


def test_nodes_that_stay_unusable_are_named(batch: Cloud) -> None:
    batch.service.break_next_nodes(5)
    submitted = submit(batch, capacity_minutes=0.05)

    assert not submitted.wait()

    assert "are unusable" in error_of(submitted)
    assert "its agent does not answer" in error_of(submitted)


def test_a_pool_that_is_deleted_meanwhile_is_named(batch: Cloud) -> None:
    submitted = submit(batch, {"seconds": 600})
    wait_until(batch, "running")
    submitted.client.begin_delete_pool(POOL, polling_interval=0)

    assert not submitted.wait()

    assert re.search("Pool recsys was deleted|was ended from outside", error_of(submitted))
    assert batch.service.running() == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_preempted_driver_runs_again_and_the_run_finishes(
    batch: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    submitted = submit(batch, {"seconds": 3})
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(submitted.wait()))
    waiting.start()
    shown = ""
    while "hello from" not in shown and waiting.is_alive():
        time.sleep(0.1)
        shown += capfd.readouterr().out
    batch.service.preempt(POOL, next(iter(batch.service.pools[POOL].nodes)))
    waiting.join(60)

    shown += capfd.readouterr().out
    assert done == [True]
    assert "the driver runs again" in shown
    assert shown.count("hello from") == 2


def test_a_job_whose_time_is_up_is_named(batch: Cloud) -> None:
    submitted = submit(batch, {"seconds": 600}, max_hours=1)
    wait_until(batch, "running")
    batch.service.clock.advance(3700)

    assert not submitted.wait()

    assert "raise max_hours" in error_of(submitted)


def test_a_dry_run_prints_the_requests_and_sends_nothing(
    batch: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DRY_RUN", "1")

    with pytest.raises(SystemExit) as end:
        submit(batch, {"code": 7})

    head, _, body = capsys.readouterr().out.partition("\n")
    requests = json.loads(body)
    assert end.value.code == 0
    assert head == "# 1 Spot node for 4 h"
    assert requests["POST /pools"]["id"] == POOL
    manager = requests["POST /jobs"]["jobManagerTask"]
    assert {"name": "RECSYS_COMMAND", "value": "python work.py 7 0 none"} in (
        manager["environmentSettings"]
    )
    assert manager["resourceFiles"][0]["httpUrl"].endswith("?sig=***")
    assert batch.service.requests == []
    assert left(batch) == set()


@pytest.mark.parametrize(
    ("config", "parameters", "told"),
    [
        ({"nodes": 3}, {}, "unknown parameter 'nodes'"),
        ({"storage": "out"}, {}, "no folder in Blob storage"),
        ({"max_cost": 1, "price_per_node_hour": {"dedicated": 9, "spot": 8}}, {}, "lower"),
        ({"storage": "az://no-such-container"}, {}, "There is no container"),
    ],
)
def test_what_cannot_be_submitted_is_refused_with_the_cure(
    batch: Cloud, config: dict[str, Any], parameters: Parameters, told: str
) -> None:
    with pytest.raises(ExecutionException, match=told):
        submit(batch, parameters, **config)
    assert batch.service.jobs == {}


def test_a_tracking_store_on_this_disk_is_refused_where_nodes_are_elsewhere(batch: Cloud) -> None:
    with pytest.raises(ExecutionException, match="start `mlflow server`"):
        submit(batch, batch_endpoint="https://shop.westeurope.batch.azure.com")


def test_no_secret_is_in_a_request_or_shown(
    batch: Cloud, capfd: pytest.CaptureFixture[str]
) -> None:
    assert submit(batch).wait()

    sent = json.dumps([body for _, _, body in batch.service.requests])
    shown = capfd.readouterr().out
    for name in ("AccountKey", batch.service.key, "AZURE_STORAGE", "BATCH_ACCESS_KEY"):
        assert name not in sent
        assert name not in shown
    assert "sig=" not in shown
    assert "sig=" in sent


def test_mlflow_run_submits_waits_and_names_the_backend(
    batch: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(loader.MLFLOW_BACKENDS, "azure-batch", AzureBatchBackend)
    ways = {"backend": "azure-batch", "backend_config": batch.config(), "run_name": "tiny"}

    done = mlflow.projects.run(str(batch.project), experiment_name="recsys", **ways)
    with pytest.raises(ExecutionException, match="failed"):
        mlflow.projects.run(
            str(batch.project), parameters={"code": 1}, experiment_name="recsys", **ways
        )

    assert run_of(done).data.tags["mlflow.project.backend"] == "azure-batch"
    assert run_of(done).info.run_name == "tiny"
    statuses = [r.info.status for r in MlflowClient().search_runs(["1"])]
    assert sorted(statuses) == ["FAILED", "FINISHED"]


def test_code_that_went_away_before_the_driver_started_is_named(batch: Cloud) -> None:
    batch.service.capacity = 0
    submitted = submit(batch)
    store = store_of(batch.storage)
    manager = submitted.client.get_job(submitted.job_id).job_manager_task
    assert manager and manager.resource_files
    name = urlsplit(manager.resource_files[0].http_url or "").path.rsplit("/", 1)[1]
    remove(store, [f"projects/{name}"])
    batch.service.capacity = None

    assert not submitted.wait()

    assert "the driver failed (BlobNotFound" in error_of(submitted)


@pytest.mark.parametrize("code", [0, 3])
def test_the_command_line_follows_a_run_and_exits_as_it_did(
    batch: Cloud, tmp_path: Path, code: int
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(batch.config(follow=True)))
    command = [Path(sys.executable).with_name("mlflow"), "run", str(batch.project)]
    command += ["--backend", "azure-batch", "--backend-config", str(file), "-P", f"code={code}"]

    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)

    assert (done.returncode == 0) == (code == 0)
    assert "hello from local[*]" in done.stdout
    assert f"exit code {code}" in done.stdout
