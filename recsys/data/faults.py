"""Failures of Spark and of disks, said in one sentence with the cure."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recsys.errors import DataError, RecsysError

# Sign in an error's text → what to do.
DISKS = {
    "No space left on device|Disk quota exceeded": (
        "the disk is full: make room, then run again; the former tables stand."
    ),
    "Read-only file system": (
        "a folder that is written to lies on a read-only disk: give others, then run again."
    ),
}


@contextmanager
def explained(cures: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn failures whose cause is known into errors that name the cure.

    Args:
        cures: sign in an error's text, as a regular expression → what to do; beside `DISKS`.

    Raises:
        DataError: the cause is known.
    """
    try:
        yield
    except RecsysError:
        raise
    except Exception as error:
        for sign, cure in {**DISKS, **(cures or {})}.items():
            if re.search(sign, str(error)):
                raise DataError(cure) from error
        raise
