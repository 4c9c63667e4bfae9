"""The dossier's numbers: a verdict's gates, metrics and groups, in the order they are read."""

from dataclasses import dataclass

from recsys.comparison import Difference
from recsys.hit_table import K, metric_name
from registry.dossier.glossary import TERMS, Term, direction, gate_title, term
from registry.dossier.scale import Scale, scale
from registry.policy import OTHER_QUESTION, Gate, Pairing, Policy, Verdict


@dataclass(frozen=True)
class Check:
    """A gate as the checklist shows it; `decides` is false for groups that are too small."""

    title: str
    gate: Gate
    decides: bool


@dataclass(frozen=True)
class MetricRow:
    """A metric of both in words and numbers; `note` says what part it has in the decision."""

    term: Term
    found: Difference
    direction: str
    note: str


@dataclass(frozen=True)
class Bar:
    """A line of the forest plot; `decides` is false for groups that are too small."""

    label: str
    found: Difference
    direction: str
    decides: bool


@dataclass(frozen=True)
class Forest:
    """Differences by group on one scale: title → lines."""

    groups: dict[str, list[Bar]]
    scale: Scale


def checks(verdict: Verdict, policy: Policy) -> list[Check]:
    """Return the gates, the refusing ones first and those that do not decide last."""
    small = {
        f"{s.by}: {s.label}"
        for s in verdict.pairing.segments
        if s.difference.customers < policy.smallest_segment
    }
    found = [Check(gate_title(g.name), g, g.name not in small) for g in verdict.gates]
    return sorted(found, key=lambda check: (check.gate.passed, not check.decides))


def metric_rows(pairing: Pairing, question: str, policy: Policy) -> list[MetricRow]:
    """Return a question's metrics at 10, the deciding one first."""
    names = [f"{name}_at_{K}" for name in TERMS]
    if question == pairing.question:
        names = [pairing.metric, *(name for name in names if name != pairing.metric)]
    return [
        MetricRow(term(name), found, direction(found), _note(pairing, question, name, policy))
        for name in names
        if (found := pairing.metrics.get(metric_name(question, name)))
    ]


def _note(pairing: Pairing, question: str, name: str, policy: Policy) -> str:
    """Say what part a metric has in the decision."""
    guarded = name
    if question != pairing.question:
        guarded = OTHER_QUESTION if name == pairing.metric else ""
    elif name == pairing.metric:
        return "decides"
    share = policy.guardrails.get(guarded)
    return "" if share is None else f"guardrail: may lose {share:.0%}"


def forest(pairing: Pairing, policy: Policy) -> Forest:
    """Put the differences by segment, window and against popularity on one scale.

    The scale fits what decides; intervals of small groups may reach beyond it.
    """
    groups = {"Overall": [_bar("all customers", pairing.deciding)]}
    for segment in pairing.segments:
        bar = _bar(segment.label, segment.difference, policy)
        groups.setdefault(f"Segments by {segment.by}", []).append(bar)
    if pairing.windows:
        groups["Earlier windows"] = [_bar(name, d) for name, d in pairing.windows.items()]
    if pairing.popularity:
        groups["Against popularity"] = [_bar("best popularity run", pairing.popularity)]
    deciding = [bar.found.interval for bars in groups.values() for bar in bars if bar.decides]
    return Forest(groups, scale(end for i in deciding for end in (i.low, i.high)))


def losing_segments(pairing: Pairing, policy: Policy) -> list[Bar]:
    """Return the segments that do worse with the challenger, the largest loss first."""
    worse = [
        _bar(f"{segment.by}: {segment.label}", segment.difference, policy)
        for segment in pairing.segments
        if segment.difference.interval.value < 0
    ]
    return sorted(worse, key=lambda bar: bar.found.interval.value)


def _bar(label: str, found: Difference, policy: Policy | None = None) -> Bar:
    """Make a line; with a policy it decides only where it has customers enough."""
    decides = policy is None or found.customers >= policy.smallest_segment
    return Bar(label, found, direction(found), decides)
