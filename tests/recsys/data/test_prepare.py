"""Preparing a dataset: what lies in which window, and who is known when."""

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import FORMAT, Dataset, load_dataset, window_names
from recsys.data.prepare import Split, prepare
from recsys.data.tables import read_tables
from recsys.errors import DataError, UsageError
from tests.recsys.builders import (
    CUTS,
    DAYS,
    FIRST_DAY,
    ROLLING_CUTS,
    TEST_CUT,
    Line,
    folds,
    write_interactions,
)

ONE_EACH = Split(test_days=1, validation_days=1)
WINDOWS = window_names(1)


@dataclass(frozen=True)
class Prepared:
    """A dataset, and what it was made from."""

    dataset: Dataset
    lines: list[Line]
    cuts: dict[str, int]

    @property
    def windows(self) -> tuple[str, ...]:
        return ("train", *self.cuts)

    def window_of(self, day: int) -> str:
        return self.windows[sum(day >= cut for cut in self.cuts.values())]


@pytest.fixture(params=["one test window", "three test windows"])
def case(request: pytest.FixtureRequest) -> Prepared:
    names, cuts = ("dataset", "retailer_lines"), CUTS
    if request.param == "three test windows":
        names, cuts = ("rolling", "rolling_lines"), ROLLING_CUTS
    return Prepared(*map(request.getfixturevalue, names), cuts)


def prepared(
    spark: SparkSession, tmp_path: Path, lines: list[Line], split: Split = ONE_EACH
) -> Dataset:
    table = write_interactions(tmp_path / "lines", lines)
    return prepare(spark, read_tables(spark, table), tmp_path / "dataset", split)


def ids(dataset: Dataset, name: str) -> list[str]:
    found: list[str] = pq.read_table(dataset.path / name)[f"{name[:-1]}_id"].to_pylist()
    return found


def test_window_names_in_the_order_of_time() -> None:
    assert window_names(1) == ("train", "validation", "test")
    assert window_names(3) == ("train", "validation", "test_3", "test_2", "test")


def test_every_line_lies_in_exactly_its_window(case: Prepared) -> None:
    for window in case.windows:
        table = pq.read_table(case.dataset.path / window)
        expected = [line for line in case.lines if case.window_of(line.day) == window]
        assert len(table) == len(expected) == case.dataset.facts[f"{window}_rows"]
        found = zip(*(table[n].to_pylist() for n in ("item_id", "day", "quantity")), strict=True)
        assert sorted(found) == sorted((e.item, e.day, e.quantity) for e in expected)
    assert sum(case.dataset.facts[f"{w}_rows"] for w in case.windows) == len(case.lines)


def test_no_window_reaches_into_the_next(case: Prepared) -> None:
    instant = pa.timestamp("us", tz="UTC")
    facts = case.dataset.facts
    last = None
    for window, cut in zip(case.windows, [None, *case.cuts], strict=True):
        times = pq.read_table(case.dataset.path / window)["timestamp"].cast(instant).to_pylist()
        if cut:
            first = datetime.fromisoformat(facts[f"{cut}_cut"])
            assert last < first <= min(times)
            assert facts[f"{cut}_cut_day"] == case.cuts[cut]
        last = max(times)
    assert last < datetime.fromisoformat(facts["end"])
    assert facts["test_cut"] == datetime(2024, 3, 27, tzinfo=UTC).isoformat()


@pytest.mark.parametrize("name", ["items", "customers"])
def test_what_a_fit_may_know_is_a_prefix_of_the_index(case: Prepared, name: str) -> None:
    first: dict[str, int] = {}
    for line in case.lines:
        key = line.item if name == "items" else line.customer
        if key is not None:
            first[key] = min(first.get(key, line.day), line.day)
    by_window = [
        sorted(key for key, day in first.items() if case.window_of(day) == window)
        for window in case.windows
    ]
    assert all(by_window)
    assert ids(case.dataset, name) == [key for new in by_window[:-1] for key in new]
    known = list(accumulate(len(new) for new in by_window[:-1]))
    assert [case.dataset.facts[f"{window}_{name}"] for window in case.windows[:-1]] == known
    assert [getattr(fold.history, name) for fold in folds(case.dataset).values()] == known
    for fold, count in zip(folds(case.dataset).values(), known, strict=True):
        assert count == sum(day < fold.history.before for day in first.values())


def test_blocks_hold_each_customers_lines(case: Prepared) -> None:
    customers, items = ids(case.dataset, "customers"), ids(case.dataset, "items")
    expected: dict[tuple[int, int, int], float] = defaultdict(float)
    for line in case.lines:
        if line.day < TEST_CUT and line.customer is not None:
            key = (customers.index(line.customer), items.index(line.item), line.day)
            expected[key] += line.quantity
    history = case.dataset.test.history
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


def test_guests_are_rows_behind_the_customers_and_never_a_customer(case: Prepared) -> None:
    history = case.dataset.test.history
    guests = [line for line in case.lines if line.customer is None and line.day < TEST_CUT]
    baskets = {line.basket for line in guests}
    assert history.customer_blocks.rows == history.customers + len(baskets)
    assert history.all_customers == history.customers == len(ids(case.dataset, "customers"))
    units = sum(
        float(b.quantities[b.indptr[max(0, min(b.rows, history.customers - b.start))] :].sum())
        for b in history.customer_blocks
    )
    assert units == sum(line.quantity for line in guests)
    for fold in folds(case.dataset).values():
        assert fold.truth.rows == history.customers
        assert fold.truth.size == fold.history.customer_blocks.size
        assert fold.history.all_customers == history.customers


