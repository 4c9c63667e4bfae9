"""The one place that knows local disk from Blob: stores, create-only commits, safe local writes.

A commit is one small file that appears whole or not at all, under a number nobody else has:

    <root>/_commits/00000001.json   create-only: THIS is the commit
    <root>/_commits/00000002.json   carries the digest of number 1, and so on
    <root>/_current.json            a hint for people and tools; nothing here trusts it
"""

import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from recsys.errors import DataError, PublishError, UsageError

REMOTE_SCHEMES = ("abfs", "abfss", "az", "azure", "gs", "s3", "s3a")
COMMITS = "_commits"
READS_AT_ONCE = 16
HINT = "_current.json"


class CommitConflict(PublishError):  # noqa: N818 (its name is used as a word)
    """Another writer took the number; the message says who and what to do."""


class BrokenLogError(PublishError):
    """A commit log was altered, or a record is missing or incomplete."""


# ------------------------------------------------------------------------------- places


def local_path(url: str | Path) -> Path:
    """Return the path of a local file or folder.

    Args:
        url: a path, or a `file:` URL (`file:///data/x`, and Hadoop's `file:/data/x`).

    Raises:
        UsageError: the URL is remote.
    """
    parts = urlsplit(str(url))
    if isinstance(url, Path) or not _is_url(str(url)):
        return Path(url)
    if parts.scheme.lower() != "file" or parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url} is not on this machine's disk: give a local path or a file: URL.")
    return Path(unquote(parts.path))


def store_of(url: str | Path, create: bool = False) -> ObjectStore:
    """Open the folder behind a path or URL as a store.

    Args:
        url: a local path, a `file:` URL, or a URL of a cloud's object store.
        create: make the local folder where it is missing; object stores need no folders.

    Raises:
        UsageError: the scheme is unknown or the URL is not complete.
        DataError: the local folder does not exist and `create` is not asked for.
    """
    scheme = urlsplit(str(url)).scheme.lower()
    if scheme in REMOTE_SCHEMES and _is_url(str(url)):
        try:
            return from_url(str(url))
        except (BaseError, ValueError) as error:
            raise UsageError(f"{url} cannot be opened: {_first_line(error)}") from None
    if _is_url(str(url)) and scheme != "file":
        known = ", ".join(f"{name}://" for name in ("file", *REMOTE_SCHEMES))
        raise UsageError(f"{url} has an unknown scheme: use a local path or one of {known}.")
    folder = local_path(url).absolute()
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: check the path.")
    return LocalStore(prefix=folder)


def folder_exists(url: str | Path) -> bool:
    """Tell whether there is such a folder; in an object store there always is."""
    remote = _is_url(str(url)) and urlsplit(str(url)).scheme.lower() in REMOTE_SCHEMES
    return remote or local_path(url).is_dir()


def _is_url(text: str) -> bool:
    """Tell a URL from a path; `file:/x` is one, `C:x` and `a:b` are not."""
    return re.match(r"(file:/|[A-Za-z][A-Za-z0-9+.-]*://)", text, re.IGNORECASE) is not None


def _first_line(error: BaseException) -> str:
    """Return what an error says without obstore's debugging part."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


# ------------------------------------------------------------------------------- create-only


def put_new(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write an object that must not exist yet, whole or not at all.

    Args:
        store: where to write.
        key: the object's name inside the store.
        data: its content.

    Returns:
        True where this call made the object, False where it was there already.

    Raises:
        PublishError: the store refused the write for another reason.
    """
    try:
        if isinstance(store, LocalStore):
            return _link_new(_local_file(store, key), data)
        store.put(key, data, mode="create")
    except AlreadyExistsError:
        return False
    except (BaseError, OSError) as error:
        raise PublishError(
            f"{key} cannot be written ({_first_line(error)}): check space and rights and, on a "
            "mounted disk, that it allows hard links."
        ) from error
    return True


def _link_new(path: Path, data: bytes) -> bool:
    """Write a temporary file, make it durable, and give it its name if nobody has it.

    obstore's own local put links too, but without fsync: a power cut could leave the name with
    nothing behind it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    _sync_folder(path.parent)
    _sync_folder(path.parent.parent)
    return True


def _local_file(store: LocalStore, key: str) -> Path:
    """Return the file behind a key."""
    return Path(store.prefix or "/", key)


def read_bytes(store: ObjectStore, key: str) -> bytes | None:
    """Return an object's content, None where there is none; raises DataError where it cannot."""
    try:
        return bytes(store.get(key).bytes())
    except FileNotFoundError:
        return None
    except (BaseError, OSError) as error:
        raise _unreadable(key, error) from error


