from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import data
from benchmarks.data import Size
from recsys import columns as c

SIZE = Size(customers=300, items=80, interactions=6_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("interactions")
    data.draw(SIZE, path, rows_a_shard=2_000)
    return path


def test_every_customer_is_drawn_in_one_shard_only(folder: Path) -> None:
    shards = [set(pq.read_table(file)[c.CUSTOMER_ID].to_pylist()) for file in folder.iterdir()]

    assert len(shards) == 3
    assert sum(map(len, shards)) == len(set().union(*shards)) == SIZE.customers


def test_a_basket_is_one_customers(folder: Path) -> None:
    baskets = pq.read_table(folder).group_by(c.BASKET_ID)
    owners = baskets.aggregate([(c.CUSTOMER_ID, "count_distinct"), (c.TIMESTAMP, "count_distinct")])

    assert pc.max(owners[f"{c.CUSTOMER_ID}_count_distinct"]).as_py() == 1
    assert pc.max(owners[f"{c.TIMESTAMP}_count_distinct"]).as_py() == 1


def test_rows_are_sales_and_about_as_many_as_asked_for(folder: Path) -> None:
    table = pq.read_table(folder)

    assert table.column_names == list(c.INTERACTIONS)
    assert 0.7 * SIZE.interactions < len(table) < 1.3 * SIZE.interactions
    assert pc.min(table[c.QUANTITY]).as_py() >= 1
    assert pc.min(table[c.UNIT_PRICE]).as_py() > 0


def test_the_same_data_is_drawn_once(tmp_path: Path) -> None:
    drawn = data.drawn(SIZE, tmp_path / "interactions")
    first = {file.name: file.stat().st_mtime_ns for file in drawn.iterdir()}
    data.drawn(SIZE, drawn)

    assert {file.name: file.stat().st_mtime_ns for file in drawn.iterdir()} == first
