"""An append-only log of commits in a store.

A commit is one small file that appears whole or not at all, under a number nobody else has:

    <root>/_commits/00000001.json   create-only: THIS is the commit
    <root>/_commits/00000002.json   carries the digest of number 1, and so on
    <root>/_current.json            a hint for people and tools; nothing here trusts it
"""

import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import ObjectStore
from pydantic import ConfigDict, TypeAdapter

from recsys.errors import DataError, PublishError, UsageError
from recsys.storage.objects import keys_of, put_new, read_bytes
from recsys.storage.places import first_line

COMMITS = "_commits"
READS_AT_ONCE = 16
HINT = "_current.json"


class CommitConflict(PublishError):  # noqa: N818 (its name is used as a word)
    """Another writer took the number; the message says who and what to do."""


class BrokenLogError(PublishError):
    """A commit log was altered, or a record is missing or incomplete."""


@dataclass(frozen=True)
class Commit:
    """One record of a commit log, as it was read and checked."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    number: int
    previous: str | None
    time: str
    writer: str
    payload: dict[str, Any]
    digest: str


COMMIT = TypeAdapter(Commit)


class CommitLog:
    """An append-only log of JSON records, each under a number that only one writer can get.

    Each record carries the digest of itself and of its predecessor, so that a later change of
    any record shows.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def head(self) -> Commit | None:
        """Return the last commit, None where there is none; raises BrokenLogError."""
        number = self._last_number()
        if number == 0:
            return None
        commit = self.read(number)
        if number > 1:
            _check_link(self.read(number - 1), commit)
        return commit

    def read(self, number: int) -> Commit:
        """Return one commit.

        Raises:
            BrokenLogError: it is missing, incomplete, or was altered since it was written.
        """
        data = read_bytes(self.store, _key(number))
        if data is None:
            raise BrokenLogError(
                f"Commit {number} is missing: restore {_key(number)} from a backup."
            )
        return _decode(number, data)

    def history(self) -> list[Commit]:
        """Return all commits, oldest first; raises BrokenLogError where the chain does not hold."""
        # An object store answers in tens of milliseconds, and a log grows for years.
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            commits = list(pool.map(self.read, self._all_numbers()))
        for before, after in pairwise(commits):
            _check_link(before, after)
        return commits

    def append(self, record: Mapping[str, Any], expected: int) -> Commit:
        """Commit a record as number `expected` + 1.

        Args:
            record: what to commit; must be plain JSON.
            expected: the number of the commit that the record builds on, 0 where there is none.

        Raises:
            CommitConflict: another writer has committed that number already.
            BrokenLogError: the predecessor is missing or was altered.
            UsageError: the record is not plain JSON.
        """
        if expected < 0:
            raise ValueError("expected is the number of a commit, or 0")
        number = expected + 1
        previous = self.read(expected).digest if expected else None
        data = _encode(number, previous, record)
        if not self._put_commit(_key(number), data):
            winner = self.read(number)
            raise CommitConflict(
                f"Commit {number} was taken by {winner.writer} at {winner.time}: look at "
                "what it changed, then run again."
            )
        commit = _decode(number, data)
        self._hint(commit)
        return commit

    def _put_commit(self, key: str, data: bytes) -> bool:
        """Write a commit that must not exist yet; returns whether it is this one that stands.

        The answer to a write may be lost on its way. A client that repeats the request is told
        that the object exists, one that gives up raises: the content says whose it is.
        """
        try:
            if put_new(self.store, key, data):
                return True
            found = read_bytes(self.store, key)
            if found is None:
                raise PublishError(
                    f"{key} cannot be written (the store refuses it, yet there is no such object): "
                    "run again."
                )
            return found == data
        except PublishError:
            with suppress(DataError):
                if read_bytes(self.store, key) == data:
                    return True
            raise

    def _last_number(self) -> int:
        """Return the highest number in the log, 0 where it is empty."""
        return max(self._listed(), default=0)

    def _all_numbers(self) -> range:
        """Return 1 … the highest number; raises BrokenLogError where one is missing.

        So one file with a high number costs one read, not as many as its number says.
        """
        listed = self._listed()
        numbers = range(1, max(listed, default=0) + 1)
        for number in numbers:
            # A folder that is written to while it is listed may leave one out that is there.
            if number not in listed:
                self.read(number)
        return numbers

    def _listed(self) -> set[int]:
        """Return the numbers that the store lists."""
        pattern = re.compile(rf"{COMMITS}/(\d{{8}})\.json")
        paths = keys_of(self.store, COMMITS)
        return {int(found[1]) for path in paths if (found := pattern.fullmatch(path))}

    def _hint(self, commit: Commit) -> None:
        """Tell people and tools which commit was the last; the commit stands without it."""
        text = json.dumps({"number": commit.number, "sha256": commit.digest})
        with suppress(BaseError, OSError):
            self.store.put(HINT, text.encode())


def _key(number: int) -> str:
    return f"{COMMITS}/{number:08d}.json"


def _encode(number: int, previous: str | None, record: Mapping[str, Any]) -> bytes:
    """Return a record's bytes; raises UsageError where it is not plain JSON."""
    try:
        # Through JSON once, so that a payload is the same before and after it was stored.
        payload = json.loads(json.dumps(dict(record), allow_nan=False))
        fields = {
            "number": number,
            "previous": previous,
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            # The random part makes the bytes of two writers differ even if all else is the same.
            "writer": f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}",
            "payload": payload,
        }
        return _canonical(fields | {"sha256": _digest(fields)})
    except (TypeError, ValueError) as error:
        raise UsageError(f"A commit's record must be plain JSON: {first_line(error)}.") from None


def _decode(number: int, data: bytes) -> Commit:
    """Check a record's bytes and return it; raises BrokenLogError."""
    try:
        fields = json.loads(data)
        digest = fields.pop("sha256")
        intact = digest == _digest(fields) and data == _canonical(fields | {"sha256": digest})
        commit = COMMIT.validate_python(fields | {"digest": digest})
        datetime.fromisoformat(commit.time)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise BrokenLogError(
            f"Commit {number} is not a whole record: restore {_key(number)} from a backup."
        ) from None
    if not intact or commit.number != number:
        raise BrokenLogError(
            f"Commit {number} was altered after it was written: restore {_key(number)} from a "
            "backup."
        )
    return commit


def _canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the one way to write a record, readable for people."""
    text = json.dumps(fields, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return text.encode() + b"\n"


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(fields)).hexdigest()


def _check_link(before: Commit, after: Commit) -> None:
    """Raise BrokenLogError where a commit does not build on the one before it."""
    if after.previous != before.digest:
        raise BrokenLogError(
            f"Commit {after.number} does not follow commit {before.number}, one of them was "
            "replaced: restore both from a backup."
        )
