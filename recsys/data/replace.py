"""Write a folder as a whole: readers see the former result or the complete new one.

On a disk a finished folder takes the other's place. In a cloud, where nothing can be renamed, each
result is a folder of its own, and a commit names the one that counts:

    <folder>/_runs/<id>/…               written once
    <folder>/_commits/00000001.json     create-only: which run is the folder now
"""

import fcntl
import glob
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

from recsys.errors import UsageError
from recsys.storage import (
    CommitLog,
    Place,
    RemotePath,
    exists,
    keys_of,
    place_of,
    previous_of,
    remove_folder,
    replace_folder,
    spark_path,
    store_of,
)

RUNS, RUN = "_runs", "run"
ATTEMPT = ".{}.writing-"
# A reader of the former result may still be at work; a writer that was killed is not.
KEPT = timedelta(days=1)
# On a disk a writer holds its folder from its first moments; until then it is left alone.
UNHELD = 60.0


@contextmanager
def replaced(folder: Place, marker: str) -> Iterator[Place]:
    """Give an empty folder to write into, and put it in `folder`'s place at the end.

    An exception leaves `folder` as it was and removes what was written.

    Args:
        folder: what to make or replace.
        marker: file, relative to the folder, by which a former result is recognised.

    Raises:
        UsageError: `folder` holds something else, or cannot be written.
        CommitConflict: another writer was faster; only in a cloud.
    """
    if isinstance(folder, RemotePath):
        with _committed(folder) as run:
            yield run
    else:
        with _renamed(folder, marker) as sibling:
            yield sibling


@contextmanager
def _renamed(folder: Path, marker: str) -> Iterator[Path]:
    """Give a temporary sibling, and rename it at the end."""
    folder = folder.absolute()
    if folder.exists() and not _replaceable(folder, marker):
        raise UsageError(
            f"{folder} holds something else (it has no {marker}): "
            "choose another output, or empty it yourself."
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(folder)
        fresh = Path(mkdtemp(prefix=ATTEMPT.format(folder.name), dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): choose another output."
        ) from None
    with _held(fresh):
        try:
            fresh.chmod(0o755)
            yield fresh
            replace_folder(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a folder; yields whether it could be had. Who is killed holds nothing any more."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


def _attempts(folder: Path) -> Iterator[Path]:
    """Yield the temporary siblings of a folder."""
    yield from folder.parent.glob(glob.escape(ATTEMPT.format(folder.name)) + "*")


def _remove_left(folder: Path) -> None:
    """Remove what writers that were killed have left beside a folder."""
    for left in _attempts(folder):
        with suppress(OSError), _held(left) as held:
            if held and left.stat().st_mtime < time.time() - UNHELD:
                shutil.rmtree(left)


def current(folder: Place) -> Place | None:
    """Return where a folder's content lies now; None where nothing was written there.

    Raises:
        DataError: the storage does not answer.
    """
    if isinstance(folder, Path):
        return folder if folder.exists() else None
    head = CommitLog(store_of(folder)).head()
    # Other logs' commits, such as those of published tables, name no run.
    if head is not None and RUN in head.payload:
        return folder / str(head.payload[RUN])
    return folder if exists(folder) else None


def content_of(path: str | Place) -> Place:
    """Return where to read a folder: its current content, or itself where nobody replaced it."""
    place = place_of(path)
    return current(place) or place


def lies_in(place: Place, folder: Place) -> bool:
    """Tell whether a place is a folder or lies in it, however the two are written."""
    inner, outer = (_written_out(p) for p in (place, folder))
    return f"{inner}/".startswith(f"{outer}/")


def _written_out(place: Place) -> str:
    """Return the one way to write a place."""
    return (str(place.resolve()) if isinstance(place, Path) else spark_path(place)).rstrip("/")


def forget(folder: Place) -> None:
    """Remove a folder, with what a writer that was killed has left."""
    if isinstance(folder, RemotePath):
        remove_folder(folder)
        return
    for left in (folder, previous_of(folder), *_attempts(folder)):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _committed(folder: RemotePath) -> Iterator[RemotePath]:
    """Give a folder for a new run, and commit it at the end."""
    log = CommitLog(store_of(folder))
    head = log.head()
    if RUN not in head.payload if head else _holds_more(folder):
        raise UsageError(
            f"{folder} holds something else (it has no commit of a run): choose another output, or "
            "empty it yourself."
        )
    run = f"{RUNS}/{uuid.uuid4().hex[:12]}"
    try:
        yield folder / run
        log.append({RUN: run}, head.number if head else 0)
    except BaseException:
        remove_folder(folder / run)
        raise
    _remove_others(folder, {run, head.payload[RUN]} if head else {run})


def _holds_more(folder: RemotePath) -> bool:
    """Tell whether a folder without a commit holds more than what killed writers have left."""
    # Hadoop's marks of folders alone are nothing.
    return exists(folder) and any(
        key.split("/")[0] != RUNS for key in keys_of(store_of(folder), "")
    )


def _remove_others(folder: RemotePath, runs: set[str]) -> None:
    """Remove runs that nobody reads or writes any more."""
    newest: dict[str, datetime] = {}
    for key, changed in keys_of(store_of(folder), RUNS).items():
        run = "/".join(key.split("/")[:2])
        newest[run] = max(changed, newest.get(run, changed))
    for run, changed in newest.items():
        if run not in runs and changed < datetime.now(UTC) - KEPT:
            remove_folder(folder / run)


def _replaceable(folder: Path, marker: str) -> bool:
    return folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir()))
