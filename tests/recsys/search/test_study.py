"""Suggestions: the same again, whatever ends first; learnt from what is known; TPE searches."""

import numpy as np
import pytest

from recsys.models.als import AlsParameters
from recsys.search.space import Parameter, Point, Range, Space
from recsys.search.study import Study, Trial

SPACE = Space(
    {
        "als": (
            Parameter("regularization", Range(1, 100, log=True)),
            Parameter("alpha", Range(0.1, 10, log=True)),
            Parameter("trend_power", Range(0, 1)),
        )
    }
)


def loss(point: Point) -> float:
    """A bowl in the middle of the space."""
    spans = [SPACE.labels[label][1].domain.span(p) for label, p in point.items()]
    return float(sum((span - 0.4) ** 2 for span in spans))


def searched(study: Study, count: int) -> list[Trial]:
    trials: list[Trial] = []
    for number in range(count):
        point = study.suggest(number, trials)
        trials.append(Trial(number, point, loss(point)))
    return trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_suggests_the_same_and_another_another(sampler: str) -> None:
    first, again = (searched(Study(SPACE, sampler, 3, 1), 15) for _ in range(2))
    assert first == again
    assert searched(Study(SPACE, sampler, 4, 1), 15)[0].point != first[0].point
    assert len({tuple(trial.point.values()) for trial in first}) == 15


def test_a_suggestion_does_not_depend_on_which_trial_ends_first() -> None:
    """What is not needed yet is not looked at, and the order of the others does not matter."""
    study = Study(SPACE, "tpe", 3, 3)
    trials = searched(study, 20)
    assert study.needed(20) == 16
    expected = study.suggest(20, trials)
    assert study.suggest(20, trials[:16]) == expected
    assert study.suggest(20, [*trials[17:], *reversed(trials[:16])]) == expected
    assert study.suggest(20, trials[:15]) != expected


def test_one_at_a_time_waits_for_all() -> None:
    study = Study(SPACE, "tpe", 3, 1)
    assert [study.needed(number) for number in (0, 1, 7)] == [0, 1, 7]
    assert [Study(SPACE, "tpe", 3, 2).needed(number) for number in (0, 1, 2, 7)] == [0, 0, 0, 5]


def test_what_is_wanted_first_comes_first() -> None:
    point = SPACE.point_of("als", AlsParameters(alpha=2, regularization=7))
    assert point is not None
    study = Study(SPACE, "tpe", 3, 2, (point,))
    assert study.suggest(0, []) == point
    assert study.suggest(1, []) == Study(SPACE, "tpe", 3, 2).suggest(1, [])


def test_tpe_searches_where_it_is_good() -> None:
    """Over seeds, its later trials are better than random ones."""
    found = {
        sampler: np.median(
            [t.loss for seed in range(5) for t in searched(Study(SPACE, sampler, seed, 2), 50)[30:]]
        )
        for sampler in ("tpe", "random")
    }
    assert found["tpe"] < found["random"] / 2


def test_it_learns_from_an_earlier_search_and_from_failures() -> None:
    study = Study(SPACE, "tpe", 3, 1)
    earlier = [
        Trial(t.number - 40, t.point, t.loss) for t in searched(Study(SPACE, "tpe", 9, 1), 40)
    ]
    first = study.suggest(0, earlier)
    assert first != study.suggest(0, [])
    assert loss(first) < 0.3
    failed = [Trial(t.number, t.point, None) for t in searched(study, 12)]
    assert study.suggest(12, failed) != study.suggest(12, searched(study, 12))
