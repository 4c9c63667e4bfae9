"""Canary secrets: the keys of storage and of Batch are nowhere but in the environment."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from recsys.storage.azure import azure_place, service_client
from tests.deploy.azure_flow.conftest import Scene

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_no_key_is_staged_logged_or_recorded(
    scene: Scene, capfd: pytest.CaptureFixture[str]
) -> None:
    run = scene.submit("popularity", {"dataset": scene.url("dataset")})
    assert run.wait()
    places = dict(everything(scene)) | {"the terminal": "".join(capfd.readouterr()).encode()}
    assert len(places) > 100
    # The search itself works: what every node may read is found.
    assert any(run.job_id.encode() in data for data in places.values())
    for key in scene.keys:
        # In JSON and in URLs a key's letters are written in other ways, too.
        spellings = {key, json.dumps(key)[1:-1], key.replace("/", "%2F").replace("+", "%2B")}
        for spelling in spellings:
            found = [name for name, data in places.items() if spelling.encode() in data]
            assert not found


def everything(scene: Scene) -> Iterator[tuple[str, bytes]]:
    """Yield all that was sent to Batch, lies in storage, on nodes' disks, and in MLflow."""
    service = scene.cloud.service
    for number, request in enumerate(service.requests):
        yield f"request {number} {request[:2]}", json.dumps(request).encode()
    place = azure_place(scene.cloud.storage)
    assert place is not None
    yield from blobs(service_client(place))
    for folder in (service.folder, scene.folder):
        for file in folder.rglob("*"):
            if file.is_file() and not is_storage(file):
                yield str(file), unpacked(file.read_bytes())


def is_storage(file: Path) -> bool:
    """Tell Azurite's own files, whose content is read as blobs."""
    return "azurite" in file.parts


def blobs(account: BlobServiceClient) -> Iterator[tuple[str, bytes]]:
    for container in account.list_containers():
        client = account.get_container_client(container.name)
        for blob in client.list_blobs():
            yield blob.name, unpacked(client.download_blob(blob.name).readall())


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
