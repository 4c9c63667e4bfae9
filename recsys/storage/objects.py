"""Objects in a store: create-only, replaced, read, listed, removed."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, LocalStore, ObjectStore

from recsys.errors import DataError, PublishError
from recsys.storage.azure import AzurePlace, explained
from recsys.storage.local import sync_folder, write_atomic, write_temporary
from recsys.storage.places import first_line


def put_new(store: ObjectStore, key: str, data: bytes) -> bool:
    """Write an object that must not exist yet, whole or not at all.

    Args:
        store: where to write.
        key: the object's name inside the store.
        data: its content.

    Returns:
        True where this call made the object, False where it was there already.

    Raises:
        PublishError: the store refused the write for another reason.
    """
    try:
        if isinstance(store, LocalStore):
            return _link_new(_local_file(store, key), data)
        store.put(key, data, mode="create")
    except AlreadyExistsError:
        return False
    except (BaseError, OSError) as error:
        raise unwritable(store, key, error) from error
    return True


def _link_new(path: Path, data: bytes) -> bool:
    """Write a temporary file, make it durable, and give it its name if nobody has it.

    obstore's own local put links too, but without fsync: a power cut could leave the name with
    nothing behind it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = write_temporary(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    sync_folder(path.parent)
    sync_folder(path.parent.parent)
    return True


def _local_file(store: LocalStore, key: str) -> Path:
    """Return the file behind a key."""
    return Path(store.prefix or "/", key)


def read_bytes(store: ObjectStore, key: str) -> bytes | None:
    """Return an object's content, None where there is none; raises DataError where it cannot."""
    try:
        return bytes(store.get(key).bytes())
    except FileNotFoundError as error:
        # A container that is not there is no missing object.
        if _explained(store, error):
            raise unreadable(store, key, error) from error
        return None
    except (BaseError, OSError) as error:
        raise unreadable(store, key, error) from error


def put(store: ObjectStore, key: str, data: bytes | memoryview) -> None:
    """Write or replace an object, whole or not at all; raises PublishError where it cannot."""
    try:
        if isinstance(store, LocalStore):
            path = _local_file(store, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        else:
            store.put(key, data)
    except (BaseError, OSError) as error:
        raise unwritable(store, key, error) from error


def keys_of(store: ObjectStore, prefix: str) -> dict[str, datetime]:
    """Return the objects below a prefix, each with the time of its last change.

    Raises:
        DataError: the store does not answer.
    """
    try:
        return {m["path"]: m["last_modified"] for batch in store.list(prefix) for m in batch}
    except (BaseError, OSError) as error:
        raise unreadable(store, prefix, error) from error


def version_of(meta: Mapping[str, Any]) -> str:
    """Return what tells an object's content from an earlier one, of its metadata.

    Azure writes the same ETag in quotes where it tells of one object, and without where it lists.
    """
    return str(meta.get("e_tag") or "").strip('"') or str(meta["last_modified"].isoformat())


def unwritable(store: ObjectStore, key: str, error: Exception) -> PublishError:
    """Say that an object cannot be written, and what to do."""
    cure = _explained(store, error) or (
        f"{first_line(error)}: check space and rights and, on a mounted disk, that it allows hard "
        "links."
    )
    return PublishError(f"{key} cannot be written: {cure}")


def unreadable(store: ObjectStore, key: str, error: Exception) -> DataError:
    """Say that an object cannot be read, and what to do."""
    cure = _explained(store, error) or (
        f"{first_line(error)}: check that the storage answers and that you may read it, then run "
        "again."
    )
    return DataError(f"{key} cannot be read: {cure}")


def _explained(store: ObjectStore, error: Exception) -> str | None:
    """Return what an error of Azure's means; None for other storage, and where nobody knows."""
    if not isinstance(store, AzureStore):
        return None
    config = {str(name): str(value) for name, value in store.config.items()}
    account, endpoint = config.get("account_name"), config.get("endpoint")
    place = AzurePlace(config["container_name"], "", account, endpoint)
    return explained(error, place)


def remove(store: ObjectStore, keys: Iterable[str]) -> None:
    """Delete objects, also such as are gone already, and what local folders this empties."""
    for key in keys:
        with suppress(FileNotFoundError):
            store.delete(key)
        if isinstance(store, LocalStore):
            _remove_empty(_local_file(store, key).parent, Path(store.prefix or "/"))


def _remove_empty(folder: Path, root: Path) -> None:
    """Delete a folder and its parents below the root, as far as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
