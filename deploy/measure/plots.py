"""Pictures of what campaigns did; each function returns a matplotlib figure."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from deploy.measure import outcomes as o
from deploy.measure.judged import Measured
from deploy.measure.metrics import PRIMARY
from deploy.measure.results import ALL, NOT_SEEN, Result
from deploy.measure.words import title
from recsys import columns as c
from recsys.hold_out import CONTROL, TREATMENT
from recsys.plots import COLOURS, HEIGHT, WIDTH, plain

ARMS = {TREATMENT: COLOURS["discover"], CONTROL: "#6d7783"}
QUIET = "#888888"
# Half of a 95 % interval, in standard errors.
HALF = 1.96
BINS = 30


def by_metric(found: Measured) -> Figure | None:
    """Draw each metric's relative effect over all customers; None where there is none."""
    rows = [row for row in found.results if row.segment_by == ALL]
    labels = [title(row.metric) for row in rows]
    return _forest(rows, labels, f"{found.campaign.strategy}: treatment against control")


def by_segment(found: Measured, metric: str = PRIMARY) -> Figure | None:
    """Draw a metric's relative effect in each group of customers; None where there is none."""
    rows = [row for row in found.results if row.metric == metric]
    labels = [
        "all customers" if row.segment_by == ALL else f"{row.segment_by}: {row.segment}"
        for row in rows
    ]
    return _forest(rows, labels, f"{found.campaign.strategy}: {title(metric).lower()} by group")


def _forest(rows: Sequence[Result], labels: Sequence[str], name: str) -> Figure | None:
    """Draw relative effects with their 95 % intervals, those that leave 0 out in colour."""
    known = [
        (row, label, [100 * v for v in (row.relative, row.relative_low, row.relative_high)])
        for row, label in zip(rows, labels, strict=True)
        if row.relative is not None
        and row.relative_low is not None
        and row.relative_high is not None
    ]
    if not known:
        return None
    figure = Figure(figsize=(WIDTH, 1.3 + 0.42 * len(known)), layout="constrained")
    axes = figure.subplots()
    for place, (row, _, (value, low, high)) in enumerate(known):
        colour = QUIET if row.verdict == NOT_SEEN else COLOURS["discover"]
        axes.plot([low, high], [place, place], color=colour, linewidth=2.5)
        axes.plot(value, place, "o", color=colour, markersize=7)
    axes.axvline(0, color="#444444", linewidth=1)
    axes.set_yticks(range(len(known)), [_plain_text(label) for _, label, _ in known])
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=None))
    axes.set(title=_plain_text(name), xlabel="change against control, 95 % interval")
    return plain(figure)


def cumulative(found: Measured) -> Figure:
    """Draw what a customer of each arm has spent up to each day, with 95 % intervals."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    days = [found.periods.start + timedelta(days=day) for day in range(found.days)]
    rows = found.observed.daily.to_pylist() if found.observed.daily is not None else []
    for arm, customers in ((TREATMENT, found.treated), (CONTROL, found.control)):
        sales, squares = (
            np.cumsum([_on(rows, arm, day, name) for day in days]) for name in (o.SALES, o.SQUARES)
        )
        mean = sales / customers
        variance = np.maximum(squares - customers * mean**2, 0) / (customers - 1)
        half = HALF * np.sqrt(variance / customers)
        label = f"{arm}, {customers:,} customers"
        axes.plot(np.arange(1, found.days + 1), mean, color=ARMS[arm], label=label)
        axes.fill_between(
            np.arange(1, found.days + 1), mean - half, mean + half, color=ARMS[arm], alpha=0.15,
            linewidth=0,
        )  # fmt: skip
    axes.set_xlim(1, max(found.campaign.window_days, 2))
    axes.set_ylim(bottom=0)
    axes.set(
        title=_plain_text(
            f"{found.campaign.strategy}: sales per customer since the campaign began"
        ),
        xlabel=f"day, 1 is {found.periods.start}",
        ylabel="sales per customer so far",
    )
    axes.legend(frameon=False, loc="upper left")
    return plain(figure)


def _on(rows: Sequence[dict[str, Any]], arm: str, day: object, name: str) -> float:
    return float(sum(row[name] for row in rows if row[c.ARM] == arm and row[c.DAY] == day))


def distribution(found: Measured) -> Figure | None:
    """Draw how sales are spread over the customers who bought, before the campaign and in it."""
    treated = np.asarray(found.observed.values(o.TREATED), dtype=bool)
    windows = {"before": o.before(o.SALES), "in the window": o.SALES}
    values = {name: found.observed.values(column) for name, column in windows.items()}
    spent = np.concatenate(list(values.values()))
    spent = spent[spent > 0]
    if len(spent) == 0:
        return None
    low, high = float(spent.min()), float(spent.max())
    bins = np.geomspace(low, high if high > low else 2 * low, BINS)
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    for axes, (name, sales) in zip(figure.subplots(1, 2, sharey=True), values.items(), strict=True):
        for arm, members in ((TREATMENT, treated), (CONTROL, ~treated)):
            bought = sales[members & (sales > 0)]
            if len(bought):
                share = len(bought) / members.sum()
                axes.hist(
                    bought, bins, weights=np.full(len(bought), 100 / members.sum()),
                    histtype="step", linewidth=1.5, color=ARMS[arm],
                    label=f"{arm}: {share:.0%} bought",
                )  # fmt: skip
        axes.set_xscale("log")
        # Room for the legend.
        axes.margins(y=0.25)
        axes.set(title=name, xlabel="sales of a customer")
        if axes.patches:
            axes.legend(frameon=False, fontsize="small", loc="upper right")
    figure.axes[0].set_ylabel("share of the arm's customers (%)")
    return plain(figure)


def figures(found: Measured) -> dict[str, Figure]:
    """Return every picture of a campaign that there is, by name; none of one that is void."""
    if found.void_reason is not None:
        return {}
    drawn = {
        "effects": by_metric(found),
        "groups": by_segment(found),
        "cumulative": cumulative(found),
        "distribution": distribution(found),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _plain_text(text: str) -> str:
    """Keep matplotlib from reading a formula between dollar signs."""
    return text.replace("$", r"\$")
