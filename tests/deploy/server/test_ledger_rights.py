"""Rights on the container of the ledger: reviewers add records, nobody changes one."""

from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, generate_container_sas
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import AzureStore

from recsys.errors import PublishError
from recsys.storage import CommitLog
from tests import azurite

# What docs/server.md asks for: read, create, list; and without create.
REVIEWER, READER = "rcl", "rl"
RECORD = "_commits/00000001.json"


def store(emulator: str, container: str, rights: str) -> AzureStore:
    token = generate_container_sas(
        azurite.ACCOUNT,
        container,
        account_key=azurite.KEY,
        permission=ContainerSasPermissions.from_string(rights),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    return AzureStore(
        container,
        account_name=azurite.ACCOUNT,
        sas_key=token,
        endpoint=f"{azurite.endpoint(emulator)}/{azurite.ACCOUNT}",
        client_options={"allow_http": True},
    )


@pytest.fixture
def container(emulator: str) -> str:
    name = f"ledger-{datetime.now(UTC):%H%M%S%f}"
    BlobServiceClient.from_connection_string(emulator).create_container(name)
    return name


def test_a_reviewer_adds_records_and_rewrites_none(emulator: str, container: str) -> None:
    reviewer = store(emulator, container, REVIEWER)
    log = CommitLog(reviewer)
    numbers = [log.append({"version": n}, expected=n).number for n in range(2)]
    with pytest.raises(PermissionDeniedError):
        reviewer.put(RECORD, b"{}")
    with pytest.raises(BaseError, match="not authorized"):
        reviewer.delete(RECORD)
    assert numbers == [1, 2]
    assert [commit.payload for commit in log.history()] == [{"version": 0}, {"version": 1}]


def test_a_reader_reads_and_adds_nothing(emulator: str, container: str) -> None:
    CommitLog(store(emulator, container, REVIEWER)).append({"version": 0}, expected=0)
    log = CommitLog(store(emulator, container, READER))
    head = log.head()
    assert head is not None
    assert head.payload == {"version": 0}
    with pytest.raises(PublishError, match="may not do this"):
        log.append({"version": 1}, expected=1)
    assert len(log.history()) == 1