def test_a_guests_rows_name_the_row_of_their_basket(case: Prepared) -> None:
    history = case.dataset.test.history
    baskets = {line.basket for line in case.lines if not line.customer and line.day < TEST_CUT}
    rows = {basket: history.customers + n for n, basket in enumerate(sorted(baskets))}
    for window in case.windows:
        columns = ["customer_id", "basket_id", "guest"]
        found = pq.read_table(case.dataset.path / window, columns=columns).to_pylist()
        for row in found:
            guest = row["customer_id"] is None and window != "test"
            assert row["guest"] == (rows[row["basket_id"]] if guest else None)


def test_truth_is_what_customers_known_at_the_cut_bought_in_the_window(case: Prepared) -> None:
    customers, items = ids(case.dataset, "customers"), ids(case.dataset, "items")
    for fold in folds(case.dataset).values():
        history = fold.history
        known = {line.customer for line in case.lines if line.day < history.before} - {None}
        expected: dict[str, set[str]] = defaultdict(set)
        for line in case.lines:
            if case.window_of(line.day) == fold.name and line.customer in known:
                expected[str(line.customer)].add(line.item)
        found = {}
        for number in fold.truth.covering(history.customers):
            truth = fold.truth.read(number).take(history.customers)
            for row, bought in enumerate(np.split(truth.columns, truth.indptr[1:-1])):
                # An item of the test window has a number behind the table's last.
                named = {items[item] if item < len(items) else "new" for item in bought}
                if named:
                    found[customers[truth.start + row]] = named
        assert found == {
            customer: {item if item in items else "new" for item in bought}
            for customer, bought in expected.items()
        }
        assert case.dataset.facts[f"{fold.name}_known_customers"] == len(found)


def test_there_is_a_fold_for_each_window(dataset: Dataset, rolling: Dataset) -> None:
    assert dataset.earlier == ()
    assert [fold.name for fold in rolling.earlier] == ["test_2", "test_3"]
    assert list(folds(rolling)) == ["validation", "test_3", "test_2", "test"]
    cuts = [fold.history.before for fold in folds(rolling).values()]
    assert cuts == list(ROLLING_CUTS.values())


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


def test_the_names_of_the_facts_with_one_test_window(worked: Dataset) -> None:
    counts = {f"{w}_{n}" for w in WINDOWS for n in ("rows", "guest_rows", "known_customers")}
    known = {f"{w}_{n}" for w in ("train", "validation") for n in ("customers", "items")}
    ends = ("cut", "cut_day", "cold_customer_share", "cold_item_share")
    judging = {f"{w}_{n}" for w in ("validation", "test") for n in ends}
    assert set(worked.facts) == counts | known | judging | {
        "first_day",
        "end_day",
        "end",
        "density",
    }


def test_the_facts_of_a_worked_example_with_two_test_windows(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = [
        Line("a", "1", 10),
        Line("a", "2", 11),
        Line("a", "1", 12),
        Line("b", "3", 12),
        Line("a", "3", 13),
        Line("b", "4", 13),
        Line("c", "1", 13),
    ]
    two = prepared(spark, tmp_path / "two", lines, Split(test_days=1, validation_days=1, windows=2))
    facts = two.facts
    assert [facts[f"{w}_cut_day"] for w in ("validation", "test_2", "test")] == [11, 12, 13]
    assert [facts[f"{w}_rows"] for w in window_names(2)] == [1, 1, 2, 3]
    assert [facts[f"{w}_customers"] for w in ("train", "validation", "test_2")] == [1, 1, 2]
    assert [facts[f"{w}_items"] for w in ("train", "validation", "test_2")] == [1, 2, 3]
    assert [facts[f"{w}_known_customers"] for w in ("validation", "test_2", "test")] == [1, 1, 2]
    assert facts["test_2_cold_customer_share"] == 0.5  # b, of a and b
    assert facts["test_2_cold_item_share"] == 0.5  # one row of item 3, of two rows
    assert facts["density"] == round(3 / (2 * 3), 6)  # three pairs before the test cut

    one = prepared(spark, tmp_path / "one", lines)
    assert one.digest != two.digest
    alike = [n for n in facts if n.startswith("test_") and not n.startswith("test_2")]
    assert {n: one.facts[n] for n in alike} == {n: facts[n] for n in alike}


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


def test_too_many_windows_are_named(spark: SparkSession, tmp_path: Path) -> None:
    lines = [Line("a", "1", day) for day in range(1, 5)]
    split = Split(test_days=1, validation_days=1, windows=3)
    with pytest.raises(
        DataError, match=r"span 4 days.*\(windows=3\).*lower windows, validation_days and test_days"
    ):
        prepared(spark, tmp_path, lines, split)
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
    with pytest.raises(
        UsageError, match=r"holds something else .*no dataset\.json.*choose another output"
    ):
        prepare(spark, read_tables(spark, interactions_path), tmp_path, ONE_EACH)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_output_that_is_a_file_is_left_alone(
    spark: SparkSession, interactions_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="choose another output"):
        prepare(spark, read_tables(spark, interactions_path), tmp_path / "thesis.txt", ONE_EACH)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


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
    (tmp_path / "dataset.json").write_text(json.dumps({"format": FORMAT, "digest": "x"}))
    with pytest.raises(DataError, match="is not a dataset"):
        load_dataset(tmp_path)
    for other in (FORMAT - 1, 99):
        (tmp_path / "dataset.json").write_text(json.dumps({"format": other}))
        with pytest.raises(DataError, match="another format: run prepare again"):
            load_dataset(tmp_path)


def test_the_retailer_has_what_the_tests_need(dataset: Dataset) -> None:
    facts = dataset.facts
    assert facts["end_day"] == FIRST_DAY + DAYS
    assert facts["train_guest_rows"] > 0
    assert facts["test_cold_customer_share"] > 0
    assert facts["test_cold_item_share"] > 0
    assert facts["validation_items"] > facts["train_items"] >= 20
