"""Pictures for the MLflow UI: each function returns a matplotlib figure."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from recsys.evaluation import Evaluation
from recsys.hit_table import KS, QUESTIONS

WIDTH, HEIGHT = 7.5, 4.2
COLOURS = {"discover": "#1b6ca8", "replenish": "#c8553d"}


def metric_by_k(evaluation: Evaluation, metric: str = "ndcg") -> Figure:
    """Draw a metric against the length of the list, with 95 % intervals."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    for question in QUESTIONS:
        intervals = [evaluation.estimates[question][f"{metric}_at_{k}"] for k in KS]
        means = np.array([interval.value for interval in intervals])
        low = means - [interval.low for interval in intervals]
        high = np.array([interval.high for interval in intervals]) - means
        axes.errorbar(
            KS, means, yerr=[low, high], marker="o", capsize=4, label=question,
            color=COLOURS[question],
        )  # fmt: skip
    axes.set_xticks(KS)
    axes.set_ylim(bottom=0)
    axes.set(
        title=f"{metric} by length of the list, {evaluation.window} window",
        xlabel="k",
        ylabel=f"{metric} at k, mean over customers",
    )
    axes.legend(frameon=False)
    return plain(figure)


def popularity_and_recommendations(evaluation: Evaluation) -> Figure:
    """Draw what share of purchases and of recommendations the most popular items get."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(-evaluation.popularity, kind="stable")
    items = 100 * np.arange(1, len(order) + 1) / len(order)
    curves = {"purchases before the cut": (evaluation.popularity, "#888888")} | {
        f"recommendations, {q}": (evaluation.recommended[q], COLOURS[q]) for q in QUESTIONS
    }
    for label, (counts, colour) in curves.items():
        shares = 100 * np.cumsum(counts[order]) / max(counts.sum(), 1)
        axes.plot(items, shares, label=label, color=colour)
    axes.set(
        title=f"Who gets the shelf? {evaluation.window} window, lists of 10",
        xlabel="items, most bought first (% of the catalogue)",
        ylabel="share of the total (%)",
        xlim=(0, 100),
        ylim=(0, 101),
    )
    axes.legend(frameon=False, loc="lower right")
    return plain(figure)


def steps(values: Mapping[int, float], name: str) -> Figure:
    """Draw a quantity by step, such as the loss by iteration."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(values), list(values.values()), marker="o", color=COLOURS["discover"])
    axes.set(title=f"{name} of the refit", xlabel="iteration", ylabel=name)
    return plain(figure)


def plain(figure: Figure) -> Figure:
    """Take away what a picture does not need."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure
