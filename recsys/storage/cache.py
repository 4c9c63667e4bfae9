"""One machine's copies of what lies in a cloud: fetched once, mapped by all its processes.

A copy's name holds the version of what was copied, so a copy never changes. What was not used for
a while makes room where the copies take more than their share of the disk.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from obstore.exceptions import BaseError

from recsys.storage import objects
from recsys.storage.places import RemotePath, store_and_key

FETCHED_AT_ONCE = 8
# What was used so lately may be about to be opened.
KEPT_SECONDS = 600
SHARE_OF_DISK = 0.5
Listing = Mapping[str, tuple[int, str]]


def root() -> Path:
    """Return this user's cache on this machine; RECSYS_CACHE puts it elsewhere."""
    named = os.environ.get("RECSYS_CACHE")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"recsys-cache-{os.getuid()}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not named and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else: set RECSYS_CACHE.")
    return folder


def file(place: RemotePath, size: int, version: str) -> Path:
    """Return the copy of one object."""

    def fetch(folder: Path) -> None:
        _fetch(place, folder / place.name)

    return _kept(f"{place}\n{size} {version}", fetch) / place.name


def folder(place: RemotePath, listing: Listing) -> Path:
    """Return the copy of a folder.

    Args:
        place: the folder.
        listing: its objects: name inside it → size and version.
    """

    def fetch(copy: Path) -> None:
        def one(name: str) -> None:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(place / name, target)

        with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
            list(threads.map(one, listing))

    told = "\n".join([str(place), *(f"{name} {listing[name]}" for name in sorted(listing))])
    return _kept(told, fetch)


def assembled(told: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that is made once a machine of what lies in a cloud.

    Args:
        told: all that decides on its content.
        make: fills an empty folder.
    """
    return _kept(told, make)


def _kept(told: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of this name, made by whoever comes first while others wait."""
    place = root() / hashlib.sha256(told.encode()).hexdigest()
    if not place.exists():
        with _locked(place.with_suffix(".lock")):
            if not place.exists():
                _make_room()
                fresh = Path(tempfile.mkdtemp(dir=place.parent, prefix=".fresh-"))
                try:
                    make(fresh)
                    fresh.rename(place)
                except BaseException:
                    shutil.rmtree(fresh, ignore_errors=True)
                    raise
    with suppress(OSError):
        os.utime(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among this machine's processes; a process that dies lets go of it."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(place: RemotePath, target: Path) -> None:
    """Copy one object to a file, piece by piece."""
    store, key = store_and_key(place)
    try:
        with target.open("wb") as out:
            for piece in store.get(key):
                out.write(piece)
    except (BaseError, FileNotFoundError) as error:
        raise objects.unreadable(store, str(place), error) from error


def _make_room() -> None:
    """Remove what was not used for long, where the copies take more than their share."""
    disk = shutil.disk_usage(root())
    if disk.free > SHARE_OF_DISK * disk.total:
        return
    copies = [c for c in root().iterdir() if c.is_dir() and not c.name.startswith(".")]
    known = {
        copy: (used, size) for copy in copies if (used := _used(copy)) and (size := _size(copy))
    }
    total = sum(size for _, size in known.values())
    over = total - SHARE_OF_DISK * (disk.free + total)
    for copy, (used, size) in sorted(known.items(), key=lambda item: item[1]):
        if over <= 0 or used > time.time() - KEPT_SECONDS:
            return
        shutil.rmtree(copy, ignore_errors=True)
        over -= size


def _used(copy: Path) -> float:
    """Return when a copy was used last, 0 where another process has just removed it."""
    try:
        return copy.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(copy: Path) -> int:
    try:
        return sum(file.stat().st_size for file in copy.rglob("*") if file.is_file())
    except FileNotFoundError:
        return 0
