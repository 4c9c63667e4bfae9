"""ALS on implicit feedback: Spark distributes the blocks, a compiled kernel solves each.

A fit first writes every block's confidences once. Then each half-iteration is one Spark job: a
task maps its block, its own rows' last factors and the other side's factors into memory, solves,
and writes its rows. Factors of two successive iterations live in two files in turn, so a task
that runs again after a lost node starts from the same numbers.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field
from pyspark.sql import SparkSession

from recsys.data.dataset import History
from recsys.errors import ModelError
from recsys.kernels import als as kernel
from recsys.kernels.blocks import Blocks
from recsys.models import arrays
from recsys.models.base import Floats, Hyperparameters, Ints, Recommender, Scorer
from recsys.progress import Counter
from recsys.session import run_tasks

CUSTOMERS, ITEMS = "customer_factors", "item_factors"


class AlsParameters(Hyperparameters):
    """Hyperparameters of ALS; the defaults were chosen on Online Retail's validation window."""

    factors: int = Field(96, ge=1, le=1024, description="length of a customer's or item's vector")
    iterations: int = Field(15, ge=1, description="alternations")
    regularization: float = Field(30.0, ge=0, description="λ, the same for every row")
    alpha: float = Field(4.0, gt=0, description="confidence of a purchase of weight 1")
    seed: int = Field(7, ge=0, description="seed of the first item factors")
    half_life_days: float | None = Field(
        120.0, gt=0, description="days after which a purchase counts half in the fit; or never"
    )
    repeat_weight: float = Field(
        0.3, ge=0, description="weight of the customer's own purchases where repeat is allowed"
    )


@dataclass(frozen=True)
class Side:
    """One side of the matrix: the rows that a half-iteration solves.

    Attributes:
        name: of its factors' array.
        blocks: its packed rows.
        rows: rows that take part.
        width: columns that take part, the other side's rows.
    """

    name: str
    blocks: Blocks
    rows: int
    width: int


class Als(Recommender):
    """Weighted matrix factorisation for implicit feedback (Hu, Koren & Volinsky 2008)."""

    name: ClassVar[str] = "als"
    parameters_class: ClassVar[type[Hyperparameters]] = AlsParameters
    parameters: AlsParameters

    def fit(self, spark: SparkSession, history: History, folder: Path) -> list[dict[str, float]]:
        """Fit; returns after each iteration the loss, a pair (customer, item)."""
        parameters = self.parameters
        customers = Side(CUSTOMERS, history.customer_blocks, history.customers, history.items)
        items = Side(ITEMS, history.item_blocks, history.items, history.customers)
        work = folder / "als"
        work.mkdir(parents=True)
        for side in (customers, items):
            _write_confidences(spark, side, parameters, history.before, work)
            for turn in (0, 1):
                shape = (side.rows, parameters.factors)
                arrays.create(work, f"{side.name}-{turn}", shape, np.float32)
        first = kernel.start_factors(history.items, parameters.factors, parameters.seed)
        arrays.write(work, f"{ITEMS}-0", first)
        pairs = float(history.customers) * history.items
        losses: list[float] = []
        progress = Counter("als iteration", parameters.iterations)
        for iteration in range(parameters.iterations):
            turn = iteration % 2
            before = _half(spark, customers, items, turn, turn, parameters, work, measure=True)
            losses.append(_checked(before / pairs))
            _half(spark, items, customers, turn, 1 - turn, parameters, work)
            progress.show(iteration + 1, f"loss {losses[-1]:.6f}")
        last = parameters.iterations % 2
        losses.append(_checked(_loss(spark, customers, items, last, parameters, work) / pairs))
        for side in (customers, items):
            (work / f"{side.name}-{last}.npy").rename(folder / f"{side.name}.npy")
        shutil.rmtree(work)
        # The first loss is that of the start.
        return [{"loss": loss} for loss in losses[1:]]

    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer over the two factor arrays."""
        return AlsScorer(arrays[CUSTOMERS], arrays[ITEMS], self.parameters)


def _half(
    spark: SparkSession,
    side: Side,
    other: Side,
    turn: int,
    other_turn: int,
    parameters: AlsParameters,
    work: Path,
    measure: bool = False,
) -> float:
    """Solve one side with the other held fixed: read file `turn`, write the other file of the two.

    Args:
        spark: the session.
        side: what is solved.
        other: what is held fixed, in its file `other_turn`.
        turn: which of the two files holds the side's last factors.
        other_turn: which of the two files holds the other side's factors.
        parameters: of the fit.
        work: folder of confidences and factors.
        measure: also sum up the loss of the factors that are read, while they are at hand.

    Returns:
        The loss, 0 where it is not measured.
    """
    regularization = parameters.regularization

    def task(number: int) -> float:
        start, stop = side.blocks.bounds(number)
        confidence = _read_confidences(work, side, number)
        own = arrays.read(work, f"{side.name}-{turn}")[start : min(stop, side.rows)]
        fixed = arrays.read(work, f"{other.name}-{other_turn}")
        solved = kernel.solve(confidence, own, fixed, regularization)
        arrays.write_rows(work, f"{side.name}-{1 - turn}", start, solved)
        return kernel.loss(confidence, own, fixed, regularization) if measure else 0.0

    shares = run_tasks(spark, task, side.blocks.covering(side.rows))
    return sum(shares) + _norm(work, other, other_turn, regularization) if measure else 0.0


def _loss(
    spark: SparkSession, side: Side, other: Side, turn: int, parameters: AlsParameters, work: Path
) -> float:
    """Sum up the loss over the blocks of one side."""
    regularization = parameters.regularization

    def task(number: int) -> float:
        start, stop = side.blocks.bounds(number)
        own = arrays.read(work, f"{side.name}-{turn}")[start : min(stop, side.rows)]
        fixed = arrays.read(work, f"{other.name}-{turn}")
        return kernel.loss(_read_confidences(work, side, number), own, fixed, regularization)

    shares = run_tasks(spark, task, side.blocks.covering(side.rows))
    return sum(shares) + _norm(work, other, turn, regularization)


def _norm(work: Path, side: Side, turn: int, regularization: float) -> float:
    """Return λ Σ|y|² of one side, which no block's share of the loss holds."""
    factors = arrays.read(work, f"{side.name}-{turn}")
    return regularization * float(np.einsum("if,if->", factors, factors, dtype=np.float64))


