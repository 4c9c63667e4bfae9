"""Two runs compared customer by customer."""

import pyarrow as pa
import pytest

from recsys.comparison import paired_difference
from recsys.errors import DataError


def table(values: dict[str, float], question: str = "discover") -> pa.Table:
    return pa.table(
        {
            "customer_id": list(values),
            "question": [question] * len(values),
            "ndcg_at_10": pa.array(values.values(), pa.float64()),
        }
    )


def test_customers_are_paired_by_id_whatever_their_order() -> None:
    champion = table({"a": 0.5, "b": 0.25, "c": 0.0, "d": 1.0})
    challenger = table({"d": 0.5, "c": 0.0, "b": 0.75, "a": 1.0})
    found = paired_difference(champion, challenger, "discover", "ndcg_at_10")
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.interval.mean == pytest.approx((0.5 + 0.5 + 0 - 0.5) / 4)
    assert found.interval.low < found.interval.mean < found.interval.high


def test_a_constant_gain_has_an_interval_without_width() -> None:
    champion = table({f"{n}": n / 100 for n in range(50)})
    challenger = table({f"{n}": n / 100 + 0.125 for n in range(50)})
    interval = paired_difference(champion, challenger, "discover", "ndcg_at_10").interval
    # The customers differ widely, but not in what they gain.
    assert (interval.low, interval.high) == pytest.approx((0.125, 0.125))


def test_swapping_the_two_turns_the_sign() -> None:
    one, other = table({"a": 0.5, "b": 0.2, "c": 0.9}), table({"a": 0.1, "b": 0.3, "c": 0.3})
    forth, back = (
        paired_difference(*pair, "discover", "ndcg_at_10") for pair in ((one, other), (other, one))
    )
    assert forth.interval.mean == pytest.approx(-back.interval.mean)
    assert (forth.wins, forth.losses) == (back.losses, back.wins) == (1, 2)


def test_the_other_question_is_left_out() -> None:
    both = pa.concat_tables([table({"a": 0.5, "b": 0.5}), table({"a": 0.0, "b": 0.0}, "replenish")])
    found = paired_difference(both, table({"a": 0.5, "b": 0.75}), "discover", "ndcg_at_10")
    assert found.interval.mean == pytest.approx(0.125)


@pytest.mark.parametrize("others", [{"a": 0.1}, {"a": 0.1, "c": 0.2}, {"a": 0, "b": 0, "c": 0}])
def test_other_customers_are_refused(others: dict[str, float]) -> None:
    with pytest.raises(DataError, match="judged on different customers: train both on the same"):
        paired_difference(table({"a": 0.1, "b": 0.2}), table(others), "discover", "ndcg_at_10")


def test_an_unknown_metric_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="'ndgc_at_10' .*choose one of ndcg_at_10"):
        paired_difference(table({"a": 0.1}), table({"a": 0.1}), "discover", "ndgc_at_10")


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(DataError, match="not a number for some customers"):
        paired_difference(table({"a": 0.1}), table({"a": float("nan")}), "discover", "ndcg_at_10")


def test_no_customer_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="No customer was judged on 'replenish'"):
        paired_difference(table({"a": 0.1}), table({"a": 0.2}), "replenish", "ndcg_at_10")
