"""Tasks: what they see, how they end, and that nothing of them is left."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchJobCreateOptions,
    BatchPoolInfo,
    BatchPoolResizeOptions,
    BatchTask,
    BatchTaskConstraints,
    BatchTaskCreateOptions,
    BatchTaskDependencies,
    EnvironmentSetting,
    ResourceFile,
)
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas

from tests import azurite
from tests.batch_service import clients
from tests.batch_service.clients import until
from tests.batch_service.service import BatchService


def job(client: BatchClient, name: str = "job", pool: str = "pool", **more: object) -> None:
    client.create_job(BatchJobCreateOptions(id=name, pool_info=BatchPoolInfo(pool_id=pool), **more))


def add(client: BatchClient, name: str, script: str, **more: object) -> None:
    task = BatchTaskCreateOptions(id=name, command_line=f"/bin/bash -c '{script}'", **more)
    client.create_task("job", task)


def ended(client: BatchClient, name: str) -> BatchTask:
    return in_state(client, name, "completed")


def in_state(client: BatchClient, name: str, state: str) -> BatchTask:
    def look() -> BatchTask | None:
        task = client.get_task("job", name)
        return task if task.state == state else None

    return until(look)


def output(client: BatchClient, name: str, file: str = "stdout.txt", **more: object) -> str:
    return b"".join(client.download_task_file("job", name, file, **more)).decode()


def test_a_task_runs_with_the_environment_of_a_node_and_no_other(
    service: BatchService, client: BatchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_TEST", "1")
    (node,) = clients.pool(client, spot=1)
    settings = [
        EnvironmentSetting(name="MINE", value="a b"),
        EnvironmentSetting(name="J", value="t"),
    ]
    job(client, common_environment_settings=[EnvironmentSetting(name="J", value="job")])
    add(client, "task", "env; pwd", environment_settings=settings)
    assert ended(client, "task").execution_info.exit_code == 0
    lines = output(client, "task").splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    root = seen["AZ_BATCH_NODE_ROOT_DIR"]
    folder = f"{root}/workitems/job/job-1/task"
    assert lines[-1] == f"{folder}/wd"
    assert "OF_THE_TEST" not in seen
    assert (
        seen.items()
        >= {
            "AZ_BATCH_ACCOUNT_NAME": service.account,
            "AZ_BATCH_ACCOUNT_URL": service.url,
            "AZ_BATCH_JOB_ID": "job",
            "AZ_BATCH_TASK_ID": "task",
            "AZ_BATCH_POOL_ID": "pool",
            "AZ_BATCH_NODE_ID": node.id,
            "AZ_BATCH_NODE_IS_DEDICATED": "false",
            "AZ_BATCH_NODE_SHARED_DIR": f"{root}/shared",
            "AZ_BATCH_NODE_STARTUP_DIR": f"{root}/startup",
            "AZ_BATCH_TASK_DIR": folder,
            "AZ_BATCH_TASK_WORKING_DIR": f"{folder}/wd",
            "SPARK_LOCAL_IP": node.ip_address,
            "GREETING": "from the image",
            "MINE": "a b",
            "J": "t",
        }.items()
    )
    if service.isolated:
        assert root == "/mnt/batch/tasks"


def test_no_shell_reads_the_command_line(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    task = BatchTaskCreateOptions(id="task", command_line='/bin/echo $HOME > x "a  b" | cat')
    client.create_task("job", task)
    ended(client, "task")
    assert output(client, "task") == "$HOME > x a  b | cat\n"


def test_exit_codes_and_missing_programs_are_told_apart(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    add(client, "good", "exit 0")
    add(client, "bad", "exit 7")
    add(client, "killed", "kill -KILL $$")
    client.create_task("job", BatchTaskCreateOptions(id="none", command_line="no-such-program"))
    ends = {name: ended(client, name).execution_info for name in ("good", "bad", "killed", "none")}
    assert {n: (e.exit_code, e.result) for n, e in ends.items()} == {
        "good": (0, "success"),
        "bad": (7, "failure"),
        "killed": (137, "failure"),
        "none": (None, "failure"),
    }
    assert ends["bad"].failure_info.code == "FailureExitCode"
    assert ends["none"].failure_info.code == "CommandProgramNotFound"


def test_a_task_is_tried_again_as_often_as_it_may_be(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    limit = BatchTaskConstraints(max_task_retry_count=2)
    add(client, "never", "exit 1", constraints=limit)
    script = "cd $AZ_BATCH_NODE_SHARED_DIR; echo x >> tries; [ $(wc -l < tries) = 2 ]"
    add(client, "second", script, constraints=limit)
    info = ended(client, "never").execution_info
    assert (info.retry_count, info.exit_code) == (2, 1)
    info = ended(client, "second").execution_info
    assert (info.retry_count, info.exit_code, info.result) == (1, 0, "success")


def test_a_task_ends_when_its_time_is_up(service: BatchService, client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    limit = BatchTaskConstraints(max_wall_clock_time=timedelta(minutes=10), max_task_retry_count=3)
    add(client, "task", "sleep 600", constraints=limit)
    in_state(client, "task", "running")
    service.clock.advance(9 * 60)
    assert client.get_task("job", "task").state == "running"
    service.clock.advance(2 * 60)
    info = ended(client, "task").execution_info
    assert (info.result, info.exit_code, info.failure_info.code) == ("failure", None, "TaskEnded")
    assert not service.running()


def test_terminating_a_task_kills_its_grandchildren(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    job(client)
    add(client, "task", "(setsid nohup sleep 600 &) ; trap true TERM; sleep 600 & wait; sleep 600")
    until(lambda: len(service.running()) >= 4)
    client.terminate_task("job", "task")
    assert service.running() == []
    assert ended(client, "task").execution_info.failure_info.code == "TaskEnded"
    with pytest.raises(ResourceExistsError) as refused:
        client.terminate_task("job", "task")
    assert refused.value.error.code == "TaskCompleted"


def test_what_a_task_leaves_running_ends_with_it(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    job(client)
    add(client, "task", "setsid nohup sleep 600 & sleep 0.1")
    ended(client, "task")
    assert service.running() == []


def test_resource_files_come_from_blob_storage(client: BatchClient, tmp_path: Path) -> None:
    clients.pool(client, spot=1)
    job(client)
    with azurite.running(tmp_path / "azurite") as connection:
        storage = BlobServiceClient.from_connection_string(connection)
        storage.create_container("files").upload_blob("run.sh", b"#!/bin/bash\necho from blob $1\n")
        urls = {
            name: f"{storage.url}files/{blob}?{sas(until_hours)}"
            for name, blob, until_hours in (
                ("good", "run.sh", 1),
                ("missing", "other.sh", 1),
                ("expired", "run.sh", -1),
            )
        }
        for name, url in urls.items():
            file = ResourceFile(http_url=url, file_path="bin/run.sh", file_mode="0755")
            task = BatchTaskCreateOptions(
                id=name, command_line="bin/run.sh now", resource_files=[file]
            )
            client.create_task("job", task)
        infos = {name: ended(client, name).execution_info for name in urls}
    assert output(client, "good") == "from blob now\n"
    assert infos["missing"].failure_info.code == "BlobNotFound"
    assert infos["expired"].failure_info.code == "BlobAccessDenied"
    assert infos["expired"].failure_info.category == "usererror"
    assert (infos["expired"].exit_code, infos["expired"].result) == (None, "failure")


def sas(hours: int) -> str:
    return generate_container_sas(
        azurite.ACCOUNT,
        "files",
        azurite.KEY,
        permission=ContainerSasPermissions(read=True),
        start=datetime.now(UTC) - timedelta(hours=2),
        expiry=datetime.now(UTC) + timedelta(hours=hours),
    )


def test_files_are_listed_and_read_in_parts(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    add(client, "task", "mkdir -p a/b; echo 0123456789; echo deep > a/b/c.txt")
    ended(client, "task")
    names = {file.name: file for file in client.list_task_files("job", "task", recursive=True)}
    assert set(names) == {"stdout.txt", "stderr.txt", "wd", "wd/a", "wd/a/b", "wd/a/b/c.txt"}
    assert names["stdout.txt"].properties.content_length == 11
    assert output(client, "task", "wd/a/b/c.txt") == "deep\n"
    assert output(client, "task", ocp_range="bytes=2-4") == "234"
    assert output(client, "task", ocp_range="bytes=8-") == "89\n"
    assert client.get_task_file_properties("job", "task", "stdout.txt").content_length == 11
    for name in ("other.txt", "../../../../shared"):
        with pytest.raises(ResourceNotFoundError):
            client.download_task_file("job", "task", name)


def test_tasks_wait_for_those_they_depend_on(client: BatchClient) -> None:
    clients.pool(client, spot=2)
    job(client, uses_task_dependencies=True)
    after = BatchTaskDependencies(task_ids=["first"])
    add(client, "last", "cat $AZ_BATCH_TASK_DIR/../first/stdout.txt || true", depends_on=after)
    never = BatchTaskDependencies(task_ids=["bad"])
    add(client, "blocked", "true", depends_on=never)
    add(client, "bad", "exit 1")
    assert client.get_task("job", "last").state == "active"
    add(client, "first", "sleep 0.2; echo first")
    before = ended(client, "first").execution_info.end_time
    assert ended(client, "last").execution_info.start_time >= before
    ended(client, "bad")
    assert client.get_task("job", "blocked").state == "active"


def test_dependencies_need_a_job_that_allows_them(client: BatchClient) -> None:
    job(client)
    with pytest.raises(HttpResponseError) as refused:
        add(client, "t", "true", depends_on=BatchTaskDependencies(task_ids=["x"]))
    assert refused.value.error.code == "TaskDependenciesNotSpecifiedOnJob"


def test_slots_bound_what_a_node_runs_at_once(client: BatchClient) -> None:
    clients.pool(client, spot=1, task_slots_per_node=3)
    job(client)
    for name, slots in (("a", 2), ("b", 1), ("c", 1)):
        add(client, name, "sleep 600", required_slots=slots)
    in_state(client, "b", "running")
    states = [client.get_task("job", name).state for name in "abc"]
    assert states == ["running", "running", "active"]
    client.terminate_task("job", "b")
    in_state(client, "c", "running")


def test_a_failed_task_may_be_reactivated_and_a_deleted_one_is_gone(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    job(client)
    add(
        client,
        "task",
        "[ -e $AZ_BATCH_NODE_SHARED_DIR/x ] || { touch $AZ_BATCH_NODE_SHARED_DIR/x; exit 1; }",
    )
    assert ended(client, "task").execution_info.exit_code == 1
    client.reactivate_task("job", "task")
    until(lambda: client.get_task("job", "task").execution_info.exit_code == 0)
    client.delete_task("job", "task")
    assert list(client.list_tasks("job")) == []


def test_a_node_sees_only_its_own_disk_and_processes(
    service: BatchService, client: BatchClient
) -> None:
    if not service.isolated:
        pytest.skip("needs root, to give nodes namespaces of their own")
    clients.pool(client, spot=2)
    job(client)
    show = "ls $AZ_BATCH_NODE_SHARED_DIR; test -e /tmp/mine || echo not there; pgrep -c sleep; "
    add(client, "one", "touch /tmp/mine $AZ_BATCH_NODE_SHARED_DIR/mine; sleep 600")
    one = in_state(client, "one", "running").node_info.node_id
    until(lambda: (service.folder / "nodes" / one / "tasks/shared/mine").exists())
    add(client, "two", show)
    assert ended(client, "two").node_info.node_id != one
    assert output(client, "two").split("\n") == ["not there", "0", ""]
    service.preempt("pool", one)
    assert not (service.folder / "nodes" / one / "tasks/shared/mine").exists()


def test_a_preempted_task_runs_again_elsewhere_without_costing_a_retry(
    service: BatchService, client: BatchClient
) -> None:
    (node,) = clients.pool(client, spot=1)
    job(client)
    add(client, "task", "sleep 600")
    in_state(client, "task", "running")
    # The node itself does not come back.
    service.capacity = 0
    service.preempt("pool", node.id)
    assert service.running() == []
    task = client.get_task("job", "task")
    assert (task.state, task.node_info) == ("active", None)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_dedicated_nodes=1))
    again = in_state(client, "task", "running")
    assert again.execution_info.retry_count == 0
