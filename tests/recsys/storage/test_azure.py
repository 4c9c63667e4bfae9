"""Azure's URLs, credentials from the environment, and what Hadoop is told of them."""

import os
from typing import Any

import pytest
from azure.core.credentials import AccessToken

from recsys.errors import UsageError
from recsys.storage.azure import (
    AzurePlace,
    access,
    access_to,
    artifact_uri,
    azure_place,
    azure_store,
    container_client,
    hadoop_settings,
    secrets,
    spark_url,
)
from recsys.storage.azure.access import token_credential

KEY = "c2VjcmV0LWtleS1vZi1hLXRlc3Q="
OTHER_KEY = "YW5vdGhlci1zZWNyZXQta2V5"
SAS = "sv=2026-02-06&se=2030-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig=ab%2Bcd%2Fef%3D"
PUBLIC = "https://shopdata.blob.core.windows.net"
PLACE = AzurePlace("tables", "a/b", "shopdata", PUBLIC)
HOST = "shopdata.dfs.core.windows.net"
SIGNED = f"BlobEndpoint={PUBLIC}/;SharedAccessSignature=?{SAS}"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=shopdata;AccountKey={KEY}"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the developer's shell decides a test."""
    for name in [name for name in os.environ if name.startswith(("AZURE_", "AZURITE_"))]:
        monkeypatch.delenv(name)


# --- places


@pytest.mark.parametrize(
    "url",
    [
        "abfss://tables@shopdata.dfs.core.windows.net/a/b",
        "abfs://tables@shopdata.dfs.core.windows.net/a/b/",
        "abfss://tables@shopdata.blob.core.windows.net/a/b",
        "ABFSS://tables@ShopData.dfs.core.windows.net//a/b",
        "wasbs://tables@shopdata.blob.core.windows.net/a/b",
        "wasb://tables@shopdata.blob.core.windows.net/a/b",
        "https://shopdata.blob.core.windows.net/tables/a/b",
        "https://shopdata.dfs.core.windows.net/tables/a/b",
    ],
)
def test_all_forms_of_a_url_are_one_place(url: str) -> None:
    assert azure_place(url) == PLACE


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("az://tables", AzurePlace("tables", "")),
        ("az://tables/a/b", AzurePlace("tables", "a/b")),
        ("azure://tables/a/", AzurePlace("tables", "a")),
        ("abfs://tables/a", AzurePlace("tables", "a")),
        ("https://shopdata.blob.core.windows.net/$web", AzurePlace("$web", "", "shopdata", PUBLIC)),
        (
            "http://127.0.0.1:10000/devstoreaccount1/tables/a",
            AzurePlace(
                "tables", "a", "devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"
            ),
        ),
        (
            "abfss://tables@shopdata.dfs.core.usgovcloudapi.net/a",
            AzurePlace("tables", "a", "shopdata", "https://shopdata.blob.core.usgovcloudapi.net"),
        ),
        # As it stands: a folder that Spark named so.
        ("az://tables/shop=A%20B", AzurePlace("tables", "shop=A%20B")),
    ],
)
def test_a_url_is_read(url: str, place: AzurePlace) -> None:
    assert azure_place(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "out/tables",
        "/data/a",
        "C:/data",
        "azure:x",
        "file:///data/a",
        "s3://bucket/a",
        "gs://bucket/a",
        "https://example.com/tables/a",
        "http://example.com/a",
    ],
)
def test_other_urls_are_not_azures(url: str) -> None:
    assert azure_place(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "abfss://shopdata.dfs.core.windows.net/tables/a",
        "abfss://tables@shopdata/a",
        "abfss://tables@shopdata.dfs.core.windows.net.example.com/a",
        "wasbs://tables/a",
        "az://tables@shopdata.dfs.core.windows.net/a",
        "az:///a",
        "az://Tables/a",
        "az://a--b/x",
        "https://shopdata.blob.core.windows.net",
        "https://shopdata.queue.core.windows.net/tables",
        "http://shopdata.blob.core.windows.net/tables/a",
        "http://127.0.0.1:10000/devstoreaccount1",
    ],
)
def test_an_incomplete_url_is_refused_with_the_right_form(url: str) -> None:
    with pytest.raises(UsageError, match="abfss://CONTAINER@ACCOUNT"):
        azure_place(url)


@pytest.mark.parametrize(
    "scheme", ["https://shopdata.blob.core.windows.net/tables/a", "az://c1a/b"]
)
def test_a_url_with_a_signature_is_refused_without_repeating_it(scheme: str) -> None:
    with pytest.raises(UsageError, match="AZURE_STORAGE_SAS_TOKEN") as refused:
        azure_place(f"{scheme}?{SAS}")
    assert "ab%2Bcd" not in str(refused.value)
    with pytest.raises(UsageError, match="without what follows"):
        azure_place(f"{scheme}?snapshot=1")


