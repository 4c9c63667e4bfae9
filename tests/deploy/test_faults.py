"""Disks and services that fail: the last table stays, the error is clear, one commit in the end."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import ObjectStore, from_url

from deploy.publish import republish
from recsys import storage
from recsys.errors import DataError, PublishError
from recsys.published import published_table
from recsys.storage import CommitLog, keys_of, remove, store_of
from tests import azurite, faulty_proxy
from tests.deploy.tables import ROWS, by_pandas, parts_of_run, published
from tests.faulty_proxy import Fault, Proxy

EVER = 1_000_000
STEPS = ("part-1", "_manifest", "_commits")


@pytest.fixture
def proxy(emulator: str) -> Iterator[Proxy]:
    with faulty_proxy.before(azurite.endpoint(emulator)) as proxy:
        yield proxy


@pytest.fixture
def output(emulator: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in Azurite that is reached through the proxy."""
    url = azurite.container(emulator, monkeypatch) + "/table"
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{proxy.port}")
    return url


@pytest.fixture
def impatient(output: str) -> ObjectStore:
    """The store with a client that gives up within seconds rather than minutes."""
    return from_url(
        output,
        # Below the proxy's silence, and above the pauses of a busy machine.
        client_options={"timeout": "3s", "allow_http": True},
        retry_config={
            "max_retries": 2,
            "retry_timeout": timedelta(seconds=10),
            "backoff": {
                "init_backoff": timedelta(milliseconds=10),
                "max_backoff": timedelta(milliseconds=50),
                "base": 2,
            },
        },
    )


def number_in(output: str) -> int:
    """Read the table and return the one number that all its rows carry."""
    table = published_table(output)
    assert len(table) == ROWS
    (number,) = set(table["number"].to_pylist())
    return int(number)


@pytest.mark.parametrize("kind", [412, 503, "silent"])
@pytest.mark.parametrize("step", STEPS)
def test_a_service_that_does_not_write_leaves_the_last_table(
    output: str, impatient: ObjectStore, proxy: Proxy, step: str, kind: int | str
) -> None:
    published(impatient, 0)
    proxy.fault = Fault(step, kind, EVER)
    with pytest.raises(PublishError, match=f"{step}.* cannot be written"):
        published(impatient, 1)
    assert proxy.fault.seen > 0
    assert number_in(output) == 0
    assert len(CommitLog(impatient).history()) == 1
    proxy.fault = None
    assert published(impatient, 1) == 2
    assert number_in(output) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_service_that_was_busy_is_asked_again(
    output: str, impatient: ObjectStore, proxy: Proxy, step: str
) -> None:
    proxy.fault = Fault(step, 503, 2)
    assert published(impatient, 0) == 1
    assert proxy.fault.seen == 2
    assert number_in(output) == 0
    assert len(CommitLog(impatient).history()) == 1


@pytest.mark.parametrize("times", [1, EVER])
@pytest.mark.parametrize("step", STEPS)
def test_a_lost_answer_makes_no_second_commit(
    output: str, impatient: ObjectStore, proxy: Proxy, step: str, times: int
) -> None:
    """What was written stands although the writer was not told; it looks before it gives up."""
    proxy.fault = Fault(step, "lost", times)
    if step == "_commits" or times == 1:
        assert published(impatient, 0) == 1
    else:
        with pytest.raises(PublishError, match="cannot be written"):
            published(impatient, 0)
        proxy.fault = None
        assert published(impatient, 0) == 1
    assert number_in(output) == 0
    assert len(CommitLog(impatient).history()) == 1


def test_a_service_that_does_not_answer_readers_is_named(
    impatient: ObjectStore, proxy: Proxy
) -> None:
    published(impatient, 0)
    for word in ("comp=list", "_commits/00000001"):
        proxy.fault = Fault(word, 503, EVER, "GET")
        with pytest.raises(DataError, match="_commits.* cannot be read: .*"):
            CommitLog(impatient).head()


def test_a_full_disk_leaves_the_last_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, create=True)
    published(store, 0)

    def full(path: Path, data: bytes) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.local, "write_temporary", full)
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
    with pytest.raises(PublishError, match="cannot be written: .*(No space left|os error 28)"):
        published(store, 1)
    assert by_pandas(output) == (ROWS, 1)
    assert len(CommitLog(store).history()) == 1
    filler.unlink()
    assert published(store, 1) == 2


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
