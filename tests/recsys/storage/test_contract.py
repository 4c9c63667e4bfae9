"""One contract of every object store: a disk, Azure (a real Azurite), S3 (moto's server)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recsys.storage import (
    CommitConflict,
    CommitLog,
    keys_of,
    put,
    put_new,
    read_bytes,
    remove,
    store_of,
)
from recsys.storage.azure import azure_place, container_client
from tests import azurite, s3_server

ROOT = Path(__file__).resolve().parent.parent.parent.parent
WRITERS, ROUNDS = 6, 20
# Whatever the developer's shell holds must not reach another account than the test's.
CLOUDS = ("AZURE_", "AZURITE_", "AWS_")


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with azurite.running(tmp_path_factory.mktemp("azurite")) as connection:
        yield connection


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server.running() as endpoint:
        yield endpoint


@pytest.fixture(params=["disk", "azure", "s3"])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None
) -> str:
    """A folder of its own in each kind of store."""
    if request.param == "disk":
        (tmp_path / "tables").mkdir()
        return str(tmp_path / "tables")
    if request.param == "azure":
        return f"{azurite.container(request.getfixturevalue('azure'), monkeypatch)}/a/tables"
    return f"{s3_server.bucket(request.getfixturevalue('s3'), monkeypatch)}/a/tables"


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(CLOUDS)]:
        monkeypatch.delenv(name)


def test_an_object_is_read_as_it_was_written(url: str) -> None:
    store = store_of(url)
    before = datetime.now(UTC) - timedelta(seconds=2)
    put(store, "runs/1/part", b"one")
    put(store, "runs/1/part", b"two")
    put(store, "runs/1/empty", b"")
    assert read_bytes(store, "runs/1/part") == b"two"
    assert read_bytes(store, "runs/1/empty") == b""
    assert (
        before <= keys_of(store, "runs")["runs/1/part"] <= datetime.now(UTC) + timedelta(seconds=2)
    )


def test_names_keep_their_signs(url: str) -> None:
    store = store_of(url)
    names = ["shop=A%20B/part-0.parquet", "städte/Zürich", "a b+c/d&e", "_commits/00000001.json"]
    for name in names:
        put(store, name, name.encode())
    assert sorted(keys_of(store, "")) == sorted(names)
    assert [read_bytes(store, name) for name in names] == [name.encode() for name in names]


@pytest.mark.parametrize("url", ["azure"], indirect=True)
def test_other_tools_see_the_same_names(url: str) -> None:
    place = azure_place(f"{url}/shop=A%20B")
    assert place is not None
    put(store_of(f"{url}/shop=A%20B"), "Zürich c&d/e", b"ours")
    client = container_client(place)
    client.upload_blob(f"{place.path}/50%25 off", b"theirs")
    assert [blob.name.removeprefix(place.path) for blob in client.list_blobs()] == [
        "/50%25 off",
        "/Zürich c&d/e",
    ]
    assert read_bytes(store_of(url), "shop=A%20B/50%25 off") == b"theirs"


def test_an_object_that_is_not_there_is_none(url: str) -> None:
    store = store_of(url)
    assert read_bytes(store, "nothing") is None
    assert keys_of(store, "nothing") == {}


def test_a_listing_holds_what_lies_below_a_folder_and_nothing_else(url: str) -> None:
    store = store_of(url)
    for name in ("runs/1/a", "runs/1/deep/b", "runs/2/c", "runs-old/d"):
        put(store, name, b"x")
    assert set(keys_of(store, "runs")) == {"runs/1/a", "runs/1/deep/b", "runs/2/c"}
    assert set(keys_of(store, "runs/1")) == {"runs/1/a", "runs/1/deep/b"}


def test_what_was_removed_is_gone_and_may_be_removed_again(url: str) -> None:
    store = store_of(url)
    put(store, "runs/1/a", b"x")
    put(store, "runs/2/b", b"x")
    remove(store, ["runs/1/a", "runs/1/never"])
    remove(store, ["runs/1/a"])
    assert read_bytes(store, "runs/1/a") is None
    assert set(keys_of(store, "")) == {"runs/2/b"}


def test_a_new_object_replaces_none(url: str) -> None:
    store = store_of(url)
    assert put_new(store, "_commits/1", b"first")
    assert not put_new(store, "_commits/1", b"second")
    assert read_bytes(store, "_commits/1") == b"first"
    remove(store, ["_commits/1"])
    assert put_new(store, "_commits/1", b"third")


def test_two_folders_of_one_container_do_not_meet(url: str) -> None:
    put(store_of(url), "x", b"here")
    other = store_of(f"{url}-other", create=True)
    assert keys_of(other, "") == {}
    assert put_new(other, "x", b"there")
    assert read_bytes(store_of(url), "x") == b"here"


def test_a_commit_log_appends_and_refuses_a_number_that_is_taken(url: str) -> None:
    log = CommitLog(store_of(url))
    assert log.head() is None
    first = log.append({"version": 1}, expected=0)
    second = log.append({"version": 2, "shop": "Zürich"}, expected=1)
    with pytest.raises(CommitConflict):
        CommitLog(store_of(url)).append({"version": 3}, expected=1)
    assert log.head() == second
    assert second.previous == first.digest
    assert CommitLog(store_of(url)).history() == [first, second]


RACE = """
import json, sys
from recsys.storage import CommitConflict, CommitLog, put_new, store_of
url, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = store_of(url)
log, keys, numbers = CommitLog(store), [], []
print("ready", flush=True)
sys.stdin.readline()
for turn in range(rounds):
    if put_new(store, f"race/{turn}", name.encode()):
        keys.append(turn)
for expected in range(rounds):
    try:
        numbers.append(log.append({"by": name}, expected).number)
    except CommitConflict:
        pass
print(json.dumps([keys, numbers]))
"""


@pytest.mark.timeout(120)
def test_racing_processes_get_exactly_one_winner_each_round(url: str) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, url, str(writer), str(ROUNDS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for writer in range(WRITERS)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    results = [json.loads(child.communicate(timeout=100)[0]) for child in children]
    assert sorted(key for keys, _ in results for key in keys) == list(range(ROUNDS))
    assert sorted(n for _, numbers in results for n in numbers) == list(range(1, ROUNDS + 1))
    store = store_of(url)
    for writer, (keys, numbers) in enumerate(results):
        assert all(read_bytes(store, f"race/{key}") == str(writer).encode() for key in keys)
        mine = [c.number for c in CommitLog(store).history() if c.payload["by"] == str(writer)]
        assert mine == numbers
