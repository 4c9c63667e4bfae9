"""The statistics against known effects: coverage, false alarms, variance, power, missing customers.

A share p of n experiments has a Monte Carlo error of sqrt(p (1 − p) / n); limits add three of them
in the quick test and two in the slow one, which runs more experiments so that they are small.
"""

import numpy as np
import pytest

from benchmarks.known_effects import Line, experiments, plans, ratios
from benchmarks.population import Population, population
from recsys.effects.sample_ratio import BROKEN


def allowance(share: float, experiments: int, errors: float) -> float:
    return errors * float(np.sqrt(share * (1 - share) / experiments))


def hold(lines: list[Line], count: int, errors: float) -> None:
    """Check what is promised of each metric."""
    for line in lines:
        of = f"{line.metric}, {line.method}"
        assert abs(line.coverage - 0.95) <= 0.015 + allowance(0.95, count, errors), of
        assert line.false_alarms <= 0.05 + 0.015 + allowance(0.05, count, errors), of
        assert line.power > line.false_alarms, of
        if line.reduction_theory is not None:
            assert line.reduction_found is not None
            # A variance of n experiments is uncertain by sqrt(2 / n).
            spread = errors * (1 - line.reduction_theory) * float(np.sqrt(2 / count))
            assert line.reduction_found == pytest.approx(line.reduction_theory, abs=0.03 + spread)
            assert line.reduction == pytest.approx(line.reduction_theory, abs=0.03)


@pytest.fixture(scope="module")
def few() -> Population:
    return population(3_000)


@pytest.fixture(scope="module")
def many() -> Population:
    return population(20_000)


def test_the_population_does_more_with_the_campaign(few: Population) -> None:
    assert len(few.treated["sales"]) == len(few.before["orders"]) == 3_000
    for name, control in few.control.items():
        assert few.treated[name].mean() > control.mean() > 0
        assert (few.treated[name] >= control).all()
    # An order of treated customers is added, or holds more, so that sales rise more than orders.
    lift = {n: few.treated[n].mean() / few.control[n].mean() for n in ("orders", "sales")}
    assert lift["sales"] > lift["orders"] > 1.05


def test_intervals_hold_the_effect_in_some_experiments(few: Population) -> None:
    lines = experiments(few, 1_000, 0.3, 150)
    assert len(lines) == 7
    hold(lines, 150, 3)


def test_experiments_are_drawn_again_alike(few: Population) -> None:
    assert experiments(few, 200, 0.5, 5) == experiments(few, 200, 0.5, 5)
    assert experiments(few, 200, 0.5, 5) != experiments(few, 200, 0.5, 5, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize(("customers", "share"), [(2_000, 0.5), (2_000, 0.1)])
def test_intervals_hold_the_effect_in_95_of_100_experiments(
    many: Population, customers: int, share: float
) -> None:
    hold(experiments(many, customers, share, 2_000), 2_000, 2)


@pytest.mark.slow
def test_a_plan_finds_what_it_was_made_for(many: Population) -> None:
    """A campaign that works also spreads the sales, which a plan from the past cannot know."""
    for plan in plans(many, 300):
        assert 0.7 < plan.found < 0.86, plan


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_missing_hundredth_is_caught_at_the_planned_size(share: float) -> None:
    count, sound = 1_000, 2_000
    found = ratios(share, count, sound)
    assert found.caught == pytest.approx(0.8, abs=allowance(0.8, count, 3))
    assert found.false_alarms <= BROKEN + allowance(BROKEN, sound, 3)
