"""A folder is replaced as a whole or not at all, on a disk and in a cloud."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from recsys.data import replace
from recsys.data.replace import current, forget, replaced
from recsys.errors import UsageError
from recsys.storage import (
    CommitConflict,
    CommitLog,
    Place,
    RemotePath,
    files_below,
    read_file,
    store_of,
    write_file,
)

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


def test_a_folder_with_a_log_of_another_kind_is_not_replaced(shared: Place) -> None:
    log = CommitLog(store_of(shared, create=True))
    log.append({"manifest": "runs/a/_manifest.json"}, 0)
    with pytest.raises(UsageError, match="holds something else"):
        put(shared, b"one")
    assert current(shared) == shared
    assert [commit.number for commit in log.history()] == [1]


def test_a_folder_is_forgotten_with_all_that_it_held(shared: Place) -> None:
    put(shared, b"one")
    put(shared, b"two")
    forget(shared)
    forget(shared)
    assert current(shared) is None


WRITER = """
import sys
from pathlib import Path
from recsys.data.replace import replaced
with replaced(Path(sys.argv[1]), "done.json") as fresh:
    (fresh / "part").touch()
    print(fresh.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replace, "UNHELD", -60.0)
    others = {".out.backup", ".out.previous", ".other.writing-a"}
    for name in others:
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", WRITER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        name = it.stdout.readline().strip()
        with replaced(tmp_path / "out", MARKER) as fresh:
            # It is at work still.
            assert {f.name for f in tmp_path.iterdir()} == {*others, name, fresh.name}
        it.kill()
        it.wait()
    assert (tmp_path / name / "part").exists()
    put(tmp_path / "out", b"one")
    assert {f.name for f in tmp_path.iterdir()} == {*others - {".out.previous"}, "out"}


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
