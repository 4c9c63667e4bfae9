"""The state's commits: who may build on them, what is removed, and when a file is complete."""

import gzip
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recsys.data.stream.following import StreamOptions, follow
from recsys.data.stream.landing import content_of, landing_of, listing, look
from recsys.data.stream.state import Known, clean, open_state, record, save
from recsys.errors import UsageError
from recsys.storage import CommitConflict
from tests.recsys.data.stream.landing_shop import MAPPING

TAKEN = Known("taken", 10, "v1", "abc", rows=2, folder="rows/2024-01-01-a", uri="file:/a", commit=2)
FORM = ("csv", ("a", "b"))


def test_what_is_committed_is_what_is_read_again(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state", MAPPING)
    state = record(state, {"a": TAKEN}, {"b": Known("waiting", 1, "v")}, [], FORM, rows=True)
    assert open_state(tmp_path / "state", MAPPING) == state
    grown = replace(TAKEN, sha256="abcd", rows=3, folder="rows/2024-01-02-b", commit=3)
    state = record(state, {"a": grown}, {}, ["b"], FORM, rows=True)
    assert state.stale == {TAKEN.folder: [TAKEN.uri]}
    assert (state.rows, state.others) == (3, {})
    assert open_state(tmp_path / "state", MAPPING) == state
    state = record(save(state), {}, {"c": Known("refused", 1, "v", reason="x")}, [], FORM, False)
    assert (state.number, state.rows) == (5, 3)
    assert open_state(tmp_path / "state", MAPPING) == state


def test_the_second_of_two_streams_is_told(tmp_path: Path) -> None:
    first = open_state(tmp_path / "state", MAPPING)
    second = open_state(tmp_path / "state", MAPPING)
    record(first, {"a": TAKEN}, {}, [], FORM, rows=True)
    with pytest.raises(CommitConflict, match="Commit 2 was taken by .*run again"):
        record(second, {"a": TAKEN}, {}, [], FORM, rows=True)


def test_a_mapping_that_reads_otherwise_is_refused_and_one_that_judges_otherwise_is_not(
    tmp_path: Path,
) -> None:
    open_state(tmp_path / "state", MAPPING)
    judging = {"version": 2, "fail_share": 0.5, "non_product_ids": ("A",), "max_quantity": 3}
    open_state(tmp_path / "state", MAPPING.model_copy(update=judging))
    with pytest.raises(UsageError, match="remove the state folder"):
        open_state(tmp_path / "state", MAPPING.model_copy(update={"time_zone": "Europe/London"}))


def test_folders_that_no_commit_names_are_removed_after_a_day(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state", MAPPING)
    state = record(state, {"a": TAKEN}, {}, [], FORM, rows=True)
    now = datetime.now(UTC)
    for name, age in (("2024-01-01-a", 9), ("2024-01-01-killed", 2), ("2024-01-01-young", 0)):
        file = state.place / "rows" / name / "part-0.parquet"
        file.parent.mkdir(parents=True)
        file.touch()
        changed = (now - timedelta(days=age)).timestamp()
        os.utime(file, (changed, changed))
    clean(state, now)
    left = {folder.name for folder in (tmp_path / "state" / "rows").iterdir()}
    assert left == {"2024-01-01-a", "2024-01-01-young"}


def test_files_in_folders_count_where_none_lies_right_there(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    for name in ("day=1/a.csv", "day=1/_b.csv", "c.csv.tmp", "d.txt", ".e.csv"):
        (tmp_path / name).touch()
    assert [*listing(landing_of(str(tmp_path)))] == ["day=1/a.csv"]
    (tmp_path / "f.csv").touch()
    assert [*listing(landing_of(str(tmp_path)))] == ["f.csv"]
    assert [*listing(landing_of(f"{tmp_path}/*.gz"))] == []
    assert look(landing_of(str(tmp_path)), ["nowhere.csv"]) == []


@pytest.mark.parametrize("source", ["a.csv", "nowhere", "no*/a.csv"])
def test_a_source_that_is_no_folder_is_refused(tmp_path: Path, source: str) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(UsageError, match="is not a folder"):
        landing_of(str(tmp_path / source))


@pytest.mark.parametrize(("output", "state"), [("in/out", None), ("in", None), ("out", "in/state")])
def test_nothing_is_written_into_the_landing_folder(
    tmp_path: Path, output: str, state: str | None
) -> None:
    (tmp_path / "in").mkdir()
    options = StreamOptions(state=None if state is None else str(tmp_path / state))
    spark: Any = None
    with pytest.raises(UsageError, match="lies in the landing folder"):
        follow(spark, str(tmp_path / "in"), tmp_path / output, MAPPING, options)
    assert [*tmp_path.iterdir()] == [tmp_path / "in"]


@pytest.mark.parametrize(
    ("name", "data", "packed", "line_end"),
    [
        ("a.csv", b"a\n1\n", True, True),
        ("a.csv", b"a\n1", True, False),
        ("a.csv", b"a\r1\r", True, True),
        ("a.csv", "a\n1\n".encode("utf-16"), True, True),
        ("a.csv", "a\n1".encode("utf-16"), True, False),
        ("a.csv.gz", gzip.compress(b"a\n"), True, False),
        ("a.csv.gz", gzip.compress(b"a\n") + gzip.compress(b"1\n") + bytes(7), True, False),
        ("a.csv.gz", gzip.compress(b"a\n")[:-1], False, False),
        ("a.csv.gz", gzip.compress(b"a\n") + gzip.compress(b"1\n")[:-4], False, False),
        ("a.csv.gz", b"a\n", False, True),
    ],
)
def test_the_end_of_a_file_tells_whether_it_is_complete(
    tmp_path: Path, name: str, data: bytes, packed: bool, line_end: bool
) -> None:
    (tmp_path / name).write_bytes(data)
    (file,) = listing(landing_of(str(tmp_path))).values()
    content = content_of(file, len(data) - 1)
    assert content.packed == packed
    if not name.endswith(".gz"):
        assert content.line_end == line_end
    (tmp_path / name).write_bytes(data[:-1])
    (file,) = listing(landing_of(str(tmp_path))).values()
    assert content_of(file, 0).sha256 == content.start


@pytest.mark.parametrize(
    ("text", "seconds"), [("1 minute", 60), ("30 seconds", 30), ("2 Hours", 7200), ("10second", 10)]
)
def test_a_trigger_is_a_time(text: str, seconds: int) -> None:
    assert StreamOptions(trigger=text).seconds == seconds


@pytest.mark.parametrize("text", ["soon", "0 seconds", "-1 minute", "5", "1 fortnight"])
def test_a_trigger_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give a time such as"):
        assert StreamOptions(trigger=text).seconds
