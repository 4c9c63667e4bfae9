"""The project as an archive in Blob storage, named by its content, and the links to it.

The same files give the same archive, to the byte, so that it is uploaded once and two runs of one
code share it. Nodes read it through a link that is good for reading this one blob for a limited
time, or, where the pool has an identity, as that identity without any signature.
"""

import gzip
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.batch.models import BatchNodeIdentityReference, ResourceFile
from azure.core.exceptions import AzureError, ResourceExistsError
from azure.storage.blob import (
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    UserDelegationKey,
    generate_blob_sas,
)

from recsys.errors import ClusterError, UsageError
from recsys.storage.azure import AzurePlace, azure_place, explained, service_client
from recsys.storage.azure.access import access_to
from recsys.storage.places import first_line

PROJECTS = "projects"
# What a node runs first, then all that installing reads; pyproject.toml names README.md.
ENVIRONMENT_FILES = (
    "deploy/cluster/start_task.sh",
    "deploy/environment.py",
    "conda.yaml",
    "constraints.txt",
    "pyproject.toml",
    "README.md",
)
# Never of use on a node, also where a project is no git repository.
LEFT_OUT = {".git", ".venv", "__pycache__", "mlruns", "node_modules"}
# Clocks differ: a link is good from a little before now.
EARLIER = timedelta(minutes=15)
# Azure signs for a week at most where there is no account key.
LONGEST = timedelta(days=7) - EARLIER


@dataclass(frozen=True)
class Archive:
    """A packed project: its content, and the blob's name that follows from it."""

    data: bytes
    sha256: str

    @property
    def blob(self) -> str:
        """The blob's name below the storage folder."""
        return f"{PROJECTS}/{self.sha256}.tar.gz"


def project_files(root: Path) -> list[str]:
    """Return the project's files: what git tracks, else all but caches and environments."""
    names = _listed_by_git(root)
    if not names:
        paths = (p.relative_to(root) for p in root.rglob("*"))
        names = [p.as_posix() for p in paths if not LEFT_OUT & set(p.parts)]
    return sorted(name for name in names if (root / name).is_file())


def left_behind(root: Path) -> list[str]:
    """Return the files that git neither tracks nor ignores, which are not staged."""
    return _listed_by_git(root, "--others", "--exclude-standard")


def _listed_by_git(root: Path, *options: str) -> list[str]:
    command = ["git", "-C", str(root), "ls-files", "-z", *options, "--", "."]
    listed = subprocess.run(command, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name] if not listed.returncode else []


def pack(root: Path, names: Iterable[str]) -> Archive:
    """Pack files so that nothing but their names, content and executable bit counts."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(names):
            path = root / name
            entry = tarfile.TarInfo(name)
            content = path.read_bytes()
            entry.size = len(content)
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            archive.addfile(entry, io.BytesIO(content))
    data = gzip.compress(plain.getvalue(), compresslevel=6, mtime=0)
    return Archive(data, hashlib.sha256(data).hexdigest())


def pack_project(root: Path) -> Archive:
    """Pack a project; raises UsageError where the folder holds nothing."""
    names = project_files(root)
    if not names:
        raise UsageError(f"{root} holds no files that git tracks: add and commit the project.")
    return pack(root, names)


def pack_environment(root: Path, install: bool) -> Archive:
    """Pack only what sets a node up: it changes with the pins, not with the code.

    Args:
        root: the project.
        install: whether nodes install the environment; else they only check a ready one.
    """
    names = ENVIRONMENT_FILES if install else ENVIRONMENT_FILES[:1]
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise UsageError(f"{root} lacks {', '.join(missing)}: check out the project again.")
    return pack(root, names)


class Staging:
    """The folder in Blob storage that holds archives.

    Args:
        url: the configuration's `storage`.
        identity: resource id of the pool's identity; None: links carry a signature.
        signs: False where links are only shown.
    """

    def __init__(self, url: str, identity: str | None = None, signs: bool = True) -> None:
        place = azure_place(url)
        if place is None:
            raise UsageError(
                f"storage={url} is no folder in Blob storage: give "
                "https://ACCOUNT.blob.core.windows.net/CONTAINER or az://CONTAINER."
            )
        self.place: AzurePlace = place
        self.identity, self.signs = identity, signs

    def upload(self, archive: Archive) -> bool:
        """Store an archive unless it is there; returns whether it was uploaded.

        Raises:
            ClusterError: storage does not answer, refuses, or holds something else by that name.
        """
        settings = ContentSettings(content_type="application/gzip")
        try:
            blob = self._service().get_blob_client(self.place.container, self._name(archive))
            try:
                blob.upload_blob(archive.data, overwrite=False, content_settings=settings)
                return True
            except ResourceExistsError:
                found = blob.download_blob().readall()
        except AzureError as error:
            raise ClusterError(
                explained(error, self.place)
                or f"The project cannot be staged to {self.place.container} "
                f"({first_line(error)}): check the container and the right to write to it."
            ) from None
        if hashlib.sha256(found).hexdigest() != archive.sha256:
            raise ClusterError(
                f"{archive.blob} was altered after it was staged: delete it, then run again."
            )
        return False

    def resource(self, archive: Archive, file: str, lasts: timedelta) -> ResourceFile:
        """Return how a node gets an archive: as its identity, or by a link that ends.

        Args:
            archive: that was uploaded.
            file: the name it gets in the task's folder.
            lasts: how long the link is good for.
        """
        url = self.url(archive)
        if self.identity:
            reference = BatchNodeIdentityReference(resource_id=self.identity)
            return ResourceFile(http_url=url, file_path=file, identity_reference=reference)
        signed = f"{url}?{self._signature(archive, lasts)}"
        return ResourceFile(http_url=signed, file_path=file)

    def url(self, archive: Archive) -> str:
        """Return an archive's URL without a signature."""
        account = access_to(self.place.account, self.place.endpoint)
        return f"{account.blob_endpoint.rstrip('/')}/{self.place.container}/{self._name(archive)}"

    def _signature(self, archive: Archive, lasts: timedelta) -> str:
        """Sign for reading one blob; raises UsageError where nothing here can sign."""
        if not self.signs:
            return "sig=***"
        account = access_to(self.place.account, self.place.endpoint)
        now = datetime.now(UTC)
        delegated: UserDelegationKey | None = None
        if account.key is None and account.sas is not None:
            raise UsageError(
                "A SAS cannot sign links for nodes: give the configuration an identity, or set "
                "AZURE_STORAGE_CONNECTION_STRING with a key."
            )
        if account.key is None:
            lasts = min(lasts, LONGEST)
            delegated = self._service().get_user_delegation_key(now - EARLIER, now + lasts)
        return generate_blob_sas(
            account_name=account.account,
            container_name=self.place.container,
            blob_name=self._name(archive),
            permission=BlobSasPermissions(read=True),
            start=now - EARLIER,
            expiry=now + lasts,
            account_key=account.key,
            user_delegation_key=delegated,
        )

    def _name(self, archive: Archive) -> str:
        folder = self.place.path.strip("/")
        return f"{folder}/{archive.blob}" if folder else archive.blob

    def _service(self) -> BlobServiceClient:
        return service_client(self.place)
