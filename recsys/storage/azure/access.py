"""How this process gets at a storage account: by what the environment holds, in a fixed order."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from recsys.errors import UsageError

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

PUBLIC = "core.windows.net"
EMULATOR_HOSTS = ("127.0.0.1", "localhost")
EMULATOR = "devstoreaccount1"
EMULATOR_ENDPOINT = "http://127.0.0.1:10000"
# Published in Microsoft's documentation, the same on every machine: it protects nothing.
EMULATOR_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
ACCOUNTS = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
KEYS = ("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
SAS = "AZURE_STORAGE_SAS_TOKEN"
IDENTITY = "DefaultAzureCredential"


@dataclass(frozen=True)
class AzureAccess:
    """One account and what opens it.

    Attributes:
        account: its name.
        blob_endpoint: where its Blob service answers.
        key: its key.
        sas: a shared access signature; without key and signature a token is asked for.
        source: the variable that the key or signature came from.
    """

    account: str
    blob_endpoint: str
    key: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    source: str = IDENTITY


def access(account: str | None = None, environment: Mapping[str, str] = os.environ) -> AzureAccess:
    """Find out how to get at an account.

    The first that is set counts: `AZURE_STORAGE_CONNECTION_STRING`; a key in
    `AZURE_STORAGE_ACCESS_KEY` or `AZURE_STORAGE_ACCOUNT_KEY`; a signature in
    `AZURE_STORAGE_SAS_TOKEN`; `AZURE_STORAGE_USE_EMULATOR`; and otherwise azure-identity's
    `DefaultAzureCredential`, which on a node is its managed identity (`AZURE_CLIENT_ID`).

    Args:
        account: as a URL names it; None: the environment's own.
        environment: the variables.

    Raises:
        UsageError: no account is named, the key at hand is another account's, or the connection
            string is not one.
    """
    found = (
        _from_connection_string(environment)
        or _from_variables(account, environment)
        or _from_emulator(account, environment)
    )
    named = _first(environment, ACCOUNTS)
    if found is None:
        name = account or (named[0] if named else None)
        if name is None:
            raise UsageError(
                "The URL names no storage account: set AZURE_STORAGE_ACCOUNT, or write "
                f"abfss://CONTAINER@ACCOUNT.dfs.{PUBLIC}/PATH."
            )
        return AzureAccess(name, f"https://{name}.blob.{PUBLIC}")
    if account not in (None, found.account):
        raise UsageError(
            f"The URL is in storage account {account}, but {found.source} is for "
            f"{found.account}: correct one of them."
        )
    _refuse_plain_http(found)
    return found


def access_to(
    account: str | None, endpoint: str | None, environment: Mapping[str, str] = os.environ
) -> AzureAccess:
    """Find out how to get at a place.

    Args:
        account: the account that its URL names, if any.
        endpoint: the endpoint that its URL names, if any. It counts where it is an emulator's, or
            where the environment does not say which endpoint the account has.
        environment: the variables.
    """
    found = access(account, environment)
    if endpoint is None:
        return found
    usual = found.blob_endpoint == f"https://{found.account}.blob.{PUBLIC}"
    if usual or endpoint.startswith("http:"):
        return AzureAccess(found.account, endpoint, found.key, found.sas, found.source)
    return found


@lru_cache(maxsize=1)
def token_credential() -> "DefaultAzureCredential":
    """Return this process's one token credential, which keeps its tokens until they expire."""
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()


def connection_parts(text: str) -> dict[str, str]:
    """Return a connection string's parts, names in small letters; raises UsageError."""
    pairs = [part.partition("=") for part in text.strip().strip(";").split(";")]
    if any(not name or not value for name, _, value in pairs):
        raise UsageError(
            f"{CONNECTION} is not a connection string: copy it whole from the storage account's "
            "access keys (AccountName=…;AccountKey=…)."
        )
    return {name.strip().lower(): value for name, _, value in pairs}


def _from_connection_string(environment: Mapping[str, str]) -> AzureAccess | None:
    text = environment.get(CONNECTION)
    if not text:
        return None
    parts = connection_parts(text)
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        return AzureAccess(
            EMULATOR, f"{EMULATOR_ENDPOINT}/{EMULATOR}", EMULATOR_KEY, source=CONNECTION
        )
    endpoint = parts.get("blobendpoint", "").rstrip("/")
    account = parts.get("accountname") or _account_of(endpoint)
    if not account:
        raise UsageError(f"{CONNECTION} names no account: it needs AccountName or BlobEndpoint.")
    if not endpoint:
        protocol = parts.get("defaultendpointsprotocol", "https")
        endpoint = f"{protocol}://{account}.blob.{parts.get('endpointsuffix', PUBLIC)}"
    sas = parts.get("sharedaccesssignature", "").lstrip("?") or None
    return AzureAccess(account, endpoint, parts.get("accountkey"), sas, CONNECTION)


def _account_of(endpoint: str) -> str:
    """Return the account in an endpoint's host or, for an emulator, in its path."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    return parts.path.strip("/") if host in EMULATOR_HOSTS else host.partition(".")[0]


def _from_variables(account: str | None, environment: Mapping[str, str]) -> AzureAccess | None:
    key, sas = _first(environment, KEYS), _first(environment, (SAS,))
    secret = key or sas
    if secret is None:
        return None
    named = _first(environment, ACCOUNTS)
    name = named[0] if named else account
    if name is None:
        raise UsageError(f"{secret[1]} is set, but no account: set AZURE_STORAGE_ACCOUNT too.")
    if _uses_emulator(environment) or name == EMULATOR:
        endpoint = f"{_emulator_endpoint(environment)}/{name}"
    else:
        endpoint = f"https://{name}.blob.{PUBLIC}"
    if key is not None:
        return AzureAccess(name, endpoint, key[0], source=key[1])
    return AzureAccess(name, endpoint, sas=secret[0].lstrip("?"), source=secret[1])


def _from_emulator(account: str | None, environment: Mapping[str, str]) -> AzureAccess | None:
    """Return the emulator's well-known account where the environment or the URL asks for it."""
    if not _uses_emulator(environment) and account != EMULATOR:
        return None
    endpoint = f"{_emulator_endpoint(environment)}/{EMULATOR}"
    return AzureAccess(EMULATOR, endpoint, EMULATOR_KEY, source="AZURE_STORAGE_USE_EMULATOR")


def _uses_emulator(environment: Mapping[str, str]) -> bool:
    return environment.get("AZURE_STORAGE_USE_EMULATOR", "").lower() in ("true", "1")


def _emulator_endpoint(environment: Mapping[str, str]) -> str:
    return environment.get("AZURITE_BLOB_STORAGE_URL", EMULATOR_ENDPOINT).rstrip("/")


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the first variable that is set, its value before its name."""
    return next(((environment[name], name) for name in names if environment.get(name)), None)


def _refuse_plain_http(found: AzureAccess) -> None:
    parts = urlsplit(found.blob_endpoint)
    if parts.scheme != "https" and parts.hostname not in EMULATOR_HOSTS:
        raise UsageError(
            f"{found.blob_endpoint} would send data and signatures in the clear: use https."
        )
