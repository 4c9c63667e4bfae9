"""Why a campaign cannot be judged, without any data but its counts."""

from pathlib import Path

import pytest

from deploy.measure.campaigns import find_campaigns
from deploy.measure.judged import void_reason
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
    found = void_reason(campaign, days, end, arms, missing, sample_ratio(*arms, 0.5))
    assert (reason is None) == (found is None)
    assert (reason or "") in (found or "")
