"""Requests and answers, and the table of which request does what."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.batch_service import files, wire
from tests.batch_service.resources import Resource
from tests.batch_service.service import BatchService
from tests.batch_service.wire import BatchError, Body


@dataclass(frozen=True)
class Request:
    """A request that has been let in."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any


@dataclass
class Answer:
    """What goes back; `data` for files, else `body` as JSON."""

    status: int
    body: Body | None = None
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes | None = None


Handler = Callable[..., Answer]
TABLE: list[tuple[str, re.Pattern[str], Handler]] = []


def route(methods: str, pattern: str) -> Callable[[Handler], Handler]:
    """Enter a function into the table; `{}` is one part of a path, `{*}` the rest."""
    expression = re.escape(pattern).replace(r"\{\*\}", "(.+)").replace(r"\{\}", "([^/]+)")

    def enter(handler: Handler) -> Handler:
        for method in methods.split("|"):
            TABLE.append((method, re.compile(expression), handler))
        return handler

    return enter


def answer(service: BatchService, request: Request) -> Answer:
    """Carry a request out; raises BatchError."""
    for method, pattern, handler in TABLE:
        found = pattern.fullmatch(request.path)
        if found and method == request.method:
            with service.lock:
                reply = handler(service, request, *found.groups())
            service.wake()
            return reply
    raise BatchError("InvalidUri", Method=request.method, Path=request.path)


# ------------------------------------------------------------------------------- forms


def written(service: BatchService, status: int, resource: Resource, path: str) -> Answer:
    """Return an answer to a write: no body, but eTag and times."""
    headers = {
        "ETag": resource.etag,
        "Last-Modified": wire.http_date(resource.modified),
        "DataServiceId": f"{service.url}{path}",
    }
    if status == 201:
        headers["Location"] = f"{service.url}{path}"
    return Answer(status, headers=headers)


def shown(service: BatchService, resource: Resource, kind: str, view: Body) -> Answer:
    """Return an answer that shows one resource."""
    body = {"odata.metadata": f"{service.url}/$metadata#{kind}/@Element", **view}
    headers = {"ETag": resource.etag, "Last-Modified": wire.http_date(resource.modified)}
    return Answer(200, body, headers)


def listed(service: BatchService, request: Request, kind: str, rows: list[Body]) -> Answer:
    """Return an answer that shows a page of a list."""
    return Answer(200, wire.page(service.url, request.path, kind, rows, request.query))


def match(request: Request, resource: Resource) -> None:
    """Raise BatchError where the request is for another version of the resource."""
    wanted, unwanted = request.headers.get("if-match"), request.headers.get("if-none-match")
    if wanted not in (None, "*") and (wanted or "").strip('"') != resource.etag:
        raise BatchError("ConditionNotMet")
    if unwanted is not None and unwanted.strip('"') in ("*", resource.etag):
        raise BatchError("ConditionNotMet")


def pool_of(service: BatchService, name: str, request: Request | None = None) -> Any:
    """Return a pool, in the version that the request is for; raises BatchError."""
    if name not in service.pools:
        raise BatchError("PoolNotFound")
    return _checked(service.pools[name], request)


def job_of(service: BatchService, name: str, request: Request | None = None) -> Any:
    """Return a job, in the version that the request is for; raises BatchError."""
    if name not in service.jobs:
        raise BatchError("JobNotFound")
    return _checked(service.jobs[name], request)


def schedule_of(service: BatchService, name: str, request: Request | None = None) -> Any:
    """Return a schedule, in the version that the request is for; raises BatchError."""
    if name not in service.schedules:
        raise BatchError("JobScheduleNotFound")
    return _checked(service.schedules[name], request)


def _checked(resource: Resource, request: Request | None) -> Resource:
    if request is not None:
        match(request, resource)
    return resource


# ------------------------------------------------------------------------------- files


def folder_answer(service: BatchService, request: Request, folder: Path) -> Answer:
    """Return the list of a folder of a node."""
    recursive = request.query.get("recursive", "false").lower() == "true"
    rows = files.listing(folder, service.url + request.path, recursive)
    return listed(service, request, "files", rows)


def file_answer(service: BatchService, request: Request, folder: Path, name: str) -> Answer:
    """Return a file of a node, or what it is."""
    path = files.place(folder, name)
    headers = files.headers(path, service.url + request.path)
    if request.method == "HEAD" or path.is_dir():
        length = str(path.stat().st_size if path.is_file() else 0)
        return Answer(200, headers={**headers, "Content-Length": length})
    # A part is answered with 200 too: the service's description knows no 206, nor does its client.
    data = files.part(path, request.headers.get("ocp-range"))
    return Answer(200, headers=headers, data=data)
