"""Job schedules against the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchJobConstraints,
    BatchJobManagerTask,
    BatchJobSchedule,
    BatchJobScheduleConfiguration,
    BatchJobScheduleCreateOptions,
    BatchJobScheduleUpdateOptions,
    BatchJobSpecification,
    BatchPoolInfo,
)
from azure.core.exceptions import HttpResponseError

from tests.batch_service import clients
from tests.batch_service.clients import until
from tests.batch_service.service import BatchService

HOUR = timedelta(hours=1)


def schedule(client: BatchClient, command: str = "/bin/true", **timing: object) -> None:
    timing.setdefault("recurrence_interval", HOUR)
    client.create_job_schedule(
        BatchJobScheduleCreateOptions(
            id="nightly",
            schedule=BatchJobScheduleConfiguration(**timing),
            job_specification=BatchJobSpecification(
                pool_info=BatchPoolInfo(pool_id="pool"),
                job_manager_task=BatchJobManagerTask(id="m", command_line=command),
                constraints=BatchJobConstraints(max_task_retry_count=2),
            ),
        )
    )


def jobs(client: BatchClient) -> dict[str, str]:
    """Return the schedule's jobs and their states."""
    found = client.list_jobs_from_schedule("nightly")
    return {job.id.removeprefix("nightly:"): str(job.state.value) for job in found}


def get(client: BatchClient) -> BatchJobSchedule:
    return client.get_job_schedule("nightly")


def settled(client: BatchClient, number: int) -> None:
    """Wait until so many jobs were made and all are over."""
    until(lambda: list(jobs(client).values()) == ["completed"] * number)


def end_job(client: BatchClient, name: str) -> None:
    # Without options the client fails before it asks.
    options = {"terminateReason": "done"}
    client.begin_terminate_job(f"nightly:{name}", options, polling_interval=0).wait()
    until(lambda: client.get_job(f"nightly:{name}").state == "completed")


def test_a_job_is_made_at_each_recurrence(service: BatchService, client: BatchClient) -> None:
    clients.pool(client, spot=1)
    begin = service.clock.now()
    schedule(client)
    for number in (1, 2, 3):
        settled(client, number)
        found = get(client).execution_info
        assert found.recent_job.id == f"nightly:job-{number}"
        assert abs(found.next_run_time - begin - number * HOUR) < timedelta(seconds=30)
        service.clock.advance(3600)
    manager = client.get_task("nightly:job-2", "m")
    assert manager.constraints.max_task_retry_count == 2
    assert client.get_job("nightly:job-2").execution_info.termination_reason == "JMComplete"


def test_nothing_runs_before_its_time(service: BatchService, client: BatchClient) -> None:
    start = service.clock.now() + timedelta(days=2)
    schedule(client, do_not_run_until=start)
    service.clock.advance(47 * 3600)
    assert jobs(client) == {}
    assert get(client).execution_info.recent_job is None
    service.clock.advance(2 * 3600)
    assert jobs(client) == {"job-1": "active"}
    assert client.get_job("nightly:job-1").creation_time - start < timedelta(seconds=30)


def test_the_next_job_waits_for_the_last_one_within_its_window(
    service: BatchService, client: BatchClient
) -> None:
    schedule(client, start_window=timedelta(minutes=20))
    service.clock.advance(3600 + 10 * 60)
    assert jobs(client) == {"job-1": "active"}
    end_job(client, "job-1")
    until(lambda: jobs(client) == {"job-1": "completed", "job-2": "active"})


def test_a_window_that_passes_while_a_job_is_active_is_missed(
    service: BatchService, client: BatchClient
) -> None:
    schedule(client, start_window=timedelta(minutes=20))
    service.clock.advance(3600 + 30 * 60)
    end_job(client, "job-1")
    service.clock.advance(20 * 60)
    assert jobs(client) == {"job-1": "completed"}
    service.clock.advance(15 * 60)
    assert jobs(client) == {"job-1": "completed", "job-2": "active"}


def test_without_a_window_a_due_job_is_not_carried_into_the_next_recurrence(
    service: BatchService, client: BatchClient
) -> None:
    schedule(client)
    service.clock.advance(3 * 3600 + 60)
    end_job(client, "job-1")
    until(lambda: jobs(client) == {"job-1": "completed", "job-2": "active"})
    end_job(client, "job-2")
    service.clock.advance(30 * 60)
    assert len(jobs(client)) == 2


