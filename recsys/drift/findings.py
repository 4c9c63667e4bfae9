"""From two periods to what has moved, and whether that is worth a warning.

PSI(p, q) = Σ over bins of (q − p) · ln(q / p), the population stability index (Siddiqi 2006). By
chance alone it is about χ²(bins − 1) · (1/n + 1/m) for counts of n and m (Yurdakul & Naranjo 2020),
so that few rows do not warn of what they cannot know.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import Field
from pyspark.sql import DataFrame
from scipy import stats

from recsys.config import Config
from recsys.data.facts import EPOCH
from recsys.drift.periods import Counts, Period, Periods, read_periods

LIMITS = Path(__file__).parent / "limits.yaml"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
VOLUME = "volume/"
# Fewer days hold too few of each weekday.
FEWEST_DAYS = 7
# Fewer baskets in a day are half as many, or twice as many, by chance alone.
FEWEST_BASKETS = 20
MOST_NAMED = 5
CHANCE = 0.999
# Half a count in each bin, so that an empty one has a logarithm.
SMOOTHED = 0.5


class Limits(Config):
    """From where on a drift is told as a warning."""

    psi: float = Field(gt=0, description="population stability index of a quantity")
    new_item_share: float = Field(gt=0, description="share of lines with items never sold before")
    new_customer_share: float = Field(gt=0, description="share of customers who are new")
    volume: float = Field(gt=0, description="change of a weekday's lines a day, as a share")
    day: float = Field(gt=0, description="distance of one day's lines from the usual, as a share")
    restated: float = Field(gt=0, description="change of the past's number of lines, as a share")

    @classmethod
    @cache
    def shipped(cls) -> "Limits":
        """Read the limits that come with the project, recsys/drift/limits.yaml."""
        return cls.from_yaml(LIMITS.read_text("utf-8"), str(LIMITS))


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of its metric, such as `psi/unit_price`.
        value: how far it has moved.
        limit: from where on it is worth a warning.
        text: the warning.
    """

    name: str
    value: float
    limit: float
    text: str

    @property
    def warns(self) -> bool:
        """Whether the limit is passed."""
        return self.value > self.limit


