"""Publishing: one commit or none, under races, faults and looping readers."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore, ObjectStore

from deploy.collect import collectable
from deploy.publish import committed, publish, republish
from recsys import storage
from recsys.errors import DataError, PublishError
from recsys.published import (
    RECOMMENDATIONS,
    Part,
    published_files,
    write_part,
)
from recsys.storage import CommitConflict, CommitLog, keys_of, remove, store_of
from tests import azurite

ROWS = 400


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as connection:
        yield connection


@pytest.fixture(params=["disk", "azurite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "azurite":
        return azurite.container(request.getfixturevalue("emulator"), monkeypatch) + "/table"
    return str(tmp_path / "table")


@pytest.fixture
def store(url: str) -> ObjectStore:
    return store_of(url, create=True)


def parts_of_run(store: ObjectStore, run: str, number: int) -> list[Part]:
    """Write a table of two files, all of whose rows carry its number."""
    rows = pa.table({"row": range(ROWS), "number": [number] * ROWS})
    halves = (rows.slice(0, ROWS // 2), rows.slice(ROWS // 2))
    return [
        write_part(store, run, RECOMMENDATIONS, f"part-{half}.parquet", table)
        for half, table in enumerate(halves)
    ]


def facts(number: int) -> dict[str, Any]:
    return {"number": number, "audits": [], "strategy": {"name": "s"}, "slot": str(number)}


def published(store: ObjectStore, number: int) -> int:
    run = f"runs/s/{number:04d}"
    head = CommitLog(store).head()
    expected = head.number if head else 0
    parts = parts_of_run(store, run, number)
    return publish(store, run, parts, facts(number), expected).number


def test_of_8_writers_one_wins_each_of_300_generations(store: ObjectStore) -> None:
    rounds, writers = 300 if isinstance(store, LocalStore) else 60, 8

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


def by_pandas(output: str | Path) -> tuple[int, int]:
    table = pd.concat(pd.read_parquet(file) for file in published_files(output))
    return len(table), table["number"].nunique()


def by_duckdb(output: str | Path) -> tuple[int, int]:
    found = duckdb.execute(
        "select count(*), count(distinct number) from read_parquet(?)", [published_files(output)]
    ).fetchone()
    assert found is not None
    return found[0], found[1]


def test_readers_never_see_a_mixed_or_empty_table_during_200_publishes(tmp_path: Path) -> None:
    store = store_of(tmp_path, create=True)
    published(store, 0)
    ended, looks, wrong = threading.Event(), [0, 0], list[object]()

    def loop(number: int) -> None:
        read = (by_pandas, by_duckdb)[number]
        while not ended.is_set():
            try:
                if (found := read(tmp_path)) != (ROWS, 1):
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)
            looks[number] += 1

    threads = [threading.Thread(target=loop, args=(number,)) for number in (0, 1)]
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
    assert min(looks) > 10


def test_a_slow_reader_keeps_its_files_while_others_are_collected(tmp_path: Path) -> None:
    """The reader opened the newest table; then ten more came, and everything old is collected."""
    store = store_of(tmp_path, create=True)
    for number in range(5):
        published(store, number)
    held = published_files(tmp_path)
    opened = datetime.now(UTC)
    for number in range(5, 15):
        published(store, number)
    keys = collectable(store, keep=3, hours=1, now=opened + timedelta(minutes=59))
    remove(store, keys)
    assert by_pandas(tmp_path) == (ROWS, 1)
    assert sum(len(pd.read_parquet(file)) for file in held) == ROWS
    # Once no reader can hold it any more, it goes; what is kept stays readable.
    remove(store, collectable(store, keep=3, hours=1, now=datetime.now(UTC) + timedelta(hours=2)))
    assert not any(Path(file).exists() for file in held)
    for commit in (13, 14, 15):
        files = published_files(tmp_path, commit=commit)
        assert sum(len(pd.read_parquet(file)) for file in files) == ROWS
    assert len(CommitLog(store).history()) == 15


def test_files_of_a_run_that_still_goes_on_are_not_collected(store: ObjectStore) -> None:
    published(store, 0)
    parts_of_run(store, "runs/s/going-on", 1)
    assert collectable(store, keep=1, hours=1) == []
    left = collectable(store, keep=1, hours=1, now=datetime.now(UTC) + timedelta(hours=2))
    assert {key.rpartition("/recommendations/")[0] for key in left} == {"runs/s/going-on"}


def test_a_commit_whose_reply_was_lost_counts_once(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client repeats the request and is told that the object exists: it is its own."""
    put_new = storage.put_new

    def repeated(store: ObjectStore, key: str, data: bytes) -> bool:
        put_new(store, key, data)
        return put_new(store, key, data)

    monkeypatch.setattr(storage, "put_new", repeated)
    assert published(store, 0) == 1
    monkeypatch.undo()
    assert len(CommitLog(store).history()) == 1


