"""The trend: time-decayed purchase counts, worked by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.models.base import Hyperparameters, decay
from recsys.models.trend import FLOOR, OWN_PURCHASES, blended, scaled, trend_counts
from tests.recsys.builders import history_of, pack_events

CUT = 20
# Customers 0 and 1, a guest's basket 2; items 0 to 3. Ages from the cut: 1, 8, 8, 15, 1.
EVENTS = [(0, 0, 19), (1, 0, 12), (2, 1, 12), (0, 2, 5), (1, 2, 19), (1, 3, 20), (0, 0, 25)]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return history_of(tmp_path_factory.mktemp("trend") / "h", EVENTS, 2, 4, CUT, guests=1)


def test_purchases_count_half_a_half_life_ago(spark: SparkSession, history: History) -> None:
    counts = trend_counts(spark, history, 7.0)
    week = 0.5 ** (1 / 7)  # age 1; age 8 is half of it, age 15 a quarter
    expected = [week + week / 2, week / 2, week / 4 + week, 0]
    assert counts.shape == (1, 4)
    np.testing.assert_allclose(counts[0], expected, rtol=1e-6)


def test_segments_count_their_own_customers_and_no_guests(
    spark: SparkSession, history: History
) -> None:
    counts = trend_counts(spark, history, 1e9, segments=np.array([1, 0], dtype=np.int32))
    # All; customer 1, of segment 0; customer 0, of segment 1.
    np.testing.assert_allclose(counts, [[2, 1, 2, 0], [1, 0, 1, 0], [1, 0, 1, 0]], rtol=1e-6)


def test_a_customer_without_a_segment_counts_for_all_only(
    spark: SparkSession, history: History
) -> None:
    counts = trend_counts(spark, history, 1e9, segments=np.array([-1, 0], dtype=np.int32))
    np.testing.assert_allclose(counts, [[2, 1, 2, 0], [1, 0, 1, 0]], rtol=1e-6)


def test_a_segment_that_bought_little_leans_on_all() -> None:
    counts = np.array([[3, 1], [0, 0], [0, OWN_PURCHASES]], dtype=np.float32)
    everyone, nobody, many = blended(counts)
    assert everyone.tolist() == [3, 1]
    np.testing.assert_allclose(nobody, [OWN_PURCHASES * 3 / 4, OWN_PURCHASES / 4])
    # As many purchases as it is lent: half by itself, half as all.
    np.testing.assert_allclose(many / many.sum(), [3 / 8, 5 / 8])


def test_scaled_to_at_most_1_and_never_0() -> None:
    values = scaled(np.array([[4, 1, 0], [0, 0, 0]], dtype=np.float32))
    np.testing.assert_allclose(values[0], [1, FLOOR + (1 - FLOOR) / 4, FLOOR], rtol=1e-6)
    np.testing.assert_allclose(values[1], [FLOOR] * 3, rtol=1e-6)
    assert values.dtype == np.float32


def test_decay_counts_back_from_the_cut() -> None:
    found = decay(np.array([20, 10, 0], dtype=np.int32), 20, 10.0)
    assert found.tolist() == [1, 0.5, 0.25]


def test_the_fit_weighs_by_quantity_and_age(tmp_path: Path) -> None:
    block = pack_events(tmp_path / "block", [(0, 0, 10), (0, 1, 0)], 1, 1).read(0)
    block = replace(block, quantities=np.array([16, 4], dtype=np.float32))
    parameters = Hyperparameters(quantity_power=0.5, half_life_days=10.0)
    # √16 one half-life ago, √4 two half-lives ago.
    assert parameters.weights(block, 20).tolist() == [2, 0.5]


def test_without_half_life_and_power_every_purchase_weighs_1(tmp_path: Path) -> None:
    block = pack_events(tmp_path / "block", [(0, 0, 10), (0, 1, 0)], 1, 1).read(0)
    parameters = Hyperparameters(half_life_days=None)
    assert parameters.weights(block, 20).tolist() == [1, 1]
