"""A space's points: there and back, conditions, and what hyperopt makes of it."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.search import SPACES
from recsys.models import ALGORITHMS
from recsys.models.item_item import ItemItemParameters
from recsys.search.reading import read_spaces
from recsys.search.space import ALGORITHM, Choice, Condition, Parameter, Range, Space
from recsys.search.study import Study

SMALL = Space(
    {
        "item_item": (
            Parameter("similarity", Choice(("cosine", "bm25", "lift"))),
            Parameter("shrink", Range(0, 50), Condition("similarity", ("cosine", "lift"))),
            Parameter("neighbours", Range(20, 500, log=True, whole=True)),
        )
    }
)
EVERY = read_spaces({name: SPACES / f"{name}.yaml" for name in ALGORITHMS})


@given(st.floats(1e-3, 1e3), st.floats(1.01, 1e3), st.booleans(), st.booleans(), st.floats(0, 1))
def test_a_value_lies_in_its_range_and_has_its_position(
    low: float, factor: float, log_scale: bool, whole: bool, where: float
) -> None:
    high = low * factor
    if whole:
        low, high = max(1.0, round(low)), max(1.0, round(low)) + max(1, round(high))
    domain = Range(low, high, log_scale, whole)
    first, last = domain.ends
    value = domain.value_at(first + where * (last - first))
    assert isinstance(value, int if whole else float)
    assert low <= value <= high
    position = domain.position_of(value)
    assert position is not None
    assert domain.value_at(position) == value
    assert -1e-9 <= domain.span(position) <= 1 + 1e-9


def test_ends_and_middle_of_scales() -> None:
    assert Range(10, 1000, log=True).value_at(log(100)) == 100
    assert Range(10, 1000).position_of(9) is None
    assert [Range(1, 3, whole=True).value_at(p) for p in (0.5, 1.4, 1.6, 3.49)] == [1, 1, 2, 3]
    assert Choice(("a", None)).value_at(1.0) is None


def test_a_parameter_is_there_only_where_its_condition_holds() -> None:
    base = {"item_item.similarity": 1.0, "item_item.neighbours": log(100)}
    name, parameters = SMALL.chosen(base)
    assert (name, parameters) == (
        "item_item",
        ItemItemParameters(similarity="bm25", neighbours=100),
    )
    assert SMALL.point_of("item_item", parameters) == pytest.approx(base)
    lift = ItemItemParameters(similarity="lift", neighbours=100, shrink=7)
    point = SMALL.point_of("item_item", lift)
    assert point is not None
    assert point["item_item.shrink"] == 7
    assert SMALL.chosen(point)[1] == lift


def test_what_lies_outside_has_no_point() -> None:
    for outside in (
        ItemItemParameters(neighbours=501),
        ItemItemParameters(similarity="jaccard"),
        ItemItemParameters(max_items=7),
        ItemItemParameters(similarity="bm25", shrink=3),
    ):
        assert SMALL.point_of("item_item", outside) is None
    assert SMALL.point_of("als", ALGORITHMS["als"].parameters_class()) is None


@pytest.mark.parametrize("space", [SMALL, EVERY], ids=["one", "every"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_hyperopt_suggests_is_a_point(space: Space, sampler: str) -> None:
    """Each suggestion names just the parameters that matter, and means what it says."""
    study = Study(space, sampler, 3, 1)
    seen = set()
    for number in range(40):
        point = study.suggest(number, [])
        algorithm, parameters = space.chosen(point)
        seen.add(algorithm)
        again = space.point_of(algorithm, parameters)
        assert again is not None
        assert again.keys() == point.keys()
        assert space.chosen(again) == (algorithm, parameters)
        assert (ALGORITHM in point) == (len(space.algorithms) > 1)
    assert seen == set(space.algorithms)


def test_a_log_scale_is_drawn_evenly_by_its_logarithm() -> None:
    study = Study(SMALL, "random", 5, 1)
    points = [study.suggest(number, []) for number in range(400)]
    values = np.array([SMALL.chosen(point)[1].neighbours for point in points])
    assert np.median(values) == pytest.approx((20 * 500) ** 0.5, rel=0.2)
    shares = [point["item_item.similarity"] for point in points]
    assert np.bincount(np.array(shares, dtype=int)) / 400 == pytest.approx(1 / 3, abs=0.08)


def test_the_largest_has_every_range_at_its_upper_end() -> None:
    assert EVERY.largest("als").factors == 160
    assert EVERY.largest("item_item").neighbours == 500
