"""Where a decision comes from: the dataset's windows, the runs' parameters, the policy's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from recsys.data.dataset import TEST, TRAIN, Dataset, window_names
from recsys.hit_table import CAMPAIGN, QUESTIONS, K, metric_name
from registry.dossier.glossary import TERMS, Term, term
from registry.evidence import Entrant
from registry.policy import KINDS, Policy, StageRules

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Window:
    """A dataset's window: first and last day, and its counts."""

    name: str
    first: str
    last: str
    rows: int | None
    known_customers: int | None


@dataclass(frozen=True)
class OwnMetric:
    """What a run logged of a metric; the interval's ends may be missing."""

    term: Term
    value: float
    low: float | None
    high: float | None


def windows(dataset: Dataset) -> list[Window]:
    """Return the windows in the order of time."""
    facts = dataset.facts
    names = window_names(1 + len(dataset.earlier))
    first = [facts["first_day" if name == TRAIN else f"{name}_cut_day"] for name in names]
    return [
        Window(
            name,
            _date(begin),
            _date(end - 1),
            facts.get(f"{name}_rows"),
            facts.get(f"{name}_known_customers"),
        )
        for name, begin, end in zip(names, first, [*first[1:], facts["end_day"]], strict=True)
    ]


def _date(day: int) -> str:
    return (EPOCH + timedelta(days=day)).date().isoformat()


def different_parameters(entrants: Sequence[Entrant]) -> dict[str, list[str | None]]:
    """Return the parameters whose values differ between runs; None where a run has none."""
    names = sorted({name for entrant in entrants for name in entrant.parameters})
    values = {name: [e.parameters.get(name) for e in entrants] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def policy_values(policy: Policy) -> list[tuple[str, object, str]]:
    """Return name, value and meaning of all that the policy asks for."""
    found = []
    for name, field in Policy.model_fields.items():
        value = getattr(policy, name)
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        parts = [(key, _rules(v) if isinstance(v, StageRules) else v) for key, v in parts]
        found += [(f"{name} {key}".strip(), v, field.description or "") for key, v in parts]
    return found


def _rules(rules: StageRules) -> str:
    """Say in a few words what a stage asks for."""
    who = f" of {', '.join(rules.approvers)}" if rules.approvers else ""
    gates = "all conditions" if set(rules.gates) == set(KINDS) else ", ".join(rules.gates)
    return f"{rules.approvals} approvals{who}; {gates or 'no conditions'}"


def own_metrics(entrant: Entrant) -> dict[str, list[OwnMetric]]:
    """Return a run's own metrics at 10 on the test window, by question."""
    found = {question: _own(entrant, question) for question in (*QUESTIONS, CAMPAIGN)}
    return {question: metrics for question, metrics in found.items() if metrics}


def _own(entrant: Entrant, question: str) -> list[OwnMetric]:
    known = entrant.metrics
    names = {f"{n}_at_{K}": f"{TEST}/{metric_name(question, f'{n}_at_{K}')}" for n in TERMS}
    return [
        OwnMetric(term(name), known[path], known.get(f"{path}_low"), known.get(f"{path}_high"))
        for name, path in names.items()
        if path in known
    ]
