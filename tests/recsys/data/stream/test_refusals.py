"""What a stream does not take, and says so: drifted, damaged, changed, duplicate, growing files."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.mapping import Mapping
from recsys.data.source import Files, quiet, reading
from recsys.data.stream import following, taking
from recsys.data.stream.options import StreamOptions
from recsys.data.stream.verdicts import Patience
from recsys.errors import DataError
from tests.recsys.data.stream.landing_shop import (
    AT_ONCE,
    HEADER,
    MAPPING,
    PATIENT,
    Shop,
    rows,
    sales,
)


@pytest.fixture
def shop(spark: SparkSession, tmp_path: Path) -> Shop:
    return Shop(spark, tmp_path)


@pytest.mark.slow
def test_unfit_files_are_refused_by_name_and_all_others_taken(shop: Shop) -> None:
    shop.days(1, 2)
    shop.put("2024-01-03.csv", sales(3), header=HEADER.replace("price", "amount"))
    shop.put("2024-01-04.csv", sales(4), header=f"{HEADER},till")
    swapped = HEADER.replace("receipt,sku", "sku,receipt")
    shop.put("2024-01-05.csv", sales(5), header=swapped)
    packed = shop.put("2024-01-06.csv.gz", sales(6))
    packed.write_bytes(packed.read_bytes()[:-9])
    (shop.landing / "2024-01-07.csv").touch()
    pq.write_table(pa.table({"receipt": ["r8"]}), shop.landing / "2024-01-08.parquet")
    shop.put("again.csv", sales(2))
    (shop.landing / "2024-01-09.csv.part").write_text("half")
    stream = shop.stream()
    refused = shop.told["refused"]
    assert "the columns price are missing and the columns amount are new" in refused.pop(
        "2024-01-03.csv"
    )
    assert "the columns till are new" in refused.pop("2024-01-04.csv")
    assert "in another order" in refused.pop("2024-01-05.csv")
    assert "cannot be read" in refused.pop("2024-01-06.csv.gz")
    assert "is empty" in refused.pop("2024-01-07.csv")
    assert "it is parquet" in refused.pop("2024-01-08.parquet")
    assert refused == {}
    assert shop.told["duplicates"] == {"again.csv": "it has the content of 2024-01-02.csv"}
    assert stream.tables is not None
    assert stream.tables.files == ("2024-01-01.csv", "2024-01-02.csv")
    others = ["2024-01-05.csv", "2024-01-06.csv.gz", "2024-01-07.csv", "2024-01-08.parquet"]
    # Mended under their own names, which Spark does not list a second time.
    shop.days(3, 4)
    for name in others:
        (shop.landing / name).unlink()
    shop.stream()
    assert shop.told["refused"] == {}
    shop.equals_batch("again.csv")
    # With the copy a batch ingest counts more duplicates, and sells no more.
    shop.batch()
    for table in ("interactions", "items", "customers"):
        assert rows(shop.output / table) == rows(shop.folder / "batch" / table)


@pytest.mark.slow
def test_a_taken_file_that_changes_is_told_and_its_former_rows_stand(shop: Shop) -> None:
    shop.days(1, 2)
    shop.stream()
    before = rows(shop.output / "interactions")
    file = shop.put("2024-01-02.csv", sales(3))
    shop.stream()
    assert "changed after it was taken" in shop.told["refused"][file.name]
    assert rows(shop.output / "interactions") == before
    shop.days(2)
    shop.stream()
    assert shop.told["refused"] == {}
    shop.equals_batch()


@pytest.mark.slow
def test_a_broken_limit_leaves_the_former_tables_and_names_the_file(shop: Shop) -> None:
    shop.mapping = limited(0.2)
    shop.days(1)
    shop.stream()
    before = rows(shop.output / "interactions")
    bad = [line.replace("2024-01-02", "the second") for line in sales(2)]
    shop.put("2024-01-02.csv", bad)
    for _ in range(2):
        with pytest.raises(DataError, match=r"bad_timestamp.*Most of them stand in 2024-01-02.csv"):
            shop.stream()
        assert rows(shop.output / "interactions") == before
    # Nobody has seen its rows, so a mended file takes its place.
    shop.days(2)
    shop.stream()
    assert shop.told["refused"] == {}
    shop.equals_batch()
    # A limit is no reason to read anything anew.
    shop.put("2024-01-03.csv", bad)
    shop.mapping = limited(1)
    shop.stream()
    shop.equals_batch()


def limited(share: float) -> Mapping:
    return Mapping.checked(MAPPING.model_dump() | {"fail_share_of": {"bad_timestamp": share}}, "")


@pytest.mark.slow
def test_a_file_that_changes_while_it_is_read_waits(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.days(1)
    file = shop.put("2024-01-02.csv", sales(2)[:2])
    written = taking._written

    def slowly(*given: object) -> object:
        result = written(*given)  # type: ignore[arg-type]
        if file.read_text().count("\n") < 4:
            with file.open("a") as opened:
                opened.write(sales(2)[2] + "\n")
        return result

    monkeypatch.setattr(taking, "_written", slowly)
    monkeypatch.setattr(following.Stream, "look_again", lambda *given, **named: None)
    stream = shop.stream()
    assert [*stream.state.taken] == ["2024-01-01.csv"]
    assert shop.told["waiting"] == {file.name: "it changed a moment ago"}
    monkeypatch.undo()
    shop.stream()
    assert shop.told["waiting"] == {}
    shop.equals_batch()


@pytest.mark.slow
def test_what_was_put_there_just_now_is_waited_for_but_not_for_ever(shop: Shop) -> None:
    shop.days(1)
    shop.put("2024-01-02.csv", sales(2), end="")
    stream = shop.stream(Patience(quiet_seconds=2, patience_seconds=3600))
    assert [*stream.state.taken] == ["2024-01-01.csv"]
    assert shop.told["waiting"] == {"2024-01-02.csv": "its last line has no end"}
    # Some tills never end the last line.
    shop.stream(AT_ONCE)
    shop.equals_batch()


@pytest.mark.slow
def test_damaged_parquet_is_refused_alone(shop: Shop) -> None:
    names = HEADER.split(",")
    for day in (1, 2, 3):
        lines = [line.split(",") for line in sales(day) if line.count(",") == 7]
        table = pa.table([list(column) for column in zip(*lines, strict=True)], names=names)
        pq.write_table(table, shop.landing / f"{day}.parquet", compression="snappy")
    damaged = shop.landing / "2.parquet"
    column = pq.read_metadata(damaged).row_group(0).column(1)
    first = column.dictionary_page_offset
    data = bytearray(damaged.read_bytes())
    # Its footer is sound.
    data[first : first + column.total_compressed_size] = b"?" * column.total_compressed_size
    damaged.write_bytes(data)
    half = shop.landing / "4.parquet"
    half.write_bytes((shop.landing / "3.parquet").read_bytes()[:-100])
    shop.stream(PATIENT)
    assert [*shop.told["refused"]] == ["2.parquet"]
    assert shop.told["waiting"] == {"4.parquet": "it has no Parquet footer"}
    shop.equals_batch("2.parquet", "4.parquet")


@pytest.mark.slow
def test_rows_that_were_taken_and_not_published_are_published_by_the_next_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.days(1)
    shop.stream()
    shop.days(2)

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(following, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.stream()
    shop.stream()
    shop.equals_batch()
    # With nothing new the tables are left alone.
    before = (shop.output / "interactions").stat().st_ino
    shop.stream()
    assert (shop.output / "interactions").stat().st_ino == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_told_to_end_right_before_a_micro_batch_a_stream_ends_well(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are left to the next run."""

    usual = signal.getsignal(signal.SIGTERM)

    def end(stream: following.Stream) -> None:
        shop.days(2)
        os.kill(os.getpid(), signal.SIGTERM)
        while signal.getsignal(signal.SIGTERM) != usual:  # nobody has heard it yet
            time.sleep(0.01)

    monkeypatch.setattr(following, "TICK", 60)
    options = StreamOptions(trigger="1 second", patience=AT_ONCE)
    shop.days(1)
    landing, output = str(shop.landing), shop.output
    stream = following.follow(shop.spark, landing, output, MAPPING, options, end)
    assert [*stream.state.taken] == ["2024-01-01.csv"]
    shop.stream()
    shop.equals_batch()


