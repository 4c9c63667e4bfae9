"""Popularity with a half-life: the baseline that a personal model has to beat.

It is the retail terms of `recsys.models.base` alone: every item's personal score is 1, so the
trend orders the items, and where repeat is allowed the customer's own purchases come on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.data.dataset import History
from recsys.models.base import Floats, Hyperparameters, Ints, Learned, Recommender, Scorer
from recsys.models.checkpoint import Steps
from recsys.session import Pool
from recsys.storage import Place


class PopularityParameters(Hyperparameters):
    """Hyperparameters of popularity; the defaults were chosen on Online Retail's validation."""

    half_life_days: float | None = Field(
        7.0, gt=0, description="days after which a purchase counts half; never: all-time popularity"
    )
    segment: str | None = Field(
        None, description="column of the customers table: popularity within it; none: over all"
    )
    repeat: bool = Field(
        True, description="put the customer's own purchases on top where repeat is allowed"
    )
    trend_power: float = Field(1.0, ge=1, le=1, description="popularity is the trend itself")
    repeat_weight: float = Field(3.0, ge=0, description="weight of the own purchases, if repeat")

    @property
    def trend_days(self) -> float:
        """Popularity's half-life is the trend's."""
        return self.half_life_days or ALL_TIME_DAYS

    @property
    def segment_column(self) -> str | None:
        """Popularity may be counted by segment."""
        return self.segment

    @property
    def own_weight(self) -> float:
        """The weight of own purchases, 0 without repeat."""
        return self.repeat_weight if self.repeat else 0.0


ALL_TIME_DAYS = 1e9


class Popularity(Recommender):
    """What sells now, over all customers or a segment."""

    name: ClassVar[str] = "popularity"
    parameters_class: ClassVar[type[Hyperparameters]] = PopularityParameters
    learned: ClassVar[Mapping[str, Learned]] = {}

    def fit(self, pool: Pool, history: History, folder: Place, kept: Place | None = None) -> Steps:
        """Learn nothing of its own: the trend is computed for every recommender."""
        return {}

    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer, which knows no customer."""
        return PopularityScorer()


@dataclass(frozen=True)
class PopularityScorer:
    """Scores every item 1."""

    def personal(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Return ones; see `Scorer.personal`."""
        return np.ones(weights.shape, dtype=np.float32)
