"""Which commit is measured, from when, and what is noted of it."""

from pathlib import Path

import pytest

from deploy.collect import collectable
from deploy.measure.campaigns import find_campaigns
from deploy.publish import republish
from recsys.errors import DataError, UsageError
from recsys.storage import remove, store_of
from tests.deploy.measure.shop import START, START_DAY, day, halves, publish_campaign

ARMS = halves(4)


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
    assert (one.commit, [number for number, _ in one.lists]) == (1, [1, 2])


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


def test_another_hold_out_begins_a_new_test(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, start=START_DAY - 30, salt="old")
    publish_campaign(tmp_path, ARMS)
    publish_campaign(tmp_path, ARMS, start=START_DAY + 7, share=0.1)
    (one,) = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert (one.commit, one.before_end) == (2, START)
    assert "hold-out was changed in commit 3" in " ".join(one.notes)


def test_strategies_that_hold_out_the_same_customers_are_noted(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS, name="a", salt="same")
    publish_campaign(tmp_path, ARMS, name="b", salt="same")
    publish_campaign(tmp_path, ARMS, name="c", salt="other")
    a, _, c = find_campaigns(str(tmp_path), day(START_DAY + 28), 28)
    assert "b holds out the same customers" in " ".join(a.notes)
    assert not c.notes


def test_the_start_may_be_named(tmp_path: Path) -> None:
    publish_campaign(tmp_path, ARMS)
    (one,) = find_campaigns(
        str(tmp_path), day(START_DAY + 40), 7, strategy="win_back", start=day(START_DAY + 3)
    )
    assert (one.start, one.end) == (day(START_DAY + 3), day(START_DAY + 10))
    assert one.lists[0] == (1, day(START_DAY + 3))
