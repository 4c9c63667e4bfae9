"""Jobs: managers, tokens, ends, limits."""

from datetime import timedelta

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchJob,
    BatchJobConstraints,
    BatchJobCreateOptions,
    BatchJobDisableOptions,
    BatchJobManagerTask,
    BatchJobUpdateOptions,
    BatchPoolInfo,
    BatchPoolResizeOptions,
    BatchTaskCreateOptions,
    ExitCodeMapping,
    ExitConditions,
    ExitOptions,
)
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)

from tests.batch_service import clients
from tests.batch_service.clients import ask, until
from tests.batch_service.service import BatchService

POOL = BatchPoolInfo(pool_id="pool")


def make(client: BatchClient, name: str = "job", **more: object) -> None:
    client.create_job(BatchJobCreateOptions(id=name, pool_info=POOL, **more))


def manager(script: str, **more: object) -> BatchJobManagerTask:
    return BatchJobManagerTask(id="manager", command_line=f"/bin/bash -c '{script}'", **more)


def add(client: BatchClient, name: str, script: str, **more: object) -> None:
    task = BatchTaskCreateOptions(id=name, command_line=f"/bin/bash -c '{script}'", **more)
    client.create_task("job", task)


def over(client: BatchClient, name: str = "job") -> BatchJob:
    def look() -> BatchJob | None:
        found = client.get_job(name)
        return found if found.state == "completed" else None

    return until(look)


def task_state(client: BatchClient, name: str) -> str:
    return str(client.get_task("job", name).state.value)


def test_a_manager_that_asks_for_it_waits_for_a_dedicated_node(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    make(client, job_manager_task=manager("sleep 600", allow_low_priority_node=False))
    add(client, "worker", "sleep 600")
    until(lambda: task_state(client, "worker") == "running")
    assert task_state(client, "manager") == "active"
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_dedicated_nodes=1))
    until(lambda: task_state(client, "manager") == "running")
    assert client.get_task("job", "manager").node_info.node_id.endswith("_d")


@pytest.mark.parametrize("code", [0, 5])
def test_the_end_of_the_manager_ends_the_job(
    service: BatchService, client: BatchClient, code: int
) -> None:
    clients.pool(client, dedicated=1, spot=2)
    wait = "until [ -e {} ]; do sleep 0.05; done"
    left, told = wait.format("/dev/shm/none"), wait.format("$AZ_BATCH_NODE_SHARED_DIR/end")
    make(client, job_manager_task=manager(f"{left} & {told}; exit {code}"))
    add(client, "runs", "sleep 600")
    add(client, "waits", "sleep 600", required_slots=1)
    until(lambda: task_state(client, "runs") == "running")
    node = client.get_task("job", "manager").node_info.node_id
    (service.folder / "nodes" / node / "tasks/shared/end").touch()
    assert over(client).execution_info.termination_reason == "JMComplete"
    assert service.running() == []
    assert client.get_task("job", "manager").execution_info.exit_code == code
    assert client.get_task("job", "runs").execution_info.failure_info.code == "TaskEnded"


