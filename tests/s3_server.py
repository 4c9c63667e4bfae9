"""An S3 server of the tests: moto's, which knows conditional writes, in a thread."""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET, REGION = "test-access-key", "test-secret-key", "us-east-1"


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[str]:
    """Start the server on a free port of this machine; yields its endpoint."""
    application = DomainDispatcherApplication(create_backend_app)
    lock = threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        # S3's conditional write is one step; moto looks first and writes then.
        with lock:
            return list(application(environ, start))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def bucket(endpoint: str, patch: pytest.MonkeyPatch) -> str:
    """Make a bucket and let this process and its children find the server; returns its URL."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", KEY)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_REGION", REGION)
    patch.setenv("AWS_ALLOW_HTTP", "true")
    urlopen(Request(f"{endpoint}/{name}", method="PUT")).close()
    return f"s3://{name}"