def test_one_place_is_written_for_spark_and_for_mlflow() -> None:
    assert spark_url(PLACE) == f"abfss://tables@{HOST}/a/b"
    assert artifact_uri(PLACE) == "wasbs://tables@shopdata.blob.core.windows.net/a/b"
    assert azure_place(spark_url(PLACE)) == azure_place(artifact_uri(PLACE)) == PLACE


def test_a_place_without_account_is_in_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="AZURE_STORAGE_ACCOUNT"):
        spark_url(AzurePlace("tables", "a"))
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION)
    assert spark_url(AzurePlace("tables", "a")) == f"abfss://tables@{HOST}/a"


def test_the_emulators_url_needs_no_variables() -> None:
    place = azure_place("http://127.0.0.1:7777/devstoreaccount1/tables/a")
    assert place is not None
    assert spark_url(place) == "abfs://tables@devstoreaccount1.dfs.core.windows.net/a"
    found = access_to(place.account, place.endpoint)
    assert found.key is not None
    assert found.blob_endpoint == "http://127.0.0.1:7777/devstoreaccount1"


# --- access


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"AZURE_STORAGE_CONNECTION_STRING": CONNECTION}, ("shopdata", PUBLIC, KEY, None)),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": SIGNED},
            ("shopdata", PUBLIC, None, SAS),
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": CONNECTION
                + ";EndpointSuffix=core.chinacloudapi.cn"
            },
            ("shopdata", "https://shopdata.blob.core.chinacloudapi.cn", KEY, None),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "shopdata", "AZURE_STORAGE_ACCESS_KEY": KEY},
            ("shopdata", PUBLIC, KEY, None),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT_NAME": "shopdata", "AZURE_STORAGE_ACCOUNT_KEY": KEY},
            ("shopdata", PUBLIC, KEY, None),
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "shopdata", "AZURE_STORAGE_SAS_TOKEN": f"?{SAS}"},
            ("shopdata", PUBLIC, None, SAS),
        ),
        ({"AZURE_STORAGE_ACCESS_KEY": KEY}, ("shopdata", PUBLIC, KEY, None)),
        ({}, ("shopdata", PUBLIC, None, None)),
        ({"AZURE_STORAGE_ACCOUNT": "othershop"}, ("shopdata", PUBLIC, None, None)),
        (
            # The connection string counts first.
            {
                "AZURE_STORAGE_CONNECTION_STRING": CONNECTION,
                "AZURE_STORAGE_ACCESS_KEY": OTHER_KEY,
                "AZURE_STORAGE_SAS_TOKEN": SAS,
            },
            ("shopdata", PUBLIC, KEY, None),
        ),
    ],
)
def test_the_environment_gives_access(
    environment: dict[str, str], expected: tuple[str, str, str | None, str | None]
) -> None:
    found = access("shopdata", environment)
    assert (found.account, found.blob_endpoint, found.key, found.sas) == expected


def test_the_emulator_is_asked_for_in_three_ways() -> None:
    flag = {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": "http://127.0.0.1:7777",
    }
    assert access(None, flag).blob_endpoint == "http://127.0.0.1:7777/devstoreaccount1"
    word = {"AZURE_STORAGE_CONNECTION_STRING": "UseDevelopmentStorage=true"}
    assert access(None, word).blob_endpoint == "http://127.0.0.1:10000/devstoreaccount1"
    assert access("devstoreaccount1", {}).key == access(None, word).key == access(None, flag).key


@pytest.mark.parametrize(
    "environment",
    [
        {"AZURE_STORAGE_CONNECTION_STRING": CONNECTION},
        {"AZURE_STORAGE_ACCOUNT": "shopdata", "AZURE_STORAGE_ACCESS_KEY": KEY},
        {"AZURE_STORAGE_ACCOUNT": "shopdata", "AZURE_STORAGE_SAS_TOKEN": SAS},
    ],
)
def test_another_accounts_secret_is_refused_naming_both(environment: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="othershop.*shopdata") as refused:
        access("othershop", environment)
    assert list(environment)[-1] in str(refused.value)


@pytest.mark.parametrize("text", ["shopdata", "AccountName", KEY, "AccountName=;AccountKey=x"])
def test_a_broken_connection_string_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError, match="AZURE_STORAGE_CONNECTION_STRING") as refused:
        access(None, {"AZURE_STORAGE_CONNECTION_STRING": text})
    assert KEY not in str(refused.value)


def test_an_endpoint_on_the_network_must_be_encrypted() -> None:
    text = CONNECTION.replace("https", "http")
    with pytest.raises(UsageError, match="use https"):
        access("shopdata", {"AZURE_STORAGE_CONNECTION_STRING": text})


