"""Publish a table: parts into a run folder, then a manifest, then one create-only commit.

<output>/runs/<date>/<run>/<table>/part-*.parquet    written once, never rewritten
<output>/runs/<date>/<run>/_manifest.json            files, bytes, rows, SHA-256, facts
<output>/_commits/00000001.json                      create-only: this is the commit

Readers open the files that the highest commit's manifest lists (`recsys.published`), so what a
killed or repeated task left behind is never seen.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recsys.published import MANIFEST, Part
from recsys.storage import Commit, CommitLog, store_of, write_atomic


def publish(output: Path, run: Path, parts: list[Part], facts: dict[str, Any]) -> Commit:
    """List the parts in a manifest and commit it; until then nobody sees them.

    Args:
        output: the published folder.
        run: the run's folder inside it.
        parts: every file that counts.
        facts: what a reader should know: model, versions, counts.

    Raises:
        CommitConflict: another run published meanwhile; the message names it.
    """
    manifest = {"facts": facts, "files": [asdict(part) for part in parts]}
    data = json.dumps(manifest, indent=2, sort_keys=True).encode()
    write_atomic(run / MANIFEST, data)
    log = CommitLog(store_of(output))
    head = log.head()
    return log.append(
        {
            "manifest": str((run / MANIFEST).relative_to(output)),
            "manifest_sha256": hashlib.sha256(data).hexdigest(),
            "facts": facts,
        },
        expected=head.number if head else 0,
    )