def _checked(loss: float) -> float:
    """Return a loss; raises ModelError where the fit has diverged."""
    if not np.isfinite(loss):
        raise ModelError(
            "ALS diverged (its loss is not a number): raise regularization or lower alpha."
        )
    return loss


def _write_confidences(
    spark: SparkSession, side: Side, parameters: AlsParameters, before: int, work: Path
) -> None:
    """Weigh each block's events once: confidence = alpha · weight, as CSR files."""

    def task(number: int) -> None:
        block = side.blocks.read(number).take(side.rows).before(before)
        matrix = parameters.matrix(block, before, side.width)
        arrays.write(work, f"{side.name}-{number}-data", matrix.data * np.float32(parameters.alpha))
        arrays.write(work, f"{side.name}-{number}-indices", matrix.indices.astype(np.int32))
        arrays.write(work, f"{side.name}-{number}-indptr", matrix.indptr.astype(np.int32))

    run_tasks(spark, task, side.blocks.covering(side.rows))


def _read_confidences(work: Path, side: Side, number: int) -> sp.csr_matrix:
    parts = (arrays.read(work, f"{side.name}-{number}-{p}") for p in ("data", "indices", "indptr"))
    data, indices, indptr = parts
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, side.width), copy=False)


@dataclass(frozen=True)
class AlsScorer:
    """Scores by dot products; a customer that the fit did not know is folded in.

    Attributes:
        customer_factors: float32 [customers, factors].
        item_factors: float32 [items, factors].
        parameters: of the fit.
    """

    customer_factors: Floats
    item_factors: Floats
    parameters: AlsParameters

    def personal(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Return x_u · y_i; see `Scorer.personal`."""
        factors = self.vectors(rows, weights)
        scores = factors @ np.asarray(self.item_factors).T
        scores[~factors.any(axis=1)] = -np.inf
        return scores

    def vectors(self, rows: Ints, weights: sp.csr_matrix) -> Floats:
        """Return x_u, solved from the history where the fit did not know the customer."""
        known = rows < len(self.customer_factors)
        factors = np.zeros((len(rows), self.item_factors.shape[1]), dtype=np.float32)
        factors[known] = self.customer_factors[rows[known]]
        new = np.flatnonzero(~known & (np.diff(weights.indptr) > 0))
        if len(new):
            factors[new] = self.fold_in(weights[new])
        return factors

    def fold_in(self, weights: sp.csr_matrix) -> Floats:
        """Solve for customers' factors with the item factors held fixed.

        Args:
            weights: CSR [n, items], weighted history.

        Returns:
            float32 [n, factors].
        """
        confidence = weights * np.float32(self.parameters.alpha)
        factors = np.zeros((weights.shape[0], self.item_factors.shape[1]), dtype=np.float32)
        for _ in range(FOLD_IN_ROUNDS):
            factors = kernel.solve(
                confidence, factors, self.item_factors, self.parameters.regularization
            )
        return factors


# Each round is three conjugate-gradient steps; a fit takes them over its iterations.
FOLD_IN_ROUNDS = 5
