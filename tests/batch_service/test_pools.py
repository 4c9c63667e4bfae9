"""Pools and nodes: how they come, fail, are taken away and come back."""

from pathlib import Path

import pytest
from azure.batch import BatchClient
from azure.batch.models import (
    BatchNode,
    BatchNodeRemoveOptions,
    BatchPoolResizeOptions,
    BatchPoolUpdateOptions,
    BatchStartTask,
    EnvironmentSetting,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.batch_service import clients
from tests.batch_service.clients import until
from tests.batch_service.server import running
from tests.batch_service.service import BatchService


def start_task(command: str, **more: object) -> BatchStartTask:
    return BatchStartTask(command_line=command, wait_for_success=True, **more)


def node_in(client: BatchClient, state: str, pool: str = "pool") -> BatchNode:
    """Wait for a node in this state."""
    return until(lambda: next((n for n in client.list_nodes(pool) if n.state == state), None))


def test_nodes_have_addresses_kinds_and_a_start_task_of_their_own(client: BatchClient) -> None:
    start = start_task(
        "/bin/bash -c 'echo $WHO $GREETING $SPARK_LOCAL_IP; pwd >&2'",
        environment_settings=[EnvironmentSetting(name="WHO", value="me")],
    )
    nodes = clients.pool(client, dedicated=1, spot=2, start_task=start)
    assert sorted(n.ip_address for n in nodes) == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert sorted(n.id[-2:] for n in nodes) == ["_d", "_p", "_p"]
    for node in nodes:
        assert node.is_dedicated == node.id.endswith("_d")
        assert node.start_task_info.exit_code == 0
        out, err = (
            b"".join(client.download_node_file("pool", node.id, f"startup/{name}.txt")).decode()
            for name in ("stdout", "stderr")
        )
        assert out == f"me from the image {node.ip_address}\n"
        assert err.endswith("tasks/startup/wd\n")


def test_a_node_passes_through_the_documented_states(
    service: BatchService, client: BatchClient
) -> None:
    seen: list[str] = []
    clients.pool(client)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=1))

    def watch() -> bool:
        states = [str(n.state.value) for n in client.list_nodes("pool")]
        seen.extend(s for s in states if s not in seen)
        return states == ["idle"]

    until(watch)
    assert [s for s in ["creating", "starting", "idle"] if s in seen] == seen
    assert client.get_pool("pool").allocation_state == "steady"


def test_a_start_task_that_fails_is_tried_again_and_then_shown(client: BatchClient) -> None:
    clients.pool(client)
    start = start_task("/bin/bash -c 'echo no space >&2; exit 3'", max_task_retry_count=2)
    client.update_pool("pool", BatchPoolUpdateOptions(start_task=start))
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_dedicated_nodes=1))
    node = node_in(client, "starttaskfailed")
    info = node.start_task_info
    assert (info.exit_code, info.retry_count, info.result) == (3, 2, "failure")
    assert info.failure_info.code == "FailureExitCode"
    text = b"".join(client.download_node_file("pool", node.id, "startup/stderr.txt"))
    assert text == b"no space\n"


def test_a_broken_node_stays_unusable(service: BatchService, client: BatchClient) -> None:
    service.break_next_nodes(1)
    clients.pool(client)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=2))
    node = node_in(client, "unusable")
    node_in(client, "idle")
    service.clock.advance(3600)
    found = client.get_node("pool", node.id)
    assert (found.state, found.errors[0].code) == ("unusable", "NodeStateUnusable")
    counts = next(iter(client.list_pool_node_counts())).low_priority
    assert (counts.unusable, counts.idle, counts.total) == (1, 1, 2)


def test_a_preempted_node_comes_back_with_its_id_and_runs_its_start_task_again(
    service: BatchService, client: BatchClient
) -> None:
    start = start_task("/bin/bash -c 'date +%N > $AZ_BATCH_NODE_SHARED_DIR/when'")
    (node,) = clients.pool(client, spot=1, start_task=start)
    first = b"".join(client.download_node_file("pool", node.id, "shared/when"))
    # It would come back before one could look.
    service.capacity = 0
    service.preempt("pool", node.id)
    assert client.get_node("pool", node.id).state == "preempted"
    with pytest.raises(ResourceNotFoundError):
        client.download_node_file("pool", node.id, "shared/when")
    assert client.get_pool("pool").current_low_priority_nodes == 1
    service.capacity = None
    back = node_in(client, "idle")
    assert (back.id, back.start_task_info.exit_code) == (node.id, 0)
    assert b"".join(client.download_node_file("pool", node.id, "shared/when")) != first


def test_a_dedicated_node_cannot_be_preempted(service: BatchService, client: BatchClient) -> None:
    (node,) = clients.pool(client, dedicated=1)
    with pytest.raises(ValueError, match="only Spot nodes"):
        service.preempt("pool", node.id)
    assert client.get_node("pool", node.id).state == "idle"


def test_capacity_that_never_arrives_ends_the_resize_with_an_error(
    service: BatchService, client: BatchClient
) -> None:
    service.capacity = 1
    clients.pool(client)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=3))
    node_in(client, "idle")
    service.clock.advance(14 * 60)
    assert client.get_pool("pool").allocation_state == "resizing"
    service.clock.advance(2 * 60)
    found = client.get_pool("pool")
    assert found.allocation_state == "steady"
    assert [error.code for error in found.resize_errors] == ["AllocationTimedOut"]
    assert (found.target_low_priority_nodes, found.current_low_priority_nodes) == (3, 1)


def test_a_preempted_node_waits_for_capacity(service: BatchService, client: BatchClient) -> None:
    (node,) = clients.pool(client, spot=1)
    service.capacity = 0
    service.preempt("pool", node.id)
    service.clock.advance(3600)
    assert client.get_node("pool", node.id).state == "preempted"
    service.capacity = 1
    assert node_in(client, "idle").id == node.id


def test_a_resize_that_is_stopped_keeps_what_is_there(
    service: BatchService, client: BatchClient
) -> None:
    service.capacity = 1
    clients.pool(client)
    client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=2))
    node_in(client, "idle")
    with pytest.raises(HttpResponseError) as refused:
        client.begin_resize_pool("pool", BatchPoolResizeOptions(target_low_priority_nodes=0))
    assert refused.value.error.code == "PoolBeingResized"
    client.begin_stop_pool_resize("pool", polling_interval=0).wait()
    found = client.get_pool("pool")
    assert found.target_low_priority_nodes == found.current_low_priority_nodes == 1
    assert found.resize_errors[0].code == "ResizeStopped"


def test_nodes_are_removed_by_name_and_pools_with_all_nodes(
    service: BatchService, client: BatchClient
) -> None:
    first, second = clients.pool(client, spot=2)
    client.begin_remove_nodes(
        "pool", BatchNodeRemoveOptions(node_ids=[first.id]), polling_interval=0
    ).wait()
    until(lambda: [n.id for n in client.list_nodes("pool")] == [second.id])
    client.begin_delete_pool("pool", polling_interval=0).wait()
    with pytest.raises(ResourceNotFoundError):
        client.get_pool("pool")


def test_a_second_service_works_beside_the_first(service: BatchService, tmp_path: Path) -> None:
    with running(tmp_path / "other", first_address="127.0.1.2") as other:
        (node,) = clients.pool(clients.connect(other), dedicated=1)
        assert node.ip_address == "127.0.1.2"
        with pytest.raises(ResourceNotFoundError):
            clients.connect(service).get_pool("pool")
