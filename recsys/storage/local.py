"""Safe writes on the local disk: whole or not at all, also after a crash."""

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from recsys.errors import DataError


def sha256_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write or replace a file; readers see the old content or the new, also after a crash."""
    temporary = write_temporary(path, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync_folder(path.parent)


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
    previous = previous_of(final)
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
    sync_folder(final.parent)
    shutil.rmtree(previous, ignore_errors=True)


def previous_of(folder: Path) -> Path:
    """Return where a replaced folder lies while another takes its place."""
    return folder.with_name(f".{folder.name}.previous")


def write_temporary(path: Path, data: bytes | memoryview) -> Path:
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


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
