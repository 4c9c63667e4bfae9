"""A service of its own for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.batch import BatchClient

from tests.batch_service.clients import connect
from tests.batch_service.server import running
from tests.batch_service.service import BatchService


@pytest.fixture
def service(tmp_path: Path) -> Iterator[BatchService]:
    image = {"GREETING": "from the image"}
    with running(tmp_path, image_environment=image, allocation_seconds=0.1) as started:
        yield started


@pytest.fixture
def client(service: BatchService) -> BatchClient:
    return connect(service)