def put(store: ObjectStore, key: str, data: bytes) -> None:
    """Write or replace an object, whole or not at all; raises PublishError where it cannot."""
    try:
        if isinstance(store, LocalStore):
            path = _local_file(store, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        else:
            store.put(key, data)
    except (BaseError, OSError) as error:
        raise PublishError(
            f"{key} cannot be written ({_first_line(error)}): check space and rights."
        ) from error


def keys_of(store: ObjectStore, prefix: str) -> dict[str, datetime]:
    """Return the objects below a prefix, each with the time of its last change.

    Raises:
        DataError: the store does not answer.
    """
    try:
        return {m["path"]: m["last_modified"] for batch in store.list(prefix) for m in batch}
    except (BaseError, OSError) as error:
        raise _unreadable(prefix, error) from error


def _unreadable(key: str, error: Exception) -> DataError:
    return DataError(
        f"{key} cannot be read ({_first_line(error)}): check that the storage answers and that "
        "you may read it, then run again."
    )


def remove(store: ObjectStore, keys: Iterable[str]) -> None:
    """Delete objects, also such as are gone already, and what local folders this empties."""
    for key in keys:
        with suppress(FileNotFoundError):
            store.delete(key)
        if isinstance(store, LocalStore):
            _remove_empty(_local_file(store, key).parent, Path(store.prefix or "/"))


def _remove_empty(folder: Path, root: Path) -> None:
    """Delete a folder and its parents below the root, as far as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


# ------------------------------------------------------------------------------- commit log


@dataclass(frozen=True)
class Commit:
    """One record of a commit log, as it was read and checked."""

    number: int
    previous: str | None
    time: str
    writer: str
    payload: dict[str, Any]
    digest: str


class CommitLog:
    """An append-only log of JSON records, each under a number that only one writer can get.

    Each record carries the digest of itself and of its predecessor, so that a later change of
    any record shows.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def head(self) -> Commit | None:
        """Return the last commit, None where there is none; raises BrokenLogError."""
        number = self._last_number()
        if number == 0:
            return None
        commit = self.read(number)
        if number > 1:
            _check_link(self.read(number - 1), commit)
        return commit

    def read(self, number: int) -> Commit:
        """Return one commit.

        Raises:
            BrokenLogError: it is missing, incomplete, or was altered since it was written.
        """
        data = read_bytes(self.store, _key(number))
        if data is None:
            raise BrokenLogError(
                f"Commit {number} is missing: restore {_key(number)} from a backup."
            )
        return _decode(number, data)

    def history(self) -> list[Commit]:
        """Return all commits, oldest first; raises BrokenLogError where the chain does not hold."""
        # An object store answers in tens of milliseconds, and a log grows for years.
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            commits = list(pool.map(self.read, range(1, self._last_number() + 1)))
        for before, after in pairwise(commits):
            _check_link(before, after)
        return commits

    def append(self, record: Mapping[str, Any], expected: int) -> Commit:
        """Commit a record as number `expected` + 1.

        Args:
            record: what to commit; must be plain JSON.
            expected: the number of the commit that the record builds on, 0 where there is none.

        Raises:
            CommitConflict: another writer has committed that number already.
            BrokenLogError: the predecessor is missing or was altered.
            UsageError: the record is not plain JSON.
        """
        if expected < 0:
            raise ValueError("expected is the number of a commit, or 0")
        number = expected + 1
        previous = self.read(expected).digest if expected else None
        data = _encode(number, previous, record)
        if not self._put_commit(_key(number), data):
            winner = self.read(number)
            raise CommitConflict(
                f"Commit {number} was taken by {winner.writer} at {winner.time}: look at "
                "what it changed, then run again."
            )
        commit = _decode(number, data)
        self._hint(commit)
        return commit

    def _put_commit(self, key: str, data: bytes) -> bool:
        """Write a commit that must not exist yet; returns whether it is this one that stands.

        The answer to a write may be lost on its way. A client that repeats the request is told
        that the object exists, one that gives up raises: the content says whose it is.
        """
        try:
            if put_new(self.store, key, data):
                return True
            found = read_bytes(self.store, key)
            if found is None:
                raise PublishError(
                    f"{key} cannot be written (the store refuses it, yet there is no such object): "
                    "run again."
                )
            return found == data
        except PublishError:
            with suppress(DataError):
                if read_bytes(self.store, key) == data:
                    return True
            raise

    def _last_number(self) -> int:
        """Return the highest number in the log, 0 where it is empty."""
        pattern = re.compile(rf"{COMMITS}/(\d{{8}})\.json")
        return max(
            (int(m[1]) for path in keys_of(self.store, COMMITS) if (m := pattern.fullmatch(path))),
            default=0,
        )

    def _hint(self, commit: Commit) -> None:
        """Tell people and tools which commit was the last; the commit stands without it."""
        text = json.dumps({"number": commit.number, "sha256": commit.digest})
        with suppress(BaseError, OSError):
            self.store.put(HINT, text.encode())


def _key(number: int) -> str:
    return f"{COMMITS}/{number:08d}.json"


def _encode(number: int, previous: str | None, record: Mapping[str, Any]) -> bytes:
    """Return a record's bytes; raises UsageError where it is not plain JSON."""
    try:
        # Through JSON once, so that a payload is the same before and after it was stored.
        payload = json.loads(json.dumps(dict(record), allow_nan=False))
        fields = {
            "number": number,
            "previous": previous,
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            # The random part makes the bytes of two writers differ even if all else is the same.
            "writer": f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}",
            "payload": payload,
        }
        return _canonical(fields | {"sha256": _digest(fields)})
    except (TypeError, ValueError) as error:
        raise UsageError(f"A commit's record must be plain JSON: {_first_line(error)}.") from None


