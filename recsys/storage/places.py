"""Where files lie: a path of this machine's disk, or a folder or object in a cloud's storage."""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from recsys.errors import DataError, UsageError
from recsys.storage.azure import AzurePlace, azure_place, azure_store
from recsys.storage.azure import artifact_uri as azure_artifact_uri
from recsys.storage.azure import spark_url as azure_spark_url

# What obstore opens by itself; Azure's many forms are recsys.storage.azure's.
OTHER_CLOUDS = ("gs", "s3", "s3a")
KNOWN_FORMS = (
    "a local path, file://…, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/…, "
    "https://ACCOUNT.blob.core.windows.net/CONTAINER/…, az://CONTAINER/…, s3://… or gs://…"
)


@dataclass(frozen=True, order=True)
class RemotePath:
    """A folder or an object in a cloud's storage; `/`, `name` and `parent` are as Path has them."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        """What it lies in."""
        return RemotePath(self.url.rstrip("/").rpartition("/")[0])


Place = Path | RemotePath


def place_of(url: str | Place) -> Place:
    """Return the place that a path or URL names.

    Raises:
        UsageError: the URL's form is unknown.
    """
    if isinstance(url, RemotePath):
        return url
    return RemotePath(str(url).rstrip("/")) if is_remote(url) else local_path(url)


def beside(place: Place, name: str) -> Place:
    """Return the place of a name in the same folder."""
    here = place.absolute() if isinstance(place, Path) else place
    return here.parent / name


def is_remote(url: str | Place) -> bool:
    """Tell whether a path or URL lies in a cloud; raises UsageError where its form is unknown."""
    if isinstance(url, Path) or not _is_url(str(url)):
        return False
    scheme = urlsplit(str(url)).scheme.lower()
    if scheme == "file":
        return False
    if azure_place(str(url)) is None and scheme not in OTHER_CLOUDS:
        raise UsageError(f"{url} has an unknown form: use {KNOWN_FORMS}.")
    return True


def local_path(url: str | Place) -> Path:
    """Return the path of a local file or folder.

    Args:
        url: a path, or a `file:` URL (`file:///data/x`, and Hadoop's `file:/data/x`).

    Raises:
        UsageError: the URL is remote.
    """
    parts = urlsplit(str(url))
    if isinstance(url, Path) or not _is_url(str(url)):
        return Path(str(url))
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url} is not on this machine's disk: give a local path or a file: URL.")
    return Path(unquote(parts.path))


def store_of(url: str | Place, create: bool = False) -> ObjectStore:
    """Open the folder behind a path or URL as a store.

    Args:
        url: a local path, a `file:` URL, or a URL of a cloud's object store.
        create: make the local folder where it is missing; object stores need no folders.

    Raises:
        UsageError: the form is unknown or the URL is not complete.
        DataError: the local folder does not exist and `create` is not asked for.
    """
    if is_remote(url):
        return _remote_store(str(url), _credentials())
    folder = local_path(url).absolute()
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: check the path.")
    return LocalStore(prefix=folder)


def store_and_key(path: RemotePath) -> tuple[ObjectStore, str]:
    """Return the store of a remote path's container or bucket, and its key there."""
    azure = azure_place(path.url)
    if azure is not None:
        container = f"{path.url.rstrip('/').removesuffix(azure.path.strip('/'))}"
        return _remote_store(container, _credentials()), azure.path.strip("/")
    parts = urlsplit(path.url)
    root = f"{parts.scheme}://{parts.netloc}"
    return _remote_store(root, _credentials()), parts.path.strip("/")


@lru_cache(maxsize=64)
def _remote_store(url: str, credentials: tuple[tuple[str, str], ...]) -> ObjectStore:
    """Open a remote store once a process, as long as the credentials stay the same."""
    azure = azure_place(url)
    try:
        return from_url(url) if azure is None else azure_store(azure)
    except (BaseError, ValueError) as error:
        raise UsageError(f"{url} cannot be opened: {first_line(error)}") from None


def _credentials() -> tuple[tuple[str, str], ...]:
    """Return what of the environment decides on how a store is opened."""
    return tuple(sorted(v for v in os.environ.items() if v[0].startswith(("AZUR", "AWS_"))))


def folder_exists(url: str | Place) -> bool:
    """Tell whether there is such a folder; in an object store there always is."""
    return is_remote(url) or local_path(url).is_dir()


def spark_path(path: str | Place) -> str:
    """Return what Spark reads and writes a path by."""
    azure = azure_place(str(path)) if is_remote(path) else None
    if azure is not None:
        return azure_spark_url(azure)
    return re.sub(r"^s3://", "s3a://", str(path))


def spark_source(path: str | Place) -> str:
    """Return what Spark reads exactly one path by: it takes what it reads for a pattern."""
    return re.sub(r"([\\\[\]{}*?])", r"\\\1", spark_path(path))


def artifact_uri(path: Place) -> str:
    """Return what MLflow calls a path by."""
    azure = azure_place(path.url) if isinstance(path, RemotePath) else None
    return str(path) if azure is None else azure_artifact_uri(azure)


def azure_places(*paths: str | Place | None) -> list[AzurePlace]:
    """Return those of some paths that lie in Azure's storage."""
    found = (azure_place(str(path)) for path in paths if path is not None and is_remote(path))
    return [place for place in found if place is not None]


def _is_url(text: str) -> bool:
    """Tell a URL from a path; `file:/x` is one, `C:x` and `a:b` are not."""
    return re.match(r"(file:/|[A-Za-z][A-Za-z0-9+.-]*://)", text, re.IGNORECASE) is not None


def first_line(error: BaseException) -> str:
    """Return what an error says without obstore's debugging part."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
