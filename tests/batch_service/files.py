"""Files of nodes and tasks: lists, properties, contents and parts of them."""

import mimetypes
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from tests.batch_service import wire
from tests.batch_service.wire import BatchError, Body


def place(root: Path, name: str) -> Path:
    """Return a file or folder below a root; raises BatchError where there is none."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.exists():
        raise BatchError("FileNotFound")
    return path


def listing(root: Path, url: str, recursive: bool) -> list[Body]:
    """Return what lies in a folder; `url` is that of the folder."""
    paths = sorted(root.rglob("*") if recursive else root.glob("*"))
    return [_entry(path, str(path.relative_to(root)), url) for path in paths]


def _entry(path: Path, name: str, url: str) -> Body:
    body: Body = {"name": name, "url": f"{url}/{name}", "isDirectory": path.is_dir()}
    if path.is_file():
        facts = path.stat()
        body["properties"] = {
            "creationTime": wire.timestamp(datetime.fromtimestamp(facts.st_ctime, UTC)),
            "lastModified": wire.timestamp(datetime.fromtimestamp(facts.st_mtime, UTC)),
            "contentLength": str(facts.st_size),
            "contentType": _kind(path),
            "fileMode": f"{facts.st_mode:06o}",
        }
    return body


def headers(path: Path, url: str) -> dict[str, str]:
    """Return the headers that describe a file."""
    facts = path.stat()
    made = datetime.fromtimestamp(facts.st_ctime, UTC)
    changed = datetime.fromtimestamp(facts.st_mtime, UTC)
    return {
        "Content-Type": _kind(path),
        "Last-Modified": wire.http_date(changed),
        "ocp-batch-file-isdirectory": str(path.is_dir()),
        "ocp-batch-file-mode": f"{facts.st_mode:06o}",
        "ocp-batch-file-url": quote(url, safe=""),
        "ocp-creation-time": wire.http_date(made),
    }


def part(path: Path, wanted: str | None) -> bytes:
    """Return the content of a file or the part of it that an `ocp-range` names."""
    data = path.read_bytes()
    if wanted is None:
        return data
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not found or int(found[1]) >= len(data):
        raise BatchError("InvalidRange")
    return data[int(found[1]) : int(found[2]) + 1 if found[2] else None]


def _kind(path: Path) -> str:
    if path.is_dir():
        return "application/octet-stream"
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
