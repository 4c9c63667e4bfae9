"""Whether a candidate may hold a stage: the case, the policy and the reviews in, refusals out.

Pure: no files, no MLflow, no clock.
"""

from collections.abc import Sequence

from registry.case import Case
from registry.decisions import gates_of, judged_again
from registry.evidence import Entrant
from registry.policy import Gate, Policy, StageRules
from registry.releases import Release
from registry.reviews import Count
from registry.told import GLANCED, plain


def refusals(
    case: Case, stage: str, champion: Release | None, policy: Policy, count: Count
) -> list[str]:
    """Return why a candidate may not hold a stage; empty where it may.

    Args:
        case: what speaks for it.
        stage: that it would hold.
        champion: who holds the stage now that the comparison was about; None for nobody.
        policy: that decides.
        count: the reviews that count.
    """
    rules = policy.rules(stage)
    failed = [gate.reason for gate in _gates(case, champion, policy, rules) if not gate.passed]
    return failed + unapproved(count, rules.approvals)


def unapproved(count: Count, wanted: int) -> list[str]:
    """Say what is missing of the approvals that a stage wants."""
    said = [
        f"{review.reviewer} rejected it: {plain(review.comment, GLANCED) or 'no comment'}"
        for review in count.rejections
    ]
    if len(count.approvals) < wanted:
        by = ", ".join(review.reviewer for review in count.approvals) or "nobody"
        said.append(f"approvals: {wanted} wanted, {len(count.approvals)} count ({by})")
        said += [f"not counted: {plain(reason, GLANCED)}" for reason in count.refused]
    return said


def _gates(
    case: Case, champion: Release | None, policy: Policy, rules: StageRules
) -> Sequence[Gate]:
    """Judge the evidence again, by those kinds of conditions that the stage asks for."""
    if not rules.gates:
        return []
    if not case.decision:
        return [Gate("champion", "dossier", False, "it was never compared: run compare")]
    decision = judged_again(case.decision, policy)
    found = [_champion(case, decision.champion, champion)]
    found += _refit(case)
    own = gates_of(decision, case.judged_digest)
    if own is None and case.judged_digest != decision.champion.model_digest:
        found.append(
            Gate("champion", "dossier", False, "its dossier speaks of other models: compare again")
        )
    return [gate for gate in [*found, *(own or ())] if gate.kind in rules.gates]


def _champion(case: Case, champion: Entrant, holder: Release | None) -> Gate:
    """Ask whether it was compared with whoever holds the stage now, or is a fresh fit of that."""
    same = (
        holder is None
        or holder.recipe == champion.recipe
        or holder.digest == case.model_digest
        or (case.is_refit and holder.recipe == case.recipe)
    )
    reason = f"it was compared with {champion.name}"
    if holder is not None and not same:
        reason += (
            f", but version {holder.version} ({holder.algorithm}) holds {case.compared_stage} now: "
            "compare again"
        )
    return Gate("champion", "champion", same, reason)


def _refit(case: Case) -> list[Gate]:
    """Ask whether a refit has the recipe of the model that was judged."""
    if not case.is_refit:
        return []
    recipes = {
        told["recipe"]
        for told in case.decision["entrants"].values()
        if told["model_digest"] == case.judged_digest
    }
    same = case.recipe in recipes
    reason = f"its hyperparameters are {'' if same else 'not '}those of the model that was judged"
    return [Gate("champion", "refit", same, reason)]
