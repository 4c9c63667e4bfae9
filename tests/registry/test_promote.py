"""Promotion against a real registry: what is written, what is refused, and that a rerun is safe."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from recsys.errors import ModelError, RegistryError, UsageError
from recsys.once import REQUEST_TAG
from registry import deciding
from registry.ledger import DECISION, DOSSIER, PROMOTE, Generation, Ledger
from registry.promote import PromoteConfig, run_promote
from registry.releases import MODEL_DIGEST, candidates_of, find_version, releases_of, versions_of
from registry.review import ReviewConfig, WaitingConfig, run_approve, run_reject, run_waiting
from registry.reviewers import read_key
from registry.reviews import APPROVE, FOLDER, Review, signed
from registry.rollback import run_rollback
from registry.rulebook import read_policy, read_reviewers
from registry.trust import find_holder, holder_of, subject_of, trusted, unproven
from tests.registry.shop import DATASET, Rules, candidate, rules

RULEBOOK = PromoteConfig(version=1).rulebook()


def approve(given: Rules, version: int, reviewer: str, **more: str) -> Review:
    """Approve, or with `comment` alone say something else."""
    return run_approve(_review(given, version, reviewer, **more))


def _review(given: Rules, version: int, reviewer: str, **more: str) -> ReviewConfig:
    return ReviewConfig(
        version=version,
        reviewer=reviewer,
        key=given.keys[reviewer],
        policy=given.policy,
        reviewers=given.reviewers,
        **more,
    )


def artifacts(run_id: str, folder: str) -> set[str]:
    return {f.path.rsplit("/", 1)[-1] for f in MlflowClient().list_artifacts(run_id, folder)}


def test_a_release_is_a_copy_with_all_its_evidence(mlflow_store: str) -> None:
    version = candidate(1)
    release = run_promote(PromoteConfig(version=version, reviewer="anna", reason="wins"))
    assert (release.name, release.version, release.generation) == ("recommender", 1, 1)
    run = MlflowClient().get_run(release.run_id)
    experiment = mlflow.get_experiment_by_name(releases_of("recommender"))
    assert experiment is not None
    assert run.info.experiment_id == experiment.experiment_id
    assert artifacts(release.run_id, "evidence/Production-0001") == {
        DOSSIER,
        DECISION,
        "approvals.json",
        "record.json",
    }
    (shown,) = versions_of("recommender")
    assert shown.current_stage == "Production"
    assert shown.run_id == release.run_id
    assert "als promoted" not in shown.description
    assert "version 1 (als) promoted to Production · by anna" in shown.description
    assert "nobody was asked (the policy wants no approvals)" in shown.description
    assert shown.tags["recsys.production.reason"] == "wins"
    assert MlflowClient().get_model_version_by_alias("recommender", "production").version == 1


def test_the_record_says_what_it_rests_on(mlflow_store: str) -> None:
    run_promote(PromoteConfig(version=candidate(1), reviewer="anna", reason="wins"))
    (generation,) = Ledger("recommender", "Production").history()
    record = generation.record
    assert {DOSSIER, DECISION} < set(record.evidence)
    assert any(name.startswith("hits/") and name.endswith("/test") for name in record.evidence)
    assert set(record.files) == {
        "customer_factors.parquet",
        "customers.parquet",
        "item_factors.parquet",
        "items.parquet",
        "model.json",
    }
    assert record.policy_digest == read_policy().digest
    assert record.reviewers_digest == read_reviewers().digest
    assert (record.approvals_wanted, record.approvals, record.predecessor) == (0, (), None)
    assert record.speaks_of == "this model"
    assert record.sentence.startswith("als beats popularity: ndcg_at_10 +0.0200")


def test_promoting_the_holder_again_changes_nothing(mlflow_store: str) -> None:
    version = candidate(1)
    for _ in range(2):
        release = run_promote(PromoteConfig(version=version, reviewer="anna"))
        assert (release.version, release.generation) == (1, 1)
    assert len(versions_of("recommender")) == 1


def test_one_release_may_hold_two_stages(mlflow_store: str) -> None:
    version = candidate(1)
    for stage in ("Staging", "Production"):
        assert run_promote(PromoteConfig(version=version, stage=stage)).version == 1
    (shown,) = versions_of("recommender")
    assert shown.current_stage == "Production"
    for alias in ("staging", "production"):
        assert MlflowClient().get_model_version_by_alias("recommender", alias).version == 1


def test_the_former_holder_is_archived(mlflow_store: str) -> None:
    for number in (1, 2):
        run_promote(PromoteConfig(version=candidate(number)))
    assert {int(v.version): v.current_stage for v in versions_of("recommender")} == {
        1: "Archived",
        2: "Production",
    }


def test_an_unknown_candidate_is_refused(mlflow_store: str) -> None:
    candidate(1)
    with pytest.raises(UsageError, match="has no version 7: there are 1"):
        run_promote(PromoteConfig(version=7))


def test_evidence_is_judged_again_by_the_reviewers_policy(mlflow_store: str) -> None:
    with pytest.raises(RegistryError, match=r"may not hold Production: ndcg_at_10 changes by"):
        run_promote(PromoteConfig(version=candidate(1, gain=0.0005)))
    assert find_holder("recommender", "Production") is None
    assert versions_of("recommender") == []


def test_a_stage_may_ask_for_no_conditions(mlflow_store: str) -> None:
    assert run_promote(PromoteConfig(version=candidate(1, gain=0.0), stage="Staging")).version == 1


def test_a_comparison_with_an_older_champion_does_not_count(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = candidate(1)
    monkeypatch.setattr("tests.registry.shop.RECIPE", "e" * 64)
    second = candidate(2)
    monkeypatch.undo()
    run_promote(PromoteConfig(version=first))
    with pytest.raises(RegistryError, match=r"compared with popularity, but version 1 \(als\)"):
        run_promote(PromoteConfig(version=second))


def test_approvals_are_needed_as_the_policy_says(mlflow_store: str, tmp_path: Path) -> None:
    given, version = rules(tmp_path / "rules", 2, "anna", "bert"), candidate(1)
    with pytest.raises(RegistryError, match=r"approvals: 2 wanted, 0 count \(nobody\)"):
        run_promote(given.promote(version))
    approve(given, version, "anna")
    with pytest.raises(RegistryError, match=r"approvals: 2 wanted, 1 count \(anna\)"):
        run_promote(given.promote(version))
    approve(given, version, "anna", comment="again")
    with pytest.raises(RegistryError, match="approve by anna: said twice, and one person counts"):
        run_promote(given.promote(version))
    approve(given, version, "bert")
    release = run_promote(given.promote(version))
    assert trusted("recommender", "Production", given.promote(1).rulebook()) == release
    (generation,) = Ledger("recommender", "Production").history()
    assert {review["reviewer"] for review in generation.record.approvals} == {"anna", "bert"}
    text = mlflow.artifacts.load_text(
        f"runs:/{release.run_id}/evidence/Production-0001/approvals.json"
    )
    assert len(json.loads(text)["approvals"]) == 2


def test_what_waits_is_listed_with_what_is_missing(mlflow_store: str, tmp_path: Path) -> None:
    given = rules(tmp_path / "rules", 1, "anna")
    versions = [candidate(number) for number in (1, 2, 3)]
    approve(given, versions[0], "anna")
    run_promote(given.promote(versions[0]))
    approve(given, versions[1], "anna")
    config = WaitingConfig(policy=given.policy, reviewers=given.reviewers)
    told = [line.strip() for line in run_waiting(config) if line[3] != " "]
    assert told == [
        "3  approvals: 1 wanted, 0 count (nobody)",
        "2  approved by anna; may be promoted",
        "1  holds Production (generation 1)",
    ]


def test_a_rejection_stands_until_it_is_taken_back(mlflow_store: str, tmp_path: Path) -> None:
    given, version = rules(tmp_path / "rules", 0, "anna"), candidate(1)
    with pytest.raises(UsageError, match="A rejection needs a comment"):
        run_reject(_review(given, version, "anna"))
    run_reject(_review(given, version, "anna", comment="loses in toys"))
    with pytest.raises(RegistryError, match="anna rejected it: loses in toys"):
        run_promote(given.promote(version))
    approve(given, version, "anna")
    assert run_promote(given.promote(version)).generation == 1


def test_an_approval_before_the_last_decision_does_not_count(
    mlflow_store: str, tmp_path: Path
) -> None:
    given = rules(tmp_path / "rules", 1, "anna")
    first, second = candidate(1), candidate(2)
    for version in (first, second):
        approve(given, version, "anna")
    run_promote(given.promote(first))
    with pytest.raises(RegistryError, match="it was given before the last decision on this stage"):
        run_promote(given.promote(second))


def test_a_dossier_that_changed_after_the_approval_is_refused(
    mlflow_store: str, tmp_path: Path
) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna"), candidate(1)
    approve(given, version, "anna")
    (dossier,) = (tmp_path / "artifacts").rglob(DOSSIER)
    dossier.write_text("<h1>Much better</h1>")
    with pytest.raises(RegistryError, match="the dossier, or what belongs to it, was changed"):
        run_promote(given.promote(version))


def test_a_model_that_changed_after_the_approval_is_refused(
    mlflow_store: str, tmp_path: Path
) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna"), candidate(1)
    approve(given, version, "anna")
    (file,) = (tmp_path / "artifacts").rglob("item_factors.parquet")
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(ModelError, match="item_factors.parquet was changed"):
        run_promote(given.promote(version))


def test_nobody_approves_a_model_of_their_own(mlflow_store: str, tmp_path: Path) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna"), candidate(1)
    author = MlflowClient().search_runs(["1"])[0].info.user_id
    file = tmp_path / "rules" / "reviewers.yaml"
    people = json.loads(file.read_text())
    people["reviewers"]["anna"]["accounts"] = [author]
    file.write_text(json.dumps(people))
    with pytest.raises(RegistryError, match="anna made this model, and nobody approves"):
        approve(given, version, "anna")


def test_a_key_of_somebody_else_is_refused(mlflow_store: str, tmp_path: Path) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna", "bert"), candidate(1)
    config = _review(given, version, "anna").model_copy(update={"key": given.keys["bert"]})
    with pytest.raises(UsageError, match="is not one of anna's in"):
        run_approve(config)


def test_a_lost_release_is_made_again(mlflow_store: str, tmp_path: Path) -> None:
    version = candidate(1)
    first = run_promote(PromoteConfig(version=version))
    for file in (tmp_path / "artifacts" / releases_of("recommender")).rglob("items.parquet"):
        file.write_bytes(b"nothing")
    second = run_promote(PromoteConfig(version=version))
    assert (first.version, second.version, second.generation) == (1, 2, 2)
    assert trusted("recommender", "production", RULEBOOK) == second


def test_the_stage_before_may_be_rolled_back_to(mlflow_store: str) -> None:
    versions = [candidate(number) for number in (1, 2, 3)]
    for version in versions:
        run_promote(PromoteConfig(version=version))
    config = Rules("policy.yaml", "reviewers.yaml", {})
    assert [run_rollback(config.rollback()).version for _ in range(2)] == [2, 1]
    with pytest.raises(UsageError, match="held Production of recommender before version 1"):
        run_rollback(config.rollback())
    assert holder_of("recommender", "Production").version == 1
    assert trusted("recommender", "Production", RULEBOOK).generation == 5
    stages = {int(v.version): v.current_stage for v in versions_of("recommender")}
    assert stages == {1: "Production", 2: "Archived", 3: "Archived"}
    # A promotion starts anew from there.
    run_promote(PromoteConfig(version=versions[1]))
    assert run_rollback(config.rollback()).version == 1


def test_a_rollback_to_a_version_happens_once(mlflow_store: str) -> None:
    for number in (1, 2, 3):
        run_promote(PromoteConfig(version=candidate(number)))
    config = Rules("policy.yaml", "reviewers.yaml", {}).rollback(version=1)
    assert [run_rollback(config).generation for _ in range(2)] == [4, 4]
    assert holder_of("recommender", "Production").version == 1
    with pytest.raises(UsageError, match="version=3 never held Production .* before: none did"):
        run_rollback(config.model_copy(update={"version": 3}))


def test_a_rollback_is_signed_where_approvals_are_wanted(mlflow_store: str, tmp_path: Path) -> None:
    given = rules(tmp_path / "rules", 1, "anna", "bert")
    for number in (1, 2):
        version = candidate(number)
        approve(given, version, "anna")
        run_promote(given.promote(version))
    with pytest.raises(UsageError, match="There is no key"):
        run_rollback(given.rollback(reviewer="nobody"))
    release = run_rollback(given.rollback(reviewer="bert", key=given.keys["bert"]))
    assert release.version == 1
    assert trusted("recommender", "Production", given.promote(1).rulebook()) == release


def test_a_changed_release_is_not_rolled_back_to(mlflow_store: str, tmp_path: Path) -> None:
    for number in (1, 2):
        release = run_promote(PromoteConfig(version=candidate(number)))
    for file in (tmp_path / "artifacts" / releases_of("recommender")).rglob("model.json"):
        file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ModelError, match="model.json was changed"):
        run_rollback(Rules("policy.yaml", "reviewers.yaml", {}).rollback())
    assert holder_of("recommender", "Production").version == release.version


def test_releases_carry_a_request_id(mlflow_store: str) -> None:
    release = run_promote(PromoteConfig(version=candidate(1)))
    run = MlflowClient().get_run(release.run_id)
    (version,) = versions_of("recommender")
    assert run.data.tags[REQUEST_TAG] == version.tags[REQUEST_TAG]


def tag(version: int, **tags: str) -> None:
    for name, value in tags.items():
        MlflowClient().set_model_version_tag(
            candidates_of("recommender"), str(version), f"recsys.{name}", value
        )


def test_the_record_says_what_the_model_says_not_its_tags(mlflow_store: str) -> None:
    version = candidate(1)
    tag(version, algorithm="ensemble", dataset_digest="f" * 64, evaluated_version="7")
    run_promote(PromoteConfig(version=version))
    (generation,) = Ledger("recommender", "Production").history()
    record = generation.record
    assert (record.algorithm, record.dataset_digest) == ("als", DATASET)
    assert record.speaks_of == "this model"


def test_of_which_model_a_refit_is_stands_in_what_was_signed(mlflow_store: str) -> None:
    versions = [candidate(number) for number in (1, 2)]
    before, after = (find_version(candidates_of("recommender"), v) for v in versions)
    told = {
        "version": int(before.version),
        "evaluated_digest": before.tags[MODEL_DIGEST],
        "digest": after.tags[MODEL_DIGEST],
    }
    MlflowClient().log_dict(after.run_id, told, "refit.json")
    MlflowClient().log_text(after.run_id, "<h1>What the refit changed</h1>", "refit.html")
    tag(versions[1], evaluated_model_digest="f" * 64, evaluated_version="7")
    config = PromoteConfig(version=versions[1], stage="Staging")
    run_promote(config)
    (generation,) = Ledger("recommender", "Staging").history()
    assert generation.record.speaks_of == (
        "version 1 of recommender-candidates, of which this model is a refit"
    )
    MlflowClient().log_dict(after.run_id, told | {"digest": "f" * 64}, "refit.json")
    with pytest.raises(RegistryError, match="refit.json does not speak of this model"):
        run_promote(config)


def test_a_record_without_its_authors_never_scores(mlflow_store: str, tmp_path: Path) -> None:
    """Somebody who may write the ledger leaves out who made the model."""
    given, version = rules(tmp_path / "rules", 1, "anna", "bert"), candidate(1)
    approve(given, version, "anna")
    run_promote(given.promote(version))
    ledger = Ledger("recommender", "Production")
    (head,) = ledger.history()
    subject = replace(subject_of(head.record, PROMOTE), predecessor=head.digest, authors=())
    own = signed(APPROVE, subject, "bert", "", read_key(Path(given.keys["bert"])))
    honest = signed(
        APPROVE,
        replace(subject, authors=head.record.authors),
        "anna",
        "",
        read_key(Path(given.keys["anna"])),
    )
    for review, authors in ((own, ()), (honest, ()), (honest, ("somebody",))):
        record = replace(
            head.record,
            predecessor=head.digest,
            authors=authors,
            approvals=(review.to_json(),),
        )
        forged = Generation(2, "f" * 64, head.time, record)
        rulebook = given.promote(version).rulebook()
        lacking = unproven([head, forged], rulebook.of("Production"), rulebook.people)
        assert lacking[0] == "approvals: 1 wanted, 0 count (nobody)"
        assert "it names other authors of the model" in lacking[1]


@pytest.mark.parametrize("step", ["waiting", "approve"])
def test_a_name_that_no_model_has_is_refused(mlflow_store: str, tmp_path: Path, step: str) -> None:
    given = rules(tmp_path / "rules", 1, "anna")
    config = _review(given, 1, "anna", model_name="x'y")
    with pytest.raises(UsageError, match="model_name=x'y: use letters"):
        run_waiting(config) if step == "waiting" else run_approve(config)


def test_a_review_that_is_none_stops_nobody(
    mlflow_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna"), candidate(1)
    told = approve(given, version, "anna").to_json() | {"signed_at": None}
    folder = tmp_path / "ledger" / "recommender" / FOLDER / "Production"
    (folder / "0.json").write_text(json.dumps(told))
    candidate(2)
    capsys.readouterr()
    run_waiting(WaitingConfig(policy=given.policy, reviewers=given.reviewers))
    assert capsys.readouterr().out.count("0.json is no review of this version") == 1
    assert run_promote(given.promote(version)).generation == 1


def test_reviews_lie_beside_the_ledger(mlflow_store: str, tmp_path: Path) -> None:
    given, version = rules(tmp_path / "rules", 1, "anna"), candidate(1)
    approve(given, version, "anna")
    assert len(list((tmp_path / "ledger" / "recommender" / FOLDER / "Production").iterdir())) == 1


def test_a_decision_that_ends_well_while_others_look_at_it_was_not_killed(
    mlflow_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()

    def ends(_: str) -> bool:
        client.set_terminated(run_id)
        return False

    with deciding.decision_run(PROMOTE, "recommender", {}):
        (run_id,) = [run.info.run_id for run in mlflow.search_runs(output_format="list")]
        monkeypatch.setattr(deciding, "is_alive", ends)
        assert deciding.close_left("recommender") == 0
        assert client.get_run(run_id).info.status == "FINISHED"
