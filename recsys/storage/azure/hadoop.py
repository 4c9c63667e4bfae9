"""What Hadoop's ABFS driver must be told about an account.

Names end in the account's host, so that one session reaches several accounts; the few that the
driver reads only for all accounts alike concern an emulator.
"""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from recsys.storage.azure.access import AzureAccess, access_to
from recsys.storage.azure.places import AzurePlace, dfs_host

PROVIDERS = "org.apache.hadoop.fs.azurebfs.oauth2"
LOGIN = "https://login.microsoftonline.com"
# The driver's own are 30 retries up to 25 s apart: a quarter of an hour before it says that an
# account does not answer.
RETRIES = {
    "fs.azure.io.retry.max.retries": "8",
    "fs.azure.io.retry.max.backoff.interval": "10000",
    "fs.azure.io.retry.min.backoff.interval": "1000",
}


def hadoop_settings(
    place: AzurePlace, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the settings for a place's account; they hold secrets: see `recsys.hadoop.apply`.

    Args:
        place: where Spark is to read or write.
        environment: where the credential comes from.
    """
    found = access_to(place.account, place.endpoint, environment)
    own = {
        # A flat account through its Blob endpoint.
        "fs.azure.account.hns.enabled": "false",
        "fs.azure.fns.account.service.type": "BLOB",
    } | _credential(found, environment)
    host = dfs_host(found)
    emulator: dict[str, str] = {}
    if found.blob_endpoint.startswith("http:"):
        own["fs.azure.abfs.endpoint"] = urlsplit(found.blob_endpoint).netloc
        emulator = {
            "fs.azure.always.use.https": "false",
            "fs.azure.networking.library": "JDK_HTTP_URL_CONNECTION",
        }
    return RETRIES | emulator | {f"{name}.{host}": value for name, value in own.items()}


def _credential(found: AzureAccess, environment: Mapping[str, str]) -> dict[str, str]:
    if found.key is not None:
        return {"fs.azure.account.auth.type": "SharedKey", "fs.azure.account.key": found.key}
    if found.sas is not None:
        return {"fs.azure.account.auth.type": "SAS", "fs.azure.sas.fixed.token": found.sas}
    return {"fs.azure.account.auth.type": "OAuth"} | _token(environment)


def _token(environment: Mapping[str, str]) -> dict[str, str]:
    """Return who asks for tokens, in the order of DefaultAzureCredential."""
    client = environment.get("AZURE_CLIENT_ID", "")
    tenant = environment.get("AZURE_TENANT_ID", "")
    login = environment.get("AZURE_AUTHORITY_HOST", LOGIN).rstrip("/")
    secret = environment.get("AZURE_CLIENT_SECRET")
    file = environment.get("AZURE_FEDERATED_TOKEN_FILE")
    if client and tenant and secret:
        return _oauth("ClientCredsTokenProvider") | {
            "fs.azure.account.oauth2.client.endpoint": f"{login}/{tenant}/oauth2/token",
            "fs.azure.account.oauth2.client.id": client,
            "fs.azure.account.oauth2.client.secret": secret,
        }
    identity = {
        "fs.azure.account.oauth2.client.id": client,
        "fs.azure.account.oauth2.msi.tenant": tenant,
    }
    identity = {name: value for name, value in identity.items() if value}
    if client and tenant and file:
        return (
            _oauth("WorkloadIdentityTokenProvider")
            | identity
            | {
                "fs.azure.account.oauth2.msi.authority": f"{login}/",
                "fs.azure.account.oauth2.token.file": file,
            }
        )
    return _oauth("MsiTokenProvider") | identity


def _oauth(provider: str) -> dict[str, str]:
    return {"fs.azure.account.oauth.provider.type": f"{PROVIDERS}.{provider}"}
