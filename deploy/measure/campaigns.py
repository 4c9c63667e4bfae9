"""Which campaigns to measure: a published commit of a strategy, and the days after it.

    before_start          before_end = start             end
        │  what they bought before │  what they buy now   │
  ──────┴──────────────────────────┴──────────────────────┴──▶

Where these arms were treated before the window, by this strategy or by another of the same salt,
`before_end` is the day that this began, not `start`: what customers bought meanwhile may be its
effect, and must not be taken for what they were before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import takewhile
from typing import Any

from obstore.store import ObjectStore

from deploy.measure.commits import arms_overlap, days_of, is_again, name_of, start_of, taken_back
from deploy.measure.notes import notes_of
from recsys.errors import DataError, UsageError
from recsys.progress import say
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
        before_end: first day on which these arms were treated; `start` or earlier.
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

    Of a strategy it is the newest commit whose window has passed, or that began by `start`; where
    there is none, the one that has been followed longest. A strategy whose tables were deleted is
    left out, unless it is the only one.

    Args:
        output: the folder that batch_score publishes to.
        interactions_end: first day after the newest interaction.
        window_days: length of the window.
        strategy: only this one; None for all that were published.
        commit: number of the commit; None to choose.
        start: first day of the window; None for the first day after what was scored with.

    Raises:
        DataError: nothing was published, or none of it is still there.
        UsageError: there is no such strategy or commit, or `start` lies before it.
    """
    store = store_of(output)
    every = CommitLog(store).history()
    if not every:
        raise DataError(f"Nothing was published in {output} yet: run batch_score first.")
    if commit is not None:
        chosen = [_numbered(every, commit, strategy, output)]
    else:
        names = sorted({name_of(one) for one in every})
        if strategy is not None and strategy not in names:
            raise UsageError(
                f"strategy={strategy} was never published in {output}: use {', '.join(names)}."
            )
        last_start = start or interactions_end - timedelta(days=window_days)
        found = {
            name: _chosen(store, [one for one in every if name_of(one) == name], last_start)
            for name in ([strategy] if strategy else names)
        }
        chosen = [one for one in found.values() if one is not None]
        gone = ", ".join(name for name, one in found.items() if one is None)
        if not chosen:
            raise DataError(f"The tables of {gone} were deleted: run batch_score again.")
        if gone:
            say(f"  left out, for their tables were deleted: {gone}")
    return [_campaign(one, every, window_days, start) for one in chosen]


def _numbered(every: list[Commit], number: int, strategy: str | None, output: str) -> Commit:
    """Return the commit that was asked for."""
    if not 1 <= number <= len(every):
        raise UsageError(f"commit={number} is not in {output}: there are 1 to {len(every)}.")
    commit = every[number - 1]
    if strategy is not None and name_of(commit) != strategy:
        raise UsageError(
            f"commit={number} is one of {name_of(commit)}: leave strategy={strategy} out, or "
            "choose another commit."
        )
    return commit


def _chosen(store: ObjectStore, own: list[Commit], last_start: date) -> Commit | None:
    """Return the newest commit that starts by `last_start`, else the one that starts first.

    A table that was taken back at once is none to measure.

    Args:
        store: of the published folder.
        own: the strategy's commits, oldest first.
        last_start: the last day on which its window may begin.

    Returns:
        None where the tables of all of them were deleted.
    """
    days, back = days_of(own), taken_back(own)
    newest_first = [one for one in reversed(own) if one.number not in back]
    # `collect` deletes the oldest, so what comes before one that is gone is gone too.
    there = list(
        takewhile(lambda one: read_bytes(store, one.payload["manifest"]) is not None, newest_first)
    )
    passed = (one for one in there if days[one.number] <= last_start)
    first = min(there, key=lambda one: (days[one.number], -one.number), default=None)
    return next(passed, first)


def _campaign(
    commit: Commit, every: Sequence[Commit], window_days: int, start: date | None
) -> Campaign:
    """Describe a commit as a campaign: since when it runs, which lists followed, what to note."""
    own = [one for one in every if name_of(one) == name_of(commit)]
    days, back = days_of(own), taken_back(own)
    first = days[commit.number]
    if start is not None and start < first:
        raise UsageError(
            f"start={start} lies before commit {commit.number} of {name_of(commit)}, which was "
            f"scored with the purchases until then: its first day can be {first}."
        )
    start = start or first
    end = start + timedelta(days=window_days)
    originals = [one for one in every if not is_again(one)]
    ran = [one for one in originals if arms_overlap(one, commit) and start_of(one) < start]
    later = [
        (one, days[one.number])
        for one in own
        if one.number > commit.number and one.number not in back and start <= days[one.number] < end
    ]
    others = [one for one in originals if name_of(one) != name_of(commit) and start_of(one) < end]
    return Campaign(
        commit=commit.number,
        digest=commit.digest,
        facts=commit.payload["facts"],
        start=start,
        window_days=window_days,
        before_end=min([start, *map(start_of, ran)]),
        lists=((commit.number, start), *((one.number, day) for one, day in later)),
        notes=tuple(notes_of(commit, ran, later, others)),
    )