@dataclass(frozen=True)
class Drift:
    """What has moved between two periods."""

    periods: Periods
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of all findings that pass their limits; weekdays in one."""
        warned = [finding for finding in self.findings if finding.warns]
        days = [finding.text for finding in warned if finding.name.startswith(VOLUME)]
        others = [finding.text for finding in warned if not finding.name.startswith(VOLUME)]
        told = f"lines a day have changed, is a file missing, or twice? {', '.join(days)}"
        return (*others, *([told] if days else []))


def drift_since(interactions: DataFrame, day: int, known_rows: int | None = None) -> Drift | None:
    """Compare the interactions since a fit with what the fit saw, by the shipped limits.

    Args:
        interactions: the newest ones; the contract's columns.
        day: first day that the fit did not see, in days since 1970.
        known_rows: see `drift_between`.

    Returns:
        None where there are no interactions since, or none before.
    """
    periods = read_periods(interactions, (EPOCH + timedelta(days=day)).date())
    return None if periods is None else drift_between(periods, Limits.shipped(), known_rows)


def drift_between(periods: Periods, limits: Limits, known_rows: int | None = None) -> Drift:
    """Compare two periods.

    Args:
        periods: see `read_periods`.
        limits: from where on to warn.
        known_rows: how many interactions the past had when the dataset was made; None: unknown.
    """
    findings = [_psi_finding(name, periods, limits) for name in periods.before.counts]
    findings += [_new_items(periods, limits), _new_customers(periods, limits)]
    findings += _volumes(periods.before, periods.after, limits)
    findings += _days(periods.before, periods.after, limits)
    if known_rows:
        findings.append(_restated(periods.past_rows, known_rows, limits))
    return Drift(periods, tuple(findings))


def psi(reference: Counts, current: Counts) -> float:
    """Return the population stability index of two counts over the same bins [bins].

    Bins that are empty on both sides do not count.
    """
    used = (reference + current) > 0
    p, q = reference[used] + SMOOTHED, current[used] + SMOOTHED
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def psi_by_chance(reference: Counts, current: Counts) -> float:
    """Return what PSI stays below in 999 of 1,000 draws from one and the same population."""
    bins = int(((reference + current) > 0).sum())
    if bins < 2 or not reference.sum() or not current.sum():
        return 0.0
    spread = 1 / reference.sum() + 1 / current.sum()
    return float(stats.chi2.ppf(CHANCE, bins - 1) * spread)


def _psi_finding(name: str, periods: Periods, limits: Limits) -> Finding:
    before, after = periods.before.counts[name], periods.after.counts[name]
    found, told = psi(before, after), name.replace("_", " ")
    limit = max(limits.psi, psi_by_chance(before, after))
    text = f"{told} is spread otherwise than before (PSI {found:.2f}, above {limit:.2f})"
    return Finding(f"psi/{name}", found, limit, text)


def _new_items(periods: Periods, limits: Limits) -> Finding:
    share = periods.new_item_rows / periods.after.rows
    text = f"{share:.1%} of the new lines are of items that the fit never saw: fit anew"
    return Finding("new_item_share", share, limits.new_item_share, text)


def _new_customers(periods: Periods, limits: Limits) -> Finding:
    share = periods.new_customers / periods.customers if periods.customers else 0.0
    text = f"{share:.1%} of the customers since are new: the fit knows nothing of them"
    return Finding("new_customer_share", share, limits.new_customer_share, text)


def _volumes(before: Period, after: Period, limits: Limits) -> list[Finding]:
    """Compare each weekday's lines a day; a weekday that was closed before is one that was open."""
    if min(before.days, after.days) < FEWEST_DAYS:
        return []
    findings = []
    for day, then, now in zip(WEEKDAYS, before.a_day(), after.a_day(), strict=True):
        change = abs(now - then) / then if then else float(now > 0)
        text = f"{day}s {now:,.0f} instead of {then:,.0f}"
        findings.append(Finding(f"{VOLUME}{day}", float(change), limits.volume, text))
    return findings


def _days(before: Period, after: Period, limits: Limits) -> list[Finding]:
    """Compare each day's lines with what is usual: its weekday before, at the level of now.

    The level is the median over the days since that have lines, so that a season that is stronger
    or weaker moves it, and a day that is missing or doubled does not.
    """
    if min(before.days, after.days) < FEWEST_DAYS:
        return []
    then, baskets = before.a_day()[after.weekday], before.counts["basket_lines"].sum()
    open_days = (then > 0) & (after.lines > 0)
    if not open_days.any():
        return []
    usual = then * np.median(after.lines[open_days] / then[open_days])
    judged = np.flatnonzero(usual * baskets / before.rows >= FEWEST_BASKETS)
    if not judged.size:
        return []
    moved = np.abs(after.lines[judged] / usual[judged] - 1)
    far = judged[(moved > limits.day) | (moved == moved.max())]
    dates = [after.first + timedelta(days=int(day)) for day in far[:MOST_NAMED]]
    told = [
        f"{date} {after.lines[day]:,} instead of {usual[day]:,.0f}"
        for date, day in zip(dates, far, strict=False)
    ]
    more = f", and {len(far) - MOST_NAMED:,} more" if len(far) > MOST_NAMED else ""
    text = f"single days differ in lines, is a file missing, or twice? {', '.join(told)}{more}"
    return [Finding("day", float(moved.max()), limits.day, text)]


def _restated(rows: int, known: int, limits: Limits) -> Finding:
    change = abs(rows - known) / known
    text = (
        f"the past has {rows:,} lines now and had {known:,} when the dataset was made: "
        "prepare and train again"
    )
    return Finding("restated", change, limits.restated, text)
