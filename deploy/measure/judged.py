"""One campaign, measured: its results, and whether the data can answer at all."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from deploy.measure import outcomes as o
from deploy.measure.campaigns import Campaign
from deploy.measure.metrics import PRIMARY, SMALLEST_ARM
from deploy.measure.observed import Observed, observe
from deploy.measure.outcomes import Periods
from deploy.measure.results import ALL, Result, results
from recsys.effects.effect import FEWEST, Effect, mean_effect
from recsys.effects.sample_ratio import SampleRatio, sample_ratio


@dataclass(frozen=True)
class Measured:
    """What a campaign did.

    Attributes:
        campaign: what was published.
        periods: the days that counted.
        days: days of the window that the interactions hold.
        observed: what its customers did.
        sample: the arms' sizes against the hold-out that was meant; None without one.
        sample_before: likewise of those who bought before the campaign; None where nobody did.
        before: difference of the arms' sales before the campaign; None where an arm is empty.
        void_reason: why no effect can be told; None where one can.
        notes: what a reader must know of it.
        results: rows of the table.
    """

    campaign: Campaign
    periods: Periods
    days: int
    observed: Observed
    sample: SampleRatio | None
    sample_before: SampleRatio | None
    before: Effect | None
    void_reason: str | None
    notes: tuple[str, ...]
    results: tuple[Result, ...]

    @property
    def is_short(self) -> bool:
        """Whether the interactions end before the window does."""
        return self.days < self.campaign.window_days

    @property
    def treated(self) -> int:
        """Customers in the treatment arm."""
        return int(self.observed.values(o.TREATED).sum())

    @property
    def control(self) -> int:
        """Customers in the control arm."""
        return len(self.observed.table) - self.treated

    @property
    def primary(self) -> Result:
        """The result that decides: sales per customer, over all customers."""
        return self.overall(PRIMARY)

    def overall(self, metric: str) -> Result:
        """Return a metric's result over all customers."""
        return next(r for r in self.results if (r.segment_by, r.metric) == (ALL, metric))


def measured(
    campaign: Campaign,
    output: str,
    interactions: DataFrame,
    interactions_end: date,
    before_days: int,
    churn_days: int,
    labels: DataFrame | None = None,
) -> Measured:
    """Follow a campaign's customers, check the arms, compare them.

    Args:
        campaign: what to follow.
        output: the folder that batch_score publishes to.
        interactions: the newest ones.
        interactions_end: first day after the newest interaction.
        before_days: days before the campaign that say what customers were like.
        churn_days: who ordered so many days before the campaign can churn.
        labels: see `labels_of`; None for no groups but those of activity.
    """
    days = campaign.days(interactions_end)
    periods = Periods.of(campaign, days, before_days, churn_days)
    observed = observe(campaign, output, interactions, periods, labels)
    treated = np.asarray(observed.values(o.TREATED), dtype=bool)
    arms = int(treated.sum()), int((~treated).sum())
    share = campaign.control_share
    sample = sample_ratio(*arms, share) if share else None
    # No effect has touched who bought before, so here it shows whose purchases are missing.
    sample_before = bought_before(treated, observed.values(o.PURCHASES) > 0, share)
    before = None
    if min(arms) >= FEWEST:
        before = mean_effect(observed.values(o.before(o.SALES)), treated)
    missing = int((~observed.values(o.KNOWN)).sum())
    reason = void_reason(campaign, days, interactions_end, arms, missing, sample, sample_before)
    notes = (
        *_notes(campaign, days, interactions_end, missing, len(treated), before),
        *campaign.notes,
    )
    rows = tuple(results(campaign, days, observed, reason))
    return Measured(
        campaign, periods, days, observed, sample, sample_before, before, reason, notes, rows
    )


def bought_before(
    treated: NDArray[np.bool_], bought: NDArray[np.bool_], share: float
) -> SampleRatio | None:
    """Check the arms of those who bought before the campaign; None where there is nothing to check.

    Args:
        treated: bool [customers].
        bought: bool [customers], who bought before the campaign.
        share: that was to be held out.
    """
    if not share or not bought.any():
        return None
    return sample_ratio(int((bought & treated).sum()), int((bought & ~treated).sum()), share)


def void_reason(
    campaign: Campaign,
    days: int,
    interactions_end: date,
    arms: tuple[int, int],
    missing: int,
    sample: SampleRatio | None,
    sample_before: SampleRatio | None,
) -> str | None:
    """Say why no effect of the campaign can be told, None where one can.

    Args:
        campaign: what was published.
        days: days of the window that the interactions hold.
        interactions_end: first day after the newest interaction.
        arms: customers in treatment and control.
        missing: customers who are not in the interactions at all.
        sample: the arms' sizes against the hold-out; None without one.
        sample_before: likewise of those who bought before; None where nobody did.
    """
    if days == 0:
        return (
            f"the interactions end before {interactions_end}, and the campaign begins on "
            f"{campaign.start}: ingest the purchases since then"
        )
    if missing == sum(arms):
        return (
            "no customer of the audience is in the interactions: measure with the interactions of "
            "the same retailer, ids as text with their leading zeros"
        )
    if sample is None or arms[1] == 0:
        return (
            "nobody was held out, so there is nobody to compare with: give the strategy a "
            "hold_out, and measure its next campaign"
        )
    if sample.broken:
        return (
            f"the arms are not as they were drawn: {arms[1]:,} of {sum(arms):,} customers are in "
            f"the control arm, {campaign.control_share:.1%} were meant (p = {sample.p_value:.1g}); "
            "find out who is missing before believing any number"
        )
    if sample_before is not None and sample_before.broken:
        bought = sample_before.treatment + sample_before.control
        return (
            f"of the {bought:,} customers who bought before the campaign "
            f"{sample_before.control:,} are in the control arm, {campaign.control_share:.1%} were "
            f"meant (p = {sample_before.p_value:.1g}): it looks as if the purchases of "
            "one arm were missing from the interactions, ingest them whole"
        )
    if min(arms) < SMALLEST_ARM:
        return (
            f"too few customers: the smaller arm has {min(arms)}, {SMALLEST_ARM} are needed for an "
            "interval that holds"
        )
    return None


def _notes(
    campaign: Campaign,
    days: int,
    interactions_end: date,
    missing: int,
    customers: int,
    before: Effect | None,
) -> list[str]:
    """Say what weakens the answer without voiding it."""
    notes = []
    if 0 < days < campaign.window_days:
        notes.append(
            f"Too short: the interactions end before {interactions_end}, so they hold {days} of "
            f"the window's {campaign.window_days} days. What is told here is of these days."
        )
    if 0 < missing < customers:
        notes.append(
            f"{missing:,} of {customers:,} customers of the audience are not in the interactions "
            "at all and count as having bought nothing: is their history complete?"
        )
    if before is not None and before.significant:
        notes.append(
            f"The arms differed already before the campaign: the treated had spent "
            f"{before.difference:+,.2f} per customer ({before.low:+,.2f} … {before.high:+,.2f}). "
            "One in twenty sound tests shows this. Where sales, orders and items per customer are "
            "told, it is taken out of them; of the other metrics it is not."
        )
    return notes
