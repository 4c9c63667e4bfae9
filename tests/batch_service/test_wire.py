"""What clients may get wrong, faults, conditions, pages and formats."""

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchJobCreateOptions,
    BatchJobUpdateOptions,
    BatchPoolInfo,
    BatchTaskCreateOptions,
)
from azure.core import MatchConditions
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ServiceResponseError,
)

from tests.batch_service import clients, wire
from tests.batch_service.clients import ask
from tests.batch_service.faults import LOST
from tests.batch_service.service import BatchService

POOL = BatchPoolInfo(pool_id="pool")


def job(client: BatchClient, name: str = "job") -> None:
    client.create_job(BatchJobCreateOptions(id=name, pool_info=POOL))


def test_a_wrong_key_is_refused(service: BatchService) -> None:
    other = base64.b64encode(b"another key").decode()
    with pytest.raises(HttpResponseError) as refused:
        list(clients.connect(service, other).list_pools())
    assert refused.value.status_code == 403
    assert refused.value.error.code == "AuthenticationFailed"


def test_a_date_that_is_far_off_is_refused(service: BatchService) -> None:
    client = clients.connect(service)
    with pytest.raises(HttpResponseError) as refused:
        list(client.list_pools(ocp_date=datetime.now(UTC) - timedelta(minutes=20)))
    assert refused.value.error.code == "AuthenticationFailed"
    assert list(client.list_pools(ocp_date=datetime.now(UTC) - timedelta(minutes=10))) == []


def test_the_signature_covers_names_and_queries(client: BatchClient) -> None:
    for number in range(3):
        job(client, f"a:b-{number}")
    found = client.list_jobs(filter="startswith(id,'a:b')", max_results=2)
    assert [found.id for found in found] == ["a:b-0", "a:b-1", "a:b-2"]
    assert client.get_job("a:b-1").id == "a:b-1"


def test_too_many_requests_are_tried_again_after_the_time_that_is_named(
    service: BatchService, client: BatchClient
) -> None:
    fault = service.faults.add("POST", "/jobs", 429, times=2, retry_after=1)
    begin = time.monotonic()
    job(client)
    assert (fault.times, client.get_job("job").id) == (0, "job")
    assert time.monotonic() - begin >= 2
    assert [r[:2] for r in service.requests].count(("POST", "/jobs")) == 3


def test_a_busy_service_is_asked_again(service: BatchService, client: BatchClient) -> None:
    service.faults.add("GET", "/jobs/job", 503, times=1)
    job(client)
    assert client.get_job("job").state == "active"
    assert ask(service, "GET", "/jobs/job").status == 200
    service.faults.add("*", "/jobs", 503)
    reply = ask(service, "GET", "/jobs/job")
    assert (reply.status, reply.body["code"]) == (503, "ServerBusy")


def test_a_lost_answer_leaves_the_deed_done(service: BatchService, client: BatchClient) -> None:
    service.faults.add("POST", "/jobs", LOST)
    with pytest.raises((ResourceExistsError, ServiceResponseError)):
        job(client)
    assert client.get_job("job").state == "active"


def test_all_requests_are_kept(service: BatchService, client: BatchClient) -> None:
    job(client)
    client.get_job("job")
    assert service.requests == [
        ("POST", "/jobs", {"id": "job", "poolInfo": {"poolId": "pool"}}),
        ("GET", "/jobs/job", None),
    ]


def test_lists_come_in_pages_and_filtered(service: BatchService, client: BatchClient) -> None:
    job(client)
    client.create_tasks(
        "job", [BatchTaskCreateOptions(id=f"t{n}", command_line="/bin/true") for n in range(7)]
    )
    sizes = [len(list(page)) for page in client.list_tasks("job", max_results=3).by_page()]
    assert sizes == [3, 3, 1]
    first = ask(service, "GET", "/jobs/job/tasks?maxresults=3&api-version=2025-06-01").body
    assert first["odata.nextLink"].startswith(f"{service.url}/jobs/job/tasks?")
    client.terminate_task("job", "t3")
    done = client.list_tasks("job", filter="state eq 'completed'")
    assert [task.id for task in done] == ["t3"]
    failed = client.list_tasks("job", filter="executionInfo/result eq 'failure' and id ne 't4'")
    assert [task.id for task in failed] == ["t3"]
    assert ask(service, "GET", "/jobs?$filter=nonsense").body["code"] == (
        "InvalidQueryParameterValue"
    )


