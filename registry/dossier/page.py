"""The dossier: all that a reviewer needs to sign, in one HTML file without network.

The reviewer decides about customers, not about statistics. So the verdict stands first, in words,
and everything after it is there to check it: numbers, groups, single customers, origins.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template

from recsys import comparison
from recsys.data.dataset import TEST, Dataset
from recsys.hit_table import QUESTIONS
from recsys.samples import light_to_heavy
from registry.dossier.customers import largest_losses, side_by_side
from registry.dossier.differences import checks, forest, losing_segments, metric_rows
from registry.dossier.exposure import exposure
from registry.dossier.glossary import QUESTION_MEANINGS, term
from registry.dossier.lineage import different_parameters, own_metrics, policy_values, windows
from registry.evidence import HitTables
from registry.pages import template
from registry.policy import Decision, Policy, Verdict, show

TEMPLATE = Path(__file__).with_name("page.html.j2")
ABSENT = "–"
UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "bytes"))


def render(decision: Decision, policy: Policy, dataset: Dataset, tables: HitTables) -> str:
    """Write the dossier as HTML; the same arguments give the same text.

    Args:
        decision: what `compare` decided.
        policy: that it decided by.
        dataset: that all runs were judged on.
        tables: where the runs' hit tables come from.
    """
    shown = decision.shown
    runs = [decision.champion] + ([shown.pairing.challenger] if shown else [])
    view: dict[str, Any] = {
        "decision": decision,
        "shown": shown,
        "runs": runs,
        "dataset": dataset,
        "windows": windows(dataset),
        "parameters": different_parameters(runs),
        "policy": policy,
        "policy_values": policy_values(policy),
        "meanings": QUESTION_MEANINGS,
    }
    view |= _evidence(shown, policy, dataset, tables) if shown else {}
    view |= {} if shown else {"own": own_metrics(decision.champion)}
    return _template().render(view)


def _evidence(
    shown: Verdict, policy: Policy, dataset: Dataset, tables: HitTables
) -> dict[str, Any]:
    """Return the part of the view that only a challenger brings."""
    pairing, history = shown.pairing, dataset.test.history
    rows = comparison.paired_rows(
        tables.of(pairing.champion, TEST), tables.of(pairing.challenger, TEST), pairing.question
    )
    questions = dict.fromkeys((pairing.question, *QUESTIONS))
    losers, examples = largest_losses(*rows, pairing.metric), light_to_heavy(rows[0])
    return {
        "pairing": pairing,
        "checks": checks(shown, policy),
        "metrics": {question: metric_rows(pairing, question, policy) for question in questions},
        "forest": forest(pairing, policy),
        "losing": losing_segments(pairing, policy),
        "losers": side_by_side(*rows, pairing.metric, history, losers),
        "examples": side_by_side(*rows, pairing.metric, history, examples),
        "exposure": exposure(*rows, history),
    }


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "number": _number,
        "value": lambda value: ABSENT if value is None else f"{value:.4f}",
        "percent": lambda share: f"{100 * share:.1f}\u00a0%",
        "relative": _relative,
        "size": _size,
        "seconds": lambda value: ABSENT if value is None else f"{value:,.1f} s",
        "instant": _instant,
        "difference": show,
        "term": term,
    }
    return template(TEMPLATE, filters)


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def _relative(gained: float, before: float) -> str:
    """Write a gain as a share of what was there before."""
    return f"{100 * gained / before:+.0f}\u00a0%" if before else ABSENT


def _size(size: float | None) -> str:
    if size is None:
        return ABSENT
    unit, name = next((known for known in UNITS if size >= known[0]), UNITS[-1])
    return f"{size / unit:,.{1 if unit > 1 else 0}f} {name}"


def _instant(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