def _decode(number: int, data: bytes) -> Commit:
    """Check a record's bytes and return it; raises BrokenLogError."""
    try:
        fields = json.loads(data)
        digest = fields.pop("sha256")
        intact = digest == _digest(fields) and data == _canonical(fields | {"sha256": digest})
        commit = Commit(**fields, digest=digest)
    except (ValueError, TypeError, AttributeError, KeyError):
        raise BrokenLogError(
            f"Commit {number} is not a whole record: restore {_key(number)} from a backup."
        ) from None
    if not intact or commit.number != number:
        raise BrokenLogError(
            f"Commit {number} was altered after it was written: restore {_key(number)} from a "
            "backup."
        )
    return commit


def _canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the one way to write a record, readable for people."""
    text = json.dumps(fields, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode() + b"\n"


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(fields)).hexdigest()


def _check_link(before: Commit, after: Commit) -> None:
    """Raise BrokenLogError where a commit does not build on the one before it."""
    if after.previous != before.digest:
        raise BrokenLogError(
            f"Commit {after.number} does not follow commit {before.number}, one of them was "
            "replaced: restore both from a backup."
        )


# ------------------------------------------------------------------------------- local files


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write or replace a file; readers see the old content or the new, also after a crash."""
    temporary = _write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    _sync_folder(path.parent)


def replace_folder(temporary: Path, final: Path) -> None:
    """Put a finished folder in another's place, and remove the other.

    Two renames on one disk, so for a moment between them there is no `final`: a reader that
    must never see this opens what a commit names. After a crash in that moment the old folder
    is `.<name>.previous` beside it, and the next call begins by putting it back.

    Args:
        temporary: the new folder, on the same disk.
        final: where it belongs; need not exist.

    Raises:
        DataError: there is no new folder; the old one is untouched.
        OSError: a rename failed; the old folder is back in its place.
    """
    previous = final.with_name(f".{final.name}.previous")
    if previous.exists() and not final.exists():
        previous.rename(final)
    if not temporary.is_dir():
        raise DataError(f"There is no folder {temporary} to put in place of {final}.")
    if previous.exists():
        shutil.rmtree(previous)
    if final.exists():
        final.rename(previous)
    try:
        temporary.rename(final)
    except OSError:
        if previous.exists():
            previous.rename(final)
        raise
    _sync_folder(final.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _write_temporary(path: Path, data: bytes) -> Path:
    """Write data, durably, to a hidden file beside the one that it is to become."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
