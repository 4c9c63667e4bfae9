"""Named arrays in a folder: what a fit hands to the tasks, mapped into memory, never pickled."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def create(folder: Path, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Make a file of zeros for tasks to write their own rows into."""
    np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype=dtype, shape=shape).flush()


def write(folder: Path, name: str, values: NDArray[Any]) -> None:
    """Write one whole array."""
    np.save(folder / f"{name}.npy", values, allow_pickle=False)


def write_rows(folder: Path, name: str, start: int, values: NDArray[Any]) -> None:
    """Write the rows from `start` on; tasks that write different rows do not disturb each other."""
    target = np.load(folder / f"{name}.npy", mmap_mode="r+", allow_pickle=False)
    target[start : start + len(values)] = values
    target.flush()


def read(folder: Path, name: str) -> NDArray[Any]:
    """Map one array into memory; what is changed in it stays in this process."""
    array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)
    return array


def read_all(folder: Path) -> dict[str, NDArray[Any]]:
    """Map every array of a folder into memory."""
    return {file.stem: read(folder, file.stem) for file in sorted(folder.glob("*.npy"))}
