"""Connections to the Batch service: credentials from the environment, requests done once."""

import os
import re
import time
from collections.abc import Callable, Mapping

from azure.batch import BatchClient
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.identity import DefaultAzureCredential

from recsys.errors import ClusterError, UsageError
from recsys.storage.places import first_line

TRIES = 3


def connect(endpoint: str, environment: Mapping[str, str] = os.environ) -> BatchClient:
    """Open a Batch account.

    Args:
        endpoint: the account's URL.
        environment: with `BATCH_ACCOUNT_NAME` and `BATCH_ACCESS_KEY`, or whatever
            DefaultAzureCredential finds; on a node that is the pool's identity.

    Raises:
        UsageError: only one of the two variables is set.
    """
    name, key = environment.get("BATCH_ACCOUNT_NAME"), environment.get("BATCH_ACCESS_KEY")
    if bool(name) != bool(key):
        raise UsageError("Set both BATCH_ACCOUNT_NAME and BATCH_ACCESS_KEY, or neither.")
    if name and key:
        return BatchClient(endpoint, AzureNamedKeyCredential(name, key))
    return BatchClient(endpoint, DefaultAzureCredential())


def create_once(create: Callable[[], object]) -> bool:
    """Create something that may exist already; an answer that was lost is asked for again.

    Returns:
        True where this call made it; False where it was there, or a lost answer hid who made it.

    Raises:
        ClusterError: the service refused it, or does not answer.
    """
    for attempt in range(TRIES):
        try:
            create()
            return True
        except ResourceExistsError as error:
            if not (code_of(error) or "").endswith("Exists"):
                raise ClusterError(explained(error)) from error
            return False
        except (ServiceRequestError, ServiceResponseError) as error:
            if attempt == TRIES - 1:
                raise ClusterError(explained(error)) from error
            time.sleep(attempt + 0.5)
        except AzureError as error:
            raise ClusterError(explained(error)) from error
    raise AssertionError("unreachable")


def code_of(error: AzureError) -> str | None:
    """Return Batch's own code of an error, such as JobExists."""
    found = getattr(error, "error", None)
    return getattr(found, "code", None)


def explained(error: AzureError) -> str:
    """Say in one sentence what the service refused, and what to do."""
    code = code_of(error)
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if status in (401, 403):
        return (
            f"Batch refused the credentials ({code or status}): check BATCH_ACCOUNT_NAME and "
            "BATCH_ACCESS_KEY, or the identity's role on the Batch account."
        )
    if status is None:
        return f"Batch does not answer ({first_line(error)}): check batch_endpoint, then run again."
    values = getattr(getattr(error, "model", None), "values_property", None) or []
    details = "; ".join(f"{v.key}: {v.value}" for v in values)
    told = first_line(error).removeprefix(f"({code}) ")
    told += f" ({details})" if details else ""
    return f"Batch refused ({code or status}): {without_signatures(told)}"


def without_signatures(text: str) -> str:
    """Return a text whose links can be shown."""
    return re.sub(r"([?&]sig=)[^&\"'\s]+", r"\1***", text)
