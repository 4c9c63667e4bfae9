"""Who holds a stage, as scoring has to know it: by the ledger alone, with every proof checked."""

from collections.abc import Sequence
from dataclasses import asdict

from recsys.errors import RegistryError, UsageError
from registry import kept
from registry.admission import unapproved
from registry.case import evidence_digest
from registry.ledger import PROMOTE, ROLLBACK, STAGES, Generation, Ledger, Record
from registry.policy import StageRules
from registry.projection import moved, witnessed
from registry.releases import Release
from registry.reviewers import Reviewers
from registry.reviews import Count, Review, Subject, count
from registry.rulebook import Rulebook


def stage_named(name: str) -> str:
    """Return a stage by its name or its alias; raises UsageError where there is none."""
    for stage in STAGES:
        if name.lower() == stage.lower():
            return stage
    raise UsageError(
        f"stage={name}: the ledger knows {', '.join(STAGES)}; an alias that only MLflow knows was "
        "approved by nobody."
    )


def find_holder(model_name: str, stage: str) -> Release | None:
    """Return the release that holds a stage by the ledger, None where nobody does.

    Raises:
        RegistryError: the ledger's chain does not hold.
    """
    head = Ledger(model_name, stage_named(stage)).head()
    return to_holder(head) if head else None


def holder_of(model_name: str, stage: str) -> Release:
    """Return the release that holds a stage; raises UsageError where nobody does."""
    holder = find_holder(model_name, stage)
    if holder is None:
        raise _nobody(model_name, stage)
    return holder


def trusted(model_name: str, stage: str, rules: Rulebook) -> Release:
    """Return the release that may score: the holder by the ledger, approved as the policy asks.

    Args:
        model_name: the registered model of the releases.
        stage: whose holder scores.
        rules: this machine's own policy and reviewers; what the record says of them is not taken.

    Raises:
        UsageError: nobody holds the stage.
        RegistryError: the ledger was altered or has lost a decision, approvals are missing, or
            somebody moved the alias or the stage in MLflow by hand.
    """
    stage = stage_named(stage)
    ledger, offline = Ledger(model_name, stage), kept.is_offline()
    history = kept.remembered(ledger) if offline else witnessed(ledger)
    if not history:
        raise _nobody(model_name, stage)
    holder = to_holder(history[-1])
    missing = unproven(history, rules.of(stage), rules.people)
    if missing:
        raise RegistryError(
            f"Version {holder.version} of {model_name} holds {stage} by generation "
            f"{history[-1].number}, but is not approved as the policy asks: {'; '.join(missing)}. "
            "Nothing was scored; promote it with approvals, or roll back."
        )
    if not offline:
        if by_hand := moved(model_name, [stage]):
            raise RegistryError(f"{'; '.join(by_hand)}. Nothing was scored.")
        kept.remember(history[-1])
    return holder


def unproven(history: Sequence[Generation], rules: StageRules, people: Reviewers) -> list[str]:
    """Return what the newest generation lacks of the approvals that are wanted.

    A rollback brings back what was approved before: the generation that it restores must have its
    approvals, and where any are wanted, one person must have signed the rollback.
    """
    head = history[-1].record
    if head.action == PROMOTE:
        counted = _counted(head, PROMOTE, rules, people)
        return unapproved(counted, rules.approvals)
    before = history[(head.restores or 0) - 1].record if head.restores else None
    if before is None or not _restores(before, head):
        return ["the generation that it rolls back to is another model"]
    counted = _counted(before, PROMOTE, rules, people)
    back = _counted(head, ROLLBACK, rules, people)
    return unapproved(counted, rules.approvals) + unapproved(back, min(1, rules.approvals))


def to_holder(head: Generation) -> Release:
    """Return the release that a generation names."""
    record = head.record
    return Release(
        record.model_name,
        record.version,
        record.run_id,
        record.model_digest,
        record.dataset_digest,
        record.algorithm,
        record.recipe,
        record.model_uri,
        record.files,
        head.number,
        head.digest,
    )


def subject_of(record: Record, action: str) -> Subject:
    """Return what the approvals of a record have to be about."""
    return Subject(
        action,
        record.model_name,
        record.stage,
        record.model_digest,
        evidence_digest(record.evidence),
        record.predecessor,
        record.authors if action == PROMOTE else (),
    )


def _nobody(model_name: str, stage: str) -> UsageError:
    return UsageError(
        f"No version of {model_name} holds {stage}: promote one "
        f"(python -m registry.promote --model_name {model_name} --version N --stage {stage})."
    )


def _restores(before: Record, head: Record) -> bool:
    """Tell whether a record names the same release as an earlier one, which was promoted."""
    same = ("version", "model_digest", "model_uri", "files", "evidence")
    left, right = asdict(before), asdict(head)
    return before.action == PROMOTE and all(left[name] == right[name] for name in same)


def _counted(
    record: Record,
    action: str,
    rules: StageRules,
    people: Reviewers,
) -> Count:
    """Count the approvals that a record carries."""
    found = []
    for told in record.approvals:
        try:
            found.append(Review.from_json(told))
        except ValueError:
            continue
    return count(found, subject_of(record, action), rules, people)
