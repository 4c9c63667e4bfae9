"""The check of the arms' sizes."""

import pytest
from scipy import stats

from recsys.effects.sample_ratio import sample_ratio


def test_a_ratio_worked_by_hand() -> None:
    found = sample_ratio(900, 110, 0.1)
    # Expected 909 and 101: 9²/909 + 9²/101.
    assert found.chi_square == pytest.approx(81 / 909 + 81 / 101)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.chi_square, 1))
    assert found.observed_share == 110 / 1010
    assert not found.broken


def test_arms_as_meant_are_sound_and_a_missing_tenth_is_not() -> None:
    assert sample_ratio(9_000, 1_000, 0.1).p_value == 1
    assert not sample_ratio(9_000, 1_000, 0.1).broken
    assert sample_ratio(5_000, 4_500, 0.5).broken
    assert sample_ratio(4_500, 5_000, 0.5).broken


def test_an_arm_that_is_missing_altogether_is_broken() -> None:
    assert sample_ratio(1_000, 0, 0.1).broken


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 0, 0.1), "none"), ((-1, 5, 0.1), "none"), ((5, 5, 0.0), "0 and 1"), ((5, 5, 1), "0 and")],
)
def test_what_makes_no_test_is_refused(
    arguments: tuple[int, int, float], message: str
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match=message):
        sample_ratio(*arguments)