def test_a_paused_schedule_makes_no_jobs_and_goes_on_at_the_next_recurrence(
    service: BatchService, client: BatchClient
) -> None:
    schedule(client, start_window=timedelta(minutes=5))
    end_job(client, "job-1")
    client.disable_job_schedule("nightly")
    assert get(client).state == "disabled"
    service.clock.advance(5 * 3600 + 1800)
    assert len(jobs(client)) == 1
    client.enable_job_schedule("nightly")
    service.clock.advance(60)
    assert len(jobs(client)) == 1
    service.clock.advance(1800)
    assert list(jobs(client)) == ["job-1", "job-2"]


def test_two_schedules_do_not_disturb_each_other(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=2)
    schedule(client, "/bin/sleep 600")
    other = BatchJobScheduleCreateOptions(
        id="hourly",
        schedule=BatchJobScheduleConfiguration(recurrence_interval=HOUR),
        job_specification=BatchJobSpecification(
            pool_info=BatchPoolInfo(pool_id="pool"),
            job_manager_task=BatchJobManagerTask(id="m", command_line="/bin/true"),
        ),
    )
    client.create_job_schedule(other)
    until(lambda: client.get_job("hourly:job-1").state == "completed")
    service.clock.advance(3700)
    until(lambda: client.get_job("hourly:job-2").state == "completed")
    assert jobs(client) == {"job-1": "active"}
    assert [s.id for s in client.list_job_schedules()] == ["nightly", "hourly"]


def test_a_schedule_completes_after_its_last_time_and_its_last_job(
    service: BatchService, client: BatchClient
) -> None:
    schedule(client, do_not_run_after=service.clock.now() + timedelta(minutes=90))
    service.clock.advance(60)
    end_job(client, "job-1")
    service.clock.advance(3600)
    assert len(jobs(client)) == 2
    service.clock.advance(3600)
    assert get(client).state == "active"
    end_job(client, "job-2")
    until(lambda: get(client).state == "completed")
    assert get(client).execution_info.end_time is not None
    with pytest.raises(HttpResponseError) as refused:
        client.disable_job_schedule("nightly")
    assert refused.value.error.code == "JobScheduleCompleted"


def test_termination_ends_the_active_job_and_deletion_removes_all(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    schedule(client, "/bin/sleep 600")
    until(lambda: client.get_task("nightly:job-1", "m").state == "running")
    client.begin_terminate_job_schedule("nightly", polling_interval=0).wait()
    until(lambda: get(client).state == "completed")
    job = client.get_job("nightly:job-1")
    assert (job.state, service.running()) == ("completed", [])
    assert job.execution_info.termination_reason == "TerminateJobSchedule"
    client.begin_delete_job_schedule("nightly", polling_interval=0).wait()
    until(lambda: not list(client.list_jobs()))
    with pytest.raises(HttpResponseError) as gone:
        get(client)
    assert gone.value.error.code == "JobScheduleNotFound"


def test_a_changed_schedule_counts_from_now(service: BatchService, client: BatchClient) -> None:
    schedule(client)
    end_job(client, "job-1")
    timing = BatchJobScheduleConfiguration(recurrence_interval=timedelta(days=7))
    client.update_job_schedule("nightly", BatchJobScheduleUpdateOptions(schedule=timing))
    service.clock.advance(6 * 86400)
    assert len(jobs(client)) == 1
    service.clock.advance(86400)
    assert len(jobs(client)) == 2


@pytest.mark.parametrize("name", ["start_window", "recurrence_interval"])
def test_too_short_times_are_refused(client: BatchClient, name: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        schedule(client, **{name: timedelta(seconds=59)})
    assert refused.value.error.code == "InvalidPropertyValue"


def test_a_month_passes_in_the_order_of_its_days(
    service: BatchService, client: BatchClient
) -> None:
    clients.pool(client, spot=1)
    schedule(client, recurrence_interval=timedelta(days=1))
    for day in range(1, 6):
        settled(client, day)
        service.clock.advance(86400)
    settled(client, 6)
    made = [client.get_job(f"nightly:job-{n}").creation_time for n in range(1, 7)]
    gaps = [later - before for before, later in pairwise(made)]
    assert all(abs(gap - timedelta(days=1)) < timedelta(seconds=30) for gap in gaps)
    assert made[-1] > datetime.now(UTC) + timedelta(days=4)
