"""Files that tasks share do what they do on a disk, wherever they lie."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import storage
from recsys.errors import DataError
from recsys.storage import Place, RemotePath, cache
from tests import azurite


@pytest.fixture
def folder(shared: Place) -> Place:
    storage.make_folder(shared / "inner")
    return shared


def test_what_is_written_is_read(folder: Place) -> None:
    assert storage.read_file(folder / "a.txt") is None
    storage.write_file(folder / "a.txt", b"one")
    storage.write_file(folder / "a.txt", memoryview(b"two"))
    assert storage.read_file(folder / "a.txt") == b"two"
    assert storage.exists(folder / "a.txt")
    assert not storage.exists(folder / "b.txt")


def test_listings_are_sorted_and_leave_hidden_files_out(folder: Place) -> None:
    for name in ("b.npy", "a.npy", "c.txt", "_hidden.npy", "inner/d.npy"):
        storage.write_file(folder / name, b"x")
    assert [f.name for f in storage.files_in(folder, ".npy")] == ["a.npy", "b.npy"]
    assert storage.folders_in(folder) == ["inner"]
    assert len(storage.files_below(folder)) == 5
    assert storage.size_of(folder) == 5
    assert storage.files_in(folder / "nowhere") == storage.folders_in(folder / "nowhere") == []


def test_a_file_written_in_pieces_appears_and_is_read_in_pieces(folder: Place) -> None:
    with storage.writing(folder / "pieces") as sink:
        sink.write(b"0123")
        sink.write(b"456789")
    assert storage.read_range(folder / "pieces", 3, 4).to_pybytes() == b"3456"
    with storage.opened(folder / "pieces") as source:
        source.seek(8)
        assert source.read() == b"89"


def test_a_table_is_read_from_a_folder_of_files(folder: Place) -> None:
    for number in (0, 1):
        storage.write_parquet(folder / "inner" / f"{number}.parquet", pa.table({"n": [number]}))
    found = storage.read_parquet(folder / "inner", columns=["n"])
    assert sorted(found["n"].to_pylist()) == [0, 1]
    assert pq.ParquetFile(storage.opened(folder / "inner" / "0.parquet")).metadata.num_rows == 1


def test_folders_are_moved_copied_and_removed_whole(folder: Place) -> None:
    storage.write_file(folder / "inner" / "a", b"a")
    storage.copy(folder / "inner", folder / "copied")
    storage.move(folder / "inner", folder / "moved")
    assert storage.read_file(folder / "copied" / "a") == b"a"
    assert storage.read_file(folder / "moved" / "a") == b"a"
    assert not storage.exists(folder / "inner")
    storage.remove_folder(folder / "moved")
    storage.remove_folder(folder / "moved")
    assert not storage.exists(folder / "moved")


def test_a_local_folder_is_filled_in_place_of_a_remote_one(folder: Place) -> None:
    with storage.filled(folder / "inner") as local:
        (local / "deep").mkdir()
        (local / "deep" / "a").write_bytes(b"a")
    assert storage.read_file(folder / "inner" / "deep" / "a") == b"a"


def test_the_digest_of_a_folder_tells_its_content(folder: Place) -> None:
    storage.write_file(folder / "inner" / "a", b"a")
    storage.write_file(folder / "inner" / "_success", b"1")
    first = storage.digests_in(folder / "inner")
    storage.write_file(folder / "inner" / "_success", b"2")
    assert storage.digests_in(folder / "inner") == first
    storage.write_file(folder / "inner" / "a", b"b")
    assert storage.digests_in(folder / "inner") != first


def test_what_was_replaced_is_fetched_anew(folder: Place) -> None:
    for content in (b"one", b"two"):
        storage.write_file(folder / "a", content)
        assert storage.fetched(folder / "a").read_bytes() == content
    if isinstance(folder, RemotePath):
        storage.remove_folder(folder / "a")
        with pytest.raises(DataError, match="There is no"):
            storage.fetched(folder / "a")


def test_a_machine_fetches_once_for_all_who_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path))
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "a").write_bytes(b"a")

    def ask(_: int) -> bytes:
        return (cache.assembled("one thing", make) / "a").read_bytes()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(32))) == [b"a"] * 32
    assert len(made) == 1


def test_a_copy_that_could_not_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"h")
        raise DataError("lost")

    with pytest.raises(DataError):
        cache.assembled("one thing", fail)
    assert [f for f in tmp_path.iterdir() if f.is_dir()] == []


def test_copies_not_used_for_long_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "SHARE_OF_DISK", 0.0)
    old = cache.assembled("old", writer(b"old"))
    cache.assembled("young", writer(b"young"))
    assert old.exists()
    monkeypatch.setattr(cache, "KEPT_SECONDS", -1)
    # Counted as if the disk were full: everything is too much.
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: FullDisk)
    cache.assembled("new", writer(b"new"))
    assert not old.exists()


class FullDisk:
    total, free = 100, 0


def writer(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "a").write_bytes(content) and None


def test_hadoops_marks_of_folders_are_no_files(cloud_folder: RemotePath) -> None:
    for name, data in (("sub", b""), ("sub/a", b"a"), ("empty", b"")):
        storage.write_file(cloud_folder / name, data)
    assert [f.name for f in storage.files_in(cloud_folder)] == ["empty"]
    assert [f.name for f in storage.files_below(cloud_folder)] == ["empty", "a"]
    assert storage.folders_in(cloud_folder) == ["sub"]
    storage.remove_folder(cloud_folder)
    storage.write_file(cloud_folder / "left", b"")
    assert storage.size_of(cloud_folder) == 0
    assert [f.name for f in storage.files_below(cloud_folder)] == ["left"]


def test_a_container_that_is_not_there_is_no_missing_file(cloud_folder: RemotePath) -> None:
    with pytest.raises(DataError, match="There is no container nowhere"):
        storage.read_file(RemotePath("az://nowhere/a"))


@pytest.fixture
def cloud_folder(emulator: str, monkeypatch: pytest.MonkeyPatch) -> RemotePath:
    return RemotePath(azurite.container(emulator, monkeypatch)) / "folder"
