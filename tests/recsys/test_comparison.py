"""Two runs compared customer by customer."""

import numpy as np
import pyarrow as pa
import pytest

from recsys.comparison import (
    Difference,
    catalogue_differences,
    differences,
    paired_differences,
    paired_rows,
    segment_differences,
)
from recsys.errors import DataError
from recsys.segments import Segment
from tests.recsys.hit_rows import hit_table


def table(values: dict[str, float], question: str = "discover") -> pa.Table:
    return hit_table({name: {"ndcg_at_10": v} for name, v in values.items()}, question)


def difference(champion: pa.Table, challenger: pa.Table) -> Difference:
    rows = paired_rows(champion, challenger, "discover")
    return paired_differences(*rows, ["ndcg_at_10"])["ndcg_at_10"]


def test_customers_are_paired_by_id_whatever_their_order() -> None:
    champion = table({"a": 0.5, "b": 0.25, "c": 0.0, "d": 1.0})
    challenger = table({"d": 0.5, "c": 0.0, "b": 0.75, "a": 1.0})
    found = difference(champion, challenger)
    assert (found.wins, found.ties, found.losses, found.customers) == (2, 1, 1, 4)
    assert (found.champion, found.challenger) == pytest.approx((0.4375, 0.5625))
    assert found.interval.value == pytest.approx((0.5 + 0.5 + 0 - 0.5) / 4)
    assert found.interval.low < found.interval.value < found.interval.high
    # Sample deviation of 0.5, 0.5, 0, -0.5 over the root of 4.
    assert found.standard_error == pytest.approx(np.std([0.5, 0.5, 0, -0.5], ddof=1) / 2)


def test_a_constant_gain_has_an_interval_without_width() -> None:
    champion = table({f"{n}": n / 100 for n in range(50)})
    challenger = table({f"{n}": n / 100 + 0.125 for n in range(50)})
    interval = difference(champion, challenger).interval
    # The customers differ widely, but not in what they gain.
    assert (interval.low, interval.high) == pytest.approx((0.125, 0.125))


def test_swapping_the_two_turns_the_sign() -> None:
    one, other = table({"a": 0.5, "b": 0.2, "c": 0.9}), table({"a": 0.1, "b": 0.3, "c": 0.3})
    forth, back = difference(one, other), difference(other, one)
    assert forth.interval.value == pytest.approx(-back.interval.value)
    assert (forth.wins, forth.losses) == (back.losses, back.wins) == (1, 2)


def test_the_other_question_is_left_out() -> None:
    both = pa.concat_tables([table({"a": 0.5, "b": 0.5}), table({"a": 0.0, "b": 0.0}, "replenish")])
    found = difference(both, table({"a": 0.5, "b": 0.75}))
    assert found.interval.value == pytest.approx(0.125)


@pytest.mark.parametrize("others", [{"a": 0.1}, {"a": 0.1, "c": 0.2}, {"a": 0, "b": 0, "c": 0}])
def test_other_customers_are_refused(others: dict[str, float]) -> None:
    with pytest.raises(DataError, match="judged on different customers: train both on the same"):
        paired_rows(table({"a": 0.1, "b": 0.2}), table(others), "discover")


def test_no_customer_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="No customer was judged on 'replenish'"):
        paired_rows(table({"a": 0.1}), table({"a": 0.2}), "replenish")


def test_one_customer_has_no_error_to_estimate() -> None:
    [found] = differences(np.array([[0.2]]), np.array([[0.5]]))
    assert (found.standard_error, found.wins) == (0, 1)


def test_metrics_share_the_draws_of_customers() -> None:
    random = np.random.default_rng(1)
    champion, gain = random.random((40, 1)), random.normal(size=(40, 1))
    both = np.hstack([champion, champion])
    one, other = differences(both, both + np.hstack([gain, -gain]))
    assert one.interval.low == pytest.approx(-other.interval.high)


def test_a_segment_is_compared_by_its_members_alone() -> None:
    rows = paired_rows(
        table({"a": 0.5, "b": 0.25, "c": 0.0}), table({"a": 1.0, "b": 0.25, "c": 0.1}), "discover"
    )
    groups = [Segment("country", "FR", np.array([0, 1])), Segment("country", "UK", np.array([2]))]
    france, kingdom = segment_differences(*rows, groups, "ndcg_at_10")
    assert (france.by, france.label) == ("country", "FR")
    assert france.difference.interval.value == pytest.approx(0.25)
    assert (france.difference.wins, france.difference.ties) == (1, 1)
    assert kingdom.difference.interval.value == pytest.approx(0.1)


def test_coverage_and_gini_of_all_lists_together() -> None:
    names = [f"{n:02d}" for n in range(30)]
    same = hit_table({n: {"recommended": ["x", "y"]} for n in names})
    own = hit_table({n: {"recommended": ["x", n]} for n in names})
    found = catalogue_differences(*paired_rows(same, own, "discover"), 62)
    coverage, gini = found["coverage_at_10"], found["gini_at_10"]
    assert (coverage.champion, coverage.challenger) == pytest.approx((2 / 62, 31 / 62))
    assert coverage.interval.low < coverage.interval.value == pytest.approx(29 / 62)
    assert gini.interval.high < 0
