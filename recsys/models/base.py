"""The recommender protocol, and the two retail terms that every recommender shares.

score(u, i) = personal(u, i) · trend(i)^trend_power + repeat_weight · purchases(u, i)

trend(i)       = Σ over purchases of i of 0.5^(age / trend_half_life_days), scaled to at most 1
purchases(u,i) = Σ over u's purchase days of i of 0.5^(age / repeat_half_life_days)

`personal` is what a recommender learns. The second summand counts only where a repeat purchase
may be recommended. Trend and purchases are taken from the newest interactions when scoring.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from recsys.config import Config
from recsys.data.dataset import History
from recsys.kernels.blocks import Block
from recsys.models.checkpoint import Steps
from recsys.session import Pool
from recsys.storage import Place

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Hyperparameters(Config):
    """What a recommender of any kind is fitted and scored with."""

    # JSON, in which a plan and a saved model keep them, has no word for infinity.
    model_config = ConfigDict(allow_inf_nan=False)

    trend_power: float = Field(0.5, ge=0, description="exponent of the trend prior; 0 turns it off")
    trend_half_life_days: float = Field(
        7.0, gt=0, description="days after which a purchase counts half in the trend"
    )
    repeat_weight: float = Field(
        0.5, ge=0, description="weight of the customer's own purchases where repeat is allowed"
    )
    repeat_half_life_days: float = Field(
        120.0, gt=0, description="days after which an own purchase counts half"
    )
    half_life_days: float | None = Field(
        180.0, gt=0, description="days after which a purchase counts half in the fit; or never"
    )
    quantity_power: float = Field(
        0.0, ge=0, le=1, description="a purchase of q units weighs q^quantity_power in the fit"
    )

    @property
    def trend_days(self) -> float:
        """Half-life of the trend, in days."""
        return self.trend_half_life_days

    @property
    def segment_column(self) -> str | None:
        """Column of the customers table whose values have a trend each; None for one trend."""
        return None

    @property
    def own_weight(self) -> float:
        """Weight of own purchases where repeat is allowed."""
        return self.repeat_weight

    def weights(self, block: Block, before: int) -> Floats:
        """Weigh events for the fit: quantity^quantity_power · 0.5^(age / half_life_days).

        Args:
            block: the events.
            before: the day of the cut; age is counted back from it.

        Returns:
            float32 [events].
        """
        weights = np.ones(len(block.columns), dtype=np.float32)
        if self.quantity_power:
            weights *= np.maximum(block.quantities, 1e-6) ** np.float32(self.quantity_power)
        if self.half_life_days:
            weights *= decay(block.days, before, self.half_life_days)
        return weights

    def matrix(self, block: Block, before: int, width: int) -> sp.csr_matrix:
        """Weigh and sum a block's events into a float32 CSR [rows, width]."""
        return block.matrix(self.weights(block, before), width)


def decay(days: NDArray[np.int32], before: int, half_life: float) -> Floats:
    """Return 0.5^(age / half_life) as float32 [events]; age counts back from `before`."""
    ages = (before - days).astype(np.float32)
    return np.asarray(np.exp2(-ages / np.float32(half_life)), dtype=np.float32)


class Scorer(Protocol):
    """A fitted recommender, opened in a task or on the driver."""

    def personal(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Score customers against all items.

        Args:
            rows: [n] the customers' rows in the fit's history; a row that the fit did not know
                is scored from `weights` where the recommender can, else gets -inf.
            weights: CSR [n, items], the customers' weighted history.

        Returns:
            float32 [n, items]; -inf where the recommender has nothing to say.
        """
        ...


@runtime_checkable
class FactorScorer(Scorer, Protocol):
    """A scorer whose personal score is a dot product, so that few items need to be scored.

    Attributes:
        item_factors: float32 [items, factors].
    """

    item_factors: Floats

    def vectors(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Return the customers' factors; arguments as in `personal`.

        Returns:
            float32 [n, factors]; zeros where the recommender has nothing to say.
        """
        ...


@runtime_checkable
class Explains(Protocol):
    """A scorer that can name the bought items which speak most for a recommended one."""

    def reasons(self, weights: sp.csr_matrix, items: Ints, count: int) -> Ints:
        """Name reasons.

        Args:
            weights: CSR [n, items], the customers' weighted history.
            items: int64 [n, k], recommended; -1 for none.
            count: at most so many reasons an item.

        Returns:
            int64 [n, k, count], strongest first; -1 where there are fewer.
        """
        ...


@dataclass(frozen=True)
class Learned:
    """An array that a recommender learns.

    Attributes:
        rows: what each of its rows stands for; there are as many.
        values: type of its values; whole numbers are rows of items, or -1 for none.
    """

    rows: Literal["customers", "items"]
    values: pa.DataType


class Recommender(ABC):
    """What can be fitted. One file a recommender, one line in `recsys.models`.

    Attributes:
        name: its one word on command lines, tags and runs.
        parameters_class: its hyperparameters.
        learned: name → array that `fit` leaves, each two-dimensional. A saved model holds exactly
            these: compiled loops index by them without a look.
    """

    name: ClassVar[str]
    parameters_class: ClassVar[type[Hyperparameters]]
    learned: ClassVar[Mapping[str, Learned]]

    def __init__(self, parameters: Hyperparameters) -> None:
        self.parameters = parameters

    @abstractmethod
    def fit(self, pool: Pool, history: History, folder: Place, kept: Place | None = None) -> Steps:
        """Fit on a history and leave named arrays in `folder` (see `recsys.models.arrays`).

        Args:
            pool: where the tasks run.
            history: what may be seen.
            folder: an empty folder for the arrays.
            kept: folder in which a long fit may keep its state; a later call with the same
                parameters and history goes on from it.

        Returns:
            Step → metrics, such as the loss by iteration; empty where there are no steps.
        """

    def bytes_a_row(self) -> int:
        """Estimate what fitting and scoring hold in memory for a customer or an item, in bytes."""
        return 16

    @abstractmethod
    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer over arrays that `fit` left, memory-mapped."""
