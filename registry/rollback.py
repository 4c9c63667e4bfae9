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
from registry.ledger import PROMOTE, ROLLBACK, Generation, Ledger, Record
from registry.releases import Release, verified_model
from registry.reviewers import key_file, read_key
from registry.reviews import APPROVE, Review, count, signed
from registry.rulebook import RuledConfig
from registry.trust import subject_of, to_holder


class RollbackConfig(RuledConfig):
    """Parameters of `rollback`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    stage: Literal["Staging", "Production", "Archived"] = Field(
        "Production", description="stage whose previous holder comes back"
    )
    reason: str = Field(min_length=3, description="why, for the history")
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
        RegistryError: the signature does not count, or somebody else decided meanwhile.
    """
    reviewer, rules = config.reviewer or getpass.getuser(), config.rulebook()
    parameters = config.model_dump(exclude={"key"}) | {"reviewer": reviewer}
    with decision_run(ROLLBACK, config.model_name, parameters):
        ledger = Ledger(config.model_name, config.stage)
        history = ledger.history()
        if history and _is_done(history[-1], reviewer, config):
            say(f"  generation {history[-1].number} says so already")
            shown(history[-1])
            return to_holder(history[-1])
        before = previous(history, config.model_name, config.stage, config.version)
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
            counted = count([review], subject_of(record, ROLLBACK), (), asked, rules.people)
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

    Promotions pile up, and each rollback takes those away that came after what it restores: so a
    second rollback goes back further. The holder that was only approved anew stays one.

    Args:
        history: of the stage, the oldest generation first.
        model_name: for the message.
        stage: for the message.
        version: of the release to bring back; None for the one before.

    Raises:
        UsageError: there is none.
    """
    pile = list[Generation]()
    for generation in history:
        record = generation.record
        if record.action == PROMOTE:
            if pile and pile[-1].record.version == record.version:
                pile.pop()
            pile.append(generation)
        while record.action == ROLLBACK and pile and pile[-1].number != record.restores:
            pile.pop()
    found = [g for g in pile[:-1] if version in (None, g.record.version)]
    if found:
        return found[-1]
    if version is not None:
        known = ", ".join(str(g.record.version) for g in pile[:-1]) or "none"
        raise UsageError(
            f"version={version} never held {stage} of {model_name} before: {known} did."
        )
    raise UsageError(
        f"No release held {stage} of {model_name} before"
        + (f" version {pile[0].record.version}" if pile else "")
        + ": there is nothing to go back to."
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
