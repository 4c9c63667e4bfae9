"""Named arrays in a folder: what a fit hands to the tasks, mapped into memory, never pickled."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from recsys.errors import ModelError


def create(folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Make a file of zeros for tasks to write their own rows into.

    Raises:
        ModelError: the disk has no room for it.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    header = {
        "descr": npy.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    with _file(folder, name).open("wb") as file:
        npy.write_array_header_1_0(file, header)
        file.flush()
        try:
            # Reserved at once: a file with holes fails only when a task comes to write into it.
            os.posix_fallocate(file.fileno(), file.tell(), max(1, size))
        except OSError as error:
            raise ModelError(
                f"{folder} has no room for {name} {shape}, {size / 2**30:.1f} GiB "
                f"({error.strerror}): free some space, or lower factors or neighbours."
            ) from None


def write(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write one whole array."""
    np.save(_file(folder, name), values, allow_pickle=False)


def write_rows(folder: Path, name: str, start: int, values: NDArray[Any]) -> None:
    """Write the rows from `start` on; tasks that write different rows do not disturb each other."""
    with _file(folder, name).open("r+b") as file:
        npy.read_magic(file)
        shape, _, dtype = npy.read_array_header_1_0(file)
        row = dtype.itemsize * int(np.prod(shape[1:]))
        if shape[1:] != values.shape[1:] or start + len(values) > shape[0]:
            raise ValueError(f"{name} {shape} has no place for {values.shape} at row {start}")
        file.seek(start * row, os.SEEK_CUR)
        file.write(np.ascontiguousarray(values, dtype=dtype).data)


def read(folder: Path, name: str) -> NDArray[Any]:
    """Map one array into memory; what is changed in it stays in this process."""
    array: NDArray[Any] = np.load(_file(folder, name), mmap_mode="c", allow_pickle=False)
    return array


def read_all(folder: Path) -> dict[str, NDArray[Any]]:
    """Map every array of a folder into memory."""
    return {file.stem: read(folder, file.stem) for file in sorted(folder.glob("*.npy"))}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"
