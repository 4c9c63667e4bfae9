"""Files that the tasks of several machines share, whether they lie on one disk or in a cloud.

On one machine tasks share its disk, and every function here does what its name says to a file. On
a pool they share a cloud's storage: what a task writes is an object, and what tasks read is copied
to each machine once, into a cache that all its processes map into memory.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.exceptions import BaseError

from recsys.errors import DataError
from recsys.storage import cache, objects
from recsys.storage.local import sha256_file, write_atomic
from recsys.storage.places import Place, RemotePath, store_and_key

DELETED_AT_ONCE = 256


def make_folder(folder: Place) -> None:
    """Make a folder and its parents; storage in a cloud needs none."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def exists(place: Place) -> bool:
    """Tell whether there is such a file, or a folder that holds something."""
    if isinstance(place, Path):
        return place.exists()
    return bool(listed(place)) or _head(place) is not None


def files_in(folder: Place, suffix: str = "") -> list[Place]:
    """Return the files right in a folder whose names end so, by name; none of the hidden ones."""
    if isinstance(folder, Path):
        names = [f.name for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    else:
        names = [name for name in listed(folder) if "/" not in name]
    wanted = (name for name in names if name.endswith(suffix) and not _is_hidden(name))
    return [folder / name for name in sorted(wanted)]


def folders_in(folder: Place) -> list[str]:
    """Return the names of the folders right in a folder, by name."""
    if isinstance(folder, Path):
        return sorted(f.name for f in folder.iterdir() if f.is_dir()) if folder.is_dir() else []
    return sorted({name.split("/")[0] for name in listed(folder) if "/" in name})


def files_below(folder: Place) -> list[Place]:
    """Return all files of a folder and of the folders in it, hidden ones too."""
    if isinstance(folder, Path):
        return [f for f in folder.rglob("*") if f.is_file()]
    return [folder / name for name in listed(folder)]


def read_file(file: Place) -> bytes | None:
    """Return a file's content, None where there is none; raises DataError where it cannot."""
    if isinstance(file, Path):
        try:
            return file.read_bytes() if file.is_file() else None
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}).") from error
    return objects.read_bytes(*store_and_key(file))


def write_file(file: Place, data: Any) -> None:
    """Write or replace a file, whole or not at all.

    Args:
        file: where; its folder is there.
        data: bytes, or anything that shows its memory as bytes.

    Raises:
        PublishError: storage in a cloud refused it.
    """
    if isinstance(file, Path):
        write_atomic(file, data)
    else:
        store, key = store_and_key(file)
        objects.put(store, key, memoryview(data).cast("B"))


def write_parquet(file: Place, table: pa.Table, **options: Any) -> None:
    """Write a table as one Parquet file; options as `pyarrow.parquet.write_table` has them."""
    if isinstance(file, Path):
        pq.write_table(table, file, **options)
        return
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    write_file(file, memoryview(sink.getvalue()))


def read_parquet(place: Place, **options: Any) -> pa.Table:
    """Read a Parquet file or a folder of them; options as `pyarrow.parquet.read_table` has them."""
    return pq.read_table(fetched(place), **options)


def fetched(place: Place) -> Path:
    """Return a file or a folder on this machine's disk, copied there once if it lies in a cloud.

    A file or folder that was replaced meanwhile is another one, and is copied anew.

    Raises:
        DataError: there is nothing there.
    """
    if isinstance(place, Path):
        return place
    found = listed(place)
    if found:
        return cache.folder(place, found)
    head = _head(place)
    if head is None:
        raise DataError(f"There is no {place}: check the URL.")
    return cache.file(place, *head)


def opened(file: Place) -> BinaryIO:
    """Open a file for reading here and there without fetching all of it."""
    if isinstance(file, Path):
        return file.open("rb")
    store, key = store_and_key(file)
    try:
        return io.BufferedReader(_Object(obstore.open_reader(store, key)))
    except (BaseError, OSError) as error:
        raise objects.unreadable(store, str(file), error) from error


class _Object(io.RawIOBase):
    """A remote object as Python's own readers want it."""

    def __init__(self, reader: "obstore.ReadableFile") -> None:
        super().__init__()
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def readinto(self, buffer: Any) -> int:
        data = bytes(self._reader.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def writing(file: Place) -> Iterator[BinaryIO]:
    """Open a file to write from beginning to end; in a cloud it appears when it is closed."""
    if isinstance(file, Path):
        with file.open("wb") as sink:
            yield sink
        return
    with tempfile.TemporaryFile() as spool:
        yield cast(BinaryIO, spool)
        spool.seek(0)
        store, key = store_and_key(file)
        try:
            store.put(key, spool)
        except (BaseError, OSError) as error:
            raise objects.unwritable(store, str(file), error) from error


@contextmanager
def filled(folder: Place) -> Iterator[Path]:
    """Give a local folder to write into; what is in it at the end goes where `folder` lies."""
    if isinstance(folder, Path):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="recsys-filled-") as scratch:
        local = Path(scratch)
        yield local
        for file in sorted(f for f in local.rglob("*") if f.is_file()):
            write_file(folder / file.relative_to(local).as_posix(), file.read_bytes())


