"""What requests do to pools and nodes."""

from collections.abc import Callable
from typing import Any

from tests.batch_service.pools import pool_spec
from tests.batch_service.resources import checked
from tests.batch_service.routes import (
    Answer,
    Request,
    file_answer,
    folder_answer,
    listed,
    pool_of,
    route,
    shown,
    written,
)
from tests.batch_service.service import BatchService
from tests.batch_service.wire import BatchError


@route("POST", "/pools")
def _add_pool(service: BatchService, request: Request) -> Answer:
    asked = checked(request.body, "id")
    if asked["id"] in service.pools:
        raise BatchError("PoolExists")
    pool = service.add_pool(asked["id"], pool_spec(request.body))
    return written(service, 201, pool, f"/pools/{pool.id}")


@route("GET", "/pools")
def _list_pools(service: BatchService, request: Request) -> Answer:
    return listed(service, request, "pools", [pool.view() for pool in service.pools.values()])


@route("GET|HEAD", "/pools/{}")
def _get_pool(service: BatchService, request: Request, name: str) -> Answer:
    pool = pool_of(service, name)
    return shown(service, pool, "pools", pool.view())


@route("PATCH", "/pools/{}")
def _update_pool(service: BatchService, request: Request, name: str) -> Answer:
    pool = pool_of(service, name, request)
    pool.update(request.body)
    return written(service, 200, pool, request.path)


@route("DELETE", "/pools/{}")
def _delete_pool(service: BatchService, request: Request, name: str) -> Answer:
    pool = pool_of(service, name, request)
    if pool.state == "deleting":
        raise BatchError("PoolBeingDeleted")
    pool.delete()
    return Answer(202)


# The status of each action is that of the recorded traffic.
@route("POST", "/pools/{}/{}")
def _pool_action(service: BatchService, request: Request, name: str, action: str) -> Answer:
    pool = pool_of(service, name, request)
    if pool.state == "deleting":
        raise BatchError("PoolBeingDeleted")
    actions: dict[str, tuple[int, Callable[[], None]]] = {
        "resize": (202, lambda: pool.resize(request.body)),
        "stopresize": (202, pool.stop_resize),
        "removenodes": (202, lambda: pool.remove_nodes(request.body)),
        "enableautoscale": (200, lambda: pool.enable_autoscale(request.body)),
        "disableautoscale": (200, pool.disable_autoscale),
        "updateproperties": (204, lambda: pool.update(request.body)),
    }
    if action == "evaluateautoscale":
        return _evaluate(service, request, pool)
    if action not in actions:
        raise BatchError("InvalidUri", Path=request.path)
    status, act = actions[action]
    act()
    return written(service, status, pool, request.path)


def _evaluate(service: BatchService, request: Request, pool: Any) -> Answer:
    asked = checked(request.body, "autoScaleFormula")
    if not pool.spec["enableAutoScale"]:
        raise BatchError("OperationInvalidForCurrentState", Reason="autoscale is not enabled")
    kind = "Microsoft.Azure.Batch.Protocol.Entities.AutoScaleRun"
    metadata = {"odata.metadata": f"{service.url}/$metadata#{kind}"}
    return Answer(200, metadata | pool.evaluate(asked["autoScaleFormula"]))


@route("GET", "/nodecounts")
def _node_counts(service: BatchService, request: Request) -> Answer:
    rows = [pool.count() for pool in service.pools.values()]
    return listed(service, request, "poolnodecounts", rows)


@route("GET", "/pools/{}/nodes")
def _list_nodes(service: BatchService, request: Request, name: str) -> Answer:
    nodes = [node.view() for node in pool_of(service, name).nodes.values()]
    return listed(service, request, "nodes", nodes)


@route("GET", "/pools/{}/nodes/{}")
def _get_node(service: BatchService, request: Request, pool: str, name: str) -> Answer:
    body = pool_of(service, pool).node(name).view()
    metadata = {"odata.metadata": f"{service.url}/$metadata#nodes/@Element"}
    return Answer(200, metadata | body)


@route("GET", "/pools/{}/nodes/{}/files")
def _list_node_files(service: BatchService, request: Request, pool: str, name: str) -> Answer:
    node = pool_of(service, pool).node(name)
    return folder_answer(service, request, node.disk.tasks)


@route("GET|HEAD", "/pools/{}/nodes/{}/files/{*}")
def _node_file(service: BatchService, request: Request, pool: str, name: str, path: str) -> Answer:
    return file_answer(service, request, pool_of(service, pool).node(name).disk.tasks, path)