def test_a_secret_shows_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in (
        {"AZURE_STORAGE_ACCESS_KEY": KEY},
        {"AZURE_STORAGE_SAS_TOKEN": SAS},
    ):
        with monkeypatch.context() as patch:
            for name, value in secret.items():
                patch.setenv(name, value)
            shown = (
                repr(access("shopdata")) + repr(azure_store(PLACE)) + repr(container_client(PLACE))
            )
        assert not any(word in shown for word in secrets(secret))


# --- secrets


def test_every_secret_of_an_environment_is_found() -> None:
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": f"{CONNECTION};SharedAccessSignature={SAS}",
        "AZURE_STORAGE_SAS_TOKEN": f"?{SAS.replace('ab', 'xy')}",
        "AZURE_CLIENT_SECRET": "client-secret",
        "MLFLOW_TRACKING_PASSWORD": "tracking-password",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:p%40ssword@db/mlflow",
        "WEBHOOK": "https://hooks.example.com/x?sig=webhook-signature",
        "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
        "AZURE_CLIENT_ID": "11111111-2222",
        "HOME": "/home/someone",
        "FEATURE_TOKEN": "on",
    }
    found = secrets(environment)
    assert {KEY, "ab%2Bcd%2Fef%3D", "ab+cd/ef=", "xy+cd/ef="} <= set(found)
    assert {"client-secret", "tracking-password", "p@ssword", "p%40ssword"} <= set(found)
    assert "webhook-signature" in found
    assert not {"/var/run/token", "11111111-2222", "/home/someone", "on"} & set(found)
    lengths = [len(secret) for secret in found]
    assert lengths == sorted(lengths, reverse=True)


def test_an_environment_without_secrets_has_none() -> None:
    assert secrets({"AZURE_STORAGE_ACCOUNT": "shopdata", "PATH": "/bin"}) == []


# --- Hadoop


def test_hadoop_gets_the_key_of_its_account() -> None:
    settings = hadoop_settings(PLACE, {"AZURE_STORAGE_CONNECTION_STRING": CONNECTION})
    assert settings[f"fs.azure.account.auth.type.{HOST}"] == "SharedKey"
    assert settings[f"fs.azure.account.key.{HOST}"] == KEY
    assert settings[f"fs.azure.fns.account.service.type.{HOST}"] == "BLOB"
    assert "fs.azure.always.use.https" not in settings
    assert int(settings["fs.azure.io.retry.max.retries"]) <= 10


def test_hadoop_gets_a_signature() -> None:
    settings = hadoop_settings(PLACE, {"AZURE_STORAGE_SAS_TOKEN": SAS})
    assert settings[f"fs.azure.account.auth.type.{HOST}"] == "SAS"
    assert settings[f"fs.azure.sas.fixed.token.{HOST}"] == SAS


@pytest.mark.parametrize(
    ("environment", "provider", "expected"),
    [
        ({}, "MsiTokenProvider", {}),
        ({"AZURE_CLIENT_ID": "me"}, "MsiTokenProvider", {"client.id": "me"}),
        (
            {"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "us", "AZURE_CLIENT_SECRET": "secret"},
            "ClientCredsTokenProvider",
            {
                "client.id": "me",
                "client.secret": "secret",
                "client.endpoint": "https://login.microsoftonline.com/us/oauth2/token",
            },
        ),
        (
            {"AZURE_CLIENT_ID": "me", "AZURE_TENANT_ID": "us", "AZURE_FEDERATED_TOKEN_FILE": "/t"},
            "WorkloadIdentityTokenProvider",
            {"client.id": "me", "msi.tenant": "us", "token.file": "/t"}
            | {"msi.authority": "https://login.microsoftonline.com/"},
        ),
    ],
)
def test_hadoop_asks_for_tokens_as_the_default_credential_does(
    environment: dict[str, str], provider: str, expected: dict[str, str]
) -> None:
    settings = hadoop_settings(PLACE, environment)
    assert settings[f"fs.azure.account.auth.type.{HOST}"] == "OAuth"
    name = settings[f"fs.azure.account.oauth.provider.type.{HOST}"]
    assert name == f"org.apache.hadoop.fs.azurebfs.oauth2.{provider}"
    prefix, suffix = "fs.azure.account.oauth2.", f".{HOST}"
    found = {
        name.removeprefix(prefix).removesuffix(suffix): value
        for name, value in settings.items()
        if name.startswith(prefix)
    }
    assert found == expected


# --- tokens


class Tokens:
    """A credential of azure-identity's kind."""

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        return AccessToken("token-of-the-node", 4_000_000_000)


def test_without_key_and_signature_a_token_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", Tokens)
    token_credential.cache_clear()
    provider: Any = azure_store(PLACE).credential_provider
    assert provider()["token"] == "token-of-the-node"
    assert isinstance(container_client(PLACE).credential, Tokens)
    token_credential.cache_clear()