@pytest.mark.slow
def test_a_first_file_that_is_refused_binds_nobody(shop: Shop) -> None:
    shop.put("2024-01-01.csv", ["1,2"], header="a,b")
    stream = shop.stream()
    assert stream.tables is None
    assert not shop.output.exists()
    assert "has no column" in stream.state.others["2024-01-01.csv"].reason
    shop.days(1, 2)
    shop.stream()
    shop.equals_batch()


def test_stack_traces_stay_off_the_terminal_until_the_last_who_asked_is_done(
    spark: SparkSession,
) -> None:
    def level() -> str:
        jvm: Any = spark._jvm
        logger = jvm.org.apache.logging.log4j.LogManager.getRootLogger()
        return str(logger.getLevel().toString())

    before = level()
    with quiet(spark):
        with reading(spark, Files("till", (), "csv", ())):
            assert level() == "OFF"
        assert level() == "OFF"
    assert level() == before != "OFF"


@pytest.mark.slow
def test_the_query_does_not_read_contents(shop: Shop) -> None:
    """Spark itself would refuse to: more than a byte is too much for it here."""
    shop.days(1)
    shop.spark.conf.set("spark.sql.sources.binaryFile.maxLength", "1")
    try:
        stream = shop.stream()
    finally:
        shop.spark.conf.unset("spark.sql.sources.binaryFile.maxLength")
    assert [*stream.state.taken] == ["2024-01-01.csv"]
