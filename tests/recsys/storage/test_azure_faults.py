"""What Azure refuses is said in one sentence with a cure, and waiting for it has an end."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from obstore.exceptions import BaseError

from recsys.storage.azure import (
    PATIENCE,
    AzurePlace,
    Patience,
    azure_place,
    azure_store,
    container_client,
    explained,
    secrets,
)
from recsys.storage.azure.access import token_credential
from tests import azurite

QUICK = Patience(retries=3, first_wait=0.05, longest_wait=0.2, total=5, request=5)
HOUR = timedelta(hours=1)
WRONG_KEY = "A" * 86 + "=="


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AZURE_", "AZURITE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as connection:
        yield connection


@pytest.fixture
def place(connection: str, monkeypatch: pytest.MonkeyPatch) -> AzurePlace:
    """A container of Azurite, named by a URL that brings no credential."""
    with monkeypatch.context() as patch:
        name = azurite.container(connection, patch).removeprefix("az://")
    found = azure_place(f"{azurite.endpoint(connection)}/{azurite.ACCOUNT}/{name}/tables")
    assert found is not None
    return found


def signature(place: AzurePlace, start: timedelta, end: timedelta, rights: str = "racwdl") -> str:
    now = datetime.now(UTC)
    return generate_container_sas(
        azurite.ACCOUNT,
        place.container,
        account_key=azurite.KEY,
        permission=ContainerSasPermissions.from_string(rights),
        start=now + start,
        expiry=now + end,
    )


def through_obstore(place: AzurePlace) -> None:
    azure_store(place, QUICK).put("x", b"1", mode="create")


def through_obstore_listing(place: AzurePlace) -> None:
    list(azure_store(place, QUICK).list())


def through_sdk(place: AzurePlace) -> None:
    container_client(place, QUICK).upload_blob("x", b"1")


WAYS = pytest.mark.parametrize(
    "way", [through_obstore, through_obstore_listing, through_sdk], ids=lambda way: way.__name__
)
Way = Callable[[AzurePlace], None]


def said(way: Way, place: AzurePlace) -> str:
    """Fail, and return the explanation, which holds no secret."""
    with pytest.raises((BaseError, AzureError, OSError)) as failed:
        way(place)
    sentence = explained(failed.value, place)
    assert sentence is not None
    assert sentence.count("\n") == 0
    assert not any(secret in sentence for secret in secrets())
    return sentence


@WAYS
def test_an_expired_signature(way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature(place, -2 * HOUR, -HOUR))
    sentence = said(way, place)
    assert "expired at" in sentence
    assert "make a new one and put it into AZURE_STORAGE_SAS_TOKEN" in sentence


@WAYS
def test_a_signature_for_later(
    way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature(place, HOUR, 2 * HOUR))
    assert "valid only from" in said(way, place)


@pytest.mark.parametrize("way", [through_obstore, through_sdk])
def test_a_signature_without_the_right(
    way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature(place, -HOUR, HOUR, "rl"))
    assert "needs the rights to read, add, create, write" in said(way, place)


@WAYS
def test_a_signature_of_another_container(
    way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = AzurePlace("other-container", "")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", signature(other, -HOUR, HOUR))
    assert f"does not open container {place.container}" in said(way, place)


@WAYS
def test_a_wrong_key(way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", WRONG_KEY)
    assert "The key in AZURE_STORAGE_ACCESS_KEY does not open" in said(way, place)


def test_a_key_that_was_not_copied_whole(
    place: AzurePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", "not base64!")
    assert "copy it again" in said(through_obstore, place)


@WAYS
def test_a_missing_container(way: Way, place: AzurePlace) -> None:
    missing = AzurePlace("no-such-container", "", place.account, place.endpoint)
    sentence = said(way, missing)
    assert "There is no container no-such-container" in sentence
    assert "az storage container create" in sentence


def test_a_missing_blob_is_no_fault(place: AzurePlace) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        azure_store(place, QUICK).get("x")
    assert explained(missing.value, place) is None


def test_the_sdks_client_writes_lists_and_deletes_with_its_patient_retries(
    place: AzurePlace,
) -> None:
    client = container_client(place)
    for name in ("a", "b", "c"):
        client.upload_blob(name, name.encode())
    pages = client.list_blobs(results_per_page=2).by_page()
    assert [[blob.name for blob in page] for page in pages] == [["a", "b"], ["c"]]
    client.delete_blob("b")
    assert client.download_blob("c").readall() == b"c"
    assert [blob.name for blob in client.list_blobs()] == ["a", "c"]


@WAYS
def test_a_clock_that_is_wrong_is_named_before_key_and_signature(
    way: Way, place: AzurePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", WRONG_KEY)
    with pytest.raises((BaseError, AzureError, OSError)) as failed:
        way(place)
    ahead = explained(failed.value, place, now=datetime.now(UTC) + HOUR)
    behind = explained(failed.value, place, now=datetime.now(UTC) - 2 * HOUR)
    assert ahead is not None
    assert behind is not None
    assert "60 minutes ahead of Azure's" in ahead
    assert "120 minutes behind Azure's" in behind
    assert "timedatectl" in ahead


def test_an_account_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"AccountName=shopdata;AccountKey={WRONG_KEY};BlobEndpoint=https://shopdata.blob.invalid",
    )
    for way in (through_obstore, through_sdk):
        assert "check the name of storage account shopdata" in said(way, AzurePlace("tables", ""))


def test_an_endpoint_that_does_not_answer() -> None:
    place = azure_place("http://127.0.0.1:9/devstoreaccount1/tables")
    assert place is not None
    for way in (through_obstore, through_sdk):
        assert "http://127.0.0.1:9/devstoreaccount1 does not answer" in said(way, place)


def test_no_credential_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    token_credential.cache_clear()
    place = AzurePlace("tables", "", "shopdata", "https://shopdata.blob.core.windows.net")
    for way in (through_obstore, through_sdk):
        assert "run `az login`" in said(way, place)
    token_credential.cache_clear()


# --- answers that Azurite does not give


@dataclass
class Service:
    """A Blob service that answers its first requests as it is told, and the others with success.

    Attributes:
        status: of the first answers.
        times: how many.
        headers: theirs.
        body: theirs.
        seen: when each request came.
        authorizations: what each carried.
        paths: what each asked for.
    """

    status: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seen: list[float] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    place: AzurePlace = field(default_factory=lambda: AzurePlace("tables", ""))

    def waits(self) -> list[float]:
        return [after - before for before, after in zip(self.seen, self.seen[1:], strict=False)]


@contextmanager
def answering(service: Service) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            service.seen.append(time.monotonic())
            service.authorizations.append(self.headers.get("Authorization", ""))
            service.paths.append(self.path)
            if len(service.seen) <= service.times:
                self._answer(service.status, service.headers, service.body)
            else:
                now = "Wed, 25 Nov 2026 12:00:00 GMT"
                self._answer(201, {"ETag": '"0x1"', "Last-Modified": now}, b"")

        do_GET = do_PUT  # noqa: N815

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found = azure_place(f"http://127.0.0.1:{server.server_port}/devstoreaccount1/tables")
    assert found is not None
    service.place = found
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [429, 503])
def test_the_sdk_waits_as_long_as_a_busy_account_asks(status: int) -> None:
    with answering(Service(status, times=2, headers={"Retry-After": "1"})) as service:
        through_sdk(service.place)
    assert len(service.seen) == 3
    assert all(1.0 <= wait < 4.0 for wait in service.waits())


@pytest.mark.parametrize("status", [429, 503])
def test_the_stores_first_wait_is_a_second_and_the_write_succeeds(status: int) -> None:
    with answering(Service(status, times=2, headers={"Retry-After": "1"})) as service:
        azure_store(service.place).put("x", b"1", mode="create")
    assert len(service.seen) == 3
    assert all(wait >= 0.99 for wait in service.waits())


def test_the_stores_usual_waits_last_a_minute_at_most() -> None:
    assert PATIENCE.retries * PATIENCE.longest_wait > PATIENCE.total
    assert PATIENCE.total <= 60


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("way", [through_obstore, through_sdk])
def test_an_account_that_stays_busy_is_given_up_on(way: Way, status: int) -> None:
    with answering(Service(status, times=99)) as service:
        started = time.monotonic()
        sentence = said(way, service.place)
        took = time.monotonic() - started
    assert "too busy" in sentence
    assert "run again later" in sentence
    assert len(service.seen) == QUICK.retries + 1
    assert took < QUICK.total


def test_time_bounds_the_waiting_where_the_number_does_not() -> None:
    patience = Patience(retries=1000, first_wait=0.2, longest_wait=0.3, total=1.0, request=5)
    with answering(Service(503, times=9999)) as service, pytest.raises(BaseError):
        azure_store(service.place, patience).put("x", b"1")
    took = service.seen[-1] - service.seen[0]
    assert patience.total - patience.longest_wait <= took < 10 * patience.total
    assert len(service.seen) < 12


# As Azure's documentation has them; the times are filled in.
DETAILS = {
    "clock": "Request date header too old: 'Wed, 25 Nov 2026 10:00:00 GMT'",
    "frame": "Signature not valid in the specified time frame: Start [Wed, 25 Nov 2026 10:00:00 "
    "GMT] - Expiry [Wed, 25 Nov 2026 11:00:00 GMT] - Current [Wed, 25 Nov 2026 12:00:00 GMT]",
    "key": "The MAC signature found in the HTTP request 'abc=' is not the same as any computed "
    "signature. Server used following string to sign: 'PUT'.",
}


def refusal(detail: str, code: str = "AuthenticationFailed") -> Service:
    body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>Server failed '
        "to authenticate the request. Make sure the value of Authorization header is formed "
        "correctly including the signature.\nRequestId:1f2e3d4c-0000\n"
        f"Time:{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.1234567Z</Message>"
        f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail></Error>"
    )
    headers = {"Content-Type": "application/xml", "x-ms-error-code": code}
    return Service(403, times=99, headers=headers, body=body.encode())


@pytest.mark.parametrize("way", [through_obstore, through_sdk])
@pytest.mark.parametrize(
    ("detail", "variable", "value", "expected"),
    [
        ("clock", "AZURE_STORAGE_ACCESS_KEY", WRONG_KEY, "this machine's clock"),
        ("key", "AZURE_STORAGE_ACCESS_KEY", WRONG_KEY, "The key in AZURE_STORAGE_ACCESS_KEY"),
        ("frame", "AZURE_STORAGE_SAS_TOKEN", "sp=rl&sig=abcdefgh", "not valid at this time"),
    ],
)
def test_azures_own_words_are_understood(
    way: Way,
    detail: str,
    variable: str,
    value: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, value)
    with answering(refusal(DETAILS[detail])) as service:
        assert expected in said(way, service.place)
    assert len(service.seen) == 1


def test_a_firewall_is_not_taken_for_a_wrong_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCESS_KEY", WRONG_KEY)
    refused = refusal("", "AuthorizationFailure")
    refused.body = (
        b'<?xml version="1.0" encoding="utf-8"?><Error><Code>AuthorizationFailure</Code><Message>'
        b"This request is not authorized to perform this operation.</Message></Error>"
    )
    with answering(refused) as service:
        assert "firewall" in said(through_obstore, service.place)


class Tokens:
    """A credential of azure-identity's kind."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        return AccessToken("token-of-the-node", 4_000_000_000)


def test_a_store_signs_with_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", Tokens)
    token_credential.cache_clear()
    monkeypatch.setenv("AZURE_CLIENT_ID", "11111111-2222")
    monkeypatch.setenv("AZURE_TENANT_ID", "33333333-4444")
    with answering(Service(503, times=0)) as service:
        place = AzurePlace("tables", "", "shopdata", service.place.endpoint)
        azure_store(place, QUICK).put("x", b"1")
    assert service.authorizations == ["Bearer token-of-the-node"]
    token_credential.cache_clear()


def test_a_store_uses_the_signature_that_was_decided_on_and_no_key_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", WRONG_KEY)
    with answering(Service(503, times=0)) as service:
        monkeypatch.setenv(
            "AZURE_STORAGE_CONNECTION_STRING",
            f"AccountName=devstoreaccount1;BlobEndpoint={service.place.endpoint};"
            "SharedAccessSignature=sp=rl&sig=abcdefgh",
        )
        azure_store(AzurePlace("tables", ""), QUICK).put("x", b"1")
    assert service.authorizations == [""]
    assert "sig=abcdefgh" in service.paths[0]
