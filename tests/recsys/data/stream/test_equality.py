"""A stream's tables are those of the batch ingest of the same files, whatever happened meanwhile.

Each history puts files into a landing folder and runs the stream now and then.
"""

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from recsys.data.stream import folders
from recsys.data.stream.state import open_state
from recsys.errors import DataError
from tests.recsys.data.stream.landing_shop import (
    HEADER,
    LONG_AGO,
    MAPPING,
    PATIENT,
    Shop,
    rows,
    sales,
)


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path) -> Shop:
    return Shop(spark, tmp_path)


def in_order(shop: Shop) -> None:
    for day in (1, 2, 3):
        shop.days(day)
        shop.stream()


def in_one_run(shop: Shop) -> None:
    shop.days(1, 2, 3, 4, 5)
    shop.stream(max_files=2)


def shuffled_with_returns_before_their_sales(shop: Shop) -> None:
    for day in (3, 1, 2):
        shop.days(day)
        shop.stream()


def late_with_an_old_date(shop: Shop) -> None:
    shop.days(2, 3)
    shop.stream()
    shop.days(1)
    os.utime(shop.landing / "2024-01-01.csv", (LONG_AGO, LONG_AGO))
    shop.stream()


def replayed_without_its_checkpoint(shop: Shop) -> None:
    shop.days(1, 2)
    shop.stream()
    shutil.rmtree(shop.folder / "out.stream" / "checkpoint")
    shop.days(3)
    shop.stream()


def replayed_into_the_folder(shop: Shop) -> None:
    shop.days(1, 2)
    shop.stream()
    shutil.rmtree(shop.landing)
    shop.days(1, 2, 3)
    shop.stream()


def a_day_without_sales(shop: Shop) -> None:
    shop.days(1)
    shop.put("2024-01-02.csv", [])
    shop.put("2024-01-03.csv", [])
    shop.stream()


def half_written_and_completed(shop: Shop) -> None:
    shop.days(1)
    file, text = shop.landing / "2024-01-02.csv", "\n".join([HEADER, *sales(2)]) + "\n"
    file.write_text(text[: len(text) // 2])
    stream = shop.stream(PATIENT)
    assert shop.told["waiting"] == {file.name: "its last line has no end"}
    assert stream.tables is not None and stream.tables.files == ("2024-01-01.csv",)
    with file.open("a") as opened:
        opened.write(text[len(text) // 2 :])
    shop.stream(PATIENT)


def taken_half_and_grown(shop: Shop) -> None:
    """A pause after a whole line cannot be told from the end; what comes then is read anew."""
    shop.days(1)
    file = shop.put("2024-01-02.csv", sales(2)[:2])
    shop.stream()
    with file.open("a") as opened:
        opened.write("\n".join(sales(2)[2:]) + "\n")
    shop.stream()


def compacted(shop: Shop) -> None:
    for day in (1, 2):
        shop.days(day)
        shop.stream()
    file = shop.put("2024-01-03.csv", sales(3)[:2])
    shop.stream()
    with file.open("a") as opened:
        opened.write("\n".join(sales(3)[2:]) + "\n")
    state = shop.stream().state
    assert len(state.folders) == 3
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    state = folders.compact(shop.spark, state, tomorrow)
    assert (len(state.folders), state.stale) == (1, {})
    assert state == open_state(state.place, MAPPING)
    shop.days(4)
    shop.stream()


def a_taken_file_mended_that_had_a_duplicate(shop: Shop) -> None:
    """Nobody had seen its rows; the copy is then the only file with them."""
    for name in ("a.csv", "b.csv", "0.csv"):
        shop.put(name, sales(2))
    shop.mapping = MAPPING.model_copy(update={"fail_share": 0.01})
    with pytest.raises(DataError, match="Most of them stand in"):
        shop.stream()
    shop.mapping = MAPPING
    shop.put("0.csv", sales(1))
    shop.stream()
    assert shop.told["duplicates"] == {"b.csv": "it has the content of a.csv"}
    (shop.landing / "b.csv").unlink()


def in_folders_and_then_right_there(shop: Shop) -> None:
    shop.put("1/a.csv", sales(1))
    shop.stream()
    shop.put("2/b.csv", sales(2))
    shop.put("c.csv", sales(3))
    shop.stream()
    # For a batch, files in folders count only where none lies right there.
    (shop.landing / "c.csv").rename(shop.landing / "2" / "c.csv")


def begun_anew_without_its_state(shop: Shop) -> None:
    shop.days(1, 2)
    shop.put("again.csv", sales(1))
    shop.stream()
    shutil.rmtree(shop.folder / "out.stream")
    kept = (shop.landing / "2024-01-02.csv").rename(shop.folder / "kept.csv")
    before = rows(shop.output / "interactions")
    with pytest.raises(DataError, match=r"has not taken, such as 2024-01-02\.csv"):
        shop.stream()
    assert rows(shop.output / "interactions") == before
    kept.rename(shop.landing / "2024-01-02.csv")
    shop.stream()
    (shop.landing / "again.csv").unlink()


def with_notes_of_sparks_that_are_damaged(shop: Shop) -> None:
    shop.days(1)
    shop.stream()
    checkpoint = shop.folder / "out.stream" / "checkpoint"
    (metadata,) = checkpoint.glob("*/metadata")
    (offsets,) = checkpoint.glob("*/offsets/0")
    for file in (offsets, metadata):
        file.write_text("garbage")
        file.with_name(f".{file.name}.crc").unlink()
        with pytest.raises(DataError, match=f"{checkpoint} are damaged: remove that folder"):
            shop.stream()
    shutil.rmtree(checkpoint)
    shop.days(2)
    shop.stream()


def with_rows_that_are_missing(shop: Shop) -> None:
    shop.days(1)
    state = shop.stream().state
    shutil.rmtree(state.place / state.folders[0])
    shop.days(2)
    with pytest.raises(DataError, match=f"missing or damaged in .*remove {state.place}"):
        shop.stream()
    shutil.rmtree(state.place)
    shop.stream()


def names_that_patterns_use(shop: Shop) -> None:
    for number, name in enumerate(["a b[1].csv", "ü%20{x}.csv", "1.csv", "1.csv.gz", "q?#.csv"]):
        shop.put(name, sales(number + 1))
    shop.stream(max_files=2)


QUICK = [shuffled_with_returns_before_their_sales]
SLOW = [
    in_order,
    in_one_run,
    late_with_an_old_date,
    replayed_without_its_checkpoint,
    replayed_into_the_folder,
    a_day_without_sales,
    half_written_and_completed,
    taken_half_and_grown,
    compacted,
    a_taken_file_mended_that_had_a_duplicate,
    in_folders_and_then_right_there,
    begun_anew_without_its_state,
    with_notes_of_sparks_that_are_damaged,
    with_rows_that_are_missing,
    names_that_patterns_use,
]
HISTORIES = [*QUICK, *(pytest.param(history, marks=pytest.mark.slow) for history in SLOW)]


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_the_tables_equal_the_batch_ingest(shop: Shop, history: Callable[[Shop], None]) -> None:
    history(shop)
    shop.equals_batch()
