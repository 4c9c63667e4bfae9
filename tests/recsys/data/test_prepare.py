"""Preparing a dataset: what lies in which window, and who is known when."""

import json
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import WINDOWS, Dataset, load_dataset
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.errors import DataError
from tests.recsys.builders import (
    DAYS,
    FIRST_DAY,
    TEST_CUT,
    VALIDATION_CUT,
    Line,
    write_interactions,
)

ONE_EACH = Split(test_days=1, validation_days=1)


def window_of(day: int) -> str:
    return WINDOWS[(day >= VALIDATION_CUT) + (day >= TEST_CUT)]


def prepared(
    spark: SparkSession, tmp_path: Path, lines: list[Line], split: Split = ONE_EACH
) -> Dataset:
    table = write_interactions(tmp_path / "lines", lines)
    return prepare(spark, read_tables(spark, table), tmp_path / "dataset", split)


def ids(dataset: Dataset, name: str) -> list[str]:
    found: list[str] = pq.read_table(dataset.path / name)[f"{name[:-1]}_id"].to_pylist()
    return found


def test_every_line_lies_in_exactly_its_window(
    dataset: Dataset, retailer_lines: list[Line]
) -> None:
    for window in WINDOWS:
        table = pq.read_table(dataset.path / window)
        expected = [line for line in retailer_lines if window_of(line.day) == window]
        assert len(table) == len(expected) == dataset.facts[f"{window}_rows"]
        found = zip(*(table[n].to_pylist() for n in ("item_id", "day", "quantity")), strict=True)
        assert sorted(found) == sorted((e.item, e.day, e.quantity) for e in expected)


def test_no_window_reaches_into_the_next(dataset: Dataset) -> None:
    instant = pa.timestamp("us", tz="UTC")
    times = {
        window: pq.read_table(dataset.path / window)["timestamp"].cast(instant).to_pylist()
        for window in WINDOWS
    }
    cuts = [datetime.fromisoformat(dataset.facts[f"{w}_cut"]) for w in ("validation", "test")]
    assert max(times["train"]) < cuts[0] <= min(times["validation"])
    assert max(times["validation"]) < cuts[1] <= min(times["test"])
    assert max(times["test"]) < datetime.fromisoformat(dataset.facts["end"])
    assert cuts[1] == datetime(2024, 3, 27, tzinfo=UTC)


@pytest.mark.parametrize("name", ["items", "customers"])
def test_ids_are_numbered_by_window_and_then_by_id(
    dataset: Dataset, retailer_lines: list[Line], name: str
) -> None:
    first: dict[str, int] = {}
    for line in retailer_lines:
        key = line.item if name == "items" else line.customer
        if key is not None:
            first[key] = min(first.get(key, line.day), line.day)
    windows = [sorted(k for k, day in first.items() if window_of(day) == w) for w in WINDOWS]
    assert ids(dataset, name) == windows[0] + windows[1]
    assert (
        dataset.facts[f"train_{name}"]
        == len(windows[0])
        == getattr(dataset.validation.history, name)
    )
    assert (
        dataset.facts[f"validation_{name}"]
        == len(windows[0] + windows[1])
        == getattr(dataset.test.history, name)
    )
    assert windows[1]
    assert windows[2]


def test_blocks_hold_each_customers_lines(dataset: Dataset, retailer_lines: list[Line]) -> None:
    customers, items = ids(dataset, "customers"), ids(dataset, "items")
    expected: dict[tuple[int, int, int], float] = defaultdict(float)
    for line in retailer_lines:
        if line.day < TEST_CUT and line.customer is not None:
            key = (customers.index(line.customer), items.index(line.item), line.day)
            expected[key] += line.quantity
    history = dataset.test.history
    found, turned = {}, {}
    for block in history.customer_blocks:
        row = block.start + np.repeat(np.arange(block.rows), np.diff(block.indptr))
        cells = zip(row.tolist(), block.columns.tolist(), block.days.tolist(), strict=True)
        found |= dict(zip(cells, block.quantities.tolist(), strict=True))
    for block in history.item_blocks:
        row = block.start + np.repeat(np.arange(block.rows), np.diff(block.indptr))
        cells = zip(block.columns.tolist(), row.tolist(), block.days.tolist(), strict=True)
        turned |= dict(zip(cells, block.quantities.tolist(), strict=True))
    assert {k: v for k, v in found.items() if k[0] < history.customers} == expected
    assert turned == found


def test_guests_are_rows_behind_the_customers_and_never_a_customer(
    dataset: Dataset, retailer_lines: list[Line]
) -> None:
    history = dataset.test.history
    guests = [line for line in retailer_lines if line.customer is None and line.day < TEST_CUT]
    baskets = {line.basket for line in guests}
    assert history.customer_blocks.rows == history.customers + len(baskets)
    assert history.all_customers == history.customers == len(ids(dataset, "customers"))
    units = sum(
        float(b.quantities[b.indptr[max(0, min(b.rows, history.customers - b.start))] :].sum())
        for b in history.customer_blocks
    )
    assert units == sum(line.quantity for line in guests)
    assert dataset.validation.truth.rows == dataset.test.truth.rows == history.customers


def test_truth_is_what_known_customers_bought_in_the_window(
    dataset: Dataset, retailer_lines: list[Line]
) -> None:
    customers = ids(dataset, "customers")
    for fold in (dataset.validation, dataset.test):
        units = sum(float(block.quantities.sum()) for block in fold.truth)
        expected = [
            line.quantity
            for line in retailer_lines
            if window_of(line.day) == fold.name and line.customer in customers
        ]
        assert units == sum(expected)


