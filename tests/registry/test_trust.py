"""What scoring trusts and MLflow shows: tampering is refused by name, crashes are repaired."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.errors import ModelError, RegistryError, UsageError
from registry import kept, projection
from registry.ledger import Ledger
from registry.promote import PromoteConfig, run_promote
from registry.reconcile import ReconcileConfig, run_reconcile
from registry.releases import Release, releases_of, verified_model, versions_of
from registry.rollback import previous, run_rollback
from registry.trust import trusted
from tests.registry.shop import Rules, candidate, rules
from tests.registry.test_promote import approve

OPEN = PromoteConfig(version=1).rulebook()


def score(given: Rules | None = None) -> Release:
    """Do what scoring does before it scores."""
    rulebook = given.promote(1).rulebook() if given else OPEN
    release = trusted("recommender", "Production", rulebook)
    with verified_model(release):
        return release


def move_alias(version: int, alias: str = "production") -> None:
    MlflowClient().set_registered_model_alias("recommender", alias, str(version))


def move_stage(version: int, stage: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        MlflowClient().transition_model_version_stage("recommender", str(version), stage)


@pytest.fixture
def two(mlflow_store: str) -> list[int]:
    """Two candidates, both released, the second one in Production."""
    versions = [candidate(number) for number in (1, 2)]
    for version in versions:
        run_promote(PromoteConfig(version=version, reviewer="rosa"))
    return versions


def test_the_holder_by_the_ledger_scores(two: list[int]) -> None:
    assert score().version == 2
    assert run_reconcile(ReconcileConfig()) == []


def test_nobody_scores_where_nobody_holds_the_stage(mlflow_store: str) -> None:
    with pytest.raises(UsageError, match="No version of recommender holds Production: promote"):
        score()


def test_an_alias_that_the_ledger_does_not_know_is_refused(two: list[int]) -> None:
    move_alias(1, "canary")
    with pytest.raises(UsageError, match="an alias that only MLflow knows was approved by nobody"):
        trusted("recommender", "canary", OPEN)


def test_a_moved_alias_stops_scoring_and_names_both_ways_out(two: list[int]) -> None:
    move_alias(1)
    with pytest.raises(RegistryError) as refused:
        score()
    adopt = "python -m registry.rollback --model_name recommender --version 1 --stage Production"
    undo = "python -m registry.reconcile --model_name recommender --repair true"
    assert "but the alias production points to version 1" in str(refused.value)
    assert adopt in str(refused.value) and undo in str(refused.value)
    with pytest.raises(RegistryError, match="somebody changed it in MLflow by hand"):
        run_reconcile(ReconcileConfig())
    assert run_reconcile(ReconcileConfig(repair=True)) == [
        "the alias production points to version 2"
    ]
    assert score().version == 2


def test_a_moved_alias_may_be_adopted(two: list[int]) -> None:
    move_alias(1)
    run_promote(PromoteConfig(version=two[0], reviewer="rosa", reason="adopted"))
    assert score().version == 1


@pytest.mark.parametrize("how", ["stage", "gone"])
def test_other_changes_by_hand_are_seen_too(two: list[int], how: str) -> None:
    if how == "stage":
        move_stage(1, "Production")
        reason = "version 1 stands at Production"
    else:
        MlflowClient().delete_registered_model_alias("recommender", "production")
        reason = "the alias production is gone"
    with pytest.raises(RegistryError, match=reason):
        score()
    run_reconcile(ReconcileConfig(repair=True))
    assert score().version == 2
    assert {int(v.version): v.current_stage for v in versions_of("recommender")} == {
        1: "Archived",
        2: "Production",
    }


def test_a_crash_between_ledger_and_alias_is_repaired(
    two: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(projection, "show", crash)
        with pytest.raises(KeyboardInterrupt):
            run_promote(PromoteConfig(version=candidate(3)))
    assert score().version == 3
    alias = MlflowClient().get_model_version_by_alias("recommender", "production")
    assert int(alias.version) == 2
    assert run_reconcile(ReconcileConfig()) == [
        "version 3 stands at Production",
        "the alias production points to version 3",
        "generation 3 of Production is shown",
    ]
    assert score().version == 3


def test_a_changed_byte_never_scores(two: list[int], tmp_path: Path) -> None:
    release = score()
    uri = MlflowClient().get_model_version("recommender", "2").source
    assert uri is not None
    place = Path(mlflow.artifacts.download_artifacts(uri))
    (file,) = place.rglob("items.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="items.parquet was changed"):
        score()
    assert release.version == 2


def test_a_model_swapped_with_its_manifest_never_scores(two: list[int], tmp_path: Path) -> None:
    """All files fit each other, and the tag in MLflow was changed with them."""
    releases = tmp_path / "artifacts" / releases_of("recommender")
    folders = sorted({f.parent for f in releases.rglob("manifest.json")})
    assert len(folders) == 2
    for file in folders[0].iterdir():
        other = folders[1] / file.name
        data = file.read_bytes()
        file.write_bytes(other.read_bytes())
        other.write_bytes(data)
    with pytest.raises(ModelError, match="was changed after it was approved"):
        score()


def test_a_missing_approval_never_scores(mlflow_store: str, tmp_path: Path) -> None:
    run_promote(PromoteConfig(version=candidate(1)))
    given = rules(tmp_path / "rules", 1, "anna")
    with pytest.raises(RegistryError, match=r"approvals: 1 wanted, 0 count \(nobody\)"):
        score(given)


def test_a_reviewer_who_was_removed_no_longer_counts(mlflow_store: str, tmp_path: Path) -> None:
    given = rules(tmp_path / "rules", 1, "anna", "bert")
    version = candidate(1)
    approve(given, version, "anna")
    run_promote(given.promote(version))
    assert score(given).version == 1
    file = Path(given.reviewers)
    people = json.loads(file.read_text())
    del people["reviewers"]["anna"]
    file.write_text(json.dumps(people))
    with pytest.raises(RegistryError, match="is unknown"):
        score(given)


def test_a_holder_that_lacks_approvals_by_now_is_approved_anew(
    mlflow_store: str, tmp_path: Path
) -> None:
    """The policy wants more than before; the same release stays, under a record of its own."""
    first, second = candidate(1), candidate(2)
    run_promote(PromoteConfig(version=first))
    run_promote(PromoteConfig(version=second))
    given = rules(tmp_path / "rules", 1, "anna")
    with pytest.raises(RegistryError, match="approvals: 1 wanted, 0 count"):
        run_promote(given.promote(second))
    approve(given, second, "anna")
    assert run_promote(given.promote(second)).generation == 3
    assert score(given).version == 2
    assert run_promote(given.promote(second)).generation == 3
    assert len(versions_of("recommender")) == 2
    assert previous(Ledger("recommender", "Production").history(), "", "").record.version == 1


def test_a_record_that_rolls_back_to_something_else_never_scores(
    mlflow_store: str, tmp_path: Path
) -> None:
    """Somebody with write access to the ledger names another model in an unsigned rollback."""
    given = rules(tmp_path / "rules", 1, "anna")
    for number in (1, 2):
        version = candidate(number)
        approve(given, version, "anna")
        run_promote(given.promote(version))
    run_rollback(Rules("policy.yaml", "reviewers.yaml", {}).rollback())
    with pytest.raises(RegistryError, match="approvals: 1 wanted, 0 count"):
        score(given)


def test_a_ledger_that_lost_its_last_record_is_noticed(two: list[int], tmp_path: Path) -> None:
    commits = tmp_path / "ledger" / "recommender" / "Production" / "_commits"
    (commits / "00000002.json").unlink()
    with pytest.raises(RegistryError, match="Generation 2 of recommender, Production, which"):
        score()


def test_a_ledger_that_lost_its_last_record_is_noticed_offline_by_who_scored_by_it(
    two: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kept.FOLDER, str(tmp_path / "kept"))
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_has_server", lambda: True)
        assert score().generation == 2
    monkeypatch.setattr(kept, "is_offline", lambda: True)
    assert score().generation == 2
    commits = tmp_path / "ledger" / "recommender" / "Production" / "_commits"
    (commits / "00000002.json").unlink()
    with pytest.raises(RegistryError, match="Generation 2 of recommender, Production, by which th"):
        score()


def test_a_rewritten_ledger_is_noticed(
    two: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its digests fit each other, but MLflow has shown another record."""
    history = Ledger("recommender", "Production").history()
    monkeypatch.setenv("RECSYS_LEDGER", str(tmp_path / "rewritten"))
    forged, head = Ledger("recommender", "Production"), None
    for generation in history:
        before = head.digest if head else None
        head = forged.append(replace(generation.record, predecessor=before, reviewer="x"), head)
    with pytest.raises(RegistryError, match="is missing in the ledger or was rewritten"):
        score()
