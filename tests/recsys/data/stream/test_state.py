"""The state's commits: who may build on them, what is removed, and when a file is complete."""

import gzip
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from recsys.data.ingest_report import IngestReport
from recsys.data.stream import publishing
from recsys.data.stream.folders import clean
from recsys.data.stream.following import Stream, follow
from recsys.data.stream.landing import content_of, landing_of, listing, look
from recsys.data.stream.options import StreamOptions
from recsys.data.stream.state import Known, open_state, record, save
from recsys.data.stream.taking import without_twin
from recsys.errors import DataError, UsageError
from recsys.storage import (
    CommitConflict,
    CommitLog,
    Place,
    make_folder,
    read_file,
    store_of,
    write_file,
)
from tests.recsys.data.stream.landing_shop import MAPPING

TAKEN = Known("taken", 10, "v1", "abc", rows=2, folder="rows/2024-01-01-a", uri="file:/a", commit=2)
FORM = ("csv", ("a", "b"))
REPORT = IngestReport(
    source="in", files=("a.csv", "b.csv"), mapping_version=1, mapping_digest="", rows_in=4,
    rows_accepted=4, rows_quarantined=0, reasons={}, customers=1, items=1, guest_share=0,
    first=datetime(2024, 1, 1, tzinfo=UTC), last=datetime(2024, 1, 2, tzinfo=UTC), units_netted=0,
    heavy_customers=0, heavy_share=0, warnings=(),
)  # fmt: skip


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
    killed, young = "2024-01-01-0123456789ab", "2024-01-02-0123456789ab"
    for name, age in (("2024-01-01-a", 9), (killed, 2), (young, 0), ("2020", 9), ("own.csv", 9)):
        file = state.place / "rows" / name / "part-0.parquet"
        file = file.parent if name == "own.csv" else file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        changed = (now - timedelta(days=age)).timestamp()
        os.utime(file, (changed, changed))
    clean(state, now)
    left = {folder.name for folder in (tmp_path / "state" / "rows").iterdir()}
    assert left == {"2024-01-01-a", young, "2020", "own.csv"}


def test_a_folder_that_holds_something_else_is_no_state(shared: Place) -> None:
    make_folder(shared / "mine" / "rows")
    write_file(shared / "mine" / "rows" / "2020.csv", b"x")
    CommitLog(store_of(shared / "published", create=True)).append({"manifest": "m"}, 0)
    for name in ("mine", "published"):
        with pytest.raises(UsageError, match="holds something else"):
            open_state(shared / name, MAPPING)
    assert read_file(shared / "mine" / "rows" / "2020.csv") == b"x"
    begun = open_state(shared / "new", MAPPING)
    assert open_state(shared / "new", MAPPING) == begun


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/state"):
        with pytest.raises(UsageError, match="cannot be the stream's state"):
            open_state(tmp_path / name, MAPPING)


def test_duplicates_whose_twin_is_gone_are_looked_at(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state", MAPPING)
    twin = Known("duplicate", 10, "v1", TAKEN.sha256)
    state = record(state, {"a": TAKEN}, {"b": twin, "c": twin}, [], FORM, rows=True)
    assert without_twin(state) == set()
    state = record(state, {"a": replace(TAKEN, sha256="new")}, {}, [], FORM, rows=True)
    assert without_twin(state) == {"b", "c"}


def test_files_that_lie_where_none_is_taken_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "day=1").mkdir(parents=True)
    for name in ("a.csv", "day=1/b.csv", "day=1/_c.csv"):
        (tmp_path / "in" / name).touch()
    landing, spark = landing_of(str(tmp_path / "in")), cast(Any, None)
    state = open_state(tmp_path / "state", MAPPING)
    stream = Stream(spark, "in", landing, tmp_path / "out", MAPPING, StreamOptions(), state)
    stream.look_again(unknown=False)
    stream.look_again(unknown=False)
    told = capsys.readouterr().out
    assert told.count("1 file(s) in folders of in are not taken, such as day=1/b.csv") == 1


def test_tables_that_another_state_made_are_not_replaced_by_fewer_files(tmp_path: Path) -> None:
    former = open_state(tmp_path / "former", MAPPING)
    former = record(former, {"d/a.csv": TAKEN, "b.csv": TAKEN}, {}, [], FORM, rows=True)
    out = tmp_path / "out"
    out.mkdir()
    (out / "ingest.json").write_text(REPORT.model_dump_json())
    (out / "stream.json").write_bytes(publishing._text(publishing._report(former, MAPPING)))
    mistyped = open_state(tmp_path / "mistyped", MAPPING)
    mistyped = record(mistyped, {"b.csv": TAKEN, "c.csv": TAKEN}, {}, [], FORM, rows=True)
    cure = rf"{former.place}: .* {mistyped.place} has not taken, such as a.csv.*{out}/stream.json"
    now, spark = datetime.now(UTC), cast(Any, None)
    with pytest.raises(DataError, match=cure):
        publishing.publish(spark, mistyped, "in", out, MAPPING, now)
    # A damaged report is told, not taken for none.
    (out / "stream.json").write_text("{")
    with pytest.raises(DataError, match=r"stream\.json is not what a stream wrote: remove it"):
        publishing.publish(spark, mistyped, "in", out, MAPPING, now)


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
