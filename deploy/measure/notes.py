"""What besides the lists of a commit may have moved its arms, for people."""

from collections.abc import Sequence
from datetime import date

from deploy.measure.commits import (
    arms_overlap,
    hold_out_of,
    is_again,
    name_of,
    same_table,
    start_of,
)
from recsys.storage import Commit


def notes_of(
    commit: Commit,
    ran: Sequence[Commit],
    later: Sequence[tuple[Commit, date]],
    others: Sequence[Commit],
) -> list[str]:
    """Say what a reader must know of a commit, what matters most first.

    Args:
        commit: what is measured.
        ran: commits that treated these arms before the window, see `arms_overlap`.
        later: those of the strategy that customers followed in the window, and from which day.
        others: those of other strategies until the window's end.
    """
    return [
        *_put_back(commit, later),
        *_published(commit, [one for one, _ in later]),
        *_ran_before(commit, ran),
        *_twins(commit, others),
    ]


def _put_back(commit: Commit, later: Sequence[tuple[Commit, date]]) -> list[str]:
    return [
        f"On {day} the tables of commit {one.payload['republished']} were put back (commit "
        f"{one.number}), and customers followed those from then on: measure them by --commit "
        f"{one.number}."
        for one, day in later
        if is_again(one) and not same_table(one, commit)
    ]


def _published(commit: Commit, later: Sequence[Commit]) -> list[str]:
    notes, new = [], sum(not is_again(one) for one in later)
    changed = [one.number for one in later if hold_out_of(one) != hold_out_of(commit)]
    if new:
        stay = "" if changed else "; the arms are drawn by a salted hash and stay the same"
        times = "time" if new == 1 else "times"
        notes.append(f"The strategy was published {new} more {times} in the window{stay}.")
    if changed:
        notes.append(
            f"The hold-out was changed in commit {changed[0]}: some customers changed their arm, "
            "so the effect looks smaller than it is."
        )
    return notes


def _ran_before(commit: Commit, ran: Sequence[Commit]) -> list[str]:
    if not ran:
        return []
    first, audience = min(ran, key=start_of), commit.payload["facts"]["strategy"]["audience"]
    own, since = name_of(first) == name_of(commit), start_of(first)
    name = "the strategy" if own else name_of(first)
    who = "The strategy" if own else f"{name}, which draws its arms by the same salt,"
    notes = [
        f"{who} has run since {since}; what customers were before is taken from the time before "
        "that day."
    ]
    if audience and since < start_of(commit):
        notes.append(
            f"The audience ({audience}) was chosen while {name} ran, so who is in it may depend "
            "on the arm" + (": measure its first commit (--commit) as well." if own else ".")
        )
    return notes


def _twins(commit: Commit, others: Sequence[Commit]) -> list[str]:
    twins = sorted({name_of(one) for one in others if arms_overlap(one, commit)})
    if not twins:
        return []
    return [
        f"{', '.join(twins)} {'draws' if len(twins) == 1 else 'draw'} the arms by the same salt: "
        "the effect is that of all of them together. Give each strategy a salt of its own."
    ]
