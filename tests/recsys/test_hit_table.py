"""Reading hit tables."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import DataError
from recsys.hit_table import hit_places, list_matrices, lists, metric_name, of_question, values
from tests.recsys.hit_rows import hit_table

ROWS = {
    "b": {"recommended": ["x", "y", "z"], "bought": ["y", "q"], "ndcg_at_10": 0.5},
    "a": {"recommended": [], "bought": ["x"], "ndcg_at_10": 0.0},
    "c": {"recommended": ["z"], "bought": ["z"], "ndcg_at_10": 1.0},
}


def test_a_question_s_rows_are_ordered_by_customer() -> None:
    both = pa.concat_tables([hit_table(ROWS), hit_table({"d": ROWS["a"]}, "replenish")])
    assert of_question(both, "discover")["customer_id"].to_pylist() == ["a", "b", "c"]
    assert of_question(both, "replenish")["customer_id"].to_pylist() == ["d"]


def test_a_question_without_rows_is_refused() -> None:
    with pytest.raises(DataError, match="No customer was judged on 'replenish'"):
        of_question(hit_table(ROWS), "replenish")


def test_values_have_a_column_a_metric() -> None:
    rows = of_question(hit_table(ROWS, recall_at_5=0.25), "discover")
    found = values(rows, ["recall_at_5", "ndcg_at_10"])
    assert found.tolist() == [[0.25, 0], [0.25, 0.5], [0.25, 1]]


def test_a_metric_that_nobody_logged_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="'ndgc_at_10' .*choose one of ndcg_at_10"):
        values(hit_table(ROWS), ["ndgc_at_10"])


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="ndcg_at_10 is not a number for some customers"):
        values(hit_table({"a": {"ndcg_at_10": float("nan")}}), ["ndcg_at_10"])


def test_lists_are_flattened_with_customer_and_place() -> None:
    customer, place, items = lists(of_question(hit_table(ROWS), "discover"), "recommended")
    assert customer.tolist() == [1, 1, 1, 2]
    assert place.tolist() == [0, 1, 2, 0]
    assert items.to_pylist() == ["x", "y", "z", "z"]


def test_matrices_number_items_alike_in_all_tables() -> None:
    left = of_question(hit_table(ROWS), "discover")
    right = of_question(hit_table({n: {"recommended": ["w", "z"]} for n in "abc"}), "discover")
    one, other = list_matrices([left, right], 2)
    # x, y of b; z of c (b's z is beyond two places); w and z of everyone: x y z w.
    assert one.toarray().tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]]
    assert other.toarray().tolist() == [[0, 0, 1, 1]] * 3


def test_tables_without_any_recommendation() -> None:
    [empty] = list_matrices([hit_table({"a": {}, "b": {}})], 10)
    assert empty.shape == (2, 0)


def test_hit_places() -> None:
    rows = of_question(hit_table(ROWS), "discover")
    expected = np.array([[0, 0], [0, 1], [1, 0]], dtype=bool)
    np.testing.assert_array_equal(hit_places(rows, 2), expected)
    assert hit_places(rows, 1).tolist() == [[False], [False], [True]]


def test_discover_is_the_question_without_a_name() -> None:
    assert metric_name("discover", "ndcg_at_10") == "ndcg_at_10"
    assert metric_name("replenish", "ndcg_at_10") == "replenish/ndcg_at_10"
