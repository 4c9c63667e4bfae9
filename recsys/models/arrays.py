"""Named arrays in a folder: what a fit hands to the tasks, mapped into memory, never pickled.

On a disk an array is one file, into which tasks write their own rows. In a cloud, whose objects are
written whole, an array that tasks fill is a folder of row ranges, and each machine puts it together
once, when it first reads it:

    <name>.npy                    one file
    <name>.parts/shape.json       or the ranges: shape and type,
    <name>.parts/000000001200     and the bytes of the rows from 1200 on
"""

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from recsys.errors import DataError, ModelError
from recsys.storage import (
    Place,
    RemotePath,
    cache,
    copy,
    fetched,
    files_in,
    folders_in,
    move,
    read_file,
    remove_folder,
    write_file,
)
from recsys.storage import shared as storage

PARTS, SHAPE = ".parts", "shape.json"
FETCHED_AT_ONCE = 8


def create(folder: Place, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Make an array of zeros for tasks to write their own rows into.

    Raises:
        ModelError: the disk has no room for it.
    """
    described = {"shape": shape, "dtype": npy.dtype_to_descr(np.dtype(dtype))}
    if isinstance(folder, RemotePath):
        write_file(_parts(folder, name) / SHAPE, json.dumps(described).encode())
        return
    size = _bytes(shape, dtype)
    with _file(folder, name).open("wb") as file:
        file.write(_header(shape, dtype))
        file.flush()
        try:
            # Reserved at once: a file with holes fails only when a task comes to write into it.
            os.posix_fallocate(file.fileno(), file.tell(), max(1, size))
        except OSError as error:
            raise ModelError(
                f"{folder} has no room for {name} {shape}, {size / 2**30:.1f} GiB "
                f"({error.strerror}): free some space, or lower factors or neighbours."
            ) from None


def recycle(folder: Place, old: str, new: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Make an array that tasks write all rows of; a disk gives it the room of an old one."""
    if isinstance(folder, Path) and _file(folder, old).exists():
        _file(folder, old).rename(_file(folder, new))
        return
    remove(folder, old)
    create(folder, new, shape, dtype)


def write(folder: Place, name: str, values: NDArray[Any]) -> None:
    """Write one whole array."""
    if isinstance(folder, Path):
        np.save(_file(folder, name), values, allow_pickle=False)
        return
    data = io.BytesIO()
    np.save(data, values, allow_pickle=False)
    write_file(folder / f"{name}.npy", data.getbuffer())


def write_rows(folder: Place, name: str, start: int, values: NDArray[Any]) -> None:
    """Write the rows from `start` on; tasks that write different rows do not disturb each other."""
    if isinstance(folder, RemotePath):
        shape, dtype = _described(folder, name)
        _check_rows(name, shape, start, values)
        data = np.ascontiguousarray(values, dtype=dtype)
        write_file(_parts(folder, name) / f"{start:012d}", data.view(np.uint8).data)
        return
    with _file(folder, name).open("r+b") as file:
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
        _check_rows(name, shape, start, values)
        file.seek(start * _bytes(shape[1:], dtype), os.SEEK_CUR)
        file.write(np.ascontiguousarray(values, dtype=dtype).data)


def read(folder: Place, name: str) -> NDArray[Any]:
    """Map one array into memory; what is changed in it stays in this process."""
    file = _file(folder, name) if isinstance(folder, Path) else _local_copy(folder, name)
    array: NDArray[Any] = np.load(file, mmap_mode="c", allow_pickle=False)
    return array


def read_rows(folder: Place, name: str, start: int, stop: int) -> NDArray[Any]:
    """Return the rows start … stop of an array; from a cloud only those ranges that hold them."""
    ranges = _ranges(folder, name) if isinstance(folder, RemotePath) else {}
    if isinstance(folder, Path) or not ranges:
        return read(folder, name)[start:stop]
    shape, dtype = _described(folder, name)
    row = _bytes(shape[1:], dtype)
    rows = np.zeros((stop - start, *shape[1:]), dtype=dtype)
    for first, size in ranges.items():
        last = first + size // row
        if first < stop and last > start:
            part = np.frombuffer(_range(folder, name, first), dtype=dtype).reshape(-1, *shape[1:])
            begin, end = max(start, first), min(stop, last)
            rows[begin - start : end - start] = part[begin - first : end - first]
    return rows


def read_all(folder: Place) -> dict[str, NDArray[Any]]:
    """Map every array of a folder into memory."""
    return {name: read(folder, name) for name in names_in(folder)}


def names_in(folder: Place) -> list[str]:
    """Return the names of a folder's arrays."""
    whole = [file.name.removesuffix(".npy") for file in files_in(folder, ".npy")]
    parted = [n.removesuffix(PARTS) for n in folders_in(folder) if n.endswith(PARTS)]
    return sorted([*whole, *parted])


def move_array(source: Place, name: str, target: Place, new: str) -> None:
    """Move an array within one storage, under another name."""
    for old_place, new_place in _each(source, name, target, new):
        move(old_place, new_place)


def copy_array(source: Place, name: str, target: Place, new: str) -> None:
    """Copy an array, within one storage or out of a cloud or into it."""
    if isinstance(source, Path) != isinstance(target, Path):
        write(target, new, read(source, name))
        return
    for old_place, new_place in _each(source, name, target, new):
        copy(old_place, new_place)


def remove(folder: Place, name: str) -> None:
    """Remove an array; nothing where there is none."""
    if isinstance(folder, Path):
        _file(folder, name).unlink(missing_ok=True)
    else:
        remove_folder(_parts(folder, name))
        remove_folder(folder / f"{name}.npy")


def _each(source: Place, name: str, target: Place, new: str) -> Iterator[tuple[Place, Place]]:
    """Yield what an array consists of, and its new place."""
    if isinstance(source, RemotePath) and _ranges(source, name):
        yield source / f"{name}{PARTS}", target / f"{new}{PARTS}"
    else:
        yield source / f"{name}.npy", target / f"{new}.npy"


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _parts(folder: RemotePath, name: str) -> RemotePath:
    return folder / f"{name}{PARTS}"


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """Return what a .npy file begins with."""
    header = io.BytesIO()
    described = {
        "descr": npy.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    npy.write_array_header_1_0(header, described)
    return header.getvalue()


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape, dtype=np.int64)) * int(np.dtype(dtype).itemsize)


