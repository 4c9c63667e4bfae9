"""Publishing: one commit or none, under races, faults and looping readers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from obstore.store import ObjectStore

from deploy.collect import collectable
from deploy.publish import committed, publish, republish
from recsys.published import parts_of, read_manifest, run_of
from recsys.storage import CommitConflict, CommitLog, read_bytes, remove
from tests.deploy.tables import ROWS, facts, parts_of_run, published, readers


def test_of_8_writers_one_wins_each_of_300_generations(store: ObjectStore) -> None:
    rounds, writers = 300, 8

    def attempt(work: tuple[int, int]) -> str:
        generation, writer = work
        try:
            publish(store, f"runs/s/{generation}-{writer}", [], facts(writer), generation)
        except CommitConflict as conflict:
            assert f"Commit {generation + 1} was taken by" in str(conflict)
            return "lost"
        return "won"

    with ThreadPoolExecutor(writers) as pool:
        for generation in range(rounds):
            results = list(pool.map(attempt, [(generation, writer) for writer in range(writers)]))
            assert sorted(results) == ["lost"] * (writers - 1) + ["won"]
    assert len(CommitLog(store).history()) == rounds


def test_readers_never_see_a_mixed_or_empty_table_during_200_publishes(
    url: str, store: ObjectStore
) -> None:
    published(store, 0)
    ended, looks, wrong = threading.Event(), dict.fromkeys(readers(url), 0), list[object]()

    def loop(name: str) -> None:
        read = readers(url)[name]
        while not ended.is_set():
            try:
                if (found := read(url)) != (ROWS, 1):
                    wrong.append((name, found))
            except Exception as error:
                wrong.append((name, error))
            looks[name] += 1

    threads = [threading.Thread(target=loop, args=(name,)) for name in looks]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, 201):
            published(store, number)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(looks.values()) > 10


def keys_in(url: str, commit: int | None = None) -> list[str]:
    """Return the keys of a table's files."""
    chosen, manifest = read_manifest(url, commit)
    return [f"{run_of(chosen)}/{part.path}" for part in parts_of(manifest, "recommendations")]


def test_a_slow_reader_keeps_its_files_while_others_are_collected(
    url: str, store: ObjectStore
) -> None:
    """The reader opened the newest table; then ten more came, and everything old is collected."""
    for number in range(5):
        published(store, number)
    held = keys_in(url)
    opened = datetime.now(UTC)
    for number in range(5, 15):
        published(store, number)
    keys = collectable(store, keep=3, hours=1, now=opened + timedelta(minutes=59))
    remove(store, keys)
    assert all(read(url) == (ROWS, 1) for read in readers(url).values())
    assert all(read_bytes(store, key) for key in held)
    # Once no reader can hold it any more, it goes; what is kept stays readable.
    remove(store, collectable(store, keep=3, hours=1, now=datetime.now(UTC) + timedelta(hours=2)))
    assert not any(read_bytes(store, key) for key in held)
    for commit in (13, 14, 15):
        assert all(read_bytes(store, key) for key in keys_in(url, commit))
    assert len(CommitLog(store).history()) == 15


def test_files_of_a_run_that_still_goes_on_are_not_collected(store: ObjectStore) -> None:
    published(store, 0)
    parts_of_run(store, "runs/s/going-on", 1)
    assert collectable(store, keep=1, hours=1) == []
    left = collectable(store, keep=1, hours=1, now=datetime.now(UTC) + timedelta(hours=2))
    assert {key.rpartition("/recommendations/")[0] for key in left} == {"runs/s/going-on"}


def test_a_monthly_strategy_beside_a_daily_one_keeps_its_tables(store: ObjectStore) -> None:
    published(store, 0, "monthly")
    for number in range(1, 9):
        published(store, number, "daily")
    later = datetime.now(UTC) + timedelta(days=9)
    keys = collectable(store, keep=2, hours=48, now=later)
    assert {key.split("/")[1] for key in keys} == {"daily"}
    assert {key.split("/")[2] for key in keys} == {f"{number:04d}" for number in range(1, 7)}
    remove(store, keys)
    # Whoever keeps more from now on does not fail for what is gone.
    assert collectable(store, keep=7, hours=48, now=later) == []


def test_going_back_is_a_commit_of_its_own(store: ObjectStore) -> None:
    for number in range(3):
        published(store, number)
    started = time.monotonic()
    commit = republish(store, 1, "wrong prices")
    assert time.monotonic() - started < 10
    assert (commit.number, commit.payload["republished"]) == (4, 1)
    assert commit.payload["manifest"] == CommitLog(store).read(1).payload["manifest"]
    assert committed(store, "runs/s/0000") == commit
