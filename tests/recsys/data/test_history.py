"""The newest interactions, packed with a model's ids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.history import NewestHistory, pack_newest
from recsys.data.tables import read_tables
from recsys.errors import ModelError
from tests.recsys.builders import Line, write_interactions


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
