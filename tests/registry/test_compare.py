"""The decision, case by case."""

import pytest

from recsys.comparison import Difference
from recsys.errors import UsageError
from recsys.metrics.intervals import Interval
from registry.compare import decide, split_metric
from registry.evidence import Entrant


def _entrant(name: str) -> Entrant:
    return Entrant(name, name, name, f"digest-{name}", f"models:/{name}", 0, {})


def _difference(mean: float, low: float, high: float) -> Difference:
    return Difference(Interval(mean, low, high), 3, 2, 1)


CHAMPION, CHALLENGER = _entrant("popularity"), _entrant("als")


def test_a_challenger_wins_where_the_whole_interval_lies_above_zero() -> None:
    winner, reason = decide(
        CHAMPION, CHALLENGER, {"als": _difference(0.02, 0.01, 0.03)}, "ndcg_at_10"
    )
    assert winner is CHALLENGER
    assert reason == (
        "als beats popularity on test ndcg_at_10: +0.0200 (+0.0100 … +0.0300), "
        "better for 3, alike for 2, worse for 1 customers."
    )


@pytest.mark.parametrize("low", [0.0, -0.001])
def test_a_challenger_does_not_win_on_noise(low: float) -> None:
    winner, reason = decide(
        CHAMPION, CHALLENGER, {"als": _difference(0.02, low, 0.05)}, "ndcg_at_10"
    )
    assert winner is CHAMPION
    assert "does not reliably beat" in reason


def test_without_a_challenger_the_champion_stays() -> None:
    assert decide(CHAMPION, None, {}, "ndcg_at_10")[0] is CHAMPION


def test_a_metric_without_question_asks_discover() -> None:
    assert split_metric("ndcg_at_10") == ("discover", "ndcg_at_10")
    assert split_metric("replenish/recall_at_5") == ("replenish", "recall_at_5")


def test_an_unknown_question_is_refused() -> None:
    with pytest.raises(UsageError, match="discover, replenish"):
        split_metric("guess/ndcg_at_10")
