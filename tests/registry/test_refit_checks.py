"""The checks of a refit, worked by hand on tiny lists, and its limits."""

import re

import numpy as np
import pyarrow as pa
import pytest

from recsys.errors import UsageError
from registry.refit import read_limits
from registry.refit_checks import LIMITS_FILE, Check, Kept, Likeness, Limits, Lists, check

LAX = Limits(
    least_overlap=0,
    score_factor=1e9,
    spread_factor=1e9,
    least_items=0,
    least_shelf=0,
    least_customers=0,
)
# Two customers, three places; the second gets two items of the model and no more.
EVALUATED = Lists(
    np.array([["A", "B", "C"], ["A", "D", ""]]),
    np.array([[3.0, 2.0, 1.0], [2.0, 1.0, -np.inf]], dtype=np.float32),
    np.array([[True, True, False], [True, True, False]]),
)
# The first keeps two of three in another order, the second one of two; scores of 4 and 8.
REFIT = Lists(
    np.array([["B", "A", "E"], ["F", "A", ""]]),
    np.array([[8.0, 4.0, 1.0], [8.0, 4.0, -np.inf]], dtype=np.float32),
    EVALUATED.personal,
)
FOUND = Likeness(["1", "2"], EVALUATED, REFIT, Kept(10, 12, 8), Kept(4, 6, 3))


def by_name(found: Likeness, limits: Limits = LAX) -> dict[str, Check]:
    return {one.name: one for one in check(found, limits)}


def test_the_overlap_is_the_share_of_the_longer_list_that_both_hold() -> None:
    assert FOUND.overlaps.tolist() == [2 / 3, 1 / 2]
    assert by_name(FOUND)["overlap_at_10"].value == pytest.approx(7 / 12)


def test_a_list_that_shrank_to_nothing_overlaps_with_nothing() -> None:
    empty = Lists(np.full((2, 3), ""), REFIT.scores, REFIT.personal & False)
    assert Likeness(["1", "2"], EVALUATED, empty, FOUND.items, FOUND.customers).overlaps.sum() == 0


def test_two_empty_lists_are_alike() -> None:
    empty = Lists(np.full((1, 2), ""), np.zeros((1, 2), np.float32), np.zeros((1, 2), bool))
    assert Likeness(["1"], empty, empty, Kept(1, 1, 1), Kept(1, 1, 1)).overlaps.tolist() == [1]


def test_lists_of_different_lengths_are_compared() -> None:
    short = Lists(REFIT.items[:, :1], REFIT.scores[:, :1], REFIT.personal[:, :1])
    found = Likeness(["1", "2"], EVALUATED, short, FOUND.items, FOUND.customers)
    assert found.overlaps.tolist() == [1 / 3, 0]


def test_the_score_scale_counts_personal_scores_alone() -> None:
    # Evaluated: 3, 2, 2, 1; refit: 8, 4, 8, 4. The 1.0 in the third place came from popularity.
    assert (EVALUATED.mean, REFIT.mean) == (2, 6)
    found = by_name(FOUND)
    assert found["score_mean"].value == 3
    assert found["score_spread"].value == pytest.approx(2 / np.sqrt(0.5))


def test_a_refit_without_personal_scores_is_beyond_every_factor() -> None:
    silent = Lists(REFIT.items, REFIT.scores, REFIT.personal & False)
    for pair in ((EVALUATED, silent), (silent, EVALUATED)):
        found = by_name(Likeness(["1", "2"], *pair, FOUND.items, FOUND.customers))
        assert not found["score_mean"].passed
        assert not found["score_spread"].passed


def test_two_models_without_personal_scores_have_one_scale() -> None:
    silent = Lists(REFIT.items, REFIT.scores, REFIT.personal & False)
    found = by_name(Likeness(["1", "2"], silent, silent, FOUND.items, FOUND.customers))
    assert found["score_mean"].value == found["score_spread"].value == 1


def test_ids_are_kept_gone_or_new() -> None:
    kept = Kept.of(pa.array(["A", "B", "C", "D"]), pa.array(["E", "D", "A"]))
    assert (kept.share, kept.gone, kept.new) == (0.5, 2, 1)
    assert Kept.of(pa.array([], pa.string()), pa.array(["E"])).share == 1


def test_the_shelf_is_what_anybody_is_recommended() -> None:
    # A, B, C, D before; A, B, E, F now.
    assert FOUND.shelf == Kept(4, 4, 2)


@pytest.mark.parametrize(
    ("name", "limits", "words"),
    [
        ("overlap_at_10", {"least_overlap": 0.6}, "58.3% .* 2 customers .* at least 60.0%"),
        ("score_mean", {"score_factor": 2.9}, "mean .* from 2 to 6, 3.00 times .* 0.34 and 2.90"),
        ("score_spread", {"spread_factor": 2.5}, "spread .* 2.83 times .* 0.40 and 2.50"),
        ("items", {"least_items": 0.85}, "80.0% of the 10 items .* at least 85.0%"),
        ("shelf", {"least_shelf": 0.6}, "50.0% of the 4 items .* recommended .* at least 60.0%"),
        ("customers", {"least_customers": 0.8}, "75.0% of the 4 customers .* at least 80.0%"),
    ],
)
def test_a_refit_beyond_one_limit_is_refused_by_that_check_alone(
    name: str, limits: dict[str, float], words: str
) -> None:
    found = check(FOUND, LAX.model_copy(update=limits))
    [refused] = [one for one in found if not one.passed]
    assert refused.name == name
    assert re.search(words, refused.reason)


def test_a_value_on_the_limit_passes() -> None:
    exact = Limits(
        least_overlap=0.583,
        score_factor=3,
        spread_factor=3,
        least_items=0.8,
        least_shelf=0.5,
        least_customers=0.75,
    )
    assert all(one.passed for one in check(FOUND, exact))


def test_a_scale_that_shrank_is_refused_like_one_that_grew() -> None:
    limits = LAX.model_copy(update={"score_factor": 2.9})
    shrunk = Likeness(["1", "2"], REFIT, EVALUATED, FOUND.items, FOUND.customers)
    assert not by_name(shrunk, limits)["score_mean"].passed


def test_the_default_limits_are_there_and_let_equal_models_pass() -> None:
    same = Likeness(["1", "2"], EVALUATED, EVALUATED, Kept(9, 9, 9), Kept(2, 2, 2))
    assert all(one.passed for one in check(same, read_limits(LIMITS_FILE.name)))


def test_limits_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="limits=nowhere.yaml: there is no such file"):
        read_limits("nowhere.yaml")
