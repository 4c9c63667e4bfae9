"""Release a candidate: copy it into the releases, record it in the ledger, show it in MLflow.

What the policy asks of the stage is checked first: the comparison's evidence, judged again, and the
signed approvals. Of several people who promote at once one wins, and the others are told who.
Running it again after a crash goes on where it stopped.

  python -m registry.promote --version 1 --stage Production --reviewer anna --reason "wins by 10 %"
"""

import getpass
from collections.abc import Sequence

from pydantic import Field

from recsys import cli
from recsys.errors import RegistryError
from recsys.models import files
from recsys.progress import say
from registry import admission
from registry.case import Case, case_of, evidence_digest
from registry.deciding import decided, decision_run, log_evidence, shown
from registry.ledger import PROMOTE, Generation, Ledger, Record, Stage
from registry.projection import witnessed
from registry.releases import (
    Release,
    candidates_of,
    find_version,
    intact,
    released,
    to_release,
    verified_model,
)
from registry.reviews import Count, Subject, count, kept, of_model
from registry.rulebook import Rulebook, RuledConfig
from registry.told import TYPED
from registry.trust import find_holder, to_holder, unproven


class PromoteConfig(RuledConfig):
    """Parameters of `promote`."""

    model_name: str = Field("recommender", description="registered model of the releases")
    version: int = Field(ge=1, description="version of the candidate to release")
    stage: Stage = Field("Production", description="stage to give it")
    reviewer: str | None = Field(None, description="who decided; none: the current user")
    reason: str | None = Field(None, max_length=TYPED, description="why, for the history")


def run_promote(config: PromoteConfig) -> Release:
    """Release a candidate; promoting the holder again changes nothing where it is approved.

    Raises:
        UsageError: there is no such candidate.
        ModelError: its files are no plain data, or were changed.
        RegistryError: the policy does not let it, or somebody else decided meanwhile.
    """
    reviewer, rules = config.reviewer or getpass.getuser(), config.rulebook()
    parameters = config.model_dump() | {"reviewer": reviewer}
    with decision_run(PROMOTE, config.model_name, parameters):
        ledger = Ledger(config.model_name, config.stage)
        history = witnessed(ledger)
        head = history[-1] if history else None
        candidate = find_version(candidates_of(config.model_name), config.version)
        with verified_model(to_release(candidate)) as folder:
            case = case_of(candidate, folder)
            # A holder that lacks approvals, such as those by a removed key, is approved anew.
            if head is None or not _holds(head, case) or _lacks(history, config.stage, rules):
                counted = reviewed(case, config, head, rules)
                release = released(candidate, config.model_name, folder)
                record = Record(
                    action=PROMOTE,
                    model_name=config.model_name,
                    stage=config.stage,
                    version=release.version,
                    candidate=config.version,
                    run_id=release.run_id,
                    model_uri=release.uri,
                    algorithm=case.algorithm,
                    recipe=case.recipe,
                    model_digest=case.model_digest,
                    files=files.checked(folder).files,
                    dataset_digest=case.dataset_digest,
                    evidence=case.digests,
                    speaks_of=case.speaks_of,
                    sentence=case.sentence,
                    policy_digest=rules.policy.digest,
                    reviewers_digest=rules.people.digest,
                    approvals_wanted=rules.of(config.stage).approvals,
                    approvals=tuple(review.to_json() for review in counted.approvals),
                    predecessor=head.digest if head else None,
                    restores=None,
                    authors=tuple(sorted(case.authors)),
                    reviewer=reviewer,
                    reason=config.reason or "",
                )
                log_evidence(record, case.files, head)
                head = decided(ledger, record, head)
            else:
                say(f"  version {head.record.version} holds {config.stage} already")
        shown(head)
        return to_holder(head)


def _holds(head: Generation, case: Case) -> bool:
    """Tell whether a candidate's release holds the stage, and its files are as they were."""
    if head.record.model_digest != case.model_digest:
        return False
    release, _ = intact(head.record.model_name, case.model_digest)
    return release is not None and release.version == head.record.version


def _lacks(history: Sequence[Generation], stage: str, rules: Rulebook) -> bool:
    """Tell whether the newest generation lacks approvals that are wanted by now."""
    return bool(unproven(history, rules.of(stage), rules.people))


def reviewed(case: Case, config: PromoteConfig, head: Generation | None, rules: Rulebook) -> Count:
    """Return the approvals that count; raises RegistryError where the policy asks for more."""
    subject = subject_for(case, config.model_name, config.stage, head)
    reviews = of_model(kept(config.model_name, config.stage), case.model_digest)
    counted = count(reviews, subject, rules.of(config.stage), rules.people)
    champion = find_holder(config.model_name, case.compared_stage)
    refused = admission.refusals(case, config.stage, champion, rules.policy, counted)
    if refused:
        raise RegistryError(
            f"Version {config.version} of {candidates_of(config.model_name)} may not hold "
            f"{config.stage}: {'; '.join(refused)}."
        )
    return counted


def subject_for(case: Case, model_name: str, stage: str, head: Generation | None) -> Subject:
    """Return what an approval of a candidate has to name."""
    digest = evidence_digest(case.digests)
    before, authors = head.digest if head else None, tuple(sorted(case.authors))
    return Subject(PROMOTE, model_name, stage, case.model_digest, digest, before, authors)


if __name__ == "__main__":
    cli.run(run_promote, PromoteConfig, __doc__, "python -m registry.promote")
