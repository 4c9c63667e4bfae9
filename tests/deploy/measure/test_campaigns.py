"""Which commit is measured, from when, and what is noted of it."""

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

from deploy.collect import collectable
from deploy.measure.campaigns import find_campaigns
from deploy.publish import republish
from recsys.errors import DataError, UsageError
from recsys.storage import keys_of, remove, store_of
from tests.deploy.measure.shop import START, START_DAY, day, halves, publish_campaign

ARMS = halves(4)


class InFiveDays(datetime):
    """A clock that is five days ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "InFiveDays":
        return super().now(tz) + timedelta(days=5)


def weekly(output: Path, weeks: int, **facts: object) -> None:
    for week in range(weeks):
        publish_campaign(output, ARMS, start=START_DAY + 7 * week, **facts)


def commits(output: Path, end: int, **asked: object) -> list[int]:
    found = find_campaigns(str(output), day(end), 28, **asked)  # type: ignore[arg-type]
    return [one.commit for one in found]


def test_the_newest_commit_whose_window_has_passed_is_measured(tmp_path: Path) -> None:
    weekly(tmp_path, 4)
    assert commits(tmp_path, START_DAY + 28) == [1]
    assert commits(tmp_path, START_DAY + 28 + 13) == [2]
    assert commits(tmp_path, START_DAY + 100) == [4]


def test_where_no_window_has_passed_it_is_the_one_followed_longest(tmp_path: Path) -> None:
    weekly(tmp_path, 4)
    assert commits(tmp_path, START_DAY + 27) == [1]
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 27), 28)
    assert one.days(day(START_DAY + 27)) == 27
    assert one.days(day(START_DAY - 5)) == 0


def test_every_strategy_is_measured_unless_one_is_named(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, name="b")
    publish_campaign(tmp_path, ARMS, name="a")
    assert commits(tmp_path, START_DAY + 28) == [2, 1]
    assert commits(tmp_path, START_DAY + 28, strategy="b") == [1]
    assert commits(tmp_path, START_DAY + 28, commit=2) == [2]


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, name="a")
    with pytest.raises(UsageError, match="never published .* use a"):
        commits(tmp_path, START_DAY, strategy="b")
    with pytest.raises(UsageError, match="there are 1 to 1"):
        commits(tmp_path, START_DAY, commit=2)
    with pytest.raises(UsageError, match="commit=1 is one of a"):
        commits(tmp_path, START_DAY, commit=1, strategy="b")


def test_an_empty_folder_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    with pytest.raises(DataError, match="run batch_score first"):
        commits(tmp_path / "table", START_DAY)


def test_tables_that_were_collected_are_not_chosen(tmp_path: Path) -> None:
    weekly(tmp_path, 3)
    store = store_of(str(tmp_path))
    gone = [key for key in collectable(store, 1, 0.0) if "/0001/" in key or "/0002/" in key]
    remove(store, gone)
    assert commits(tmp_path, START_DAY + 28) == [3]


def test_a_table_that_was_published_again_is_one_campaign(tmp_path: Path) -> None:
    weekly(tmp_path, 2)
    republish(store_of(str(tmp_path)), 1, "wrong prices")
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    # Commit 2 was taken back before anybody saw it.
    assert (one.commit, one.lists) == (1, ((1, START), (3, day(START_DAY + 7))))
    assert not one.notes


def test_a_table_that_was_taken_back_is_not_chosen(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, salt="old")
    publish_campaign(tmp_path, ARMS, salt="new")
    republish(store_of(str(tmp_path)), 1, "wrong audience")
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert (one.facts["strategy"]["hold_out"]["salt"], one.start) == ("old", START)
    assert "changed" not in " ".join(one.notes)
    (two,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28, commit=2)
    assert two.notes[0].startswith(f"On {START} the tables of commit 1 were put back (commit 3)")
    assert "hold-out was changed in commit 3" in " ".join(two.notes)


def test_a_table_that_is_put_back_counts_from_that_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weekly(tmp_path, 2)
    monkeypatch.setattr("recsys.storage.commits.datetime", InFiveDays)
    republish(store_of(str(tmp_path)), 1, "wrong prices")
    (two,) = find_campaigns(str(tmp_path), day(START_DAY + 7 + 28), 28)
    assert (two.commit, two.lists) == (2, ((2, day(START_DAY + 7)), (3, day(START_DAY + 12))))
    assert two.notes[0].endswith("followed those from then on: measure them by --commit 3.")
    (three,) = find_campaigns(str(tmp_path), day(START_DAY + 50), 28, commit=3)
    assert (three.start, three.before_end) == (day(START_DAY + 12), START)


def test_lists_that_followed_count_from_their_day(tmp_path: Path) -> None:
    weekly(tmp_path, 6)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert one.lists == tuple((week + 1, day(START_DAY + 7 * week)) for week in range(4))
    assert "published 3 more times" in " ".join(one.notes)


def test_a_strategy_that_ran_before_is_compared_with_the_time_before_that(tmp_path: Path) -> None:
    weekly(tmp_path, 3)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 14 + 28), 28)
    assert (one.commit, one.start, one.before_end) == (3, day(START_DAY + 14), START)
    assert f"has run since {START}" in " ".join(one.notes)
    assert "may depend on the arm" not in " ".join(one.notes)


def test_an_audience_that_was_chosen_while_the_strategy_ran_is_noted(tmp_path: Path) -> None:
    weekly(tmp_path, 2, audience="recency_days > 90")
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 35), 28)
    assert "(recency_days > 90) was chosen while the strategy ran" in " ".join(one.notes)


def test_another_salt_begins_a_new_test(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, start=START_DAY - 30, salt="old")
    publish_campaign(tmp_path, ARMS)
    publish_campaign(tmp_path, ARMS, start=START_DAY + 7, share=0.1)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert (one.commit, one.before_end) == (2, START)
    notes = " ".join(one.notes)
    assert "hold-out was changed in commit 3" in notes
    assert "stay the same" not in notes


def test_another_share_by_the_same_salt_is_no_new_test(tmp_path: Path) -> None:
    """Those held out before are among those held out now: the time before holds the old effect."""
    publish_campaign(tmp_path, ARMS, start=START_DAY - 56, share=0.5)
    publish_campaign(tmp_path, ARMS, start=START_DAY - 28, share=0.0)
    publish_campaign(tmp_path, ARMS, share=0.1)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert (one.start, one.before_end) == (START, day(START_DAY - 56))
    assert f"The strategy has run since {day(START_DAY - 56)}" in " ".join(one.notes)


def test_where_nobody_was_held_out_before_no_arms_differed(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, start=START_DAY - 28, share=0.0)
    publish_campaign(tmp_path, ARMS)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert (one.before_end, one.notes) == (START, ())


def test_a_strategy_of_the_same_salt_that_ran_before_counts_as_well(tmp_path: Path) -> None:
    first = day(START_DAY - 56)
    publish_campaign(tmp_path, ARMS, name="b", start=START_DAY - 56, salt="same", share=0.2)
    publish_campaign(tmp_path, ARMS, salt="same", audience="frequency >= 2")
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28, strategy="win_back")
    assert one.before_end == first
    notes = " ".join(one.notes)
    assert f"b, which draws its arms by the same salt, has run since {first}" in notes
    assert "was chosen while b ran" in notes


def test_a_later_start_leaves_the_days_of_the_campaign_out_of_the_time_before(
    tmp_path: Path,
) -> None:
    publish_campaign(tmp_path, ARMS)
    (one,) = find_campaigns(
        str(tmp_path), day(START_DAY + 40), 7, commit=1, start=day(START_DAY + 14)
    )
    assert (one.start, one.before_end) == (day(START_DAY + 14), START)


def test_a_window_before_its_commit_is_refused(tmp_path: Path) -> None:
    weekly(tmp_path, 2)
    with pytest.raises(UsageError, match=f"its first day can be {day(START_DAY + 7)}"):
        find_campaigns(str(tmp_path), day(START_DAY + 40), 7, commit=2, start=START)
    # Without a commit it is the one that customers followed then.
    (one,) = find_campaigns(
        str(tmp_path), day(START_DAY + 40), 7, "win_back", start=day(START_DAY + 3)
    )
    assert one.commit == 1


def test_a_strategy_whose_tables_were_deleted_does_not_block_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("gone", "there"):
        publish_campaign(tmp_path, ARMS, name=name)
    store = store_of(str(tmp_path))
    remove(store, list(keys_of(store, "runs/gone")))
    assert commits(tmp_path, START_DAY + 28) == [2]
    assert "left out, for their tables were deleted: gone" in capsys.readouterr().out
    with pytest.raises(DataError, match="tables of gone were deleted"):
        commits(tmp_path, START_DAY + 28, strategy="gone")
    remove(store, list(keys_of(store, "runs/there")))
    with pytest.raises(DataError, match="tables of gone, there were deleted"):
        commits(tmp_path, START_DAY + 28)


def test_strategies_that_hold_out_the_same_customers_are_noted(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, name="a", salt="same")
    publish_campaign(tmp_path, ARMS, name="b", salt="same", share=0.3)
    publish_campaign(tmp_path, ARMS, name="c", salt="other")
    publish_campaign(tmp_path, ARMS, name="d", salt="same", share=0.0)
    a, b, c, _ = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert "b draws the arms by the same salt" in " ".join(a.notes)
    assert "a draws the arms by the same salt" in " ".join(b.notes)
    assert not c.notes


def test_the_start_may_be_named(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS)
    (one,) = find_campaigns(
        str(tmp_path), day(START_DAY + 40), 7, strategy="win_back", start=day(START_DAY + 3)
    )
    assert (one.start, one.end) == (day(START_DAY + 3), day(START_DAY + 10))
    assert one.lists[0] == (1, day(START_DAY + 3))
