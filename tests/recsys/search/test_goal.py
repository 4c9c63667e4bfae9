"""What a search asks for."""

import pytest

from recsys.errors import UsageError
from recsys.search.goal import Done, Goal
from recsys.search.trial import FAILED, FINISHED, STOPPED, Outcome


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("ndcg_at_10", "ndcg_at_10"),
        ("discover/recall_at_5", "recall_at_5"),
        ("replenish/revenue_ndcg_at_20", "replenish/revenue_ndcg_at_20"),
    ],
)
def test_a_metric_is_named_as_runs_name_it(metric: str, name: str) -> None:
    assert Goal.of(metric, "max") == Goal(name, 1)
    assert Goal.of(metric, "min") == Goal(name, -1)


@pytest.mark.parametrize("metric", ["ndcg", "ndcg_at_7", "campaign/ndcg_at_10", "coverage_at_10"])
def test_an_unknown_metric_is_refused(metric: str) -> None:
    with pytest.raises(UsageError, match=f"metric={metric} is unknown: choose one of precision"):
        Goal.of(metric, "max")


def test_the_best_is_a_finished_one_and_the_earliest_of_equals() -> None:
    values = {0: (FINISHED, 0.1), 1: (FAILED, None), 2: (STOPPED, 0.9), 3: (FINISHED, 0.3)}
    values[4] = (FINISHED, 0.3)
    done = {
        n: Done(n, {}, Outcome(status, {"m": value or 0.0}), value)
        for n, (status, value) in values.items()
    }
    best, worst = Goal("m").best(done), Goal("m", -1).best(done)
    assert best is not None
    assert worst is not None
    assert (best.number, worst.number) == (3, 0)
    assert Goal("m").best({}) is None
    assert Goal("m").value(Outcome(FAILED)) is None