def test_a_manager_may_leave_the_job_running(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    make(client, job_manager_task=manager("exit 0", kill_job_on_completion=False))
    until(lambda: task_state(client, "manager") == "completed")
    add(client, "later", "exit 0")
    until(lambda: task_state(client, "later") == "completed")
    assert client.get_job("job").state == "active"


def test_a_token_is_good_for_its_own_job_while_the_task_runs(service: BatchService) -> None:
    client = clients.connect(service)
    clients.pool(client, spot=1)
    make(client, "other")
    # The client's models know no such setting any more; the service takes it in JSON.
    body = {
        "id": "job",
        "poolInfo": {"poolId": "pool"},
        "jobManagerTask": {
            "id": "manager",
            "commandLine": "/bin/bash -c 'echo $AZ_BATCH_AUTHENTICATION_TOKEN; sleep 600'",
            "authenticationTokenSettings": {"access": ["job"]},
            "killJobOnCompletion": False,
        },
    }
    assert ask(service, "POST", "/jobs", body).status == 201
    token = until(lambda: printed(client, "manager"))
    task = {"id": "made", "commandLine": "/bin/true"}
    assert ask(service, "POST", "/jobs/job/tasks", task, token=token).status == 201
    for path in ("/jobs/other/tasks", "/jobs/job2/tasks", "/jobs", "/pools"):
        assert refusal(ask(service, "POST", path, task, token=token)) == "AuthenticationFailed"
    assert refusal(ask(service, "GET", "/jobs/job", token="made up")) == "AuthenticationFailed"
    client.terminate_task("job", "manager")
    ended = ask(service, "POST", "/jobs/job/tasks", task | {"id": "late"}, token=token)
    assert refusal(ended) == "AuthenticationFailed"


def printed(client: BatchClient, name: str) -> str:
    """Return what a task has written; nothing where its file is not there yet."""
    try:
        return b"".join(client.download_task_file("job", name, "stdout.txt")).decode().strip()
    except ResourceNotFoundError:
        return ""


def refusal(reply: clients.Reply) -> str:
    assert reply.status == 403
    return str(reply.body["code"])


def test_a_job_ends_with_its_tasks_where_it_is_told_to(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    make(client)
    add(client, "task", "exit 3")
    until(lambda: task_state(client, "task") == "completed")
    service.clock.advance(60)
    assert client.get_job("job").state == "active"
    client.update_job("job", BatchJobUpdateOptions(all_tasks_complete_mode="terminatejob"))
    assert over(client).execution_info.termination_reason == "AllTasksComplete"
    for change in (lambda: add(client, "late", "true"), lambda: client.begin_enable_job("job")):
        with pytest.raises(ResourceExistsError) as refused:
            change()
        assert refused.value.error.code == "JobCompleted"


def test_a_job_without_tasks_counts_as_one_whose_tasks_are_complete(
    service: BatchService, client: BatchClient
) -> None:
    make(client, all_tasks_complete_mode="terminatejob")
    assert client.get_job("job").state == "active"
    service.clock.advance(5)
    assert over(client).execution_info.termination_reason == "AllTasksComplete"


def test_exit_conditions_end_a_job(client: BatchClient) -> None:
    clients.pool(client, spot=1)
    make(client, task_failure_mode="performexitoptionsjobaction")
    fatal = ExitConditions(
        exit_codes=[ExitCodeMapping(code=9, exit_options=ExitOptions(job_action="terminate"))]
    )
    add(client, "bearable", "exit 8", exit_conditions=fatal)
    until(lambda: task_state(client, "bearable") == "completed")
    assert client.get_job("job").state == "active"
    add(client, "fatal", "exit 9", exit_conditions=fatal)
    assert over(client).execution_info.termination_reason == "TaskFailed"


def test_a_job_ends_when_its_time_is_up(service: BatchService, client: BatchClient) -> None:
    clients.pool(client, spot=1)
    limit = BatchJobConstraints(max_wall_clock_time=timedelta(hours=2))
    make(client, constraints=limit)
    add(client, "task", "sleep 600")
    until(lambda: task_state(client, "task") == "running")
    service.clock.advance(3600)
    assert client.get_job("job").state == "active"
    service.clock.advance(3700)
    assert over(client).execution_info.termination_reason == "MaxWallClockTimeExpiry"
    assert service.running() == []


def test_termination_gives_its_reason_and_leaves_waiting_tasks_waiting(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    make(client)
    for name in ("runs", "waits"):
        add(client, name, "sleep 600")
    until(lambda: task_state(client, "runs") == "running")
    # The client's own class for this is not exported.
    options = {"terminateReason": "budget"}
    client.begin_terminate_job("job", options=options, polling_interval=0).wait()
    assert over(client).execution_info.termination_reason == "budget"
    assert service.running() == []
    assert [task_state(client, name) for name in ("runs", "waits")] == ["completed", "active"]
    client.begin_delete_job("job", polling_interval=0).wait()
    with pytest.raises(HttpResponseError) as gone:
        client.get_job("job")
    assert gone.value.error.code == "JobNotFound"


def test_a_disabled_job_runs_nothing_until_enabled(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    make(client)
    add(client, "task", "sleep 600")
    until(lambda: task_state(client, "task") == "running")
    options = BatchJobDisableOptions(disable_tasks="requeue")
    client.begin_disable_job("job", options, polling_interval=0).wait()
    assert (task_state(client, "task"), service.running()) == ("active", [])
    client.begin_enable_job("job", polling_interval=0).wait()
    until(lambda: task_state(client, "task") == "running")


def test_jobs_of_higher_priority_go_first(client: BatchClient) -> None:
    for name, priority in (("low", 0), ("high", 100)):
        make(client, name, priority=priority)
        client.create_task(name, BatchTaskCreateOptions(id="t", command_line="/bin/sleep 600"))
    clients_pool_of_one(client)
    until(lambda: client.get_task("high", "t").state == "running")
    assert client.get_task("low", "t").state == "active"


def clients_pool_of_one(client: BatchClient) -> None:
    clients.pool(client)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=1))


def test_a_preempted_manager_runs_again(service: BatchService, client: BatchClient) -> None:
    (node,) = clients.pool(client, spot=1)
    make(client, job_manager_task=manager("sleep 600"))
    until(lambda: task_state(client, "manager") == "running")
    # The node would be back before one could look.
    service.capacity = 0
    service.preempt("pool", node.id)
    assert task_state(client, "manager") == "active"
    service.capacity = None
    until(lambda: task_state(client, "manager") == "running")
    assert client.get_job("job").state == "active"
