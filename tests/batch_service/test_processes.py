"""Nothing outlives the service, with namespaces and without."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo, BatchTaskCreateOptions

from tests.batch_service import clients, processes
from tests.batch_service.clients import until
from tests.batch_service.server import running
from tests.batch_service.service import BatchService

# Daemons, as far from their task as processes can get by ordinary means.
STUBBORN = (
    '/bin/bash -c \'trap "" TERM HUP INT; (setsid nohup bash -c "sleep 600; true" &); sleep 600\''
)
SCRIPT = """
import sys, time
from pathlib import Path
from azure.batch.models import BatchJobCreateOptions, BatchPoolInfo, BatchTaskCreateOptions
from tests.batch_service import clients
from tests.batch_service.server import running
with running(Path(sys.argv[1])) as service:
    client = clients.connect(service)
    clients.pool(client, spot=1)
    client.create_job(BatchJobCreateOptions(id="job", pool_info=BatchPoolInfo(pool_id="pool")))
    client.create_task("job", BatchTaskCreateOptions(id="t", command_line=sys.argv[2]))
    clients.until(lambda: len(service.running()) >= 4)
    print(service.url, flush=True)
    if sys.argv[3] == "raise":
        raise KeyError("of the test")
    time.sleep(600)
"""


def submit(client: BatchClient, command: str) -> None:
    clients.pool(client, spot=1)
    client.create_job(BatchJobCreateOptions(id="job", pool_info=BatchPoolInfo(pool_id="pool")))
    client.create_task("job", BatchTaskCreateOptions(id="task", command_line=command))


@pytest.mark.parametrize("isolated", [True, False])
def test_termination_reaches_daemons(
    service: BatchService, client: BatchClient, isolated: bool
) -> None:
    if isolated and not service.isolated:
        pytest.skip("needs root, to give nodes namespaces of their own")
    service.isolated = isolated
    submit(client, STUBBORN)
    until(lambda: len(service.running()) >= 3)
    client.terminate_task("job", "task")
    assert service.running() == []


def test_without_namespaces_nodes_have_folders_of_their_own(
    service: BatchService, client: BatchClient
) -> None:
    service.isolated = False
    submit(client, "/bin/bash -c 'pwd; echo $AZ_BATCH_NODE_SHARED_DIR'")
    until(lambda: client.get_task("job", "task").state == "completed")
    node = client.get_task("job", "task").node_info.node_id
    root = service.folder / "nodes" / node / "tasks"
    output = b"".join(client.download_task_file("job", "task", "stdout.txt")).decode()
    assert output.split() == [f"{root}/workitems/job/job-1/task/wd", f"{root}/shared"]


@pytest.mark.skipif(not processes.can_isolate(), reason="nodes' namespaces need root")
def test_nodes_have_the_environment_of_a_checkout_in_tmp(
    service: BatchService, client: BatchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as checkout:
        Path(checkout, "other").touch()
        environment = Path(checkout, "an environment")
        environment.mkdir()
        (environment / "python").touch()
        monkeypatch.setattr(processes, "ENVIRONMENT", environment)
        submit(client, f"/bin/ls -R {checkout}")
        until(lambda: client.get_task("job", "task").state == "completed")
    output = b"".join(client.download_task_file("job", "task", "stdout.txt")).decode()
    assert "python" in output
    assert "other" not in output


def test_the_end_of_the_service_is_the_end_of_its_processes(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        submit(clients.connect(service), STUBBORN)
        until(lambda: len(service.running()) >= 3)
    assert service.running() == []


@pytest.mark.parametrize("how", ["kill", "raise"])
def test_a_service_that_dies_takes_its_nodes_with_it(tmp_path: Path, how: str) -> None:
    if not processes.can_isolate():
        pytest.skip("needs root, to give nodes namespaces of their own")
    words = [sys.executable, "-c", SCRIPT, str(tmp_path), STUBBORN, how]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root) as plain:
        assert plain.stdout is not None
        url = plain.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:")
        if how == "kill":
            os.kill(plain.pid, signal.SIGKILL)
        plain.communicate()
    marker = {"AZ_BATCH_ACCOUNT_URL": url, "AZ_BATCH_NODE_ID": ""}
    until(lambda: not processes.found(marker), 5)


def test_other_processes_are_left_alone(service: BatchService, client: BatchClient) -> None:
    environment = {**os.environ, "AZ_BATCH_ACCOUNT_URL": service.url}
    with subprocess.Popen(["/bin/sleep", "600"], env=environment) as other:
        submit(client, STUBBORN)
        until(lambda: len(service.running()) >= 3)
        assert other.pid not in service.running()
        client.terminate_task("job", "task")
        assert other.poll() is None
        other.kill()
