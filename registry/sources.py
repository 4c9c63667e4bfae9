"""Where the files of a logged model lie: listed and read in pieces, and never trusted.

MLflow's own download follows symlinks on a disk, stores as many bytes as it is sent, and shows the
tracking server's password to any host that a model's address names. Hence three readers: a folder
of this disk, the tracking server, and a cloud's storage.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from obstore.exceptions import BaseError

from recsys.errors import DataError, ModelError, RecsysError
from recsys.models.manifest import opened, other_than_file, shown
from recsys.storage import is_remote, local_path, store_of
from recsys.storage.azure import redacted

SERVED = ("mlflow-artifacts", "http", "https")
PIECE = 1 << 20
# A saved model has about twenty files; who lists more does not list one.
MOST_FILES = 1000
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class FetchError(RecsysError):
    """The files of a model cannot be reached, which says nothing of what they hold."""


class Source(Protocol):
    """A folder of files, somewhere."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Return what lies right in a folder: name → bytes, 0 if not told; folders end in `/`.

        Args:
            folder: its name, ending in `/`; empty for the whole.
        """

    def pieces(self, file: str) -> Iterator[bytes]:
        """Yield a file's content; who has enough of it stops."""


def source_of(model_uri: str) -> Source:
    """Return where a model's files lie.

    Args:
        model_uri: `models:/m-…`, `models:/<name>/<version>`, or the address of the files.

    Raises:
        ModelError: there is no such model, or its files lie where nobody should fetch them from.
        FetchError: the tracking server cannot tell.
    """
    uri = _address(model_uri) if urlsplit(model_uri).scheme == "models" else model_uri
    scheme = urlsplit(uri).scheme.lower()
    if scheme in SERVED:
        return _served(uri)
    if scheme in ("", "file"):
        return _Folder(local_path(uri).absolute())
    if "://" in uri and is_remote(uri):
        return _Cloud(uri)
    raise ModelError(
        f"{shown(redacted(uri), 200)} is no place to fetch a model from: name a logged model "
        "(models:/m-…) or a version (models:/NAME/VERSION)."
    )


@dataclass(frozen=True)
class _Folder:
    """A folder of this machine's disk, in which a symlink leads nowhere."""

    path: Path

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Source.sizes`."""
        with self._opened(folder) as handle, os.scandir(handle) as entries:
            return dict(self._described(folder, entry) for entry in entries)

    def pieces(self, file: str) -> Iterator[bytes]:
        """See `Source.pieces`."""
        folder, _, name = file.rpartition("/")
        with self._opened(folder) as handle, opened(name, handle) as source:
            while piece := source.read(PIECE):
                yield piece

    def _described(self, folder: str, entry: "os.DirEntry[str]") -> tuple[str, int]:
        status = entry.stat(follow_symlinks=False)
        other = other_than_file(status.st_mode)
        if other == "a folder":
            return f"{entry.name}/", 0
        if other:
            raise ModelError(f"{self.path / folder / shown(entry.name)} is no file, but {other}.")
        return entry.name, status.st_size

    @contextmanager
    def _opened(self, folder: str) -> Iterator[int]:
        """Open a folder inside this one, step by step."""
        handle, at = -1, self.path
        try:
            handle = os.open(at, FOLDER)
            for part in PurePosixPath(folder).parts:
                at = at / part
                inner = os.open(part, FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
        except OSError as error:
            _close(handle)
            why = "it is a symlink" if at.is_symlink() else error.strerror
            raise ModelError(f"{at} cannot be opened as a folder: {why}.") from None
        try:
            yield handle
        finally:
            _close(handle)


def _close(handle: int) -> None:
    if handle >= 0:
        os.close(handle)


@dataclass(frozen=True)
class _Served:
    """What the tracking server hands out of its own storage."""

    repository: ArtifactRepository

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Source.sizes`."""
        with _reached(self.repository.artifact_uri):
            infos = self.repository.list_artifacts(folder.rstrip("/") or None)
            return {
                info.path.removeprefix(folder) + ("/" if info.is_dir else ""): info.file_size or 0
                for info in infos
            }

    def pieces(self, file: str) -> Iterator[bytes]:
        """See `Source.pieces`."""
        with _reached(self.repository.artifact_uri):
            ours = get_default_host_creds(self.repository.artifact_uri)  # type: ignore[no-untyped-call]
            answer = http_request(ours, f"/{file}", "GET", stream=True)  # type: ignore[no-untyped-call]
            with answer:
                answer.raise_for_status()
                yield from answer.iter_content(PIECE)


@dataclass(frozen=True)
class _Cloud:
    """A folder in a cloud's storage."""

    url: str

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Source.sizes`."""
        found: dict[str, int] = {}
        for key, size in self._objects.items():
            if key.startswith(folder):
                name, inner, _ = key.removeprefix(folder).partition("/")
                found[name + inner] = 0 if inner else size
        # Some storage marks a folder by an empty object of its name.
        return {n: size for n, size in found.items() if size or f"{n}/" not in found}

    def pieces(self, file: str) -> Iterator[bytes]:
        """See `Source.pieces`."""
        with _reached(self.url):
            for piece in store_of(self.url).get(file).stream(min_chunk_size=PIECE):
                yield bytes(piece)

    @cached_property
    def _objects(self) -> dict[str, int]:
        """All objects below the folder: key → bytes."""
        found: dict[str, int] = {}
        with _reached(self.url):
            for batch in store_of(self.url).list():
                found |= {meta["path"]: meta["size"] for meta in batch}
                if len(found) > MOST_FILES:
                    raise ModelError(f"{self.url} holds more than {MOST_FILES:,} files: no model.")
        return found


def _address(model_uri: str) -> str:
    """Ask the tracking server where a model's files lie."""
    client, parts = MlflowClient(), model_uri.partition(":")[2].strip("/").split("/")
    try:
        if len(parts) == 1 and parts[0].startswith("m-"):
            return str(client.get_logged_model(parts[0]).artifact_location)
        if len(parts) == 2 and parts[1].isdecimal():
            return str(client.get_model_version_download_uri(parts[0], parts[1]))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise ModelError(f"There is no {shown(model_uri, 200)}: check its name.") from None
        raise _unreached(model_uri, error) from None
    raise ModelError(
        f"{shown(model_uri, 200)} is no one model: name a logged model (models:/m-…) or a version "
        "(models:/NAME/VERSION)."
    )


def _served(uri: str) -> _Served:
    """Return files that a server hands out, if it is the one that this process's password is for.

    Raises:
        ModelError: it is another.
    """
    ours = urlsplit(mlflow.get_tracking_uri())
    with _reached(uri):
        repository = get_artifact_repository(uri)
    theirs = urlsplit(repository.artifact_uri)
    if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
        raise ModelError(
            f"{shown(redacted(uri), 200)} lies on the server {shown(str(theirs.hostname))}, which "
            "is not the tracking server: the model is not fetched."
        )
    return _Served(repository)


@contextmanager
def _reached(uri: str) -> Iterator[None]:
    """Say of any failure in between that the files cannot be reached."""
    try:
        yield
    except RecsysError as error:
        if not isinstance(error, DataError):
            raise
        raise _unreached(uri, error) from None
    except (
        MlflowException,
        BaseError,
        OSError,
        # A server's answer that is no list of files.
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise _unreached(uri, error) from None


def _unreached(uri: str, error: Exception) -> FetchError:
    why = redacted(" ".join(str(error).split()))
    return FetchError(
        f"{shown(redacted(uri), 200)} cannot be read ({shown(why, 200)}): check that the storage "
        "answers and that you may read it, then run again."
    )