class Failing:
    """A store that answers some writes as a service does that is overloaded."""

    def __init__(self, store: MemoryStore, word: str) -> None:
        self.store, self.word = store, word

    def put(self, key: str, data: bytes, **options: Any) -> Any:
        if self.word in key:
            raise GenericError(f"Generic error: 503 Service Unavailable for {key}")
        return self.store.put(key, data, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@pytest.mark.parametrize("word", ["part-1", "_manifest", "_commits"])
def test_a_store_that_fails_leaves_the_last_table(word: str) -> None:
    memory = MemoryStore()
    published(memory, 0)
    failing: Any = Failing(memory, word)
    with pytest.raises(PublishError, match="cannot be written .*503"):
        published(failing, 1)
    assert len(CommitLog(memory).history()) == 1
    assert published(memory, 1) == 2


def test_a_full_disk_leaves_the_last_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, create=True)
    published(store, 0)

    def full(path: Path, data: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_write_temporary", full)
    with pytest.raises(PublishError, match="No space left on device"):
        published(store, 1)
    monkeypatch.undo()
    assert by_pandas(tmp_path) == (ROWS, 1)
    assert published(store, 1) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB; skips where nothing may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_leaves_the_last_table(small_disk: Path) -> None:
    output = small_disk / "table"
    store = store_of(output, create=True)
    published(store, 0)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(PublishError, match="cannot be written .*(No space left|os error 28)"):
        published(store, 1)
    assert by_pandas(output) == (ROWS, 1)
    assert len(CommitLog(store).history()) == 1
    filler.unlink()
    assert published(store, 1) == 2


def test_going_back_is_a_commit_of_its_own(store: ObjectStore) -> None:
    for number in range(3):
        published(store, number)
    started = time.monotonic()
    commit = republish(store, 1, "wrong prices")
    assert time.monotonic() - started < 10
    assert (commit.number, commit.payload["republished"]) == (4, 1)
    assert commit.payload["manifest"] == CommitLog(store).read(1).payload["manifest"]
    assert committed(store, "runs/s/0000") == commit


@pytest.mark.parametrize("damage", ["deleted", "truncated", "flipped"])
def test_a_damaged_table_is_not_published_again(store: ObjectStore, damage: str) -> None:
    published(store, 0)
    published(store, 1)
    key = next(key for key in keys_of(store, "runs/s/0000") if "part-0" in key)
    data = bytearray(storage.read_bytes(store, key) or b"")
    if damage == "deleted":
        remove(store, [key])
    else:
        data[100] ^= 1
        storage.put(store, key, bytes(data if damage == "flipped" else data[:-10]))
    with pytest.raises(DataError, match="Commit 1 cannot be published again"):
        republish(store, 1, "back")
    head = CommitLog(store).head()
    assert head is not None
    assert head.number == 2


def test_stray_files_are_not_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, create=True)
    published(store, 0)
    parts_of_run(store, "runs/s/0000/recommendations/stray", 9)
    (tmp_path / "runs/s/0000/recommendations/part-9.parquet").write_bytes(b"stray")
    assert by_pandas(tmp_path) == (ROWS, 1)
