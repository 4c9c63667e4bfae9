"""The page and the picture of a refit, for whoever asks whether it is still the same model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Template
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recsys.data.dataset import History
from recsys.hit_table import K
from recsys.plots import COLOURS, HEIGHT, WIDTH, plain
from recsys.samples import bought_last, item_names
from registry.pages import template
from registry.refit_checks import Check, Likeness

TEMPLATE = Path(__file__).with_name("refit.html.j2")
SHOWN, BOUGHT_SHOWN = 6, 5


@dataclass(frozen=True)
class Facts:
    """What a refit is of.

    Attributes:
        name: of the candidates' registered model.
        version: the candidate that was evaluated.
        recipe: recommender and changed hyperparameters, in words.
        evaluated_before: first day that the evaluated model did not see.
        until: last day that the refit saw.
        evaluated_digest: of the evaluated model.
        digest: of the refit.
    """

    name: str
    version: int
    recipe: str
    evaluated_before: str
    until: str
    evaluated_digest: str
    digest: str

    @property
    def sentence(self) -> str:
        """Which model is which, and of which the dossier speaks."""
        return (
            f"Refit of version {self.version} on all interactions until {self.until}; the dossier "
            f"speaks of version {self.version}, which was fitted on all before "
            f"{self.evaluated_before}."
        )


@dataclass(frozen=True)
class Customer:
    """A customer to look at.

    Attributes:
        id: of the customer.
        overlap: share of the items that both lists hold.
        bought: what they bought last, the newest first.
        evaluated: the evaluated model's list; whether the refit holds the item, too.
        refit: the refit's list; whether the evaluated model's holds the item, too.
    """

    id: str
    overlap: float
    bought: Sequence[str]
    evaluated: Sequence[tuple[str, bool]]
    refit: Sequence[tuple[str, bool]]


def render(facts: Facts, found: Likeness, checks: Sequence[Check], shown: list[Customer]) -> str:
    """Write the page as HTML; the same arguments give the same text."""
    return _template().render(facts=facts, found=found, checks=checks, customers=shown, k=K)


def examples(found: Likeness, history: History) -> list[Customer]:
    """Pick customers in equal steps from the least to the most alike lists.

    Args:
        found: the refit beside the evaluated model.
        history: what the refit knows of them.
    """
    order = np.argsort(found.overlaps, kind="stable")
    steps = np.unique(np.linspace(0, len(order) - 1, SHOWN).astype(np.int64))
    picked = [int(row) for row in order[steps]]
    names = item_names(history.tables)
    bought = bought_last(history, [found.compared[row] for row in picked], BOUGHT_SHOWN)

    def named(row: int, one: NDArray[np.str_], other: NDArray[np.str_]) -> list[tuple[str, bool]]:
        return [(names.get(item, item), item in other[row]) for item in map(str, one[row]) if item]

    one, other = found.evaluated.items, found.refit.items
    return [
        Customer(
            found.compared[row],
            float(found.overlaps[row]),
            [names.get(item, item) for item in last],
            named(row, one, other),
            named(row, other, one),
        )
        for row, last in zip(picked, bought, strict=True)
    ]


def picture(found: Likeness) -> Figure:
    """Draw how much of each list came again, and the personal scores of both models."""
    figure = Figure(figsize=(1.4 * WIDTH, HEIGHT), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(
        found.overlaps * K, bins=np.arange(-0.5, K + 1), color=COLOURS["discover"], rwidth=0.9
    )
    left.set(
        title="How much of each list came again",
        xlabel=f"items of {K} that both models recommend",
        ylabel="customers",
    )
    both = {"evaluated": found.evaluated, "refit": found.refit}
    scores = {name: lists.scores[lists.personal] for name, lists in both.items()}
    bins = np.histogram_bin_edges(np.concatenate(list(scores.values())), 40)
    for (name, values), colour in zip(
        scores.items(), ("#888888", COLOURS["replenish"]), strict=True
    ):
        right.hist(values, bins=list(bins), histtype="step", linewidth=2, color=colour, label=name)
    right.set(title="Scale of the personal scores", xlabel="score", ylabel="recommendations")
    right.legend(frameon=False)
    return plain(figure)


@cache
def _template() -> Template:
    filters = {
        "number": lambda value: f"{value:,}",
        "percent": lambda share: f"{100 * share:.1f}\u00a0%",
    }
    return template(TEMPLATE, filters)
