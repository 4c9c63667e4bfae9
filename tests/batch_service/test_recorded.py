"""The stand-in against recorded traffic of the real service."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.batch_service.clients import Reply, ask, until
from tests.batch_service.service import BatchService

CONTRACTS = Path(__file__).resolve().parents[3] / "shared" / "contracts" / "azure-batch"
pytestmark = pytest.mark.skipif(
    not CONTRACTS.exists(), reason="needs the recorded traffic in ../shared/contracts/azure-batch"
)

IMAGE = {"publisher": "canonical", "offer": "ubuntu-24_04-lts", "sku": "server"}
POOL = {
    "id": "pool_id",
    "vmSize": "standard_d2_v2",
    "virtualMachineConfiguration": {
        "imageReference": IMAGE,
        "nodeAgentSKUId": "batch.node.ubuntu 24.04",
    },
}
AUTOSCALE = {"enableAutoScale": True, "autoScaleFormula": "$TargetDedicatedNodes=2"}
JOB = {"id": "batch", "poolInfo": {"poolId": "pool_id"}}
TASK = {"id": "test_task", "commandLine": "/bin/echo hello world"}
MASKS = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z": "a time",
    r"0x8D[0-9A-F]{13}": "an eTag",
    r"https?://.*/\$metadata(#.*)": r"\1",
    r"https?://.*": "a url",
    r"(TVM:)?tvmps_\w+": r"\1a node",
    r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}": "a guid",
    r"(.*)\nRequestId:[0-9a-f-]{36}\nTime:\d{4}-\d\d-\d\dT[\d:.]+Z": r"\1",
}
# What names a thing of the recording, or comes of its nodes having been Windows machines.
FREE = {"commandLine", "contentLength", "fileMode", "id", "poolId"}


def entries() -> list[Any]:
    if not CONTRACTS.exists():
        return []
    found = json.loads((CONTRACTS / "live-trimmed.json").read_text())["entries"]
    return [pytest.param(e, id=f"{e['m']} {e['p']} {e.get('when', '')[:10]}") for e in found]


def example(name: str) -> Any:
    return json.loads((CONTRACTS / "examples" / f"{name}.json").read_text())


def masked(value: Any, name: str = "") -> Any:
    """Return a body with what differs from one call to the next replaced by its kind."""
    if isinstance(value, dict):
        return {k: masked(v, k) for k, v in value.items() if k != "fileMode"}
    if isinstance(value, list):
        return [masked(inner, name) for inner in value]
    if name in FREE and isinstance(value, str):
        return type(value).__name__
    if not isinstance(value, str):
        return value
    value = value.replace("\\", "/") if name == "taskRootDirectory" else value
    value = value.lower() if name == "nodeFillType" else value
    for pattern, kind in MASKS.items():
        found = re.fullmatch(pattern, value)
        if found:
            return found.expand(kind)
    return value


def prepare(service: BatchService, entry: Any, recorded: dict[str, Any]) -> str:
    """Make what the request is about; returns the path with the ids in it."""
    path, names = entry["p"], {"pools": "pool_id", "jobs": "batch", "jobschedules": "nightly"}
    kind = path.split("/")[1]
    if "{id}" in path:
        if kind == "pools":
            scaled = "autoscale" in path and "enable" not in path.replace("disable", "")
            ask(service, "POST", "/pools", POOL | (AUTOSCALE if scaled else {}))
        elif kind == "jobschedules":
            made = recorded["/jobschedules"] | {"id": "nightly"}
            assert ask(service, "POST", "/jobschedules", made).status == 201
        elif path == "/jobs/{id}":
            ask(service, "POST", "/jobs", recorded["/jobs"] | {"id": "batch"})
        else:
            prepare_task(service, entry)
    if path.endswith("stopresize"):
        ask(service, "POST", "/pools/pool_id/resize", {"targetLowPriorityNodes": 2})
    return path.replace("{id}", names[kind]).replace("{tid}", "test_task")


def prepare_task(service: BatchService, entry: Any) -> None:
    added = entry.get("when") == "just added"
    ask(service, "POST", "/jobs", JOB)
    if "{tid}" in entry["p"]:
        ask(service, "POST", "/jobs/batch/tasks", TASK)
        if not added:
            ask(service, "POST", "/pools", POOL | {"targetDedicatedNodes": 1})
            until(lambda: state(service) == "completed")
    if entry["p"].endswith("/enable"):
        ask(service, "POST", "/jobs/batch/disable", {"disableTasks": "requeue"})


def state(service: BatchService) -> str:
    return str(ask(service, "GET", "/jobs/batch/tasks/test_task").body["state"])


def send(service: BatchService, entry: Any, method: str, path: str) -> Reply:
    body = entry.get("req")
    if entry.get("why") == "duplicate id":
        body = JOB
        ask(service, "POST", "/jobs", body)
    if method in ("PUT", "PATCH"):
        body = {"priority": 7, "poolInfo": {"poolId": "pool_id"}}
    if path.endswith("/tasks") and method == "POST":
        body = entry["req"]
    return ask(service, method, path, body)


@pytest.mark.parametrize("entry", entries())
def test_answers_as_the_real_service_did(service: BatchService, entry: Any) -> None:
    recorded = {e.values[0]["p"]: e.values[0]["req"] for e in entries() if "req" in e.values[0]}
    path = prepare(service, entry, recorded)
    actions = path.rpartition("/")[2].split("|")
    targets = [f"{path.rpartition('/')[0]}/{action}" for action in actions]
    for method in entry["m"].split("|"):
        for target in targets:
            reply = send(service, entry, method, target)
            assert reply.status == entry["s"], reply.body
            check_headers(entry, method, reply)
            check_body(entry["body"], reply.body)


def check_headers(entry: Any, method: str, reply: Reply) -> None:
    names = {"request-id", "DataServiceVersion", "Server", "Strict-Transport-Security"}
    if method in ("POST", "PUT", "PATCH") and reply.status < 300 and entry["body"] is None:
        names |= {"ETag", "Last-Modified", "DataServiceId"}
    if reply.status == 201:
        names.add("Location")
    assert names <= set(reply.headers)
    assert reply.headers["DataServiceVersion"] == "3.0"
    for name, value in entry.get("headers", {}).items():
        shape = re.sub(r"[A-Z][a-z]{2}\b|\d+", "x", value) if name != "ocp-batch-file-url" else ""
        found = reply.headers[name]
        assert not shape or re.sub(r"[A-Z][a-z]{2}\b|\d+", "x", found) == shape
    json_kind = "application/json; odata=minimalmetadata"
    expected = json_kind if entry["body"] else entry.get("headers", {}).get("Content-Type")
    assert reply.headers.get("Content-Type") == expected


def check_body(recorded: Any, found: Any) -> None:
    if recorded is None:
        assert found == b""
    elif recorded["odata.metadata"].endswith("#files"):
        # The recording names one of the two text files.
        kinds = [
            sorted(map(str, {str(masked(row | {"name": ""})) for row in body["value"]}))
            for body in (recorded, found)
        ]
        assert kinds[0] == kinds[1]
    else:
        assert masked(found) == masked(recorded)


def shape(value: Any) -> Any:
    """Return the keys of a body with the kinds of its values."""
    if isinstance(value, dict):
        return {k: shape(v) for k, v in value.items() if k != "odata.metadata"}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return masked(value) if masked(value) in MASKS.values() else type(value).__name__


def test_a_complex_schedule_of_the_documentation_is_taken(service: BatchService) -> None:
    body = example("JobSchedules_CreateJobSchedule_Complex")["parameters"]["jobSchedule"]
    assert ask(service, "POST", "/jobschedules", body).status == 201
    found = ask(service, "GET", f"/jobschedules/{body['id']}").body
    manager = found["jobSpecification"]["jobManagerTask"]
    assert manager.items() >= body["jobSpecification"]["jobManagerTask"].items()


def test_a_pool_with_containers_of_the_documentation_is_taken(service: BatchService) -> None:
    body = example("Pools_CreatePool_VirtualMachineConfigurationWithContainers")
    reply = ask(service, "POST", "/pools", body["parameters"]["pool"])
    assert reply.status == 201
    assert re.fullmatch("0x8D[0-9A-F]{13}", reply.headers["ETag"])


def test_a_pool_looks_as_documented(service: BatchService) -> None:
    documented = example("Pools_GetPool_Basic")["responses"]["200"]["body"]
    start = {"commandLine": "/bin/bash -c 'echo start task'", "waitForSuccess": False}
    image = documented["virtualMachineConfiguration"]
    body = POOL | {"id": "pool", "startTask": start, "virtualMachineConfiguration": image}
    ask(service, "POST", "/pools", body)
    assert shape(ask(service, "GET", "/pools/pool").body) == shape(documented)


def test_a_node_looks_as_documented(service: BatchService) -> None:
    documented = example("Nodes_ListNodes")["responses"]["200"]["body"]["value"][0]
    start = {"commandLine": "/bin/true", "waitForSuccess": True}
    body = POOL | {"targetDedicatedNodes": 1, "startTask": start}
    ask(service, "POST", "/pools", body)

    def idle() -> Any:
        rows = ask(service, "GET", "/pools/pool_id/nodes").body["value"]
        return rows[0] if rows and rows[0]["state"] == "idle" else None

    node = until(idle)
    assert documented.keys() - node.keys() == {"ipv6Address"}
    assert node.keys() <= documented.keys()
    assert documented["startTaskInfo"].keys() <= node["startTaskInfo"].keys()
    assert documented["startTask"].keys() == node["startTask"].keys()


def test_task_counts_look_as_documented(service: BatchService) -> None:
    documented = example("Jobs_GetJobTaskCounts")["responses"]["200"]["body"]
    ask(service, "POST", "/jobs", JOB)
    assert shape(ask(service, "GET", "/jobs/batch/taskcounts").body) == shape(documented)


def test_a_collection_of_tasks_is_taken_as_documented(service: BatchService) -> None:
    found = example("Tasks_CreateTaskCollection_Basic")
    ask(service, "POST", "/jobs", JOB)
    sent = found["parameters"]["taskCollection"]
    reply = ask(service, "POST", "/jobs/batch/addtaskcollection", sent)
    assert reply.status == 200
    assert shape(reply.body) == shape(found["responses"]["200"]["body"])
    again = ask(service, "POST", "/jobs/batch/addtaskcollection", sent).body["value"]
    assert [(row["status"], row["error"]["code"]) for row in again] == 2 * [
        ("clienterror", "TaskExists")
    ]


def test_a_task_looks_as_documented_but_runs_on_one_node(service: BatchService) -> None:
    documented = example("Tasks_GetTask")["responses"]["200"]["body"]
    several = documented.pop("multiInstanceSettings")
    ask(service, "POST", "/jobs", JOB)
    refused = ask(service, "POST", "/jobs/batch/tasks", TASK | {"multiInstanceSettings": several})
    assert (refused.status, refused.body["code"]) == (400, "UnsupportedProperty")
    ask(service, "POST", "/jobs/batch/tasks", TASK)
    assert shape(ask(service, "GET", "/jobs/batch/tasks/test_task").body) == shape(documented)
