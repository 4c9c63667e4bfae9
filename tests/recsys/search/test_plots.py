"""Pictures of a study, and what an importance is."""

import numpy as np
import pytest

from recsys.search.goal import Done, Goal
from recsys.search.plots import all_of, epsilon_squared, importances
from recsys.search.space import Choice, Condition, Parameter, Range, Space
from recsys.search.trial import FAILED, FINISHED, STOPPED, Outcome

SPACE = Space(
    {
        "item_item": (
            Parameter("similarity", Choice(("cosine", "bm25", "lift"))),
            Parameter("shrink", Range(0, 50), Condition("similarity", ("cosine", "lift"))),
            Parameter("neighbours", Range(20, 500, log=True, whole=True)),
            Parameter("trend_power", Range(0, 1)),
        )
    }
)


def trials(count: int, seed: int = 3) -> list[Done]:
    """Only neighbours matter, and a little the similarity."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        similarity = float(random.integers(3))
        low, high = Range(20, 500, log=True, whole=True).ends
        point = {
            "item_item.similarity": similarity,
            "item_item.neighbours": float(random.uniform(low, high)),
            "item_item.trend_power": float(random.random()),
        }
        if similarity != 1:
            point["item_item.shrink"] = float(random.uniform(0, 50))
        value = -((point["item_item.neighbours"] - 5) ** 2) + 0.3 * similarity
        found.append(Done(number, point, Outcome(FINISHED, {"m": value}), value))
    return found


def test_epsilon_squared_by_hand() -> None:
    """Two groups, 1 2 3 and 4 5 6: SS between 13.5, within 4 over 4 degrees, total 17.5."""
    values = np.array([1.0, 2, 3, 4, 5, 6])
    groups = np.array([0, 0, 0, 1, 1, 1])
    assert epsilon_squared(values, groups) == pytest.approx((13.5 - 1) / 17.5)
    assert epsilon_squared(values, np.array([0, 1, 0, 1, 0, 1])) == 0
    assert epsilon_squared(np.ones(6), groups) == 0


def test_what_matters_is_found_and_what_does_not_is_not() -> None:
    shares = importances(trials(120), SPACE, "item_item")
    assert max(shares, key=lambda name: shares[name]) == "neighbours"
    assert shares["neighbours"] > 0.3
    assert shares["trend_power"] < 0.1
    chance = [
        importances(trials(40, seed), SPACE, "item_item")["trend_power"] for seed in range(20)
    ]
    assert np.mean(chance) < 0.06


@pytest.mark.parametrize("count", [1, 2, 30])
def test_every_picture_can_be_drawn(count: int) -> None:
    done = {trial.number: trial for trial in trials(count)}
    done[count] = Done(count, done[0].point, Outcome(FAILED, reason="no"), None)
    done[count + 1] = Done(count + 1, done[0].point, Outcome(STOPPED, {"m": -9.0}), -9.0)
    found = all_of(done, SPACE, Goal("m"))
    expected = {"history"}
    expected |= {"coordinates_item_item"} if count > 1 else set()
    expected |= {"importance_item_item"} if count >= 12 else set()
    assert set(found) == expected
    for figure in found.values():
        figure.canvas.draw()
        assert figure.axes[0].get_title()