def shared_copy(file: Path, folder: Place) -> Place:
    """Return a local file where all tasks of a pool reach it: itself, or a copy in the cloud."""
    if isinstance(folder, Path):
        return file
    write_file(folder / file.name, file.read_bytes())
    return folder / file.name


def read_range(file: Place, start: int, length: int) -> pa.Buffer:
    """Return a piece of a file, mapped where it lies on this disk."""
    if isinstance(file, Path):
        with pa.memory_map(str(file)) as source:
            source.seek(start)
            return source.read_buffer(length)
    store, key = store_and_key(file)
    try:
        return pa.py_buffer(store.get_range(key, start=start, length=length))
    except (BaseError, OSError) as error:
        raise objects.unreadable(store, str(file), error) from error


def move(source: Place, target: Place) -> None:
    """Give a file or a folder another name in the same storage.

    In a cloud each file is copied and then removed, so who reads must not look meanwhile.
    """
    if isinstance(source, Path) and isinstance(target, Path):
        source.rename(target)
        return
    copy(source, target)
    remove_folder(source)


def copy(source: Place, target: Place) -> None:
    """Copy a file or a folder within the same storage."""
    if isinstance(source, Path) and isinstance(target, Path):
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        return
    if isinstance(source, Path) or isinstance(target, Path):
        raise ValueError(f"{source} and {target} lie in different storage")
    for name in listed(source) or [""]:
        store, start = store_and_key(source / name if name else source)
        _, end = store_and_key(target / name if name else target)
        store.copy(start, end)


def remove_folder(folder: Place) -> None:
    """Remove a file or a folder with all that it holds; nothing where there is none."""
    if isinstance(folder, Path):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)
        return
    store, key = store_and_key(folder)
    found = [meta["path"] for meta in _objects_below(folder)]
    for first in range(0, len(found), DELETED_AT_ONCE):
        with suppress(FileNotFoundError):
            store.delete(found[first : first + DELETED_AT_ONCE])
    with suppress(FileNotFoundError, BaseError):
        store.delete(key)


def size_of(place: Place) -> int:
    """Return the bytes of a file or of all files in a folder."""
    if isinstance(place, Path):
        files = [f for f in place.rglob("*") if f.is_file()] if place.is_dir() else [place]
        return sum(file.stat().st_size for file in files)
    return sum(size for size, _ in listed(place).values())


def digests_in(folder: Place) -> list[str]:
    """Return what tells the content of each file below a folder; hidden ones do not count.

    SHA-256 on a disk; in a cloud name, size and the version that the storage gave.
    """
    if isinstance(folder, Path):
        files = [f for f in folder.rglob("*") if f.is_file() and not _is_hidden(f.name)]
        return [sha256_file(file) for file in files]
    return [
        f"{name} {size} {version}"
        for name, (size, version) in listed(folder).items()
        if not _is_hidden(name.rpartition("/")[2])
    ]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def listed(folder: RemotePath) -> dict[str, tuple[int, str]]:
    """Return the objects below a remote folder: name inside it → size and version."""
    _, key = store_and_key(folder)
    found = _objects_below(folder)
    # Hadoop marks a folder by an empty object of its name.
    folders = {p.as_posix() for meta in found for p in PurePosixPath(meta["path"]).parents}
    return {
        meta["path"].removeprefix(f"{key}/"): (meta["size"], objects.version_of(dict(meta)))
        for meta in found
        if meta["path"] not in folders and not meta["path"].endswith("/")
    }


def _objects_below(folder: RemotePath) -> "list[obstore.ObjectMeta]":
    """Return all objects below a remote folder, Hadoop's marks of folders among them."""
    store, key = store_and_key(folder)
    try:
        return [meta for batch in store.list(f"{key}/") for meta in batch]
    except (BaseError, OSError) as error:
        raise objects.unreadable(store, str(folder), error) from error


def _head(file: RemotePath) -> tuple[int, str] | None:
    """Return the size and version of a remote object, None where there is none."""
    store, key = store_and_key(file)
    try:
        meta: dict[str, Any] = dict(store.head(key))
    except FileNotFoundError:
        return None
    except (BaseError, OSError) as error:
        raise objects.unreadable(store, str(file), error) from error
    return meta["size"], objects.version_of(meta)
