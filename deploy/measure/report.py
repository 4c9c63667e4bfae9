"""The report: what campaigns did, in one HTML file without network, for readers in business."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Template
from matplotlib.figure import Figure

from deploy.measure import words
from deploy.measure.glossary import entries
from deploy.measure.judged import Measured
from deploy.measure.metrics import BY_NAME, DESCRIBED, PRIMARY
from deploy.measure.observed import CUSTOMERS
from deploy.measure.outcomes import GUESTS, OTHERS, SALES
from deploy.measure.planner import Baseline, baseline, plans, told
from deploy.measure.results import ALL, BETTER, NOT_SEEN, VOID, WORSE
from registry.pages import template

TEMPLATE = Path(__file__).with_name("report.html.j2")
DOTS_AN_INCH = 110
ALT = {
    "effects": "Each metric's change against control with its interval; the table has the numbers",
    "groups": "The change in sales in each group of customers; the table has the numbers",
    "cumulative": "Sales per customer of both arms since the campaign began, day by day",
    "distribution": "How sales are spread over customers before the campaign and in the window",
}
VERDICTS = {
    BETTER: "▲ better",
    WORSE: "▼ worse",
    NOT_SEEN: "no effect seen",
    VOID: "cannot be judged",
}


@dataclass(frozen=True)
class Picture:
    """A picture as the page embeds it."""

    name: str
    alt: str
    data: str


def render(
    found: Sequence[Measured],
    figures: Mapping[str, Mapping[str, Figure]],
    lineage: Mapping[str, str],
) -> str:
    """Write the report as HTML; the same arguments give the same text.

    Args:
        found: the campaigns.
        figures: strategy → name → figure.
        lineage: what it was made of and by, for those who check it.
    """
    return _template().render(
        campaigns=[_view(one, figures[one.campaign.strategy]) for one in found],
        glossary=entries(),
        lineage=lineage,
        window_days=found[0].campaign.window_days,
    )


def _view(one: Measured, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Return what the page shows of one campaign."""
    rows = [row for row in one.results if row.segment_by == ALL]
    start = baseline(one.observed, one.days, one.campaign.control_share) if one.days else None
    return {
        "found": one,
        "campaign": one.campaign,
        "headline": words.headline(one),
        "sentence": words.sentence(one),
        "tone": "refused" if one.void_reason else one.primary.verdict.replace(" ", "-"),
        "metrics": [row for row in rows if row.metric in BY_NAME],
        "described": [row for row in rows if row.metric in DESCRIBED],
        "groups": [r for r in one.results if r.segment_by != ALL and r.metric == PRIMARY],
        "pictures": {name: Picture(name, ALT[name], png(f)) for name, f in figures.items()},
        "guests": one.observed.bought.get(GUESTS),
        "others": one.observed.bought.get(OTHERS),
        "guest_share": _guest_share(one),
        "scoring_run": one.campaign.facts.get("mlflow_run_id"),
        "baseline": start,
        "plans": _plans(start),
    }


def _plans(start: Baseline | None) -> list[str]:
    return [told(one, start) for one in plans(start)] if start else []


def _guest_share(one: Measured) -> float:
    """Return the share of the window's sales that guests made."""
    total = sum(bought[SALES] for bought in one.observed.bought.values())
    return one.observed.bought.get(GUESTS, {SALES: 0.0})[SALES] / total if total else 0.0


def png(figure: Figure) -> str:
    """Return a figure as a data URI."""
    sink = BytesIO()
    # Without the version of matplotlib: the same picture is the same bytes.
    figure.savefig(sink, format="png", dpi=DOTS_AN_INCH, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(sink.getvalue()).decode()}"


@cache
def _template() -> Template:
    filters: dict[str, Callable[..., Any]] = {
        "amount": words.amount,
        "signed": lambda value, metric: words.amount(value, metric, True),
        "percent": words.percent,
        "title_of": words.title,
        "verdict": lambda value: VERDICTS[value],
        "could_see": words.could_see,
        "number": lambda value: f"{value:,.0f}",
        "customers": lambda bought: f"{bought[CUSTOMERS]:,.0f}",
        "share": lambda value: f"{100 * value:.1f}{words.THIN}%",
    }
    return template(TEMPLATE, filters)
