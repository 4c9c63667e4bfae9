"""The decision: evidence in, a verdict with reasons out. Pure: no files, no MLflow, no clock.

A challenger passes where every gate does. Several challengers share one error rate: their p-values
are adjusted by Holm's method (Holm 1979), so the more are tried, the more each has to show.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydantic import Field
from scipy import stats

from recsys.comparison import Difference, SegmentDifference
from recsys.config import Config
from recsys.errors import UsageError
from recsys.hit_table import QUESTIONS, metric_name
from recsys.metrics.intervals import LEVEL
from registry.evidence import Entrant
from registry.ledger import Stage

POLICY_FILE = Path(__file__).with_name("policy.yaml")
OTHER_QUESTION = "other_question"
# The kinds of conditions. `champion`: that the comparison was with whoever holds the stage now;
# only `promote` can tell.
Kind = Literal[
    "gain", "several challengers", "popularity", "guardrails", "segments", "windows", "champion"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
# One-sided: a 95 % interval leaves 2.5 % below its lower end.
ERROR_RATE = (1 - LEVEL) / 2


class StageRules(Config):
    """What a stage asks for beyond a won comparison; `policy.yaml` explains each."""

    approvals: int = Field(ge=0, description="people who must have signed")
    approvers: tuple[str, ...] = Field(
        (), description="whose signatures count; none: every reviewer's"
    )
    gates: tuple[Kind, ...] = Field(
        KINDS, description="kinds of conditions that must hold when a candidate is promoted"
    )
    offline_days: float = Field(
        0, ge=0, description="days that a verified local copy may score without MLflow's server"
    )


class Policy(Config):
    """What a challenger has to show; `policy.yaml` explains each."""

    minimal_effect: float = Field(ge=0, description="share of the champion's value to gain")
    beat_popularity: bool = Field(description="whether popularity must be beaten as well")
    same_sign_in_every_window: bool = Field(description="whether every test window must agree")
    guardrails: dict[str, float] = Field(description="metric → share that it may lose")
    segment_margin: float = Field(ge=0, description="share that a segment may lose")
    smallest_segment: int = Field(ge=1, description="customers that a deciding segment has")
    stages: dict[Stage, StageRules] = Field({}, description="what each stage asks for")

    def rules(self, stage: str) -> StageRules:
        """Return what a stage asks for; raises UsageError for a stage that is left out."""
        found = next((rules for name, rules in self.stages.items() if name == stage), None)
        if found is None:
            raise UsageError(
                f"The policy does not say what {stage} asks for: add it below `stages` "
                "(approvals: 0 asks nobody)."
            )
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        told = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Pairing:
    """A challenger against the champion, on the same customers.

    Attributes:
        champion: the run to beat.
        challenger: the run that wants its place.
        question: that decides, `discover` or `replenish`.
        metric: that decides, such as `ndcg_at_10`.
        metrics: every metric of both questions → difference, named as in
            `recsys.hit_table.metric_name`.
        segments: the deciding metric within groups of customers.
        windows: earlier test window → difference of the deciding metric.
        popularity: against the best popularity run; None where it is one of the two.
    """

    champion: Entrant
    challenger: Entrant
    question: str
    metric: str
    metrics: Mapping[str, Difference]
    segments: Sequence[SegmentDifference]
    windows: Mapping[str, Difference]
    popularity: Difference | None

    @property
    def deciding(self) -> Difference:
        """The difference that decides."""
        return self.metrics[self.deciding_name]

    @property
    def deciding_name(self) -> str:
        """The deciding metric with its question."""
        return metric_name(self.question, self.metric)


@dataclass(frozen=True)
class Gate:
    """One condition, whether it holds, and the numbers that say so.

    Attributes:
        kind: one of KINDS.
        name: the condition's own.
        passed: whether it holds.
        reason: the numbers that say so.
    """

    kind: Kind
    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the policy says of one challenger."""

    pairing: Pairing
    adjusted_p: float
    gates: Sequence[Gate]

    @property
    def passed(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)

    @property
    def refusals(self) -> list[str]:
        """The reasons of the gates that were not passed."""
        return [gate.reason for gate in self.gates if not gate.passed]


@dataclass(frozen=True)
class Decision:
    """Who wins.

    Attributes:
        champion: the run that was to be beaten.
        winner: the best challenger on validation among those that passed, else the champion.
        shown: the verdict to show: the winner's, else that of the best challenger on validation;
            None where there is no challenger.
        verdicts: of all challengers, the best on validation first.
        sentence: the decision in words.
    """

    champion: Entrant
    winner: Entrant
    shown: Verdict | None
    verdicts: Sequence[Verdict]
    sentence: str


