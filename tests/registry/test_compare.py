"""What decides, and what is refused before anything is compared."""

import pytest

from recsys.errors import UsageError
from registry.compare import CompareConfig
from registry.pairing import split_metric
from registry.rulebook import read_policy


def test_a_metric_without_question_asks_discover() -> None:
    assert split_metric("ndcg_at_10") == ("discover", "ndcg_at_10")
    assert split_metric("replenish/recall_at_5") == ("replenish", "recall_at_5")


def test_an_unknown_question_is_refused() -> None:
    with pytest.raises(UsageError, match="discover, replenish"):
        split_metric("guess/ndcg_at_10")


def test_what_describes_all_lists_together_cannot_decide() -> None:
    with pytest.raises(UsageError, match="coverage_at_10 describes all lists together"):
        split_metric("coverage_at_10")


def test_a_policy_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="policy=nowhere.yaml: there is no such file"):
        read_policy("nowhere.yaml")


def test_the_default_policy_is_there() -> None:
    assert read_policy(CompareConfig(dataset="x").policy).guardrails
