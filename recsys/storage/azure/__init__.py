"""Azure's Blob storage: URLs, credentials, stores and clients, errors in plain words."""

from recsys.storage.azure.access import AzureAccess, access, access_to
from recsys.storage.azure.clients import azure_store, container_client, service_client
from recsys.storage.azure.explain import explained
from recsys.storage.azure.hadoop import hadoop_settings
from recsys.storage.azure.patience import PATIENCE, Patience
from recsys.storage.azure.places import AzurePlace, artifact_uri, azure_place, spark_url
from recsys.storage.azure.redaction import redacted, secrets

__all__ = [
    "PATIENCE",
    "AzureAccess",
    "AzurePlace",
    "Patience",
    "access",
    "access_to",
    "artifact_uri",
    "azure_place",
    "azure_store",
    "container_client",
    "explained",
    "hadoop_settings",
    "redacted",
    "secrets",
    "service_client",
    "spark_url",
]
