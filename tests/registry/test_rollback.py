"""What may come back, and how a ledger or a registry that has lost something is dealt with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from recsys.errors import RegistryError, UsageError
from registry import projection
from registry.history import HistoryConfig, run_history
from registry.ledger import Ledger
from registry.promote import PromoteConfig, run_promote
from registry.reconcile import ReconcileConfig, run_reconcile
from registry.review import WaitingConfig, run_waiting
from registry.rollback import run_rollback
from registry.trust import trusted
from tests.registry.shop import Rules, candidate, rules
from tests.registry.test_promote import approve

OPEN = Rules("policy.yaml", "reviewers.yaml", {})


@pytest.fixture
def given(mlflow_store: str, tmp_path: Path) -> Rules:
    """Three approved releases, the third one in Production."""
    asked = rules(tmp_path / "rules", 1, "anna", "ben", gates=[])
    for number in (1, 2, 3):
        version = candidate(number)
        approve(asked, version, "anna")
        run_promote(asked.promote(version))
    return asked


@pytest.fixture
def commits(tmp_path: Path) -> Path:
    return tmp_path / "ledger" / "recommender" / "Production" / "_commits"


def back(asked: Rules, **more: object) -> int:
    """Roll back, signed by anna; returns the version."""
    return run_rollback(asked.rollback(reviewer="anna", key=asked.keys["anna"], **more)).version


def scores(asked: Rules) -> int:
    """Return the version that may score."""
    return trusted("recommender", "Production", asked.promote(1).rulebook()).version


def policy(asked: Rules, **production: object) -> None:
    """Change what Production asks for."""
    file = Path(asked.policy)
    told = json.loads(file.read_text())
    told["stages"]["Production"] |= production
    file.write_text(json.dumps(told))


@pytest.mark.parametrize("lost", [[3], [1, 2, 3]])
def test_nobody_decides_on_a_ledger_that_has_lost_a_decision(
    given: Rules, commits: Path, lost: list[int]
) -> None:
    waiting = WaitingConfig(policy=given.policy, reviewers=given.reviewers)
    steps: list[Callable[[], object]] = [
        lambda: run_promote(given.promote(1)),
        lambda: back(given),
        lambda: approve(given, 1, "anna"),
        lambda: run_waiting(waiting),
        lambda: scores(given),
    ]
    for number in lost:
        (commits / f"{number:08d}.json").unlink()
    ledger = sorted(commits.parents[1].rglob("*.json"))
    for step in steps:
        with pytest.raises(RegistryError, match="Generation 3 of recommender, Production, which M"):
            step()
    assert sorted(commits.parents[1].rglob("*.json")) == ledger


def test_a_ledger_that_loses_a_decision_meanwhile_is_not_written_on(
    given: Rules, commits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history was read whole; then all that was decided since is lost."""
    monkeypatch.setattr(
        projection,
        "wait_until_shown",
        lambda _: [file.unlink() for file in commits.iterdir()],
    )
    with pytest.raises(RegistryError, match="restore the ledger from a backup"):
        back(given)
    assert list(commits.iterdir()) == []


def test_the_history_of_a_ledger_that_has_lost_a_decision_is_printed_with_a_warning(
    given: Rules, commits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_history(HistoryConfig())
    assert "!" not in capsys.readouterr().out
    (commits / "00000003.json").unlink()
    assert len(run_history(HistoryConfig())) == 2
    printed = capsys.readouterr().out
    assert "! Generation 3 of recommender, Production, which MLflow has shown, is miss" in printed
    assert "version 2 (als) promoted to Production, generation 2" in printed


def test_a_release_that_mlflow_lost_is_promoted_again(given: Rules) -> None:
    MlflowClient().delete_model_version("recommender", "3")
    cure = "promote candidate 3 again .python -m registry.promote --model_name recommender --ver"
    for repair in (False, True):
        with pytest.raises(RegistryError, match=cure):
            run_reconcile(ReconcileConfig(repair=repair))
    with pytest.raises(RegistryError, match=cure):
        scores(given)
    approve(given, 3, "ben")
    run_promote(given.promote(3))
    assert scores(given) == 4
    assert run_reconcile(ReconcileConfig()) == []
    # What held the stage before is another model, not the same one as it was before it was lost.
    assert back(given) == 2
    assert scores(given) == 2


def test_nobody_rolls_back_to_what_would_not_score(given: Rules) -> None:
    policy(given, approvals=0)
    for number in (4, 5):
        run_promote(given.promote(candidate(number)))
    policy(given, approvals=1)
    before = Ledger("recommender", "Production").history()
    with pytest.raises(RegistryError) as refused:
        back(given)
    assert str(refused.value) == (
        "Version 4 of recommender would not score: approvals: 1 wanted, 0 count (nobody). Nothing "
        "was recorded; --version 3 names one that would."
    )
    assert Ledger("recommender", "Production").history() == before
    assert back(given, version=3) == 3
    assert scores(given) == 3


def test_where_no_earlier_release_would_score_that_is_said(given: Rules) -> None:
    policy(given, approvals=2)
    with pytest.raises(RegistryError, match="no release that held the stage before would: promo"):
        back(given)


def test_a_moved_alias_is_adopted_by_the_command_that_is_named(mlflow_store: str) -> None:
    """The release was compared with what held the stage when it was promoted."""
    for number in (1, 2, 3):
        run_promote(PromoteConfig(version=candidate(number)))
    MlflowClient().set_registered_model_alias("recommender", "production", "1")
    named = (
        "python -m registry.rollback --model_name recommender --version 1 --stage Production --r"
    )
    with pytest.raises(RegistryError, match=named):
        run_reconcile(ReconcileConfig())
    assert run_rollback(OPEN.rollback(version=1)).version == 1
    assert run_reconcile(ReconcileConfig()) == []
    # What the stage was taken from by a rollback did not hold it before.
    MlflowClient().set_registered_model_alias("recommender", "production", "3")
    with pytest.raises(
        RegistryError, match=r"registry.promote .* --version 3 --stage Production adopts that"
    ):
        run_reconcile(ReconcileConfig())
    with pytest.raises(UsageError):
        run_rollback(OPEN.rollback(version=3))
