"""Which campaigns to measure: a published commit of a strategy, and the days after it.

    before_start          before_end = start             end
        │  what they bought before │  what they buy now   │
  ──────┴──────────────────────────┴──────────────────────┴──▶

Where the strategy ran before the commit, `before_end` is the day it began, not `start`: what
customers bought while it ran may be its effect, and must not be taken for what they were before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from typing import Any

from obstore.store import ObjectStore

from recsys.errors import DataError, UsageError
from recsys.storage import Commit, CommitLog, read_bytes, store_of


@dataclass(frozen=True)
class Campaign:
    """A published commit of a strategy, and the days in which its customers are followed.

    Attributes:
        commit: number of the commit whose audience is followed.
        digest: of the commit.
        facts: of its manifest.
        start: first day of the window.
        window_days: length of the window.
        before_end: first day that the strategy ran with this hold-out; `start` or earlier.
        lists: commits whose lists customers had in the window, and from which day.
        notes: what a reader must know of it.
    """

    commit: int
    digest: str
    facts: dict[str, Any]
    start: date
    window_days: int
    before_end: date
    lists: tuple[tuple[int, date], ...]
    notes: tuple[str, ...] = ()

    @property
    def strategy(self) -> str:
        """The strategy's name."""
        return str(self.facts["strategy"]["name"])

    @property
    def end(self) -> date:
        """First day after the window."""
        return self.start + timedelta(days=self.window_days)

    @property
    def control_share(self) -> float:
        """Share of the audience that was to be held out."""
        return float(self.facts["strategy"]["hold_out"]["share"])

    @property
    def model(self) -> str:
        """The release that scored."""
        return f"{self.facts['model_name']}/{self.facts['model_version']}"

    def days(self, interactions_end: date) -> int:
        """Return how many days of the window the interactions hold, 0 … `window_days`."""
        return min(max((interactions_end - self.start).days, 0), self.window_days)


def find_campaigns(
    output: str,
    interactions_end: date,
    window_days: int,
    strategy: str | None = None,
    commit: int | None = None,
    start: date | None = None,
) -> list[Campaign]:
    """Choose the commits to measure, one a strategy, by name.

    Of a strategy it is the newest commit whose window has passed; where none has, the one that has
    been followed longest.

    Args:
        output: the folder that batch_score publishes to.
        interactions_end: first day after the newest interaction.
        window_days: length of the window.
        strategy: only this one; None for all that were published.
        commit: number of the commit; None to choose.
        start: first day of the window; None for the first day after what was scored with.

    Raises:
        DataError: nothing was published, or none of it is still there.
        UsageError: there is no such strategy or commit.
    """
    store = store_of(output)
    every = CommitLog(store).history()
    if not every:
        raise DataError(f"Nothing was published in {output} yet: run batch_score first.")
    if commit is not None:
        chosen = [_numbered(every, commit, strategy, output)]
    else:
        names = sorted({_name(one) for one in every})
        if strategy is not None and strategy not in names:
            raise UsageError(
                f"strategy={strategy} was never published in {output}: use {', '.join(names)}."
            )
        last_start = interactions_end - timedelta(days=window_days)
        chosen = [
            _chosen(store, [one for one in every if _name(one) == name], last_start)
            for name in ([strategy] if strategy else names)
        ]
    return [_campaign(one, every, window_days, start) for one in chosen]


def start_of(commit: Commit) -> date:
    """Return the first day after what a commit was scored with, else the day of scoring."""
    facts = commit.payload["facts"]
    if facts.get("interactions_end"):
        return date.fromisoformat(facts["interactions_end"])
    return datetime.fromisoformat(facts["scored_at"]).date()


def _name(commit: Commit) -> str:
    return str(commit.payload["facts"]["strategy"]["name"])


def _hold_out(commit: Commit) -> dict[str, Any]:
    return dict(commit.payload["facts"]["strategy"]["hold_out"])


def _again(commit: Commit) -> bool:
    return "republished" in commit.payload


