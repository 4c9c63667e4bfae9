"""How tests talk to the service: Microsoft's client, and bare requests for the wire."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.batch import BatchClient
from azure.batch.models import (
    BatchNode,
    BatchPoolCreateOptions,
    BatchVmImageReference,
    VirtualMachineConfiguration,
)
from azure.core.credentials import AzureNamedKeyCredential

from tests.batch_service.auth import signature
from tests.batch_service.service import BatchService
from tests.batch_service.wire import http_date

Found = TypeVar("Found")
MACHINE = VirtualMachineConfiguration(
    image_reference=BatchVmImageReference(
        publisher="canonical", offer="ubuntu-24_04-lts", sku="server", version="latest"
    ),
    node_agent_sku_id="batch.node.ubuntu 24.04",
)


def connect(service: BatchService, key: str | None = None) -> BatchClient:
    """Open the service with its key, or with another."""
    credential = AzureNamedKeyCredential(service.account, key or service.key)
    return BatchClient(service.url, credential)


def until(condition: Callable[[], Found], seconds: float = 15.0) -> Found:
    """Wait for a condition and return what it gave; raises AssertionError."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"still {found!r} after {seconds} s"
        time.sleep(0.02)
    return found


def pool(
    client: BatchClient, name: str = "pool", dedicated: int = 0, spot: int = 0, **more: Any
) -> list[BatchNode]:
    """Make a pool and wait for its nodes, as many as it wants, to be idle."""
    more.setdefault("vm_size", "standard_d2ds_v5")
    client.create_pool(
        BatchPoolCreateOptions(
            id=name,
            virtual_machine_configuration=MACHINE,
            target_dedicated_nodes=dedicated,
            target_low_priority_nodes=spot,
            **more,
        )
    )

    def idle() -> list[BatchNode]:
        nodes = list(client.list_nodes(name))
        ready = [node for node in nodes if node.state == "idle"]
        return ready if len(ready) == dedicated + spot else []

    return until(idle) if dedicated + spot else []


@dataclass
class Reply:
    """A bare answer."""

    status: int
    headers: dict[str, str]
    body: Any


def ask(
    service: BatchService,
    method: str,
    target: str,
    body: Any = None,
    token: str | None = None,
    **headers: str,
) -> Reply:
    """Send one signed request, or one with a token.

    Args:
        service: to ask.
        method: of the request.
        target: path and query.
        body: sent as JSON.
        token: instead of the key.
        headers: with _ for -.
    """
    data = json.dumps(body).encode() if body is not None else b""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"ocp-date": http_date(datetime.now(UTC)), "content-length": str(len(data))}
    if body is not None:
        sent["content-type"] = "application/json; odata=minimalmetadata"
    if method == "GET":
        del sent["content-length"]
    proof = f"Bearer {token}"
    if token is None:
        signed = signature(service.account, service.key, method, target, sent)
        proof = f"SharedKey {service.account}:{signed}"
    connection = HTTPConnection("127.0.0.1", urlsplit(service.url).port or 0, timeout=30)
    connection.request(method, target, data or None, {**sent, "Authorization": proof})
    found = connection.getresponse()
    text = found.read()
    connection.close()
    kind = found.getheader("Content-Type", "")
    value = json.loads(text) if kind.startswith("application/json") else text
    return Reply(found.status, dict(found.getheaders()), value)
