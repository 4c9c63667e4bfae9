"""The many ways to write a place in Blob storage, read into one and written for each reader.

    az://CONTAINER/PATH                                        the environment's account
    abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH        Hadoop and Spark
    wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH       MLflow, older Hadoop
    https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH       Azure's portal
    http://127.0.0.1:PORT/ACCOUNT/CONTAINER/PATH               an emulator on this machine

Paths are taken as they stand, without decoding: Spark's `shop=A%20B` is a folder of that name.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from recsys.errors import UsageError
from recsys.storage.azure.access import EMULATOR_HOSTS, PUBLIC, AzureAccess, access_to

CLOUDS = (PUBLIC, "core.chinacloudapi.cn", "core.usgovcloudapi.net")
HADOOP = ("abfs", "abfss", "wasb", "wasbs")
SHORT = ("az", "azure")
HOST = re.compile(rf"([a-z0-9]{{3,24}})\.(?:blob|dfs)\.({'|'.join(map(re.escape, CLOUDS))})")
CONTAINER = re.compile(r"\$(root|web|logs)|(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
FORMS = (
    "write az://CONTAINER/PATH, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH or "
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH"
)


@dataclass(frozen=True)
class AzurePlace:
    """One folder or object in Blob storage.

    Attributes:
        container: its container.
        path: its name inside the container, without slashes around it; empty: all of it.
        account: the storage account; None: the environment's.
        endpoint: Blob endpoint that the URL itself names; None: the environment's.
    """

    container: str
    path: str
    account: str | None = None
    endpoint: str | None = None


def azure_place(url: str) -> AzurePlace | None:
    """Read a URL of Blob storage.

    Returns:
        The place; None where the URL is not one of Azure's.

    Raises:
        UsageError: it is one of Azure's but not complete, or it carries a signature.
    """
    scheme, found, rest = url.partition("://")
    scheme = scheme.lower()
    authority, _, path = rest.partition("/")
    if not found or not _is_azure(scheme, authority):
        return None
    _refuse_query(url)
    if scheme in ("http", "https"):
        return _from_web(url, authority.lower(), path)
    container, at, host = authority.partition("@")
    if not at and scheme in (*SHORT, "abfs", "abfss") and "." not in authority:
        return _place(url, container, path)
    match = HOST.fullmatch(host.lower())
    if not at or match is None or scheme in SHORT:
        raise UsageError(f"{url} is not a complete URL of Blob storage: {FORMS}.")
    return _place(url, container, path, match[1], f"https://{match[1]}.blob.{match[2]}")


def _is_azure(scheme: str, authority: str) -> bool:
    """Tell whether a URL means Blob storage, complete or not."""
    if scheme in (*HADOOP, *SHORT):
        return True
    host = (urlsplit(f"//{authority}").hostname or "").lower()
    if scheme == "http" and host in EMULATOR_HOSTS:
        return True
    return scheme in ("http", "https") and host.endswith(CLOUDS)


def _refuse_query(url: str) -> None:
    """Raise UsageError for `?` and `#`; what follows them is not repeated, it may be secret."""
    plain = re.split(r"[?#]", url)[0]
    if re.search(r"[?&]sig=", url):
        raise UsageError(
            f"{plain} carries a shared access signature, which would end up in logs: put what "
            "follows the question mark into AZURE_STORAGE_SAS_TOKEN and give the URL without it."
        )
    if plain != url:
        raise UsageError(f"{plain} is followed by ? or #: give the URL without what follows.")


def _from_web(url: str, host: str, path: str) -> AzurePlace:
    """Read https://ACCOUNT.blob…/CONTAINER/PATH, and the emulator's form of it."""
    match = HOST.fullmatch(host)
    if match is not None and url.lower().startswith("https:"):
        account, endpoint = match[1], f"https://{match[1]}.blob.{match[2]}"
    elif match is None and url.lower().startswith("http:"):
        account, _, path = path.partition("/")
        endpoint = f"http://{host}/{account}"
    else:
        raise UsageError(f"{url} is not a complete URL of Blob storage: {FORMS}.")
    container, _, path = path.partition("/")
    return _place(url, container, path, account, endpoint)


def _place(
    url: str, container: str, path: str, account: str | None = None, endpoint: str | None = None
) -> AzurePlace:
    """Check the container's name; raises UsageError."""
    if CONTAINER.fullmatch(container) is None:
        raise UsageError(
            f"{url} names no container ({container!r} cannot be one: 3 to 63 small letters, "
            f"digits and single hyphens): {FORMS}."
        )
    return AzurePlace(container, path.strip("/"), account, endpoint)


def spark_url(place: AzurePlace) -> str:
    """Return what Spark reads and writes a place by; `recsys.hadoop.apply` gives it access."""
    found = access_to(place.account, place.endpoint)
    scheme = "abfs" if found.blob_endpoint.startswith("http:") else "abfss"
    return f"{scheme}://{place.container}@{dfs_host(found)}/{place.path}"


def artifact_uri(place: AzurePlace) -> str:
    """Return what MLflow stores artifacts by; the endpoint comes from the environment."""
    found = access_to(place.account, place.endpoint)
    host = f"{found.account}.blob.{_cloud(found.blob_endpoint)}"
    return f"wasbs://{place.container}@{host}/{place.path}"


def dfs_host(found: AzureAccess) -> str:
    """Return the host by which Hadoop knows an account."""
    return f"{found.account}.dfs.{_cloud(found.blob_endpoint)}"


def _cloud(endpoint: str) -> str:
    """Return the cloud's part of an endpoint; an emulator has the public cloud's names."""
    host = urlsplit(endpoint).hostname or ""
    return next((cloud for cloud in CLOUDS if host.endswith(cloud)), PUBLIC)
