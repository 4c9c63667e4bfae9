"""Approvals and rejections: signed sentences that name exactly what they are about.

A review is a statement in canonical JSON and an ed25519 signature over it (RFC 8032). The statement
names the model's digest, the evidence's, the authors, the stage and the generation that it would
follow; so it cannot be used for other bytes, another stage, or after somebody else has decided.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ConfigDict, TypeAdapter, ValidationError

from recsys.progress import say
from recsys.storage import Place, folder_exists, keys_of, put_new, read_bytes, store_of
from registry.ledger import PROMOTE, model_place
from registry.policy import StageRules
from registry.reviewers import Reviewers, folded, is_signed, public_part

# First bytes of all that is signed, so that a signature can mean nothing else.
PURPOSE = "recsys review 1\n"
APPROVE, REJECT = "approve", "reject"
FOLDER = "reviews"
CHANGED = "the dossier, or what belongs to it, was changed since"
EARLIER = "it was given before the last decision on this stage"
OTHERS = "it names other authors of the model"
# Approvals that count no longer; they still take back an earlier rejection.
STALE = (CHANGED, EARLIER, OTHERS)
READS_AT_ONCE = 16


@dataclass(frozen=True)
class Subject:
    """What a review is about.

    Attributes:
        action: `promote` or `rollback`.
        model_name: the registered model of the releases.
        stage: that the model would hold.
        model_digest: SHA-256 of its manifest.
        evidence_digest: SHA-256 of the dossier and of all that belongs to it.
        predecessor: digest of the generation that it would follow; None for the first.
        authors: accounts that trained, compared or refitted, sorted; their own approval does not
            count. None are named for a rollback, which anybody may sign.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    action: str
    model_name: str
    stage: str
    model_digest: str
    evidence_digest: str
    predecessor: str | None
    authors: tuple[str, ...]


@dataclass(frozen=True)
class Review:
    """One signed statement.

    Attributes:
        verdict: APPROVE or REJECT.
        subject: what it is about.
        reviewer: who says so.
        comment: in the reviewer's words.
        signed_at: ISO 8601, UTC.
        key: public key.
        signature: base64 over the statement.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    verdict: str
    subject: Subject
    reviewer: str
    comment: str
    signed_at: str
    key: str
    signature: str = ""

    @property
    def statement(self) -> bytes:
        """The bytes that are signed."""
        told = {name: value for name, value in asdict(self).items() if name != "signature"}
        text = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return (PURPOSE + text).encode()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> "Review":
        """Read plain data; raises ValueError where it is no review."""
        try:
            return REVIEW.validate_python(told)
        except ValidationError:
            raise ValueError("this is no review") from None


REVIEW = TypeAdapter(Review)


@dataclass(frozen=True)
class Count:
    """What of some reviews counts.

    Attributes:
        approvals: one a person.
        rejections: that stand.
        refused: why each of the others does not count.
    """

    approvals: tuple[Review, ...]
    rejections: tuple[Review, ...]
    refused: tuple[str, ...]


def signed(
    verdict: str, subject: Subject, reviewer: str, comment: str, key: Ed25519PrivateKey
) -> Review:
    """Sign a statement."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    review = Review(verdict, subject, reviewer, comment, now, public_part(key))
    signature = base64.b64encode(key.sign(review.statement)).decode()
    return Review.from_json({**review.to_json(), "signature": signature})


def keep(review: Review) -> None:
    """Put a review where `promote` finds it; the same one twice is one."""
    place = model_place(review.subject.model_name, FOLDER, review.subject.stage)
    store = store_of(place, create=True)
    name = hashlib.sha256(review.statement).hexdigest()
    data = json.dumps(review.to_json(), indent=1, sort_keys=True, ensure_ascii=False).encode()
    put_new(store, f"{name}.json", data)


def kept(model_name: str, stage: str) -> list[Review]:
    """Return the reviews for a stage, the oldest first; what is none is named and left out."""
    place = model_place(model_name, FOLDER, stage)
    if not folder_exists(place):
        return []
    store = store_of(place)
    names = sorted(name for name in keys_of(store, "") if name.endswith(".json"))
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        found = threads.map(lambda name: read_bytes(store, name), names)
        read = [_read(place, name, data) for name, data in zip(names, found, strict=True)]
    return sorted((review for review in read if review), key=lambda review: review.signed_at)


def _read(place: Place, name: str, data: bytes | None) -> Review | None:
    """Read one review; None for what is none, which must not stop others."""
    try:
        return Review.from_json(json.loads(data or b""))
    except (ValueError, RecursionError):
        say(f"  {place / name} is no review of this version: it is left out")
        return None


def of_model(reviews: Iterable[Review], model_digest: str) -> list[Review]:
    """Return those reviews that are about a model."""
    return [review for review in reviews if review.subject.model_digest == model_digest]


def count(
    reviews: Sequence[Review],
    subject: Subject,
    rules: StageRules,
    reviewers: Reviewers,
) -> Count:
    """Count what people said of a subject. Pure: no files, no clock.

    Of each person the last word counts: an approval after a rejection takes it back, and the other
    way round. An approval holds for one decision and one state of the evidence, a rejection for the
    model as long as it is not taken back.

    Args:
        reviews: of the model name and stage.
        subject: what is to be decided.
        rules: of the stage.
        reviewers: whose signatures count.
    """
    last, refused = dict[str, Review](), list[str]()
    for review in sorted(reviews, key=lambda r: r.signed_at):
        reason = _refusal(review, subject, rules, reviewers)
        if reason in STALE:
            last.pop(review.reviewer, None)
        if reason:
            refused.append(f"{review.verdict} by {review.reviewer}: {reason}")
            continue
        before = last.get(review.reviewer)
        if before and before.verdict == review.verdict:
            refused.append(
                f"{before.verdict} by {before.reviewer}: said twice, and one person counts once"
            )
        last[review.reviewer] = review
    words = last.values()
    return Count(
        tuple(review for review in words if review.verdict == APPROVE),
        tuple(review for review in words if review.verdict == REJECT),
        tuple(refused),
    )


def _refusal(
    review: Review,
    subject: Subject,
    rules: StageRules,
    reviewers: Reviewers,
) -> str | None:
    """Say why a review does not count; None where it does."""
    person, about = reviewers.person_of(review.key), review.subject
    if person is None:
        return f"the key {review.key} is unknown (reviewers.yaml)"
    if person != review.reviewer:
        return f"signed with the key of {person}"
    if not is_signed(review.statement, review.signature, review.key):
        return "the signature does not fit what it says"
    asked, answered = ((one.action, one.model_name, one.stage) for one in (subject, about))
    if asked != answered:
        return f"it is about another decision ({', '.join(answered)})"
    if about.model_digest != subject.model_digest:
        return f"it is about the model {about.model_digest[:12]}"
    if rules.approvers and person not in rules.approvers:
        return f"{person} is not among the approvers of {subject.stage} (policy)"
    if review.verdict == REJECT:
        return None
    if about.authors != subject.authors or (subject.action == PROMOTE and not subject.authors):
        return OTHERS
    if reviewers.accounts_of(person) & {folded(author) for author in subject.authors}:
        return f"{person} made this model, and nobody approves a model of their own"
    if about.evidence_digest != subject.evidence_digest:
        return CHANGED
    return EARLIER if about.predecessor != subject.predecessor else None
