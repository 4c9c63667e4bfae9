"""What may lie in a saved model's folder, and the manifest that says so: judged before opened.

Whoever can write the folder may have put anything there, so nothing in it is believed: names are
plain, sizes have limits, and a symlink or a pipe is no file.
"""

import errno
import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from recsys.errors import ModelError

FORMAT = 1
HEADER, MANIFEST = "model.json", "manifest.json"
# A hundred times what the two JSON files take; a larger one is not worth parsing.
JSON_BYTES = 1 << 20
# Three times the factors of 50 million customers: more is a mistake or an attack.
MODEL_BYTES = 64 << 30


@dataclass(frozen=True)
class FileFacts:
    """What tells one file's content.

    Attributes:
        bytes: its size.
        sha256: in hexadecimal.
    """

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a saved model consists of.

    Attributes:
        digest: SHA-256 of the manifest, which is the model's digest.
        files: name → facts, all but the manifest itself.
    """

    digest: str
    files: dict[str, FileFacts]


def write(files: Mapping[str, FileFacts]) -> bytes:
    """Return the one form in which these files are listed."""
    listed = {name: asdict(facts) for name, facts in files.items()}
    return json.dumps({"format": FORMAT, "files": listed}, indent=2, sort_keys=True).encode()


def parse(data: bytes, where: object) -> Manifest:
    """Read a manifest.

    Args:
        data: its content.
        where: what it came from, for the message.

    Raises:
        ModelError: it is damaged, or lists what no saved model has.
    """
    values = parse_json(data, where)
    try:
        files = {name: FileFacts(**facts) for name, facts in values["files"].items()}
    except (KeyError, TypeError, AttributeError):
        raise damaged(where, "it lists no files with bytes and sha256") from None
    for name, facts in files.items():
        check_name(name, where)
        if type(facts.bytes) is not int or facts.bytes < 0:
            raise damaged(where, f"{name} has no size")
        if not isinstance(facts.sha256, str) or not re.fullmatch("[0-9a-f]{64}", facts.sha256):
            raise damaged(where, f"{name} has no SHA-256")
    check_size(sum(facts.bytes for facts in files.values()), where)
    # So that a model has one digest, and not one for each way to write the same list.
    if data != write(files):
        raise damaged(where, "it is not written as a saved model's is")
    return Manifest(hashlib.sha256(data).hexdigest(), files)


def parse_json(data: bytes, where: object) -> dict[str, Any]:
    """Read a JSON object in which no key comes twice; raises ModelError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            (twice, _), *_ = (Counter(name for name, _ in pairs) - Counter(list(values))).items()
            raise damaged(where, f"it says {shown(twice)} twice")
        return values

    try:
        values = json.loads(data.decode(), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise damaged(where, "it is no JSON") from None
    if not isinstance(values, dict):
        raise damaged(where, "it is no JSON object")
    return values


def check_name(name: str, where: object) -> None:
    """Check that a file is one of those that a saved model may have; raises ModelError."""
    if name in ("", ".", "..") or name.startswith(".") or re.search(r"[/\\\0]", name):
        raise ModelError(
            f"{where} lists {shown(name)!r}, which is no plain file name: the model is not used."
        )
    if name != HEADER and not re.fullmatch(r"[a-z][a-z0-9_]*\.parquet", name):
        raise ModelError(
            f"{where} lists {shown(name)}, and {shown(name)} is no plain data: a model consists of "
            f"{HEADER} and *.parquet, nothing else."
        )


def check_size(size: int, where: object) -> None:
    """Check that a model is not larger than any can be; raises ModelError."""
    if size > MODEL_BYTES:
        raise ModelError(
            f"{where} claims {size / 2**30:,.0f} GiB, and a model may have "
            f"{MODEL_BYTES / 2**30:.0f}: the model is not used."
        )


def read_plain(file: Path, most: int = JSON_BYTES) -> bytes:
    """Read a small file.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it is no plain file, or larger than `most` bytes.
    """
    with opened(file) as source:
        data = source.read(most + 1)
    if len(data) > most:
        raise ModelError(f"{file} has more than {most:,} bytes: the model is not used.")
    return data


def facts_of(file: Path) -> FileFacts:
    """Return a file's size and SHA-256; raises ModelError where it is no plain file."""
    with opened(file) as source:
        digest = hashlib.file_digest(source, "sha256")
        return FileFacts(source.tell(), digest.hexdigest())


@contextmanager
def opened(file: Path | str, folder: int | None = None) -> Iterator[BufferedReader]:
    """Open a plain file, and nothing that a symlink leads to.

    Args:
        file: its path; in `folder`, its name.
        folder: handle of the open folder that it lies in.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it is no plain file.
    """
    try:
        # Not to wait for who writes into a pipe.
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "it is a symlink" if error.errno == errno.ELOOP else error.strerror
        raise ModelError(f"{file} cannot be opened as a plain file: {why}.") from None
    with os.fdopen(handle, "rb") as source:
        if other := other_than_file(os.fstat(source.fileno()).st_mode):
            raise ModelError(f"{file} cannot be opened as a plain file: it is {other}.")
        yield source


def other_than_file(mode: int) -> str | None:
    """Return what a thing is by its mode, None for a plain file."""
    kinds = {
        stat.S_IFREG: None,
        stat.S_IFLNK: "a symlink",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def shown(text: str, longest: int = 80) -> str:
    """Return what somebody else wrote as it may be printed: short, and on one line."""
    return text[:longest].encode("unicode_escape", "replace").decode("ascii")


def damaged(where: object, why: str) -> ModelError:
    """Say that a file of a saved model cannot be read, and why."""
    return ModelError(f"{where} is damaged: train the model again ({why}).")
