"""Why a campaign cannot be judged, without any data but its counts."""

from pathlib import Path

import numpy as np
import pytest

from deploy.measure.campaigns import find_campaigns
from deploy.measure.judged import bought_before, void_reason
from recsys.effects.sample_ratio import sample_ratio
from tests.deploy.measure.shop import START_DAY, day, halves, publish_campaign


@pytest.mark.parametrize(
    ("arms", "missing", "days", "reason"),
    [
        ((500, 500), 0, 28, None),
        ((500, 500), 999, 28, None),
        ((500, 500), 1_000, 28, "no customer of the audience is in the interactions"),
        ((500, 500), 0, 0, "ingest the purchases since then"),
        ((500, 400), 0, 28, "400 of 900 customers are in the control arm, 50.0% were meant"),
        ((19, 19), 0, 28, "the smaller arm has 19, 20 are needed"),
        ((9, 0), 0, 28, "nobody was held out"),
    ],
)
def test_a_campaign_is_void_for_one_reason_or_for_none(
    tmp_path: Path, arms: tuple[int, int], missing: int, days: int, reason: str | None
) -> None:
    publish_campaign(tmp_path, halves(4))
    end = day(START_DAY + days)
    (campaign,) = find_campaigns(str(tmp_path), end, 28)
    sample = sample_ratio(*arms, 0.5)
    found = void_reason(campaign, days, end, arms, missing, sample, None)
    assert (reason is None) == (found is None)
    assert (reason or "") in (found or "")


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (300, None),
        (150, "of the 450 customers who bought before the campaign 150 are in the control arm"),
        (0, "of the 300 customers who bought before the campaign 0 are in the control arm"),
    ],
)
def test_an_arm_whose_purchases_are_missing_voids_the_campaign(
    tmp_path: Path, control: int, reason: str | None
) -> None:
    """The audience has both arms, whole; the interactions lack some of one of them."""
    publish_campaign(tmp_path, halves(4))
    end = day(START_DAY + 28)
    (campaign,) = find_campaigns(str(tmp_path), end, 28)
    treated = np.arange(600) < 300
    sample = bought_before(treated, np.arange(600) < 300 + control, 0.5)
    found = void_reason(campaign, 28, end, (300, 300), 0, sample_ratio(300, 300, 0.5), sample)
    assert (reason is None) == (found is None)
    assert (reason or "") in (found or "")


def test_where_nobody_bought_before_there_is_no_such_check() -> None:
    nobody = np.zeros(10, dtype=bool)
    assert bought_before(~nobody, nobody, 0.5) is None
    assert bought_before(~nobody, ~nobody, 0.0) is None
