"""A proxy before a service that spoils some requests, as networks and services do."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SILENCE = 5.0
REASONS = {412: "ConditionNotMet", 503: "ServerBusy"}


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        word: regular expression of what the path of a spoiled request holds.
        kind: a status to answer with, `silent` (passed on to nobody, answered by nobody), `lost`
            (passed on, but the answer is lost) or `late` (passed on, and then answered with 503).
        times: how many requests are spoiled.
        method: of the requests; empty for any.
        spared: how many such requests go through before the first one that is spoiled.
        every: one such request in so many is spoiled.
        met: how many such requests came.
        seen: how many were spoiled.
    """

    word: str
    kind: int | str
    times: int
    method: str = "PUT"
    spared: int = 0
    every: int = 1
    met: int = 0
    seen: int = 0


@dataclass
class Proxy:
    """A running proxy; `fault` may be changed at any time.

    Attributes:
        port: where it listens.
        target: port that it passes requests on to.
        fault: None for none.
        asked: method and path of all requests.
    """

    port: int
    target: int
    fault: Fault | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, method: str, path: str) -> int | str | None:
        """Decide what happens to a request, and count it."""
        with self.lock:
            self.asked.append((method, path))
            fault = self.fault
            if fault is None or fault.seen >= fault.times:
                return None
            if fault.method not in ("", method) or not re.search(fault.word, unquote(path)):
                return None
            fault.met += 1
            turn = fault.met - 1 - fault.spared
            if turn < 0 or turn % fault.every:
                return None
            fault.seen += 1
            return fault.kind


@contextmanager
def before(endpoint: str) -> Iterator[Proxy]:
    """Start a proxy before a service on this machine, given as http://host:port."""
    target = urlsplit(endpoint).port
    assert target is not None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = proxy.spoil(self.command, self.path)
            if kind == "silent":
                time.sleep(SILENCE)
                self.close_connection = True
            elif isinstance(kind, int):
                self._refuse(kind)
            else:
                self._pass_on(body, kind)

        def _refuse(self, status: int) -> None:
            self.send_response(status, REASONS[status])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _pass_on(self, body: bytes, kind: str | None) -> None:
            service = HTTPConnection("127.0.0.1", target, timeout=120)
            # Services that know their own name answer to no other.
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            service.request(self.command, self.path, body, headers)
            found = service.getresponse()
            data = found.read()
            service.close()
            if kind == "lost":
                self.close_connection = True
                return
            if kind == "late":
                self._refuse(503)
                return
            self.send_response_only(found.status, found.reason)
            for name, value in found.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = found.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = do_PATCH = _handle  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy = Proxy(server.server_port, target)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