def test_conditions_guard_against_another_writer(client: BatchClient) -> None:
    job(client)
    seen = client.get_job("job").etag
    change = BatchJobUpdateOptions(priority=5)
    client.update_job("job", change, etag=seen, match_condition=MatchConditions.IfNotModified)
    with pytest.raises(ResourceModifiedError) as refused:
        client.update_job("job", change, etag=seen, match_condition=MatchConditions.IfNotModified)
    assert (refused.value.status_code, refused.value.error.code) == (412, "ConditionNotMet")
    assert client.get_job("job").priority == 5


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/jobs/none", None, 404, "JobNotFound"),
        ("GET", "/jobs/job/tasks/none", None, 404, "TaskNotFound"),
        ("GET", "/jobschedules/none", None, 404, "JobScheduleNotFound"),
        ("GET", "/pools/none/nodes", None, 404, "PoolNotFound"),
        ("GET", "/pools/pool/nodes/none", None, 404, "NodeNotFound"),
        ("GET", "/jobs/job/tasks/task/files/stdout.txt", None, 404, "FileNotFound"),
        ("POST", "/pools", {"id": "pool"}, 409, "PoolExists"),
        ("POST", "/jobs/job/tasks", {"id": "task", "commandLine": "x"}, 409, "TaskExists"),
        ("POST", "/jobs/job/tasks", {"id": "a b", "commandLine": "x"}, 400, "InvalidPropertyValue"),
        ("POST", "/jobs/job/tasks", {"id": "other"}, 400, "MissingRequiredProperty"),
        ("POST", "/jobs", {"id": "other"}, 400, "MissingRequiredProperty"),
        ("POST", "/jobs/job/tasks/task/reactivate", None, 409, "TaskNotCompleted"),
        ("PATCH", "/jobs/job", {"id": "x"}, 400, "InvalidPropertyValue"),
        ("GET", "/nothing", None, 400, "InvalidUri"),
        (
            "POST",
            "/jobs/job/tasks",
            {"id": "t", "commandLine": "x", "constraints": {"maxWallClockTime": "1h"}},
            400,
            "InvalidPropertyValue",
        ),
        (
            "POST",
            "/jobs/job/tasks",
            {"id": "t", "commandLine": "x", "resourceFiles": [{"storageContainerUrl": "u"}]},
            400,
            "UnsupportedProperty",
        ),
        (
            "POST",
            "/jobs/job/tasks",
            {"id": "t", "commandLine": "x", "outputFiles": [{"filePattern": "*"}]},
            400,
            "UnsupportedProperty",
        ),
    ],
)
def test_errors_have_the_service_s_codes(
    service: BatchService,
    client: BatchClient,
    method: str,
    path: str,
    body: object,
    status: int,
    code: str,
) -> None:
    clients.pool(client)
    job(client)
    client.create_task("job", BatchTaskCreateOptions(id="task", command_line="/bin/true"))
    reply = ask(service, method, path, body)
    assert (reply.status, reply.body["code"]) == (status, code)
    assert reply.body["message"]["value"].startswith(wire.ERRORS[code][1])


def test_pools_exist_or_not(client: BatchClient) -> None:
    clients.pool(client)
    assert client.pool_exists("pool")
    # The real client does the same: it raises where it should say no.
    with pytest.raises(HttpResponseError) as missing:
        client.pool_exists("other")
    assert missing.value.status_code == 404


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("PT01H00M00S", "PT1H"),
        ("P1DT12H", "P1DT12H"),
        ("PT90M", "PT1H30M"),
        ("P7D", "P7D"),
        ("PT0S", "PT0S"),
        ("PT1.50S", "PT1.5S"),
        ("P1W", "P7D"),
        (wire.UNLIMITED, wire.UNLIMITED),
    ],
)
def test_durations_are_written_as_by_dotnet(sent: str, written: str) -> None:
    assert wire.normalised({"retentionTime": sent}) == {"retentionTime": written}


def test_times_have_no_zeros_at_their_end() -> None:
    assert wire.timestamp(datetime(2026, 1, 2, 3, 4, 5, 120000, UTC)) == "2026-01-02T03:04:05.12Z"
    assert wire.timestamp(datetime(2026, 1, 2, 3, 4, 5, 0, UTC)) == "2026-01-02T03:04:05Z"
    assert wire.parse_time("2026-01-02T03:04:05.1234567Z").microsecond == 123456


def test_an_etag_is_the_time_in_ticks() -> None:
    # As recorded: made at 2025-03-19T19:43:55.6166748Z.
    recorded = datetime(2025, 3, 19, 19, 43, 55, 616674, UTC)
    assert abs(int(wire.etag(recorded), 16) - 0x8DD671E6286E85C) < 10_000
