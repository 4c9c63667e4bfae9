"""Write a folder as a whole: readers see the former result or the complete new one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from recsys.errors import UsageError
from recsys.storage import replace_folder


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
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): choose another output."
        ) from None
    try:
        fresh.chmod(0o755)
        yield fresh
        replace_folder(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replaceable(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir()))
