"""Show what was published in a folder, the newest last.

python -m deploy.history --output out/recommendations
"""

from typing import Any

from pydantic import Field

from recsys import cli
from recsys.config import Config
from recsys.errors import DataError
from recsys.progress import say
from recsys.published import run_of
from recsys.storage import Commit, CommitLog, store_of


class HistoryConfig(Config):
    """Parameters of `history`."""

    output: str = Field(description="folder or URL that batch_score publishes to")


def row(commit: Commit) -> dict[str, Any]:
    """Return what a person wants to know of a commit.

    Raises:
        DataError: it published something else than recommendations.
    """
    facts = commit.payload["facts"]
    if "strategy" not in facts:
        raise DataError(
            "These are no recommendations: give the folder that batch_score publishes to."
        )
    note = ""
    if "republished" in commit.payload:
        note = f"commit {commit.payload['republished']} again: {commit.payload['reason']}"
    accepted = [f"{a['audit']} accepted: {a['accepted']}" for a in facts["audits"] if a["accepted"]]
    return {
        "commit": commit.number,
        "time": commit.time[:19],
        "strategy": facts["strategy"]["name"],
        "model": f"{facts['model_name']}/{facts['model_version']}",
        "customers": facts["counts"]["customers"],
        "rows": facts["counts"]["rows"],
        "run": run_of(commit),
        "note": "; ".join(filter(None, [note, *accepted])),
    }


def main(config: HistoryConfig) -> None:
    """Print a table."""
    rows = [row(commit) for commit in CommitLog(store_of(config.output)).history()]
    if not rows:
        say(f"Nothing was published in {config.output} yet.")
        return
    names = list(rows[0])
    cells = [
        names,
        *([f"{r[n]:,}" if isinstance(r[n], int) else r[n] for n in names] for r in rows),
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        pairs = zip(line, widths, strict=True)
        say("  ".join(text.ljust(width) for text, width in pairs).rstrip())


if __name__ == "__main__":
    cli.run(main, HistoryConfig, __doc__, "python -m deploy.history")
