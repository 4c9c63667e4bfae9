"""Delete the files of runs that nobody reads any more.

Kept are the runs of each strategy's last commits, and every file that was written lately: a reader
may hold what was published until then, and a run that has not committed yet may still go on. The
commits themselves stay, so the history does, too.

  python -m deploy.collect --output out/recommendations --keep 7 --hours 48
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from obstore.store import ObjectStore
from pydantic import Field

from recsys import cli
from recsys.config import Config
from recsys.progress import say
from recsys.published import manifest_of, run_of
from recsys.storage import Commit, CommitLog, keys_of, remove, store_of


class CollectConfig(Config):
    """Parameters of `collect`."""

    output: str = Field(description="folder or URL that batch_score publishes to")
    keep: int = Field(7, ge=1, description="commits of each strategy whose tables stay")
    hours: float = Field(
        48, ge=1, description="longest time that a reader or a run takes; younger files stay"
    )


def collectable(
    store: ObjectStore, keep: int, hours: float, now: datetime | None = None
) -> list[str]:
    """Return the keys of the files that may be deleted.

    A commit that was replaced counts as read from until the next one came: so the table that a
    reader opened just before is safe for `hours`, however old its files are.

    Args:
        store: the published folder.
        keep: commits of each strategy whose tables stay.
        hours: how long a reader may hold a table, and a run may take.
        now: the time; None for the clock's.
    """
    limit = (now or datetime.now(UTC)) - timedelta(hours=hours)
    there = keys_of(store, "runs")
    kept = [
        commit
        for own in _by_strategy(CommitLog(store).history())
        for commit in _kept(own, keep, limit)
    ]
    # Where fewer were kept before, the older ones are gone.
    kept = [commit for commit in kept if commit.payload["manifest"] in there]
    listed = {key for commit in kept for key in _files(store, commit)}
    running = _young_runs(there, limit)
    return sorted(
        key
        for key, changed in there.items()
        if key not in listed and changed < limit and _run(key) not in running
    )


def _by_strategy(commits: list[Commit]) -> Iterable[list[Commit]]:
    """Share out commits by strategy: one that is published seldom keeps its tables, too."""
    own = defaultdict[str, list[Commit]](list)
    for commit in commits:
        # runs/<strategy>/<run>
        own[run_of(commit).rpartition("/")[0]].append(commit)
    return own.values()


def _kept(commits: list[Commit], keep: int, limit: datetime) -> list[Commit]:
    """Return the last commits, and those that were the newest at some time since `limit`."""
    replaced = [datetime.fromisoformat(commit.time) for commit in commits[1:]]
    held = [commit for commit, end in zip(commits, replaced, strict=False) if end >= limit]
    return list({commit.number: commit for commit in [*held, *commits[-keep:]]}.values())


def _files(store: ObjectStore, commit: Commit) -> Iterable[str]:
    """Name the files that a reader of a commit may open."""
    run = run_of(commit)
    yield commit.payload["manifest"]
    yield from (f"{run}/{part['path']}" for part in manifest_of(store, commit)["files"])


def _run(key: str) -> str:
    """Return the run folder of a key: runs/<strategy>/<run>."""
    return "/".join(key.split("/")[:3])


def _young_runs(changed: dict[str, datetime], limit: datetime) -> set[str]:
    """Return the runs in which something was written lately."""
    return {_run(key) for key, time in changed.items() if time >= limit}


def main(config: CollectConfig) -> None:
    """Delete and say how much."""
    store = store_of(config.output)
    keys = collectable(store, config.keep, config.hours)
    remove(store, keys)
    runs = {_run(key) for key in keys}
    say(f"{len(keys):,} files of {len(runs):,} runs deleted in {config.output}.")


if __name__ == "__main__":
    cli.run(main, CollectConfig, __doc__, "python -m deploy.collect")
