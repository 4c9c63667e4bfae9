"""Drift for people: in the run's metrics, artifacts and plots, and on the screen."""

from dataclasses import asdict
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure

from recsys.drift.findings import WEEKDAYS, Drift, Finding
from recsys.drift.periods import AMOUNTS, LEAST, Period
from recsys.plots import COLOURS, HEIGHT, WIDTH, plain
from recsys.progress import say

BEFORE_COLOUR, WARNED_COLOUR = "#888888", "#c0392b"


def show(drift: Drift) -> None:
    """Log a drift to the running run and say its warnings."""
    mlflow.log_metrics({f"drift/{finding.name}": finding.value for finding in drift.findings})
    mlflow.set_tag("recsys.drift", "; ".join(drift.warnings)[:500] or "none")
    mlflow.log_dict(facts_of(drift), "drift.json")
    mlflow.log_figure(stability(drift), "plots/drift.png")
    mlflow.log_figure(weekdays(drift), "plots/drift_weekdays.png")
    mlflow.log_figure(amounts(drift), "plots/drift_amounts.png")
    for text in drift.warnings:
        say(f"  drift: {text}")


def facts_of(drift: Drift) -> dict[str, Any]:
    """Return what was looked at, as JSON holds it."""
    periods = drift.periods
    return {
        "before": _told(periods.before),
        "after": _told(periods.after),
        "findings": [asdict(finding) | {"warns": finding.warns} for finding in drift.findings],
    }


def stability(drift: Drift) -> Figure:
    """Draw how far each quantity has moved, as a share of what would be worth a warning."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    found = drift.findings[::-1]
    colours = [WARNED_COLOUR if finding.warns else COLOURS["discover"] for finding in found]
    bars = axes.barh([_label(f) for f in found], [f.value / f.limit for f in found], color=colours)
    axes.bar_label(bars, [f"{f.value:.3g}" for f in found], padding=3, fontsize=8)
    axes.axvline(1, color=WARNED_COLOUR, linewidth=1)
    axes.set(title="Has the data moved? (1: worth a warning)", xlabel="of its limit")
    axes.tick_params(labelsize=8)
    return plain(figure)


def weekdays(drift: Drift) -> Figure:
    """Draw the lines a day of each weekday, before and after."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    for place, period, label, colour in _sides(drift):
        values = np.nan_to_num(period.a_day())
        axes.bar(np.arange(7) + 0.4 * place - 0.2, values, 0.4, label=label, color=colour)
    axes.set_xticks(np.arange(7), [day[:3] for day in WEEKDAYS])
    axes.set(title="Lines a day", ylabel="lines")
    axes.legend(frameon=False)
    return plain(figure)


def amounts(drift: Drift) -> Figure:
    """Draw how prices, quantities and baskets are spread, before and after."""
    figure = Figure(figsize=(2 * WIDTH, 1.6 * HEIGHT), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2).flat, AMOUNTS, strict=True):
        for place, period, label, colour in _sides(drift):
            counts = period.counts[name]
            share = 100 * counts / max(1, counts.sum())
            bins = np.arange(len(counts)) + 0.4 * place - 0.2
            axes.bar(bins, share, 0.4, label=label, color=colour)
        ticks = np.arange(0, len(counts), 3)
        axes.set_xticks(ticks, [f"{2.0 ** (tick + LEAST):g}" for tick in ticks])
        axes.set(title=name.replace("_", " "), ylabel="%", xlabel="from")
        axes.legend(frameon=False)
    return plain(figure)


def _sides(drift: Drift) -> list[tuple[int, Period, str, str]]:
    before, after = drift.periods.before, drift.periods.after
    return [
        (0, before, f"{before.days} days before {after.first}", BEFORE_COLOUR),
        (1, after, f"{after.days} days since", COLOURS["discover"]),
    ]


def _label(finding: Finding) -> str:
    return finding.name.replace("psi/", "").replace("_", " ").replace("/", " ")


def _told(period: Period) -> dict[str, Any]:
    return {
        "first": period.first.isoformat(),
        "days": period.days,
        "rows": period.rows,
        "weekdays": period.weekdays.tolist(),
        "counts": {name: counts.tolist() for name, counts in period.counts.items()},
    }
