"""Replace a whole folder: readers see the former one or the complete new one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import UsageError


@contextmanager
def replaced(folder: Path, marker: str) -> Iterator[Path]:
    """Give a temporary sibling to write into, and put it in `folder`'s place at the end.

    An exception leaves `folder` as it was and removes the sibling.

    Args:
        folder: what to make or replace.
        marker: file, relative to the folder, by which a former result is recognised.

    Raises:
        UsageError: `folder` holds something else, or cannot be written.
    """
    folder = folder.absolute()
    if folder.exists() and not _replaceable(folder, marker):
        raise UsageError(
            f"{folder} holds something else (it has no {marker}): "
            "choose another output, or empty it yourself."
        )
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    former = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): choose another."
        ) from None
    try:
        yield fresh
        if folder.exists():
            folder.rename(former)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if former.exists() and not folder.exists():
            former.rename(folder)
        shutil.rmtree(former, ignore_errors=True)


def _replaceable(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir()))
