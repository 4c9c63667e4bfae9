"""Item-item from packed history to scores, against dense formulas."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.kernels.blocks import Blocks, pack
from recsys.kernels.similarity import Similarity
from recsys.models import arrays, item_item
from recsys.models.item_item import (
    ItemItem,
    ItemItemParameters,
    ItemItemScorer,
    similarity_matrix,
)
from tests.oracles import similarities as oracle
from tests.recsys.builders import Event, history_of, pack_events

CUSTOMERS, GUESTS, ITEMS, CUT, HALF_LIFE = 12, 5, 9, 60, 30.0


def drawn_events() -> list[Event]:
    random = np.random.default_rng(3)
    draws = random.integers(0, [CUSTOMERS + GUESTS, ITEMS, CUT + 5], (90, 3))
    return sorted({(int(r), int(i), int(d)) for r, i, d in draws})


def dense() -> NDArray[np.float64]:
    """Weigh customers' and guests' purchases before the cut by their age."""
    matrix = np.zeros((CUSTOMERS + GUESTS, ITEMS))
    for row, item, day in drawn_events():
        if day < CUT:
            matrix[row, item] += 0.5 ** ((CUT - day) / HALF_LIFE)
    return matrix


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("item_item") / "history"
    return history_of(folder, drawn_events(), CUSTOMERS, ITEMS, CUT, GUESTS)


@pytest.mark.parametrize("name", get_args(Similarity))
def test_neighbours_equal_the_formula_over_customers_and_guests(
    spark: SparkSession, history: History, tmp_path: Path, name: Similarity
) -> None:
    parameters = ItemItemParameters(
        similarity=name, neighbours=4, shrink=0.5, half_life_days=HALF_LIFE
    )
    ItemItem(parameters).fit(spark, history, tmp_path)
    found = arrays.read_all(tmp_path)
    assert sorted(found) == ["neighbours", "similarities"]
    expected = oracle.similarity(dense(), name, 0.5)
    for item in range(ITEMS):
        best = oracle.strongest(expected, item, 4)
        kept = found["neighbours"][item]
        kept = kept[kept >= 0]
        values = found["similarities"][item][: len(kept)]
        assert len(kept) == len(best)
        np.testing.assert_allclose(values, expected[item, best], rtol=1e-4)
        np.testing.assert_allclose(values, expected[item, kept], rtol=1e-4)


def test_a_guests_basket_makes_neighbours(spark: SparkSession, tmp_path: Path) -> None:
    events = [(0, 0, 1), (1, 1, 1), (2, 2, 1), (2, 3, 1)]
    history = history_of(tmp_path / "history", events, 2, 4, CUT, guests=1)
    (tmp_path / "fitted").mkdir()
    ItemItem(ItemItemParameters(neighbours=1, shrink=0)).fit(spark, history, tmp_path / "fitted")
    assert arrays.read(tmp_path / "fitted", "neighbours").tolist() == [[-1], [-1], [3], [2]]


@pytest.mark.parametrize("name", ["cosine", "bm25"])
def test_blocks_of_customers_and_ranges_of_items_do_not_matter(
    spark: SparkSession,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: Similarity,
) -> None:
    fitted = set()
    for blocks, tasks in ((1, 1), (2, 4), (4, 2), (17, 9)):
        size = -(-(CUSTOMERS + GUESTS) // blocks)
        folder = tmp_path / str(blocks)
        packed = pack_events(folder / "blocks", drawn_events(), CUSTOMERS + GUESTS, size)
        monkeypatch.setattr(item_item, "most_tasks", lambda _, tasks=tasks: tasks)
        parameters = ItemItemParameters(similarity=name, neighbours=4, half_life_days=HALF_LIFE)
        ItemItem(parameters).fit(spark, replace(history, customer_blocks=packed), folder)
        fitted.add(tuple(array.tobytes() for _, array in sorted(arrays.read_all(folder).items())))
    assert len(fitted) == 1


def test_a_heavy_customer_counts_with_the_newest_items(spark: SparkSession, tmp_path: Path) -> None:
    items = 3_000
    heavy = [(0, item, item % 50) for item in range(items)]
    history = history_of(tmp_path / "history", [*heavy, (1, 0, 1), (1, 1, 1)], 2, items, CUT)
    for most, expected in ((60, range(49, items, 50)), (None, range(items))):
        folder = tmp_path / str(most)
        folder.mkdir()
        parameters = ItemItemParameters(similarity="jaccard", neighbours=2, max_items=most)
        ItemItem(parameters).fit(spark, history, folder)
        found = arrays.read(folder, "neighbours")
        # The two items of the light customer are neighbours of each other in any case.
        assert sorted({0, 1} | set(expected)) == np.flatnonzero(found[:, 0] >= 0).tolist()


def test_quantities_that_are_no_numbers_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    history = history_of(tmp_path / "history", [(0, 0, 1), (0, 1, 1)], 1, 2, CUT)
    packed = tmp_path / "blocks"
    packed.mkdir()
    lines = {"row": [0, 0], "column": [0, 1], "day": [1, 1]}
    amounts = {"quantity": [1.0, np.nan], "revenue": [1.0, 1.0]}
    events = pack(str(packed), 0, 0, 1, pa.table(lines | amounts))
    history = replace(history, customer_blocks=Blocks(str(packed), 1, 1, (events,)))
    parameters = ItemItemParameters(similarity="cosine", quantity_power=1)
    with pytest.raises(ModelError, match="1 items have a purchase whose weight is no finite"):
        ItemItem(parameters).fit(spark, history, tmp_path)


def test_ranges_share_the_cost_and_cover_every_item_once() -> None:
    assert item_item.ranges(np.ones(10), 3) == [(0, 3), (3, 7), (7, 10)]
    assert item_item.ranges(np.array([90.0, 1, 1, 1, 1]), 4) == [(0, 1), (1, 5)]
    assert item_item.ranges(np.ones(2), 8) == [(0, 1), (1, 2)]
    assert item_item.ranges(np.zeros(0), 3) == []


SIMILARITY = similarity_matrix(
    np.array([[1, 2], [0, -1], [0, -1]], dtype=np.int32),
    np.array([[0.5, 0.25], [0.5, 0], [0.25, 0]], dtype=np.float32),
)


def score(weights: list[list[float]]) -> list[list[float]]:
    matrix = sp.csr_matrix(np.array(weights, dtype=np.float32))
    found = ItemItemScorer(SIMILARITY).personal(np.arange(len(weights)), matrix)
    assert found.dtype == np.float32
    result: list[list[float]] = found.tolist()
    return result


def test_scores_by_hand() -> None:
    # Weights 1 and 2 on items 0 and 1: item 0 gets 2 · ½, item 1 gets 1 · ½, item 2 gets ¼;
    # divided by the strongest, 1.
    assert score([[1, 2, 0]]) == [[1, 0.5, 0.25]]


def test_heavy_and_light_buyers_of_the_same_score_alike() -> None:
    light, heavy = score([[0.5, 0, 0], [8, 0, 0]])
    assert light == heavy == [-np.inf, 1, 0.5]


def test_who_bought_nothing_gets_nothing() -> None:
    assert score([[0, 0, 0], [0, 1, 0]]) == [[-np.inf] * 3, [1, -np.inf, -np.inf]]


def test_purchases_that_weigh_nothing_any_more_count_as_none() -> None:
    faded = sp.csr_matrix((np.zeros(1, dtype=np.float32), [0], [0, 1]), shape=(1, 3))
    assert ItemItemScorer(SIMILARITY).personal(np.arange(1), faded).tolist() == [[-np.inf] * 3]
