"""Which signatures count: hand-made reviews against hand-made subjects."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.errors import UsageError
from registry.ledger import PROMOTE, ROLLBACK
from registry.policy import StageRules
from registry.reviewers import PASSPHRASE, Reviewers, make_key, public_part, read_key
from registry.reviews import APPROVE, REJECT, Count, Review, Subject, count, signed

SUBJECT = Subject(PROMOTE, "recommender", "Production", "m" * 64, "e" * 64, "p" * 64)
RULES = StageRules(approvals=2)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    files = {name: folder / f"{name}.pem" for name in ("anna", "bert", "mallory")}
    for file in files.values():
        make_key(file)
    return files


@pytest.fixture(scope="module")
def people(keys: dict[str, Path]) -> Reviewers:
    """Anna and Bert; nobody knows Mallory's key."""
    known = {
        name: {"keys": [public_part(read_key(keys[name]))], "accounts": [f"{name}@shop"]}
        for name in ("anna", "bert")
    }
    return Reviewers.checked({"reviewers": known}, "test")


def sign(keys: dict[str, Path], name: str, verdict: str = APPROVE, **changes: object) -> Review:
    return signed(verdict, replace(SUBJECT, **changes), name, "read it", read_key(keys[name]))


def counted(reviews: list[Review], people: Reviewers, rules: StageRules = RULES) -> Count:
    return count(reviews, SUBJECT, {"trainer"}, rules, people)


def refusal(review: Review, people: Reviewers, rules: StageRules = RULES) -> str:
    found = counted([review], people, rules)
    assert found.approvals == ()
    (reason,) = found.refused
    return reason


def test_each_reviewer_counts_once(keys: dict[str, Path], people: Reviewers) -> None:
    both = [sign(keys, "anna"), sign(keys, "bert")]
    assert counted(both, people) == Count(tuple(both), (), ())
    twice = counted([sign(keys, "anna"), sign(keys, "anna")], people)
    assert len(twice.approvals) == 1
    assert twice.refused == ("approve by anna: said twice, and one person counts once",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_digest": "x" * 64}, "it is about the model xxxxxxxxxxxx"),
        ({"evidence_digest": "x" * 64}, "the dossier, or what belongs to it, was changed since"),
        ({"predecessor": None}, "it was given before the last decision on this stage"),
        ({"predecessor": "x" * 64}, "it was given before the last decision on this stage"),
        ({"stage": "Staging"}, "it is about another decision (promote, recommender, Staging)"),
        ({"model_name": "other"}, "it is about another decision (promote, other, Production)"),
        ({"action": ROLLBACK}, "it is about another decision (rollback, recommender, Production)"),
    ],
)
def test_an_approval_of_something_else_does_not_count(
    keys: dict[str, Path], people: Reviewers, changes: dict[str, object], reason: str
) -> None:
    assert refusal(sign(keys, "anna", **changes), people) == f"approve by anna: {reason}"


def test_an_unknown_key_does_not_count(keys: dict[str, Path], people: Reviewers) -> None:
    assert "is unknown (reviewers.yaml)" in refusal(sign(keys, "mallory"), people)


def test_a_name_that_is_not_the_keys_does_not_count(
    keys: dict[str, Path], people: Reviewers
) -> None:
    review = signed(APPROVE, SUBJECT, "anna", "", read_key(keys["bert"]))
    assert refusal(review, people) == "approve by anna: signed with the key of bert"


def test_the_author_does_not_count(keys: dict[str, Path], people: Reviewers) -> None:
    reviews = [sign(keys, "anna"), sign(keys, "bert")]
    found = count(reviews, SUBJECT, {"anna@shop"}, RULES, people)
    assert [review.reviewer for review in found.approvals] == ["bert"]
    assert found.refused == (
        "approve by anna: anna made this model, and nobody approves a model of their own",
    )


def test_whoever_the_policy_does_not_name_does_not_count(
    keys: dict[str, Path], people: Reviewers
) -> None:
    rules = StageRules(approvals=1, approvers=("bert",))
    reason = refusal(sign(keys, "anna"), people, rules)
    assert "anna is not among the approvers of Production" in reason


def test_the_last_word_of_a_person_counts(keys: dict[str, Path], people: Reviewers) -> None:
    yes, no = sign(keys, "anna"), sign(keys, "anna", REJECT)
    assert counted([yes, no], people) == Count((), (no,), ())
    back = sign(keys, "anna")
    assert counted([yes, no, back], people).approvals == (back,)


def test_a_rejection_outlasts_decisions_and_dossiers(
    keys: dict[str, Path], people: Reviewers
) -> None:
    no = sign(keys, "anna", REJECT, predecessor=None, evidence_digest="x" * 64)
    assert counted([no], people).rejections == (no,)
    # Taken back under another dossier: neither counts any longer.
    back = sign(keys, "anna", evidence_digest="x" * 64)
    found = counted([no, back], people)
    assert found.approvals == found.rejections == ()


def test_an_author_may_reject(keys: dict[str, Path], people: Reviewers) -> None:
    found = count([sign(keys, "anna", REJECT)], SUBJECT, {"anna"}, RULES, people)
    assert len(found.rejections) == 1


FIELDS = ("verdict", "reviewer", "comment", "signed_at", *asdict(SUBJECT))


@given(field=st.sampled_from(FIELDS), text=st.text(max_size=20))
def test_no_word_can_be_changed_after_the_signature(
    keys: dict[str, Path], people: Reviewers, field: str, text: str
) -> None:
    review = sign(keys, "anna")
    told = review.to_json()
    place = told["subject"] if field in told["subject"] else told
    if place[field] == text:
        return
    place[field] = text
    found = count([Review.from_json(told)], SUBJECT, set(), RULES, people)
    assert found.approvals == found.rejections == ()


def test_a_review_survives_its_form_as_data(keys: dict[str, Path]) -> None:
    review = sign(keys, "anna")
    assert Review.from_json(review.to_json()) == review


@pytest.mark.parametrize("data", [{}, {"subject": {}}, {"subject": "x"}, {"verdict": []}])
def test_what_is_no_review_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="this is no review"):
        Review.from_json(data)


def test_two_people_cannot_have_one_key(people: Reviewers) -> None:
    key = people.reviewers["anna"].keys[0]
    both = {name: {"keys": [key]} for name in ("anna", "bert")}
    with pytest.raises(UsageError, match="anna and bert have the same key"):
        Reviewers.checked({"reviewers": both}, "test")


def test_a_key_must_be_a_key() -> None:
    with pytest.raises(UsageError, match="is no public key"):
        Reviewers.checked({"reviewers": {"anna": {"keys": ["ed25519:short"]}}}, "test")


def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "anna.pem"
    make_key(file)
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already: a key is never replaced"):
        make_key(file)
    file.chmod(0o644)
    with pytest.raises(UsageError, match="Others may read the key"):
        read_key(file)


def test_a_key_may_have_a_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "anna.pem"
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    public = make_key(file)
    assert public_part(read_key(file)) == public
    monkeypatch.setenv(PASSPHRASE, "wrong horse")
    with pytest.raises(UsageError, match="the passphrase is wrong"):
        read_key(file)
    monkeypatch.delenv(PASSPHRASE)
    with pytest.raises(UsageError, match=f"set or unset {PASSPHRASE}"):
        read_key(file)
