"""A stand-in for the Azure Batch service that really runs what it is given, on this machine.

It speaks the REST version of azure-batch 15.1.0 over HTTP and is held to recorded traffic of the
real service. Start tasks and tasks are local processes on nodes with addresses and disks of their
own. What it cannot do it refuses (400 UnsupportedProperty or InvalidUri): containers, mounts,
output files, storage containers as resource files, application packages, multi-instance tasks,
preparation and release tasks, reboots. Where nothing is documented it is one of the possible
services: `requeueCount` counts preemptions, which the real one need not.

  with running(folder, image_environment={"JAVA_HOME": …}) as service:
      client = BatchClient(service.url, AzureNamedKeyCredential(service.account, service.key))
"""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.batch_service import job_routes, pool_routes, routes, schedule_routes
from tests.batch_service.faults import LOST, Fault
from tests.batch_service.routes import Answer, Request
from tests.batch_service.service import BatchService, Settings
from tests.batch_service.wire import BatchError

# Each enters its functions into the table of routes.
ROUTES = (pool_routes, job_routes, schedule_routes)
JSON = "application/json; odata=minimalmetadata"
CODES = {429: "TooManyRequests", 503: "ServerBusy"}


class Server(ThreadingHTTPServer):
    """The server of one service."""

    daemon_threads = True
    service: BatchService


class Handler(BaseHTTPRequestHandler):
    """Takes requests apart and answers put together."""

    protocol_version = "HTTP/1.1"
    server: Server
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Bear clients that go away."""
        with suppress(ConnectionError):
            super().handle()

    def _answer(self) -> None:
        service = self.server.service
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).rstrip("/")
        fault = service.faults.take(self.command, path)
        if fault and fault.status != LOST:
            service.requests.append((self.command, path, _decoded(data)))
            self._send(_spoiled(service, fault))
            return
        reply = self._carried_out(service, path, data)
        if fault:
            self.close_connection = True
        else:
            self._send(reply)

    def _carried_out(self, service: BatchService, path: str, data: bytes) -> Answer:
        """Do what is asked; a refusal is an answer too."""
        try:
            body = _decoded(data)
            service.requests.append((self.command, path, body))
            headers = _lower(self.headers)
            service.gate.check(self.command, self.path, path, headers)
            query = dict(parse_qsl(urlsplit(self.path).query))
            query = {k: v for k, v in query.items() if k not in ("api-version", "timeOut")}
            return routes.answer(service, Request(self.command, path, query, headers, body))
        except BatchError as error:
            return Answer(error.status, error.body(service.url, service.clock.now()))
        except Exception as error:
            service.errors.append(error)
            raise

    def _send(self, reply: Answer) -> None:
        data = reply.data
        headers = {"request-id": str(uuid.uuid4()), "DataServiceVersion": "3.0", **reply.headers}
        headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains"
        if "client-request-id" in self.headers:
            headers["client-request-id"] = self.headers["client-request-id"]
        if reply.body is not None and self.command != "HEAD":
            data = json.dumps(reply.body).encode()
            headers["Content-Type"] = JSON
        if reply.status != 204:
            headers.setdefault("Content-Length", str(len(data or b"")))
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if data and self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_POST = _answer  # noqa: N815


def _lower(message: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in message.items()}


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        raise BatchError("InvalidRequestBody", Reason="not JSON") from None


def _spoiled(service: BatchService, fault: Fault) -> Answer:
    """Return the answer to a request that is spoiled."""
    error = BatchError(CODES[int(fault.status)])
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Answer(error.status, error.body(service.url, service.clock.now()), headers)


@contextmanager
def running(folder: Path | str, **settings: Any) -> Iterator[BatchService]:
    """Run a Batch service.

    Args:
        folder: for the nodes' disks.
        settings: see Settings: `image_environment`, `allocation_seconds`, ….

    Yields:
        The service: `url`, `account`, `key`, and what a test may do to it.

    Raises:
        AssertionError: at the end, where a process of a node is left or the service went wrong.
    """
    server = Server(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    server.service = service = BatchService(Path(folder), Settings(**settings), url)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    service.start()
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        service.stop()