def _numbered(every: list[Commit], number: int, strategy: str | None, output: str) -> Commit:
    """Return the commit that was asked for."""
    if not 1 <= number <= len(every):
        raise UsageError(f"commit={number} is not in {output}: there are 1 to {len(every)}.")
    commit = every[number - 1]
    if strategy is not None and _name(commit) != strategy:
        raise UsageError(
            f"commit={number} is one of {_name(commit)}: leave strategy={strategy} out, or choose "
            "another commit."
        )
    return commit


def _chosen(store: ObjectStore, own: list[Commit], last_start: date) -> Commit:
    """Return the newest commit that starts by `last_start`, else the one that starts first.

    Args:
        store: of the published folder.
        own: the strategy's commits, oldest first.
        last_start: the last day on which a window can have begun that has passed.
    """
    newest_first = [one for one in reversed(own) if not _again(one)]
    # `collect` deletes the oldest, so what comes before one that is gone is gone too.
    there = list(
        takewhile(lambda one: read_bytes(store, one.payload["manifest"]) is not None, newest_first)
    )
    if not there:
        raise DataError(f"The tables of {_name(own[-1])} were deleted: run batch_score again.")
    passed = (one for one in there if start_of(one) <= last_start)
    return next(passed, None) or min(there, key=lambda one: (start_of(one), -one.number))


def _campaign(
    commit: Commit, every: Sequence[Commit], window_days: int, start: date | None
) -> Campaign:
    """Describe a commit as a campaign: since when it runs, which lists followed, what to note."""
    start = start or start_of(commit)
    end = start + timedelta(days=window_days)
    originals = [one for one in every if not _again(one)]
    own = [one for one in originals if _name(one) == _name(commit)]
    earlier = [one for one in own if one.number < commit.number]
    # Contiguous: what was published by another hold-out had other arms.
    same = list(takewhile(lambda one: _hold_out(one) == _hold_out(commit), reversed(earlier)))
    before_end = min([start, *map(start_of, same)])
    later = [one for one in own if one.number > commit.number and start <= start_of(one) < end]
    others = [one for one in originals if _name(one) != _name(commit) and start_of(one) < end]
    return Campaign(
        commit=commit.number,
        digest=commit.digest,
        facts=commit.payload["facts"],
        start=start,
        window_days=window_days,
        before_end=before_end,
        lists=((commit.number, start), *((one.number, start_of(one)) for one in later)),
        notes=tuple(_notes(commit, before_end < start, later, others, before_end)),
    )


def _notes(
    commit: Commit,
    ran_before: bool,
    later: Sequence[Commit],
    others: Sequence[Commit],
    since: date,
) -> list[str]:
    """Say what besides the lists of this commit may have moved the arms."""
    notes, strategy, held = [], commit.payload["facts"]["strategy"], _hold_out(commit)
    if later:
        notes.append(
            f"The strategy was published {len(later)} more "
            f"{'time' if len(later) == 1 else 'times'} in the window; the arms are drawn by a "
            "salted hash and stay the same."
        )
    changed = [one.number for one in later if _hold_out(one) != held]
    if changed:
        notes.append(
            f"The hold-out was changed in commit {changed[0]}: some customers changed their arm, "
            "so the effect looks smaller than it is."
        )
    if ran_before:
        notes.append(
            f"The strategy has run since {since}; what customers were before is taken from the "
            "time before that day."
        )
        if strategy["audience"]:
            notes.append(
                f"The audience ({strategy['audience']}) was chosen while the strategy ran, so who "
                "is in it may depend on the arm: measure its first commit (--commit) as well."
            )
    twins = sorted({_name(one) for one in others if held["share"] and _hold_out(one) == held})
    if twins:
        notes.append(
            f"{', '.join(twins)} {'holds' if len(twins) == 1 else 'hold'} out the same customers: "
            "the effect is that of all of them together. Give each strategy a salt of its own."
        )
    return notes
