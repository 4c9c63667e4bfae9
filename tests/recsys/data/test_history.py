"""The newest interactions, packed with a model's ids; and all of them, with ids of their own."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset
from recsys.data.history import CompleteHistory, NewestHistory, pack_complete, pack_newest
from recsys.data.tables import read_tables
from recsys.errors import DataError, ModelError
from recsys.kernels.blocks import Blocks
from tests.recsys.builders import DAYS, FIRST_DAY, Line, write_interactions


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ids as a saved model holds them: customers 20, 10, 30 and items B, A."""
    folder = tmp_path_factory.mktemp("model")
    customers = {"customer": pa.array([0, 1, 2], pa.int32()), "customer_id": ["20", "10", "30"]}
    items = {"item": pa.array([0, 1], pa.int32()), "item_id": ["B", "A"]}
    pq.write_table(pa.table(customers), folder / "customers.parquet")
    pq.write_table(pa.table(items), folder / "items.parquet")
    return folder


def newest(spark: SparkSession, model: Path, folder: Path, lines: list[Line]) -> NewestHistory:
    table = write_interactions(folder / "lines", lines)
    return pack_newest(
        spark,
        read_tables(spark, table),
        model / "items.parquet",
        model / "customers.parquet",
        3,
        folder,
    )


@pytest.fixture(scope="module")
def packed(
    spark: SparkSession, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> NewestHistory:
    lines = [
        Line("10", "A", 5),
        Line("05", "B", 6),
        Line("20", "new", 9),
        Line("20", "B", 7, 2.0),
        Line(None, "A", 8, basket="g"),
    ]
    return newest(spark, model, tmp_path_factory.mktemp("newest"), lines)


def test_customers_are_numbered_by_id_and_know_their_row_in_the_fit(packed: NewestHistory) -> None:
    table = pq.read_table(Path(packed.history.tables) / "customers")
    assert table["customer_id"].to_pylist() == ["05", "10", "20"]
    assert table["customer"].to_pylist() == [0, 1, 2]
    # 05 is new: it gets the row behind the fit's three.
    assert np.load(packed.fit_rows).tolist() == [3, 1, 0]
    assert packed.new_customers == 1


def test_columns_are_the_models_items_and_guests_come_last(packed: NewestHistory) -> None:
    history = packed.history
    assert (history.customers, history.items, history.before) == (3, 2, 10)
    dense = np.concatenate(
        [block.matrix(block.quantities, 2).toarray() for block in history.customer_blocks]
    )
    # Columns B, A; rows 05, 10, 20 and the guest's basket.
    assert dense.tolist() == [[1, 0], [0, 1], [2, 0], [0, 1]]
    turned = np.concatenate(
        [block.matrix(block.quantities, 4).toarray() for block in history.item_blocks]
    )
    assert turned.tolist() == dense.T.tolist()


def test_items_that_the_model_does_not_know_only_lower_the_share(packed: NewestHistory) -> None:
    assert packed.known_share == 4 / 5


def test_the_tables_of_ids_are_the_models(packed: NewestHistory) -> None:
    table = pq.read_table(Path(packed.history.tables) / "items")
    assert table["item_id"].to_pylist() == ["B", "A"]


def test_interactions_of_another_retailer_are_refused(
    spark: SparkSession, model: Path, tmp_path: Path
) -> None:
    lines = [Line("10", "A", 5), Line("10", "X", 5), Line("10", "Y", 6)]
    with pytest.raises(ModelError, match="knows only 33% .*trained on other data"):
        newest(spark, model, tmp_path, lines)


def test_no_interactions_are_refused(spark: SparkSession, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="knows only 0%"):
        newest(spark, model, tmp_path, [])


def test_guests_alone_can_be_packed(spark: SparkSession, model: Path, tmp_path: Path) -> None:
    lines = [Line(None, item, 8, basket=basket) for item, basket in (("A", "h"), ("B", "g"))]
    lines += [Line(None, "new", 8, basket="a")]
    history = newest(spark, model, tmp_path, lines).history
    assert (history.customers, history.customer_blocks.rows, history.before) == (0, 2, 9)
    # A basket of nothing that the model knows has no row.
    dense = [block.matrix(block.quantities, 2).toarray() for block in history.customer_blocks]
    assert np.concatenate(dense).tolist() == [[1, 0], [0, 1]]


LINES = [
    Line("20", "B", 5, 3.0),
    Line("20", "B", 5, 2.0),
    Line("10", "A", 6),
    Line("10", "B", 9),
    Line(None, "C", 8, basket="g"),
]


def dense(blocks: Blocks, width: int) -> list[list[float]]:
    matrices = [block.matrix(block.quantities, width).toarray() for block in blocks]
    return [[float(value) for value in row] for matrix in matrices for row in matrix]


def complete(spark: SparkSession, folder: Path, lines: list[Line]) -> CompleteHistory:
    folder.mkdir()
    table = write_interactions(folder / "lines", lines)
    return pack_complete(spark, read_tables(spark, table), folder)


def test_a_complete_history_holds_everything_up_to_the_last_day(
    spark: SparkSession, tmp_path: Path
) -> None:
    history = complete(spark, tmp_path / "all", LINES).history
    assert (history.customers, history.items, history.before) == (2, 3, 10)
    # Rows 10, 20 and the guest's basket; columns A, B, C.
    assert dense(history.customer_blocks, 3) == [[1, 1, 0], [0, 5, 0], [0, 0, 1]]
    assert dense(history.item_blocks, 3) == [[1, 0, 0], [1, 5, 0], [0, 0, 1]]
    assert pq.read_table(Path(history.tables) / "items")["item_id"].to_pylist() == ["A", "B", "C"]


def test_a_complete_history_is_what_a_fold_cut_behind_it_would_be(
    spark: SparkSession, dataset: Dataset, interactions_path: Path, tmp_path: Path
) -> None:
    history = pack_complete(spark, read_tables(spark, interactions_path), tmp_path).history
    before = dataset.test.history
    assert history.before == FIRST_DAY + DAYS > before.before
    assert (history.customers, history.items) == (before.customers + 3, before.items + 1)
    rows = sum(dataset.facts[f"{window}_rows"] for window in ("train", "validation", "test"))
    assert rows == read_tables(spark, interactions_path).interactions.count()
    units = sum(float(block.quantities.sum()) for block in history.customer_blocks)
    assert units == sum(float(block.quantities.sum()) for block in history.item_blocks)


def test_the_digest_of_a_complete_history_tells_contents_apart_and_not_their_order(
    spark: SparkSession, tmp_path: Path
) -> None:
    first = complete(spark, tmp_path / "first", LINES).digest
    assert complete(spark, tmp_path / "again", LINES[::-1]).digest == first
    assert complete(spark, tmp_path / "other", [*LINES, Line("20", "A", 9)]).digest != first


def test_an_id_that_is_listed_twice_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    table = write_interactions(tmp_path / "interactions", LINES)
    (tmp_path / "items").mkdir()
    twice = pa.table({"item_id": ["A", "A"], "description": ["x", "y"], "category": ["c", "d"]})
    pq.write_table(twice, tmp_path / "items" / "part-0.parquet")
    with pytest.raises(DataError, match="items has an id more than once"):
        pack_complete(spark, read_tables(spark, table), tmp_path / "all")


def test_nothing_at_all_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no interactions"):
        complete(spark, tmp_path / "all", [])
