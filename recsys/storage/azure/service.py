"""Azure's own client of Blob storage, made as patient as the stores are."""

from typing import Any

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline import PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import RetryPolicy
from azure.core.rest import HttpRequest, HttpResponse
from azure.storage.blob import BlobServiceClient

from recsys.storage.azure.access import AzureAccess, token_credential
from recsys.storage.azure.patience import Patience


def client_of(found: AzureAccess, patience: Patience) -> BlobServiceClient:
    """Return a client of an account."""
    credential: Any
    if found.key is not None:
        credential = AzureNamedKeyCredential(found.account, found.key)
    elif found.sas is not None:
        credential = AzureSasCredential(found.sas)
    else:
        credential = token_credential()
    return BlobServiceClient(
        found.blob_endpoint,
        credential=credential,
        retry_policy=HeedingRetries(
            retry_total=patience.retries,
            retry_backoff_factor=patience.first_wait,
            retry_backoff_max=patience.longest_wait,
            timeout=patience.total,
        ),
        connection_timeout=patience.request,
        read_timeout=patience.request,
    )


class HeedingRetries(RetryPolicy[HttpRequest, HttpResponse]):
    """Azure's usual retries, for storage: its own neither repeat after 429 nor read Retry-After."""

    def send(
        self, request: PipelineRequest[HttpRequest]
    ) -> PipelineResponse[HttpRequest, HttpResponse]:
        """Send a request, again where it is worth it."""
        # What storage's own policy takes out of the way, and what its listings look for.
        for option in ("hosts", "location_mode", "retry_to_secondary", "retry_hook"):
            request.context.options.pop(option, None)
        response = super().send(request)
        response.http_response.location_mode = "primary"  # type: ignore[attr-defined]
        return response
