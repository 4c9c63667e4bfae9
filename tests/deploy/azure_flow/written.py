"""Everything that was written down while a pool worked, to be searched for secrets."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from recsys.storage.azure import azure_place, service_client
from tests.deploy.azure_flow.conftest import Scene


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
