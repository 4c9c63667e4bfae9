"""A share of the customers: their own events and truth, nobody else's, the shares kept."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import Dataset, Fold
from recsys.kernels.blocks import Blocks
from recsys.models.als import AlsParameters
from recsys.search.sample import sampled
from recsys.search.trial import FINISHED, Recipe, run_trial
from recsys.session import HERE

Events = dict[int, list[tuple[int, int, float, float]]]


def events_of(blocks: Blocks) -> Events:
    """Return row → its events."""
    found: Events = {row: [] for row in range(blocks.rows)}
    for block in blocks:
        for row in range(block.rows):
            inside = slice(block.indptr[row], block.indptr[row + 1])
            values = (block.columns, block.days, block.quantities, block.revenue)
            columns = [value[inside].tolist() for value in values]
            found[block.start + row] = list(zip(*columns, strict=True))
    return found


def ids(fold: Fold, name: str) -> list[str]:
    column = pq.read_table(Path(fold.history.tables) / f"{name}s", columns=[f"{name}_id"])
    return [str(value) for value in column[0].to_pylist()]


@pytest.fixture(scope="module")
def half(spark: SparkSession, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Fold:
    return sampled(spark, dataset.validation, 0.5, 3, tmp_path_factory.mktemp("half"))


def test_each_drawn_customer_keeps_all_that_is_theirs(dataset: Dataset, half: Fold) -> None:
    whole = dataset.validation
    drawn, known = ids(half, "customer"), ids(whole, "customer")
    assert len(drawn) == half.history.customers == round(0.5 * whole.history.customers)
    assert drawn == sorted(drawn, key=known.index)
    assert max(known.index(customer) for customer in drawn) < whole.history.customers
    for mine, theirs in (
        (half.history.customer_blocks, whole.history.customer_blocks),
        (half.truth, whole.truth),
    ):
        found, expected = events_of(mine), events_of(theirs)
        for row, customer in enumerate(drawn):
            assert found[row] == expected[known.index(customer)]
    assert ids(half, "item") == ids(whole, "item")


def test_items_meet_the_drawn_rows_alone(half: Fold) -> None:
    """The item side is the customer side, turned round."""
    turned: Events = {item: [] for item in range(half.history.item_blocks.rows)}
    for row, events in events_of(half.history.customer_blocks).items():
        for item, *rest in events:
            turned[item].append((row, *rest))  # type: ignore[arg-type]
    found = events_of(half.history.item_blocks)
    assert {item: sorted(events) for item, events in turned.items()} == {
        item: sorted(events) for item, events in found.items()
    }


def test_guests_are_drawn_too(dataset: Dataset, half: Fold) -> None:
    def guests(fold: Fold) -> int:
        return fold.history.customer_blocks.rows - fold.history.all_customers

    assert guests(half) == round(0.5 * guests(dataset.validation))


def test_light_and_heavy_buyers_keep_their_shares(dataset: Dataset, half: Fold) -> None:
    def amounts(fold: Fold) -> list[int]:
        blocks, before = fold.history.customer_blocks, fold.history.before
        lengths = [np.diff(blocks.read(n).before(before).indptr) for n in blocks.numbers]
        return sorted(np.concatenate(lengths)[: fold.history.customers].tolist())

    small, large = amounts(half), amounts(dataset.validation)
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(small, share) == pytest.approx(np.quantile(large, share), abs=3)


def test_the_draw_depends_on_the_seed_alone(
    spark: SparkSession, dataset: Dataset, half: Fold, tmp_path: Path
) -> None:
    again = sampled(HERE, dataset.validation, 0.5, 3, tmp_path / "again")
    assert ids(again, "customer") == ids(half, "customer")
    assert events_of(again.history.item_blocks) == events_of(half.history.item_blocks)
    other = sampled(spark, dataset.validation, 0.5, 4, tmp_path / "other")
    assert ids(other, "customer") != ids(half, "customer")


def test_trials_run_on_it(half: Fold) -> None:
    parameters = AlsParameters(factors=4, iterations=2)
    outcome = run_trial(HERE, Recipe(half, "als", parameters, "ndcg_at_10"))
    assert outcome.status == FINISHED, outcome.reason
    assert 0 < outcome.metrics["ndcg_at_10"] < 1
