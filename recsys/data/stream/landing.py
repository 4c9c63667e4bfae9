"""The landing folder: which files lie there, and whether one of them is complete."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from itertools import permutations
from pathlib import Path
from stat import S_ISREG
from typing import Any

from obstore.exceptions import BaseError

from recsys.data.globs import is_pattern, is_shown_data, kind_of
from recsys.data.replace import content_of as folder_content
from recsys.data.replace import lies_in
from recsys.data.source import bare_path, printable
from recsys.errors import DataError, UsageError
from recsys.storage import Place, opened, place_of, spark_path, store_of
from recsys.storage.objects import unreadable, version_of

READS_AT_ONCE = 16
CHUNK = 1 << 20
LINE_ENDS = (b"\n", b"\r")
FATES = {
    "landing folder": "taken",
    "output": "removed by each publication",
    "state": "the stream's own",
}


@dataclass(frozen=True)
class Landing:
    """Where files arrive.

    Attributes:
        folder: that they lie in.
        pattern: of their names.
        deep: whether they lie in folders of this folder, as Spark writes tables.
    """

    folder: Place
    pattern: str
    deep: bool

    def takes(self, name: str) -> bool:
        """Tell whether a file is meant, by its path inside the folder."""
        inside, _, last = name.rpartition("/")
        in_its_place = self.deep or not inside
        return in_its_place and is_shown_data(name) and fnmatch(last, self.pattern)

    def name_of(self, path: str) -> str:
        """Return a file's path inside the folder, of the path that Spark has for it."""
        return bare_path(path).removeprefix(f"{bare_path(spark_path(self.folder))}/")


@dataclass(frozen=True)
class Found:
    """A file as it lies in the landing folder.

    Attributes:
        name: path inside the folder.
        place: where it is.
        bytes: its size.
        version: another one after every change.
        changed: time of the last change.
    """

    name: str
    place: Place
    bytes: int
    version: str
    changed: datetime


@dataclass(frozen=True)
class Content:
    """What was read of a file.

    Attributes:
        sha256: of all of it.
        start: SHA-256 of its first bytes, as many as were asked for.
        packed: it is complete as a compressed file; True where it is none.
        line_end: its last character ends a line.
    """

    sha256: str
    start: str
    packed: bool
    line_end: bool


def landing_of(source: str) -> Landing:
    """Return the landing folder that a folder's path, or a glob of files in it, stands for.

    As for a batch ingest, files in folders of the folder count where none lies right there.

    Raises:
        UsageError: there is no such folder, or the source is one file.
    """
    place, pattern = place_of(source), "*"
    if is_pattern(place.name):
        place, pattern = place.parent, place.name
    if is_pattern(str(place)) or (isinstance(place, Path) and not place.is_dir()):
        raise UsageError(
            f"{source} is not a folder: give the folder that files arrive in, or a glob of "
            "files in it, in quotes."
        )
    if isinstance(place, Path):
        place = place.resolve()
    elif kind_of(place):
        raise UsageError(f"{source} is one file: give the folder that files arrive in.")
    else:
        place = folder_content(place)
    names = listing(Landing(place, pattern, deep=True))
    return Landing(place, pattern, bool(names) and all("/" in name for name in names))


def check_apart(landing: Landing, output: Place, state: Place) -> None:
    """Raise UsageError where one of a stream's folders lies in another, and would go with it."""
    folders = {"output": output, "state": state, "landing folder": landing.folder}
    for (inner, place), (outer, folder) in permutations(folders.items(), 2):
        if lies_in(place, folder):
            raise UsageError(
                f"the {inner} {place} lies in the {outer} {folder}, whose files are "
                f"{FATES[outer]}: give folders that lie apart."
            )


def listing(landing: Landing) -> dict[str, Found]:
    """Return the files that lie in the landing folder, by name."""
    if isinstance(landing.folder, Path):
        found = list(_on_disk(landing, landing.folder))
    else:
        store = store_of(landing.folder)
        try:
            metas: list[dict[str, Any]] = [dict(meta) for batch in store.list() for meta in batch]
        except (BaseError, OSError) as error:
            raise unreadable(store, str(landing.folder), error) from error
        found = [_found(landing, meta) for meta in metas if landing.takes(meta["path"])]
    return {file.name: file for file in sorted(found, key=lambda file: file.name)}


def _on_disk(landing: Landing, folder: Path) -> Iterator[Found]:
    """List a local folder: object stores would refuse names that a disk allows."""

    def stop(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}): check its rights.")

    for inside, _, names in os.walk(folder, onerror=stop):
        for path in (Path(inside, name) for name in names):
            name = path.relative_to(folder).as_posix()
            file = _stat(printable(name), path) if landing.takes(name) else None
            if file is not None:
                yield file


def _stat(name: str, path: Path) -> Found | None:
    """Return a local file as it is now, None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    if not S_ISREG(stat.st_mode):
        return None
    version = f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
    changed = datetime.fromtimestamp(stat.st_mtime, UTC)
    return Found(name, path, stat.st_size, version, changed)


def look(landing: Landing, names: Iterable[str]) -> list[Found]:
    """Return those of some files that lie in the landing folder now, by name."""
    store = store_of(landing.folder)

    def one(name: str) -> Found | None:
        if isinstance(landing.folder, Path):
            return _stat(name, landing.folder / name)
        try:
            return _found(landing, dict(store.head(name)))
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise unreadable(store, name, error) from error

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return [file for file in pool.map(one, sorted(set(names))) if file is not None]


def _found(landing: Landing, meta: Mapping[str, Any]) -> Found:
    version = f"{version_of(meta)} {meta['size']}"
    name = str(meta["path"])
    return Found(name, landing.folder / name, meta["size"], version, meta["last_modified"])


def content_of(file: Found, start: int) -> Content:
    """Read a file from beginning to end.

    Args:
        file: which.
        start: of how many of its first bytes the digest is wanted.
    """
    whole, first, left = hashlib.sha256(), hashlib.sha256(), start
    unpacking = _Unpacking() if file.name.lower().endswith(".gz") else None
    end = b""
    with opened(file.place) as source:
        while chunk := source.read(CHUNK):
            whole.update(chunk)
            first.update(chunk[:left])
            left -= min(left, len(chunk))
            end = (end + chunk[-4:])[-4:]
            if unpacking is not None:
                unpacking.feed(chunk)
    return Content(
        whole.hexdigest(),
        first.hexdigest(),
        packed=unpacking is None or unpacking.ended,
        # In UTF-16 and UTF-32 it has zeros around it.
        line_end=end.rstrip(b"\0").endswith(LINE_ENDS),
    )


class _Unpacking:
    """Follows a gzip file to see whether it comes to its end."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._sound = True

    @property
    def ended(self) -> bool:
        return self._sound and self._member.eof

    def feed(self, data: bytes) -> None:
        try:
            while data and self._sound:
                if self._member.eof:
                    # Zeros may follow a member, and so may another one.
                    data = data.lstrip(b"\0")
                    if not data:
                        return
                    self._member = zlib.decompressobj(wbits=31)
                self._member.decompress(data)
                data = self._member.unused_data
        except zlib.error:
            self._sound = False