@pytest.fixture(scope="module")
def worked(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three days, one a window; the ids 007 and 7 are two customers, 01 and 1 two items."""
    lines = [
        Line("007", "01", 10),
        Line("7", "1", 10),
        Line(None, "3", 10, basket="g"),
        Line("007", "1", 11),
        Line("c", "4", 11),
        Line("007", "01", 12),
        Line("c", "5", 12),
        Line("d", "5", 12),
        Line("e", "01", 12),
    ]
    return prepared(spark, tmp_path_factory.mktemp("worked"), lines)


def test_the_facts_of_a_worked_example(worked: Dataset) -> None:
    facts = worked.facts
    days = ("first_day", "validation_cut_day", "test_cut_day", "end_day")
    assert [facts[name] for name in days] == [10, 11, 12, 13]
    assert [facts[f"{w}_rows"] for w in WINDOWS] == [3, 2, 4]
    assert [facts[f"{w}_guest_rows"] for w in WINDOWS] == [1, 0, 0]
    assert (facts["train_customers"], facts["validation_customers"]) == (2, 3)
    assert (facts["train_items"], facts["validation_items"]) == (3, 4)
    assert (facts["validation_known_customers"], facts["test_known_customers"]) == (1, 2)
    assert facts["validation_cold_customer_share"] == 0.5  # c, of 007 and c
    assert facts["test_cold_customer_share"] == 0.5  # d and e, of four
    assert facts["validation_cold_item_share"] == 0.5  # one row of item 4, of two rows
    assert facts["test_cold_item_share"] == 0.5  # two rows of item 5, of four rows
    assert facts["density"] == round(4 / (3 * 4), 6)  # four pairs before the test cut
    assert facts["validation_cut"] == "1970-01-12T00:00:00+00:00"


def test_leading_zeros_survive(worked: Dataset) -> None:
    assert ids(worked, "customers") == ["007", "7", "c"]
    assert ids(worked, "items") == ["01", "1", "3", "4"]
    tests = pq.read_table(worked.path / "test")
    assert sorted(tests["customer_id"].to_pylist()) == ["007", "c", "d", "e"]
    # In the test window 007 bought one thing, 7 nothing, and c one thing.
    assert [int(n) for block in worked.test.truth for n in np.diff(block.indptr)] == [1, 0, 1]


def test_a_missing_window_length_is_named(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="span 2 days.*lower validation_days and test_days"):
        prepared(spark, tmp_path, [Line("a", "1", 1), Line("a", "1", 2)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines"]


def test_no_interactions(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no interactions: run ingest"):
        prepared(spark, tmp_path, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines"]


def test_an_empty_window_leaves_nothing_behind(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The validation window holds no interactions"):
        prepared(spark, tmp_path, [Line("a", "1", 1), Line("a", "1", 3)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines"]


def test_nobody_to_judge_by_leaves_the_older_dataset(spark: SparkSession, tmp_path: Path) -> None:
    older = tmp_path / "dataset"
    older.mkdir()
    (older / "dataset.json").write_text("the older dataset")
    lines = [Line("a", "1", 1), Line("a", "1", 2), Line("b", "1", 3), Line(None, "1", 3)]
    with pytest.raises(DataError, match="No customer of the test window was known before it"):
        prepared(spark, tmp_path, lines)
    assert (older / "dataset.json").read_text() == "the older dataset"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "lines"]


def test_an_output_with_other_files_is_left_alone(
    spark: SparkSession, interactions_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds files that are no dataset: choose another output"):
        prepare(spark, read_tables(spark, interactions_path), tmp_path, ONE_EACH)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_output_that_is_a_file_is_left_alone(
    spark: SparkSession, interactions_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="choose another output"):
        prepare(spark, read_tables(spark, interactions_path), tmp_path / "thesis.txt", ONE_EACH)


def test_an_item_that_is_described_twice_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    lines = [Line("a", item, day) for day in (1, 2, 3) for item in ("1", "2")]
    table = write_interactions(tmp_path / "retailer" / "interactions", lines)
    (table.parent / "items").mkdir()
    twice = {"item_id": ["1", "1", "2"], "description": ["one", "uno", "two"]}
    spark.createDataFrame(list(zip(*twice.values(), strict=True)), list(twice)).write.mode(
        "overwrite"
    ).parquet(str(table.parent / "items"))
    with pytest.raises(DataError, match="The table items has an id more than once"):
        prepare(spark, read_tables(spark, table.parent), tmp_path / "dataset", ONE_EACH)


def test_a_dataset_can_be_replaced(spark: SparkSession, worked: Dataset, tmp_path: Path) -> None:
    shutil.copytree(worked.path, tmp_path / "dataset")
    replaced = prepared(spark, tmp_path, [Line("a", "1", day) for day in (1, 2, 3)])
    assert replaced.facts["test_rows"] == 1
    assert replaced.digest != worked.digest
    assert load_dataset(tmp_path / "dataset").digest == replaced.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "lines"]


def test_loading_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a dataset .*the folder that `prepare` wrote"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": 1, "digest": "x"}))
    with pytest.raises(DataError, match="is not a dataset"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="another format: run prepare again"):
        load_dataset(tmp_path)


def test_the_retailer_has_what_the_tests_need(dataset: Dataset) -> None:
    facts = dataset.facts
    assert facts["end_day"] == FIRST_DAY + DAYS
    assert facts["train_guest_rows"] > 0
    assert facts["test_cold_customer_share"] > 0
    assert facts["test_cold_item_share"] > 0
    assert facts["validation_items"] > facts["train_items"] >= 20
