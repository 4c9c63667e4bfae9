"""Commits of recommendations as a measurement sees them: arms, days, and what was taken back."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from recsys.storage import Commit

# Who looks once a day has hardly seen a table that was taken back by then.
SOON = timedelta(days=1)


def name_of(commit: Commit) -> str:
    """Return the strategy's name."""
    return str(commit.payload["facts"]["strategy"]["name"])


def hold_out_of(commit: Commit) -> dict[str, Any]:
    """Return the share and the salt of the hold-out."""
    return dict(commit.payload["facts"]["strategy"]["hold_out"])


def arms_overlap(one: Commit, other: Commit) -> bool:
    """Tell whether two commits hold out the same customers, all or some of them.

    One salt draws nested arms: a larger share keeps those of a smaller one.
    """
    mine, others = hold_out_of(one), hold_out_of(other)
    return bool(mine["salt"] == others["salt"] and mine["share"] and others["share"])


def is_again(commit: Commit) -> bool:
    """Tell whether the commit put an earlier table back."""
    return "republished" in commit.payload


def same_table(one: Commit, other: Commit) -> bool:
    """Tell whether two commits point to the same table."""
    return bool(one.payload["manifest"] == other.payload["manifest"])


def start_of(commit: Commit) -> date:
    """Return the first day after what a commit was scored with, else the day of scoring."""
    facts = commit.payload["facts"]
    if facts.get("interactions_end"):
        return date.fromisoformat(facts["interactions_end"])
    return datetime.fromisoformat(facts["scored_at"]).date()


def days_of(own: Sequence[Commit]) -> dict[int, date]:
    """Return from which day on customers followed each commit of a strategy, by its number.

    A table that was put back was scored long ago: its day lies as far behind that of the last
    scoring as their commits do.
    """
    days, scored = dict[int, date](), own[0]
    for one in own:
        if not is_again(one):
            scored = one
        days[one.number] = start_of(scored) + (_written(one) - _written(scored))
    return days


def taken_back(own: Sequence[Commit]) -> set[int]:
    """Return the numbers of the commits after which another table was put back at once."""
    return {
        one.number
        for one, after in pairwise(own)
        if is_again(after)
        and not same_table(one, after)
        and _written(after) - _written(one) <= SOON
    }


def _written(commit: Commit) -> date:
    return datetime.fromisoformat(commit.time).date()
