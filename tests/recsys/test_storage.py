"""Storage: create-only commits under races and kills, and local writes that are never half done."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore, ObjectStore

from recsys import storage
from recsys.errors import DataError, PublishError, UsageError
from recsys.storage import (
    BrokenLogError,
    Commit,
    CommitConflict,
    CommitLog,
    commits,
    local_path,
    put_new,
    read_bytes,
    replace_folder,
    sha256_file,
    spark_source,
    store_of,
    write_atomic,
)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Every kind of store keeps the same contract; a cloud's is one more name here."""
    if request.param == "memory":
        return MemoryStore()
    return store_of(tmp_path / "log", create=True)


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- places


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("out/x", "out/x"),
        ("/data/a b", "/data/a b"),
        ("file:///data/a%20b", "/data/a b"),
        ("file:/data/x", "/data/x"),
        ("file://localhost/data/x", "/data/x"),
        ("C:x", "C:x"),
        (Path("a%20b"), "a%20b"),
    ],
)
def test_local_path(url: str | Path, path: str) -> None:
    assert local_path(url) == Path(path)


@pytest.mark.parametrize("url", ["az://account/container/x", "s3://b/x", "file://other/x"])
def test_a_remote_url_has_no_local_path(url: str) -> None:
    with pytest.raises(UsageError, match="not on this machine"):
        local_path(url)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (Path("/data/a b/x#1,2"), "/data/a b/x#1,2"),
        ("/data/a?b/x[1]/{y}*\\", r"/data/a\?b/x\[1\]/\{y\}\*\\"),
        ("s3://bucket/out/items", "s3a://bucket/out/items"),
        ("s3://bucket/x[1]", r"s3a://bucket/x\[1\]"),
    ],
)
def test_what_spark_reads_is_no_pattern(path: str | Path, source: str) -> None:
    assert spark_source(path) == source


