"""Publish a run: a manifest that lists its files, then one create-only commit.

Until the commit nobody sees the run; after it, nothing of the run is written again.
"""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from obstore.store import ObjectStore

from recsys.errors import DataError
from recsys.published import MANIFEST, Part, manifest_of, run_of
from recsys.storage import Commit, CommitLog, put, read_bytes


def publish(
    store: ObjectStore, run: str, parts: list[Part], facts: dict[str, Any], expected: int
) -> Commit:
    """List the parts in a manifest and commit it.

    Args:
        store: the published folder.
        run: the run's folder inside it.
        parts: every file that counts.
        facts: what a reader should know: model, versions, counts.
        expected: number of the commit that the run was audited against, 0 for none.

    Raises:
        CommitConflict: another run published meanwhile; the message names it.
    """
    manifest = {"facts": facts, "files": [asdict(part) for part in parts]}
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    # Named by its content: of two writers of one run, each commits the manifest that it wrote.
    digest = hashlib.sha256(data).hexdigest()
    key = f"{run}/{MANIFEST.format(digest[:12])}"
    put(store, key, data)
    return CommitLog(store).append(
        {"manifest": key, "manifest_sha256": digest, "facts": facts}, expected
    )


def committed(store: ObjectStore, run: str) -> Commit | None:
    """Return the newest commit of a run, None where it was not committed."""
    return next((c for c in reversed(CommitLog(store).history()) if run_of(c) == run), None)


def republish(store: ObjectStore, number: int, reason: str) -> Commit:
    """Commit an earlier table again, so that readers go back to it.

    Args:
        store: the published folder.
        number: of the commit to go back to.
        reason: why, for the history.

    Raises:
        PublishError: its files are gone or were changed, or another run published meanwhile.
    """
    log = CommitLog(store)
    head = log.head()
    old = log.read(number)
    _check_files(store, old)
    payload = old.payload | {"republished": number, "reason": reason}
    return log.append(payload, head.number if head else 0)


def _check_files(store: ObjectStore, commit: Commit) -> None:
    """Raise DataError where a file of a commit is missing or was changed."""
    run = run_of(commit)
    for part in manifest_of(store, commit)["files"]:
        data = read_bytes(store, f"{run}/{part['path']}")
        if data is None or not Part(**part).matches(data):
            raise DataError(
                f"Commit {commit.number} cannot be published again: {run}/{part['path']} is "
                "missing or was changed. Choose another commit (python -m deploy.history)."
            )