def _check_rows(name: str, shape: tuple[int, ...], start: int, values: NDArray[Any]) -> None:
    if tuple(shape[1:]) != values.shape[1:] or start + len(values) > shape[0]:
        raise ValueError(f"{name} {shape} has no place for {values.shape} at row {start}")


def _described(folder: RemotePath, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array that tasks fill."""
    data = read_file(_parts(folder, name) / SHAPE)
    if data is None:
        raise DataError(f"There is no array {name} in {folder}: run the step again.")
    told = json.loads(data)
    return tuple(told["shape"]), np.dtype(told["dtype"])


def _ranges(folder: RemotePath, name: str) -> dict[int, int]:
    """Return the ranges of an array that tasks fill: first row → bytes."""
    listed = storage.listed(_parts(folder, name))
    return {int(key): size for key, (size, _) in listed.items() if key != SHAPE}


def _range(folder: RemotePath, name: str, start: int) -> bytes:
    data = read_file(_parts(folder, name) / f"{start:012d}")
    if data is None:
        raise DataError(f"The rows from {start} of {name} in {folder} are gone: run again.")
    return data


def _local_copy(folder: RemotePath, name: str) -> Path:
    """Return this machine's copy of an array, put together here where tasks filled it."""
    parts = _parts(folder, name)
    listed = storage.listed(parts)
    if not listed:
        return fetched(folder / f"{name}.npy")
    shape, dtype = _described(folder, name)

    def put_together(copied: Path) -> None:
        header = _header(shape, dtype)
        row = _bytes(shape[1:], dtype)
        with (copied / "array.npy").open("wb") as file:
            file.write(header)
            file.truncate(len(header) + _bytes(shape, dtype))
            handle = file.fileno()

            def place(key: str) -> None:
                os.pwrite(handle, _range(folder, name, int(key)), len(header) + int(key) * row)

            with ThreadPoolExecutor(FETCHED_AT_ONCE) as threads:
                list(threads.map(place, (key for key in listed if key != SHAPE)))

    told = "\n".join([str(parts), *(f"{key} {listed[key]}" for key in sorted(listed))])
    return cache.assembled(told, put_together) / "array.npy"