def test_store_of_a_local_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        store_of(tmp_path / "missing")
    assert put_new(store_of((tmp_path / "a b").as_uri(), create=True), "x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"


def test_store_of_other_schemes() -> None:
    assert not isinstance(store_of("abfss://container@account.dfs.core.windows.net/x"), LocalStore)
    for url in ("ftp://host/x", "memory:///x"):
        with pytest.raises(UsageError, match="unknown form"):
            store_of(url)


# --- create-only


def test_put_new_writes_once(store: ObjectStore) -> None:
    assert put_new(store, "a/b.json", b"first")
    assert not put_new(store, "a/b.json", b"second")
    assert read_bytes(store, "a/b.json") == b"first"
    assert read_bytes(store, "a/c.json") is None


def test_put_new_leaves_nothing_else(tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        put_new(store_of(tmp_path), "a/b.json", data)
    assert names(tmp_path / "a") == ["b.json"]


def test_put_new_says_why_it_could_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a file where a folder must be")
    with pytest.raises(PublishError, match="check space and rights"):
        put_new(store_of(tmp_path), "a/b.json", b"x")


# --- commit log


def test_an_empty_log(store: ObjectStore) -> None:
    log = CommitLog(store)
    assert log.head() is None
    assert log.history() == []
    with pytest.raises(BrokenLogError, match="Commit 1 is missing"):
        log.read(1)


def test_commits_follow_each_other(store: ObjectStore) -> None:
    log = CommitLog(store)
    first = log.append({"version": 1}, expected=0)
    second = log.append({"version": 2, "name": "Müller — café"}, expected=1)
    assert (first.number, first.previous) == (1, None)
    assert (second.number, second.previous) == (2, first.digest)
    assert log.head() == second == log.read(2)
    assert log.history() == [first, second]
    hint = json.loads(read_bytes(store, "_current.json") or b"")
    assert hint == {"number": 2, "sha256": second.digest}


def test_the_loser_is_told_who_won(store: ObjectStore) -> None:
    log = CommitLog(store)
    winner = log.append({"by": "one"}, expected=0)
    with pytest.raises(CommitConflict, match=f"Commit 1 was taken by {winner.writer}"):
        log.append({"by": "two"}, expected=0)
    assert log.history() == [winner]


def test_a_repeated_request_is_not_a_conflict(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_lost(store: ObjectStore, key: str, data: bytes) -> bool:
        assert put_new(store, key, data)
        return False

    monkeypatch.setattr(storage.commits, "put_new", answer_lost)
    commit = CommitLog(store).append({"version": 1}, expected=0)
    assert CommitLog(store).head() == commit


def test_a_commit_needs_its_predecessor(store: ObjectStore) -> None:
    with pytest.raises(BrokenLogError, match="Commit 4 is missing"):
        CommitLog(store).append({}, expected=4)
    with pytest.raises(ValueError, match="expected"):
        CommitLog(store).append({}, expected=-1)
    assert CommitLog(store).head() is None


def test_the_hint_is_never_trusted(store: ObjectStore) -> None:
    log = CommitLog(store)
    commit = log.append({}, expected=0)
    for hint in (b'{"number": 99, "sha256": "0"}', b"not json"):
        store.put("_current.json", hint)
        assert log.head() == commit


def test_a_commit_stands_without_its_hint(tmp_path: Path) -> None:
    (tmp_path / "_current.json").mkdir()
    log = CommitLog(store_of(tmp_path))
    assert log.append({}, expected=0) == log.head()


def test_other_files_are_not_commits(store: ObjectStore) -> None:
    log = CommitLog(store)
    commit = log.append({}, expected=0)
    for name in (".00000002.json.0a1b", "00000002.json.tmp", "2.json", "sub/00000009.json"):
        store.put(f"_commits/{name}", b"{}")
    assert log.head() == commit


@pytest.mark.parametrize(
    "bad", [float("nan"), object(), {1, 2}, "\ud800"], ids=["nan", "object", "set", "surrogate"]
)
def test_only_plain_json_is_committed(store: ObjectStore, bad: object) -> None:
    with pytest.raises(UsageError, match="plain JSON"):
        CommitLog(store).append({"value": bad}, expected=0)
    assert CommitLog(store).head() is None


def three_commits(store: ObjectStore) -> CommitLog:
    log = CommitLog(store)
    for number in range(3):
        log.append({"version": number}, expected=number)
    return log


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"version": ', b'"version": 1'),
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"[]",
        lambda data: b"[" * 200_000,
        lambda data: data + b" ",
        lambda data: data.replace(b'"writer"', b'"author"'),
    ],
    ids=["edited", "half", "empty", "no-record", "deep", "longer", "renamed"],
)
def test_an_altered_record_is_refused(store: ObjectStore, number: int, change: Any) -> None:
    log = three_commits(store)
    key = f"_commits/{number:08d}.json"
    store.put(key, change(read_bytes(store, key)))
    with pytest.raises(BrokenLogError, match=f"Commit {number} "):
        log.read(number)
    with pytest.raises(BrokenLogError, match=f"Commit {number} "):
        log.history()
    if number > 1:
        with pytest.raises(BrokenLogError):
            log.head()
    if number == 3:
        with pytest.raises(BrokenLogError):
            log.append({}, expected=3)


@pytest.mark.parametrize("number", [1, 2])
def test_a_record_replaced_by_another_whole_one_is_refused(store: ObjectStore, number: int) -> None:
    log = three_commits(store)
    other = CommitLog(MemoryStore())
    for at in range(number):
        other.append({"version": 99}, expected=at)
    key = f"_commits/{number:08d}.json"
    store.put(key, read_bytes(other.store, key) or b"")
    with pytest.raises(BrokenLogError, match="does not follow"):
        log.history()


def test_a_gap_is_refused(store: ObjectStore) -> None:
    log = three_commits(store)
    store.delete("_commits/00000002.json")
    for read in (log.head, log.history):
        with pytest.raises(BrokenLogError, match="Commit 2 is missing"):
            read()


def test_a_high_number_costs_no_more_than_a_gap(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, read = three_commits(store), list[int]()
    store.put("_commits/02000000.json", b"{}")

    def counted(number: int) -> Commit:
        read.append(number)
        return CommitLog.read(log, number)

    monkeypatch.setattr(log, "read", counted)
    with pytest.raises(BrokenLogError, match="Commit 4 is missing"):
        log.history()
    assert read == [4]


def test_a_commit_that_a_listing_leaves_out_is_read(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = three_commits(store)
    listed = ["_commits/00000001.json", "_commits/00000003.json"]
    monkeypatch.setattr(commits, "keys_of", lambda *_: listed)
    assert [commit.number for commit in log.history()] == [1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [{"time": "noon"}, {"time": 7}, {"writer": None}, {"payload": []}, {"previous": 7}, {"x": 1}],
    ids=str,
)
def test_a_commit_of_other_types_is_no_whole_record(
    store: ObjectStore, changes: dict[str, Any]
) -> None:
    log = three_commits(store)
    fields = json.loads(read_bytes(store, "_commits/00000003.json") or b"")
    del fields["sha256"]
    fields |= changes
    digest = commits._digest(fields)
    store.put("_commits/00000003.json", commits._canonical(fields | {"sha256": digest}))
    for read_all in (log.head, log.history):
        with pytest.raises(BrokenLogError, match="Commit 3 is not a whole record"):
            read_all()


# Half a character of UTF-16 is no text.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: words | st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(words, plain_json, max_size=3), max_size=4))
def test_what_was_committed_is_what_is_read(records: list[dict[str, Any]]) -> None:
    log = CommitLog(MemoryStore())
    commits = [log.append(record, expected=number) for number, record in enumerate(records)]
    assert log.history() == commits
    assert [commit.payload for commit in commits] == records


RACE = """
import json, pathlib, sys, time
from recsys.storage import CommitConflict, CommitLog, store_of
root, name, rounds = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
log, won, lost = CommitLog(store_of(root)), [], []
print("ready", flush=True)
while not (root / "go").exists():
    time.sleep(0.001)
for expected in range(rounds):
    try:
        won.append(log.append({"by": name}, expected).number)
    except CommitConflict:
        lost.append(expected + 1)
print(json.dumps([won, lost]))
"""


def test_racing_processes_get_exactly_one_winner_each_round(tmp_path: Path) -> None:
    writers, rounds = 8, 50
    children = [child(RACE, tmp_path, name, rounds) for name in range(writers)]
    for process in children:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    results = [json.loads(process.communicate(timeout=60)[0]) for process in children]
    everyone = list(range(1, rounds + 1))
    assert sorted(number for won, _ in results for number in won) == everyone
    assert all(sorted(won + lost) == everyone for won, lost in results)
    history = CommitLog(store_of(tmp_path)).history()
    for name, (won, _) in enumerate(results):
        assert [c.number for c in history if c.payload == {"by": str(name)}] == won


ENDLESS = """
import sys
from recsys.storage import CommitLog, store_of
log = CommitLog(store_of(sys.argv[1]))
head = log.head()
number = head.number if head else 0
while True:
    number = log.append({"padding": "x" * 50_000}, number).number
    print("written", flush=True)
"""


def test_a_killed_writer_leaves_no_half_record(tmp_path: Path) -> None:
    log = CommitLog(store_of(tmp_path))
    pause = random.Random(7)
    for written in range(1, 13):
        process = child(ENDLESS, tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        time.sleep(pause.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        history = log.history()
        assert all(len(commit.payload["padding"]) == 50_000 for commit in history)
        # What a killed writer left has kept none from writing.
        assert len(history) >= written


# --- local files


def test_sha256_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == expected


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(), min_size=1, max_size=3))
def test_write_atomic_replaces(tmp_path: Path, contents: list[bytes]) -> None:
    for data in contents:
        write_atomic(tmp_path / "x", data)
    assert (tmp_path / "x").read_bytes() == contents[-1]
    assert names(tmp_path) == ["x"]


def test_write_atomic_keeps_the_old_file_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "x", b"old")

    def disk_full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


@pytest.mark.parametrize("old", [True, False])
def test_replace_folder(tmp_path: Path, old: bool) -> None:
    if old:
        folder(tmp_path / "final", "old")
    replace_folder(folder(tmp_path / "new", "new"), tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "new"
    assert names(tmp_path) == ["final"]


def test_replace_folder_without_a_new_one_keeps_the_old(tmp_path: Path) -> None:
    folder(tmp_path / "final", "old")
    with pytest.raises(DataError, match="no folder"):
        replace_folder(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "old"


def test_replace_folder_puts_the_old_one_back_where_the_new_does_not_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path / "final", "old")
    new = folder(tmp_path / "new", "new")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path == new:
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="cross-device"):
        replace_folder(new, tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "old"
    assert names(tmp_path) == ["final", "new"]


def test_replace_folder_mends_what_a_crash_left(tmp_path: Path) -> None:
    folder(tmp_path / ".final.previous", "old")
    with pytest.raises(DataError):
        replace_folder(tmp_path / "new", tmp_path / "final")
    assert (tmp_path / "final" / "file").read_text() == "old"
    replace_folder(folder(tmp_path / "new", "new"), tmp_path / "final")
    assert names(tmp_path) == ["final"]
