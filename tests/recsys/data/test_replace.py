"""A folder is replaced as a whole or not at all, on a disk and in a cloud."""

from datetime import timedelta

import pytest

from recsys.data import replace
from recsys.data.replace import current, forget, replaced
from recsys.errors import UsageError
from recsys.storage import CommitConflict, Place, RemotePath, files_below, read_file, write_file

MARKER = "done.json"


def put(folder: Place, content: bytes) -> None:
    with replaced(folder, MARKER) as fresh:
        write_file(fresh / MARKER, content)


def content(folder: Place) -> bytes | None:
    now = current(folder)
    return None if now is None else read_file(now / MARKER)


def test_nothing_is_there_before_the_first(shared: Place) -> None:
    assert current(shared) is None


def test_readers_see_the_former_until_the_new_one_is_whole(shared: Place) -> None:
    put(shared, b"one")
    with replaced(shared, MARKER) as fresh:
        write_file(fresh / MARKER, b"two")
        assert content(shared) == b"one"
    assert content(shared) == b"two"


def test_a_writer_that_fails_leaves_the_former_and_nothing_else(shared: Place) -> None:
    put(shared, b"one")
    before = sorted(map(str, files_below(shared)))
    with pytest.raises(RuntimeError), replaced(shared, MARKER) as fresh:
        write_file(fresh / MARKER, b"two")
        raise RuntimeError
    assert content(shared) == b"one"
    assert sorted(map(str, files_below(shared))) == before


def test_something_else_is_not_replaced(shared: Place) -> None:
    if isinstance(shared, RemotePath):
        write_file(shared / "other", b"x")
    else:
        shared.mkdir()
        (shared / "other").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds something else"):
        put(shared, b"one")
    assert read_file(shared / "other") == b"x"


def test_a_folder_is_forgotten_with_all_that_it_held(shared: Place) -> None:
    put(shared, b"one")
    put(shared, b"two")
    forget(shared)
    forget(shared)
    assert current(shared) is None


@pytest.fixture
def remote(shared: Place) -> RemotePath:
    if not isinstance(shared, RemotePath):
        pytest.skip("a disk's folder is renamed")
    return shared


def test_of_two_writers_at_once_the_second_is_told(remote: RemotePath) -> None:
    put(remote, b"one")
    with pytest.raises(CommitConflict), replaced(remote, MARKER) as slow:
        write_file(slow / MARKER, b"slow")
        put(remote, b"fast")
    assert content(remote) == b"fast"


def test_the_former_run_stays_for_readers_and_older_ones_go(
    remote: RemotePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> int:
        return len([f for f in files_below(remote) if f.name == MARKER])

    for number in range(3):
        put(remote, str(number).encode())
    # A reader, or a writer at work, may hold what is younger than a day.
    assert runs() == 3
    monkeypatch.setattr(replace, "KEPT", timedelta(0))
    put(remote, b"last")
    assert runs() == 2
    assert content(remote) == b"last"