def decide(champion: Entrant, pairings: Sequence[Pairing], policy: Policy) -> Decision:
    """Judge all challengers and choose.

    Args:
        champion: the run to beat.
        pairings: one a challenger, the best on validation first.
        policy: what a challenger has to show.
    """
    if not pairings:
        return Decision(
            champion, champion, None, [], f"{champion.name} has no challenger on this dataset."
        )
    adjusted = holm([_p_value(pairing.deciding, policy) for pairing in pairings])
    verdicts = [
        Verdict(pairing, p, _gates(pairing, p, policy))
        for pairing, p in zip(pairings, adjusted, strict=True)
    ]
    shown = next((verdict for verdict in verdicts if verdict.passed), verdicts[0])
    winner = shown.pairing.challenger if shown.passed else champion
    return Decision(champion, winner, shown, verdicts, _sentence(shown))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979): max over smaller ones of (m - rank) · p."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    return [float(value) for value in np.minimum(adjusted, 1)]


def _p_value(difference: Difference, policy: Policy) -> float:
    """Return how likely such a gain is where the true one is the minimal effect (paired t-test)."""
    beyond = difference.interval.value - policy.minimal_effect * difference.champion
    if difference.standard_error == 0:
        return 0.0 if beyond > 0 else 1.0
    return float(stats.t.sf(beyond / difference.standard_error, max(difference.customers - 1, 1)))


def _gates(pairing: Pairing, adjusted_p: float, policy: Policy) -> list[Gate]:
    gates = [_gain(pairing, policy), _chance(adjusted_p)]
    if policy.beat_popularity and pairing.popularity:
        gates.append(_beats_popularity(pairing.popularity))
    gates += [_guardrail(pairing, name, share) for name, share in policy.guardrails.items()]
    gates += [_segment(pairing, s, policy) for s in pairing.segments]
    if policy.same_sign_in_every_window:
        gates += [_window(name, difference) for name, difference in pairing.windows.items()]
    return gates


def _gain(pairing: Pairing, policy: Policy) -> Gate:
    found = pairing.deciding
    needed = policy.minimal_effect * found.champion
    passed = found.interval.low > needed
    return Gate(
        "gain",
        "gain",
        passed,
        f"{pairing.deciding_name} changes by {show(found)}; "
        f"the lower end must be above {needed:.4f}",
    )


def _chance(adjusted_p: float) -> Gate:
    return Gate(
        "several challengers",
        "several challengers",
        adjusted_p < ERROR_RATE,
        f"p adjusted for the number of challengers is {adjusted_p:.3g}; "
        f"it must be below {ERROR_RATE:.3g}",
    )


def _beats_popularity(found: Difference) -> Gate:
    return Gate(
        "popularity",
        "popularity",
        found.interval.low > 0,
        f"against popularity it changes by {show(found)}; the lower end must be above 0",
    )


def _guardrail(pairing: Pairing, name: str, share: float) -> Gate:
    metric = metric_name(pairing.question, name)
    if name == OTHER_QUESTION:
        other = next(question for question in QUESTIONS if question != pairing.question)
        metric = metric_name(other, pairing.metric)
    found = pairing.metrics.get(metric)
    if found is None:
        reason = f"guardrail {metric}: nobody logged it; train the runs again"
        return Gate("guardrails", name, False, reason)
    return _no_loss("guardrails", name, metric, found, share * abs(found.champion))


def _segment(pairing: Pairing, segment: SegmentDifference, policy: Policy) -> Gate:
    name = f"{segment.by}: {segment.label}"
    found = segment.difference
    if found.customers < policy.smallest_segment:
        reason = f"{name} has {found.customers} customers, too few to decide: {show(found)}"
        return Gate("segments", name, True, reason)
    most = policy.segment_margin * pairing.deciding.champion
    return _no_loss("segments", name, name, found, most)


def _no_loss(kind: Kind, name: str, what: str, found: Difference, most: float) -> Gate:
    return Gate(
        kind,
        name,
        found.interval.low > -most,
        f"{what} changes by {show(found)}; the lower end must be above {-most:.4f}",
    )


def _window(name: str, found: Difference) -> Gate:
    return Gate(
        "windows",
        name,
        found.interval.value > 0,
        f"in the window {name} it changes by {show(found)}; the change must be above 0",
    )


def show(found: Difference) -> str:
    """Write a difference with its interval."""
    interval = found.interval
    return f"{interval.value:+.4f} ({interval.low:+.4f} … {interval.high:+.4f})"


def _sentence(verdict: Verdict) -> str:
    pairing = verdict.pairing
    found = pairing.deciding
    numbers = (
        f"{pairing.deciding_name} {show(found)}, better for {found.wins:,}, "
        f"alike for {found.ties:,}, worse for {found.losses:,} of {found.customers:,} customers"
    )
    failed = [gate.name for gate in verdict.gates if not gate.passed]
    if verdict.passed:
        return f"{pairing.challenger.name} beats {pairing.champion.name}: {numbers}."
    return (
        f"{pairing.champion.name} stays. {pairing.challenger.name} does not take its place "
        f"({numbers}): it fails {', '.join(failed)}."
    )
