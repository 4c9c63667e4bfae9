"""Stores and clients of Blob storage, each with bounded patience."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.store import AzureStore

from recsys.storage.azure.access import EMULATOR_HOSTS, AzureAccess, access_to, token_credential
from recsys.storage.azure.patience import PATIENCE, Patience
from recsys.storage.azure.places import AzurePlace

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient, ContainerClient


def azure_store(place: AzurePlace, patience: Patience = PATIENCE) -> AzureStore:
    """Open a place as a store; raises UsageError where the environment gives no access to it."""
    found = access_to(place.account, place.endpoint)
    return AzureStore(
        place.container,
        prefix=place.path or None,
        account_name=found.account,
        endpoint=found.blob_endpoint,
        # obstore reads the environment too: what was decided here must stand.
        use_emulator=False,
        client_options={
            "allow_http": urlsplit(found.blob_endpoint).hostname in EMULATOR_HOSTS,
            "timeout": timedelta(seconds=patience.request),
        },
        retry_config={
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.total),
            "backoff": {
                "init_backoff": timedelta(seconds=patience.first_wait),
                "max_backoff": timedelta(seconds=patience.longest_wait),
            },
        },
        **_store_credential(found),
    )


def _store_credential(found: AzureAccess) -> dict[str, Any]:
    """Return a store's credential, and that no other of the environment's is to be used."""
    if found.key is not None:
        return {"account_key": found.key, "credential_type": "access_key"}
    if found.sas is not None:
        return {"sas_key": found.sas, "credential_type": "sas_token"}
    # Imported here for the reason below.
    from obstore.auth.azure import AzureCredentialProvider

    return {"credential_provider": AzureCredentialProvider(token_credential())}


def service_client(place: AzurePlace, patience: Patience = PATIENCE) -> "BlobServiceClient":
    """Return a client of the account a place lies in, for containers, staging and signatures."""
    # Half a second to import, which every Spark task would wait for.
    from recsys.storage.azure.service import client_of

    return client_of(access_to(place.account, place.endpoint), patience)


def container_client(place: AzurePlace, patience: Patience = PATIENCE) -> "ContainerClient":
    """Return a client of the container a place lies in."""
    return service_client(place, patience).get_container_client(place.container)
