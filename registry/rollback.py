"""Bring the previous release back.

What comes back was approved when it was promoted. Where the policy asks for approvals, one reviewer
signs the rollback with a key. Twice in a row goes back two releases; a promotion starts anew. The
same command after a crash goes on where it stopped.

  python -m registry.rollback --stage Production --reason "basket size fell" --reviewer anna
  python -m registry.rollback … --version 3          that one, once, however often it is run
  python -m registry.rollback … --key ~/.config/recsys/keys/anna.pem
"""

import getpass
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from recsys import cli
from recsys.errors import RegistryError, UsageError
from recsys.progress import say
from registry.admission import unapproved
from registry.deciding import decided, decision_run, shown, was_cut_short
from registry.earlier import earlier
from registry.ledger import ROLLBACK, Generation, Ledger, Record
from registry.projection import witnessed
from registry.releases import Release, verified_model
from registry.reviewers import key_file, read_key
from registry.reviews import APPROVE, Review, count, signed
from registry.rulebook import Rulebook, RuledConfig
from registry.told import TYPED
from registry.trust import subject_of, to_holder, unproven


class RollbackConfig(RuledConfig):
    """Parameters of `rollback`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: Literal["Staging", "Production", "Archived"] = Field(
        "Production", description="stage whose previous holder comes back"
    )
    reason: str = Field(min_length=3, max_length=TYPED, description="why, for the history")
    reviewer: str | None = Field(None, description="who decided; none: the current user")
    version: int | None = Field(
        None, ge=1, description="release to bring back; none: the one that held the stage before"
    )
    key: str | None = Field(
        None, description="private key to sign with; none: the reviewer's own, where one is needed"
    )


def run_rollback(config: RollbackConfig) -> Release:
    """Bring the previous release back.

    Raises:
        UsageError: there is none, or the key cannot be used.
        ModelError: its files were changed since it was approved.
        RegistryError: it may not score by now, the signature does not count, or somebody else
            decided meanwhile.
    """
    reviewer, rules = config.reviewer or getpass.getuser(), config.rulebook()
    parameters = config.model_dump(exclude={"key"}) | {"reviewer": reviewer}
    with decision_run(ROLLBACK, config.model_name, parameters):
        ledger = Ledger(config.model_name, config.stage)
        history = witnessed(ledger)
        if history and _is_done(history[-1], reviewer, config):
            say(f"  generation {history[-1].number} says so already")
            shown(history[-1])
            return to_holder(history[-1])
        before = previous(history, config.model_name, config.stage, config.version)
        _check_approved(before, history, rules)
        with verified_model(to_holder(before)):
            say(f"  version {before.record.version} is as it was approved")
        head, asked = history[-1], rules.of(config.stage)
        record = replace(
            before.record,
            action=ROLLBACK,
            policy_digest=rules.policy.digest,
            reviewers_digest=rules.people.digest,
            approvals_wanted=min(1, asked.approvals),
            approvals=(),
            predecessor=head.digest,
            restores=before.number,
            reviewer=reviewer,
            reason=config.reason,
        )
        if asked.approvals:
            review = _signed(record, config, reviewer)
            counted = count([review], subject_of(record, ROLLBACK), asked, rules.people)
            if missing := unapproved(counted, 1):
                raise RegistryError(
                    f"The rollback is not signed as the policy asks: {missing[-1]}."
                )
            record = replace(record, approvals=(review.to_json(),))
        generation = decided(ledger, record, head)
        shown(generation)
        return to_holder(generation)


def previous(
    history: Sequence[Generation], model_name: str, stage: str, version: int | None = None
) -> Generation:
    """Return the promotion to go back to.

    Args:
        history: of the stage, the oldest generation first.
        model_name: for the message.
        stage: for the message.
        version: of the release to bring back; None for the one before.

    Raises:
        UsageError: there is none.
    """
    before = earlier(history)
    found = [g for g in before if version in (None, g.record.version)]
    if found:
        return found[-1]
    if version is not None:
        known = ", ".join(str(g.record.version) for g in before) or "none"
        raise UsageError(
            f"version={version} never held {stage} of {model_name} before: {known} did."
        )
    raise UsageError(
        f"No release held {stage} of {model_name} before"
        + (f" version {history[-1].record.version}" if history else "")
        + ": there is nothing to go back to."
    )


def _check_approved(before: Generation, history: Sequence[Generation], rules: Rulebook) -> None:
    """Raise RegistryError where a release would not score if it came back."""
    record = before.record

    def missing(one: Generation) -> list[str]:
        return unproven(history[: one.number], rules.of(record.stage), rules.people)

    if not (lacking := missing(before)):
        return
    others = [g.record.version for g in earlier(history) if not missing(g)]
    raise RegistryError(
        f"Version {record.version} of {record.model_name} would not score: {'; '.join(lacking)}. "
        "Nothing was recorded; "
        + (
            f"--version {others[-1]} names one that would."
            if others
            else "no release that held the stage before would: promote a candidate with approvals."
        )
    )


def _is_done(head: Generation, reviewer: str, config: RollbackConfig) -> bool:
    """Tell whether a generation is this very rollback: named, or cut short by a crash."""
    record = head.record
    if config.version is not None:
        return record.version == config.version
    asked = (ROLLBACK, reviewer, config.reason)
    return (record.action, record.reviewer, record.reason) == asked and was_cut_short(head)


def _signed(record: Record, config: RollbackConfig, reviewer: str) -> Review:
    """Sign a rollback with the reviewer's key."""
    file = Path(config.key).expanduser() if config.key else key_file(reviewer)
    subject = subject_of(record, ROLLBACK)
    return signed(APPROVE, subject, reviewer, config.reason, read_key(file))


if __name__ == "__main__":
    cli.run(run_rollback, RollbackConfig, __doc__, "python -m registry.rollback")
