"""Which signatures count: hand-made reviews against hand-made subjects."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.ledger import PROMOTE, ROLLBACK, VARIABLE
from registry.policy import StageRules
from registry.reviewers import Reviewers, make_key, public_part, read_key
from registry.reviews import APPROVE, REJECT, Count, Review, Subject, count, keep, kept, signed

SUBJECT = Subject(PROMOTE, "recommender", "Production", "m" * 64, "e" * 64, "p" * 64, ("trainer",))
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
    return count(reviews, SUBJECT, rules, people)


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
        ({"authors": ("somebody",)}, "it names other authors of the model"),
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
    subject = replace(SUBJECT, authors=("anna@shop",))
    reviews = [sign(keys, name, authors=subject.authors) for name in ("anna", "bert")]
    found = count(reviews, subject, RULES, people)
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
    subject = replace(SUBJECT, authors=("anna",))
    found = count([sign(keys, "anna", REJECT)], subject, RULES, people)
    assert len(found.rejections) == 1


TUPLES = ("authors",)
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
    place[field] = [text] if field in TUPLES else text
    found = count([Review.from_json(told)], SUBJECT, RULES, people)
    assert found.approvals == found.rejections == ()


def test_a_review_survives_its_form_as_data(keys: dict[str, Path]) -> None:
    review = sign(keys, "anna")
    assert Review.from_json(review.to_json()) == review


@pytest.mark.parametrize("data", [{}, {"subject": {}}, {"subject": "x"}, {"verdict": []}])
def test_what_is_no_review_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="this is no review"):
        Review.from_json(data)


@pytest.mark.parametrize("field", ["verdict", "reviewer", "comment", "signed_at", "key"])
@pytest.mark.parametrize("value", [None, 1, {}, []])
def test_a_review_of_other_types_is_none(keys: dict[str, Path], field: str, value: object) -> None:
    with pytest.raises(ValueError, match="this is no review"):
        Review.from_json(sign(keys, "anna").to_json() | {field: value})


JUNK = {
    "deep": b"[" * 200_000,
    "list": b"[]",
    "nobody": b"null",
    "bytes": b"\xff\xfe",
    "half": b'{"verdict": "appr',
}


def test_what_is_no_review_stops_nobody(
    keys: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    review = sign(keys, "anna")
    keep(review)
    told = json.dumps(review.to_json() | {"signed_at": None}).encode()
    for name, data in {**JUNK, "null": told}.items():
        (tmp_path / "recommender" / "reviews" / "Production" / f"{name}.json").write_bytes(data)
    assert kept("recommender", "Production") == [review]
    said = capsys.readouterr().out
    assert all(f"{name}.json is no review" in said for name in [*JUNK, "null"])


@pytest.mark.parametrize("spelling", ["Anna@Shop", "anna@shop ", "ａnna@shop", "ANNA"])
def test_an_author_is_known_by_any_spelling(
    keys: dict[str, Path], people: Reviewers, spelling: str
) -> None:
    subject = replace(SUBJECT, authors=(spelling,))
    found = count([sign(keys, "anna", authors=(spelling,))], subject, RULES, people)
    assert found.refused == (
        "approve by anna: anna made this model, and nobody approves a model of their own",
    )


def test_a_promotion_without_authors_is_approved_by_nobody(
    keys: dict[str, Path], people: Reviewers
) -> None:
    review = sign(keys, "anna", authors=())
    found = count([review], replace(SUBJECT, authors=()), RULES, people)
    assert found.refused == ("approve by anna: it names other authors of the model",)
    back = replace(SUBJECT, action=ROLLBACK, authors=())
    signed_back = sign(keys, "anna", action=ROLLBACK, authors=())
    assert count([signed_back], back, RULES, people).approvals == (signed_back,)
