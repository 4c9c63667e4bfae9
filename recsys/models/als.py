"""ALS on implicit feedback: Spark distributes the rows, a compiled kernel solves them.

`recsys.models.alternation` holds the jobs, `recsys.kernels.als` the arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
from numpy.typing import NDArray
from pydantic import Field

from recsys.data.dataset import History
from recsys.kernels import als as kernel
from recsys.kernels import reasons
from recsys.models import arrays, checkpoint
from recsys.models.alternation import (
    EVENTS_WORTH_A_TASK,
    Fit,
    Side,
    half,
    loss_of,
    write_confidences,
)
from recsys.models.base import Floats, Hyperparameters, Ints, Learned, Recommender, Scorer
from recsys.models.checkpoint import State, Steps
from recsys.progress import Counter, say
from recsys.session import Pool, even_tasks
from recsys.storage import Place, make_folder, remove_folder

CUSTOMERS, ITEMS = "customer_factors", "item_factors"
CHECKPOINT_EVERY = 5


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


class Als(Recommender):
    """Weighted matrix factorisation for implicit feedback (Hu, Koren & Volinsky 2008)."""

    name: ClassVar[str] = "als"
    parameters_class: ClassVar[type[Hyperparameters]] = AlsParameters
    learned: ClassVar[Mapping[str, Learned]] = {
        CUSTOMERS: Learned("customers", pa.float32()),
        ITEMS: Learned("items", pa.float32()),
    }
    parameters: AlsParameters

    def fit(self, pool: Pool, history: History, folder: Place, kept: Place | None = None) -> Steps:
        """Fit; returns the loss, a pair (customer, item), after each iteration."""
        parameters = self.parameters
        tasks = even_tasks(pool, sum(history.customer_blocks.events) // EVENTS_WORTH_A_TASK)
        rows, columns = history.customers, history.items
        customers = Side.of(CUSTOMERS, history.customer_blocks, rows, columns, tasks)
        items = Side.of(ITEMS, history.item_blocks, columns, rows, tasks)
        work = folder / "als"
        make_folder(work)
        fit = Fit(
            work,
            history.before,
            parameters,
            parameters.alpha,
            parameters.regularization,
            parameters.factors,
        )
        done, steps = self._start(fit, customers, items, kept)
        for side in (customers, items):
            write_confidences(pool, fit, side)
        pairs = float(rows) * columns
        progress = Counter("als iteration", parameters.iterations)
        for iteration in range(done, parameters.iterations):
            loss = half(pool, fit, customers, items, iteration, iteration)
            if iteration > 0:
                steps[iteration] = {"loss": loss / pairs}
            half(pool, fit, items, customers, iteration, iteration + 1)
            progress.show(iteration + 1, f"loss {steps[max(steps)]['loss']:.6f}" if steps else "")
            if kept and self._is_due(iteration + 1):
                found = {side.name: side.file(iteration + 1) for side in (customers, items)}
                checkpoint.save(kept, iteration + 1, steps, work, found)
        last = parameters.iterations
        steps[parameters.iterations] = {"loss": loss_of(pool, fit, customers, items, last) / pairs}
        for side in (customers, items):
            arrays.move_array(work, side.file(last), folder, side.name)
        remove_folder(work)
        if kept:
            checkpoint.clear(kept)
        return steps

    def bytes_a_row(self) -> int:
        """Count two turns of both sides' factors, the copy of one, and the ranker's."""
        return 4 * 4 * self.parameters.factors

    def _is_due(self, iteration: int) -> bool:
        """Tell whether a checkpoint is due; none is needed after the last iteration."""
        return iteration % CHECKPOINT_EVERY == 0 and iteration < self.parameters.iterations

    def _start(
        self, fit: Fit, customers: Side, items: Side, kept: Place | None
    ) -> tuple[int, Steps]:
        """Write the factors to start from, a checkpoint's or drawn ones; return iterations done."""
        parameters, work = self.parameters, fit.work
        shapes = {side.name: (side.rows, fit.length) for side in (customers, items)}
        state = checkpoint.load(kept, shapes) if kept else None
        if state is None or state.iteration >= parameters.iterations:
            first = kernel.start_factors(items.rows, fit.length, parameters.seed)
            arrays.create(work, customers.file(0), shapes[customers.name], np.float32)
            arrays.write(work, items.file(0), first)
            state = State(0, {}, {})
        else:
            say(f"  going on after iteration {state.iteration}, from the checkpoint {kept}")
        for name, values in state.arrays.items():
            arrays.write(work, f"{name}-{state.iteration}", values)
        for side in (customers, items):
            # The room that the next iteration's factors take: a full disk is told now.
            spare = side.file(state.iteration - 1)
            arrays.create(work, spare, shapes[side.name], np.float32)
        return state.iteration, state.steps

    def open(self, arrays: dict[str, NDArray[Any]]) -> Scorer:
        """Return the scorer over the two factor arrays."""
        return AlsScorer(arrays[CUSTOMERS], arrays[ITEMS], self.parameters)


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
            factors, _ = kernel.solve(
                confidence, factors, self.item_factors, self.parameters.regularization
            )
        return factors

    def reasons(self, weights: sp.csr_matrix, items: Ints, count: int) -> Ints:
        """Split x_u · y_i into the bought items' shares; see `Explains.reasons`."""
        confidence = weights * np.float32(self.parameters.alpha)
        return reasons.of_factors(self._whitened, confidence, items, count)

    @cached_property
    def _whitened(self) -> Floats:
        """Return the item factors as `kernels.reasons` needs them, computed once."""
        return reasons.whitened(self.item_factors, self.parameters.regularization)


# Each round is three conjugate-gradient steps; a fit takes them over its iterations.
FOLD_IN_ROUNDS = 5
