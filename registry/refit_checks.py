"""Whether a refit is still the model that was evaluated: lists, scores, ids. Pure, no files.

Both models rank the same customers on the same newest interactions, as `batch_score` would, so
what differs between their lists comes from the fit alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from recsys.config import Config
from recsys.hit_table import K
from recsys.models.base import Floats
from recsys.ranker import Mask

LIMITS_FILE = Path(__file__).with_name("refit.yaml")
OVERLAP = f"overlap_at_{K}"


class Limits(Config):
    """How far a refit may be from the model that was evaluated; `refit.yaml` explains each."""

    least_overlap: float = Field(ge=0, le=1, description="share of a customer's items kept")
    score_factor: float = Field(ge=1, description="factor between the mean personal scores")
    spread_factor: float = Field(ge=1, description="factor between the spreads of these scores")
    least_items: float = Field(ge=0, le=1, description="share of the known items kept")
    least_shelf: float = Field(ge=0, le=1, description="share of the recommended items kept")
    least_customers: float = Field(ge=0, le=1, description="share of the known customers kept")


@dataclass(frozen=True)
class Lists:
    """What a model recommends to some customers.

    Attributes:
        items: str [customers, places], the items' ids, best first; empty where there are fewer.
        scores: float32 [customers, places].
        personal: bool [customers, places], whether the model itself scored the item.
    """

    items: NDArray[np.str_]
    scores: Floats
    personal: Mask

    @property
    def shelf(self) -> pa.StringArray:
        """The items that anybody is recommended, each once."""
        return pa.array(np.unique(self.items[self.items != ""]), pa.string())

    @property
    def mean(self) -> float:
        """Mean of the personal scores, 0 where there are none."""
        return float(self.scores[self.personal].mean()) if self.personal.any() else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation of the personal scores, 0 where there are none."""
        return float(self.scores[self.personal].std()) if self.personal.any() else 0.0


@dataclass(frozen=True)
class Kept:
    """Ids before and now.

    Attributes:
        before: how many the evaluated model has.
        now: how many the refit has.
        both: how many both have.
    """

    before: int
    now: int
    both: int

    @classmethod
    def of(cls, before: pa.StringArray, now: pa.StringArray) -> Self:
        """Count ids that are listed once each."""
        both = int(pc.is_in(before, value_set=now).sum().as_py() or 0)
        return cls(len(before), len(now), both)

    @property
    def share(self) -> float:
        """Share of the evaluated model's that the refit has, too."""
        return self.both / self.before if self.before else 1.0

    @property
    def gone(self) -> int:
        """How many the refit lacks."""
        return self.before - self.both

    @property
    def new(self) -> int:
        """How many only the refit has."""
        return self.now - self.both


@dataclass(frozen=True)
class Likeness:
    """A refit beside the model that was evaluated.

    Attributes:
        compared: ids of the customers whose lists are compared.
        evaluated: the lists of the evaluated model, in this order.
        refit: the lists of the refit.
        items: that the models know.
        customers: that the models know.
    """

    compared: Sequence[str]
    evaluated: Lists
    refit: Lists
    items: Kept
    customers: Kept

    @cached_property
    def overlaps(self) -> NDArray[np.float64]:
        """Share of each customer's items [customers] that both lists hold, of the longer one."""
        one, other = self.evaluated.items, self.refit.items
        same = (one[:, :, None] == other[:, None, :]) & (one != "")[:, :, None]
        longest = np.maximum((one != "").sum(axis=1), (other != "").sum(axis=1))
        return np.where(longest > 0, same.sum(axis=(1, 2)) / np.maximum(longest, 1), 1.0)

    @cached_property
    def shelf(self) -> Kept:
        """Items that these customers are recommended."""
        return Kept.of(self.evaluated.shelf, self.refit.shelf)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return {
            "customers_compared": len(self.overlaps),
            OVERLAP: round(float(self.overlaps.mean()), 6),
            "scores": {
                name: {"mean": lists.mean, "spread": lists.spread}
                for name, lists in (("evaluated", self.evaluated), ("refit", self.refit))
            },
            **{
                name: asdict(kept) | {"gone": kept.gone, "new": kept.new}
                for name, kept in (
                    ("items", self.items),
                    ("recommended_items", self.shelf),
                    ("customers", self.customers),
                )
            },
        }


@dataclass(frozen=True)
class Check:
    """One condition of a refit.

    Attributes:
        name: its name.
        value: what was found.
        passed: whether the limit holds.
        reason: number and limit, in words.
    """

    name: str
    value: float
    passed: bool
    reason: str


def check(found: Likeness, limits: Limits) -> list[Check]:
    """Hold a refit against the limits.

    Args:
        found: the refit beside the evaluated model.
        limits: how far it may be.
    """
    before, now = found.evaluated, found.refit
    return [
        _least(
            OVERLAP,
            float(found.overlaps.mean()),
            limits.least_overlap,
            f"of the {K} items of {len(found.overlaps):,} customers came again",
        ),
        _factor("score_mean", before.mean, now.mean, limits.score_factor, "mean"),
        _factor("score_spread", before.spread, now.spread, limits.spread_factor, "spread"),
        _kept("items", found.items, limits.least_items, "items that it knew"),
        _kept("shelf", found.shelf, limits.least_shelf, "items that it recommended to them"),
        _kept("customers", found.customers, limits.least_customers, "customers that it knew"),
    ]


def _least(name: str, value: float, least: float, of: str) -> Check:
    reason = f"{value:.1%} {of}; at least {least:.1%} must"
    return Check(name, value, value >= least, reason)


def _kept(name: str, kept: Kept, least: float, what: str) -> Check:
    return _least(name, kept.share, least, f"of the {kept.before:,} {what} are there again")


def _factor(name: str, before: float, now: float, most: float, what: str) -> Check:
    """Hold the ratio of two numbers against a factor, either way; alike ones pass."""
    ratio = 1.0 if before == now else now / before if before > 0 else 0.0
    return Check(
        name,
        ratio,
        1 / most <= ratio <= most,
        f"the {what} of the personal scores went from {before:.4g} to {now:.4g}, "
        f"{ratio:.2f} times as much; between {1 / most:.2f} and {most:.2f} times is allowed",
    )
